"""Pruning: what is too old goes, what is left makes sense, and nobody waits."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from asyncio.subprocess import DEVNULL
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as some

from linker.engine.ports import Selection, Settlement
from linker.operations import retention as module
from linker.operations.retention import Pruned, Pruning
from linker.persistence import schema
from linker.persistence.tables import CONNECTION, OUTBOX, STEP, OutboxRow
from linker.settings import Settings
from linker.testing import SettableClock, linker_in_memory
from states.connection import Connection
from tests.acceptance.commands import Terminal
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    House,
    a_connection,
    a_lease,
    a_step,
    change,
    kept,
    kept_due,
    opened,
    opening,
)

DAY = timedelta(days=1)
SETTINGS = Settings(keep_history=10 * DAY, keep_announcements=5 * DAY, keep_closed=20 * DAY)


def pruning(house: House, settings: Settings = SETTINGS) -> Pruning:
    """Pruning at the moment of these tests."""
    return Pruning(house.database, settings, SettableClock(NOW))


async def with_history(house: House, *days: float) -> Connection:
    """A connection whose steps happened so many days ago."""
    times = [NOW - ago * DAY for ago in days]
    found = await house.store.add(opening(a_connection(created_at=times[0])))
    for at in times[1:]:
        settlement = change(found, checks=found.checks + 1)
        step = a_step(settlement.before, settlement.after, at=at)
        written = Settlement(before=found, after=settlement.after, step=step)
        assert await house.store.settle([written], now=at, release=False) == [True]
        found = await house.store.get(found.id)
    return found


async def seqs(house: House, connection: Connection) -> list[int]:
    """The numbers of a connection's steps."""
    return [step.seq for step in await house.store.history(connection.id)]


async def count(house: House, table: str) -> int:
    """How many rows a table has."""
    [(rows,)] = await house.sql(f"SELECT count(*) FROM {table}")  # noqa: S608 - one of our tables
    return int(rows)


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("days", "left"),
    [
        ((30,), [1]),
        ((30, 29, 28), [3]),
        ((30, 20, 5, 1), [2, 3, 4]),
        ((9, 5, 1), [1, 2, 3]),
        ((11, 9), [1, 2]),
        ((30, 5, 12, 1), [3, 4]),
    ],
)
async def test_history_begins_with_the_state_at_the_beginning_of_what_is_kept(
    house: House, days: tuple[float, ...], left: list[int]
) -> None:
    """A step goes once the one after it is too old; the last one stays, and clocks that disagreed make no gap."""
    connection = await with_history(house, *days)
    foreseen = await pruning(house).foresee()
    assert (await pruning(house).run()).steps == len(days) - len(left)
    assert foreseen.steps <= len(days) - len(left)
    assert await seqs(house, connection) == left
    assert await pruning(house).foresee() == Pruned()


async def test_pruned_history_grows_on_and_is_pruned_again(house: House) -> None:
    """The numbers go on where they were; what was pruned once is not looked at again until there is more."""
    connection = await with_history(house, 30, 20, 5)
    await pruning(house).run()
    written = change(await house.store.get(connection.id), checks=9)
    assert await house.store.settle([written], now=NOW, release=False) == [True]
    assert await seqs(house, connection) == [2, 3, 4]
    later = Pruning(house.database, SETTINGS, SettableClock(NOW + 9 * DAY))
    assert (await later.run()).steps == 1
    assert await seqs(house, connection) == [3, 4]


@given(
    histories=some.lists(some.lists(some.integers(0, 40), min_size=1, max_size=6), min_size=1, max_size=6),
    batch=some.integers(1, 5),
    killed_after=some.integers(0, 4),
)
def test_whatever_was_written_and_whenever_it_ends_history_stays_whole(
    histories: list[list[int]], batch: int, killed_after: int
) -> None:
    """After any number of batches each history is without a gap, ends with its last step, tells all that is kept."""

    async def lived() -> None:
        with opened("sqlite://") as house:
            await house.database.write(sa_tables)
            lives = [(await with_history(house, *days), days) for days in histories]
            kind = replace(module.STEPS, batch=batch)
            for _ in range(killed_after):
                await house.database.write(partial(kind.prune, NOW - 10 * DAY, NOW))
                await assert_whole(house, lives)
            more = True
            while more:
                _, more = await house.database.write(partial(kind.prune, NOW - 10 * DAY, NOW))
            await assert_whole(house, lives)
            assert await pruning(house).foresee() == Pruned()

    asyncio.run(lived())


