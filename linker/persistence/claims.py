"""Claiming: leases are taken in one statement, and what others hold is passed over.

A claim bumps the version, so that whoever held the row before cannot write it any more. Accounts that several
connections share, and partners' client ids, have a ration of calls that all workers share: it is counted in the claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Dialect,
    Integer,
    LargeBinary,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.dml import ReturningUpdate

from linker.database.statements import CompiledStatement, materialized
from linker.engine.ports import Lease
from linker.errors import RowUnreadable
from linker.persistence import mapping
from linker.persistence.rate_limits import SharedRateLimits
from linker.persistence.tables import CONNECTION
from states.connection import Connection

Order = Callable[[Connection], Any]
#: Rows that cannot be read, by the ids of their connections.
Unreadable = Mapping[str, RowUnreadable]

#: How long a row that cannot be read is left alone.
ASIDE = timedelta(hours=1)

_FREE = or_(CONNECTION.c.lease_until.is_(None), CONNECTION.c.lease_until <= bindparam("now"))
_DUE = (CONNECTION.c.due_at <= bindparam("now"), _FREE)
_LONGEST_DUE = select(CONNECTION.c.id).where(*_DUE).order_by(CONNECTION.c.due_at).limit(bindparam("most"))
#: Not the column itself: for the sake of its order SQLite would walk through the index of all owners.
_OWNER: ColumnElement[str] = literal_column("connection.owner || ''")
_TURN = func.row_number().over(partition_by=_OWNER, order_by=CONNECTION.c.due_at)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim took, to be read outside of the database's thread, and the order that it is given in."""

    leased: Leased
    order: Order
    #: What was given back at once: the calls that it shares with others are used up.
    put_off: Set[str] = frozenset()


class Claims:
    """Takes leases. Its statements are compiled once: a sweep asks for little else."""

    def __init__(self, rations: SharedRateLimits, dialect: Dialect) -> None:
        """Take the rations that all workers share, and the engine that statements are made for."""
        self._rations = rations
        self._leases = leases_of(dialect)
        self._is_sqlite = dialect.name == "sqlite"
        self._reader = mapping.Reader(dialect)

    def one(self, transaction: Transaction, terms: Terms) -> Connection | None:
        """Lease the connection `this`, unless somebody else holds it. Raises RowUnreadable.

        A person asks for one: that is counted, and never put off.
        """
        this = select(CONNECTION.c.id).where(CONNECTION.c.id == bindparam("this"), _FREE).with_for_update()
        leased = self._leases.take(transaction, "one", this, terms)
        for values in leased:
            claimed = self._reader.connection(values[:-1])
            self._rations.count(transaction, claimed, terms["now"], shares=leased.shares)
            return claimed
        return None

    def due(self, transaction: Transaction, terms: Terms) -> Taken:
        """Lease at most `most` connections that are due, longest due first."""
        chosen = _LONGEST_DUE.with_for_update(skip_locked=True)
        return self._taken(transaction, "due", chosen, terms, order=lambda found: found.due_at)

    def these(self, transaction: Transaction, ids: Sequence[str], terms: Terms) -> Taken:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        is_listed = (
            CONNECTION.c.id.in_(listed("ids"))
            if self._is_sqlite
            else CONNECTION.c.id == func.any(bindparam("ids", type_=ARRAY(Text)))
        )
        chosen = select(CONNECTION.c.id).where(is_listed, *_DUE).with_for_update(skip_locked=True)
        place = {connection_id: number for number, connection_id in enumerate(ids)}
        terms = {**terms, "ids": json.dumps(ids) if self._is_sqlite else ids}
        return self._taken(transaction, "these", chosen, terms, order=lambda found: place[found.id])

    def _taken(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms, *, order: Order) -> Taken:
        """Lease what is chosen. Where calls are shared, what has to wait for them is given back."""
        leased = self._leases.take(transaction, name, chosen, terms)
        if not self._rations.concern(shares=leased.shares):
            return Taken(leased, order)
        sharing = {values[0] for values in leased if values[-1]}
        claimed, _ = self.read(Taken(leased, order))
        put_off = self._rations.share_out(transaction, claimed, sharing, terms["now"])
        for connection_id, until in put_off.items():
            _put_off(transaction, connection_id, terms["holder"], until)
        return Taken(leased, order, put_off.keys())

    def read(self, taken: Taken) -> tuple[list[Connection], Unreadable]:
        """The connections that were taken, in their order, and what cannot be read."""
        claimed: list[Connection] = []
        unreadable: dict[str, RowUnreadable] = {}
        for values in taken.leased:
            try:
                claimed.append(self._reader.connection(values[:-1]))
            except RowUnreadable as error:
                unreadable[values[0]] = error
        claimed.sort(key=taken.order)
        return [one for one in claimed if one.id not in taken.put_off], unreadable


def due_by_owner_round_robin(now: datetime, limit: int) -> Select[Any]:
    """The ids and states of what is due, taking turns among the owners: nobody waits for another one's crowd."""
    listed = (CONNECTION.c.id, CONNECTION.c.state, CONNECTION.c.due_at, _TURN.label("turn"))
    due = select(*listed).where(*_DUE).subquery()
    return select(due.c.id, due.c.state).order_by(due.c.turn, due.c.due_at).limit(limit).params(now=now)


def quarantine(transaction: Transaction, unreadable: Iterable[str], lease: Lease, now: datetime) -> None:
    """Leave alone for a while what cannot be read, if it is still held under this lease."""
    for connection_id in unreadable:
        _put_off(transaction, connection_id, lease.holder, now + ASIDE)


