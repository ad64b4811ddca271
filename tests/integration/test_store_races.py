"""Many at once: claims never meet, locks are passed over, and a limit is a limit whatever the planner thinks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from linker.engine.ports import Lease
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.tables import CONNECTION
from states.connection import Account, Connection, ConnectionState
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    SECOND,
    House,
    a_lease,
    a_recruiter,
    change,
    kept,
    kept_due,
    linked,
    opened,
    until_a_lock_is_waited_for,
)


async def take_all(store: ConnectionStore, holder: str, limit: int) -> list[Connection]:
    """Claim until nothing is left."""
    taken: list[Connection] = []
    for number in range(1_000):
        batch = await store.claim_due(now=NOW, limit=limit, lease=a_lease(f"{holder}:{number}"))
        assert len(batch) <= limit
        if not batch:
            return taken
        taken += batch
    raise AssertionError("there is always something left")


async def test_no_connection_is_claimed_by_two(shared_house: House) -> None:
    """Eight workers that claim at the same time share what is due: each connection goes to exactly one."""
    due = await kept_due(shared_house, 60)
    stores = [shared_house.another() for _ in range(8)]
    taken = await asyncio.gather(*(take_all(store, f"worker-{n}", 5) for n, store in enumerate(stores)))
    assert Counter(found.id for batch in taken for found in batch) == Counter(found.id for found in due)


async def test_one_of_many_gets_the_connection(shared_house: House) -> None:
    """Of eight workers that claim the same connection at once, one has it and seven are told that they have not."""
    connection = await kept(shared_house)
    stores = [shared_house.another() for _ in range(8)]
    claims = await asyncio.gather(
        *(store.claim(connection.id, now=NOW, lease=a_lease(f"w{n}")) for n, store in enumerate(stores))
    )
    [held] = [claim for claim in claims if claim is not None]
    assert held.version == connection.version + 1


async def test_calls_are_counted_also_for_what_is_not_written(shared_house: House) -> None:
    """Workable was asked, whoever writes: what the claim could not foresee counts for the account."""
    account = Account(id="globex-1", name="Globex", subdomain="globex")
    connection = await kept(shared_house, state=ConnectionState.AWAITING_RECRUITER, account=account)
    made = [replace(change(connection, attempts=number), unforeseen_calls=2) for number in (1, 2)]
    counted = []
    for settlement in made:
        await shared_house.store.settle([settlement], now=NOW, release=True)
        counted.append(await shared_house.sql("SELECT calls FROM linker_rate_limit WHERE name = 'account:globex'"))
    assert (await shared_house.store.get(connection.id)).attempts == 1
    assert counted[0] != counted[1]


async def test_one_of_many_writes(shared_house: House) -> None:
    """Of eight writes from the same version one is written; the history has one step for it."""
    connection = await kept(shared_house)
    stores = [shared_house.another() for _ in range(8)]
    written = await asyncio.gather(
        *(store.settle([change(connection, attempts=n)], now=NOW, release=True) for n, store in enumerate(stores, 1))
    )
    assert sorted(written) == [[False]] * 7 + [[True]]
    winner = written.index([True]) + 1
    assert (await shared_house.store.get(connection.id)).attempts == winner
    assert [step.seq for step in await shared_house.store.history(connection.id)] == [1, 2]


async def test_one_of_many_gets_the_email(shared_house: House) -> None:
    """Of eight connections that are given the same recruiter at once, one has it."""
    connections = [await kept(shared_house) for _ in range(8)]
    taken = a_recruiter()
    written = await asyncio.gather(
        *(shared_house.another().settle([change(one, recruiter=taken)], now=NOW, release=True) for one in connections)
    )
    assert sorted(written) == [[False]] * 7 + [[True]]


async def test_steps_stay_gapless_under_contention(shared_house: House) -> None:
    """Eight workers that read, decide and write until they succeed leave one step each, numbered without a gap."""
    connection = await kept(shared_house)

    async def insist(store: ConnectionStore) -> None:
        for _ in range(200):
            before = await store.get(connection.id)
            if await store.settle([change(before, checks=before.checks + 1)], now=NOW, release=False) == [True]:
                return
        raise AssertionError("never got through")

    await asyncio.gather(*(insist(shared_house.another()) for _ in range(8)))
    assert [step.seq for step in await shared_house.store.history(connection.id)] == list(range(1, 10))
    assert (await shared_house.store.get(connection.id)).checks == 8


async def test_overlapping_batches_are_each_written_once(shared_house: House) -> None:
    """Two workers that settle the same connections in opposite order at once never write one twice."""
    before = [await kept(shared_house) for _ in range(30)]
    stores = [shared_house.another() for _ in range(2)]
    batches = [[linked(one) for one in before], [linked(one) for one in reversed(before)]]
    first, second = await asyncio.gather(
        *(store.settle(batch, now=NOW, release=True) for store, batch in zip(stores, batches, strict=True))
    )
    assert [a + b for a, b in zip(first, reversed(second), strict=True)] == [1] * 30
    for one in before:
        assert [step.seq for step in await shared_house.store.history(one.id)] == [1, 2]


async def test_who_reads_and_then_writes_is_never_overtaken(shared_house: House) -> None:
    """Eight that read a number and write it back one larger, lose none and are never refused."""
    await kept(shared_house)
    number = sa.select(CONNECTION.c.checks).with_for_update()  # on SQLite it means nothing

    def count_up(transaction: sa.Connection) -> None:
        read = transaction.execute(number).scalar_one()
        time.sleep(0.002)  # long enough for the others to come in between, if they could
        transaction.execute(sa.update(CONNECTION).values(checks=read + 1))

    async def several(store: ConnectionStore) -> None:
        for _ in range(5):
            await store._database.write(count_up)

    await asyncio.gather(*(several(shared_house.another()) for _ in range(8)))
    assert await shared_house.sql("SELECT checks FROM linker_connection") == [(40,)]


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_between(house: House, action: Callable[[sa.Connection], None]) -> None:
    """Do something in a transaction that stays open while `action` runs, then undo it."""

    def work(transaction: sa.Connection) -> None:
        action(transaction)
        transaction.rollback()

    house.database.write_here(work)


async def test_a_locked_row_is_passed_over_without_waiting(postgres_house: House) -> None:
    """A claim does not wait for another transaction's rows; it takes the next ones."""
    due = await kept_due(postgres_house, 3)
    locked, done = threading.Event(), threading.Event()

    def hold(transaction: sa.Connection) -> None:
        transaction.execute(sa.text("SELECT 1 FROM linker_connection WHERE id = :id FOR UPDATE"), {"id": due[0].id})
        locked.set()
        done.wait(30)

    holder = asyncio.create_task(asyncio.to_thread(in_between, postgres_house, hold))
    await asyncio.to_thread(locked.wait, 30)
    began = time.monotonic()
    batch = await postgres_house.another().claim_due(now=NOW, limit=2, lease=a_lease())
    waited = time.monotonic() - began
    done.set()
    await holder
    assert [found.id for found in batch] == [due[1].id, due[2].id]
    assert waited < 10
    rest = await postgres_house.store.claim_due(now=NOW, limit=5, lease=a_lease())
    assert [found.id for found in rest] == [due[0].id]


