"""Permissions after Continue: looked at again, one call a day; what is lost is named, and the link goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from linker import Announcement, Connection, Linker, connection_json, describe
from linker.sandbox import Fault, Limit, World, running
from linker.testing import ScriptedAnswers, ScriptedWorkable, SettableClock
from tests.integration.account_hosts import TOKEN, Host, a_linker, a_scripted_linker, opened

NEEDED = ("r_jobs", "r_candidates", "r_account", "w_candidates")
READABLE = {"r_jobs", "r_candidates", "r_account"}
DAY = 27 * 3600


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[World, str]]:
    """A Workable without a limit, on a socket."""
    world = World(limit=Limit.off(), log_length=100_000)
    with running(world) as url:
        yield world, url


@asynccontextmanager
async def linked(
    sandbox: tuple[World, str], clock: SettableClock, *, blocks: bool = False, needed: tuple[str, ...] = NEEDED
) -> AsyncIterator[tuple[Host, World, Connection]]:
    """A host that needs these permissions, and a connection that is linked."""
    world, url = sandbox
    world.clear()
    world.set_limit(Limit.off())
    world.clock = lambda: clock.now().timestamp()
    world.add_account("acme", name="Acme")
    world.add_token("acme", TOKEN, scopes=set(needed))
    async with opened(a_linker(url, clock=clock, permissions=needed), blocks=blocks) as host:
        yield host, world, await host.linked(world)


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still."""
    return SettableClock()


async def a_day_later(host: Host, clock: SettableClock, days: int = 1) -> Connection:
    """Let days pass, each with its look."""
    for _ in range(days):
        clock.advance(seconds=DAY)
        await host.do(host.linker.attend_due)
    [connection] = await host.do(host.linker.find)
    return connection


async def told(linker: Linker) -> None:
    """Let what a client reports arrive."""
    for _ in range(200):
        await asyncio.sleep(0.005)
        if not linker._reports._tasks:
            return


async def test_a_permission_that_is_lost_is_named_and_the_link_goes_on(
    sandbox: tuple[World, str], clock: SettableClock
) -> None:
    """Within as many days as there are permissions to try; once it is there again nothing is the matter."""
    async with linked(sandbox, clock) as (host, world, connection):
        heard: list[Announcement] = []
        host.linker.on("permission.lost")(heard.append)
        assert connection_json(connection)["permissions"] == {
            "needed": list(NEEDED),
            "verified": ["r_jobs", "r_candidates", "r_account"],
            "missing": [],
            "unverified": ["w_candidates"],
        }
        world.set_scopes(TOKEN, READABLE - {"r_candidates"})
        after = await a_day_later(host, clock, days=2)
        assert (after.state, after.problem.code if after.problem else None) == ("linked", "scope_lost")
        assert after.problem is not None
        assert after.problem.params == {"missing": ["r_candidates"]}
        assert "r_candidates" in describe(after.problem).message
        assert connection_json(after)["permissions"]["missing"] == ["r_candidates"]
        since, later = after.problem.since, await a_day_later(host, clock, days=4)
        assert later.problem is not None
        assert (later.state, later.problem.since) == ("linked", since)
        events = [step.event for step in await host.do(host.linker.history, connection.id)]
        assert events.count("permission_tried") == 1
        assert "health_confirmed" not in events
        await host.do(host.linker.deliver)
        assert [one.payload["data"]["problem"]["params"] for one in heard] == [{"missing": ["r_candidates"]}]
        world.set_scopes(TOKEN, READABLE)
        mended = await a_day_later(host, clock, days=2)
        assert (mended.state, mended.problem) == ("linked", None)
        assert mended.permissions is not None
        assert set(mended.permissions.verified) == READABLE


