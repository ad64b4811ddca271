"""Selectors: the words by which connections are meant, the same for every verb, and for people and programs.

Relative times are made absolute once, when a selection is made; from then on it means the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from linker.engine.ports import Selection
from linker.errors import BadInput
from linker.validation import text as texts
from states.connection import ConnectionState
from states.problems import ProblemCode

#: What a span of time may be given in, in seconds.
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"(\d{1,6}) *(s|min|m|h|d|w)")
#: More ids than this are no selection but a file that was given by mistake.
MOST_IDS = 100_000


def span(field: str, given: str | timedelta) -> timedelta:
    """A span of time as in `3d`, `12h`, `30m`. Raises BadInput."""
    if isinstance(given, timedelta):
        if given < timedelta(0):
            raise BadInput(field, "not_a_span_of_time")
        return given
    if not isinstance(given, str):
        raise BadInput(field, "not_a_span_of_time")
    found = _SPAN.fullmatch(given.strip().lower())
    if found is None:
        raise BadInput(field, "not_a_span_of_time")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def moment(field: str, given: str | datetime | timedelta, now: datetime) -> datetime:
    """A time as in `2026-12-24T18:00`, in UTC where no zone is named, or a span from now on. Raises BadInput."""
    if isinstance(given, datetime):
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    if not isinstance(given, str | timedelta):
        raise BadInput(field, "not_a_time")
    if isinstance(given, timedelta) or _SPAN.fullmatch(given.strip().lower()):
        return now + span(field, given)
    try:
        found = datetime.fromisoformat(given.strip())
    except ValueError:
        raise BadInput(field, "not_a_time") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Selectors(TypedDict, total=False):
    """The words by which connections are meant: those for which all that is given holds, by default all open ones.

    A span is a `timedelta`, or a text as in `3d`.
    """

    #: Whole ids.
    ids: Iterable[str] | None
    #: Only in this state.
    state: ConnectionState | str | None
    #: Only with this problem, by its code.
    problem: ProblemCode | str | None
    #: Only of this customer.
    owner: str | None
    #: Only of this Workable account, by its id or its subdomain.
    account: str | None
    #: Only with this subdomain, as it was accepted or entered last.
    subdomain: str | None
    #: Only with these texts.
    metadata: Mapping[str, str] | None
    #: Only what holds this text, in any of its names, without regard to capitals.
    text: str | None
    #: Only what is in its state for this span or longer.
    older_than: timedelta | str | None
    #: Only what is in its state for a shorter time.
    newer_than: timedelta | str | None
    #: Only what is attended before this time, or within this span.
    due_before: datetime | timedelta | str | None
    #: Only what has a token whose last day comes within this span; what is over does not count.
    expires_within: timedelta | str | None
    #: Only what waits for a person.
    stuck: bool
    #: Only what an operator keeps at rest.
    paused: bool
    #: Only closed ones; False, as by default: only open ones; None: both.
    closed: bool | None
    #: The cursor that a page before ended with, or the id of its last one.
    after: str | None
    #: At most so many.
    limit: int | None


def selection(now: datetime, **selectors: Unpack[Selectors]) -> Selection:
    """The selection that selectors mean now. Raises BadInput.

    Args:
        now: what relative times count from.
        selectors: any of `Selectors`.
    """
    if unknown := selectors.keys() - Selectors.__annotations__.keys():
        raise TypeError(f"These are no selectors: {', '.join(sorted(unknown))}")
    stuck, paused = selectors.get("stuck", False), selectors.get("paused", False)
    closed = selectors.get("closed", False)
    for field, flag in (("stuck", stuck), ("paused", paused), ("closed", closed)):
        texts.check_type(field, flag, bool, "not_a_flag")
    limit, ids = selectors.get("limit"), selectors.get("ids")
    texts.check_type("limit", limit, int, "not_a_number", least=1)
    if limit is not None and limit < 1:
        raise BadInput("limit", "not_a_number", least=1)
    whole = None if ids is None else tuple(dict.fromkeys(ids))
    if not all(isinstance(each, str) for each in whole or ()):
        raise BadInput("id", "not_text")
    texts.check_type("after", selectors.get("after"), str, "not_text")
    if whole is not None and len(whole) > MOST_IDS:
        raise BadInput("id", "too_many", most=MOST_IDS)
    state, problem, due_before = selectors.get("state"), selectors.get("problem"), selectors.get("due_before")
    older, newer, expires = selectors.get("older_than"), selectors.get("newer_than"), selectors.get("expires_within")
    until = None if expires is None else (now + span("expires_within", expires)).astimezone(UTC).date()
    return Selection(
        ids=whole,
        state=None if state is None else _one_of("state", state, ConnectionState),
        problem=None if problem is None else _one_of("problem", problem, ProblemCode).value,
        owner=_line("owner", selectors.get("owner")),
        account=_line("account", selectors.get("account")),
        subdomain=_line("subdomain", selectors.get("subdomain")),
        metadata=texts.metadata(selectors.get("metadata") or {}),
        text=_line("text", selectors.get("text")),
        since_before=None if older is None else now - span("older_than", older),
        since_after=None if newer is None else now - span("newer_than", newer),
        due_before=None if due_before is None else moment("due_before", due_before, now),
        expires_from=None if until is None else now.astimezone(UTC).date(),
        expires_until=until,
        stuck=stuck,
        paused=paused,
        closed=closed,
        after=selectors.get("after"),
        limit=limit,
    )


def _line(field: str, given: str | None) -> str | None:
    return None if given is None else texts.one_line(field, given)


def _one_of(field: str, given: Any, kind: Any) -> Any:
    if not isinstance(given, str) or given not in set(kind):
        raise BadInput(field, "unknown", known=[each.value for each in kind])
    return kind(given)
