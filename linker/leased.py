"""How leases are taken on each engine, and how what was leased comes back.

On PostgreSQL one statement does both. SQLite gives row by row what a statement returns, and for each of them the
database's thread would wait for Python's lock, which the event loop hardly lets go of during a sweep. So there the rows
come as one text of JSON, which is taken apart by whoever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
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
    select,
    update,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.dml import ReturningUpdate

from linker.database.statements import Prepared, chosen_once
from linker.rows import CONNECTION

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
        self._prepared: dict[str, Prepared] = {}

    def take(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> Leased:
        """Lease what is chosen, and return it."""
        if name not in self._prepared:
            self._prepared[name] = Prepared(_lease(chosen), self._dialect)
        rows = self._prepared[name].returned(transaction, terms)
        return Leased(rows, any(row[-1] for row in rows))


class SqliteLeases:
    """Takes leases with three statements: which ones, lease them, read them. Nobody writes between them."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._choosing: dict[str, Prepared] = {}
        these = _row.in_(listed("chosen"))
        columns = (*CONNECTION.c, _SHARES_ITS_ACCOUNT)
        in_one = func.json_group_array(func.json_array(*columns))
        read = select(in_one, func.max(_SHARES_ITS_ACCOUNT), func.json_valid(in_one))
        self._lease = Prepared(update(CONNECTION).where(these).values(_LEASED), dialect)
        self._read = Prepared(read.select_from(CONNECTION).where(these), dialect)
        self._read_one = Prepared(select(*columns).where(_row == bindparam("this")), dialect)
        self._name_one = Prepared(select(cast(CONNECTION.c.id, LargeBinary)).where(_row == bindparam("this")), dialect)

    def take(self, transaction: Transaction, name: str, chosen: Select[Any], terms: Terms) -> Leased:
        """Lease what is chosen, and read it."""
        if name not in self._choosing:
            rows = chosen.with_only_columns(_row.label("row")).subquery("chosen")
            self._choosing[name] = Prepared(select(func.json_group_array(rows.c.row)), self._dialect)
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


def _undamaged(statement: Prepared, transaction: Transaction, terms: Terms) -> list[tuple[Any, ...]] | None:
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
    these = CONNECTION.c.id.in_(chosen_once(chosen))
    return update(CONNECTION).where(these).values(_LEASED).returning(CONNECTION, _SHARES_ITS_ACCOUNT)