def sa_tables(transaction: sa.Connection) -> None:
    """Make the tables."""
    OutboxRow.metadata.create_all(transaction)


async def assert_whole(house: House, lives: list[tuple[Connection, list[int]]]) -> None:
    """No gap, the last step is there, and nothing went that nothing older than the limit came after."""
    for connection, days in lives:
        found = await seqs(house, connection)
        assert found == list(range(found[0], len(days) + 1))
        oldest_that_counts = max((seq for seq, ago in enumerate(days, 1) if ago > 10), default=1)
        assert found[0] <= oldest_that_counts


# ── announcements and connections ─────────────────────────────────────────────────────────────────────────────────────


async def announced(house: House, connection: Connection, name: str, *, ago: timedelta, **columns: Any) -> None:
    """An announcement of some time ago; by default it is over."""
    row = {
        "message_id": name,
        "connection_id": connection.id,
        "seq": 1,
        "type": "connection.linked",
        "payload": {"data": {}},
        "created_at": NOW - ago,
        "attempts": 0,
        "delivered_to": [],
        **columns,
    }
    await house.database.write(lambda transaction: transaction.execute(sa.insert(OUTBOX), row))


async def test_announcements_go_when_they_are_old_and_over(house: House) -> None:
    """Delivered or given up, an old one goes; one that somebody is still owed stays, on whichever channel it is due."""
    connection = await kept(house)
    await announced(house, connection, "delivered", ago=6 * DAY, delivered_at=NOW)
    await announced(house, connection, "dead", ago=6 * DAY, dead_at=NOW)
    await announced(house, connection, "young", ago=4 * DAY, delivered_at=NOW)
    due_columns = [column.name for column in OUTBOX.c if column.name.endswith("due_at")]
    for due_column in due_columns:
        await announced(house, connection, due_column, ago=99 * DAY, **{due_column: NOW})
    assert (await pruning(house).foresee()).announcements == 2
    assert (await pruning(house).run()).announcements == 2
    left = {name for (name,) in await house.sql("SELECT message_id FROM linker_outbox")}
    assert left == {"young", *due_columns}


async def test_unlinked_connections_go_with_all_that_belongs_to_them(house: House) -> None:
    """Only those that were closed long ago; an open one stays however old it is."""
    old, young, still_open = [await with_history(house, 99, 50) for _ in range(3)]
    for each, ago in ((old, 21), (young, 19)):
        told = "connection.unlinked" if each is young else None
        closed = change(each, closed_at=NOW - ago * DAY, due_at=None, announcement=told)
        assert await house.store.settle([closed], now=NOW, release=False) == [True]
    assert (await pruning(house).foresee()).connections == 1
    assert (await pruning(house).run()).connections == 1
    left = await house.store.find(Selection(closed=None))
    assert {found.id for found in left} == {young.id, still_open.id}
    assert await house.sql("SELECT count(*) FROM linker_step WHERE connection_id = :id", id=old.id) == [(0,)]
    assert await count(house, "linker_outbox") == 1


async def test_a_dry_run_changes_nothing_and_for_ever_is_for_ever(house: House) -> None:
    """What is only counted stays, and so does what is kept for ever."""
    connection = await with_history(house, 99, 98, 97)
    await announced(house, connection, "old", ago=99 * DAY)
    assert await pruning(house).foresee() == Pruned(steps=2, announcements=1)
    forever = pruning(house, Settings(keep_history=None, keep_announcements=None, keep_closed=None))
    assert await forever.run() == await forever.foresee() == Pruned()
    assert (await count(house, "linker_step"), await count(house, "linker_outbox")) == (3, 1)


