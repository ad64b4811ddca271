from collections.abc import Callable

import pytest

from linker.sandbox import Fault, Limit, World, WorldError, fingerprint, seed
from linker.sandbox.limits import window_end


@pytest.fixture
def world() -> World:
    """A world with one account, at a clock that stands still."""
    made = World(clock=lambda: 1_000_003.5, log_length=3)
    made.add_account("acme", name="Acme Robotics")
    return made


def record(world: World, path: str) -> None:
    """Writes a request for `path` into the log."""
    world.record(
        at=1.0,
        started=0.0,
        method="GET",
        subdomain="acme",
        path=path,
        query="",
        status=200,
        fingerprint=None,
        user_agent="x" * 1000,
        fault=Fault.SLOW,
    )


def test_same_calls_give_same_ids() -> None:
    """Ids are hex text from counters, so two worlds made alike are alike."""
    worlds = [seed.seeded(), seed.seeded()]
    first, second = ([(a.id, *(r.id for r in w.recruiters(a.subdomain))) for a in w.accounts] for w in worlds)
    assert first == second == [("c71fa", "2b81c0"), ("c71fb",)]


def test_seed_has_a_token_for_every_case() -> None:
    """The demonstration has a good, a scopeless, a revoked and a foreign token."""
    world = seed.seeded()
    tokens = {secret: world.token(secret) for secret in seed.DEMO_TOKENS}
    assert all(tokens.values())
    good, scopeless = world.token(seed.ACME_TOKEN), world.token(seed.ACME_TOKEN_WITHOUT_SCOPE)
    assert good is not None
    assert "r_jobs" in good.scopes
    assert scopeless is not None
    assert "r_jobs" not in scopeless.scopes
    assert [t.secret for t in world.tokens if t.revoked] == [seed.ACME_TOKEN_REVOKED]


def test_token_never_shows_in_repr(world: World) -> None:
    """A token's repr names its fingerprint and not the secret."""
    token = world.add_token("acme", "s3cret-value")
    assert "s3cret-value" not in repr(token)
    assert token.fingerprint == fingerprint("s3cret-value")
    assert token.fingerprint in repr(token)


def test_made_up_tokens_differ(world: World) -> None:
    """Without a token one is made up, another each time."""
    assert world.add_token("acme").secret != world.add_token("acme").secret


def test_token_is_revoked_and_rescoped(world: World) -> None:
    """Revoking and changing scopes show at once, and leave the other alone."""
    world.add_token("acme", "t", scopes={"r_jobs"})
    world.set_scopes("t", {"r_candidates"})
    world.revoke_token("t")
    token = world.token("t")
    assert token is not None
    assert token.revoked
    assert token.scopes == {"r_candidates"}


def test_recruiter_is_removed_by_id_or_email(world: World) -> None:
    """A recruiter goes by its id, or by its e-mail in any case."""
    first = world.add_recruiter("acme", name="A", email="A+x@One.example")
    world.add_recruiter("acme", name="B", email="b@one.example")
    world.remove_recruiter("acme", first.id)
    world.remove_recruiter("acme", "B@ONE.example")
    assert world.recruiters("acme") == ()
    assert first.email == "A+x@One.example"


BAD: dict[str, tuple[str, Callable[[World], object]]] = {
    "subdomain with dots": ("subdomain", lambda w: w.add_account("acme.example", name="A")),
    "www": ("subdomain", lambda w: w.add_account("www", name="A")),
    "taken subdomain": ("subdomain", lambda w: w.add_account("acme", name="A")),
    "no name": ("name", lambda w: w.add_account("other", name="  ")),
    "long name": ("name", lambda w: w.add_account("other", name="n" * 256)),
    "token of nobody": ("subdomain", lambda w: w.add_token("nobody", "t")),
    "token with a blank": ("token", lambda w: w.add_token("acme", "a b")),
    "token twice": ("token", lambda w: (w.add_token("acme", "t"), w.add_token("acme", "t"))),
    "unknown scope": ("scopes", lambda w: w.add_token("acme", "t", scopes={"r_members"})),
    "unknown token": ("token", lambda w: w.revoke_token("nope")),
    "unknown fingerprint": ("fingerprint", lambda w: w.token_named("nope")),
    "no e-mail": ("email", lambda w: w.add_recruiter("acme", name="A", email="a.example")),
    "recruiter of nobody": ("subdomain", lambda w: w.add_recruiter("no", name="A", email="a@b.c")),
    "unknown recruiter": ("recruiter", lambda w: w.remove_recruiter("acme", "nope")),
    "member of nobody": ("subdomain", lambda w: w.add_member("no", name="A", email="a@b.c")),
    "no times": ("times", lambda w: w.fail("acme", Fault.HTML, times=0)),
    "seconds for nothing": ("seconds", lambda w: w.fail("acme", Fault.HTML, seconds=1)),
    "negative seconds": ("seconds", lambda w: w.fail("acme", Fault.SLOW, seconds=-1)),
    "fault nowhere": ("subdomain", lambda w: w.fail(" ", Fault.HTML)),
    "limit of zero": ("requests", lambda w: w.set_limit(Limit(requests=0))),
}


