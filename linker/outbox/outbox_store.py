"""The outbox in SQL: announcements wait here from the commit of their transition until the host has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Select, and_, func, literal_column, or_, select, update
from sqlalchemy import Connection as Transaction

from linker.database.database import Database
from linker.database.statements import materialized
from linker.engine.ports import Announcement, DeliveryOutcome, Lease
from linker.outbox.channels import HANDLERS, Channel
from linker.persistence.tables import OUTBOX
from states.history import ANNOUNCEMENTS

#: What nobody took for so long is told no more.
LAPSE_AFTER = timedelta(days=7)
#: How many lapse in one transaction.
LAPSE_BATCH = 1_000
#: The error of an announcement that nobody was there to take.
LAPSED = "nobody was there to take it"


class OutboxStore:
    """The announcements of one database, on one of their two ways."""

    def __init__(self, database: Database, way: Channel = HANDLERS) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database
        self._way = way

    def _at(self, column: str) -> ColumnElement[Any]:
        return self._way.of(OUTBOX, column)

    def _is_next(self, types: Collection[str]) -> ColumnElement[bool]:
        """That no earlier announcement of the same connection is due or will be.

        Where the index gives them in their order it is asked for each row by itself: PostgreSQL would put together all
        that waits, to find the first ten of it.
        """
        earlier = OUTBOX.alias("earlier")
        waiting = _undelivered(self._way, earlier).where(earlier.c.type.in_(types))
        return waiting.limit(1).scalar_subquery().is_(None) if self._way.in_order else ~waiting.exists()

    async def claim_announcements(
        self, types: Collection[str], *, now: datetime, limit: int, lease: Lease
    ) -> list[Announcement]:
        """Lease announcements that are due, at most the oldest undelivered one of each connection."""

        def work(transaction: Transaction) -> list[Announcement]:
            found = transaction.execute(self._lease_issuer(types, now, limit, lease, skip_locked=True)).mappings().all()
            if not found and transaction.dialect.name == "postgresql":
                found = (
                    transaction.execute(self._lease_issuer(types, now, limit, lease, skip_locked=False))
                    .mappings()
                    .all()
                )
            return [self._announcement(row) for row in found]

        return sorted(await self._database.write_without_fsync(work), key=lambda found: found.id)

    def _lease_issuer(
        self, types: Collection[str], now: datetime, limit: int, lease: Lease, *, skip_locked: bool
    ) -> Any:
        """The statement of a claim. `skip_locked`: leave out what others write just now.

        Those others may be at the same announcements on the other way only: so a claim that found nothing waits for
        them and looks again. Whoever waits for locks takes them in the order of the ids, so that nobody deadlocks.
        """
        due = (
            select(OUTBOX.c.id)
            .where(self._at("due_at") <= now, OUTBOX.c.type.in_(types), _is_free(self._way, now), self._is_next(types))
            .order_by(*((self._at("due_at"), OUTBOX.c.id) if skip_locked else (OUTBOX.c.id,)))
            .limit(limit)
            .with_for_update(skip_locked=skip_locked, of=OUTBOX)
        )
        return (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(materialized(due)))
            .values(self._way.values(lease_holder=lease.holder, lease_until=lease.until))
            .returning(OUTBOX)
        )

    async def settle_deliveries(
        self,
        deliveries: Sequence[DeliveryOutcome],
        *,
        now: datetime,
        lease: Lease,
        types: Collection[str] = ANNOUNCEMENTS,
    ) -> None:
        """Write down how deliveries ended, as far as they are still held under this lease.

        What waits behind one that failed is due when that is: so it is neither looked at in each claim nor forgotten.
        Of these types only: those of others, who have handlers of their own, do not wait for it.
        """

        def work(transaction: Transaction) -> None:
            _lock_in_order(transaction, deliveries)
            for delivery in deliveries:
                held = (OUTBOX.c.id == delivery.announcement.id, self._at("lease_holder") == lease.holder)
                transaction.execute(update(OUTBOX).where(*held).values(self._columns(delivery, now)))
                if delivery.held_others_up:
                    one = delivery.announcement
                    kinds = types if delivery.due_at else ANNOUNCEMENTS  # what has ended holds nobody up any more
                    reschedule_followers(
                        transaction, self._way, one.connection_id, one.id, kinds, delivery.due_at or now
                    )

        await self._database.write(work)

    async def give_back(self, lease: Lease) -> None:
        """Let others deliver what is still held under this lease."""
        held = update(OUTBOX).where(self._at("lease_holder") == lease.holder)
        free = held.values(self._way.values(lease_holder=None, lease_until=None))
        await self._database.write_without_fsync(lambda transaction: transaction.execute(free))

    async def lapse(self, *, now: datetime) -> int:
        """Let lapse a batch of what nobody took for a week; gives how many those were."""
        forgotten = select(OUTBOX.c.id).where(is_forgotten(self._way, now - LAPSE_AFTER, now)).limit(LAPSE_BATCH)
        lapsed = (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(materialized(forgotten.with_for_update(skip_locked=True, of=OUTBOX))))
            .values(self._way.values(due_at=None, last_error=LAPSED))
            .returning(OUTBOX.c.id)
        )
        return await self._database.write(lambda transaction: len(transaction.execute(lapsed).all()))

    async def forgotten(self, *, before: datetime, now: datetime) -> int:
        """How many were due before a time and were never tried."""
        query = select(func.count()).select_from(OUTBOX).where(is_forgotten(self._way, before, now))
        return await self._database.read(lambda transaction: transaction.execute(query).scalar_one())

    def _columns(self, delivery: DeliveryOutcome, now: datetime) -> dict[str, Any]:
        delivered = delivery.due_at is None and delivery.error is None
        columns = self._way.values(
            attempts=delivery.announcement.attempts + 1,
            due_at=delivery.due_at,
            last_error=delivery.error,
            give_up_at=delivery.give_up_at,
            delivered_at=now if delivered else None,
            dead_at=now if delivery.is_given_up else None,
            lease_holder=None,
            lease_until=None,
        )
        return columns | ({"delivered_to": sorted(delivery.delivered_to)} if self._way is HANDLERS else {})

    def _announcement(self, row: Mapping[Any, Any]) -> Announcement:
        return Announcement(
            id=row["id"],
            message_id=row["message_id"],
            connection_id=row["connection_id"],
            type=row["type"],
            payload=row["payload"],
            created_at=row["created_at"],
            attempts=row[self._at("attempts")],
            delivered_to=frozenset(row["delivered_to"]) if self._way is HANDLERS else frozenset(),
            give_up_at=row[self._at("give_up_at")],
        )


def _is_free(way: Channel, now: datetime) -> ColumnElement[bool]:
    return or_(way.of(OUTBOX, "lease_until").is_(None), way.of(OUTBOX, "lease_until") <= now)


def is_forgotten(way: Channel, before: datetime, now: datetime) -> ColumnElement[bool]:
    """That an announcement was due on a way before a time, and nobody tried: not it, nor one that it waits for."""
    due, untried = way.of(OUTBOX, "due_at") <= before, way.of(OUTBOX, "attempts") == 0
    earlier = OUTBOX.alias("earlier")
    waits = _undelivered(way, earlier).where(way.of(earlier, "attempts") > 0).exists()
    return and_(due, OUTBOX.c.type.in_(ANNOUNCEMENTS), untried, _is_free(way, now), ~waits)


def _undelivered(way: Channel, earlier: FromClause) -> Select[int]:
    """What is earlier of the same connection and not delivered yet."""
    return select(literal_column("1", Integer)).where(
        earlier.c.connection_id == OUTBOX.c.connection_id,
        earlier.c.id < OUTBOX.c.id,
        way.of(earlier, "due_at").is_not(None),
    )


def reschedule_followers(
    transaction: Transaction, way: Channel, connection_id: str, announcement: int, types: Collection[str], at: datetime
) -> None:
    """Let what waits behind an announcement on a way be due at a time: when that is tried again, or has ended."""
    behind = (OUTBOX.c.connection_id == connection_id, OUTBOX.c.id > announcement, OUTBOX.c.type.in_(types))
    untried = (way.of(OUTBOX, "due_at").is_not(None), way.of(OUTBOX, "attempts") == 0)
    transaction.execute(update(OUTBOX).where(*behind, *untried).values(way.values(due_at=at)))


def _lock_in_order(transaction: Transaction, deliveries: Sequence[DeliveryOutcome]) -> None:
    """Lock the rows that are going to be written in the order of their ids: others write them on the other way."""
    followed = [each.announcement.connection_id for each in deliveries if each.held_others_up]
    if transaction.dialect.name == "postgresql" and (followed or len(deliveries) > 1):
        these = OUTBOX.c.id.in_([each.announcement.id for each in deliveries])
        behind = and_(OUTBOX.c.connection_id.in_(followed), OUTBOX.c.id >= min(d.announcement.id for d in deliveries))
        transaction.execute(select(OUTBOX.c.id).where(or_(these, behind)).order_by(OUTBOX.c.id).with_for_update())
