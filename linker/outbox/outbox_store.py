"""The outbox in SQL: announcements wait here from the commit of their transition until the host has them.

Each is delivered at least once, and those of a connection in order: of each connection only the oldest that is not over
can be claimed. What waits behind one that failed is due when that is, so it is neither looked at in each claim nor
forgotten; what nobody took for a week, and nothing held up, expires.

The two channels write the same rows. Whoever waits for locks takes them in the order of the ids: nobody deadlocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Select, and_, func, literal_column, or_, select, update
from sqlalchemy import Connection as Transaction

from linker.database.database import Database
from linker.database.statements import materialized
from linker.engine.ports import Lease
from linker.outbox.announcements import Announcement, DeliveryOutcome
from linker.outbox.channels import HANDLERS, Channel
from linker.persistence.claims import lease_is_free
from linker.persistence.tables import OUTBOX
from linker.serialization import announced
from states.history import ANNOUNCEMENTS

#: What nobody took for so long is told no more.
EXPIRE_AFTER = timedelta(days=7)
#: No try is put off for longer than this, whatever the channel and whatever a receiver asks for.
LONGEST_PAUSE = timedelta(days=1)
#: How many expire in one transaction.
EXPIRE_BATCH_ROWS = 1_000
#: The error of an announcement that nobody was there to take.
UNCLAIMED = "unclaimed"


class OutboxStore:
    """The announcements of one database, on one of their two channels."""

    def __init__(self, database: Database, channel: Channel = HANDLERS) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database
        self._channel = channel

    def _column(self, name: str) -> ColumnElement[Any]:
        return self._channel.column(OUTBOX, name)

    async def claim_announcements(
        self, types: Collection[str], *, now: datetime, limit: int, lease: Lease
    ) -> list[Announcement]:
        """Lease announcements that are due, at most the oldest undelivered one of each connection."""

        def work(transaction: Transaction) -> list[Announcement]:
            rows = transaction.execute(self._claim(types, now, limit, lease, skip_locked=True)).mappings().all()
            if not rows and transaction.dialect.name == "postgresql":
                rows = transaction.execute(self._claim(types, now, limit, lease, skip_locked=False)).mappings().all()
            return [
                Announcement(
                    id=row["id"],
                    message_id=row["message_id"],
                    connection_id=row["connection_id"],
                    type=row["type"],
                    payload=announced(row["payload"]),
                    created_at=row["created_at"],
                    attempts=row[self._column("attempts")],
                    delivered_to=frozenset(row["delivered_to"]) if self._channel is HANDLERS else frozenset(),
                    give_up_at=row[self._column("give_up_at")],
                )
                for row in sorted(rows, key=lambda row: row["id"])
            ]

        return await self._database.write_without_fsync(work)

    def _claim(self, types: Collection[str], now: datetime, limit: int, lease: Lease, *, skip_locked: bool) -> Any:
        """The statement of a claim. `skip_locked`: leave out what others write just now.

        Those others may be at the same announcements on the other channel only: so a claim that found nothing waits for
        them and looks again. What comes earlier is asked for row by row where the index gives it in its order:
        PostgreSQL would put together all that waits, to find the first ten of it.
        """
        earlier = OUTBOX.alias("earlier")
        waiting = _undelivered(self._channel, earlier).where(earlier.c.type.in_(types))
        is_next = waiting.limit(1).scalar_subquery().is_(None) if self._channel.in_order else ~waiting.exists()
        due = (
            select(OUTBOX.c.id)
            .where(self._column("due_at") <= now, OUTBOX.c.type.in_(types), _is_free(self._channel, now), is_next)
            .order_by(*((self._column("due_at"), OUTBOX.c.id) if skip_locked else (OUTBOX.c.id,)))
            .limit(limit)
            .with_for_update(skip_locked=skip_locked, of=OUTBOX)
        )
        return (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(materialized(due)))
            .values(self._channel.values(lease_holder=lease.holder, lease_until=lease.until))
            .returning(OUTBOX)
        )

    async def settle_deliveries(
        self,
        outcomes: Sequence[DeliveryOutcome],
        *,
        now: datetime,
        lease: Lease,
        types: Collection[str] = ANNOUNCEMENTS,
    ) -> None:
        """Write down how deliveries ended, as far as they are still held under this lease.

        `types`: those that the deliverer takes. Only of them what comes behind a failure waits for it; those of others,
        who have handlers of their own, do not.
        """

        def work(transaction: Transaction) -> None:
            followed = [outcome.announcement.connection_id for outcome in outcomes if outcome.held_others_up]
            if transaction.dialect.name == "postgresql" and (followed or len(outcomes) > 1):
                ids = [outcome.announcement.id for outcome in outcomes]
                behind = and_(OUTBOX.c.connection_id.in_(followed), OUTBOX.c.id >= min(ids))
                written = or_(OUTBOX.c.id.in_(ids), behind)
                transaction.execute(select(OUTBOX.c.id).where(written).order_by(OUTBOX.c.id).with_for_update())
            for outcome in outcomes:
                told, is_delivered = outcome.announcement, outcome.due_at is None and outcome.error is None
                values = self._channel.values(
                    attempts=told.attempts + 1,
                    due_at=outcome.due_at,
                    last_error=outcome.error,
                    give_up_at=outcome.give_up_at,
                    delivered_at=now if is_delivered else None,
                    dead_at=now if outcome.is_given_up else None,
                    lease_holder=None,
                    lease_until=None,
                )
                if self._channel is HANDLERS:
                    values["delivered_to"] = sorted(outcome.delivered_to)
                held = (OUTBOX.c.id == told.id, self._column("lease_holder") == lease.holder)
                transaction.execute(update(OUTBOX).where(*held).values(values))
                if outcome.held_others_up:
                    kinds = types if outcome.due_at else ANNOUNCEMENTS  # what has ended holds nobody up any more
                    due_at = outcome.due_at or now
                    reschedule_followers(transaction, self._channel, told.connection_id, told.id, kinds, due_at)

        await self._database.write(work)

    async def release(self, lease: Lease) -> None:
        """Let others deliver what is still held under this lease."""
        held = update(OUTBOX).where(self._column("lease_holder") == lease.holder)
        free = held.values(self._channel.values(lease_holder=None, lease_until=None))
        await self._database.write_without_fsync(lambda transaction: transaction.execute(free))

    async def bring_back(self, *, now: datetime) -> int:
        """Let be due now what is to be tried again later than any pause is long: it was written by a wrong clock."""
        due_at = self._column("due_at")
        impossible = (OUTBOX.c.type.in_(ANNOUNCEMENTS), due_at > now + LONGEST_PAUSE)
        batch = select(OUTBOX.c.id).where(*impossible).order_by(OUTBOX.c.id).limit(EXPIRE_BATCH_ROWS)
        mended = (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(materialized(batch.with_for_update(skip_locked=True, of=OUTBOX))))
            .values(self._channel.values(due_at=now))
            .returning(OUTBOX.c.id)
        )
        return await self._database.write(lambda transaction: len(transaction.execute(mended).all()))

    async def expire_unclaimed(self, *, now: datetime) -> int:
        """Tell no more of a batch that nobody took for a week; gives how many those were."""
        unclaimed = is_unclaimed(self._channel, now - EXPIRE_AFTER, now)
        batch = select(OUTBOX.c.id).where(unclaimed).limit(EXPIRE_BATCH_ROWS)
        expire = (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(materialized(batch.with_for_update(skip_locked=True, of=OUTBOX))))
            .values(self._channel.values(due_at=None, last_error=UNCLAIMED))
            .returning(OUTBOX.c.id)
        )
        return await self._database.write(lambda transaction: len(transaction.execute(expire).all()))

    async def count_unclaimed(self, *, before: datetime, now: datetime) -> int:
        """How many were due before a time and were never tried."""
        query = select(func.count()).select_from(OUTBOX).where(is_unclaimed(self._channel, before, now))
        return await self._database.read(lambda transaction: transaction.execute(query).scalar_one())


def _is_free(channel: Channel, now: datetime) -> ColumnElement[bool]:
    return lease_is_free(channel.column(OUTBOX, "lease_until"), now)


def is_unclaimed(channel: Channel, before: datetime, now: datetime) -> ColumnElement[bool]:
    """That an announcement was due on a channel before a time, and neither it nor one that it waits for was tried."""
    due, untried = channel.column(OUTBOX, "due_at") <= before, channel.column(OUTBOX, "attempts") == 0
    earlier = OUTBOX.alias("earlier")
    waits = _undelivered(channel, earlier).where(channel.column(earlier, "attempts") > 0).exists()
    return and_(due, OUTBOX.c.type.in_(ANNOUNCEMENTS), untried, _is_free(channel, now), ~waits)


def _undelivered(channel: Channel, earlier: FromClause) -> Select[int]:
    """What is earlier of the same connection and not delivered yet."""
    return select(literal_column("1", Integer)).where(
        earlier.c.connection_id == OUTBOX.c.connection_id,
        earlier.c.id < OUTBOX.c.id,
        channel.column(earlier, "due_at").is_not(None),
    )


def reschedule_followers(
    transaction: Transaction,
    channel: Channel,
    connection_id: str,
    announcement: int,
    types: Collection[str],
    due_at: datetime,
) -> None:
    """Let what waits behind an announcement on a channel be due when that is tried again, or has ended."""
    behind = (OUTBOX.c.connection_id == connection_id, OUTBOX.c.id > announcement, OUTBOX.c.type.in_(types))
    untried = (channel.column(OUTBOX, "due_at").is_not(None), channel.column(OUTBOX, "attempts") == 0)
    transaction.execute(update(OUTBOX).where(*behind, *untried).values(channel.values(due_at=due_at)))
