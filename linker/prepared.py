"""Statements that are compiled once and run with many rows: what every transition writes passes through here.

SQLAlchemy writes the statement and knows how each value is kept; the rows go to the driver as they are. That spares
two thirds of what a transition costs when each row is prepared anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

Row = Mapping[str, Any]


class Prepared:
    """A statement as one engine takes it, with the values that it needs, in their order."""

    def __init__(self, statement: UpdateBase, dialect: Dialect, columns: Sequence[str] | None = None) -> None:
        """Compile the statement. `columns`: those that an INSERT gives values for."""
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler), "statements that write are SQL"
        self._sql = str(compiled)
        self._wire = [(name, _onto_the_wire(compiled, dialect, name)) for name in compiled.positiontup or ()]

    def run(self, transaction: Connection, rows: Sequence[Row]) -> int:
        """Run it with all rows; gives how many rows of the table were written."""
        values = [tuple([put(row[name]) if put else row[name] for name, put in self._wire]) for row in rows]
        return transaction.exec_driver_sql(self._sql, values).rowcount


def _onto_the_wire(compiled: SQLCompiler, dialect: Dialect, name: str) -> Callable[[Any], Any] | None:
    """What turns a value of this name into what the driver takes; None if it takes it as it is."""
    kept_as = compiled.binds[name].type.dialect_impl(dialect)
    return kept_as.bind_processor(dialect)
