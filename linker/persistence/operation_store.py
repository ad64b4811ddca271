"""Operations: what an operator does to many connections, as rows: a plan, how far it has come, and what became of each.

An item follows the version of its connection as far as we ourselves move it. So whoever takes up an operation whose
process was killed knows for each item whether nothing happened, whether we did it (a step of the connection names the
operation, in the commit of the change), or whether somebody else was faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import and_, func, insert, null, or_, select, update

from linker.database.database import Database
from linker.database.statements import insert_into
from linker.engine.ports import Lease
from linker.errors import BadInput, NotFound
from linker.persistence.claims import lease_is_free
from linker.persistence.connection_store import ConnectionStore, lease_terms
from linker.persistence.tables import CONNECTION, OPERATION, OPERATION_ITEM, STEP
from linker.validation.text import known_id
from states.connection import Connection

#: How many items are written, and read, at a time.
BATCH_ITEMS = 500
#: How many ids are named where one was meant.
NAMED_IDS = 3
_ITEM = OPERATION_ITEM.c


@dataclass(frozen=True, kw_only=True)
class OperationItem:
    """One connection of an operation."""

    position: int
    connection_id: str
    #: The version that it was planned at, or that we have brought it to.
    version: int
    #: What was foreseen, as the plan's JSON has it.
    planned: Mapping[str, Any] = field(default_factory=dict)
    outcome: str | None = None
    #: What is told of the outcome; before it, `holder`: who claimed the connection for it.
    told: Mapping[str, Any] | None = None
    done_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What an operator does to many connections. Times are aware, in UTC."""

    id: str
    verb: str
    #: What the verb takes beside the connection: `to`, `texts`.
    params: Mapping[str, Any]
    #: The words that the connections were selected by, for people to read.
    selector: Mapping[str, Any]
    reason: str | None
    actor: str
    law: str
    made_at: datetime
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    finished_at: datetime | None = None
    #: At most so many connections are begun in a second.
    rate: float
    lease_holder: str | None = None
    lease_until: datetime | None = None
    #: How many items have each outcome; those without one are under `left`.
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many connections it is about."""
        return sum(self.counts.values())

    @property
    def status(self) -> str:
        """`finished`, `stopped` by somebody, `running`, or `interrupted`: it can be resumed."""
        if self.finished_at is not None:
            return "finished"
        if self.stopped_at is not None:
            return "stopped"
        return "running" if self.lease_holder is not None else "interrupted"


class HeldByOthers(Exception):
    """Somebody else holds the connection, at the version that was planned."""


class _NoRoom(Exception):
    """The calls that an account shares are used up until a time."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class OperationStore:
    """Operations in one database. Every method is one transaction."""

    def __init__(self, database: Database, connections: ConnectionStore) -> None:
        """Take the database, and what takes leases in it."""
        self._database = database
        self._connections = connections

    async def begin(self, operation: Operation, items: Sequence[OperationItem]) -> bool:
        """Write an operation with its items, if there is none of its id yet; True if it was written."""
        columns = {name: value for name, value in vars(operation).items() if name != "counts"}
        rows = [{"operation_id": operation.id, **vars(item)} for item in items]

        def work(transaction: Transaction) -> bool:
            new = insert_into(transaction, OPERATION).values(columns).on_conflict_do_nothing().returning(OPERATION.c.id)
            if transaction.execute(new).first() is None:
                return False
            for start in range(0, len(rows), BATCH_ITEMS):
                transaction.execute(insert(OPERATION_ITEM), rows[start : start + BATCH_ITEMS])
            return True

        return await self._database.write(work)

    async def take(self, operation_id: str, lease: Lease, now: datetime) -> bool:
        """Be the one who carries an operation out, from now on; False if somebody else does."""
        free = or_(lease_is_free(OPERATION.c.lease_until, now), OPERATION.c.lease_holder.is_(None))
        taken = (
            update(OPERATION)
            .where(OPERATION.c.id == operation_id, free)
            .values(lease_holder=lease.holder, lease_until=lease.until, stopped_at=null())
        )
        return await self._database.write(lambda transaction: transaction.execute(taken).rowcount == 1)

    async def renew(self, operation_id: str, lease: Lease) -> bool:
        """Go on carrying it out; False if somebody stopped it, or took it over."""
        ours = and_(OPERATION.c.id == operation_id, OPERATION.c.lease_holder == lease.holder)
        goes_on = update(OPERATION).where(ours, OPERATION.c.stopped_at.is_(None)).values(lease_until=lease.until)
        return await self._database.write_without_fsync(lambda transaction: transaction.execute(goes_on).rowcount == 1)

    async def end(self, operation_id: str, lease: Lease, now: datetime) -> None:
        """Carry it out no longer; it is finished once nothing is left of it."""

        def work(transaction: Transaction) -> None:
            left = select(_ITEM.position).where(_ITEM.operation_id == operation_id, _ITEM.outcome.is_(None)).limit(1)
            ours = and_(OPERATION.c.id == operation_id, OPERATION.c.lease_holder == lease.holder)
            values: dict[str, Any] = {"lease_holder": null(), "lease_until": null()}
            if transaction.execute(left).first() is None:
                values["finished_at"] = now
            transaction.execute(update(OPERATION).where(ours).values(values))

        await self._database.write(work)

    async def stop(self, operation_id: str, now: datetime) -> Operation:
        """Let whoever carries it out begin nothing more; gives it as it is then. Raises as `get` does."""
        operation = await self.get(operation_id)
        open_ones = and_(OPERATION.c.id == operation.id, OPERATION.c.finished_at.is_(None))
        stopped = update(OPERATION).where(open_ones).values(stopped_at=now)
        await self._database.write(lambda transaction: transaction.execute(stopped))
        return await self.get(operation.id)

    # items

    async def left(self, operation_id: str, after: int) -> list[OperationItem]:
        """The next items without an outcome, behind a position."""
        query = select(OPERATION_ITEM).where(
            _ITEM.operation_id == operation_id, _ITEM.outcome.is_(None), _ITEM.position > after
        )
        return await self._items(query.order_by(_ITEM.position).limit(BATCH_ITEMS))

    async def items(self, operation_id: str) -> list[OperationItem]:
        """All items."""
        query = select(OPERATION_ITEM).where(_ITEM.operation_id == operation_id)
        return await self._items(query.order_by(_ITEM.position))

    async def _items(self, query: Any) -> list[OperationItem]:
        rows = await self._database.read(lambda transaction: transaction.execute(query).mappings().all())
        return [OperationItem(**{name: row[name] for name in OperationItem.__dataclass_fields__}) for row in rows]

    async def claim(
        self, operation_id: str, item: OperationItem, *, now: datetime, lease: Lease
    ) -> Connection | datetime | None:
        """Lease an item's connection at its version, and let the item follow it, in one commit.

        Gives None if it is at another version, and the time when there is room for it if the calls that it shares with
        others are used up.

        Raises:
            NotFound: there is no such connection any more.
            HeldByOthers: somebody else is at it.
            RowUnreadable: its row is damaged.
        """
        this = CONNECTION.c.id == item.connection_id
        of_item = and_(_ITEM.operation_id == operation_id, _ITEM.position == item.position)
        standing = select(CONNECTION.c.version, CONNECTION.c.lease_holder, CONNECTION.c.lease_until)

        def work(transaction: Transaction) -> Connection | None:
            row = transaction.execute(standing.where(this).with_for_update()).first()
            if row is None:
                raise NotFound(item.connection_id)
            if row.version != item.version:
                return None
            if row.lease_until is not None and row.lease_until > now:
                if not item.told or item.told.get("holder") != row.lease_holder:
                    raise HeldByOthers
                transaction.execute(update(CONNECTION).where(this).values(lease_holder=null(), lease_until=null()))
            terms = {"this": item.connection_id, **lease_terms(now, lease)}
            claimed = self._connections.claims.one_giving_way(transaction, terms)
            assert claimed is not None, "its lease is free, and nobody else can take it meanwhile"
            if isinstance(claimed, datetime):
                raise _NoRoom(claimed)
            transaction.execute(
                update(OPERATION_ITEM).where(of_item).values(version=claimed.version, told={"holder": lease.holder})
            )
            return claimed

        try:
            return await self._database.write(work)
        except _NoRoom as full:  # and what was claimed is undone
            return full.until

    async def has_done(self, operation_id: str, connection_id: str) -> bool:
        """True if an operation wrote a step of a connection."""
        ours = select(STEP.c.seq).where(STEP.c.connection_id == connection_id, STEP.c.operation == operation_id)
        return await self._database.read(lambda transaction: transaction.execute(ours.limit(1)).first() is not None)

    async def finish(
        self, operation_id: str, position: int, outcome: str, told: Mapping[str, Any], now: datetime
    ) -> None:
        """Write down what became of an item."""
        of_item = and_(_ITEM.operation_id == operation_id, _ITEM.position == position, _ITEM.outcome.is_(None))
        done = update(OPERATION_ITEM).where(of_item).values(outcome=outcome, told=dict(told), done_at=now)
        await self._database.write(lambda transaction: transaction.execute(done))

    # looking

    async def get(self, operation_id: str) -> Operation:
        """One operation, by its id or its beginning. Raises NotFound, and BadInput if several begin so."""
        operation_id = known_id(operation_id, what="operation")
        found = await self._find(OPERATION.c.id == operation_id, 1)
        if not found:
            found = await self._find(OPERATION.c.id.startswith(operation_id, autoescape=True), NAMED_IDS)
        if len(found) > 1:
            raise BadInput("operation", "ambiguous", prefix=operation_id, begins=[each.id for each in found])
        if not found:
            raise NotFound(operation_id, what="operation")
        return found[0]

    async def latest(self, limit: int) -> list[Operation]:
        """Operations, the latest first."""
        return await self._find(OPERATION.c.id.is_not(None), limit)

    async def _find(self, condition: Any, limit: int) -> list[Operation]:
        query = select(OPERATION).where(condition).order_by(OPERATION.c.made_at.desc(), OPERATION.c.id).limit(limit)

        def work(transaction: Transaction) -> list[Operation]:
            rows = transaction.execute(query).mappings().all()
            counting = (
                select(_ITEM.operation_id, _ITEM.outcome, func.count())
                .where(_ITEM.operation_id.in_([row["id"] for row in rows]))
                .group_by(_ITEM.operation_id, _ITEM.outcome)
            )
            counts: dict[str, dict[str, int]] = {}
            for operation_id, outcome, count in transaction.execute(counting):
                counts.setdefault(operation_id, {})[outcome or "left"] = count
            return [Operation(**row, counts=counts.get(row["id"], {})) for row in rows]

        return await self._database.read(work)