@pytest.mark.parametrize(("field", "ask"), BAD.values(), ids=BAD.keys())
def test_nonsense_is_refused_by_the_name_of_the_field(world: World, field: str, ask: Callable[[World], object]) -> None:
    """Whatever makes no sense raises an error that names the field."""
    with pytest.raises(WorldError) as caught:
        ask(world)
    assert caught.value.field == field


def test_recruiter_email_is_unique_in_any_case(world: World) -> None:
    """Two recruiters of one account cannot share an e-mail."""
    world.add_recruiter("acme", name="A", email="a@b.example")
    with pytest.raises(WorldError, match="email"):
        world.add_recruiter("acme", name="B", email="A@B.example")


def test_faults_strike_in_the_order_they_were_added(world: World) -> None:
    """Two rules in a row are a script: the first until it is used up, then the second."""
    world.fail("acme", Fault.SERVER_ERROR, times=2)
    world.fail("*", Fault.HTML)
    struck = [rule.fault for rule in (world.take_fault("acme", "/recruiters") for _ in range(4)) if rule]
    assert struck == [Fault.SERVER_ERROR, Fault.SERVER_ERROR, Fault.HTML, Fault.HTML]


def test_fault_keeps_to_its_subdomain_and_path(world: World) -> None:
    """A fault for one subdomain and one path leaves all others in peace."""
    world.fail("acme", Fault.CUT, path="recruiters")
    assert world.take_fault("globex", "/recruiters") is None
    assert world.take_fault("acme", "/accounts/acme") is None
    assert world.take_fault("acme", "/recruiters") is not None


def test_spurious_404_never_comes_twice_in_a_row(world: World) -> None:
    """The same request is refused and spared in turn, whatever is asked in between."""
    world.fail("acme", Fault.SPURIOUS_404)
    seen = [bool(world.take_fault("acme", path)) for path in ("/a", "/b", "/a", "/b", "/a")]
    assert seen == [True, True, False, False, True]


def test_heal_takes_back_what_matches() -> None:
    """Healing is by subdomain, by fault, by number, or of everything; it says how many."""
    world = World()
    first = world.fail("acme", Fault.HTML)
    world.fail("acme", Fault.CUT)
    world.fail("*", Fault.CUT)
    assert world.heal("globex") == 0
    assert world.heal("acme", Fault.CUT) == 1
    assert world.heal(number=first.number) == 1
    assert [rule.subdomain for rule in world.faults] == ["*"]
    assert world.heal() == 1
    assert world.faults == ()


def test_windows_are_aligned_to_the_clock() -> None:
    """A window ends at the next full ten seconds, also when now is one."""
    assert [window_end(now) for now in (100.0, 103.2, 109.99, 110.0)] == [110, 110, 110, 120]


def test_limit_counts_each_token_in_its_window() -> None:
    """The eleventh request of a window is refused, and the next window starts afresh."""
    now = [100.0]
    world = World(clock=lambda: now[0])
    world.add_account("acme", name="Acme")
    first, other = world.add_token("acme", "t"), world.add_token("acme", "u")
    granted = [a.granted for a in (world.spend(first, partner=False) for _ in range(11)) if a]
    assert granted == [True] * 10 + [False]
    untouched = world.spend(other, partner=False)
    assert untouched is not None
    assert untouched.remaining == 9
    now[0] = 110.0
    fresh = world.spend(first, partner=False)
    assert fresh is not None
    assert (fresh.granted, fresh.remaining, fresh.reset) == (True, 9, 120)


def test_limit_can_be_switched_off(world: World) -> None:
    """Without a limit nothing is counted and nothing is told."""
    world.set_limit(Limit.off())
    assert world.spend(world.add_token("acme"), partner=False) is None


def test_log_is_bounded_and_its_texts_are_cut(world: World) -> None:
    """Only the latest requests are kept, numbered on, with no text of unbounded length."""
    for count in range(5):
        record(world, f"/{count}" + "p" * 1000)
    assert [entry.number for entry in world.log] == [3, 4, 5]
    assert max(len(entry.user_agent) + len(entry.path) for entry in world.log) == 400
    assert world.requests(subdomain="acme", path="/4")[0].fault == "slow"
    world.forget_requests()
    assert (world.log, world.last_logged) == ((), 5)


def test_clear_empties_everything(world: World) -> None:
    """After clear the world is as new, and the same calls give the same ids again."""
    world.fail("*", Fault.HTML)
    world.set_limit(Limit.off())
    record(world, "/")
    world.clear()
    assert (world.accounts, world.tokens, world.faults, world.log) == ((), (), (), ())
    assert world.limit == Limit()
    assert world.add_account("acme", name="Acme").id == "c71fa"
