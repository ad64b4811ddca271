"""Times that nothing can have produced: they were written while a clock was wrong, and must not be waited for.

A machine's clock may have been ahead by a day or by years, and is right again. What it made is due; what was to end
later has ended; what began later than now begins now.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from states.connection import Connection, ConnectionState, evolve
from states.timing import CLOCK_SLACK, LONGEST_NAMED, LONGEST_SPAN, Timing, furthest_due


def furthest(state: ConnectionState, timing: Timing) -> timedelta:
    """How far ahead the time can lie at which a connection in this state is due."""
    return furthest_due(
        timing,
        waits_for_token=state is ConnectionState.AWAITING_TOKEN,
        has_failed=state is ConnectionState.FAILED,
    )


#: Times of what has been, and the end of a page's being open, which is always less than a minute ahead.
_SEEN_AT = ("watched_since", "watched_until", "refused_at", "last_ok_at", "reported_at", "used_at", "troubled_since")


def without_impossible_times(c: Connection, now: datetime, timing: Timing) -> Connection:
    """The connection as it is believed: when it is due, what it waits for, and when something began or was seen.

    A deadline may be longer than the settings are by now. So it is impossible only beyond all settings, or if the state
    that it belongs to began in the future.
    """
    mended: dict[str, object] = {}
    if c.due_at is not None and c.due_at > now + furthest(c.state, timing):
        mended["due_at"] = now
    if c.not_before is not None and c.not_before > now + LONGEST_NAMED + CLOCK_SLACK:
        mended["not_before"] = None
    if c.deadline is not None and c.deadline > now:
        began_ahead = c.state_since > now + CLOCK_SLACK
        within = max(timing.token_within, timing.recruiter_within) + timedelta(days=1)
        if c.deadline > now + LONGEST_SPAN + CLOCK_SLACK or (began_ahead and c.deadline > now + within):
            mended["deadline"] = now
    if c.held_until is not None and c.held_until > now + timing.held_for + CLOCK_SLACK:
        mended["held_until"] = now
    mended |= _seen_ahead(c, now)
    return evolve(c, **mended) if mended else c


def _seen_ahead(c: Connection, now: datetime) -> dict[str, object]:
    """What is said to have begun, or to have been seen, later than now: it was now."""
    latest, mended = now + CLOCK_SLACK, dict[str, object]()
    for name in _SEEN_AT:
        at: datetime | None = getattr(c, name)
        if at is not None and at > latest:
            mended[name] = now
    for name, since in (("doubt", c.doubt), ("problem", c.problem), ("replacement_problem", c.replacement_problem)):
        if since is not None and since.since > latest:
            mended[name] = replace(since, since=now)
    if c.last_look is not None and c.last_look.told_at is not None and c.last_look.told_at > latest:
        mended["last_look"] = replace(c.last_look, told_at=now)
    return mended
