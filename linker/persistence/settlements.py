"""Settling: decisions are written in one commit, each compared with the version that it was read at.

The version is the fencing token: whoever lost the lease finds another version there and writes nothing. The step and
the announcement of a decision go into the same commit.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import (
    Dialect,
    Insert,
    Table,
    Update,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from linker.database.notifier import NOTIFY_CHANNEL
from linker.database.statements import BatchStatement, Row, Value, batch_statement, is_among
from linker.engine.ports import Settlement
from linker.event_log import log
from linker.persistence import mapping
from linker.persistence.rate_limits import count_refused_attempts
from linker.persistence.tables import CONNECTION, OUTBOX, STEP
from states.problems import ProblemCode
from states.table import LAW

#: Takes the ids as one value, so that the statement is the same for any number of them. PostgreSQL only.
_LOCKED_IN_ORDER = (
    select(CONNECTION.c.id)
    .where(is_among(CONNECTION.c.id, None, is_sqlite=False))
    .order_by(CONNECTION.c.id)
    .with_for_update()
)

#: What is said of a token that is no good for the account that was named.
NO_GOOD = frozenset({ProblemCode.TOKEN_REFUSED, ProblemCode.SUBDOMAIN_MISMATCH})

NO_LEASE = {"lease_holder": null(), "lease_until": null()}

#: What falls due within this time wakes idle workers, who may otherwise look for it too late.
SOON = timedelta(seconds=15)
#: What the drivers raise when a row cannot be stored as it is.
REFUSED = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)


class NotAllWritten(Exception):
    """One of a batch was not at its version any more, or was refused: the transaction is to be undone."""


#: Rows to insert, as the driver takes them.
Inserts = list[tuple[BatchStatement, Any]]


@dataclass(frozen=True, slots=True)
class SettlementBatch:
    """A batch as it is going to be written: its statements, each with all of its rows as the driver takes them."""

    ids: list[str]
    #: With how many rows have to be written.
    updates: list[tuple[BatchStatement, Any, int]]
    #: Of steps and announcements.
    inserts: Inserts
    #: True if there is something to do soon, the host is to be told, or something may be used no more, or anew.
    is_urgent: bool
    #: Whose attempts with a token were refused, and when that is written.
    refused_owners: list[str]
    now: datetime


class SettlementWriter:
    """Prepares what is written. A statement is made once for each set of columns that decisions change together."""

    def __init__(self, dialect: Dialect, schema: str | None = None) -> None:
        """Take the engine that statements are made for."""
        self._target = (dialect, schema)
        self._updates: dict[tuple[tuple[str, ...], bool], BatchStatement] = {}
        self._inserts: dict[str, BatchStatement] = {}

    def batch(self, settlements: Sequence[Settlement], now: datetime, release: bool) -> SettlementBatch:
        """How to write a batch. `release`: give the leases back with it."""
        rows_by_columns: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        is_urgent = False
        for one in settlements:
            columns = mapping.changed_columns(one.before, one.after)
            columns["updated_at"] = now
            if one.step:
                columns["last_seq"] = one.before.last_seq + 1
            row = {f"new_{name}": value for name, value in columns.items()}
            row["at_id"], row["at_version"] = one.before.id, one.before.version
            rows_by_columns[tuple(columns)].append(row)
            due_soon = one.after.due_at is not None and one.after.due_at <= now + SOON
            is_urgent = is_urgent or one.announcement is not None or (due_soon and not one.quiet) or _changes_use(one)
        updates = [(self._update(columns, release), rows) for columns, rows in rows_by_columns.items()]
        return SettlementBatch(
            ids=[one.after.id for one in settlements],
            updates=[(update, update.pack(rows), len(rows)) for update, rows in updates],
            inserts=self.inserts(settlements),
            is_urgent=is_urgent,
            refused_owners=[one.before.owner for one in settlements if _refuses_an_attempt(one)],
            now=now,
        )

    def _update(self, columns: tuple[str, ...], release: bool) -> BatchStatement:
        """The UPDATE that writes these columns of connections that are still at their versions."""

        def statement(value: Value) -> Update:
            read_at = (CONNECTION.c.id == value("at_id"), CONNECTION.c.version == value("at_version"))
            values: dict[str, Any] = {name: value(f"new_{name}") for name in columns}
            values |= {"version": CONNECTION.c.version + literal_column("1"), "law": literal_column(f"'{LAW}'")}
            return update(CONNECTION).where(*read_at).values(values | (NO_LEASE if release else {}))

        key = (columns, release)
        if key not in self._updates:
            types = {"at_id": CONNECTION.c.id.type, "at_version": CONNECTION.c.version.type}
            types |= {f"new_{name}": CONNECTION.c[name].type for name in columns}
            self._updates[key] = batch_statement(statement, types, *self._target)
        return self._updates[key]

    def inserts(self, settlements: Sequence[Settlement]) -> Inserts:
        """How to add the steps and the announcements of what is written."""
        steps = [
            mapping.step_columns(one.after.id, one.before.last_seq + 1, one.step) for one in settlements if one.step
        ]
        announced = [mapping.announcement_columns(one) for one in settlements if one.announcement]
        found: Inserts = []
        for table, rows in ((STEP, steps), (OUTBOX, announced)):
            if rows:
                into = self._insert(table, tuple(rows[0]))
                found.append((into, into.pack(rows)))
        return found

    def _insert(self, table: Table, columns: tuple[str, ...]) -> BatchStatement:
        """The INSERT of rows with these columns."""

        def statement(value: Value) -> Insert:
            return insert(table).from_select(columns, select(*(value(name) for name in columns)))

        if table.name not in self._inserts:
            types = {name: table.c[name].type for name in columns}
            self._inserts[table.name] = batch_statement(statement, types, *self._target)
        return self._inserts[table.name]


def _changes_use(one: Settlement) -> bool:
    """True if clients that know the row have to read it anew, because what they may use of it has changed."""
    before, after = one.before, one.after
    return (before.state, before.token, before.at_rest) != (after.state, after.token, after.at_rest)


def _refuses_an_attempt(one: Settlement) -> bool:
    """True if a person's token turned out to be no good for the account that was named."""
    is_answered = one.before.candidate is not None and one.after.candidate is None
    return is_answered and one.step is not None and one.step.problem in NO_GOOD


