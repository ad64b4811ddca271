"""What Workable's answer means, and the event that it is for a connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from states import events as happened
from states.connection import Account, Connection, ConnectionState, Permissions
from states.effects import ENDED_BY_REFUSALS, belongs_elsewhere, missing, same_series
from states.problems import NearMiss, ProblemCode
from states.table import permission_is_news
from states.timing import Timing


@dataclass(frozen=True)
class Verdict:
    """What was learnt from one or more calls."""


@dataclass(frozen=True)
class AccountReadable(Verdict):
    """The token reads the account and its recruiters, and has every permission that could be tried."""

    account: Account
    permissions: Permissions | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RecruiterSeen(Verdict):
    """Our recruiter is in the list; the id is Workable's.

    `permission`: one that was tried with it, and whether the token has it.
    """

    recruiter_id: str
    permission: tuple[str, bool] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RecruiterNotSeen(Verdict):
    """The list was read and our recruiter is not in it; `near_miss` is what comes close.

    `thorough`: the members were looked through too.
    """

    near_miss: NearMiss | None = None
    thorough: bool = False


@dataclass(frozen=True)
class CredentialRefused(Verdict):
    """Workable does not accept the token (401)."""


@dataclass(frozen=True)
class WrongAccount(Verdict):
    """The token is good for other accounts: `belongs_to` are their subdomains, as far as they are known."""

    belongs_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountNotThere(Verdict):
    """The account does not answer to its subdomain any more; `reached` are the accounts that the token reaches now.

    `complete`: these are all of them.
    """

    reached: tuple[Account, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class Forbidden(Verdict):
    """The token lacks this permission (403), and those that are missing in `permissions`, if all were tried."""

    scope: str
    permissions: Permissions | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Unavailable(Verdict):
    """Workable could not be reached or failed; `retry_at` only if it named a time."""

    retry_at: datetime | None = None


@dataclass(frozen=True)
class OverLimit(Verdict):
    """No call may be made before `retry_at`; `unasked`: that was known beforehand, and no call was made now.

    `attempts`: it is our own limit, for an owner who gave many tokens that were no good.
    """

    retry_at: datetime
    unasked: bool = False
    attempts: bool = False


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


def name_of(verdict: Verdict) -> str:
    """How a verdict is called: `RecruiterSeen` is `recruiter_seen`."""
    return in_lower_case(type(verdict).__name__)


@cache
def in_lower_case(name: str) -> str:
    """A class's name as lower-case words with underscores."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


#: What turns a token down. While many accounts are refused at the same time, it says nothing about any of them.
REFUSING = (CredentialRefused, Forbidden, WrongAccount, AccountNotThere)


def judge(
    connection: Connection, verdict: Verdict, *, now: datetime, timing: Timing, incident: bool = False
) -> happened.Event:
    """The event that a verdict is, given what the connection was asking and what it remembers.

    `incident`: many accounts are refused at the moment that were not before.
    """
    found = _at_its_new_name(connection, verdict)
    if isinstance(found, happened.Event):
        return found
    verdict = found
    if connection.state is ConnectionState.FAILED and connection.candidate is None:
        return _look_again(connection, verdict)
    overdue = _long_overdue(connection, now, timing)
    if incident and isinstance(verdict, REFUSING):
        return overdue or happened.WorkableUnavailable(incident=True)
    match verdict:
        case Unavailable() | NotUnderstood() | OverLimit() if overdue is not None:
            return overdue
        case Unavailable(retry_at):
            return _unavailable(connection, retry_at, timing)
        case OverLimit(retry_at):
            return happened.Throttled(retry_at, verdict.attempts)
        case NotUnderstood():
            return _not_understood(connection, verdict.params, timing)
    if connection.candidate is None:
        return _look(connection, verdict, now, timing)
    if _is_replacing(connection):
        return _replacement(connection, verdict)
    return _verification(connection, verdict)


def _at_its_new_name(connection: Connection, verdict: Verdict) -> Verdict | happened.Event:
    """What it means that the account is not at its subdomain, by the accounts that the token reaches now.

    If it still has the name that we know, it is only out of reach.
    """
    if not isinstance(verdict, AccountNotThere):
        return verdict
    ours = connection.account
    for account in verdict.reached:
        if ours is not None and account.id == ours.id:
            return happened.AccountRenamed(account) if account.subdomain != connection.subdomain else Unavailable()
    if verdict.reached:
        return WrongAccount(tuple(account.subdomain for account in verdict.reached))
    return verdict if verdict.complete else Unavailable()


