"""The outbox as operators see it: what became of each announcement on each of its ways, and what they do about it.

A letter is an announcement on one way. What was delivered stays delivered; everything else can be tried again or
dropped, also while somebody delivers it.
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
    """Where a letter stands, in the order of its life."""

    #: Not tried yet: it waits for a process that delivers on its way, or for an earlier one of its connection.
    PENDING = "pending"
    #: Tried without success; it is tried again.
    RETRYING = "retrying"
    #: Every receiver on its way has it.
    DELIVERED = "delivered"
    #: Given up, after three days of tries or because the receiver is gone for good.
    DEAD = "dead"
    #: An operator took it out.
    DROPPED = "dropped"
    #: Nobody was there to take it for a week.
    LAPSED = "lapsed"


#: Those that are first meant when an operator wants a letter tried again.
TRIED = frozenset({DeliveryState.RETRYING, DeliveryState.DEAD, DeliveryState.DROPPED})


@dataclass(frozen=True, kw_only=True)
class QueuedDelivery:
    """An announcement on one of its ways."""

    id: str
    connection_id: str
    type: str
    way: Channel
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
    dead_at: datetime | None
    dropped_at: datetime | None


class OutboxAdministration:
    """The letters of one database."""

    def __init__(self, database: Database) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database

    async def find(
        self, wanted: Mapping[Channel, Collection[DeliveryState]], *, connection_id: str | None = None, limit: int
    ) -> list[QueuedDelivery]:
        """Read letters, newest first: on each way those in the states that are wanted there."""

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            found: list[tuple[int, QueuedDelivery]] = []
            for way, states in wanted.items():
                query = select(*ROW).where(_state(way).in_(states)).order_by(OUTBOX.c.id.desc()).limit(limit)
                if connection_id is not None:
                    query = query.where(OUTBOX.c.connection_id == connection_id)
                found += [(row["id"], _letter(row, way)) for row in transaction.execute(query).mappings()]
            return [letter for _, letter in sorted(found, key=lambda each: -each[0])][:limit]

        return await self._database.read(work)

    async def retry(
        self, ids: Sequence[str], *, ways: Collection[Channel] = CHANNELS, now: datetime, until: datetime
    ) -> list[QueuedDelivery]:
        """Let announcements be tried again now, and until a time: where they failed, or else where nobody was there.

        Raises:
            NotFound: there is no such announcement. Nothing was changed.
            Refused: one has been delivered. Nothing was changed.
        """

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            meant = []
            for row in _rows(transaction, ids):
                open_ones = _undelivered(row, ways)
                meant += [letter for letter in open_ones if letter.state in TRIED] or open_ones
            return _written(transaction, meant, _again(now, until), now)

        return await self._database.write(work)

    async def retry_dead(
        self, *, ways: Collection[Channel] = CHANNELS, now: datetime, until: datetime
    ) -> list[QueuedDelivery]:
        """Let every dead letter be tried again now, and until a time."""

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            dead = or_(*(_state(way) == DeliveryState.DEAD for way in ways))
            ids = transaction.execute(select(OUTBOX.c.message_id).where(dead)).scalars().all()
            every = [_letter(row, way) for row in _rows(transaction, ids) for way in ways]
            meant = [letter for letter in every if letter.state is DeliveryState.DEAD]
            return _written(transaction, meant, _again(now, until), now)

        return await self._database.write(work)

    async def drop(
        self, ids: Sequence[str], *, ways: Collection[Channel] = CHANNELS, now: datetime, reason: str
    ) -> list[QueuedDelivery]:
        """Take announcements out, wherever they are not delivered yet; those behind them go on.

        Raises:
            NotFound: there is no such announcement. Nothing was changed.
            Refused: one has been delivered. Nothing was changed.
        """
        out = {"due_at": None, "dead_at": None, "dropped_at": now, "last_error": reason} | _OUT_OF_HAND

        def work(transaction: Transaction) -> list[QueuedDelivery]:
            meant = [letter for row in _rows(transaction, ids) for letter in _undelivered(row, ways)]
            return _written(transaction, meant, out, now)

        return await self._database.write(work)


#: Whoever is delivering it cannot write down any more what became of that try.
_OUT_OF_HAND = {"lease_holder": None, "lease_until": None}


def _again(now: datetime, until: datetime) -> dict[str, Any]:
    tried_anew = {"due_at": now, "attempts": 0, "dead_at": None, "dropped_at": None, "give_up_at": until}
    return tried_anew | _OUT_OF_HAND


def _state(way: Channel) -> ColumnElement[str]:
    def at(column: str) -> ColumnElement[Any]:
        return way.of(OUTBOX, column)

    untried = and_(at("attempts") == 0, at("last_error").is_(None))
    return case(
        (at("delivered_at").is_not(None), DeliveryState.DELIVERED.value),
        (at("dead_at").is_not(None), DeliveryState.DEAD.value),
        (at("dropped_at").is_not(None), DeliveryState.DROPPED.value),
        (at("due_at").is_(None), DeliveryState.LAPSED.value),
        (untried, DeliveryState.PENDING.value),
        else_=DeliveryState.RETRYING.value,
    )


#: A row with the state of its letter on each way.
ROW: tuple[Any, ...] = (OUTBOX, *(_state(way).label(f"{way.name}_state") for way in CHANNELS))


def _letter(row: Mapping[Any, Any], way: Channel) -> QueuedDelivery:
    columns = ("attempts", "due_at", "last_error", "delivered_at", "dead_at", "dropped_at")
    return QueuedDelivery(
        id=row["message_id"],
        connection_id=row["connection_id"],
        type=row["type"],
        way=way,
        state=DeliveryState(row[f"{way.name}_state"]),
        created_at=row["created_at"],
        **{column: row[way.of(OUTBOX, column)] for column in columns},
    )


def _rows(transaction: Transaction, ids: Sequence[str]) -> list[Mapping[Any, Any]]:
    """The rows of announcements, in the order in which they were written. Raises NotFound."""
    _lock_all_of_their_connections(transaction, ids)
    query = select(*ROW).where(OUTBOX.c.message_id.in_(ids)).order_by(OUTBOX.c.id)
    found: list[Mapping[Any, Any]] = list(transaction.execute(query).mappings())
    missing = set(ids) - {row["message_id"] for row in found}
    if missing:
        raise NotFound(min(missing), what="announcement", shown_by="outbox list")
    return found


def _lock_all_of_their_connections(transaction: Transaction, ids: Sequence[str]) -> None:
    """Lock what waits behind these announcements too, in the order of the ids as whoever delivers does."""
    theirs = select(OUTBOX.c.connection_id).where(OUTBOX.c.message_id.in_(ids))
    query = select(OUTBOX.c.id).where(OUTBOX.c.connection_id.in_(theirs)).order_by(OUTBOX.c.id)
    transaction.execute(query.with_for_update()).all()


def _undelivered(row: Mapping[Any, Any], ways: Collection[Channel]) -> list[QueuedDelivery]:
    """The letters of an announcement that are not delivered. Raises Refused."""
    letters = [_letter(row, way) for way in ways]
    undelivered = [letter for letter in letters if letter.state is not DeliveryState.DELIVERED]
    if not undelivered:
        raise Refused(f"{row['message_id']} has been delivered: nothing is left to be done for it.")
    return undelivered


def _written(
    transaction: Transaction, letters: Sequence[QueuedDelivery], values: Mapping[str, Any], now: datetime
) -> list[QueuedDelivery]:
    """Write the same into letters; gives them as they are then. What waits behind them may go on now."""
    written = []
    for letter in letters:
        this = OUTBOX.c.message_id == letter.id
        transaction.execute(update(OUTBOX).where(this).values(letter.way.values(**values)))
        row = transaction.execute(select(*ROW).where(this)).mappings().one()
        reschedule_followers(transaction, letter.way, letter.connection_id, row["id"], ANNOUNCEMENTS, now)
        written.append(_letter(row, letter.way))
    return written
