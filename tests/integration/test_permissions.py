"""The permissions that the host needs: tried at Continue, told at once by name."""

from typing import Any

import pytest

from linker import ConnectionState, Linker, ProblemCode, Settings, connection_json, describe, new_key
from linker.sandbox import Fault, Limit, World, running


def a_world(*scopes: str) -> World:
    """An account with a token of these permissions."""
    world = World(limit=Limit.off())
    world.add_account("acme", name="Acme")
    world.add_token("acme", "a-token-of-acme", scopes=set(scopes))
    return world


async def submitted(world: World, needed: str) -> Any:
    """A connection whose token was given, to a host that needs these permissions."""
    with running(world) as url:
        settings = Settings(
            database_url="sqlite://", secret_keys=(new_key(),), workable_url=url, permissions=tuple(needed.split(","))
        )
        async with Linker(settings) as linker:
            connection = await linker.create(owner="customer")
            assert connection_json(connection)["permissions"]["needed"] == needed.split(",")
            connection = await linker.submit_token(connection.id, subdomain="acme", token="a-token-of-acme")
            return await linker.get(connection.id)


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        (("r_jobs",), ["r_candidates", "r_account"]),
        (("r_jobs", "r_account"), ["r_candidates"]),
        (("r_candidates",), ["r_jobs", "r_account"]),
        ((), ["r_jobs", "r_candidates", "r_account"]),
    ],
)
async def test_all_that_are_missing_are_told_at_once(has: tuple[str, ...], missing: list[str]) -> None:
    """By name, in the problem and in the JSON; nobody mends one after the other."""
    connection = await submitted(a_world(*has), "r_jobs,r_candidates,r_account,w_candidates")
    assert connection.state is ConnectionState.AWAITING_TOKEN
    assert connection.problem.code is ProblemCode.SCOPE_MISSING
    assert connection.problem.params == {"missing": missing}
    assert all(name in describe(connection.problem).message for name in missing)
    told = connection_json(connection)["permissions"]
    assert told["missing"] == missing
    assert told["unverified"] == ["w_candidates"]


async def test_what_can_be_read_is_verified_and_what_is_written_is_not() -> None:
    """Each readable one costs one call; those to write are told as not verified."""
    world = a_world("r_jobs", "r_candidates", "r_account", "w_candidates")
    connection = await submitted(world, "r_jobs,r_candidates,w_candidates")
    assert connection.state is ConnectionState.AWAITING_RECRUITER
    assert connection_json(connection)["permissions"] == {
        "needed": ["r_jobs", "r_candidates", "w_candidates"],
        "verified": ["r_jobs", "r_candidates"],
        "missing": [],
        "unverified": ["w_candidates"],
    }
    assert [entry.path for entry in world.requests()] == ["/accounts/acme", "/recruiters", "/candidates"]


@pytest.mark.parametrize("missing", ["r_employees", "r_timeoff", None])
async def test_permissions_of_hr_are_tried_too(missing: str | None) -> None:
    """Each by one call; offers and requisitions have no call that could be believed, and are told as not verified."""
    needed = ("r_jobs", "r_account", "r_employees", "r_timeoff", "r_offers", "r_requisitions")
    world = a_world(*(set(needed) - {missing} - {"r_offers", "r_requisitions"}))
    connection = await submitted(world, ",".join(needed))
    told = connection_json(connection)["permissions"]
    assert told["missing"] == ([missing] if missing else [])
    assert told["verified"] == [name for name in needed[:4] if name != missing]
    assert told["unverified"] == ["r_offers", "r_requisitions"]
    tried = [entry.path for entry in world.requests()]
    assert tried == ["/accounts/acme", "/recruiters", "/departments", "/employees", "/timeoff/categories"]


async def test_trouble_with_one_is_no_verdict() -> None:
    """A permission that could not be tried is not verified, and the token is accepted all the same."""
    world = a_world("r_jobs", "r_candidates")
    world.fail("acme", Fault.SERVER_ERROR, path="candidates")
    connection = await submitted(world, "r_jobs,r_candidates")
    assert connection.state is ConnectionState.AWAITING_RECRUITER
    assert connection_json(connection)["permissions"]["unverified"] == ["r_candidates"]
