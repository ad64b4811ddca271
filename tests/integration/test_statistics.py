"""What the gauges are read from: right on both engines, and never felt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from linker import Connection, Linker, Settings, new_key
from linker.database.database import Database
from linker.engine.observer import Statistics, Waiting
from linker.errors import StoreUnavailable
from linker.persistence import schema
from linker.persistence.tables import OUTBOX
from linker.telemetry import statistics as statistics_module
from linker.telemetry.metrics import Metrics
from linker.telemetry.statistics import (
    CONNECTIONS_INTERVAL_SECONDS,
    QUEUE_INTERVAL_SECONDS,
    CachedReading,
    StatisticsReader,
)
from linker.testing import ScriptedWorkable, SettableClock
from states.connection import ConnectionState, Problem
from states.problems import TRANSIENT, ProblemCode
from tests.integration.storehouse import MINUTE, NOW, SECOND, House, change, kept
from tests.seams import parts


def absent() -> Problem:
    """The recruiter is not there yet."""
    return Problem(code=ProblemCode.RECRUITER_ABSENT, since=NOW)


async def announced(house: House, connection: Connection) -> None:
    """An announcement of the connection is written."""
    [written] = await house.store.settle([change(connection, announcement="connection.linked")], now=NOW, release=True)
    assert written


async def set_outbox(house: House, connection: Connection, **columns: object) -> None:
    """Let the announcement of a connection be as if it had been tried."""
    these = sa.update(OUTBOX).where(OUTBOX.c.connection_id == connection.id).values(**columns)
    await house.database.write(lambda transaction: transaction.execute(these))


async def taken(house: House) -> Statistics:
    """What is in the house now."""
    found = await StatisticsReader(house.database, lambda: NOW).read()
    assert found is not None
    return found


async def read_at(reader: StatisticsReader) -> datetime:
    """When what is told now was read."""
    found = await reader.read()
    assert found is not None
    return found.queue.read_at


async def test_an_empty_database(house: House) -> None:
    """Nothing is counted as 0: every state is there, and nothing waits."""
    statistics = await taken(house)
    assert statistics.queue.read_at == NOW
    assert (statistics.queue.due, statistics.queue.lag_seconds, statistics.queue.outbox) == (0, 0.0, {})
    assert statistics.connections.by_state == {(state.value, "none"): 0 for state in ConnectionState}
    assert set(statistics.connections.oldest_wait.values()) == {0.0}
    assert statistics.connections.troubled == dict.fromkeys(TRANSIENT, 0)
    assert statistics.connections.dead == {"handlers": 0, "webhook": 0}


async def test_connections_by_state_and_problem(house: House) -> None:
    """Open connections are counted by state and problem; a closed one nowhere; a paused one waits for nobody."""
    waiting = ConnectionState.AWAITING_RECRUITER
    for age in (5, 90, 30):
        await kept(house, state=waiting, state_since=NOW - age * MINUTE, problem=absent())
    await kept(house, state=waiting, state_since=NOW - 900 * MINUTE, paused_at=NOW, problem=absent())
    await kept(house, state_since=NOW - 700 * MINUTE, closed_at=NOW)
    await kept(house, state=ConnectionState.LINKED, state_since=NOW - 800 * MINUTE)
    connections = (await taken(house)).connections
    assert {key: count for key, count in connections.by_state.items() if count} == {
        ("awaiting_recruiter", "recruiter_absent"): 4,
        ("linked", "none"): 1,
    }
    assert connections.oldest_wait == {
        "awaiting_token": 0,
        "token_valid": 0,
        "awaiting_recruiter": 90 * 60,
        "failed": 0,
    }


async def test_trouble_that_lasts(house: House) -> None:
    """What somebody was told of is counted by its problem, in whichever state; new trouble and closed ones are not."""
    throttled = Problem(code=ProblemCode.THROTTLED, since=NOW - 9000 * MINUTE, lasting=True)
    for state in (ConnectionState.LINKED, ConnectionState.AWAITING_RECRUITER):
        await kept(house, state=state, problem=throttled, troubled_since=NOW)
    away = Problem(code=ProblemCode.WORKABLE_UNAVAILABLE, since=NOW, lasting=True)
    await kept(house, problem=away, troubled_since=NOW)
    await kept(house, problem=away)
    await kept(house, problem=throttled, troubled_since=NOW, closed_at=NOW)
    troubled = (await taken(house)).connections.troubled
    assert {code: count for code, count in troubled.items() if count} == {"throttled": 2, "workable_unavailable": 1}


async def test_what_is_due(house: House) -> None:
    """What is due is counted, and the lag is that of the one that is due the longest."""
    for late in (-60, 0, 7, 42):
        await kept(house, due_at=NOW - late * SECOND)
    queue = (await taken(house)).queue
    assert (queue.due, queue.lag_seconds) == (3, 42.0)


async def test_the_outbox(house: House) -> None:
    """Announcements that wait, those that were tried apart; delivered ones are in no number, dead ones in theirs."""
    untried, tried, dead, delivered = [await kept(house) for _ in range(4)]
    for connection in (untried, tried, dead, delivered):
        await announced(house, connection)
    await set_outbox(house, untried, created_at=NOW - MINUTE)
    await set_outbox(house, tried, created_at=NOW - 2 * MINUTE, attempts=3, due_at=NOW + MINUTE)
    await set_outbox(house, dead, due_at=None, dead_at=NOW, attempts=9)
    await set_outbox(house, delivered, due_at=None, delivered_at=NOW, attempts=1)
    statistics = await taken(house)
    assert statistics.queue.outbox == {
        ("handlers", "connection.linked", False): Waiting(number=1, oldest=60.0),
        ("handlers", "connection.linked", True): Waiting(number=1, oldest=120.0),
        ("webhook", "connection.linked", False): Waiting(number=4, oldest=120.0),
    }
    assert statistics.connections.dead == {"handlers": 1, "webhook": 0}
    alone = await StatisticsReader(house.database, lambda: NOW, posts=False).read()
    assert alone is not None
    assert {channel for channel, _, _ in alone.queue.outbox} == {"handlers"}, "no webhook is set: nothing waits for it"


# ── the pace ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stopwatch:
    """A clock for intervals that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """The seconds."""
        return self.seconds


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """The stopwatch that the pace is kept by."""
    made = Stopwatch()
    monkeypatch.setattr(statistics_module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def test_reading_takes_a_hundredth_of_the_time(stopwatch: Stopwatch) -> None:
    """What took 3 s to read is left alone for 300, what took nothing for the time that was set, none for over 600."""
    cached = CachedReading[str](60.0)
    takes = 3

    def slowly() -> str:
        stopwatch.seconds += takes
        return "read"

    def is_due(*, after: float) -> bool:
        stopwatch.seconds += after
        return cached.is_due

    assert is_due(after=0)
    cached.read(slowly)
    assert cached.value == "read"
    assert [is_due(after=299), is_due(after=1)] == [False, True]
    cached.read(lambda: "again")
    assert [is_due(after=59), is_due(after=1)] == [False, True]
    takes = 100
    cached.read(slowly)
    assert [is_due(after=599), is_due(after=1)] == [False, True]


async def test_a_beat_between_two_readings_asks_nothing(sqlite_house: House, stopwatch: Stopwatch) -> None:
    """However often it is asked for, the database is read only when it is time."""
    asked: list[str] = []

    @sa.event.listens_for(sqlite_house.database.engine, "before_cursor_execute")
    def see(_c: object, _k: object, statement: str, *_: object) -> None:
        asked.append(statement)

    now = NOW
    reader = StatisticsReader(sqlite_house.database, lambda: now)
    await reader.read()
    first = len(asked)
    now += 10 * SECOND
    stopwatch.seconds += QUEUE_INTERVAL_SECONDS - 1
    assert await read_at(reader) == NOW, "it says how old it is"
    assert len(asked) == first
    stopwatch.seconds += 1
    assert await read_at(reader) == now
    assert first < len(asked) < 2 * first, "the connections are left for later"
    stopwatch.seconds += CONNECTIONS_INTERVAL_SECONDS
    await reader.read()
    assert len(asked) > 2 * first


ENDLESS = {
    "sqlite": "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g) SELECT count(*) FROM g",
    "postgresql": "SELECT pg_sleep(60)",
}


async def test_who_stops_does_not_wait_for_a_count(shared_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that takes long is ended by whoever wants to stop, on both engines, and the next one is whole."""
    reader = StatisticsReader(shared_house.database, lambda: NOW)
    counting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(transaction: sa.Connection, now: object) -> None:
        loop.call_soon_threadsafe(counting.set)
        transaction.exec_driver_sql(ENDLESS[transaction.dialect.name])

    with monkeypatch.context() as patch:
        patch.setattr(statistics_module, "_connections", endless)
        taking = asyncio.create_task(reader.read())
        await counting.wait()
        began = time.monotonic()
        while not taking.done():  # the statement may not have begun yet
            reader.interrupt()
            await asyncio.sleep(0.01)
        assert await taking is None
        assert time.monotonic() - began < 10
    again = await reader.read()
    assert again is not None
    assert again.connections.dead == {"handlers": 0, "webhook": 0}


# ── in a host ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Meddling(ScriptedWorkable):
    """A Workable during whose answer somebody else changes the row."""

    linker: Linker | None = None
    connection_id = ""

    async def look(self, *args: object, **given: object) -> object:  # type: ignore[override]
        """Meddle, then answer."""
        if self.linker is not None:
            linker, self.linker = self.linker, None
            await linker.unlink(self.connection_id)
        return await super().look(*args, **given)  # type: ignore[arg-type]


def a_linker(url: str, workable: ScriptedWorkable, clock: SettableClock, registry: CollectorRegistry) -> Linker:
    """A linker with numbers."""
    settings = Settings(database_url=url, secret_keys=(new_key(),), sweep_seconds=3600, concurrency=5)
    return Linker(settings, workable=workable, clock=clock, observer=Metrics(registry))


async def test_a_lost_lease_is_counted_once(sqlite_house: House) -> None:
    """An answer that comes when the row has changed is thrown away, and counted, in a sweep and at a press."""
    workable, clock, registry = Meddling(), SettableClock(), CollectorRegistry()
    async with a_linker(sqlite_house.url, workable, clock, registry) as linker:
        for lost, action in enumerate((linker.attend_due, linker.confirm_recruiter), start=1):
            opened = await linker.create(owner=f"customer-{lost}")
            await linker.submit_token(opened.id, subdomain="acme", token="a-token-of-acme")
            clock.advance(seconds=30)
            workable.linker, workable.connection_id = linker, opened.id
            await (action() if action == linker.attend_due else linker.confirm_recruiter(opened.id))
            assert registry.get_sample_value("linker_leases_lost_total") == lost


async def test_a_server_that_is_away_is_counted(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass asks the server for the time first: that it cannot be reached is in the numbers of the alert."""
    registry = CollectorRegistry()
    schema.upgrade(database := Database(postgres_url))
    database.close()
    settings = Settings(database_url=postgres_url, secret_keys=(new_key(),), sweep_seconds=3600)
    async with Linker(settings, workable=ScriptedWorkable(), observer=Metrics(registry)) as linker:

        async def away(*_: object) -> None:
            raise StoreUnavailable("unreachable")

        monkeypatch.setattr(parts(linker).server_clock, "read", away)
        with pytest.raises(StoreUnavailable):
            await linker.attend_due()
    labels = {"work": "sweep", "error": "store_unavailable"}
    assert registry.get_sample_value("linker_work_errors_total", labels) == 1


async def until(true: Callable[[], bool]) -> None:
    """Look again and again; the test's own time-out ends it if it never is."""
    while not true():  # noqa: ASYNC110 - what is waited for happens in a thread
        await asyncio.sleep(0.01)


async def test_the_heartbeat_reads_statistics(shared_house: House) -> None:
    """A host that hands over its registry finds the gauges there, at the pace of the heartbeat."""
    clock, registry = SettableClock(), CollectorRegistry()
    async with a_linker(shared_house.url, ScriptedWorkable(), clock, registry) as linker:
        await linker.create(owner="customer-1")
        async with linker.heartbeat():
            await until(lambda: registry.get_sample_value("linker_stock_read_timestamp_seconds") is not None)
    assert registry.get_sample_value("linker_stock_read_timestamp_seconds") == clock.now().timestamp()
    labels = {"state": "awaiting_token", "problem": "none"}
    assert registry.get_sample_value("linker_connections", labels) == 1


async def test_who_counts_nothing_is_not_read() -> None:
    """Without an observer the heartbeat has no such beat."""
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable()) as linker, linker.heartbeat() as heartbeat:
        assert "statistics" not in heartbeat._beats