async def test_a_host_prunes_with_its_linker() -> None:
    """`prune()` goes by the linker's own clock and settings."""
    clock = SettableClock()
    async with linker_in_memory(clock=clock) as linker:
        connection = await linker.create(owner="acme")
        await linker.unlink(connection.id)
        assert await linker.prune() == Pruned()
        clock.advance(days=401)
        # nobody delivers here: what was announced lapses, and goes too
        assert await linker.prune(dry_run=True) == Pruned(steps=1, announcements=2, connections=1)
        assert await linker.prune() == Pruned(steps=1, announcements=2, connections=1)
        assert await linker.find(closed=None) == []


# ── beside others ─────────────────────────────────────────────────────────────────────────────────────────────────────

#: How many connections have old steps, when it has to take a while.
MANY = 4_000


def fill(house: House) -> None:
    """Many connections with two old steps and a young one."""
    rows = [f"con_{number}" for number in range(MANY)]
    blank = {"owner": "o", "metadata": {}, "state": "linked", "law": "law", "version": 1, "attempts": 0, "checks": 0}
    times = {"state_since": NOW, "created_at": NOW, "updated_at": NOW, "last_seq": 3}
    connections = [{"id": name, **blank, **times} for name in rows]
    step = {"event": "e", "source": "linked", "target": "linked", "actor": "a", "evidence": {}}
    ages = {1: 30 * DAY, 2: 20 * DAY, 3: DAY}
    steps = [{"connection_id": name, "seq": seq, "at": NOW - ages[seq], **step} for name in rows for seq in ages]

    def work(transaction: sa.Connection) -> None:
        transaction.execute(sa.insert(CONNECTION), connections)
        transaction.execute(sa.insert(STEP), steps)

    house.database.write_here(work)


async def test_claims_go_on_between_any_two_batches(shared_house: House) -> None:
    """Whoever claims all the time, as another process, gets in between any two batches."""
    fill(shared_house)
    [due] = await kept_due(shared_house, 1)
    other = shared_house.another()
    claims = 0
    seen: dict[int, int] = {}

    async def claim() -> None:
        nonlocal claims
        while True:
            [held] = await other.claim_due(now=NOW, limit=1, lease=a_lease())
            assert held.id == due.id
            await other.release([due.id], a_lease())
            claims += 1

    def saw(gone: int, _total: int) -> None:
        seen.setdefault(gone, claims)

    claiming = asyncio.create_task(claim())
    try:
        await pruning(shared_house).run(saw)
    finally:
        claiming.cancel()
        await asyncio.wait([claiming])
    assert len(seen) >= MANY // module.BATCH_ROWS
    assert all(before < after for before, after in itertools.pairwise(seen.values())), seen
    assert await count(shared_house, "linker_step") == 2 * MANY + 1


async def test_on_postgresql_nobody_waits_even_for_an_open_batch(postgres_house: House) -> None:
    """While a batch of each kind is not committed yet, others claim, settle and are told."""
    fill(postgres_house)
    [due] = await kept_due(postgres_house, 1)
    old = await with_history(postgres_house, 30, 20, 15)
    await announced(postgres_house, old, "old", ago=99 * DAY)
    await announced(postgres_house, old, "new", ago=MINUTE, due_at=NOW)
    other = House(postgres_house.url)
    prune = pruning(postgres_house)

    def work(transaction: sa.Connection) -> None:
        for kind, before in prune._before.items():
            kind.prune(before, NOW, transaction)
        began.set()
        assert go_on.wait(30)

    began, go_on = threading.Event(), threading.Event()
    batch = asyncio.create_task(postgres_house.database.write(work))
    assert await asyncio.to_thread(began.wait, 30)
    try:
        async with asyncio.timeout(10):
            [held] = await other.store.claim_due(now=NOW, limit=9, lease=a_lease())
            assert held.id == due.id
            assert await other.store.settle([change(held, checks=1)], now=NOW, release=True) == [True]
            claimed = await other.store.claim(old.id, now=NOW, lease=a_lease())
            assert claimed is not None
            assert await other.store.settle([change(claimed, checks=1)], now=NOW, release=True) == [True]
            assert len(await other.outbox.claim_announcements(["connection.linked"], now=NOW, limit=9, lease=a_lease()))
        assert not batch.done()
    finally:
        go_on.set()
        await batch
        other.close()


