"""Statements that are compiled once and run with many rows: what every transition writes passes through here.

SQLAlchemy writes the statement and knows how each value is kept; the rows go to the driver as they are, so
that none is prepared anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Dialect, Select, Text, bindparam, cast, column, func
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

Row = Mapping[str, Any]


class Prepared:
    """A statement as one engine takes it, with the values that it needs, in their order."""

    def __init__(
        self, statement: UpdateBase | Select[Any], dialect: Dialect, columns: Sequence[str] | None = None
    ) -> None:
        """Compile the statement. `columns`: those that an INSERT gives values for."""
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler), "statements that read and write rows are SQL"
        self._sql = str(compiled)
        #: What SQLAlchemy adds itself, such as an OFFSET.
        self._added = {name: value for name, value in compiled.params.items() if value is not None}
        self._wire = [(name, _onto_the_wire(compiled, dialect, name)) for name in compiled.positiontup or ()]

    def run(self, transaction: Connection, rows: Sequence[Row]) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        return transaction.exec_driver_sql(self._sql, [self._values(row) for row in rows]).rowcount

    def returned(self, transaction: Connection, row: Row) -> list[tuple[Any, ...]]:
        """Run it once; gives what it returns, as the driver gives it."""
        found = transaction.exec_driver_sql(self._sql, self._values({**self._added, **row}))
        return [tuple(values) for values in found.all()]

    def _values(self, row: Row) -> tuple[Any, ...]:
        return tuple([put(row[name]) if put else row[name] for name, put in self._wire])


class Given:
    """The rows that an `InOne` takes, as a table of columns with these names and types.

    What is kept as JSON travels as its text: PostgreSQL would look into it, and stumble over what JSON may hold.
    """

    def __init__(self, columns: Mapping[str, TypeEngine[Any]]) -> None:
        self.nested = [name for name, kept_as in columns.items() if isinstance(kept_as, JSON)]
        types = {name: Text() if name in self.nested else kept_as for name, kept_as in columns.items()}
        rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        named = [column(name, kept_as) for name, kept_as in types.items()]
        self._table = rows.table_valued(*named, name="given").render_derived(with_types=True)

    def value(self, name: str) -> ColumnElement[Any]:
        """The value of this name."""
        told: ColumnElement[Any] = self._table.c[name]
        return cast(told, JSON) if name in self.nested else told


class InOne:
    """A statement of PostgreSQL that takes all rows at once, as one text of JSON: one statement, however many they are.

    The driver would send each row by itself.
    """

    def __init__(self, statement: UpdateBase, dialect: Dialect, given: Given) -> None:
        """Compile the statement, which takes its values from what is given."""
        self._sql = str(statement.compile(dialect=dialect))
        self._nested = given.nested

    def run(self, transaction: Connection, rows: Sequence[Row]) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        if self._nested:
            rows = [{**row, **{name: json.dumps(row[name]) for name in self._nested}} for row in rows]
        return transaction.exec_driver_sql(self._sql, (json.dumps(rows, default=_as_text),)).rowcount


@lru_cache(maxsize=1024)
def _as_text(value: datetime | date) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time without a time zone cannot be stored")
    return value.isoformat()


def _onto_the_wire(compiled: SQLCompiler, dialect: Dialect, name: str) -> Callable[[Any], Any] | None:
    """What turns a value of this name into what the driver takes; None if it takes it as it is."""
    return compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
