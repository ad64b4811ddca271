"""The outbox as operators see it: what became of each announcement on each of its channels, and what they do about it.

A queued delivery is an announcement on one channel. What was delivered stays delivered; everything else can be tried
again or dropped, also while somebody delivers it: whoever does cannot write down any more what became of that try. What
waits behind it is locked with it, in the order of the ids as whoever delivers does, and may go on then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_, select, update
from sqlalchemy import Connection as Transaction

from linker.database.database import Database
from linker.errors import NotFound, Refused
from linker.outbox.channels import CHANNELS, Channel
from linker.outbox.outbox_store import reschedule_followers
from linker.persistence.tables import OUTBOX
from states.history import ANNOUNCEMENTS


class DeliveryState(StrEnum):
    """Where a queued delivery stands, in the order of its life."""

    #: Not tried yet: it waits for a process that delivers on its channel, or for an earlier one of its connection.
    PENDING = "pending"
    #: Tried without success; it is tried again.
    RETRYING = "retrying"
    #: Every receiver on its channel has it.
    DELIVERED = "delivered"
    #: Given up, after three days of tries or because the receiver is gone for good.
    DEAD = "dead"
    #: An operator took it out.
    DROPPED = "dropped"
    #: Nobody was there to take it for a week.
    LAPSED = "lapsed"


#: Those that are first meant when an operator wants something tried again.
TRIED = frozenset({DeliveryState.RETRYING, DeliveryState.DEAD, DeliveryState.DROPPED})


@dataclass(frozen=True, kw_only=True)
class QueuedDelivery:
    """An announcement on one of its channels."""

    id: str
    connection_id: str
    type: str
    channel: Channel
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
    dead_at: datetime | None
    dropped_at: datetime | None


class OutboxAdministration:
    """The queued deliveries of one database."""

    def __init__(self, database: Database) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database

    async def find(
        self, wanted: Mapping[Channel, Collection[DeliveryState]], *, connection_id: str | None = None, limit: int
    ) -> list[QueuedDelivery]:
        """Read queued deliveries, newest first: on each channel those in the states that are wanted there."""

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            found: list[tuple[int, QueuedDelivery]] = []
            for channel, states in wanted.items():
                query = select(*ROW).where(_state(channel).in_(states)).order_by(OUTBOX.c.id.desc()).limit(limit)
                if connection_id is not None:
                    query = query.where(OUTBOX.c.connection_id == connection_id)
                found += [(row["id"], _delivery(row, channel)) for row in transaction.execute(query).mappings()]
            return [delivery for _, delivery in sorted(found, key=lambda each: -each[0])][:limit]

        return await self._database.read(work)

    async def retry(
        self, ids: Sequence[str], *, channels: Collection[Channel] = CHANNELS, now: datetime, until: datetime
    ) -> list[QueuedDelivery]:
        """Let announcements be tried again now, and until a time: where they failed, or else where nobody was there.

        Raises:
            NotFound: there is no such announcement. Nothing was changed.
            Refused: one has been delivered. Nothing was changed.
        """

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            meant = []
            for row in _rows(transaction, ids):
                undelivered = _undelivered(row, channels)
                meant += [delivery for delivery in undelivered if delivery.state in TRIED] or undelivered
            return _written(transaction, meant, _again(now, until), now)

        return await self._database.write(work)

    async def retry_dead(
        self, *, channels: Collection[Channel] = CHANNELS, now: datetime, until: datetime
    ) -> list[QueuedDelivery]:
        """Let every dead letter be tried again now, and until a time."""

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            dead = or_(*(_state(channel) == DeliveryState.DEAD for channel in channels))
            ids = transaction.execute(select(OUTBOX.c.message_id).where(dead)).scalars().all()
            every = [_delivery(row, channel) for row in _rows(transaction, ids) for channel in channels]
            meant = [delivery for delivery in every if delivery.state is DeliveryState.DEAD]
            return _written(transaction, meant, _again(now, until), now)

        return await self._database.write(work)

    async def drop(
        self, ids: Sequence[str], *, channels: Collection[Channel] = CHANNELS, now: datetime, reason: str
    ) -> list[QueuedDelivery]:
        """Take announcements out, wherever they are not delivered yet; those behind them go on.

        Raises:
            NotFound: there is no such announcement. Nothing was changed.
            Refused: one has been delivered. Nothing was changed.
        """
        dropped = {"due_at": None, "dead_at": None, "dropped_at": now, "last_error": reason}

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            meant = [delivery for row in _rows(transaction, ids) for delivery in _undelivered(row, channels)]
            return _written(transaction, meant, dropped, now)

        return await self._database.write(work)


def _again(now: datetime, until: datetime) -> dict[str, Any]:
    return {"due_at": now, "attempts": 0, "dead_at": None, "dropped_at": None, "give_up_at": until}


def _state(channel: Channel) -> ColumnElement[str]:
    names = ("attempts", "last_error", "delivered_at", "dead_at", "dropped_at", "due_at")
    attempts, last_error, delivered_at, dead_at, dropped_at, due_at = (channel.column(OUTBOX, name) for name in names)
    return case(
        (delivered_at.is_not(None), DeliveryState.DELIVERED.value),
        (dead_at.is_not(None), DeliveryState.DEAD.value),
        (dropped_at.is_not(None), DeliveryState.DROPPED.value),
        (due_at.is_(None), DeliveryState.LAPSED.value),
        (and_(attempts == 0, last_error.is_(None)), DeliveryState.PENDING.value),
        else_=DeliveryState.RETRYING.value,
    )


#: A row with its state on each channel.
ROW: tuple[Any, ...] = (OUTBOX, *(_state(channel).label(f"{channel.name}_state") for channel in CHANNELS))


def _delivery(row: Mapping[Any, Any], channel: Channel) -> QueuedDelivery:
    names = ("attempts", "due_at", "last_error", "delivered_at", "dead_at", "dropped_at")
    return QueuedDelivery(
        id=row["message_id"],
        connection_id=row["connection_id"],
        type=row["type"],
        channel=channel,
        state=DeliveryState(row[f"{channel.name}_state"]),
        created_at=row["created_at"],
        **{name: row[channel.column(OUTBOX, name)] for name in names},
    )


def _rows(transaction: Transaction, ids: Sequence[str]) -> list[Mapping[Any, Any]]:
    """The rows of announcements, in the order in which they were written, locked with all of their connections.

    Raises:
        NotFound: there is no such announcement.
    """
    connections = select(OUTBOX.c.connection_id).where(OUTBOX.c.message_id.in_(ids))
    locked = select(OUTBOX.c.id).where(OUTBOX.c.connection_id.in_(connections)).order_by(OUTBOX.c.id).with_for_update()
    transaction.execute(locked).all()
    query = select(*ROW).where(OUTBOX.c.message_id.in_(ids)).order_by(OUTBOX.c.id)
    found: list[Mapping[Any, Any]] = list(transaction.execute(query).mappings())
    missing = set(ids) - {row["message_id"] for row in found}
    if missing:
        raise NotFound(min(missing), what="announcement")
    return found


def _undelivered(row: Mapping[Any, Any], channels: Collection[Channel]) -> list[QueuedDelivery]:
    """The channels on which an announcement is not delivered. Raises Refused."""
    deliveries = [_delivery(row, channel) for channel in channels]
    undelivered = [delivery for delivery in deliveries if delivery.state is not DeliveryState.DELIVERED]
    if not undelivered:
        raise Refused("delivered", announcement=row["message_id"])
    return undelivered


def _written(
    transaction: Transaction, deliveries: Sequence[QueuedDelivery], values: Mapping[str, Any], now: datetime
) -> list[QueuedDelivery]:
    """Write the same into queued deliveries, and take them from whoever holds them; gives them as they are then."""
    written = []
    for delivery in deliveries:
        channel, this = delivery.channel, OUTBOX.c.message_id == delivery.id
        columns = channel.values(**values, lease_holder=None, lease_until=None)
        transaction.execute(update(OUTBOX).where(this).values(columns))
        row = transaction.execute(select(*ROW).where(this)).mappings().one()
        reschedule_followers(transaction, channel, delivery.connection_id, row["id"], ANNOUNCEMENTS, now)
        written.append(_delivery(row, channel))
    return written
