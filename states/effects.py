"""What each event does to the row, beside the state: the column “also” of the law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from states import events as happened
from states.connection import Connection, ConnectionState, Doubt, Permissions, Problem, Recruiter, evolve
from states.duties import trouble_notice_at
from states.problems import TRANSIENT, NearMiss, NearMissKind, ProblemCode
from states.timing import Timing, next_doubt, next_healing, next_health, next_poll, next_try, notice_at, watched_pause


@dataclass(frozen=True, kw_only=True)
class DecisionContext:
    """Time and chance: `jitter` is a number from 0 (included) to 1 (not included)."""

    now: datetime
    jitter: float
    timing: Timing


def enter(connection: Connection, state: ConnectionState, moment: DecisionContext) -> Connection:
    """Put the connection into a state that it was not in: its deadline, and when it is due."""
    entered = evolve(connection, state=state, state_since=moment.now, attempts=0, doubt=None, deadline=None)
    match state:
        case ConnectionState.AWAITING_TOKEN:
            return _await_token(entered, moment)
        case ConnectionState.TOKEN_VALID:
            return evolve(entered, due_at=moment.now)
        case ConnectionState.AWAITING_RECRUITER:
            return evolve(
                entered,
                deadline=moment.now + moment.timing.recruiter_within,
                due_at=_next_look(entered, moment),
            )
        case ConnectionState.LINKED:
            return evolve(
                entered,
                linked_at=entered.linked_at or moment.now,
                due_at=_next_check(entered, moment),
            )
        case ConnectionState.FAILED:
            return evolve(entered, due_at=None, troubled_since=None)


def _await_token(connection: Connection, moment: DecisionContext) -> Connection:
    deadline = moment.now + moment.timing.token_within
    return evolve(connection, deadline=deadline, due_at=moment.now if connection.candidate else deadline)


def _next_check(connection: Connection, moment: DecisionContext) -> datetime:
    """The next check of a linked account, or the day on which the host has to be told that the token expires."""
    check = next_health(moment.now, moment.jitter, moment.timing)
    if connection.untold_expiry is None:
        return check
    return max(moment.now, min(check, notice_at(connection.untold_expiry, moment.timing)))


def _next_look(c: Connection, m: DecisionContext) -> datetime:
    """The next look for the recruiter: sooner while somebody has the page open."""
    look = next_poll(m.now, m.now - c.state_since, m.jitter, m.timing)
    if c.watched_since is None or c.watched_until is None or c.watched_until <= m.now:
        return look
    return min(look, m.now + watched_pause(m.now - c.watched_since, m.timing))


def _named(
    connection: Connection, code: ProblemCode, moment: DecisionContext, params: Mapping[str, Any] | None = None
) -> Problem:
    """The problem, as old as it is: the same code goes on counting from when it came."""
    known = connection.problem
    since = known.since if known is not None and known.code is code else moment.now
    return Problem(code=code, since=since, params=params or {})


def _answered(connection: Connection, moment: DecisionContext, **changes: Any) -> Connection:
    """Workable gave a good answer: no trouble is left of earlier tries."""
    calm = {"problem": None, "doubt": None, "attempts": 0, "not_before": None}
    return evolve(connection, **{**calm, "last_ok_at": moment.now, "troubled_since": None, **changes})


# the token


def _token_submitted(c: Connection, event: happened.TokenSubmitted, m: DecisionContext) -> Connection:
    """A time that Workable named holds for a new token too, if it is for the same account.

    What has failed and may heal keeps why, and whose account it is, until a new token is good.
    """
    held = c.not_before if c.subdomain == event.candidate.subdomain else None
    waits = held is not None and held > m.now and c.problem is not None and c.problem.code in TRANSIENT
    given = evolve(c, candidate=event.candidate, replacement_problem=None, attempts=0, not_before=held)
    if c.state is ConnectionState.FAILED:
        return evolve(given, due_at=m.now)
    given = evolve(given, subdomain=event.candidate.subdomain)
    if not waits:
        given = evolve(given, problem=None, troubled_since=None)
    return _await_token(given, m)


def _subdomain_given(c: Connection, event: happened.SubdomainGiven, m: DecisionContext) -> Connection:
    """What was the matter with the token or the subdomain before is over."""
    return evolve(c, subdomain=event.subdomain, problem=None)


def _token_accepted(c: Connection, event: happened.TokenAccepted, m: DecisionContext) -> Connection:
    assert c.candidate is not None, "only a candidate can be accepted"
    allowed = event.permissions or c.permissions
    swapped = evolve(c, token=c.candidate, candidate=None, subdomain=c.candidate.subdomain)
    return _answered(swapped, m, account=event.account, permissions=allowed, replacement_problem=None)


def _candidate_refused(c: Connection, code: ProblemCode, m: DecisionContext, **params: Any) -> Connection:
    """The person is told, and has as long as at the beginning for another token, however long the answer took.

    What has failed stays as it was, and is looked at again when it would have been.
    """
    if c.state is ConnectionState.FAILED:
        return _replacement_refused(c, happened.ReplacementRefused(code, params), m)
    named = Problem(code=code, since=m.now, params=params)
    told = evolve(c, candidate=None, problem=named, attempts=0, not_before=None, troubled_since=None)
    return _await_token(told, m)


def _token_refused(c: Connection, event: happened.TokenRefused, m: DecisionContext) -> Connection:
    return _candidate_refused(c, ProblemCode.TOKEN_REFUSED, m)


def _subdomain_mismatched(c: Connection, event: happened.SubdomainMismatched, m: DecisionContext) -> Connection:
    """The token is kept for some minutes, sealed as before: its account is known, or the person will name it."""
    params = belongs_elsewhere(event.belongs_to, event.stays_with)
    told = _candidate_refused(c, ProblemCode.SUBDOMAIN_MISMATCH, m, **params)
    if c.state is ConnectionState.FAILED:
        return told  # it holds a token already
    until = m.now + m.timing.held_for
    assert told.due_at is not None, "it is put aside one day"
    return evolve(told, held_token=c.candidate, held_until=until, due_at=min(told.due_at, until))


def _held_token_wiped(c: Connection, event: happened.HeldTokenWiped, m: DecisionContext) -> Connection:
    return evolve(c, held_token=None, held_until=None, due_at=c.deadline)


def belongs_elsewhere(subdomains: tuple[str, ...], stays_with: str | None = None) -> dict[str, Any]:
    """What is told of a mismatch: the accounts that the token reaches, and the one that the connection stays with."""
    told: dict[str, Any] = {"belongs_to": list(subdomains), "stays_with": stays_with}
    return {name: value for name, value in told.items() if value}


def _scope_missing(c: Connection, event: happened.ScopeMissing, m: DecisionContext) -> Connection:
    tried = evolve(c, permissions=event.permissions or c.permissions)
    return _candidate_refused(tried, ProblemCode.SCOPE_MISSING, m, **missing(event.scope, event.permissions))


def missing(scope: str, permissions: Permissions | None) -> dict[str, Any]:
    """What is told of permissions that a token lacks: all by name."""
    return {"missing": list(permissions.missing) if permissions else [scope]}


def _account_taken(c: Connection, event: happened.AccountTaken, m: DecisionContext) -> Connection:
    return _candidate_refused(c, ProblemCode.ACCOUNT_TAKEN, m, connection=event.by)


# the recruiter


def _recruiter_prepared(c: Connection, event: happened.RecruiterPrepared, m: DecisionContext) -> Connection:
    return _answered(c, m, recruiter=event.recruiter)


def _recruiter_found(c: Connection, event: happened.RecruiterFound, m: DecisionContext) -> Connection:
    return _answered(c, m, recruiter=_with_id(c, event.recruiter_id), checks=c.checks + 1)


def _with_id(c: Connection, recruiter_id: str) -> Recruiter:
    assert c.recruiter is not None, "a recruiter is looked for only after it was issued"
    return c.recruiter if c.recruiter.id == recruiter_id else replace(c.recruiter, id=recruiter_id)


def _recruiter_absent(c: Connection, event: happened.RecruiterAbsent, m: DecisionContext) -> Connection:
    code = ProblemCode.RECRUITER_REMOVED if c.linked_at else ProblemCode.RECRUITER_ABSENT
    again = _next_look(c, m)
    return _answered(
        c,
        m,
        problem=_named(c, code, m, _seen_instead(c, event.near_miss, event.thorough)),
        checks=c.checks + 1,
        due_at=min(again, c.deadline) if c.deadline else again,
    )


def _seen_instead(c: Connection, near_miss: NearMiss | None, thorough: bool) -> dict[str, Any]:
    """What was seen, with the name and the e-mail that it is compared with.

    That ours was added as a member is known only by asking for the members, which few looks do: a look that did not,
    and found nothing that comes closer, knows no better.
    """
    vague = near_miss is None or near_miss.kind in {NearMissKind.OTHERS, NearMissKind.NONE}
    if vague and not thorough and (known := _known_member(c)):
        return known
    if near_miss is None or c.recruiter is None:
        return {}
    return {**near_miss.params, "name": c.recruiter.name, "email": c.recruiter.email}


def _known_member(c: Connection) -> dict[str, Any]:
    """The hint that ours was added as a member, if it is known; trouble in between does not make it forgotten."""
    known = c.problem.params if c.problem else {}
    if known.get("near_miss") != NearMissKind.MEMBER:
        return {}
    return {name: known[name] for name in ("near_miss", "name", "email") if name in known}


def _recruiter_overdue(c: Connection, event: happened.RecruiterOverdue, m: DecisionContext) -> Connection:
    if not event.looked:  # and a time that Workable named holds
        return evolve(c, problem=_named(c, ProblemCode.RECRUITER_OVERDUE, m), candidate=None)
    named = _named(c, ProblemCode.RECRUITER_OVERDUE, m, _seen_instead(c, event.near_miss, event.thorough))
    return _answered(c, m, problem=named, checks=c.checks + 1, candidate=None)


# the link


def _health_confirmed(c: Connection, event: happened.HealthConfirmed, m: DecisionContext) -> Connection:
    return _healthy(c, event.recruiter_id, m)


def _healthy(c: Connection, recruiter_id: str, m: DecisionContext) -> Connection:
    """The link is as it should be; what of its permissions is lost stays named."""
    lost = _lost(c, m)
    recruiter = _with_id(c, recruiter_id)
    return _answered(c, m, recruiter=recruiter, due_at=_next_check(c, m), used_at=None, problem=lost)


def _lost(c: Connection, m: DecisionContext) -> Problem | None:
    """The permissions that the host needs, and the token does not have any more."""
    lost = c.permissions.lost if c.permissions else ()
    return _named(c, ProblemCode.SCOPE_LOST, m, {"missing": list(lost)}) if lost else None


def _permission_tried(c: Connection, event: happened.PermissionTried, m: DecisionContext) -> Connection:
    """Marked, and named as long as it is missing; nothing else changes for it."""
    known = (c.permissions or Permissions()).after(event.scope, allowed=event.allowed)
    tried = evolve(c, permissions=known)
    if event.recruiter_id is not None:
        return _healthy(tried, event.recruiter_id, m)
    another = c.problem is not None and c.problem.code is not ProblemCode.SCOPE_LOST
    return tried if another else evolve(tried, problem=_lost(tried, m))


def _refusal_reported(c: Connection, event: happened.RefusalReported, m: DecisionContext) -> Connection:
    """Only that we look now: what a host is told proves nothing."""
    return evolve(c, reported_at=event.at, due_at=m.now)


def _use_confirmed(c: Connection, event: happened.UseConfirmed, m: DecisionContext) -> Connection:
    """The token is good; whether our recruiter is there is looked at the next time."""
    return evolve(c, used_at=m.now, last_ok_at=m.now, due_at=_next_check(c, m))


def _token_revealed(c: Connection, event: happened.TokenRevealed, m: DecisionContext) -> Connection:
    return c


def same_series(one: ProblemCode, other: ProblemCode) -> bool:
    """True for refusals that count together: whichever way Workable refuses the token, it is refused."""
    removed = ProblemCode.RECRUITER_REMOVED
    return one is other or removed not in {one, other}


def _refused_since(c: Connection, m: DecisionContext) -> datetime:
    """When the token was refused first, of the refusals since it answered well."""
    if c.refused_at is None or (c.last_ok_at is not None and c.last_ok_at >= c.refused_at):
        return m.now
    return c.refused_at


def _refusal_doubted(c: Connection, event: happened.RefusalDoubted, m: DecisionContext) -> Connection:
    same = c.doubt if c.doubt is not None and same_series(c.doubt.code, event.code) else None
    doubt = Doubt(code=event.code, count=same.count + 1 if same else 1, since=same.since if same else m.now)
    due_at = next_doubt(m.now, m.jitter, m.timing)
    if c.state is ConnectionState.AWAITING_RECRUITER:  # whoever waits for a recruiter is looked after as before
        due_at = min(due_at, next_poll(m.now, m.now - c.state_since, m.jitter, m.timing))
    refused_at = c.refused_at if event.code is ProblemCode.RECRUITER_REMOVED else _refused_since(c, m)
    return evolve(c, doubt=doubt, attempts=0, not_before=None, due_at=due_at, refused_at=refused_at)


def _token_expiring(c: Connection, event: happened.TokenExpiring, m: DecisionContext) -> Connection:
    """Whoever is told is looked after at once: the notice took the place of a look."""
    assert c.token is not None, "the law's guard looked at the token"
    return evolve(c, expiry_told=c.token.expires_on, due_at=m.now)


def _recruiter_vanished(c: Connection, event: happened.RecruiterVanished, m: DecisionContext) -> Connection:
    return _answered(c, m, problem=_named(c, ProblemCode.RECRUITER_REMOVED, m))


def _next_healing(c: Connection, m: DecisionContext) -> datetime | None:
    """When what has failed is looked at again by itself; None: not any more."""
    return next_healing(m.now, c.state_since, m.jitter) if c.heals else None


def _ended(c: Connection, code: ProblemCode, m: DecisionContext, **params: Any) -> Connection:
    """Refusals ended it. As they may be taken back, the token is kept and tried again, seldom."""
    named = _named(c, code, m, params)
    ended = evolve(c, problem=named, candidate=None, not_before=None, refused_at=_refused_since(c, m))
    return evolve(ended, due_at=_next_healing(ended, m))


def _token_revoked(c: Connection, event: happened.TokenRevoked, m: DecisionContext) -> Connection:
    expires = c.token.expires_on if c.token else None
    expired = expires is not None and m.now.date() > expires
    return _ended(c, ProblemCode.TOKEN_EXPIRED if expired else ProblemCode.TOKEN_REVOKED, m)


def _scope_lost(c: Connection, event: happened.ScopeLost, m: DecisionContext) -> Connection:
    return _ended(c, ProblemCode.SCOPE_LOST, m)


def _account_moved(c: Connection, event: happened.AccountMoved, m: DecisionContext) -> Connection:
    return _ended(c, ProblemCode.SUBDOMAIN_MISMATCH, m, **belongs_elsewhere(event.belongs_to))


def _account_gone(c: Connection, event: happened.AccountGone, m: DecisionContext) -> Connection:
    return _ended(c, ProblemCode.ACCOUNT_GONE, m)


def _account_renamed(c: Connection, event: happened.AccountRenamed, m: DecisionContext) -> Connection:
    """The account is looked at under its new name at once."""
    subdomain = event.account.subdomain
    token = replace(c.token, subdomain=subdomain) if c.token else None
    named = evolve(c, account=event.account, subdomain=subdomain, token=token)
    return evolve(named, doubt=None, attempts=0, not_before=None, due_at=m.now)


# what had failed, looked at again


def _recovered(c: Connection, event: happened.Recovered, m: DecisionContext) -> Connection:
    if event.recruiter_id is not None:
        return _answered(c, m, recruiter=_with_id(c, event.recruiter_id), checks=c.checks + 1, replacement_problem=None)
    code = ProblemCode.RECRUITER_REMOVED if c.linked_at else ProblemCode.RECRUITER_ABSENT
    seen = _seen_instead(c, event.near_miss, event.thorough)
    named = _named(c, code, m, seen)
    return _answered(c, m, problem=named, checks=c.checks + 1, replacement_problem=None)


def _still_failed(c: Connection, event: happened.StillFailed, m: DecisionContext) -> Connection:
    due_at = _next_healing(c, m)
    refused_at = _refused_since(c, m) if event.refused else c.refused_at
    return evolve(c, due_at=due_at, not_before=event.retry_at if due_at else None, refused_at=refused_at)


# another token


def _replacement_submitted(c: Connection, event: happened.ReplacementSubmitted, m: DecisionContext) -> Connection:
    return evolve(c, candidate=event.candidate, replacement_problem=None, attempts=0, due_at=m.now)


def _replacement_accepted(c: Connection, event: happened.ReplacementAccepted, m: DecisionContext) -> Connection:
    assert c.candidate is not None, "only a candidate can be accepted"
    waiting = c.state is ConnectionState.AWAITING_RECRUITER
    kept = c.problem if waiting and c.problem and c.problem.code not in TRANSIENT else None
    swapped = evolve(c, token=c.candidate, candidate=None, subdomain=c.candidate.subdomain)
    allowed = event.permissions or c.permissions
    return _answered(swapped, m, account=event.account, problem=kept, permissions=allowed, due_at=m.now)


def _replacement_refused(c: Connection, event: happened.ReplacementRefused, m: DecisionContext) -> Connection:
    dropped = {"dropped": 1} if event.code in TRANSIENT else {}
    refused = Problem(code=event.code, since=m.now, params={**event.params, **dropped})
    due_at = _next_healing(c, m) if c.state is ConnectionState.FAILED else m.now
    return evolve(c, candidate=None, replacement_problem=refused, attempts=0, not_before=None, due_at=due_at)


# trouble


def _trouble(
    c: Connection,
    code: ProblemCode,
    m: DecisionContext,
    params: Mapping[str, Any] | None = None,
    retry_at: datetime | None = None,
) -> Connection:
    """No answer to go by: come back later, and never before the time that Workable named.

    Whichever trouble it is, it counts from when the first of it came; and somebody is told when it lasts too long. What
    has failed keeps why: there it is the new token that has no answer.
    """
    attempts, known = c.attempts + 1, c.present_problem
    name = "replacement_problem" if c.state is ConnectionState.FAILED else "problem"
    since = known.since if known and known.code in TRANSIENT else m.now
    told = {**(params or {}), **_known_member(c)}
    problem = Problem(code=code, since=since, params=told, lasting=c.troubled_since is not None)
    troubled = evolve(c, attempts=attempts, not_before=retry_at, **{name: problem})
    due_at = next_try(m.now, attempts, m.jitter, m.timing.backoff, at_least=retry_at)
    told_at = trouble_notice_at(troubled, m.timing)
    return evolve(troubled, due_at=due_at if told_at is None else min(due_at, max(told_at, m.now)))


def _workable_unavailable(c: Connection, event: happened.WorkableUnavailable, m: DecisionContext) -> Connection:
    if not event.incident:
        return _trouble(_trusting(c), ProblemCode.WORKABLE_UNAVAILABLE, m, retry_at=event.retry_at)
    refused = c if c.candidate else evolve(c, refused_at=_refused_since(c, m))
    return _trouble(_trusting(refused), ProblemCode.WORKABLE_UNAVAILABLE, m, {"incident": 1}, event.retry_at)


def _throttled(c: Connection, event: happened.Throttled, m: DecisionContext) -> Connection:
    return _trouble(c, ProblemCode.THROTTLED, m, {"attempts": 1} if event.attempts else None, event.retry_at)


def _answer_not_understood(c: Connection, event: happened.AnswerNotUnderstood, m: DecisionContext) -> Connection:
    return _trouble(_trusting(c), ProblemCode.ANSWER_NOT_UNDERSTOOD, m, event.params)


def _trusting(c: Connection) -> Connection:
    """Workable is out of order, and then its refusals prove nothing: those in a row are counted from the beginning."""
    return evolve(c, doubt=None) if c.doubt else c


def _attention_failed(c: Connection, event: happened.AttentionFailed, m: DecisionContext) -> Connection:
    return _trouble(c, ProblemCode.POISONED, m, event.params)


def _trouble_lasted(c: Connection, event: happened.TroubleLasted, m: DecisionContext) -> Connection:
    """Whoever is told is looked after at once: the notice took the place of a look."""
    assert c.problem is not None, "the law's guard looked at the problem"
    lasting = replace(c.problem, lasting=True)
    return evolve(c, problem=lasting, troubled_since=c.problem.since, due_at=m.now)


# people and the clock


def _abandoned(c: Connection, event: happened.Abandoned, m: DecisionContext) -> Connection:
    wiped = evolve(c, token=None, candidate=None, attempts=0)
    return evolve(wiped, problem=Problem(code=ProblemCode.ABANDONED, since=m.now))


def _check_requested(c: Connection, event: happened.CheckRequested, m: DecisionContext) -> Connection:
    return evolve(c, due_at=m.now)


def _restarted(c: Connection, event: happened.Restarted, m: DecisionContext) -> Connection:
    """A token that was refused again and again before is not given that patience a second time.

    A time that Workable named holds: who restarts does not get round it.
    """
    doubt = None
    if c.token is not None and c.problem is not None and c.problem.code in ENDED_BY_REFUSALS:
        code = ENDED_BY_REFUSALS[c.problem.code]
        doubt = Doubt(code=code, count=m.timing.refusals - 1, since=m.now - m.timing.refusals_spread)
    return evolve(c, problem=None, replacement_problem=None, doubt=doubt, attempts=0)


#: The problems that repeated refusals end a connection with, and the refusal that each of them is.
ENDED_BY_REFUSALS = {
    ProblemCode.TOKEN_REVOKED: ProblemCode.TOKEN_REVOKED,
    ProblemCode.TOKEN_EXPIRED: ProblemCode.TOKEN_REVOKED,
    ProblemCode.SCOPE_LOST: ProblemCode.SCOPE_LOST,
    ProblemCode.SUBDOMAIN_MISMATCH: ProblemCode.SUBDOMAIN_MISMATCH,
    ProblemCode.ACCOUNT_GONE: ProblemCode.ACCOUNT_GONE,
}


def _paused(c: Connection, event: happened.Paused, m: DecisionContext) -> Connection:
    return evolve(c, paused_at=c.paused_at or m.now)


def _resumed(c: Connection, event: happened.Resumed, m: DecisionContext) -> Connection:
    """The time of the pause is not taken off what the customer has."""
    paused_for = m.now - c.paused_at if c.paused_at else timedelta(0)
    going_on = evolve(c, paused_at=None, attempts=0, deadline=c.deadline + paused_for if c.deadline else None)
    return evolve(going_on, due_at=_due_on_resuming(going_on, m))


def _due_on_resuming(c: Connection, m: DecisionContext) -> datetime | None:
    if c.candidate is not None:
        return m.now
    if c.state is ConnectionState.FAILED:
        return _next_healing(c, m)
    if c.state is ConnectionState.AWAITING_TOKEN:
        return c.deadline
    return m.now


def _metadata_set(c: Connection, event: happened.MetadataSet, m: DecisionContext) -> Connection:
    merged = {**c.metadata, **event.texts}
    return evolve(c, metadata={key: text for key, text in merged.items() if text is not None})


def _forced(c: Connection, event: happened.Forced, m: DecisionContext) -> Connection:
    """Whatever was forced is looked at once, as far as there is something to look at."""
    looks = c.state in {ConnectionState.TOKEN_VALID, ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED}
    due_at = m.now if looks else c.deadline
    calm = evolve(c, candidate=None, problem=None, replacement_problem=None, troubled_since=None)
    return evolve(calm, due_at=due_at)


def _unlinked(c: Connection, event: happened.Unlinked, m: DecisionContext) -> Connection:
    calm = evolve(
        c, token=None, candidate=None, problem=None, replacement_problem=None, doubt=None, troubled_since=None
    )
    return evolve(calm, attempts=0, not_before=None, deadline=None, due_at=None, closed_at=m.now)


Effect = Callable[[Connection, Any, DecisionContext], Connection]

EFFECTS: dict[type[happened.Event], Effect] = {
    happened.TokenSubmitted: _token_submitted,
    happened.SubdomainGiven: _subdomain_given,
    happened.TokenAccepted: _token_accepted,
    happened.TokenRefused: _token_refused,
    happened.SubdomainMismatched: _subdomain_mismatched,
    happened.HeldTokenWiped: _held_token_wiped,
    happened.ScopeMissing: _scope_missing,
    happened.AccountTaken: _account_taken,
    happened.RecruiterPrepared: _recruiter_prepared,
    happened.RecruiterFound: _recruiter_found,
    happened.RecruiterAbsent: _recruiter_absent,
    happened.RecruiterOverdue: _recruiter_overdue,
    happened.RefusalDoubted: _refusal_doubted,
    happened.TokenRevoked: _token_revoked,
    happened.ScopeLost: _scope_lost,
    happened.AccountMoved: _account_moved,
    happened.AccountGone: _account_gone,
    happened.AccountRenamed: _account_renamed,
    happened.HealthConfirmed: _health_confirmed,
    happened.TokenExpiring: _token_expiring,
    happened.RecruiterVanished: _recruiter_vanished,
    happened.RefusalReported: _refusal_reported,
    happened.UseConfirmed: _use_confirmed,
    happened.PermissionTried: _permission_tried,
    happened.TokenRevealed: _token_revealed,
    happened.ReplacementSubmitted: _replacement_submitted,
    happened.ReplacementAccepted: _replacement_accepted,
    happened.ReplacementRefused: _replacement_refused,
    happened.WorkableUnavailable: _workable_unavailable,
    happened.Throttled: _throttled,
    happened.AnswerNotUnderstood: _answer_not_understood,
    happened.AttentionFailed: _attention_failed,
    happened.TroubleLasted: _trouble_lasted,
    happened.Recovered: _recovered,
    happened.StillFailed: _still_failed,
    happened.Abandoned: _abandoned,
    happened.CheckRequested: _check_requested,
    happened.Restarted: _restarted,
    happened.Paused: _paused,
    happened.Resumed: _resumed,
    happened.MetadataSet: _metadata_set,
    happened.Forced: _forced,
    happened.Unlinked: _unlinked,
}
