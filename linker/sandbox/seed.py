"""A small world to try things on: two companies, and a token for each way of being right or wrong."""

from __future__ import annotations

from linker.sandbox.world import UnixClock, World

#: The account that the demonstration connects to: "Acme Robotics", id `c71fa`.
ACME = "acme"
#: A second account, for tokens that reach the wrong one.
GLOBEX = "globex"

#: A token of Acme that may do what connecting needs.
ACME_TOKEN = "sandbox-acme-good-token"
#: A token of Acme without the permission that connecting needs.
ACME_TOKEN_WITHOUT_SCOPE = "sandbox-acme-without-r-jobs"
#: A token of Acme that was revoked.
ACME_TOKEN_REVOKED = "sandbox-acme-revoked-token"
#: A good token of Globex, which Acme refuses with 422.
GLOBEX_TOKEN = "sandbox-globex-good-token"

#: The tokens above, which may be shown to anybody, with what each is good for.
DEMO_TOKENS: dict[str, str] = {
    ACME_TOKEN: "good for acme",
    ACME_TOKEN_WITHOUT_SCOPE: "of acme, lacks the permission r_jobs",
    ACME_TOKEN_REVOKED: "of acme, revoked",
    GLOBEX_TOKEN: "good for globex, the wrong account for acme",
}


def seeded(*, clock: UnixClock | None = None) -> World:
    """Returns a new world with the demonstration's accounts in it; `clock` returns Unix seconds."""
    world = World() if clock is None else World(clock=clock)
    fill(world)
    return world


def fill(world: World) -> None:
    """Puts the demonstration's accounts into an empty world; raises `WorldError` if they are there."""
    world.add_account(ACME, name="Acme Robotics", website_url="https://acme.example")
    world.add_token(ACME, ACME_TOKEN, scopes={"r_jobs", "r_candidates", "w_candidates"})
    world.add_token(ACME, ACME_TOKEN_WITHOUT_SCOPE, scopes={"r_candidates"})
    world.add_token(ACME, ACME_TOKEN_REVOKED, scopes={"r_jobs"})
    world.revoke_token(ACME_TOKEN_REVOKED)
    world.add_recruiter(ACME, name="Hunters & Co", email="desk@hunters.example")
    world.add_member(ACME, name="Account Admin", email="admin@acme.example", role="admin")
    world.add_job(ACME, title="Robot Wrangler", shortcode="ROBOT01")
    world.add_job(ACME, title="Night Watch", shortcode="NIGHT02")
    world.add_account(GLOBEX, name="Globex", website_url="https://globex.example")
    world.add_token(GLOBEX, GLOBEX_TOKEN, scopes={"r_jobs"})
    world.add_member(GLOBEX, name="Globex Admin", email="admin@globex.example", role="admin")
