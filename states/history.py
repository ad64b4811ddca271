"""What is written down of an event: the step, and what the host is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from states import events as happened
from states.connection import Connection, ConnectionState, Problem
from states.problems import ProblemCode

#: Looks that found what they expected. They leave no step, unless a person asked: history would drown in them.
SILENT = frozenset({happened.RecruiterAbsent, happened.HealthConfirmed, happened.StillFailed, happened.UseConfirmed})
#: The same answer to people who ask again and again leaves a step at most so often.
TOLD_AGAIN_AFTER = timedelta(minutes=1)
#: Trouble leaves a step when it begins, not each time that it goes on.
ONCE = frozenset(
    {
        happened.WorkableUnavailable,
        happened.Throttled,
        happened.AnswerNotUnderstood,
        happened.AttentionFailed,
    }
)

#: A host that reports refusals again and again leaves a step once in this time.
REPORTS_TOLD_APART = timedelta(hours=1)

#: What a host can listen to, in the order of the story.
ANNOUNCEMENTS = (
    "connection.opened",
    "token.accepted",
    "connection.awaiting_recruiter",
    "connection.linked",
    "connection.failed",
    "connection.recovered",
    "connection.troubled",
    "account.renamed",
    "token.expiring",
    "recruiter.removed",
    "permission.lost",
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
    #: The operator's verb that it was done by; None: no operator did it.
    verb: str | None = None
    #: The operation that it was done in, if it was one of many.
    operation: str | None = None
    seq: int = 0


def is_news(before: Connection, after: Connection, event: happened.Event) -> bool:
    """True if the event belongs into the history."""
    if type(event) in SILENT:
        well_again = type(event) is happened.HealthConfirmed and before.problem is not None and after.problem is None
        return well_again or _trouble_is_over(before, after)
    if type(event) is happened.RefusalDoubted:
        return before.doubt is None or before.doubt.code is not event.code
    if isinstance(event, happened.RefusalReported):
        lately = before.reported_at is not None and event.at - before.reported_at < REPORTS_TOLD_APART
        return before.doubt is None and not lately
    if type(event) in ONCE:
        known, trouble = before.present_problem, after.present_problem
        return known is None or trouble is None or known.code is not trouble.code
    return True


def problem_told(before: Connection, after: Connection) -> Problem | None:
    """The problem that a step names: a new token's if that is the news, or else the connection's own."""
    turned_down = after.replacement_problem
    is_new = turned_down is not None and turned_down != before.replacement_problem
    return turned_down if is_new else after.problem


def was_told(before: Connection, after: Connection, verdict: str, now: datetime) -> bool:
    """True if what a person asked for is in the history already: the same answer, less than a minute ago."""
    last = before.last_look
    if last is None or last.told_at is None or last.verdict != verdict:
        return False
    return before.problem == after.problem and abs(now - last.told_at) < TOLD_AGAIN_AFTER


def _trouble_is_over(before: Connection, after: Connection) -> bool:
    return before.troubled_since is not None and after.troubled_since is None


def announcement(before: Connection, after: Connection, event: happened.Event) -> str | None:
    """What the host is told of the event, if anything."""
    match event:
        case happened.TokenAccepted() | happened.ReplacementAccepted():
            return "token.accepted"
        case happened.TokenExpiring():
            return "token.expiring"
        case happened.RecruiterVanished():
            return "recruiter.removed"
        case happened.PermissionTried(scope, allowed) if not allowed and after.permissions is not None:
            return "permission.lost" if scope in after.permissions.lost else None
        case happened.Unlinked():
            return "connection.unlinked"
        case happened.AccountRenamed():
            return "account.renamed"
        case happened.TroubleLasted():
            return "connection.troubled"
        case happened.Recovered() if after.state is ConnectionState.AWAITING_RECRUITER:
            return "connection.recovered"
    if after.state is before.state:
        answered_well = after.last_ok_at != before.last_ok_at
        return "connection.recovered" if answered_well and _trouble_is_over(before, after) else None
    return _by_state(before, after)


def _by_state(before: Connection, after: Connection) -> str | None:
    match after.state:
        case ConnectionState.AWAITING_RECRUITER:
            return "connection.awaiting_recruiter"
        case ConnectionState.LINKED:
            return "connection.linked" if before.linked_at is None else "connection.recovered"
        case ConnectionState.FAILED:
            return "connection.failed"
    return None