#: A planner that may only join by nested loops is what an unlucky one comes to by itself.
UNLUCKY = " ".join(
    f"-cenable_{way}=off" for way in ("hashagg", "hashjoin", "mergejoin", "sort", "material", "indexscan", "bitmapscan")
)


async def test_the_limit_holds_whatever_the_plan(postgres_house: House) -> None:
    """PostgreSQL may not run the choosing query again for each row: a claim of 5 out of 100 takes 5."""
    await kept_due(postgres_house, 100)
    with opened(f"{postgres_house.url}?options={quote(UNLUCKY)}") as unlucky:
        batch = await unlucky.store.claim_due(now=NOW, limit=5, lease=a_lease())
    assert len(batch) == 5
    assert await postgres_house.sql("SELECT count(*) FROM linker_connection WHERE lease_holder IS NOT NULL") == [(5,)]


async def test_the_limit_of_announcements_holds_whatever_the_plan(postgres_house: House) -> None:
    """The same for announcements."""
    before = [await kept(postgres_house) for _ in range(30)]
    await postgres_house.store.settle(
        [linked(one, announcement="connection.linked") for one in before], now=NOW, release=True
    )
    with opened(f"{postgres_house.url}?options={quote(UNLUCKY)}") as unlucky:
        batch = await unlucky.outbox.claim_announcements(["connection.linked"], now=NOW, limit=5, lease=a_lease())
    assert len(batch) == 5


async def test_a_row_that_changes_while_it_is_claimed_is_judged_as_it_is_then(postgres_house: House) -> None:
    """A claim that waits for a write sees the row as the write left it: what is held by then is not claimed."""
    connection = await kept(postgres_house)
    written, go_on = threading.Event(), threading.Event()

    def lease_it(transaction: sa.Connection) -> None:
        transaction.execute(
            sa.text("UPDATE linker_connection SET lease_holder = 'first', lease_until = :until, version = version + 1"),
            {"until": NOW + MINUTE},
        )
        written.set()
        go_on.wait(30)

    holder = asyncio.create_task(asyncio.to_thread(postgres_house.database.write_here, lease_it))
    await asyncio.to_thread(written.wait, 30)
    second = asyncio.create_task(postgres_house.another().claim(connection.id, now=NOW, lease=a_lease("second")))
    await until_a_lock_is_waited_for(postgres_house)
    go_on.set()
    await holder
    assert await second is None


