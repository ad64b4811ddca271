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


def without_impossible_times(c: Connection, now: datetime, timing: Timing) -> Connection:
    """The connection as it is believed: a due time, a time that Workable named, a deadline, and when a doubt began.

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
    if c.doubt is not None and c.doubt.since > now + CLOCK_SLACK:
        mended["doubt"] = replace(c.doubt, since=now)
    return evolve(c, **mended) if mended else c
