"""The outbox in SQL: announcements wait here from the commit of their transition until the host has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import exists, or_, select, update

from linker.database import Database, chosen_once
from linker.ports import Announcement, Delivery, Lease
from linker.rows import OutboxRow

OUTBOX = OutboxRow.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes


class SqlOutbox:
    """The announcements of one database."""

    def __init__(self, database: Database) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database

    async def claim_announcements(
        self, types: Collection[str], *, now: datetime, limit: int, lease: Lease
    ) -> list[Announcement]:
        """Lease announcements that are due, at most the oldest undelivered one of each connection."""
        earlier = OUTBOX.alias("earlier")
        waits_for_earlier = exists().where(
            earlier.c.connection_id == OUTBOX.c.connection_id,
            earlier.c.id < OUTBOX.c.id,
            earlier.c.due_at.is_not(None),
            earlier.c.type.in_(types),
        )
        due = (
            select(OUTBOX.c.id)
            .where(
                OUTBOX.c.due_at <= now,
                OUTBOX.c.type.in_(types),
                or_(OUTBOX.c.lease_until.is_(None), OUTBOX.c.lease_until <= now),
                ~waits_for_earlier,
            )
            .order_by(OUTBOX.c.due_at, OUTBOX.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=OUTBOX)
        )
        leased = (
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(chosen_once(due)))
            .values(lease_holder=lease.holder, lease_until=lease.until)
            .returning(OUTBOX)
        )

        def work(transaction: Transaction) -> list[Announcement]:
            return [_announcement(row) for row in transaction.execute(leased).mappings()]

        return sorted(await self._database.write(work), key=lambda found: found.id)

    async def settle_deliveries(self, deliveries: Sequence[Delivery], *, now: datetime, lease: Lease) -> None:
        """Write down how deliveries ended, as far as they are still held under this lease."""

        def work(transaction: Transaction) -> None:
            for delivery in deliveries:
                held = (OUTBOX.c.id == delivery.announcement.id, OUTBOX.c.lease_holder == lease.holder)
                transaction.execute(update(OUTBOX).where(*held).values(_columns(delivery, now)))

        await self._database.write(work)


def _columns(delivery: Delivery, now: datetime) -> dict[str, Any]:
    over = delivery.due_at is None
    return {
        "attempts": delivery.announcement.attempts + 1,
        "delivered_to": sorted(delivery.delivered_to),
        "due_at": delivery.due_at,
        "last_error": delivery.error,
        "delivered_at": now if over and delivery.error is None else None,
        "dead_at": now if over and delivery.error is not None else None,
        "lease_holder": None,
        "lease_until": None,
    }


def _announcement(row: Mapping[Any, Any]) -> Announcement:
    return Announcement(
        id=row["id"],
        message_id=row["message_id"],
        connection_id=row["connection_id"],
        type=row["type"],
        payload=row["payload"],
        created_at=row["created_at"],
        attempts=row["attempts"],
        delivered_to=frozenset(row["delivered_to"]),
    )
