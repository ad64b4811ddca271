"""Statements that are compiled once: what every transition reads and writes passes through here.

SQLAlchemy writes the statement and knows how each value is kept. A batch of rows goes to the database as one text of
JSON, which is written outside of the transaction: the database's thread hands it over and does nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

from linker.rows import UtcTime

Row = Mapping[str, Any]


class Prepared:
    """A statement as one engine takes it, with the values that it needs, in their order."""

    def __init__(self, statement: UpdateBase | Select[Any], dialect: Dialect) -> None:
        """Compile the statement."""
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler), "statements that read and write rows are SQL"
        self._sql = str(compiled)
        #: What SQLAlchemy adds itself, such as an OFFSET.
        self._added = {name: value for name, value in compiled.params.items() if value is not None}
        self._wire = [(name, _onto_the_wire(compiled, dialect, name)) for name in compiled.positiontup or ()]

    def run(self, transaction: Connection, row: Row) -> int:
        """Run it; gives how many rows of the table were written."""
        return transaction.exec_driver_sql(self._sql, self._values(row)).rowcount

    def returned(self, transaction: Connection, row: Row) -> list[tuple[Any, ...]]:
        """Run it; gives what it returns, as the driver gives it."""
        found = transaction.exec_driver_sql(self._sql, self._values(row))
        return [tuple(values) for values in found.all()]

    def _values(self, row: Row) -> tuple[Any, ...]:
        row = {**self._added, **row}
        return tuple([put(row[name]) if put else row[name] for name, put in self._wire])


class Given:
    """The rows that an `InOne` takes, as a table of columns with these names and types.

    What is kept as JSON travels as its text: PostgreSQL would look into it, and stumble over what JSON may hold.
    """

    def __init__(self, columns: Mapping[str, TypeEngine[Any]], dialect: Dialect) -> None:
        self.nested = [name for name, kept_as in columns.items() if isinstance(kept_as, JSON)]
        types = {name: Text() if name in self.nested else kept_as for name, kept_as in columns.items()}
        is_sqlite = dialect.name == "sqlite"
        self._table = _of_sqlite(types) if is_sqlite else _of_postgres(types)
        self._kept_as = Text() if is_sqlite else JSON()

    def value(self, name: str) -> ColumnElement[Any]:
        """The value of this name."""
        told: ColumnElement[Any] = self._table.c[name]
        return cast(told, self._kept_as) if name in self.nested else told


def _of_postgres(types: Mapping[str, TypeEngine[Any]]) -> Any:
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    named = [column(name, kept_as) for name, kept_as in types.items()]
    return rows.table_valued(*named, name="given").render_derived(with_types=True)


def _of_sqlite(types: Mapping[str, TypeEngine[Any]]) -> Any:
    each = func.json_each(bindparam("rows", type_=Text)).table_valued("value")
    named = [
        func.json_extract(each.c.value, literal_column(f"'$.{name}'"), type_=kept_as).label(name)
        for name, kept_as in types.items()
    ]
    return select(*named).subquery("given")


class InOne:
    """A statement that takes all rows at once, as one text of JSON: one statement, however many they are.

    A driver would send each row by itself, and a thread would wait for Python's lock each time.
    """

    def __init__(self, statement: UpdateBase, dialect: Dialect, given: Given) -> None:
        """Compile the statement, which takes its values from what is given."""
        self._sql = str(statement.compile(dialect=dialect))
        self._nested = given.nested
        self._write = json.JSONEncoder(
            ensure_ascii=dialect.name != "sqlite",  # half a character is refused, not kept: there the driver does so
            default=lru_cache(maxsize=1024)(_as_text(dialect)),
        ).encode

    def text(self, rows: Sequence[Row]) -> str:
        """The rows, as the statement takes them."""
        if self._nested:
            rows = [{**row, **{name: json.dumps(row[name]) for name in self._nested}} for row in rows]
        return self._write(rows)

    def run(self, transaction: Connection, text: str) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        return transaction.exec_driver_sql(self._sql, (text,)).rowcount


def _as_text(dialect: Dialect) -> Callable[[datetime | date], str]:
    kept = UtcTime().bind_processor(dialect)

    def as_text(value: datetime | date) -> str:
        found: Any = kept(value) if isinstance(value, datetime) else value
        return found if isinstance(found, str) else str(found.isoformat())

    return as_text


def _onto_the_wire(compiled: SQLCompiler, dialect: Dialect, name: str) -> Callable[[Any], Any] | None:
    """What turns a value of this name into what the driver takes; None if it takes it as it is."""
    return compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
