"""One budget of calls for sweeps, people and hosts, over all processes: in the database, and against a limit."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import text

from linker import Connection, Linker, Settings, TryAgain, new_key
from linker.accounts.budget import BLOCK_SECONDS, HostBudget
from linker.operations.retention import Pruning
from linker.persistence.rate_limits import HostCalls, SharedRateLimits
from linker.persistence.server_clock import DatabaseClock
from linker.sandbox import World, running
from linker.testing import ScriptedAnswers, ScriptedWorkable, SettableClock
from states.connection import Account, ConnectionState
from tests.integration.account_hosts import TOKEN, Host, a_linker, opened
from tests.integration.storehouse import NOW, House, a_credential, a_lease, a_recruiter, kept
from tests.seams import parts

ACME = Account(id="c71fa", name="Acme", subdomain="acme")


def a_budget(house: House, clock: SettableClock) -> HostBudget:
    """The budget of a process of its own."""
    return HostBudget(HostCalls(house.another()._database, SharedRateLimits()), clock)


async def a_link(house: House, owner: str = "customer-1", **facts: Any) -> Connection:
    """A linked connection, whose row was written a while ago."""
    given = {"subdomain": "acme", "account": ACME, "state": ConnectionState.LINKED, "token": a_credential(), **facts}
    connection = await kept(house, owner=owner, recruiter=a_recruiter(), **given)
    await house.sql("UPDATE linker_connection SET updated_at = :at", at=_stored(house, NOW - timedelta(hours=1)))
    return connection


def _stored(house: House, at: datetime) -> Any:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}" if house.database.is_sqlite else at


async def took(budget: HostBudget, connection: Connection, calls: int, *, wait: float = 0) -> list[bool]:
    """Take so many calls; True for each that may be made."""
    found = []
    for _ in range(calls):
        try:
            await budget.take(connection, wait=wait)
        except TryAgain as refused:
            found.append(refused.reason != "over_budget" or refused.retry_after is None)
        else:
            found.append(True)
    return found


@pytest.fixture
def clock() -> SettableClock:
    """A clock at the time of the rows."""
    return SettableClock(NOW)


async def test_a_block_costs_one_trip_to_the_database(
    house: House, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four calls are taken at once; the fifth asks again, and is told when."""
    trips: list[int] = []
    calls = HostCalls(house.database, SharedRateLimits())
    take = calls.take

    async def counted(*args: Any, **given: Any) -> Any:
        trips.append(given["block"].calls)
        return await take(*args, **given)

    monkeypatch.setattr(calls, "take", counted)
    budget, connection = HostBudget(calls, clock), await a_link(house)
    assert await took(budget, connection, 4) == [True] * 4
    assert trips == [4]
    assert await took(budget, connection, 2) == [False] * 2
    assert len(trips) == 2, "the second refusal is known"
    clock.advance(seconds=10)
    assert await took(budget, connection, 5) == [True] * 4 + [False]


async def test_two_processes_share_four(shared_house: House, clock: SettableClock) -> None:
    """A block that is held counts whole until its time is over and it is given back; what was used counts on."""
    mine, theirs, connection = a_budget(shared_house, clock), a_budget(shared_house, clock), await a_link(shared_house)
    assert await took(mine, connection, 1) == [True]
    assert await took(theirs, connection, 1) == [False]
    await mine.close()
    assert await took(theirs, connection, 1) == [False], "it knows by when more is to be had"
    clock.advance(seconds=BLOCK_SECONDS + 10)
    assert await took(a_budget(shared_house, clock), connection, 5) == [True] * 4 + [False]


async def test_what_is_given_back_is_there_for_others(shared_house: House, clock: SettableClock) -> None:
    """A process that closes tells which calls it made."""
    mine, connection = a_budget(shared_house, clock), await a_link(shared_house)
    assert await took(mine, connection, 1) == [True]
    await mine.close()
    assert await took(a_budget(shared_house, clock), connection, 4) == [True] * 3 + [False]


async def test_a_process_that_dies_takes_its_block_along_for_a_while_only(
    shared_house: House, clock: SettableClock
) -> None:
    """Nobody knows which calls it made, so all count as made at the last moment; then they are there again."""
    connection = await a_link(shared_house)
    assert await took(a_budget(shared_house, clock), connection, 1) == [True]
    clock.advance(seconds=BLOCK_SECONDS + 9.9)
    assert await took(a_budget(shared_house, clock), connection, 1) == [False]
    clock.advance(seconds=0.2)
    assert await took(a_budget(shared_house, clock), connection, 4) == [True] * 4


