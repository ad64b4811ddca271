"""What is written down of an event: the step, and what the host is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from states import events as happened
from states.connection import Connection, ConnectionState
from states.problems import ProblemCode

#: Looks that found what they expected. They leave no step: history would drown in them.
SILENT = frozenset({happened.RecruiterAbsent, happened.HealthConfirmed})
#: Trouble leaves a step when it begins, not each time that it goes on.
ONCE = frozenset(
    {
        happened.WorkableUnavailable,
        happened.Throttled,
        happened.AnswerNotUnderstood,
        happened.AttentionFailed,
    }
)

#: What a host can listen to, in the order of the story.
ANNOUNCEMENTS = (
    "connection.opened",
    "token.accepted",
    "connection.awaiting_recruiter",
    "connection.linked",
    "connection.failed",
    "connection.recovered",
    "token.expiring",
    "recruiter.removed",
    "connection.unlinked",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a connection's history. `evidence` holds calls, statuses and milliseconds, never a secret."""

    event: str
    source: ConnectionState | None
    target: ConnectionState
    at: datetime
    actor: str
    reason: str | None = None
    problem: ProblemCode | None = None
    evidence: dict[str, Any] = field(default_factory=dict, hash=False)
    seq: int = 0


def is_news(before: Connection, after: Connection, event: happened.Event) -> bool:
    """True if the event belongs into the history."""
    if type(event) in SILENT:
        return type(event) is happened.HealthConfirmed and before.problem is not None
    if type(event) is happened.RefusalDoubted:
        return before.doubt is None or before.doubt.code is not event.code
    if type(event) in ONCE:
        return before.problem is None or after.problem is None or before.problem.code is not after.problem.code
    return True


def announcement(before: Connection, after: Connection, event: happened.Event) -> str | None:
    """What the host is told of the event, if anything."""
    match event:
        case happened.TokenAccepted() | happened.ReplacementAccepted():
            return "token.accepted"
        case happened.TokenExpiring():
            return "token.expiring"
        case happened.RecruiterVanished():
            return "recruiter.removed"
        case happened.Unlinked():
            return "connection.unlinked"
    return _by_state(before, after) if after.state is not before.state else None


def _by_state(before: Connection, after: Connection) -> str | None:
    match after.state:
        case ConnectionState.AWAITING_RECRUITER:
            return "connection.awaiting_recruiter"
        case ConnectionState.LINKED:
            return "connection.linked" if before.linked_at is None else "connection.recovered"
        case ConnectionState.FAILED:
            return "connection.failed"
    return None