def _put_off(transaction: Transaction, connection_id: str, holder: str, until: datetime) -> None:
    """Give a lease back and look again later."""
    these = update(CONNECTION).where(CONNECTION.c.id == connection_id, CONNECTION.c.lease_holder == holder)
    transaction.execute(these.values(due_at=until, lease_holder=None, lease_until=None))


Terms = Mapping[str, Any]
Values = Sequence[Any]

_LEASED = {
    "lease_holder": bindparam("holder"),
    "lease_until": bindparam("until"),
    "version": CONNECTION.c.version + literal_column("1"),
}
#: How SQLite and Python's driver say that a value was not written by us; they have no code for it.
DAMAGED = ("JSON cannot hold BLOB", "Could not decode to UTF-8")
#: SQLite's own number of a row: it is sound also where an id is not.
_row: ColumnElement[int] = literal_column("connection.rowid", Integer())
#: Written by hand, because SQLAlchemy leaves the names of tables out of what SQLite returns.
_SHARES_ITS_ACCOUNT: ColumnElement[bool] = literal_column(
    "EXISTS (SELECT 1 FROM connection AS other WHERE other.subdomain = connection.subdomain "
    "AND other.id <> connection.id AND other.closed_at IS NULL)"
)


@dataclass(frozen=True, slots=True)
class Leased:
    """What was leased, still as the database gave it."""

    #: The rows, or all of them in one text of JSON; behind the columns of each: whether others share its account.
    given: str | list[tuple[Any, ...]]
    #: True if there is one that shares its account.
    shares: bool

    def __iter__(self) -> Iterator[Values]:
        """The rows."""
        return iter(json.loads(self.given) if isinstance(self.given, str) else self.given)


class Leases(Protocol):
    """Takes leases on one engine."""

    def take(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> Leased:
        """Lease what is chosen, by a statement that has this `name` and is compiled once."""
        ...


class PostgresLeases:
    """Takes leases with one statement."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._prepared: dict[str, CompiledStatement] = {}

    def take(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> Leased:
        """Lease what is chosen, and return it."""
        if name not in self._prepared:
            self._prepared[name] = CompiledStatement(_lease(chosen), self._dialect)
        rows = self._prepared[name].returned(transaction, terms)
        return Leased(rows, any(row[-1] for row in rows))


class SqliteLeases:
    """Takes leases with three statements: which ones, lease them, read them. Nobody writes between them."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._choosing: dict[str, CompiledStatement] = {}
        these = _row.in_(listed("chosen"))
        columns = (*CONNECTION.c, _SHARES_ITS_ACCOUNT)
        in_one = func.json_group_array(func.json_array(*columns))
        read = select(in_one, func.max(_SHARES_ITS_ACCOUNT), func.json_valid(in_one))
        self._lease = CompiledStatement(update(CONNECTION).where(these).values(_LEASED), dialect)
        self._read = CompiledStatement(read.select_from(CONNECTION).where(these), dialect)
        self._read_one = CompiledStatement(select(*columns).where(_row == bindparam("this")), dialect)
        self._name_one = CompiledStatement(
            select(cast(CONNECTION.c.id, LargeBinary)).where(_row == bindparam("this")), dialect
        )

    def take(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> Leased:
        """Lease what is chosen, and read it."""
        if name not in self._choosing:
            rows = chosen.with_only_columns(_row.label("row")).subquery("chosen")
            self._choosing[name] = CompiledStatement(select(func.json_group_array(rows.c.row)), self._dialect)
        [(found,)] = self._choosing[name].returned(transaction, terms)
        these = {**terms, "chosen": found}
        if not self._lease.run(transaction, these):
            return Leased([], shares=False)
        found_all = _undamaged(self._read, transaction, these)
        if found_all and found_all[0][-1]:
            [(rows, shares, _)] = found_all
            return Leased(rows, bool(shares))
        return self._one_by_one(transaction, json.loads(found))

    def _one_by_one(self, transaction: Transaction, chosen: Sequence[int]) -> Leased:
        """Where something was written by hand that JSON cannot hold. What no text can hold comes as its id alone."""
        rows: list[tuple[Any, ...]] = []
        for row in chosen:
            whole = _undamaged(self._read_one, transaction, {"this": row})
            rows += [(self._name(transaction, row), False)] if whole is None else whole
        return Leased(rows, any(row[-1] for row in rows))

    def _name(self, transaction: Transaction, row: int) -> str:
        """The id of a row; of one that is damaged too, what can be shown of it."""
        [(name,)] = self._name_one.returned(transaction, {"this": row})
        return str(name, errors="replace")


def _undamaged(statement: CompiledStatement, transaction: Transaction, terms: Terms) -> list[tuple[Any, ...]] | None:
    """What a statement returns; None if it meets what no text can hold."""
    try:
        return statement.returned(transaction, terms)
    except OperationalError as error:
        if str(error.orig).startswith(DAMAGED):
            return None
        raise


def leases_of(dialect: Dialect) -> Leases:
    """How leases are taken on this engine."""
    return SqliteLeases(dialect) if dialect.name == "sqlite" else PostgresLeases(dialect)


def listed(name: str) -> Select[Any]:
    """What is in a list that SQLite takes as a text of JSON."""
    return select(func.json_each(bindparam(name, type_=Text)).table_valued("value").c.value)


def _lease(chosen: Select[Any]) -> ReturningUpdate[Any]:
    these = CONNECTION.c.id.in_(materialized(chosen))
    return update(CONNECTION).where(these).values(_LEASED).returning(CONNECTION, _SHARES_ITS_ACCOUNT)