def write_all(transaction: Transaction, batch: SettlementBatch) -> None:
    """Write a batch whole. Raises NotAllWritten; the transaction may then hold a part of it."""
    lock_in_order(transaction, batch.ids)
    try:
        for update_these, rows, count in batch.updates:
            if update_these.run(transaction, rows) != count:
                raise NotAllWritten
        insert_all(transaction, batch.inserts)
        count_refused_attempts(transaction, batch.refused_owners, batch.now)
        if batch.is_urgent:
            notify_workers(transaction)
    except REFUSED as error:
        if len(batch.ids) == 1 and not _is_taken(error):
            raise
        raise NotAllWritten from None


def write_each(transaction: Transaction, batches: Sequence[SettlementBatch]) -> list[bool]:
    """Write those that can be written, each a batch by itself; says which. One that is refused stops no other."""
    lock_in_order(transaction, [batch.ids[0] for batch in batches])
    written = []
    for batch in batches:
        try:
            with transaction.begin_nested():
                write_all(transaction, batch)
            written.append(True)
        except NotAllWritten:
            written.append(False)
        except REFUSED as error:
            log.error("settlement.refused", connection_id=batch.ids[0], reason=type(_drivers(error)).__name__)
            written.append(False)
    return written


def insert_all(transaction: Transaction, inserts: Inserts) -> None:
    """Add steps and announcements."""
    for insert_these, rows in inserts:
        insert_these.run(transaction, rows)


def lock_in_order(transaction: Transaction, connection_ids: Sequence[str]) -> None:
    """Lock rows in the order of their ids, so that batches that overlap wait for each other and never deadlock.

    They overlap when a worker comes back after its leases ran out, and when it renews leases while it settles. SQLite
    has one lock for all.
    """
    if len(connection_ids) > 1 and transaction.dialect.name == "postgresql":
        transaction.execute(_LOCKED_IN_ORDER, {"ids": list(connection_ids)})


def notify_workers(transaction: Transaction) -> None:
    """Let this commit wake idle workers. SQLite is asked by them instead."""
    if transaction.dialect.name == "postgresql":
        transaction.exec_driver_sql(f"NOTIFY {NOTIFY_CHANNEL}")


def _is_taken(error: Exception) -> bool:
    """True if a unique index said no: another row has the account or the recruiter's e-mail."""
    said = _drivers(error)
    if isinstance(said, sqlite3.Error):
        return said.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
    # psycopg's: the server's words depend on its language, its codes do not
    return getattr(said, "sqlstate", None) == "23505" and said.diag.table_name == CONNECTION.name


def _drivers(error: Exception) -> Any:
    """What the driver raised, with SQLAlchemy around it or without."""
    return error.orig if isinstance(error, DBAPIError) else error
