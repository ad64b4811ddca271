"""Which rows a selection means, in which order, and by which index they are found.

The order is by the time that the selection speaks of, and then by id: so a page of few among a million is read from
the index that its narrowest condition has, and in that index's order. What another index would be chosen for is
hidden from the planner, which does not know how many rows a page wants.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, literal_column, or_, select, tuple_
from sqlalchemy import Connection as Transaction

from linker.database.statements import is_among, materialized
from linker.engine.ports import DamagedRow, Selection
from linker.errors import BadInput
from linker.persistence.tables import CONNECTION, PAUSED, TROUBLED
from linker.serialization import moment
from linker.validation.text import may_be_id
from states.connection import Connection, ConnectionState
from states.problems import PROBLEMS, ProblemOwner

#: What stands between the id and the place in a cursor.
PLACE = "@"


def order_of(wanted: Selection) -> ColumnElement[Any]:
    """The column that a selection is ordered by, before the id.

    What moves a connection out of the selection moves it in this order too, so a page that was read is not read again.
    """
    if wanted.due_before is not None:
        return CONNECTION.c.due_at
    if wanted.expires_from is not None:
        return CONNECTION.c.token_expires_on
    by_state = wanted.state or wanted.problem or wanted.stuck or wanted.paused or wanted.since_before
    return CONNECTION.c.state_since if by_state or wanted.since_after else CONNECTION.c.created_at


def query_of(transaction: Transaction, wanted: Selection) -> Select[Any]:
    """The rows that a selection means, in its order, after its cursor. Raises BadInput."""
    # these two begin with a column that is empty, for SQLite to prefer them to that of all open ones
    first = [CONNECTION.c.closed_at] if _lead(wanted) in {"troubled", "paused"} else []
    order = (*first, order_of(wanted), CONNECTION.c.id)
    is_sqlite = transaction.dialect.name == "sqlite"
    found = select(CONNECTION.c.id).where(*_conditions(wanted, is_sqlite), *_after_cursor(transaction, wanted))
    found = found.order_by(*order).limit(wanted.limit)
    if searches(wanted):  # from the index alone, which holds the texts
        return select(CONNECTION).where(CONNECTION.c.id.in_(materialized(found))).order_by(*order)
    return found.with_only_columns(*CONNECTION.c)


def _after_cursor(transaction: Transaction, wanted: Selection) -> list[ColumnElement[bool]]:
    if wanted.after is None:
        return []
    order = order_of(wanted)
    connection_id, at, place = wanted.after.partition(PLACE)
    if not may_be_id(connection_id):
        raise BadInput("after", "no_cursor", cursor=wanted.after)
    this = CONNECTION.c.id == connection_id
    value: Any = select(order).where(this).scalar_subquery()
    if at:
        try:
            given = date.fromisoformat(place) if order is CONNECTION.c.token_expires_on else _time(place)
            value = literal(given, order.type)
        except ValueError:
            raise BadInput("after", "no_cursor", cursor=wanted.after) from None
    elif transaction.execute(select(CONNECTION.c.id).where(this)).first() is None:
        raise BadInput("after", "no_cursor", cursor=wanted.after)
    return [tuple_(order, CONNECTION.c.id) > tuple_(value, literal(connection_id))]


def cursor_of(wanted: Selection, last: Connection | DamagedRow) -> str:
    """The cursor behind a row. Whoever pages through what moves takes its place along, as far as it is legible."""
    order = order_of(wanted)
    if order is CONNECTION.c.created_at or isinstance(last, DamagedRow):
        return last.id
    if order is CONNECTION.c.token_expires_on:
        return f"{last.id}{PLACE}{last.token.expires_on}" if last.token else last.id
    at = last.due_at if order is CONNECTION.c.due_at else last.state_since
    return f"{last.id}{PLACE}{moment(at)}" if at else last.id


def _time(place: str) -> datetime:
    time = datetime.fromisoformat(place)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _conditions(wanted: Selection, is_sqlite: bool) -> list[ColumnElement[bool]]:
    """All conditions; the narrowest that has an index is the one that the rows are found by."""
    c = CONNECTION.c
    lead = _lead(wanted)

    def same(name: str, column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
        compared: ColumnElement[bool] = (column if lead == name else column.concat("")) == value
        return compared

    found: list[ColumnElement[bool]] = []
    if wanted.ids is not None:
        found.append(is_among(c.id, [each for each in wanted.ids if may_be_id(each)], is_sqlite=is_sqlite))
    if wanted.owner is not None:
        found.append(same("owner", c.owner, wanted.owner))
    if wanted.subdomain is not None:
        found.append(same("subdomain", c.subdomain, wanted.subdomain))
    if wanted.account is not None:
        found.append(or_(*(same("account", named, wanted.account) for named in (c.account_id, c.account_subdomain))))
    if wanted.problem is not None:
        found += [same("problem", c.problem_code, wanted.problem), c.problem_code.is_not(None)]
    if wanted.state is not None:
        found.append(same("state", c.state, wanted.state.value))
    found += _standing(wanted)
    needles = [wanted.text] if wanted.text is not None else []
    needles += [f"\n{key}={value}" for key, value in wanted.metadata.items()]
    return found + [_may_hold(needle.casefold(), is_sqlite) for needle in needles]


def _standing(wanted: Selection) -> list[ColumnElement[bool]]:
    """The conditions on times, and on whether connections are worked on."""
    c = CONNECTION.c
    found: list[ColumnElement[bool]] = []
    if wanted.expires_from is not None:
        found += [c.token_expires_on.is_not(None), c.token_expires_on >= wanted.expires_from]
    if wanted.expires_until is not None:
        found.append(c.token_expires_on <= wanted.expires_until)
    if wanted.due_before is not None:
        found.append(c.due_at < wanted.due_before)
    if wanted.since_before is not None:
        found.append(c.state_since <= wanted.since_before)
    if wanted.since_after is not None:
        found.append(c.state_since > wanted.since_after)
    if wanted.paused:
        found.append(literal_column(PAUSED))
    if wanted.stuck:
        found += [literal_column(TROUBLED), needs_a_person()]
    if wanted.closed is not None:
        found.append(c.closed_at.is_not(None) if wanted.closed else c.closed_at.is_(None))
    return found


def _lead(wanted: Selection) -> str | None:
    """The condition that a selection's rows are found by: the narrowest that has an index."""
    if wanted.ids is not None:
        return "ids"
    for name in ("owner", "subdomain", "account"):
        if getattr(wanted, name) is not None:
            return name
    if wanted.due_before is not None or wanted.expires_from is not None:
        return "time"
    if wanted.problem is not None:
        return "problem"
    if wanted.paused:
        return "paused"
    if wanted.stuck:
        return "troubled"
    return "state" if wanted.state is not None else None