# ── the task that waits is cancelled ──────────────────────────────────────────────────────────────────────────────────


class SlowCommits:
    """While it is shut, transactions of a house's own database do not commit."""

    def __init__(self, house: House) -> None:
        self._may_commit, self._reached = threading.Event(), threading.Event()
        self._may_commit.set()

        @sa.event.listens_for(house.database.engine, "commit")
        def wait(_: sa.Connection) -> None:
            self._reached.set()
            self._may_commit.wait(30)

    def shut(self) -> None:
        """Hold back what comes from now on."""
        self._reached.clear()
        self._may_commit.clear()

    async def reached(self) -> None:
        """Wait until a transaction is held back."""
        assert await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        """Let everything through."""
        self._may_commit.set()


@pytest.fixture
def slow_commits(shared_house: House) -> SlowCommits:
    """Commits of the house's own database."""
    return SlowCommits(shared_house)


async def test_a_write_whose_task_was_cancelled_is_written_or_not_but_never_half(
    shared_house: House, slow_commits: SlowCommits
) -> None:
    """The thread goes on to its commit; facts, step and announcement are there together."""
    connection = await kept(shared_house)
    slow_commits.shut()
    writing = asyncio.create_task(
        shared_house.store.settle([linked(connection, announcement="connection.linked")], now=NOW, release=True)
    )
    await slow_commits.reached()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    slow_commits.open()
    shared_house.close()  # waits for what is under way
    with opened(shared_house.url) as again:
        found = await again.store.get(connection.id)
        told = len(await again.store.history(connection.id))
        [(announced,)] = await again.sql(
            "SELECT count(*) FROM linker_outbox WHERE connection_id = :id", id=connection.id
        )
    assert (found.state, told, announced) in {
        (ConnectionState.LINKED, 2, 1),
        (ConnectionState.AWAITING_TOKEN, 1, 0),
    }


async def test_a_claim_whose_task_was_cancelled_ends_with_its_lease(
    shared_house: House, slow_commits: SlowCommits
) -> None:
    """A lease that nobody knows of holds nothing up for longer than it lasts."""
    connection = await kept(shared_house, due_at=NOW)
    slow_commits.shut()
    claiming = asyncio.create_task(
        shared_house.store.claim_due(now=NOW, limit=1, lease=Lease(holder="lost", until=NOW + SECOND))
    )
    await slow_commits.reached()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    slow_commits.open()
    [found] = await shared_house.another().claim_due(now=NOW + SECOND, limit=1, lease=a_lease("next"))
    assert found.id == connection.id


async def test_closing_waits_for_what_is_under_way(shared_house: House) -> None:
    """A unit of work that is in its thread when the database is closed is committed, and no connection is left open."""
    connection = await kept(shared_house)
    begun, go_on = threading.Event(), threading.Event()

    def slow(transaction: sa.Connection) -> None:
        begun.set()
        go_on.wait(30)
        transaction.execute(sa.text("UPDATE linker_connection SET attempts = 42"))

    with opened(shared_house.url) as other:
        open_connections: list[object] = []
        sa.event.listen(other.database.engine, "connect", lambda raw, _: open_connections.append(raw))
        sa.event.listen(other.database.engine, "close", lambda raw, _: open_connections.remove(raw))
        working = asyncio.create_task(other.database.write(slow))
        await asyncio.to_thread(begun.wait, 30)
        threading.Timer(0.1, go_on.set).start()
        await asyncio.to_thread(other.close)
        await working
        assert open_connections == []
    assert (await shared_house.store.get(connection.id)).attempts == 42


# ── renewing while settling ───────────────────────────────────────────────────────────────────────────────────────────


async def test_renewing_meets_settling_without_a_deadlock(postgres_house: House) -> None:
    """A worker renews what it holds while it writes it: both lock in one order, whatever order they are given."""
    held = await kept_due(postgres_house, 400)
    claimed = await postgres_house.store.claim_due(now=NOW, limit=1_000, lease=a_lease("me"))
    assert len(claimed) == len(held)
    first, second = postgres_house.store, postgres_house.another()
    backwards = sorted((one.id for one in claimed), reverse=True)

    async def renew() -> None:
        for _ in range(40):
            assert await second.renew(backwards, a_lease("me", until=NOW + 2 * MINUTE)) != []

    async def settle() -> None:
        latest = list(claimed)
        for number in range(40):
            batch = [change(one, silent=True, attempts=number) for one in latest]
            assert all(await first.settle(batch, now=NOW, release=False))
            latest = [replace(one.after, version=one.before.version + 1) for one in batch]

    await asyncio.gather(renew(), settle())
