"""The store: connections, steps and announcements in SQL, on SQLite and on PostgreSQL.

Every write compares the version that was read (the fencing token) and every method is one transaction. The tables are
written with statements rather than with an ORM session: a batch of a thousand is a handful of statements.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, case, func, insert, or_, select, text, update

from linker.database.database import Database
from linker.database.statements import CompiledStatement
from linker.engine.ports import Lease, Settlement
from linker.errors import LinkerError, NotFound, RowUnreadable
from linker.persistence import mapping, schema
from linker.persistence.claims import Claims, Taken, due_by_owner_round_robin, quarantine
from linker.persistence.rate_limits import SharedRateLimits
from linker.persistence.settlements import (
    NO_LEASE,
    NotAllWritten,
    SettlementWriter,
    lock_in_order,
    note,
    tell,
    write_all,
    write_each,
)
from linker.persistence.tables import CONNECTION, STEP, TROUBLED
from linker.settings import Settings
from states.connection import Connection, ConnectionState
from states.history import Step
from states.problems import PROBLEMS, ProblemOwner
from states.table import LAW

log = structlog.get_logger("linker")

#: Problems that wait for a person.
WAITING_FOR_PEOPLE = [
    code.value for code, advice in PROBLEMS.items() if advice.owner in {ProblemOwner.CUSTOMER, ProblemOwner.OPERATOR}
]

_BY_ID = select(CONNECTION).where(CONNECTION.c.id == bindparam("this"))


class ConnectionStore:
    """The memory of all connections, in one database."""

    def __init__(self, database: Database, rations: SharedRateLimits | None = None) -> None:
        """Take the database, and the rations that its workers share; nothing is opened yet."""
        self._database = database
        self._lookup = _Lookup()
        self._settling = SettlementWriter(database.dialect)
        self._claiming = Claims(rations or SharedRateLimits(), database.dialect)

    async def open(self) -> None:
        """Make sure that the schema fits. Raises SchemaMismatch, StoreUnavailable."""
        await self._database.run_in_thread(schema.check)

    async def add(self, opened: Settlement) -> Connection:
        """Write a new connection with its first step."""

        def work(transaction: Transaction) -> None:
            kept = {
                "version": opened.before.version + 1,
                "last_seq": 1,
                "updated_at": opened.after.created_at,
                "law": LAW,
            }
            transaction.execute(insert(CONNECTION), mapping.changed_columns(None, opened.after) | kept)
            note(transaction, notes)
            tell(transaction)

        notes = self._settling.notes([opened])
        await self._database.write(work)
        return await self.get(opened.after.id)

    async def get(self, connection_id: str) -> Connection:
        """Read one connection. Raises NotFound."""
        found = await self._database.read(lambda transaction: self._lookup.one(transaction, connection_id))
        if found is None:
            raise NotFound(connection_id)
        return found

    async def find(
        self,
        *,
        state: ConnectionState | None = None,
        owner: str | None = None,
        stuck: bool = False,
        limit: int | None = None,
    ) -> list[Connection]:
        """Read connections, oldest first. `stuck`: only open ones that a person has to act for."""
        query = select(CONNECTION).order_by(CONNECTION.c.created_at, CONNECTION.c.id).limit(limit)
        if state is not None:
            query = query.where(CONNECTION.c.state == state.value)
        if owner is not None:
            query = query.where(CONNECTION.c.owner == owner)
        if stuck:
            query = query.where(text(TROUBLED), _needs_a_person())

        def work(transaction: Transaction) -> list[Connection]:
            try:
                return [mapping.connection(row) for row in transaction.execute(query).mappings()]
            except mapping.UNREADABLE:
                ids = transaction.execute(query.with_only_columns(CONNECTION.c.id)).scalars().all()
                return self._lookup.readable(transaction, ids)

        return await self._database.read(work)

    async def connections_with_accounts(self, accounts: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The ids of the open connections among these, which are named by owner and Workable account id."""
        owners, account_ids = {owner for owner, _ in accounts}, {account_id for _, account_id in accounts}
        query = select(CONNECTION.c.owner, CONNECTION.c.account_id, CONNECTION.c.id).where(
            CONNECTION.c.owner.in_(owners), CONNECTION.c.account_id.in_(account_ids), CONNECTION.c.closed_at.is_(None)
        )

        def work(transaction: Transaction) -> dict[tuple[str, str], str]:
            found = {(owner, account_id): one for owner, account_id, one in transaction.execute(query)}
            return {account: found[account] for account in accounts if account in found}

        return await self._database.read(work)

    async def history(self, connection_id: str) -> list[Step]:
        """Read a connection's steps, first one first. Raises NotFound."""
        query = select(STEP).where(STEP.c.connection_id == connection_id).order_by(STEP.c.seq)

        def work(transaction: Transaction) -> list[Step]:
            return [mapping.step(row) for row in transaction.execute(query).mappings()]

        steps = await self._database.read(work)
        if not steps:
            raise NotFound(connection_id)
        return steps

    async def claim(self, connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
        """Lease one connection; None if somebody else holds it. Raises NotFound."""
        terms = {"this": connection_id, "now": now, "holder": lease.holder, "until": lease.until}
        claimed = await self._database.write_without_fsync(lambda transaction: self._claiming.one(transaction, terms))
        if claimed is None:
            await self.get(connection_id)
        return claimed

    async def claim_due(self, *, now: datetime, limit: int, lease: Lease) -> list[Connection]:
        """Lease up to `limit` connections that are due, longest due first."""
        terms = {"now": now, "most": limit, "holder": lease.holder, "until": lease.until}
        return await self._claimed(lambda transaction: self._claiming.due(transaction, terms), lease, now)

    async def turns(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """The ids and states of up to `limit` connections that are due, taking turns among their owners."""
        query = due_by_owner_round_robin(now, limit)
        due = await self._database.read(lambda transaction: transaction.execute(query).all())
        return [(connection_id, state) for connection_id, state in due if isinstance(connection_id, str)]

    async def next_due(self, *, before: datetime) -> datetime | None:
        """When something can be claimed next, if that is before a time: what is held by others when its lease ends."""
        held_longer = CONNECTION.c.lease_until > CONNECTION.c.due_at
        free_at = case((held_longer, CONNECTION.c.lease_until), else_=CONNECTION.c.due_at)
        query = select(func.min(free_at, type_=CONNECTION.c.due_at.type)).where(CONNECTION.c.due_at < before)

        def work(transaction: Transaction) -> datetime | None:
            try:
                return transaction.execute(query).scalar()
            except mapping.UNREADABLE:  # somebody wrote it by hand: the claim puts it aside
                return None

        return await self._database.read(work)

    async def claim_these(self, ids: Sequence[str], *, now: datetime, lease: Lease) -> list[Connection]:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        terms = {"now": now, "holder": lease.holder, "until": lease.until}
        return await self._claimed(lambda transaction: self._claiming.these(transaction, ids, terms), lease, now)

    async def _claimed(self, take: Callable[[Transaction], Taken], lease: Lease, now: datetime) -> list[Connection]:
        """Take leases, and read what was leased. A row that cannot be read must not stop the others."""
        taken = await self._database.write_without_fsync(take)
        claimed, unreadable = self._claiming.read(taken)
        for connection_id, error in unreadable.items():
            log.error("row.unreadable", connection_id=connection_id, reason=str(error))
        if unreadable:
            await self._put_aside(unreadable, lease, now)
        return claimed

    async def _put_aside(self, unreadable: Iterable[str], lease: Lease, now: datetime) -> None:
        """Leave alone for a while what cannot be read. Where that fails it is met again when its lease ends."""
        try:
            await self._database.write_without_fsync(
                lambda transaction: quarantine(transaction, unreadable, lease, now)
            )
        except LinkerError as error:
            log.warning("row.not_put_aside", code=error.code, reason=str(error))

    async def renew(self, ids: Sequence[str], lease: Lease) -> list[str]:
        """Let this lease of these connections last until its new end; gives those that are still held under it."""
        held = update(CONNECTION).where(CONNECTION.c.id.in_(ids), CONNECTION.c.lease_holder == lease.holder)
        renewed = held.values(lease_until=lease.until).returning(CONNECTION.c.id)

        def work(transaction: Transaction) -> list[str]:
            lock_in_order(transaction, ids)
            return list(transaction.execute(renewed).scalars())

        return await self._database.write_without_fsync(work)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime, release: bool) -> list[bool]:
        """Write a batch in one commit, each compared with the version that it was read at.

        Gives True for each one written and False for each one that lost its race or broke a uniqueness.
        `release`: give the leases back with it.
        """
        draft = self._settling.draft(settlements, now, release)
        try:
            await self._database.write(lambda transaction: write_all(transaction, draft))
        except NotAllWritten:
            drafts = [self._settling.draft([one], now, release) for one in settlements]
            return await self._database.write(lambda transaction: write_each(transaction, drafts))
        return [True] * len(settlements)

    async def key_ids(self) -> frozenset[str]:
        """The ids of the keys that the stored tokens are sealed with."""

        def work(transaction: Transaction) -> frozenset[str]:
            columns = ("token_key_id", "candidate_key_id")
            return frozenset(key for column in columns for key in schema.distinct(transaction, "connection", column))

        return await self._database.read(work)

    async def release(self, connection_ids: Sequence[str], lease: Lease) -> None:
        """Give back those of these connections that are still held under this lease; changes nothing else."""
        held = update(CONNECTION).where(CONNECTION.c.id.in_(connection_ids), CONNECTION.c.lease_holder == lease.holder)

        def work(transaction: Transaction) -> None:
            lock_in_order(transaction, connection_ids)
            transaction.execute(held.values(**NO_LEASE))

        await self._database.write_without_fsync(work)


def _needs_a_person() -> Any:
    return or_(
        CONNECTION.c.state == ConnectionState.FAILED.value,
        CONNECTION.c.problem_code.in_(WAITING_FOR_PEOPLE),
        CONNECTION.c.replacement_problem_code.is_not(None),
        CONNECTION.c.paused_at.is_not(None),
    )


class _Lookup:
    """Reads connections by their ids, with a statement that is compiled once: nothing is read as often."""

    def __init__(self) -> None:
        self._prepared: tuple[CompiledStatement, mapping.Reader] | None = None

    def one(self, transaction: Transaction, connection_id: str) -> Connection | None:
        """Read one connection. Raises RowUnreadable."""
        if self._prepared is None:
            self._prepared = CompiledStatement(_BY_ID, transaction.dialect), mapping.Reader(transaction.dialect)
        statement, reader = self._prepared
        rows = statement.returned(transaction, {"this": connection_id})
        return reader.connection(rows[0]) if rows else None

    def readable(self, transaction: Transaction, connection_ids: Iterable[str]) -> list[Connection]:
        """Read those of these connections that can be read."""
        found = []
        for connection_id in connection_ids:
            try:
                found.append(self.one(transaction, connection_id))
            except RowUnreadable as error:
                log.error("row.unreadable", connection_id=connection_id, reason=str(error))
        return [one for one in found if one is not None]


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, and close it afterwards. Raises StoreUnavailable, SchemaMismatch."""
    database = Database(settings.database_url)
    try:
        await ConnectionStore(database).open()
        yield database
    finally:
        database.close()