def needs_a_person() -> ColumnElement[bool]:
    """That a person has to act for a connection."""
    people = {ProblemOwner.CUSTOMER, ProblemOwner.OPERATOR}
    return or_(
        CONNECTION.c.state == ConnectionState.FAILED.value,
        has_problem_of(people),
        CONNECTION.c.replacement_problem_code.is_not(None),
        CONNECTION.c.paused_at.is_not(None),
        CONNECTION.c.troubled_since.is_not(None),
    )


def has_problem_of(owners: set[ProblemOwner]) -> ColumnElement[bool]:
    """That a connection's problem is one that these have to act for."""
    codes = [code.value for code, kind in PROBLEMS.items() if kind.owner in owners]
    return CONNECTION.c.problem_code.in_(codes)


#: How many bytes of a connection's texts are searched by the index: PostgreSQL's takes no longer ones.
SEARCHED_BYTES = 2000


def searched_text(c: Connection) -> str | None:
    """The texts of a connection as they are searched: without regard to capitals, each on a line of its own.

    None if they are too long for an index: such a row is looked into itself.
    """
    whole = _indexed(_lines(c))
    return whole if len(whole) <= SEARCHED_BYTES else None


def _indexed(text: str) -> str:
    """A text as the index keeps it: in ASCII, which every database can hold, whatever its encoding."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _lines(c: Connection) -> str:
    account = (c.account.name, c.account.subdomain, c.account.id) if c.account else ()
    names = (c.id, c.owner, c.key, c.subdomain, *account, c.recruiter.email if c.recruiter else None)
    lines = [name for name in names if name] + [f"{key}={value}" for key, value in c.metadata.items()]
    return "".join(f"\n{line}" for line in lines).casefold()


def holds(wanted: Selection, c: Connection) -> bool:
    """True if a connection holds the text and the metadata of a selection: the index may have promised too much."""
    kept = all(c.metadata.get(key) == value for key, value in wanted.metadata.items())
    return kept and (wanted.text is None or wanted.text.casefold() in _lines(c))


def searches(wanted: Selection) -> bool:
    """True if a selection looks into texts, which is to be made sure of by `holds`."""
    return wanted.text is not None or bool(wanted.metadata)


def _may_hold(needle: str, is_sqlite: bool) -> ColumnElement[bool]:
    """That a connection's texts hold something, as far as the index knows."""
    searched = CONNECTION.c.searched
    position = func.instr if is_sqlite else func.strpos
    return or_(position(searched, _indexed(needle)) > 0, searched.is_(None))
