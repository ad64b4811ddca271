"""Statements that are compiled once: what every transition reads and writes passes through here.

SQLAlchemy writes the statement and knows how each value is kept. A batch of rows is made ready for the driver outside
of the transaction: the database's thread hands it over and does nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

from linker.database.column_types import as_json

Row = Mapping[str, Any]


class CompiledStatement:
    """A statement as one engine takes it, with the values that it needs, in their order."""

    def __init__(self, statement: UpdateBase | Select[Any], dialect: Dialect, schema: str | None = None) -> None:
        """Compile the statement, for tables that are in this schema."""
        compiled = _compiled(statement, dialect, schema)
        self._sql = str(compiled)
        #: What SQLAlchemy adds itself, such as an OFFSET.
        self._added = {name: value for name, value in compiled.params.items() if value is not None}
        self._parameters = [
            (name, _bind_processor(compiled.binds[name].type, dialect)) for name in compiled.positiontup or ()
        ]

    def run(self, transaction: Connection, row: Row) -> int:
        """Run it; gives how many rows of the table were written."""
        return transaction.exec_driver_sql(self._sql, self._values(row)).rowcount

    def returned(self, transaction: Connection, row: Row) -> list[tuple[Any, ...]]:
        """Run it; gives what it returns, as the driver gives it."""
        found = transaction.exec_driver_sql(self._sql, self._values(row))
        return [tuple(values) for values in found.all()]

    def _values(self, row: Row) -> tuple[Any, ...]:
        row = {**self._added, **row}
        return tuple([bind(row[name]) if bind else row[name] for name, bind in self._parameters])


#: What gives the value of a name in the rows that a statement takes.
Value = Callable[[str], ColumnElement[Any]]
#: The columns of such rows, by their names.
Columns = Mapping[str, TypeEngine[Any]]


class BatchStatement(Protocol):
    """A statement that takes many rows at once."""

    def pack(self, rows: Sequence[Row]) -> Any:
        """The rows, as the statement takes them: to be made outside of the transaction."""
        ...

    def run(self, transaction: Connection, packed: Any) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        ...


def batch_statement(
    statement: Callable[[Value], UpdateBase], columns: Columns, dialect: Dialect, schema: str | None = None
) -> BatchStatement:
    """The statement that takes rows of these columns. `statement` is handed what gives their values."""
    if dialect.name == "sqlite":
        return ExecutemanyStatement(statement, columns, dialect)
    return JsonRecordsetStatement(statement, columns, dialect, schema)


class ExecutemanyStatement:
    """On SQLite: row by row, in one call of the driver, without SQLAlchemy's care for each statement between.

    So its errors are the driver's own, here and nowhere else. Tables of values and JSON take longer.
    """

    def __init__(self, statement: Callable[[Value], UpdateBase], columns: Columns, dialect: Dialect) -> None:
        """Compile the statement."""
        compiled = _compiled(statement(lambda name: bindparam(name, type_=columns[name])), dialect)
        self._sql = str(compiled)
        self._parameters = [
            (name, _bind_processor(compiled.binds[name].type, dialect)) for name in compiled.positiontup or ()
        ]

    def pack(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """The values of each row."""
        return [tuple([bind(row[name]) if bind else row[name] for name, bind in self._parameters]) for row in rows]

    def run(self, transaction: Connection, packed: Sequence[tuple[Any, ...]]) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        driver: sqlite3.Connection = transaction.connection.driver_connection  # type: ignore[assignment]
        return driver.executemany(self._sql, packed).rowcount


class JsonRecordsetStatement:
    """On PostgreSQL: in one text of JSON, as one statement. The driver would send each row by itself.

    What is kept as JSON travels as a text in it: PostgreSQL would look into it, and stumble over what JSON may hold.
    """

    def __init__(
        self, statement: Callable[[Value], UpdateBase], columns: Columns, dialect: Dialect, schema: str | None = None
    ) -> None:
        """Compile the statement, for tables that are in this schema."""
        nested = {name for name, kept_as in columns.items() if isinstance(kept_as, JSON)}
        named = [column(name, Text() if name in nested else kept_as) for name, kept_as in columns.items()]
        rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        given = rows.table_valued(*named, name="given").render_derived(with_types=True)

        def value(name: str) -> ColumnElement[Any]:
            told: ColumnElement[Any] = given.c[name]
            return cast(told, JSON) if name in nested else told

        self._sql = str(_compiled(statement(value), dialect, schema))
        self._parameters = [
            (name, _as_nested if name in nested else _bind_processor(kept_as, dialect))
            for name, kept_as in columns.items()
        ]

    def pack(self, rows: Sequence[Row]) -> str:
        """The rows in one text. Of one that holds half a character, PostgreSQL refuses that row and no other."""
        return as_json(
            [{name: bind(row[name]) if bind else row[name] for name, bind in self._parameters} for row in rows]
        )

    def run(self, transaction: Connection, packed: str) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        return transaction.exec_driver_sql(self._sql, (packed,)).rowcount


def _as_nested(value: Any) -> str | None:
    """A value as JSON; none at all if there is none."""
    return None if value is None else as_json(value)


def _compiled(statement: UpdateBase | Select[Any], dialect: Dialect, schema: str | None = None) -> SQLCompiler:
    named: dict[str, Any] = {}
    if schema is not None:
        named = {"schema_translate_map": {None: schema}, "render_schema_translate": True}
    compiled = statement.compile(dialect=dialect, **named)
    assert isinstance(compiled, SQLCompiler), "statements that read and write rows are SQL"
    return compiled


def _bind_processor(kept_as: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What turns a value of this type into what the driver takes; None if it takes it as it is."""
    return kept_as.dialect_impl(dialect).bind_processor(dialect)


def is_among(column: ColumnElement[str], ids: Sequence[str] | None, *, is_sqlite: bool) -> ColumnElement[bool]:
    """That a column is one of these ids, however many: they are one parameter, `ids`. None: it is given later."""
    if is_sqlite:
        given = bindparam("ids", None if ids is None else as_json(list(ids)), type_=Text)
        return column.in_(select(func.json_each(given).table_valued("value").c.value))
    return column == func.any(bindparam("ids", None if ids is None else list(ids), type_=ARRAY(Text)))


def insert_into(transaction: Connection, table: FromClause) -> Any:
    """An INSERT as the database has it, with what is done `on_conflict`."""
    own: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return own[transaction.dialect.name](table)


def materialized(rows: Select[Any]) -> Select[Any]:
    """The rows that a locking query chooses, for `IN`.

    As a plain subquery PostgreSQL may run it again for each row that it looks at, and as each run skips what is locked
    by then, many more rows than the limit would be chosen.
    """
    return select(rows.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql"))