def _unavailable(connection: Connection, retry_at: datetime | None, timing: Timing) -> happened.Event:
    """A replacement for another host that is out of reach must not keep us from the token in use."""
    elsewhere = connection.candidate is not None and connection.candidate.subdomain != connection.subdomain
    if elsewhere and _gives_up(connection, ProblemCode.WORKABLE_UNAVAILABLE, timing):
        return happened.ReplacementRefused(ProblemCode.WORKABLE_UNAVAILABLE)
    return happened.WorkableUnavailable(retry_at)


def _long_overdue(connection: Connection, now: datetime, timing: Timing) -> happened.Event | None:
    """What it is if the deadline of what is waited for passed so long ago that no outage is an excuse.

    A new token for what has failed keeps us from the one that is held, so it waits only as long as trouble may last.
    """
    if connection.state is ConnectionState.FAILED:
        trouble = connection.present_problem
        lasted = trouble is not None and now >= trouble.since + timing.trouble_within
        return happened.ReplacementRefused(trouble.code, trouble.params) if trouble and lasted else None
    if connection.deadline is None or now < connection.deadline + timing.overdue_grace:
        return None
    if connection.state is ConnectionState.AWAITING_TOKEN:
        return happened.Abandoned()
    return None if connection.candidate else happened.RecruiterOverdue(looked=False)


def _not_understood(connection: Connection, params: Mapping[str, Any], timing: Timing) -> happened.Event:
    if _gives_up(connection, ProblemCode.ANSWER_NOT_UNDERSTOOD, timing):
        return happened.ReplacementRefused(ProblemCode.ANSWER_NOT_UNDERSTOOD, params)
    return happened.AnswerNotUnderstood(params)


def failed_attention(
    connection: Connection, params: Mapping[str, Any], *, now: datetime, timing: Timing, may_pass: bool = False
) -> happened.Event:
    """The event when attending went wrong on our side; `params` say how.

    `may_pass`: another worker may be able to, as while keys are rolled out, so it alone gives nothing up.
    """
    if connection.candidate is None and connection.state is ConnectionState.FAILED:
        return happened.StillFailed()
    overdue = _long_overdue(connection, now, timing)
    if connection.candidate is not None and overdue is not None:
        return overdue
    if not may_pass and _gives_up(connection, ProblemCode.POISONED, timing):
        return happened.ReplacementRefused(ProblemCode.POISONED, params)
    return happened.AttentionFailed(params)


def _gives_up(connection: Connection, code: ProblemCode, timing: Timing) -> bool:
    """True if a replacement went the same way too often: it must not keep us from the token in use."""
    known = connection.problem is not None and connection.problem.code is code
    again = known or connection.attempts == 0
    return _is_replacing(connection) and again and connection.attempts + 1 >= timing.replacement_tries


def _is_replacing(connection: Connection) -> bool:
    """True for a new token where another one works."""
    verified_first = {ConnectionState.AWAITING_TOKEN, ConnectionState.FAILED}
    return connection.candidate is not None and connection.state not in verified_first


def _verification(connection: Connection, verdict: Verdict) -> happened.Event:
    match verdict:
        case AccountReadable(account) if _may_use(connection, account):
            return happened.TokenAccepted(account, verdict.permissions)
        case AccountReadable(account):
            return happened.SubdomainMismatched((account.subdomain,), stays_with=_name(connection.account))
        case WrongAccount(belongs_to):
            return happened.SubdomainMismatched(belongs_to)
        case Forbidden(scope):
            return happened.ScopeMissing(scope, verdict.permissions)
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
            return happened.ReplacementAccepted(account, verdict.permissions)
        case AccountReadable(account):
            return _other_account((account.subdomain,), _name(connection.account))
        case WrongAccount(belongs_to):
            return _other_account(belongs_to)
        case Forbidden(scope):
            return happened.ReplacementRefused(ProblemCode.SCOPE_MISSING, missing(scope, verdict.permissions))
        case CredentialRefused():
            return happened.ReplacementRefused(ProblemCode.TOKEN_REFUSED)
    raise AssertionError(f"not an answer to a verification: {verdict}")


def _other_account(belongs_to: tuple[str, ...], stays_with: str | None = None) -> happened.Event:
    return happened.ReplacementRefused(ProblemCode.SUBDOMAIN_MISMATCH, belongs_elsewhere(belongs_to, stays_with))


