"""Claiming: leases are taken in one statement, and what others hold is passed over.

A claim bumps the version, so that whoever held the row before cannot write it any more. Accounts that several
connections share, and partners' client ids, have a ration of calls that all workers share: it is counted in the claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ARRAY, ColumnElement, Select, Text, bindparam, func, literal_column, or_, select, update
from sqlalchemy import Connection as Transaction
from sqlalchemy.sql.dml import ReturningUpdate

from linker import mapping
from linker.database import chosen_once
from linker.errors import RowUnreadable
from linker.prepared import Prepared
from linker.rations import Rations
from linker.rows import CONNECTION
from states.connection import Connection

log = structlog.get_logger("linker")


Terms = Mapping[str, Any]

#: How long a row that cannot be read is left alone.
ASIDE = timedelta(hours=1)

_FREE = or_(CONNECTION.c.lease_until.is_(None), CONNECTION.c.lease_until <= bindparam("now"))
_DUE = (CONNECTION.c.due_at <= bindparam("now"), _FREE)
_LONGEST_DUE = select(CONNECTION.c.id).where(*_DUE).order_by(CONNECTION.c.due_at).limit(bindparam("most"))
_LEASED = {
    "lease_holder": bindparam("holder"),
    "lease_until": bindparam("until"),
    "version": CONNECTION.c.version + literal_column("1"),
}
#: Written by hand, because SQLAlchemy leaves the names of tables out of what SQLite returns.
_SHARES_ITS_ACCOUNT: ColumnElement[bool] = literal_column(
    "EXISTS (SELECT 1 FROM connection AS other WHERE other.subdomain = connection.subdomain "
    "AND other.id <> connection.id AND other.closed_at IS NULL)"
)
#: Not the column itself: for the sake of its order SQLite would walk through the index of all owners.
_OWNER: ColumnElement[str] = literal_column("connection.owner || ''")
_TURN = func.row_number().over(partition_by=_OWNER, order_by=CONNECTION.c.due_at)


class Claiming:
    """Takes leases. Its statements are compiled once: a sweep asks for little else."""

    def __init__(self, rations: Rations) -> None:
        """Take the rations that all workers share."""
        self._rations = rations
        self._prepared: dict[str, Prepared] = {}
        self._reader: mapping.Reader | None = None

    def one(self, transaction: Transaction, terms: Terms) -> Connection | None:
        """Lease the connection `this`, unless somebody else holds it. Raises RowUnreadable.

        A person asks for one: that is counted, and never put off.
        """
        this = select(CONNECTION.c.id).where(CONNECTION.c.id == bindparam("this"), _FREE).with_for_update()
        for values in self._leased(transaction, "one", this, terms):
            claimed = self._read(transaction, values)
            self._rations.count(transaction, claimed, terms["now"], shares=bool(values[-1]))
            return claimed
        return None

    def due(self, transaction: Transaction, terms: Terms) -> list[Connection]:
        """Lease at most `most` connections that are due, longest due first."""
        chosen = _LONGEST_DUE.with_for_update(skip_locked=True)
        return self._claimed(transaction, "due", chosen, terms, order=lambda found: found.due_at)

    def these(self, transaction: Transaction, ids: Sequence[str], terms: Terms) -> list[Connection]:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        listed: Sequence[str] | str = json.dumps(ids) if transaction.dialect.name == "sqlite" else ids
        chosen = select(CONNECTION.c.id).where(_is_listed(transaction), *_DUE).with_for_update(skip_locked=True)
        place = {connection_id: number for number, connection_id in enumerate(ids)}
        terms = {**terms, "ids": listed}
        return self._claimed(transaction, "these", chosen, terms, order=lambda found: place[found.id])

    def _claimed(
        self,
        transaction: Transaction,
        name: str,
        chosen: Select[Any],
        terms: Terms,
        *,
        order: Callable[[Connection], Any],
    ) -> list[Connection]:
        """Lease what is chosen. A row that cannot be read must not stop the others."""
        claimed: list[Connection] = []
        sharing: set[str] = set()
        for values in self._leased(transaction, name, chosen, terms):
            try:
                claimed.append(self._read(transaction, values))
            except RowUnreadable as error:
                _put_off(transaction, values[0], terms["now"] + ASIDE)
                log.error("row.unreadable", connection_id=values[0], reason=str(error))
            else:
                sharing |= {claimed[-1].id} if values[-1] else set()
        claimed.sort(key=order)
        put_off = self._rations.share_out(transaction, claimed, sharing, terms["now"])
        for connection_id, until in put_off.items():
            _put_off(transaction, connection_id, until)
        return [one for one in claimed if one.id not in put_off]

    def _leased(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> list[tuple[Any, ...]]:
        """The rows as the driver gives them, each with whether others share its account."""
        if name not in self._prepared:
            self._prepared[name] = Prepared(_lease(chosen), transaction.dialect)
        return self._prepared[name].returned(transaction, terms)

    def _read(self, transaction: Transaction, values: tuple[Any, ...]) -> Connection:
        if self._reader is None:
            self._reader = mapping.Reader(transaction.dialect)
        return self._reader.connection(values[:-1])


def in_turns(now: datetime, limit: int) -> Select[Any]:
    """The ids and states of what is due, taking turns among the owners: nobody waits for another one's crowd."""
    listed = (CONNECTION.c.id, CONNECTION.c.state, CONNECTION.c.due_at, _TURN.label("turn"))
    due = select(*listed).where(*_DUE).subquery()
    return select(due.c.id, due.c.state).order_by(due.c.turn, due.c.due_at).limit(limit).params(now=now)


def _lease(chosen: Select[Any]) -> ReturningUpdate[Any]:
    these = CONNECTION.c.id.in_(chosen_once(chosen))
    return update(CONNECTION).where(these).values(_LEASED).returning(CONNECTION, _SHARES_ITS_ACCOUNT)


def _is_listed(transaction: Transaction) -> Any:
    """That the id is among `ids`: a statement of one text, however many there are."""
    if transaction.dialect.name == "sqlite":
        listed = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        return CONNECTION.c.id.in_(select(listed.c.value))
    return CONNECTION.c.id == func.any(bindparam("ids", type_=ARRAY(Text)))


def _put_off(transaction: Transaction, connection_id: str, until: datetime) -> None:
    """Give a lease back and look again later."""
    these = update(CONNECTION).where(CONNECTION.c.id == connection_id)
    transaction.execute(these.values(due_at=until, lease_holder=None, lease_until=None))
