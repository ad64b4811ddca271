"""The store: connections and their steps in SQL, on SQLite and on PostgreSQL.

Every write compares the version that was read (the fencing token) and every method is one transaction. The tables are
written with statements rather than with an ORM session: a batch of a thousand is a handful of statements.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy.types import NullType

from linker.database.database import Database
from linker.database.statements import CompiledStatement, insert_into
from linker.engine.concurrency import AskedTogether, in_parts
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import ID_PREFIX, DamagedRow, Lease, Page, Selection, Settlement
from linker.errors import BadInput, LinkerError, NotFound, RowUnreadable
from linker.event_log import log
from linker.persistence import mapping, schema
from linker.persistence.claims import ClaimedRows, Claims, at_time, due_by_owner_round_robin, quarantine
from linker.persistence.incidents import Incident, change, ends_or_begins, latest_incident
from linker.persistence.rate_limits import SharedRateLimits, attempts_wait_until
from linker.persistence.selections import cursor_of, holds, query_of
from linker.persistence.settlements import (
    NO_LEASE,
    NotAllWritten,
    SettlementWriter,
    insert_all,
    lock_in_order,
    notify_workers,
    write_all,
    write_each,
)
from linker.persistence.tables import CONNECTION, OPEN_WITH_KEY, STEP
from linker.settings import Settings
from linker.validation.text import known_id
from states.connection import Connection, ConnectionState
from states.history import Step
from states.table import LAW

#: How many ids are named that begin alike.
NAMED_IDS = 5
#: How many rows are read at a time: a host's event loop is held for that long.
READ_ROWS = 100


class ConnectionStore:
    """The memory of all connections, in one database."""

    def __init__(
        self, database: Database, rate_limits: SharedRateLimits | None = None, observer: Observer = UNOBSERVED
    ) -> None:
        """Take the database, the limits that its workers share, and who is told of claims; nothing is opened yet."""
        self._database = database
        self._observer = observer
        self._told: Callable[[Iterable[str]], object] = lambda ids: None
        self._read_by_id: CompiledStatement | None = None
        self._seen: CompiledStatement | None = None
        self._attempts = AskedTogether(self._read_attempts)
        self._reader = mapping.Reader(database.dialect)
        self._writer = SettlementWriter(database.dialect, database.schema)
        self._rate_limits = rate_limits or SharedRateLimits()

    @cached_property
    def claims(self) -> Claims:
        """What takes leases. It is made for the first one: who only looks does not wait for its statements."""
        return Claims(self._rate_limits, self._database.dialect, self._database.schema)

    async def open(self) -> None:
        """Make sure that the schema fits. Raises SchemaMismatch, StoreUnavailable."""
        await self._database.run_in_thread(schema.check)

    async def check_schema(self) -> None:
        """Make sure that the schema still fits; makes nothing. Raises SchemaMismatch, StoreUnavailable."""
        await self._database.run_in_thread(schema.check_unchanged)

    def tell_of_writes(self, tell: Callable[[Iterable[str]], object]) -> None:
        """Tell the ids of connections that were written, from now on, each time after the commit."""
        self._told = tell

    # reading

    async def get(self, connection_id: str) -> Connection:
        """Read one connection. Raises NotFound."""
        found = await self._database.read(lambda transaction: self.one_in(transaction, connection_id))
        if found is None:
            raise NotFound(connection_id)
        return found

    def one_in(self, transaction: Transaction, connection_id: str) -> Connection | None:
        """Read one, by a statement that is compiled once: nothing is read as often. Raises RowUnreadable."""
        if self._read_by_id is None:
            by_id = select(CONNECTION).where(CONNECTION.c.id == bindparam("this"))
            self._read_by_id = CompiledStatement(by_id, transaction.dialect, self._database.schema)
        rows = self._read_by_id.returned(transaction, {"this": connection_id})
        return self._reader.connection(rows[0]) if rows else None

    async def find(self, selection: Selection | None = None) -> list[Connection]:
        """Read connections, by default all open ones. What cannot be read is left out, and told to the log."""
        page = await self.page(selection or Selection())
        for each in page.found:
            if isinstance(each, DamagedRow):
                log.error("row.unreadable", connection_id=each.id, cause=each.cause)
        return [each for each in page.found if isinstance(each, Connection)]

    async def page(self, selection: Selection) -> Page:
        """Read connections, in the selection's order. What cannot be read is in it as such, and stops no other.

        Raises:
            BadInput: the cursor is none.
        """
        found: list[Connection | DamagedRow] = []
        after = selection.after
        while True:
            left = None if selection.limit is None else selection.limit - len(found)
            wanted = replace(selection, after=after, limit=left)
            rows = await self._database.read(partial(self._rows, wanted))
            found += [each for each in rows if isinstance(each, DamagedRow) or holds(wanted, each)]
            is_last = left is None or len(rows) < left
            after = None if is_last or not rows else cursor_of(wanted, rows[-1])
            if is_last or len(found) == selection.limit:
                return Page(found=found, after=after)

    def _rows(self, wanted: Selection, transaction: Transaction) -> list[Connection | DamagedRow]:
        """What the indexes find for a selection."""
        query = query_of(transaction, wanted)
        try:
            return [mapping.connection(row) for row in transaction.execute(query).mappings()]
        except mapping.UNREADABLE:
            pass
        found: list[Connection | DamagedRow] = []
        as_they_are = query.with_only_columns(*(type_coerce(column, NullType()) for column in CONNECTION.c))
        for values in transaction.execute(as_they_are):
            try:
                found.append(self._reader.connection(values))
            except RowUnreadable as error:
                found.append(DamagedRow(mapping.shown(values[0]), error.params["cause"]))
        return found

    async def whole_id(self, prefix: str) -> str:
        """The id that begins like this. Raises NotFound, and BadInput if several do."""
        if not known_id(prefix).startswith(ID_PREFIX):
            return prefix
        c = CONNECTION.c.id
        likely = select(c).where(c >= prefix, c <= f"{prefix}zzzz", func.substr(c, 1, len(prefix)) == prefix)

        def work(transaction: Transaction) -> list[str]:
            if transaction.execute(select(c).where(c == prefix)).first() is not None:
                return [prefix]
            return list(transaction.execute(likely.order_by(c).limit(NAMED_IDS)).scalars())

        found = await self._database.read(work)
        if len(found) > 1:
            raise BadInput("id", "ambiguous", prefix=prefix, begins=found)
        if not found:
            raise NotFound(prefix)
        return found[0]

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

    async def review_incident(self, *, now: datetime) -> bool:
        """Whether Workable refuses many accounts at the moment, by all answers that are written; cheap to ask."""

        def work(transaction: Transaction) -> tuple[Incident | None, bool]:
            latest = latest_incident(transaction)
            return latest, ends_or_begins(transaction, latest, now)

        latest, changes = await self._database.read(work)
        if changes:
            latest = await self._database.write(lambda transaction: change(transaction, latest, now))
        return latest is not None and latest.lasts

    async def attempts_wait_until(self, owner: str, *, now: datetime) -> datetime | None:
        """Until when no token of an owner is verified who gave many that were no good; None if there is no need."""
        return await self._attempts(owner, now)

    async def _read_attempts(self, owners: Mapping[str, datetime]) -> Mapping[str, datetime]:
        latest = max(owners.values())
        return await self._database.read(lambda transaction: attempts_wait_until(transaction, owners, latest))

    async def history(self, connection_id: str) -> list[Step]:
        """Read a connection's steps, first one first. Raises NotFound, RowUnreadable."""
        query = select(STEP).where(STEP.c.connection_id == connection_id).order_by(STEP.c.seq)

        def work(transaction: Transaction) -> list[Step]:
            try:
                return [mapping.step(row) for row in transaction.execute(query).mappings()]
            except mapping.UNREADABLE as error:
                cause = type(error).__name__
            raise mapping.unreadable(connection_id, cause, what="step")

        steps = await self._database.read(work)
        if not steps:
            raise NotFound(connection_id)
        return steps

    async def key_ids(self) -> frozenset[str]:
        """The ids of the keys that the stored tokens are sealed with."""

        def work(transaction: Transaction) -> frozenset[str]:
            columns = (CONNECTION.c.token_key_id, CONNECTION.c.candidate_key_id)
            return frozenset(key for column in columns for key in schema.distinct(transaction, column))

        return await self._database.read(work)

    # claiming

    async def claim(self, connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
        """Lease one connection; None if somebody else holds it. Raises NotFound."""
        terms = {"this": connection_id, **lease_terms(now, lease)}
        with self._observer.watch(Work.CLAIM) as note:
            claimed = await self._database.write_without_fsync(lambda transaction: self.claims.one(transaction, terms))
            if claimed is None:
                await self.get(connection_id)
            note(rows=int(claimed is not None))
        return claimed

    async def claim_due(self, *, now: datetime, limit: int, lease: Lease) -> list[Connection]:
        """Lease up to `limit` connections that are due, longest due first."""
        terms = {"most": limit, **lease_terms(now, lease)}
        return await self._claimed(lambda transaction: self.claims.due(transaction, terms), lease, now)

    async def claim_these(self, ids: Sequence[str], *, now: datetime, lease: Lease) -> list[Connection]:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        terms = lease_terms(now, lease)
        return await self._claimed(lambda transaction: self.claims.these(transaction, ids, terms), lease, now)

    async def _claimed(
        self, take: Callable[[Transaction], ClaimedRows], lease: Lease, now: datetime
    ) -> list[Connection]:
        """Take leases, and read what was leased. A row that cannot be read must not stop the others: quarantine.

        Where that fails it is met again when its lease ends.
        """
        with self._observer.watch(Work.CLAIM) as note:
            taken = await self._database.write_without_fsync(take)
            claimed: list[Connection] = []
            unreadable: dict[str, RowUnreadable] = {}
            async for rows in in_parts(taken.rows, READ_ROWS):
                readable, damaged = self.claims.read(rows)
                claimed += [one for one in readable if one.id not in taken.postponed]
                unreadable |= damaged
            claimed.sort(key=taken.order)
            for connection_id, error in unreadable.items():
                log.error("row.unreadable", connection_id=mapping.shown(connection_id), cause=error.params["cause"])
            if unreadable:
                try:
                    await self._database.write_without_fsync(
                        lambda transaction: quarantine(transaction, unreadable, lease, now)
                    )
                except LinkerError as error:
                    log.warning("row.not_put_aside", code=error.code, reason=error.reason)
            note(rows=len(claimed))
        return claimed

    async def due_round_robin(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """The ids and states of up to `limit` connections that are due, taking turns among their owners.

        A damaged id has no turn. What is due the longest is claimed without one: that puts the row aside.
        """
        query = due_by_owner_round_robin(now, limit)
        due = await self._database.read(lambda transaction: transaction.execute(query).all())
        return [(each.id, each.state) for each in due if mapping.is_text(each.id) and mapping.is_text(each.state)]

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

    async def bring_back(self, *, now: datetime, furthest: Mapping[str, timedelta], limit: int) -> int:
        """Let be due now what is due later than is possible in its state; gives how many those were."""
        due_at = CONNECTION.c.due_at
        latest = case(
            *((CONNECTION.c.state == state, literal(now + ahead, due_at.type)) for state, ahead in furthest.items()),
            else_=literal(now + max(furthest.values()), due_at.type),
        )
        impossible = (due_at > now + min(furthest.values()), due_at > latest)
        query = select(CONNECTION.c.id).where(*impossible).order_by(CONNECTION.c.id).limit(limit)
        ids = await self._database.read(lambda transaction: transaction.execute(query).scalars().all())
        if not ids:
            return 0
        mended = update(CONNECTION).where(CONNECTION.c.id.in_(ids), *impossible).values(due_at=now)

        def work(transaction: Transaction) -> int:
            lock_in_order(transaction, ids)
            return int(transaction.execute(mended).rowcount)

        return await self._database.write_without_fsync(work)

    async def renew(self, ids: Sequence[str], lease: Lease) -> list[str]:
        """Let this lease of these connections last until its new end; gives those that are still held under it."""
        renewed = _held(ids, lease).values(lease_until=lease.until).returning(CONNECTION.c.id)

        def work(transaction: Transaction) -> list[str]:
            lock_in_order(transaction, ids)
            return list(transaction.execute(renewed).scalars())

        return await self._database.write_without_fsync(work)

    async def release(self, ids: Sequence[str], lease: Lease) -> None:
        """Give back those of these connections that are still held under this lease; changes nothing else."""

        def work(transaction: Transaction) -> None:
            lock_in_order(transaction, ids)
            transaction.execute(_held(ids, lease).values(**NO_LEASE))

        await self._database.write_without_fsync(work)

    async def watch(
        self, connection_id: str, *, now: datetime, until: datetime, first_look: datetime, next_look: datetime
    ) -> Connection:
        """Somebody has the page of a connection open, for certain until a time: look for what is awaited in time.

        By `first_look` if the page was just opened, and otherwise by `next_look`. Written only when the time that is
        known moves on by a good part. No version is bumped: nobody who attends the connection loses a race for it.
        Gives it as it is then. Raises NotFound.
        """
        told = {"this": connection_id, "now": now, "until": until, "first_look": first_look, "next_look": next_look}
        told["rewritten_before"] = now + (until - now) * 2 / 3

        def work(transaction: Transaction) -> Connection | None:
            if self._seen is None:
                self._seen = CompiledStatement(_seen(), transaction.dialect, self._database.schema)
            self._seen.run(transaction, told)
            return self.one_in(transaction, connection_id)

        found = await self._database.write_without_fsync(work)
        if found is None:
            raise NotFound(connection_id)
        return found

    # writing

    async def add(self, opened: Settlement) -> Connection:
        """Write a new connection with its first step; gives it as it is then, or the one that has its key already."""
        inserts = self._writer.inserts([opened])
        written = opened.written(opened.after.created_at)
        kept = {"version": written.version, "last_seq": 1, "updated_at": written.updated_at, "law": LAW}
        columns = mapping.changed_columns(None, opened.after) | kept

        def work(transaction: Transaction) -> str:
            put = insert_into(transaction, CONNECTION).values(columns)
            once = put.on_conflict_do_nothing(index_elements=["owner", "key"], index_where=text(OPEN_WITH_KEY))
            if transaction.execute(once.returning(CONNECTION.c.id)).first() is None:
                same = select(CONNECTION.c.id).where(
                    CONNECTION.c.owner == opened.after.owner,
                    CONNECTION.c.key == opened.after.key,
                    CONNECTION.c.closed_at.is_(None),
                )
                return str(transaction.execute(same).scalar_one())
            insert_all(transaction, inserts)
            notify_workers(transaction)
            return written.id

        added_id = await self._database.write(work)
        return written if added_id == written.id else await self.get(added_id)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime, release: bool) -> list[bool]:
        """Write a batch in one commit, each compared with the version that it was read at.

        Gives True for each one written and False for each one that lost its race or broke a uniqueness.
        `release`: give the leases back with it. Calls that the claims could not foresee are counted in the same commit.
        """
        with self._observer.watch(Work.SETTLE) as note:
            batch = self._writer.batch(settlements, now, release)

            def whole(transaction: Transaction) -> list[bool]:
                write_all(transaction, batch)
                self._count_calls(transaction, settlements, now)
                return [True] * len(settlements)

            try:
                written = await self._database.write(whole)
            except NotAllWritten:
                each = [self._writer.batch([one], now, release) for one in settlements]

                def apart(transaction: Transaction) -> list[bool]:
                    written = write_each(transaction, each)
                    self._count_calls(transaction, settlements, now)  # they were made, also for what was not written
                    return written

                written = await self._database.write(apart)
            note(rows=sum(written))
        self._told([one.after.id for one in settlements])
        return written

    def _count_calls(self, transaction: Transaction, settlements: Sequence[Settlement], now: datetime) -> None:
        self._rate_limits.add(transaction, [(one.after, one.unforeseen_calls) for one in settlements], now)


def _seen() -> Update:
    """The UPDATE of a connection whose page is open; see `ConnectionStore.watch`."""
    c = CONNECTION.c

    def at(name: str) -> BindParameter[datetime]:
        return bindparam(name, type_=c.due_at.type)

    awaited = or_(c.state == ConnectionState.AWAITING_RECRUITER.value, c.candidate_sealed.is_not(None))
    known = c.watched_until >= at("now")

    def in_time(look: str) -> ColumnElement[bool]:
        return and_(awaited, c.due_at > at(look), or_(c.not_before.is_(None), c.not_before <= at(look)))

    values = {
        "watched_since": case((known, c.watched_since), else_=at("now")),
        "watched_until": at("until"),
        "due_at": case(
            (and_(known, in_time("next_look")), at("next_look")),
            (and_(known, c.due_at.is_not(None)), c.due_at),
            (in_time("first_look"), at("first_look")),
            else_=c.due_at,
        ),
    }
    stale = or_(c.watched_until.is_(None), c.watched_until < at("rewritten_before"))
    open_one = (c.id == bindparam("this"), c.paused_at.is_(None), c.closed_at.is_(None))
    return update(CONNECTION).where(*open_one, stale).values(values)


def lease_terms(now: datetime, lease: Lease) -> dict[str, Any]:
    """What every claim is made with."""
    return {**at_time(now), "seconds": now.timestamp(), "holder": lease.holder, "until": lease.until}


def _held(ids: Sequence[str], lease: Lease) -> Any:
    """The UPDATE of those of these connections that are still held under a lease."""
    return update(CONNECTION).where(CONNECTION.c.id.in_(ids), CONNECTION.c.lease_holder == lease.holder)


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How many connections are due, and by how many seconds the one is late that is due the longest."""

    due: int
    lag_seconds: float


def backlog(transaction: Transaction, now: datetime) -> Backlog:
    """What is due at a time."""
    query = select(func.count(), func.min(CONNECTION.c.due_at)).where(CONNECTION.c.due_at <= now)
    due, oldest = transaction.execute(query).one()
    return Backlog(due=due, lag_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, and close it afterwards. Raises StoreUnavailable, SchemaMismatch."""
    database = Database(settings.database_url, settings.database_schema)
    try:
        await ConnectionStore(database).open()
        yield database
    finally:
        database.close()