async def test_several_runs_at_once_take_turns(shared_house: House) -> None:
    """What goes, goes once, whoever takes it."""
    fill(shared_house)
    other = House(shared_house.url)
    one, two = await asyncio.gather(pruning(shared_house).run(), pruning(other).run())
    other.close()
    assert one.steps + two.steps == MANY
    assert await count(shared_house, "linker_step") == 2 * MANY


async def test_a_killed_run_loses_nothing_and_the_next_one_goes_on(shared_house: House, tmp_path: Path) -> None:
    """After kill -9 in the middle every history is whole, and the command finishes the work."""
    fill(shared_house)
    linker = Terminal(tmp_path, {"database_url": shared_house.url, "keep_history": f"{days_ago(10)}"})
    command = [sys.executable, "-m", "linker.cli", "db", "prune"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=linker.environment(), stdout=DEVNULL)
    try:
        while (left := await count(shared_house, "linker_step")) == 3 * MANY:
            assert process.returncode is None
            await asyncio.sleep(0.01)
    finally:
        process.kill()
        await process.wait()
    assert 2 * MANY < left < 3 * MANY
    whole = "SELECT count(*) FROM (SELECT connection_id FROM linker_step GROUP BY connection_id "
    whole += "HAVING max(seq) = 3 AND count(*) = 3 - min(seq) + 1) AS whole"
    assert await shared_house.sql(whole) == [(MANY,)]
    gone = 3 * MANY - await count(shared_house, "linker_step")
    assert linker("db", "prune", "--json", "--dry-run").json["steps"] == MANY - gone
    finished = linker("db", "prune", "--json")
    assert (finished.code, finished.json["steps"]) == (0, MANY - gone)
    assert await shared_house.sql(whole) == [(MANY,)]


def days_ago(days: int) -> float:
    """The seconds to keep by the machine's clock, so that what is kept is what is kept at `NOW`."""
    return (datetime.now(NOW.tzinfo) - NOW + days * DAY).total_seconds()


def test_the_command_says_what_goes(tmp_path: Path) -> None:
    """For people in words, for machines with the limits; a keeping that cannot be ends with 2."""
    linker = Terminal(tmp_path, {"keep_closed": "forever"})
    told = linker("db", "prune", "--dry-run")
    assert (told.code, told.out.splitlines()[0]) == (0, "Nothing was changed; this would go:")
    assert "unlinked connections: none, all are kept" in told.out
    ran = linker("db", "prune", "--json")
    assert {name: ran.json[name] for name in ("steps", "announcements", "connections", "dry_run")} == {
        "steps": 0,
        "announcements": 0,
        "connections": 0,
        "dry_run": False,
    }
    assert ran.json["before"]["connections"] is None
    assert datetime.fromisoformat(ran.json["before"]["steps"]).tzinfo is not None
    assert linker("db", "prune", keep_history="0").code == 2
    assert linker("db", "prune", database_url="sqlite:////nowhere/at/all.db").code == 5


def test_history_says_where_it_begins(tmp_path: Path) -> None:
    """A person reads that there was more; a program sees it by the numbers."""
    with opened(f"sqlite:///{tmp_path / 'linker.db'}") as house:
        schema.upgrade(house.database)

        async def lived() -> Connection:
            connection = await with_history(house, 30, 20, 5)
            await pruning(house).run()
            return connection

        connection = asyncio.run(lived())
    linker = Terminal(tmp_path)
    assert [step["seq"] for step in linker("history", connection.id, "--json").json] == [2, 3]
    assert "what came before step 2 was pruned" in linker("history", connection.id).out