async def test_sweeps_make_room_for_a_host_and_a_host_for_sweeps(house: House, clock: SettableClock) -> None:
    """Two looks beside a host's four calls; a host finds two beside four looks."""
    waiting = {"state": ConnectionState.AWAITING_RECRUITER, "due_at": NOW - timedelta(minutes=1)}
    for number in range(6):
        await a_link(house, owner=f"owner-{number}", **waiting)
    linked = await a_link(house, owner="linked")
    budget = a_budget(house, clock)
    if house.url == "sqlite://":
        budget = HostBudget(HostCalls(house.database, SharedRateLimits()), clock)
    assert await took(budget, linked, 4) == [True] * 4
    claimed = await house.store.claim_due(
        now=NOW, limit=100, lease=a_lease("worker:1", until=NOW + timedelta(minutes=1))
    )
    assert len(claimed) == 2
    later = clock.advance(seconds=30)
    lease = a_lease("worker:2", until=later + timedelta(minutes=1))
    assert len(await house.store.claim_due(now=later, limit=100, lease=lease)) == 4
    assert await took(budget, linked, 3) == [True, True, False]


async def test_a_host_counts_what_was_asked_just_before(house: House, clock: SettableClock) -> None:
    """A look at a connection that is alone leaves no row; its own row says that it was."""
    alone = await a_link(house, due_at=NOW - timedelta(minutes=1))
    [held] = await house.store.claim_due(now=NOW, limit=1, lease=a_lease("worker:1", until=NOW + timedelta(minutes=1)))
    assert held.id == alone.id
    assert await house.sql("SELECT count(*) FROM linker_rate_limit") == [(0,)]
    budget = HostBudget(HostCalls(house.database, SharedRateLimits()), clock)
    assert await took(budget, alone, 4) == [True] * 4
    [(log,)] = await house.sql("SELECT calls FROM linker_rate_limit")
    assert "look" in str(log)
    assert "host" in str(log)


async def test_what_people_ask_for_is_counted_and_never_put_off(house: House, clock: SettableClock) -> None:
    """Each press counts, for hosts and sweeps, and goes beyond what they may make."""
    linked = await a_link(house)
    for _ in range(7):
        assert await house.store.claim(linked.id, now=NOW, lease=a_lease("person"))
        await house.store.release([linked.id], a_lease("person"))
    budget = HostBudget(HostCalls(house.database, SharedRateLimits()), clock)
    assert await took(budget, linked, 1) == [False]
    assert await house.store.claim(linked.id, now=NOW, lease=a_lease("person"))


async def test_strangers_who_name_an_account_cost_it_nothing(house: House, clock: SettableClock) -> None:
    """A token that was not accepted makes no account anybody's: only verified connections share its budget."""
    linked = await a_link(house)
    stranger = await kept(house, owner="stranger", subdomain="acme", candidate=a_credential(), due_at=NOW)
    for _ in range(9):
        await house.store.claim(stranger.id, now=NOW, lease=a_lease("person"))
        await house.store.release([stranger.id], a_lease("person"))
    budget = HostBudget(HostCalls(house.database, SharedRateLimits()), clock)
    assert await took(budget, linked, 4) == [True] * 4


async def test_a_partners_limit_is_everybodys_and_one_call_costs_one(house: House, clock: SettableClock) -> None:
    """With a client id all accounts share a rate, and no account's block makes the others wait."""
    budget = HostBudget(HostCalls(house.database, SharedRateLimits("client")), clock, partner=True)
    linked = [
        await a_link(house, owner=name, **_of(name)) for name in ("acme", "globex", "initech", "umbrella", "hooli")
    ]
    assert [await took(budget, each, 1) for each in linked] == [[True]] * 5
    assert await took(budget, linked[0], 1) == [False], "they are spread out"
    rows = await house.sql("SELECT name FROM linker_rate_limit")
    assert sorted(name.split(":")[0] for (name,) in rows) == ["account"] * 5 + ["partner"]
    made = 0
    for turn in range(160):
        clock.advance(seconds=0.125)
        made += sum(await took(budget, linked[turn % 5], 1))
    assert 78 <= made <= 80, "four in a second"


async def test_a_partners_account_has_five_times_as_much(house: House, clock: SettableClock) -> None:
    """Twenty calls of hosts in ten seconds."""
    budget = HostBudget(HostCalls(house.database, SharedRateLimits("client")), clock, partner=True)
    linked, made = await a_link(house), 0
    for _ in range(39):
        clock.advance(seconds=0.25)
        made += sum(await took(budget, linked, 1))
    assert made == 20


