"""Selectors: the words by which connections are meant, the same for every verb, and for people and programs.

Relative times are made absolute once, when a selection is made; from then on it means the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

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
    found = _SPAN.fullmatch(given.strip().lower())
    if found is None:
        raise BadInput(field, "not_a_span_of_time")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def moment(field: str, given: str | datetime | timedelta, now: datetime) -> datetime:
    """A time as in `2026-12-24T18:00`, in UTC where no zone is named, or a span from now on. Raises BadInput."""
    if isinstance(given, datetime):
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    if isinstance(given, timedelta) or _SPAN.fullmatch(given.strip().lower()):
        return now + span(field, given)
    try:
        found = datetime.fromisoformat(given.strip())
    except ValueError:
        raise BadInput(field, "not_a_time") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def selection(
    now: datetime,
    *,
    ids: Iterable[str] | None = None,
    state: ConnectionState | str | None = None,
    problem: ProblemCode | str | None = None,
    owner: str | None = None,
    account: str | None = None,
    subdomain: str | None = None,
    metadata: Mapping[str, str] | None = None,
    text: str | None = None,
    older_than: timedelta | str | None = None,
    newer_than: timedelta | str | None = None,
    due_before: datetime | timedelta | str | None = None,
    expires_within: timedelta | str | None = None,
    stuck: bool = False,
    paused: bool = False,
    closed: bool | None = False,
    after: str | None = None,
    limit: int | None = None,
) -> Selection:
    """The selection that these words mean now; all of them hold together. Raises BadInput.

    Args:
        now: what relative times count from.
        ids: whole ids.
        state: only in this state.
        problem: only with this problem, by its code.
        owner: only of this customer.
        account: only of this Workable account, by its id or its subdomain.
        subdomain: only with this subdomain, as it was accepted or entered last.
        metadata: only with these texts.
        text: only what holds this text, in any of its names, without regard to capitals.
        older_than: only what is in its state for this long or longer, as in `3d`.
        newer_than: only what is in its state for a shorter time.
        due_before: only what is attended before this time, or within this span.
        expires_within: only what has a token whose last day comes within this span; what is over does not count.
        stuck: only what waits for a person.
        paused: only what an operator keeps at rest.
        closed: only closed ones; False: only open ones; None: both.
        after: the cursor that a page before ended with.
        limit: at most so many.
    """
    for field, flag in (("stuck", stuck), ("paused", paused), ("closed", closed)):
        texts.check_type(field, flag, bool, "not_a_flag")
    texts.check_type("limit", limit, int, "not_a_number", least=1)
    if limit is not None and limit < 1:
        raise BadInput("limit", "not_a_number", least=1)
    today = now.astimezone(UTC).date()
    until = None if expires_within is None else (now + span("expires_within", expires_within)).astimezone(UTC).date()
    given = None if ids is None else tuple(dict.fromkeys(ids))
    if given is not None and len(given) > MOST_IDS:
        raise BadInput("id", "too_many", most=MOST_IDS)
    return Selection(
        ids=given,
        state=None if state is None else _one_of("state", state, ConnectionState),
        problem=None if problem is None else _one_of("problem", problem, ProblemCode).value,
        owner=_line("owner", owner),
        account=_line("account", account),
        subdomain=_line("subdomain", subdomain),
        metadata=dict(metadata or {}),
        text=_line("text", text),
        since_before=None if older_than is None else now - span("older_than", older_than),
        since_after=None if newer_than is None else now - span("newer_than", newer_than),
        due_before=None if due_before is None else moment("due_before", due_before, now),
        expires_from=None if until is None else today,
        expires_until=until,
        stuck=stuck,
        paused=paused,
        closed=closed,
        after=after,
        limit=limit,
    )


def _line(field: str, given: str | None) -> str | None:
    return None if given is None else texts.one_line(field, given)


def _one_of(field: str, given: Any, kind: Any) -> Any:
    if not isinstance(given, str) or given not in set(kind):
        raise BadInput(field, "unknown", known=[each.value for each in kind])
    return kind(given)