def _look(connection: Connection, verdict: Verdict, now: datetime, timing: Timing) -> happened.Event:
    match verdict:
        case RecruiterSeen():
            return _seen(connection, verdict)
        case RecruiterNotSeen(near_miss, thorough):
            return _not_seen(connection, near_miss, thorough, now, timing)
        case CredentialRefused():
            return _believed(connection, ProblemCode.TOKEN_REVOKED, happened.TokenRevoked(), now, timing)
        case Forbidden():
            return _believed(connection, ProblemCode.SCOPE_LOST, happened.ScopeLost(), now, timing)
        case WrongAccount(belongs_to):
            moved = happened.AccountMoved(belongs_to)
            return _believed(connection, ProblemCode.SUBDOMAIN_MISMATCH, moved, now, timing)
        case AccountNotThere():
            return _believed(connection, ProblemCode.ACCOUNT_GONE, happened.AccountGone(), now, timing)
    raise AssertionError(f"not an answer to a look: {verdict}")


def _look_again(connection: Connection, verdict: Verdict) -> happened.Event:
    """What a look at a failed connection found. What an operator ended stays so, and so does an overdue recruiter."""
    code = connection.problem.code if connection.problem else None
    match verdict:
        case RecruiterSeen(recruiter_id) if code is not None:
            return happened.Recovered(recruiter_id)
        case RecruiterNotSeen(near_miss, thorough) if code in ENDED_BY_REFUSALS:
            return happened.Recovered(None, near_miss, thorough)
        case Unavailable(retry_at) | OverLimit(retry_at):
            return happened.StillFailed(retry_at=retry_at)
    return happened.StillFailed(refused=isinstance(verdict, REFUSING))


def _seen(connection: Connection, verdict: RecruiterSeen) -> happened.Event:
    recruiter_id = verdict.recruiter_id
    if connection.state is ConnectionState.LINKED:
        if verdict.permission is not None:
            tried = happened.PermissionTried(*verdict.permission, recruiter_id)
            if permission_is_news(connection, tried):
                return tried
        return happened.HealthConfirmed(recruiter_id)
    if connection.state is ConnectionState.AWAITING_RECRUITER:
        return happened.RecruiterFound(recruiter_id)
    assert connection.recruiter is not None, "a recruiter is looked for only after it was issued"
    return happened.RecruiterPrepared(replace(connection.recruiter, id=recruiter_id))


def _not_seen(
    connection: Connection, near_miss: NearMiss | None, thorough: bool, now: datetime, timing: Timing
) -> happened.Event:
    if connection.state is ConnectionState.LINKED:
        return _believed(connection, ProblemCode.RECRUITER_REMOVED, happened.RecruiterVanished(), now, timing)
    if connection.state is ConnectionState.AWAITING_RECRUITER:
        overdue = connection.deadline is not None and now >= connection.deadline
        if overdue:
            return happened.RecruiterOverdue(near_miss, thorough=thorough)
        return happened.RecruiterAbsent(near_miss, thorough)
    assert connection.recruiter is not None, "a recruiter is looked for only after it was issued"
    return happened.RecruiterPrepared(replace(connection.recruiter, id=None))


def _believed(
    connection: Connection, code: ProblemCode, event: happened.Event, now: datetime, timing: Timing
) -> happened.Event:
    """The event, if the refusal came often enough over long enough; otherwise only the doubt.

    Workable's 401 and 403 also come during its outages, so a single one proves nothing, however long ago it was.
    Refusals that alternate with another verdict are no series; but once none was good for as long as trouble may last,
    they are believed too: the first one, one of the series that began after it, and this one. Where no answer comes in
    between, each series begins anew: that is trouble of Workable's, and is told as such.
    """
    doubt, first = connection.doubt, connection.refused_at
    interrupted = doubt is not None and first is not None and first < doubt.since
    is_read = code is ProblemCode.RECRUITER_REMOVED  # a list that can be read shows that the token is good
    lasted = _refused_for(connection, now) >= max(timing.trouble_within, timing.refusals_spread)
    if interrupted and lasted and not is_read:
        return event
    if doubt is None or not same_series(doubt.code, code):
        return happened.RefusalDoubted(code)
    often = doubt.count + 1 >= timing.refusals
    long = now - doubt.since >= timing.refusals_spread
    return event if often and long else happened.RefusalDoubted(code)


def _refused_for(connection: Connection, now: datetime) -> timedelta:
    """How long the token has been refused, now and then at least, without a good answer in between."""
    refused, well = connection.refused_at, connection.last_ok_at
    return timedelta(0) if refused is None or (well is not None and well >= refused) else now - refused