async def test_waiting_can_be_cancelled_anywhere(house: House, clock: SettableClock) -> None:
    """Whoever stops waiting takes nothing along: not when the budget is fresh, in use, used up or given back."""
    budget, connection = HostBudget(HostCalls(house.database, SharedRateLimits()), clock), await a_link(house)
    for used in range(5):
        for turns in (*range(6), 20, 60):
            assert await took(budget, connection, used) == [True] * used
            others = asyncio.create_task(took(budget, connection, 4 - used))
            taking = asyncio.create_task(budget.take(connection, wait=5))
            for _ in range(turns):
                await asyncio.sleep(0)
            taking.cancel()
            [ended] = await asyncio.gather(taking, return_exceptions=True)
            assert used + sum(await others) + isinstance(ended, float) == 4, (used, turns)
            clock.advance(seconds=30)
    assert await took(budget, connection, 5) == [True] * 4 + [False]


async def test_what_workable_says_counts_also_while_a_block_is_taken(
    house: House, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that comes back after a 429 is not used before the time that Workable named."""
    calls = HostCalls(house.database, SharedRateLimits())
    take, taken, answered = calls.take, asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **given: Any) -> Any:
        block = await take(*args, **given)
        taken.set()
        await answered.wait()
        return block

    monkeypatch.setattr(calls, "take", late)
    budget, connection = HostBudget(calls, clock), await a_link(house)
    asking = [asyncio.create_task(took(budget, connection, 1)) for _ in range(3)]
    await taken.wait()
    budget.learnt("acme", clock.now() + timedelta(seconds=60))
    answered.set()
    assert await asyncio.gather(*asking) == [[False]] * 3
    assert await took(budget, connection, 1) == [False]
    clock.advance(seconds=61)
    assert await took(budget, connection, 5) == [True] * 4 + [False]


async def test_a_clock_that_is_set_back_uses_no_block_that_was_given_back(
    house: House, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given back is gone, whatever the clock says afterwards."""
    monkeypatch.setattr("linker.accounts.budget.BLOCK_SECONDS", 0.05)
    budget, connection = HostBudget(HostCalls(house.database, SharedRateLimits()), clock), await a_link(house)
    assert await took(budget, connection, 1) == [True]
    clock.advance(seconds=-3)
    await asyncio.sleep(0.3)
    assert await took(budget, connection, 4) == [True] * 3 + [False]


async def test_who_waits_for_no_turn_waits_for_no_database_that_is_stuck(
    house: House, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trip takes milliseconds: after a while it is said when to try again, and the trip serves whoever comes then."""
    calls, mended = HostCalls(house.database, SharedRateLimits()), asyncio.Event()
    take = calls.take

    async def stuck(*args: Any, **given: Any) -> Any:
        await mended.wait()
        return await take(*args, **given)

    monkeypatch.setattr(calls, "take", stuck)
    monkeypatch.setattr("linker.accounts.budget.TRIP_SECONDS", 0.1)
    budget, connection = HostBudget(calls, clock), await a_link(house)
    assert await asyncio.wait_for(took(budget, connection, 1), 3) == [False]
    mended.set()
    assert await took(budget, connection, 1) == [True]


# ── what Workable says ────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def two_hosts(
    path: Path, clock: SettableClock, *, blocks: bool
) -> AsyncIterator[tuple[Host, Host, ScriptedAnswers, Connection]]:
    """Two processes of a host with one database and scripted answers, and a connection that is linked."""
    settings = Settings(database_url=f"sqlite:///{path}/linker.db", secret_keys=(new_key(),))
    workable, answers = ScriptedWorkable(), ScriptedAnswers()
    given: dict[str, Any] = {"workable": workable, "account_transport": answers, "clock": clock}
    async with (
        opened(Linker(settings, **given), blocks=blocks) as mine,
        opened(Linker(settings, **given), blocks=blocks) as theirs,
    ):
        connection = await mine.linked(workable)
        clock.advance(seconds=30)
        yield mine, theirs, answers, connection


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"X-Rate-Limit-Limit": "10", "X-Rate-Limit-Remaining": "3"}),
        (429, {}),
        (429, {"Retry-After": "20"}),
    ],
)
async def test_what_workable_says_is_learnt_by_all(
    status: int, headers: dict[str, str], blocks: bool, tmp_path: Path, clock: SettableClock
) -> None:
    """An answer to one process stops hosts and sweeps of the others until the time that Workable named."""
    async with two_hosts(tmp_path, clock, blocks=blocks) as (mine, theirs, answers, connection):
        answers.will_answer("GET", "jobs", httpx.Response(status, json={"jobs": []}, headers=headers))
        async with mine.client(connection, wait=0) as client:
            assert (await client.get("jobs")).status_code == status
            with pytest.raises(TryAgain):
                await client.get("jobs")
        for _ in range(100):
            if await blocked(mine):
                break
            await asyncio.sleep(0.02)
        async with theirs.client(connection, wait=0) as client:
            with pytest.raises(TryAgain) as refused:
                await client.get("jobs")
            assert 5 <= refused.value.params["after"] <= 20
        assert len(answers.requests) == 1
        past = f"{clock.now() - timedelta(minutes=1):%Y-%m-%d %H:%M:%S.%f}"

        async def are_due() -> None:
            due = text("UPDATE linker_connection SET due_at = :p")
            await parts(theirs.linker).database.write(lambda transaction: transaction.execute(due, {"p": past}))

        await theirs.do(are_due)
        assert (await theirs.do(theirs.linker.attend_due)).claimed == 0
        clock.advance(seconds=21)
        assert (await theirs.do(theirs.linker.attend_due)).claimed == 1


async def blocked(host: Host) -> bool:
    """Whether something was learnt by all."""
    query = text("SELECT max(blocked_until) FROM linker_rate_limit")

    async def read() -> Any:
        return await parts(host.linker).database.read(lambda transaction: transaction.execute(query).scalar())

    return bool(await host.do(read))


@pytest.mark.postgres
async def test_a_process_that_was_asleep_takes_nothing_of_the_others_for_over(
    postgres_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's time counts, read as the budget is: its own monotonic clock stood still for three hours."""
    clocks: list[DatabaseClock] = []
    budgets = []
    for _ in range(2):
        database = postgres_house.another()._database
        clocks.append(DatabaseClock(database))
        await clocks[-1].read()
        budgets.append(HostBudget(HostCalls(database, SharedRateLimits(), clocks[-1]), clocks[-1]))
    (mine, theirs), (clock, asleep) = budgets, clocks
    acme, globex = await a_link(postgres_house), await a_link(postgres_house, owner="other", **_of("globex"))
    late = asleep.now() - timedelta(hours=3)
    monkeypatch.setattr(asleep, "_known", (late.timestamp(), time.monotonic()))
    assert await took(mine, acme, 4) == [True] * 4
    mine.learnt("globex", clock.now() + timedelta(minutes=10))
    learnt = "SELECT blocked_until FROM linker_rate_limit WHERE blocked_until > 0"
    async with asyncio.timeout(10):
        while not (rows := await postgres_house.sql(learnt)):  # noqa: ASYNC110 - the database sets no event
            await asyncio.sleep(0.01)
    assert await took(theirs, acme, 1) == [False]
    assert await took(theirs, globex, 1) == [False]
    assert abs((asleep.now() - clock.now()).total_seconds()) < 2
    assert await postgres_house.sql(learnt) == rows
    assert rows[0][0] > clock.now().timestamp() + 500


# ── full speed ────────────────────────────────────────────────────────────────────────────────────────────────────────

#: How much faster than the world's the time goes in which the limit is counted.
FASTER = 8.0


class FastClock:
    """A clock that runs, and fast."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self._began -= seconds / FASTER

    def now(self) -> datetime:
        """The time."""
        return datetime(2026, 1, 5, 9, 0, tzinfo=UTC) + timedelta(seconds=(time.monotonic() - self._began) * FASTER)


def most(times: Sequence[float], window: float) -> int:
    """The most of these in any window."""
    return max((sum(start <= at < start + window for at in times) for start in times), default=0)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_two_workers_and_two_hosts_at_full_speed_are_never_throttled(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Against Workable's own limit: no 429, at most 4 calls of hosts and 6 of all in ten seconds, and no starvation."""

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds / FASTER)

    monkeypatch.setattr("linker.accounts.budget.sleep", sleep)
    clock, keys = FastClock(), (new_key(),)
    world = World(clock=lambda: clock.now().timestamp(), log_length=100_000)
    database = (
        f"sqlite:///{tmp_path}/linker.db" if engine == "sqlite" else request.getfixturevalue("postgres_house").url
    )
    world.add_account("acme", name="Acme")
    world.add_token("acme", TOKEN, scopes={"r_jobs"})
    with running(world) as url:
        async with AsyncExitStack() as stack:
            given: dict[str, Any] = {"database_url": database, "secret_keys": keys, "clock": clock}
            linkers = [a_linker(url, budgeted=True, **given) for _ in range(4)]
            for linker in linkers:
                await stack.enter_async_context(linker)
            linked = await _many_on_one_account(world, linkers[0], clock)
            world.forget_requests()
            ends = time.monotonic() + 7
            told = await asyncio.gather(
                _works(linkers[0], ends), _works(linkers[1], ends), *(_calls(one, linked, ends) for one in linkers[2:])
            )
    seen = [(entry.at, entry.path, entry.status) for entry in world.log]
    assert {status for *_, status in seen} == {200}
    hosts = [at for at, path, _ in seen if path == "/jobs"]
    looks = [at for at, path, _ in seen if path != "/jobs"]
    seconds = 7 * FASTER
    assert most(hosts, 5.0) <= 4, "a request that is under way for long comes nearer to the next ones"
    assert most([*hosts, *looks], 5.0) <= 6
    assert len(hosts) <= (seconds / 10 + 1) * 4
    assert len(hosts) + len(looks) <= (seconds / 10 + 1) * 6
    assert len(hosts) >= seconds / 10 * 4 * 0.5
    assert len(looks) >= seconds / 10 * 2 * 0.4
    assert sum(told[2:]) == len(hosts)


async def _many_on_one_account(world: World, linker: Linker, clock: FastClock) -> str:
    """Nine connections of one account: one is linked, the others wait for their recruiters. Gives the linked one."""
    linked = ""
    for number in range(9):
        connection = await linker.create(owner=f"owner-{number}")
        connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        assert connection.recruiter is not None, connection.problem
        clock.skip(30)
        if not linked:
            world.add_recruiter("acme", name=connection.recruiter.name, email=connection.recruiter.email)
            linked = (await linker.confirm_recruiter(connection.id)).id
            clock.skip(30)
    return linked


async def _works(linker: Linker, ends: float) -> int:
    while time.monotonic() < ends:
        await linker.attend_due()
        await asyncio.sleep(0.02)
    return 0


async def _calls(linker: Linker, connection_id: str, ends: float) -> int:
    made = 0
    async with linker.client(connection_id, wait=60) as client:
        while time.monotonic() < ends:
            await client.get("jobs")
            made += 1
    return made


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

TAKES_AND_DIES = """
import asyncio, os, signal, sys
from datetime import datetime
from linker.accounts.budget import HostBudget
from linker.database.database import Database
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.rate_limits import HostCalls, SharedRateLimits
from linker.testing import SettableClock

async def main(url, connection_id, now):
    database = Database(url)
    budget = HostBudget(HostCalls(database, SharedRateLimits()), SettableClock(datetime.fromisoformat(now)))
    await budget.take(await ConnectionStore(database).get(connection_id), wait=0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_that_is_killed_with_budget_taken_keeps_nobody_waiting_for_long(
    shared_house: House, clock: SettableClock
) -> None:
    """Really killed: its block runs out, and all four calls are there again."""
    connection = await a_link(shared_house)
    arguments = (TAKES_AND_DIES, shared_house.url, connection.id, clock.now().isoformat())
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", *arguments)
    assert await died.wait() == -signal.SIGKILL
    assert await took(a_budget(shared_house, clock), connection, 1) == [False]
    clock.advance(seconds=BLOCK_SECONDS + 10)
    assert await took(a_budget(shared_house, clock), connection, 5) == [True] * 4 + [False]


async def test_rows_of_calls_are_pruned(shared_house: House, clock: SettableClock) -> None:
    """An account that nobody calls any more leaves nothing behind; one that somebody calls keeps its row."""
    old, new = await a_link(shared_house), await a_link(shared_house, owner="other", **_of("globex"))
    budget = a_budget(shared_house, clock)
    await budget.take(old, wait=0)
    clock.advance(hours=2)
    await budget.take(new, wait=0)
    settings = Settings(database_url=shared_house.url, secret_keys=(new_key(),))
    await Pruning(shared_house.database, settings, clock).run()
    assert await shared_house.sql("SELECT name FROM linker_rate_limit") == [("account:globex",)]
    assert await took(budget, old, 1) == [True]


def _of(subdomain: str) -> dict[str, Any]:
    return {"subdomain": subdomain, "account": Account(id=f"id-of-{subdomain}", name=subdomain, subdomain=subdomain)}
