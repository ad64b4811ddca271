"""What Workable's answer means, and the event that it is for a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from states import events as happened
from states.connection import Account, Connection, ConnectionState
from states.effects import belongs_elsewhere, same_series
from states.problems import NearMiss, ProblemCode
from states.timing import Timing


@dataclass(frozen=True)
class Verdict:
    """What was learnt from one or more calls."""


@dataclass(frozen=True)
class AccountReadable(Verdict):
    """The token reads the account and its recruiters."""

    account: Account


@dataclass(frozen=True)
class RecruiterSeen(Verdict):
    """Our recruiter is in the list; the id is Workable's."""

    recruiter_id: str


@dataclass(frozen=True)
class RecruiterNotSeen(Verdict):
    """The list was read and our recruiter is not in it; `near_miss` is what comes close."""

    near_miss: NearMiss | None = None


@dataclass(frozen=True)
class CredentialRefused(Verdict):
    """Workable does not accept the token (401)."""


@dataclass(frozen=True)
class WrongAccount(Verdict):
    """The token is good for other accounts: `belongs_to` are their subdomains, as far as they are known."""

    belongs_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forbidden(Verdict):
    """The token lacks this permission (403)."""

    scope: str


@dataclass(frozen=True)
class Unavailable(Verdict):
    """Workable could not be reached or failed; `retry_at` only if it named a time."""

    retry_at: datetime | None = None


@dataclass(frozen=True)
class OverLimit(Verdict):
    """No call may be made before `retry_at`; `unasked`: that was known beforehand, and no call was made now."""

    retry_at: datetime
    unasked: bool = False


@dataclass(frozen=True)
class NotUnderstood(Verdict):
    """An answer that no rule covers. `answer` is a code of what it was, as in `not_json`."""

    answer: str
    status: int | None = None
    call: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """As a problem keeps it."""
        told = {"answer": self.answer, "status": self.status, "call": self.call}
        return {name: value for name, value in told.items() if value is not None}


def judge(connection: Connection, verdict: Verdict, *, now: datetime, timing: Timing) -> happened.Event:
    """The event that a verdict is, given what the connection was asking and what it remembers."""
    match verdict:
        case Unavailable() | NotUnderstood() if _is_long_overdue(connection, now, timing):
            return happened.RecruiterOverdue(looked=False)
        case Unavailable(retry_at):
            return _unavailable(connection, retry_at, timing)
        case OverLimit(retry_at):
            return happened.Throttled(retry_at)
        case NotUnderstood():
            return _not_understood(connection, verdict.params, timing)
    if connection.candidate is None:
        return _look(connection, verdict, now, timing)
    if connection.state is ConnectionState.AWAITING_TOKEN:
        return _verification(connection, verdict)
    return _replacement(connection, verdict)


def _unavailable(connection: Connection, retry_at: datetime | None, timing: Timing) -> happened.Event:
    """A replacement for another host that is out of reach must not keep us from the token in use."""
    elsewhere = connection.candidate is not None and connection.candidate.subdomain != connection.subdomain
    if elsewhere and _gives_up(connection, ProblemCode.WORKABLE_UNAVAILABLE, timing):
        return happened.ReplacementRefused(ProblemCode.WORKABLE_UNAVAILABLE)
    return happened.WorkableUnavailable(retry_at)


def _is_long_overdue(connection: Connection, now: datetime, timing: Timing) -> bool:
    """True if the recruiter's deadline passed so long ago that no outage is an excuse."""
    waiting = connection.state is ConnectionState.AWAITING_RECRUITER and connection.candidate is None
    return waiting and connection.deadline is not None and now >= connection.deadline + timing.overdue_grace


def _not_understood(connection: Connection, params: Mapping[str, Any], timing: Timing) -> happened.Event:
    if _gives_up(connection, ProblemCode.ANSWER_NOT_UNDERSTOOD, timing):
        return happened.ReplacementRefused(ProblemCode.ANSWER_NOT_UNDERSTOOD, params)
    return happened.AnswerNotUnderstood(params)


def failed_attention(connection: Connection, params: Mapping[str, Any], timing: Timing) -> happened.Event:
    """The event when attending went wrong on our side; `params` say how."""
    if _gives_up(connection, ProblemCode.POISONED, timing):
        return happened.ReplacementRefused(ProblemCode.POISONED, params)
    return happened.AttentionFailed(params)


def _gives_up(connection: Connection, code: ProblemCode, timing: Timing) -> bool:
    """True if a replacement went the same way too often: it must not keep us from the token in use."""
    known = connection.problem is not None and connection.problem.code is code
    again = known or connection.attempts == 0
    return _is_replacing(connection) and again and connection.attempts + 1 >= timing.replacement_tries


