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

import structlog
from sqlalchemy import (
    ARRAY,
    Dialect,
    Insert,
    Table,
    Text,
    Update,
    bindparam,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from linker.database.notifier import CHANNEL
from linker.database.statements import BatchStatement, Row, Value, batch_statement
from linker.engine.ports import Settlement
from linker.persistence import mapping
from linker.persistence.tables import CONNECTION, OUTBOX, STEP
from states.table import LAW

log = structlog.get_logger("linker")


#: Takes the ids as one value, so that the statement is the same for any number of them. PostgreSQL only.
_LOCKED_IN_ORDER = (
    select(CONNECTION.c.id)
    .where(CONNECTION.c.id == func.any(bindparam("ids", type_=ARRAY(Text))))
    .order_by(CONNECTION.c.id)
    .with_for_update()
)

NO_LEASE = {"lease_holder": null(), "lease_until": null()}

#: What falls due within this time wakes idle workers, who may otherwise look for it too late.
SOON = timedelta(seconds=15)
#: What the drivers raise when a row cannot be stored as it is.
REFUSED = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)


class NotAllWritten(Exception):
    """One of a batch was not at its version any more, or was refused: the transaction is to be undone."""


@dataclass(frozen=True, slots=True)
class SettlementBatch:
    """A batch as it is going to be written: its statements, each with all of its rows as the driver takes them."""

    ids: list[str]
    #: With how many rows have to be written.
    updates: list[tuple[BatchStatement, Any, int]]
    notes: Notes
    #: True if there is something to do soon, or the host is to be told.
    is_urgent: bool


#: Steps and announcements to be added.
Notes = list[tuple[BatchStatement, Any]]


class SettlementWriter:
    """Drafts what is written. A statement is made once for each set of columns that decisions change together."""

    def __init__(self, dialect: Dialect) -> None:
        """Take the engine that statements are made for."""
        self._dialect = dialect
        self._updates: dict[tuple[Any, ...], BatchStatement] = {}
        self._inserts: dict[str, BatchStatement] = {}

    def draft(self, settlements: Sequence[Settlement], now: datetime, release: bool) -> SettlementBatch:
        """How to write a batch."""
        groups = [(self._update(columns, release), rows) for columns, rows in _alike(settlements, now).items()]
        return SettlementBatch(
            [one.after.id for one in settlements],
            [(update, update.pack(rows), len(rows)) for update, rows in groups],
            self.notes(settlements),
            any(_is_urgent(one, now) for one in settlements),
        )

    def notes(self, settlements: Sequence[Settlement]) -> Notes:
        """How to add the steps and the announcements of what is written."""
        steps = [
            mapping.step_columns(one.after.id, one.before.last_seq + 1, one.step) for one in settlements if one.step
        ]
        announced = [mapping.announcement_columns(one) for one in settlements if one.announcement]
        inserts = [(self._insert(table, rows[0]), rows) for table, rows in ((STEP, steps), (OUTBOX, announced)) if rows]
        return [(insert, insert.pack(rows)) for insert, rows in inserts]

    def _insert(self, table: Table, row: Row) -> BatchStatement:
        if table.name not in self._inserts:
            self._inserts[table.name] = _insert(table, tuple(row), self._dialect)
        return self._inserts[table.name]

    def _update(self, columns: tuple[str, ...], release: bool) -> BatchStatement:
        key = (columns, release)
        if key not in self._updates:
            self._updates[key] = _update(columns, release, self._dialect)
        return self._updates[key]


def write_all(transaction: Transaction, draft: SettlementBatch) -> None:
    """Write a batch whole. Raises NotAllWritten; the transaction may then hold a part of it."""
    lock_in_order(transaction, draft.ids)
    try:
        for update_these, rows, count in draft.updates:
            if update_these.run(transaction, rows) != count:
                raise NotAllWritten
        note(transaction, draft.notes)
        if draft.is_urgent:
            tell(transaction)
    except REFUSED as error:
        if len(draft.ids) == 1 and not _is_taken(error):
            raise
        raise NotAllWritten from None


def write_each(transaction: Transaction, drafts: Sequence[SettlementBatch]) -> list[bool]:
    """Write those that can be written, each of them drafted by itself; says which."""
    lock_in_order(transaction, [draft.ids[0] for draft in drafts])
    return [_written_alone(transaction, draft) for draft in drafts]


def _written_alone(transaction: Transaction, draft: SettlementBatch) -> bool:
    """Write one of several; one that the database does not take must not stop the others."""
    try:
        with transaction.begin_nested():
            write_all(transaction, draft)
            return True
    except NotAllWritten:
        return False
    except REFUSED as error:
        log.error("settlement.refused", connection_id=draft.ids[0], reason=type(_drivers(error)).__name__)
        return False


def note(transaction: Transaction, notes: Notes) -> None:
    """Add steps and announcements."""
    for insert_these, rows in notes:
        insert_these.run(transaction, rows)


def _insert(table: Table, columns: tuple[str, ...], dialect: Dialect) -> BatchStatement:
    """The INSERT of rows with these columns."""

    def statement(value: Value) -> Insert:
        return insert(table).from_select(columns, select(*(value(name) for name in columns)))

    return batch_statement(statement, {name: table.c[name].type for name in columns}, dialect)


def _update(columns: tuple[str, ...], release: bool, dialect: Dialect) -> BatchStatement:
    """The UPDATE that writes these columns of connections that are still at their versions."""

    def statement(value: Value) -> Update:
        read_at = (CONNECTION.c.id == value("at_id"), CONNECTION.c.version == value("at_version"))
        values: dict[str, Any] = {name: value(f"new_{name}") for name in columns}
        values |= {"version": CONNECTION.c.version + literal_column("1"), "law": literal_column(f"'{LAW}'")}
        return update(CONNECTION).where(*read_at).values(values | (NO_LEASE if release else {}))

    types = {"at_id": CONNECTION.c.id.type, "at_version": CONNECTION.c.version.type}
    return batch_statement(statement, types | {f"new_{name}": CONNECTION.c[name].type for name in columns}, dialect)


def _alike(settlements: Sequence[Settlement], now: datetime) -> dict[tuple[str, ...], list[Row]]:
    """The rows to write, by the columns that they change: each group is one statement."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for one in settlements:
        columns = mapping.changed_columns(one.before, one.after)
        columns["updated_at"] = now
        if one.step:
            columns["last_seq"] = one.before.last_seq + 1
        row = {f"new_{name}": value for name, value in columns.items()}
        row["at_id"], row["at_version"] = one.before.id, one.before.version
        groups[tuple(columns)].append(row)
    return groups


def lock_in_order(transaction: Transaction, connection_ids: Sequence[str]) -> None:
    """Lock rows in the order of their ids, so that batches that overlap wait for each other and never deadlock.

    They overlap when a worker comes back after its leases ran out, and when it renews leases while it settles. SQLite
    has one lock for all.
    """
    if len(connection_ids) > 1 and transaction.dialect.name == "postgresql":
        transaction.execute(_LOCKED_IN_ORDER, {"ids": list(connection_ids)})


def _is_urgent(one: Settlement, now: datetime) -> bool:
    """True if there is something to do soon, or the host is to be told."""
    due_soon = one.after.due_at is not None and one.after.due_at <= now + SOON
    return one.announcement is not None or (due_soon and not one.quiet)


def tell(transaction: Transaction) -> None:
    """Let this commit wake idle workers. SQLite is asked by them instead."""
    if transaction.dialect.name == "postgresql":
        transaction.exec_driver_sql(f"NOTIFY {CHANNEL}")


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
