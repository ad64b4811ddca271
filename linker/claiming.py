"""Claiming: leases are taken in one statement, whatever is held by others is passed over.

A claim bumps the version, so that whoever held the row before cannot write it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, literal_column, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from linker import mapping
from linker.database import chosen_once
from linker.prepared import Prepared, Reading
from linker.rows import ConnectionRow
from states.connection import Connection

CONNECTION = ConnectionRow.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes

Terms = Mapping[str, Any]

_FREE = or_(CONNECTION.c.lease_until.is_(None), CONNECTION.c.lease_until <= bindparam("now"))
_DUE = (
    select(CONNECTION.c.id)
    .where(CONNECTION.c.due_at <= bindparam("now"), _FREE)
    .order_by(CONNECTION.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_LEASED = {
    "lease_holder": bindparam("holder"),
    "lease_until": bindparam("until"),
    "version": CONNECTION.c.version + literal_column("1"),
}
_ONE = update(CONNECTION).where(CONNECTION.c.id == bindparam("this"), _FREE).values(_LEASED).returning(CONNECTION)
_ALL_DUE = update(CONNECTION).where(CONNECTION.c.id.in_(chosen_once(_DUE))).values(_LEASED).returning(CONNECTION)


class Claiming:
    """Takes leases. Its statements are compiled once: a sweep asks for little else."""

    def __init__(self) -> None:
        self._prepared: dict[str, Prepared] = {}
        self._reading: Reading | None = None

    def one(self, transaction: Transaction, terms: Terms) -> Connection | None:
        """Lease the connection `this`, unless somebody else holds it."""
        return next(iter(self._claimed(transaction, "one", _ONE, terms)), None)

    def due(self, transaction: Transaction, terms: Terms) -> list[Connection]:
        """Lease at most `most` connections that are due."""
        return self._claimed(transaction, "due", _ALL_DUE, terms)

    def _claimed(
        self, transaction: Transaction, name: str, statement: ReturningUpdate[Any], terms: Terms
    ) -> list[Connection]:
        if name not in self._prepared:
            self._prepared[name] = Prepared(statement, transaction.dialect)
        if self._reading is None:
            self._reading = Reading(CONNECTION, transaction.dialect)
        found = self._prepared[name].returned(transaction, terms)
        return [mapping.connection(self._reading.row(values)) for values in found]
