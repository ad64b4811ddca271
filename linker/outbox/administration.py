"""The outbox as operators see it: what became of each announcement on each of its channels, and what they do about it.

A queued delivery is an announcement on one channel. What was delivered stays delivered; everything else can be tried
again or dropped, also while somebody delivers it: whoever does cannot write down any more what became of that try. What
waits behind it is locked with it, in the order of the ids as whoever delivers does, and may go on then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_, select, tuple_, update
from sqlalchemy import Connection as Transaction

from linker.database.database import Database
from linker.errors import NotFound, Refused
from linker.outbox.channels import CHANNELS, Channel
from linker.outbox.outbox_store import reschedule_followers
from linker.persistence.tables import OUTBOX
from states.history import ANNOUNCEMENTS

#: How many dead letters are retried in one transaction, and the pause after it: who waits for SQLite's lock asks for it
#: every 0.1 s.
BATCH_ROWS = 250
SQLITE_PAUSE_SECONDS = 0.15
POSTGRES_PAUSE_SECONDS = 0.02


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
    ) -> AsyncIterator[list[QueuedDelivery]]:
        """Let every dead letter be tried again now, and until a time; gives them batch by batch, each written by then.

        A batch is a short transaction of its own, of few connections: nobody has to wait for it.
        """
        for channel in channels:
            after: tuple[str, int] = ("", 0)
            while found := await self._database.read(partial(_dead, channel, after)):
                last = found[-1]
                after = (last.connection_id, last.id)
                ids = [row.id for row in found]
                yield await self._database.write(partial(_retried, channel, ids, now=now, until=until))
                await asyncio.sleep(SQLITE_PAUSE_SECONDS if self._database.is_sqlite else POSTGRES_PAUSE_SECONDS)

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


def _dead(channel: Channel, after: tuple[str, int], transaction: Transaction) -> Sequence[Any]:
    """The next dead letters on a channel, those of a connection together."""
    place = tuple_(OUTBOX.c.connection_id, OUTBOX.c.id)
    query = select(OUTBOX.c.id, OUTBOX.c.connection_id).where(channel.column(OUTBOX, "dead_at").is_not(None))
    return transaction.execute(query.where(place > after).order_by(*place.clauses).limit(BATCH_ROWS)).all()


def _retried(
    channel: Channel, ids: Sequence[int], transaction: Transaction, *, now: datetime, until: datetime
) -> list[QueuedDelivery]:
    """Let these dead letters be tried again, as far as they are still dead, and what waits behind them be due."""
    connections = select(OUTBOX.c.connection_id).where(OUTBOX.c.id.in_(ids))
    behind = (OUTBOX.c.connection_id.in_(connections), OUTBOX.c.id > min(ids))
    untried = (channel.column(OUTBOX, "due_at").is_not(None), channel.column(OUTBOX, "attempts") == 0)
    followers = and_(*behind, OUTBOX.c.type.in_(ANNOUNCEMENTS), *untried)
    locked = select(OUTBOX.c.id).where(or_(OUTBOX.c.id.in_(ids), followers)).order_by(OUTBOX.c.id).with_for_update()
    transaction.execute(locked).all()
    transaction.execute(update(OUTBOX).where(followers).values(channel.values(due_at=now)))
    dead = (OUTBOX.c.id.in_(ids), channel.column(OUTBOX, "dead_at").is_not(None))
    columns = channel.values(**_again(now, until), lease_holder=None, lease_until=None)
    written = transaction.execute(update(OUTBOX).where(*dead).values(columns).returning(OUTBOX.c.id)).scalars().all()
    query = select(*ROW).where(OUTBOX.c.id.in_(written)).order_by(OUTBOX.c.id)
    return [_delivery(row, channel) for row in transaction.execute(query).mappings()]


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
