"""Locks of PostgreSQL: what is counted is counted by one at a time, and all take their locks in one order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from linker.database.database import Database
from linker.outbox.announcements import Announcement, DeliveryOutcome
from linker.outbox.channels import CHANNELS, Channel
from linker.outbox.outbox_store import OutboxStore
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.rate_limits import PARTNER, SharedRateLimits
from linker.persistence.tables import CONNECTION, OUTBOX
from states.connection import Connection, ConnectionState
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    SECOND,
    House,
    a_connection,
    a_credential,
    a_lease,
    a_recruiter,
    change,
    fresh_id,
    kept,
    locks_waited_for,
    opened,
    opening,
    until_a_lock_is_waited_for,
)

LINKED = "connection.linked"
DAY = timedelta(days=1)

# ── rations ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Gate:
    """Whoever is about to write a ration waits before it until it is open."""

    def __init__(self, *databases: Database) -> None:
        self.open = threading.Event()
        self._waiting: set[int] = set()
        for database in databases:
            sa.event.listen(database.engine, "before_cursor_execute", self._wait)

    @property
    def waiting(self) -> int:
        """How many wait before it."""
        return len(self._waiting)

    def _wait(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE linker_rate_limit"):
            self._waiting.add(threading.get_ident())
            self.open.wait(30)


async def test_workers_that_claim_at_once_spend_one_ration(postgres_house: House) -> None:
    """Of four that claim at the same time one counts, and the others wait for what it leaves."""
    for number in range(60):
        await kept(
            postgres_house,
            owner=f"owner-{number}",
            subdomain=f"sub{number}",
            state=ConnectionState.AWAITING_RECRUITER,
            token=a_credential(),
            recruiter=a_recruiter(),
            due_at=NOW - MINUTE,
        )
    stores = [ConnectionStore(postgres_house.another()._database, SharedRateLimits("client")) for _ in range(4)]

    async def claimed(store: ConnectionStore, limit: int) -> list[Connection]:
        return await store.claim_due(now=NOW, limit=limit, lease=a_lease(fresh_id()))

    made = await claimed(stores[0], 1)  # from now on there is a ration
    gate = Gate(*(store._database for store in stores))
    claiming = [asyncio.create_task(claimed(store, 15)) for store in stores]
    async with asyncio.timeout(30):
        while gate.waiting + await locks_waited_for(postgres_house) < len(stores):  # noqa: ASYNC110 - others' threads
            await asyncio.sleep(0.01)
    gate.open.set()
    for batch in await asyncio.gather(*claiming):
        made += batch
    at_once = 1 + PARTNER.ahead_seconds / PARTNER.pause_seconds
    assert len({one.id for one in made}) == len(made) == at_once


# ── the order of locks ────────────────────────────────────────────────────────────────────────────────────────────────

#: A planner without indexes meets rows as they lie or as they are given, and never in the order of their ids.
AS_THEY_LIE = " ".join(f"-cenable_{way}=off" for way in ("indexscan", "indexonlyscan", "bitmapscan", "mergejoin"))


async def meets_one_that_locks_in_order(
    house: House, table: sa.Table, ids: Sequence[str] | Sequence[int], deed: Coroutine[Any, Any, None]
) -> None:
    """Do it while a transaction holds the first of these rows, which takes the others then: neither is in a deadlock.

    Whoever took one of the others before it waited for the first would be.
    """
    has_first, go_on = threading.Event(), threading.Event()

    def work(transaction: sa.Connection) -> None:
        for this in sorted(ids):
            transaction.execute(sa.select(table.c.id).where(table.c.id == this).with_for_update())
            has_first.set()
            go_on.wait(30)

    with opened(house.url) as other:
        held_leases = asyncio.create_task(other.database.write(work))
        await asyncio.to_thread(has_first.wait, 30)
        doing = asyncio.create_task(deed)
        try:
            await until_a_lock_is_waited_for(house)
        finally:
            go_on.set()
            await asyncio.gather(held_leases, doing)


async def settles(store: ConnectionStore, held: Sequence[Connection]) -> None:
    """Settle them."""
    assert all(await store.settle([change(one, attempts=1) for one in held], now=NOW, release=True))


async def renews(store: ConnectionStore, held: Sequence[Connection]) -> None:
    """Renew their leases."""
    assert len(await store.renew([one.id for one in held], a_lease("me", until=NOW + 2 * MINUTE))) == len(held)


async def releases(store: ConnectionStore, held: Sequence[Connection]) -> None:
    """Give their leases back."""
    await store.release([one.id for one in held], a_lease("me"))


@pytest.mark.parametrize("deed", [settles, renews, releases])
async def test_connections_are_locked_in_the_order_of_their_ids(
    postgres_house: House, deed: Callable[[ConnectionStore, Sequence[Connection]], Coroutine[Any, Any, None]]
) -> None:
    """Whoever writes several waits for the first one before it takes another, however they lie and are given."""
    backwards = sorted((fresh_id() for _ in range(3)), reverse=True)
    for each in backwards:
        await postgres_house.store.add(opening(a_connection(id=each)))
    claims = [await postgres_house.store.claim(each, now=NOW, lease=a_lease("me")) for each in backwards]
    held = [claimed for claimed in claims if claimed is not None]
    with opened(f"{postgres_house.url}?options={quote(AS_THEY_LIE)}") as unordered:
        await meets_one_that_locks_in_order(postgres_house, CONNECTION, backwards, deed(unordered.store, held))


async def claimed_announcements(house: House, way: Channel, *stories: int) -> list[Announcement]:
    """Announce stories of so many announcements, and claim the first of each."""
    for length in stories:
        connection = await kept(house)
        for _ in range(length):
            settlement = change(await house.store.get(connection.id), announcement=LINKED)
            assert await house.store.settle([settlement], now=NOW, release=True) == [True]
    outbox = OutboxStore(house.database, way)
    return await outbox.claim_announcements([LINKED], now=NOW, limit=100, lease=a_lease("me"))


async def settle(house: House, way: Channel, *deliveries: DeliveryOutcome) -> None:
    """Write down how deliveries ended."""
    await OutboxStore(house.database, way).settle_deliveries(deliveries, now=NOW + SECOND, lease=a_lease("me"))


@pytest.mark.parametrize("way", CHANNELS, ids=lambda way: way.name)
async def test_deliveries_are_locked_in_the_order_of_their_announcements(postgres_house: House, way: Channel) -> None:
    """They end in whatever order, and the other way writes the same rows."""
    claimed = await claimed_announcements(postgres_house, way, 1, 1, 1)
    ended = [DeliveryOutcome(announcement=each, delivered_to=frozenset()) for each in reversed(claimed)]
    await meets_one_that_locks_in_order(
        postgres_house, OUTBOX, [each.id for each in claimed], settle(postgres_house, way, *ended)
    )
    outbox = OutboxStore(postgres_house.database, way)
    assert await outbox.claim_announcements([LINKED], now=NOW + DAY, limit=100, lease=a_lease()) == []


@pytest.mark.parametrize("way", CHANNELS, ids=lambda way: way.name)
async def test_what_waits_behind_a_dead_letter_is_locked_in_the_same_order(postgres_house: House, way: Channel) -> None:
    """Giving one up writes those behind it too: they have their place among the others that are written."""
    dead, other = await claimed_announcements(postgres_house, way, 2, 1)
    [(behind,)] = await postgres_house.sql(
        "SELECT id FROM linker_outbox WHERE id NOT IN (:one, :two)", one=dead.id, two=other.id
    )
    assert dead.id < behind < other.id
    ended = [
        DeliveryOutcome(announcement=other, delivered_to=frozenset()),
        DeliveryOutcome(announcement=dead, delivered_to=frozenset(), error="handler: ValueError"),
    ]
    await meets_one_that_locks_in_order(postgres_house, OUTBOX, [behind, other.id], settle(postgres_house, way, *ended))
    outbox = OutboxStore(postgres_house.database, way)
    [next_one] = await outbox.claim_announcements([LINKED], now=NOW + SECOND, limit=100, lease=a_lease())
    assert next_one.id == behind
