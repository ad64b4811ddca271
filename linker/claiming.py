"""Claiming: leases are taken in one statement, whatever is held by others is passed over.

A claim bumps the version, so that whoever held the row before cannot write it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, literal_column, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from linker import mapping
from linker.database import chosen_once
from linker.errors import RowUnreadable
from linker.prepared import Prepared, Reading
from linker.rows import ConnectionRow
from states.connection import Connection

log = structlog.get_logger("linker")

CONNECTION = ConnectionRow.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes

Terms = Mapping[str, Any]

#: How long a row that cannot be read is left alone.
ASIDE = timedelta(hours=1)

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
        """Lease the connection `this`, unless somebody else holds it. Raises RowUnreadable."""
        for values in self._leased(transaction, "one", _ONE, terms):
            return self._read(transaction, values)
        return None

    def due(self, transaction: Transaction, terms: Terms) -> list[Connection]:
        """Lease at most `most` connections that are due. A row that cannot be read must not stop the others."""
        claimed = []
        for values in self._leased(transaction, "due", _ALL_DUE, terms):
            try:
                claimed.append(self._read(transaction, values))
            except RowUnreadable as error:
                _put_aside(transaction, values[0], terms["now"])
                log.error("row.unreadable", connection_id=values[0], reason=str(error))
        return claimed

    def _leased(
        self, transaction: Transaction, name: str, statement: ReturningUpdate[Any], terms: Terms
    ) -> list[tuple[Any, ...]]:
        if name not in self._prepared:
            self._prepared[name] = Prepared(statement, transaction.dialect)
        return self._prepared[name].returned(transaction, terms)

    def _read(self, transaction: Transaction, values: tuple[Any, ...]) -> Connection:
        if self._reading is None:
            self._reading = Reading(CONNECTION, transaction.dialect)
        try:
            return mapping.connection(self._reading.row(values))
        except mapping.UNREADABLE as error:
            unreadable = mapping.unreadable(values[0], error)
        raise unreadable


def _put_aside(transaction: Transaction, connection_id: str, now: datetime) -> None:
    """Look at a row again later, when somebody may have mended it."""
    these = update(CONNECTION).where(CONNECTION.c.id == connection_id)
    transaction.execute(these.values(due_at=now + ASIDE, lease_holder=None, lease_until=None))
