"""Claiming: leases are taken in one statement, and what others hold is passed over.

A claim bumps the version, the fencing token: whoever held the row before cannot write it any more. Calls that several
connections share are counted in the claim, and what has to wait for them is given back in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Float,
    Select,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import Connection as Transaction

from linker.database.statements import CompiledStatement, is_among, materialized
from linker.engine.ports import Lease
from linker.errors import RowUnreadable
from linker.persistence import mapping
from linker.persistence.rate_limits import ACCOUNT, SharedRateLimits
from linker.persistence.tables import CONNECTION
from states.connection import Connection

Terms = Mapping[str, Any]
Row = Sequence[Any]
#: Rows that cannot be read, by the ids of their connections.
Unreadable = Mapping[str, RowUnreadable]

#: How long a row that cannot be read is left alone.
QUARANTINE = timedelta(hours=1)


#: No lease lasts for longer, whatever the settings, and clocks may differ by a minute.
LONGEST_LEASE = timedelta(hours=1, minutes=1)


def lease_is_free(lease_until: ColumnElement[Any], now: Any, beyond: Any = None) -> ColumnElement[bool]:
    """That nobody holds a row at a time. A lease that ends later than one can was taken while a clock was wrong."""
    return or_(
        lease_until.is_(None), lease_until <= now, lease_until > (now + LONGEST_LEASE if beyond is None else beyond)
    )


def at_time(now: datetime) -> dict[str, datetime]:
    """The terms of what is due and free at a time."""
    return {"now": now, "beyond": now + LONGEST_LEASE}


_FREE = lease_is_free(CONNECTION.c.lease_until, bindparam("now"), bindparam("beyond"))
_DUE = (CONNECTION.c.due_at <= bindparam("now"), _FREE)
#: Not the column itself: for the sake of its order SQLite would walk through the index of all owners.
_OWNER: ColumnElement[str] = literal_column("linker_connection.owner || ''")


@dataclass(frozen=True, slots=True)
class ClaimedRows:
    """What a claim took, to be read outside of the database's thread, and the order that it is given in.

    Behind the columns of each row stands whether other connections share its account.
    """

    rows: Sequence[Row]
    order: Callable[[Connection], Any]
    #: What was given back at once: the calls that it shares with others are used up.
    postponed: Set[str] = frozenset()


class Claims:
    """Takes leases. Its statements are compiled once: a sweep asks for little else."""

    def __init__(self, rate_limits: SharedRateLimits, dialect: Dialect, schema: str | None = None) -> None:
        """Take the limits that all workers share, and the engine and the schema that statements are made for."""
        self._rate_limits = rate_limits
        self._reader = mapping.Reader(dialect)
        self._is_sqlite = dialect.name == "sqlite"
        listed = is_among(CONNECTION.c.id, None, is_sqlite=self._is_sqlite)
        ids = select(CONNECTION.c.id)
        longest_due = ids.where(*_DUE).order_by(CONNECTION.c.due_at).limit(bindparam("most"))
        self._lease_one = _lease(
            ids.where(CONNECTION.c.id == bindparam("this"), _FREE).with_for_update(), dialect, schema
        )
        self._lease_due = _lease(longest_due.with_for_update(skip_locked=True), dialect, schema)
        self._lease_listed = _lease(ids.where(listed, *_DUE).with_for_update(skip_locked=True), dialect, schema)

    def one(self, transaction: Transaction, terms: Terms) -> Connection | None:
        """Lease the connection `this`, unless somebody else holds it. Raises RowUnreadable.

        A person asks for one: that is counted, and never put off.
        """
        for *values, _ in self._lease_one.returned(transaction, terms):
            claimed = self._reader.connection(values)
            self._rate_limits.count(transaction, claimed, terms["now"])
            return claimed
        return None

    def one_giving_way(self, transaction: Transaction, terms: Terms) -> Connection | datetime | None:
        """Lease the connection `this` as a sweep would: where others call its account too, they come first.

        Gives the time when there is room for it, if there is none now: then the transaction is to be undone.
        """
        for *values, shares in self._lease_one.returned(transaction, terms):
            claimed = self._reader.connection(values)
            sharing = {claimed.id} if shares else set[str]()
            waiting = self._rate_limits.share_out(transaction, [claimed], sharing, terms["now"])
            return waiting.get(claimed.id, claimed)
        return None

    def due(self, transaction: Transaction, terms: Terms) -> ClaimedRows:
        """Lease at most `most` connections that are due, longest due first."""
        rows = self._lease_due.returned(transaction, terms)
        return self._within_limits(transaction, ClaimedRows(rows, lambda found: found.due_at), terms)

    def these(self, transaction: Transaction, ids: Sequence[str], terms: Terms) -> ClaimedRows:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        place = {connection_id: number for number, connection_id in enumerate(ids)}
        listed = {**terms, "ids": json.dumps(ids) if self._is_sqlite else ids}
        rows = self._lease_listed.returned(transaction, listed)
        return self._within_limits(transaction, ClaimedRows(rows, lambda found: place[found.id]), terms)

    def _within_limits(self, transaction: Transaction, claimed: ClaimedRows, terms: Terms) -> ClaimedRows:
        """Where calls are shared, give back what has to wait for them. Only of those the rows are read here."""
        sharing = {row[0] for row in claimed.rows if row[-1]}
        concerned = claimed.rows if self._rate_limits.is_partner else [row for row in claimed.rows if row[-1]]
        if not concerned:
            return claimed
        connections, _ = self.read(concerned)
        connections.sort(key=claimed.order)
        waiting = self._rate_limits.share_out(transaction, connections, sharing, terms["now"])
        for connection_id, until in waiting.items():
            _postpone(transaction, connection_id, terms["holder"], until)
        return ClaimedRows(claimed.rows, claimed.order, waiting.keys())

    def read(self, rows: Sequence[Row]) -> tuple[list[Connection], Unreadable]:
        """The connections of rows that were claimed, and what cannot be read."""
        connections: list[Connection] = []
        unreadable: dict[str, RowUnreadable] = {}
        for *values, _ in rows:
            try:
                connections.append(self._reader.connection(values))
            except RowUnreadable as error:
                unreadable[values[0]] = error
        return connections, unreadable


def _lease(chosen: Select[Any], dialect: Dialect, schema: str | None) -> CompiledStatement:
    """The statement that leases what is chosen, and returns it with whether others call its account too.

    Others do if there are other connections to it, or if a person or a host called it in the last ten seconds.
    """
    leased = {
        "lease_holder": bindparam("holder"),
        "lease_until": bindparam("until"),
        "version": CONNECTION.c.version + literal_column("1"),
    }
    these = update(CONNECTION).where(CONNECTION.c.id.in_(materialized(chosen))).values(leased)
    table = f'"{schema}".linker_connection' if schema else "linker_connection"
    limits = f'"{schema}".linker_rate_limit' if schema else "linker_rate_limit"
    # written by hand, because SQLAlchemy leaves the names of tables out of what SQLite returns
    shares_its_account = text(
        # an account is shared by those whose tokens it accepted; whoever only names it takes nothing of it. They
        # are found by the partial index on what they named: without statistics PostgreSQL would read all open ones
        f"EXISTS (SELECT 1 FROM {table} AS other "  # noqa: S608 - ours
        "WHERE other.subdomain = linker_connection.account_subdomain AND other.account_id IS NOT NULL "
        "AND other.id <> linker_connection.id AND other.closed_at IS NULL) "
        f"OR coalesce((SELECT calls.spread_until FROM {limits} AS calls WHERE calls.name = "
        f"'{ACCOUNT}' || linker_connection.account_subdomain), 0) > :seconds AS shares"
    ).bindparams(bindparam("seconds", type_=Float()))
    return CompiledStatement(these.returning(CONNECTION, shares_its_account), dialect, schema)


def due_by_owner_round_robin(now: datetime, limit: int) -> Select[Any]:
    """The ids and states of what is due, taking turns among the owners: nobody waits for another one's crowd."""
    turn = func.row_number().over(partition_by=_OWNER, order_by=CONNECTION.c.due_at).label("turn")
    due = select(CONNECTION.c.id, CONNECTION.c.state, CONNECTION.c.due_at, turn).where(*_DUE).subquery()
    return select(due.c.id, due.c.state).order_by(due.c.turn, due.c.due_at).limit(limit).params(**at_time(now))


def quarantine(transaction: Transaction, unreadable: Iterable[str], lease: Lease, now: datetime) -> None:
    """Leave alone for a while what cannot be read, if it is still held under this lease."""
    for connection_id in unreadable:
        _postpone(transaction, connection_id, lease.holder, now + QUARANTINE)


def _postpone(transaction: Transaction, connection_id: str, holder: str, until: datetime) -> None:
    """Give a lease back and look again later."""
    stored = mapping.stored_id(connection_id)
    these = update(CONNECTION).where(CONNECTION.c.id == stored, CONNECTION.c.lease_holder == holder)
    transaction.execute(these.values(due_at=until, lease_holder=None, lease_until=None))