@pytest.mark.parametrize("hours", [6, 25])
async def test_one_call_a_day_tries_one_after_the_other(
    hours: int, sandbox: tuple[World, str], clock: SettableClock
) -> None:
    """However often a link is looked at; what only linking needs, and what is written, is not tried."""
    async with linked(sandbox, clock) as (host, world, _):
        world.forget_requests()
        for _ in range(240 // hours):
            clock.advance(hours=hours)
            [connection] = await host.do(host.linker.find)
            await host.do(host.linker.check, connection.id)
    days = Counter((int(entry.at) // 86400, entry.path) for entry in world.log if entry.path != "/recruiters")
    assert set(days.values()) == {1}
    assert len({day for day, _ in days}) == len(days) >= 8, "one call a day"
    assert {path for _, path in days} == {"/candidates", "/departments"}


async def test_nothing_is_tried_that_is_not_needed(sandbox: tuple[World, str], clock: SettableClock) -> None:
    """By default a look is one call."""
    async with linked(sandbox, clock, needed=("r_jobs",)) as (host, world, _):
        world.forget_requests()
        await a_day_later(host, clock, days=3)
    assert [entry.path for entry in world.log] == ["/recruiters"] * 3


async def test_an_answer_that_is_none_says_nothing_of_a_permission(
    sandbox: tuple[World, str], clock: SettableClock
) -> None:
    """The link is confirmed by the look all the same."""
    async with linked(sandbox, clock) as (host, world, _):
        for fault in (Fault.SERVER_ERROR, Fault.HTML, Fault.UNAUTHORIZED, Fault.THROTTLED):
            world.fail("acme", fault, path="candidates", times=2)
            world.fail("acme", fault, path="departments", times=2)
            after = await a_day_later(host, clock, days=2)
            world.heal()
            assert (after.state, after.problem, after.doubt) == ("linked", None, None), fault
            assert after.permissions is not None
            assert set(after.permissions.verified) == READABLE


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_the_first_403_of_a_writing_call_names_the_permission(
    blocks: bool, sandbox: tuple[World, str], clock: SettableClock
) -> None:
    """It cannot be tried safely before; a call that goes well verifies it."""
    async with linked(sandbox, clock, blocks=blocks) as (host, world, connection):
        world.add_job("acme", title="Job", shortcode="JOB")
        world.set_scopes(TOKEN, READABLE)
        person = {"candidate": {"name": "Ann", "email": "ann@example.com"}}
        async with host.client(connection) as client:
            assert (await client.request("POST", "jobs/JOB/candidates", json=person)).status_code == 403
            await told(host.linker)
            lost = await host.do(host.linker.get, connection.id)
            assert lost.problem is not None
            assert (lost.state, lost.problem.code, lost.problem.params) == (
                *("linked", "scope_lost"),
                {"missing": ["w_candidates"]},
            )
            clock.advance(minutes=2)
            assert (await client.get("jobs")).status_code == 200, "the link goes on"
            world.set_scopes(TOKEN, NEEDED)
            assert (await client.request("POST", "jobs/JOB/candidates", json=person)).status_code == 201
            await told(host.linker)
        found = await host.do(host.linker.get, connection.id)
        assert (found.problem, found.permissions and found.permissions.unverified) == (None, ())


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, html="<h1>Forbidden</h1>"),
        httpx.Response(403, json={"error": "x"}, headers={"cf-mitigated": "challenge"}),
    ],
    ids=["a web page", "the edge"],
)
async def test_what_a_firewall_says_is_no_matter_of_permissions(answer: httpx.Response, clock: SettableClock) -> None:
    """Only Workable's own refusal marks one."""
    workable, answers = ScriptedWorkable(), ScriptedAnswers()
    async with opened(a_scripted_linker(workable, answers, clock), blocks=False) as host:
        connection = await host.linked(workable)
        answers.will_answer("POST", "jobs/JOB/candidates", answer)
        async with host.client(connection) as client:
            assert (await client.request("POST", "jobs/JOB/candidates", json={})).status_code == 403
        await told(host.linker)
        assert (await host.do(host.linker.get, connection.id)).problem is None


async def test_a_permission_that_nobody_asked_for_is_marked_and_no_problem(clock: SettableClock) -> None:
    """The customer was never asked for it, so nothing is the matter with the link."""
    workable, answers = ScriptedWorkable(), ScriptedAnswers()
    async with opened(a_scripted_linker(workable, answers, clock), blocks=False) as host:
        connection = await host.linked(workable)
        answers.will_answer("GET", "candidates", httpx.Response(403, json={"error": "Forbidden"}))
        async with host.client(connection) as client:
            await client.get("candidates")
        await told(host.linker)
        after = await host.do(host.linker.get, connection.id)
        assert (after.problem, after.permissions and after.permissions.missing) == (None, ("r_candidates",))
