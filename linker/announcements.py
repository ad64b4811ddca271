"""The outbox in SQL: announcements wait here from the commit of their transition until the host has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy import Connection as Transaction

from linker.database import Database, chosen_once
from linker.ports import Announcement, Delivery, Lease
from linker.rows import OUTBOX
from linker.ways import HANDLERS, Way
from states.history import ANNOUNCEMENTS

#: The error of an announcement that nobody was there to take.
LAPSED = "nobody was there to take it"


class SqlOutbox:
    """The announcements of one database, on one of their two ways."""

    def __init__(self, database: Database, way: Way = HANDLERS) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database
        self._way = way

    def _at(self, column: str) -> ColumnElement[Any]:
        return self._way.of(OUTBOX, column)

    def _free(self, now: datetime) -> ColumnElement[bool]:
        return or_(self._at("lease_until").is_(None), self._at("lease_until") <= now)

    def _waits_for_earlier(self, types: Collection[str], *, tried: bool = False) -> ColumnElement[bool]:
        """An earlier announcement of the same connection is due or will be. `tried`: it was tried before."""
        earlier = OUTBOX.alias("earlier")
        of_interest = [self._way.of(earlier, "attempts") > 0] if tried else []
        return exists().where(
            earlier.c.connection_id == OUTBOX.c.connection_id,
            earlier.c.id < OUTBOX.c.id,
            self._way.of(earlier, "due_at").is_not(None),
            earlier.c.type.in_(types),
            *of_interest,
        )

    async def claim_announcements(
        self, types: Collection[str], *, now: datetime, limit: int, lease: Lease
    ) -> list[Announcement]:
        """Lease announcements that are due, at most the oldest undelivered one of each connection."""

        def work(transaction: Transaction) -> list[Announcement]:
            found = transaction.execute(self._leasing(types, now, limit, lease, skip_locked=True)).mappings().all()
            if not found and transaction.dialect.name == "postgresql":
                found = transaction.execute(self._leasing(types, now, limit, lease, skip_locked=False)).mappings().all()
            return [self._announcement(row) for row in found]

        return sorted(await self._database.write_passing(work), key=lambda found: found.id)

    def _leasing(self, types: Collection[str], now: datetime, limit: int, lease: Lease, *, skip_locked: bool) -> Any:
        """The statement of a claim. `skip_locked`: leave out what others write just now.

        Those others may be at the same announcements on the other way only: so a claim that found nothing waits for
        them and looks again. Whoever waits for locks takes them in the order of the ids, so that nobody deadlocks.
        """
        due = (
            select(OUTBOX.c.id)
            .where(
                self._at("due_at") <= now,
                OUTBOX.c.type.in_(types),
                self._free(now),
                ~self._waits_for_earlier(types),
            )
            .order_by(*((self._at("due_at"), OUTBOX.c.id) if skip_locked else (OUTBOX.c.id,)))
            .limit(limit)
            .with_for_update(skip_locked=skip_locked, of=OUTBOX)
        )
        return (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(chosen_once(due)))
            .values(self._way.values(lease_holder=lease.holder, lease_until=lease.until))
            .returning(OUTBOX)
        )

    async def settle_deliveries(self, deliveries: Sequence[Delivery], *, now: datetime, lease: Lease) -> None:
        """Write down how deliveries ended, as far as they are still held under this lease."""

        def work(transaction: Transaction) -> None:
            _lock_in_order(transaction, deliveries)
            for delivery in deliveries:
                held = (OUTBOX.c.id == delivery.announcement.id, self._at("lease_holder") == lease.holder)
                transaction.execute(update(OUTBOX).where(*held).values(self._columns(delivery, now)))
                if delivery.is_given_up:
                    transaction.execute(self._its_turn_has_come(delivery.announcement, now))

        await self._database.write(work)

    async def give_back(self, lease: Lease) -> None:
        """Let others deliver what is still held under this lease."""
        held = update(OUTBOX).where(self._at("lease_holder") == lease.holder)
        free = held.values(self._way.values(lease_holder=None, lease_until=None))
        await self._database.write_passing(lambda transaction: transaction.execute(free))

    async def lapse(self, *, before: datetime, now: datetime, limit: int) -> int:
        """Let lapse, up to a limit, what was due before a time and was never tried; gives how many those were.

        What waits behind an announcement that is being tried is not forgotten: its turn comes.
        """
        forgotten = select(OUTBOX.c.id).where(*self._forgotten(before, now)).limit(limit)
        lapsed = (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(chosen_once(forgotten.with_for_update(skip_locked=True, of=OUTBOX))))
            .values(self._way.values(due_at=None, last_error=LAPSED))
            .returning(OUTBOX.c.id)
        )
        return await self._database.write(lambda transaction: len(transaction.execute(lapsed).all()))

    async def forgotten(self, *, before: datetime, now: datetime) -> int:
        """How many were due before a time and were never tried, and do not wait for an earlier one."""
        query = select(func.count()).select_from(OUTBOX).where(*self._forgotten(before, now))
        return await self._database.read(lambda transaction: transaction.execute(query).scalar_one())

    def _forgotten(self, before: datetime, now: datetime) -> list[ColumnElement[bool]]:
        return [
            self._at("due_at") <= before,
            OUTBOX.c.type.in_(ANNOUNCEMENTS),
            self._at("attempts") == 0,
            self._free(now),
            ~self._waits_for_earlier(ANNOUNCEMENTS, tried=True),
        ]

    def _its_turn_has_come(self, given_up: Announcement, now: datetime) -> Any:
        """Those that waited behind one that was given up count as due from now on, not since they were written."""
        behind = (OUTBOX.c.connection_id == given_up.connection_id, OUTBOX.c.id > given_up.id)
        untried = (self._at("due_at") < now, self._at("attempts") == 0)
        return update(OUTBOX).where(*behind, *untried).values(self._way.values(due_at=now))

    def _columns(self, delivery: Delivery, now: datetime) -> dict[str, Any]:
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


def _lock_in_order(transaction: Transaction, deliveries: Sequence[Delivery]) -> None:
    """Lock the rows that are going to be written in the order of their ids: others write them on the other way."""
    given_up = [each.announcement.connection_id for each in deliveries if each.is_given_up]
    if transaction.dialect.name == "postgresql" and (given_up or len(deliveries) > 1):
        these = OUTBOX.c.id.in_([each.announcement.id for each in deliveries])
        behind = and_(OUTBOX.c.connection_id.in_(given_up), OUTBOX.c.id >= min(d.announcement.id for d in deliveries))
        transaction.execute(select(OUTBOX.c.id).where(or_(these, behind)).order_by(OUTBOX.c.id).with_for_update())