def _is_replacing(connection: Connection) -> bool:
    return connection.candidate is not None and connection.state is not ConnectionState.AWAITING_TOKEN


def _verification(connection: Connection, verdict: Verdict) -> happened.Event:
    match verdict:
        case AccountReadable(account) if _may_use(connection, account):
            return happened.TokenAccepted(account)
        case AccountReadable(account):
            return happened.SubdomainMismatched((account.subdomain,), stays_with=_name(connection.account))
        case WrongAccount(belongs_to):
            return happened.SubdomainMismatched(belongs_to)
        case Forbidden(scope):
            return happened.ScopeMissing(scope)
        case CredentialRefused():
            return happened.TokenRefused()
    raise AssertionError(f"not an answer to a verification: {verdict}")


def _name(account: Account | None) -> str | None:
    return account.subdomain if account else None


def _may_use(connection: Connection, account: Account) -> bool:
    """A connection that was linked once stays with its account; before that the customer may change their mind."""
    return connection.linked_at is None or connection.account is None or connection.account.id == account.id


def _replacement(connection: Connection, verdict: Verdict) -> happened.Event:
    match verdict:
        case AccountReadable(account) if connection.account is None or account.id == connection.account.id:
            return happened.ReplacementAccepted(account)
        case AccountReadable(account):
            return _other_account((account.subdomain,), _name(connection.account))
        case WrongAccount(belongs_to):
            return _other_account(belongs_to)
        case Forbidden(scope):
            return happened.ReplacementRefused(ProblemCode.SCOPE_MISSING, {"missing": [scope]})
        case CredentialRefused():
            return happened.ReplacementRefused(ProblemCode.TOKEN_REFUSED)
    raise AssertionError(f"not an answer to a verification: {verdict}")


def _other_account(belongs_to: tuple[str, ...], stays_with: str | None = None) -> happened.Event:
    return happened.ReplacementRefused(ProblemCode.SUBDOMAIN_MISMATCH, belongs_elsewhere(belongs_to, stays_with))


def _look(connection: Connection, verdict: Verdict, now: datetime, timing: Timing) -> happened.Event:
    match verdict:
        case RecruiterSeen(recruiter_id):
            return _seen(connection, recruiter_id)
        case RecruiterNotSeen(near_miss):
            return _not_seen(connection, near_miss, now, timing)
        case CredentialRefused():
            return _believed(connection, ProblemCode.TOKEN_REVOKED, happened.TokenRevoked(), now, timing)
        case Forbidden():
            return _believed(connection, ProblemCode.SCOPE_LOST, happened.ScopeLost(), now, timing)
        case WrongAccount():
            return _believed(connection, ProblemCode.SUBDOMAIN_MISMATCH, happened.AccountMoved(), now, timing)
    raise AssertionError(f"not an answer to a look: {verdict}")


def _seen(connection: Connection, recruiter_id: str) -> happened.Event:
    if connection.state is ConnectionState.LINKED:
        return happened.HealthConfirmed(recruiter_id)
    if connection.state is ConnectionState.AWAITING_RECRUITER:
        return happened.RecruiterFound(recruiter_id)
    assert connection.recruiter is not None, "a recruiter is looked for only after it was issued"
    return happened.RecruiterPrepared(replace(connection.recruiter, id=recruiter_id))


def _not_seen(connection: Connection, near_miss: NearMiss | None, now: datetime, timing: Timing) -> happened.Event:
    if connection.state is ConnectionState.LINKED:
        return _believed(connection, ProblemCode.RECRUITER_REMOVED, happened.RecruiterVanished(), now, timing)
    if connection.state is ConnectionState.AWAITING_RECRUITER:
        overdue = connection.deadline is not None and now >= connection.deadline
        return happened.RecruiterOverdue(near_miss) if overdue else happened.RecruiterAbsent(near_miss)
    assert connection.recruiter is not None, "a recruiter is looked for only after it was issued"
    return happened.RecruiterPrepared(replace(connection.recruiter, id=None))


def _believed(
    connection: Connection, code: ProblemCode, event: happened.Event, now: datetime, timing: Timing
) -> happened.Event:
    """The event, if the refusal came often enough over long enough; otherwise only the doubt.

    Workable's 401 and 403 also come during its outages, so a single one proves nothing.
    """
    doubt = connection.doubt
    if doubt is None or not same_series(doubt.code, code):
        return happened.RefusalDoubted(code)
    often = doubt.count + 1 >= timing.refusals
    long = now - doubt.since >= timing.refusals_spread
    return event if often and long else happened.RefusalDoubted(code)
