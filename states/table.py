"""The whole law in one table: event, from, to, and the Workable call that the event is the answer to.

Every state is present, `failed` too. What is not in the table cannot happen. A `guard` chooses between rows of the
same event and state; `closed` connections take no event at all.

A failed connection that still holds a token is looked at seldom, or when a person wants it: what such a look finds
has events of its own. A new token for one that may heal so is verified first, and it stays failed until one is good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from states import events as happened
from states.connection import Connection, ConnectionState, Permissions
from states.problems import TRANSIENT

AWAITING_TOKEN = ConnectionState.AWAITING_TOKEN
TOKEN_VALID = ConnectionState.TOKEN_VALID
AWAITING_RECRUITER = ConnectionState.AWAITING_RECRUITER
LINKED = ConnectionState.LINKED
FAILED = ConnectionState.FAILED

ACCOUNT = "GET /accounts/{subdomain}"
RECRUITERS = "GET /recruiters"
BOTH = f"{ACCOUNT}, {RECRUITERS}"

Guard = Callable[[Connection, happened.Event], bool]


def already_there(_: Connection, event: happened.Event) -> bool:
    """The recruiter was seen in Workable already."""
    return cast(happened.RecruiterPrepared, event).recruiter.id is not None


def not_there_yet(connection: Connection, event: happened.Event) -> bool:
    """The recruiter was not seen in Workable."""
    return not already_there(connection, event)


def nothing_to_verify(connection: Connection, _: happened.Event) -> bool:
    """No token that a person gave is waiting for its verification."""
    return connection.candidate is None


def token_held(connection: Connection, _: happened.Event) -> bool:
    """An accepted token is in the row."""
    return connection.token is not None


def no_token_held(connection: Connection, event: happened.Event) -> bool:
    """No accepted token is in the row."""
    return not token_held(connection, event)


def token_may_heal(connection: Connection, _: happened.Event) -> bool:
    """It has failed by what may be taken back, and holds the token: a new one has to be better first."""
    return connection.heals


def nothing_heals(connection: Connection, event: happened.Event) -> bool:
    """No token is held that may be good again."""
    return not token_may_heal(connection, event)


def recruiter_issued(connection: Connection, event: happened.Event) -> bool:
    """A token is held and the recruiter's name and e-mail were issued."""
    return token_held(connection, event) and connection.recruiter is not None


def recruiter_seen(_: Connection, event: happened.Event) -> bool:
    """The token works again, and the recruiter was seen in Workable."""
    return cast(happened.Recovered, event).recruiter_id is not None


def recruiter_not_seen(connection: Connection, event: happened.Event) -> bool:
    """The token works again, and the recruiter was not seen in Workable."""
    return not recruiter_seen(connection, event)


def something_to_ask_with(connection: Connection, _: happened.Event) -> bool:
    """There is a token to verify, or an accepted one to look with."""
    if connection.state is ConnectionState.AWAITING_TOKEN:
        return connection.candidate is not None
    return connection.token is not None and (
        connection.recruiter is not None or connection.state is not ConnectionState.FAILED
    )


def trouble_untold(connection: Connection, _: happened.Event) -> bool:
    """There is no answer to go by, and nobody was told that it lasts."""
    problem = connection.problem
    return problem is not None and problem.code in TRANSIENT and connection.troubled_since is None


def expiry_untold(connection: Connection, _: happened.Event) -> bool:
    """A token is held whose last day is known, and the host was not told of that day yet."""
    return connection.untold_expiry is not None


#: A refusal that a host reports is heard once in this time.
REPORTS_APART = timedelta(minutes=1)


def not_reported_lately(connection: Connection, event: happened.Event) -> bool:
    """A token is in use, and no refusal was reported within the last minute."""
    told, at = connection.reported_at, cast(happened.RefusalReported, event).at
    lately = told is not None and timedelta(0) <= at - told < REPORTS_APART
    return token_held(connection, event) and not connection.at_rest and not lately


def look_can_be_spared(connection: Connection, _: happened.Event) -> bool:
    """Nothing is the matter, and the last look was our own: of two looks in a row one is spared at most."""
    calm = connection.problem is None and connection.doubt is None and connection.candidate is None
    return calm and not connection.at_rest and connection.used_at is None


def permission_is_news(connection: Connection, event: happened.Event) -> bool:
    """It was not known of the token's permission."""
    tried = cast(happened.PermissionTried, event)
    known = connection.permissions or Permissions()
    return tried.scope not in (known.verified if tried.allowed else known.missing)


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One row of the law."""

    event: type[happened.Event]
    source: ConnectionState
    target: ConnectionState
    #: The call to Workable that the event is the answer to; None: a person or the clock. A recruiter that was never
    #: issued before is prepared without a call: it cannot be there yet.
    call: str | None = None
    guard: Guard | None = None


def _rows(
    event: type[happened.Event],
    sources: tuple[ConnectionState, ...],
    target: ConnectionState | None,
    call: str | None = None,
    guard: Guard | None = None,
) -> tuple[Transition, ...]:
    """A row for each source; without a target the state stays what it is."""
    return tuple(
        Transition(event=event, source=source, target=target or source, call=call, guard=guard) for source in sources
    )


def _forced(target: ConnectionState, guard: Guard | None) -> tuple[Transition, ...]:
    """An operator may put any other state into the target, as far as the row holds what the target needs."""

    def sensible(connection: Connection, event: happened.Event) -> bool:
        aimed = cast(happened.Forced, event).to is target
        return aimed and (guard is None or guard(connection, event))

    sensible.__name__ = f"to_{target}" + (f"_and_{guard.__name__}" if guard else "")
    return _rows(happened.Forced, tuple(s for s in ConnectionState if s is not target), target, guard=sensible)


ANY = tuple(ConnectionState)
CALLING = (AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED)
WORKING = (TOKEN_VALID, AWAITING_RECRUITER, LINKED)
VERIFYING = (AWAITING_TOKEN, FAILED)
STAYS = None

TRANSITIONS: tuple[Transition, ...] = (
    # the token
    *_rows(happened.TokenSubmitted, (AWAITING_TOKEN,), STAYS),
    *_rows(happened.TokenSubmitted, (FAILED,), AWAITING_TOKEN, guard=nothing_heals),
    *_rows(happened.TokenSubmitted, (FAILED,), STAYS, guard=token_may_heal),
    *_rows(happened.SubdomainGiven, (AWAITING_TOKEN,), STAYS, guard=nothing_to_verify),
    *_rows(happened.TokenAccepted, VERIFYING, TOKEN_VALID, BOTH),
    *_rows(happened.TokenRefused, VERIFYING, STAYS, BOTH),
    *_rows(happened.SubdomainMismatched, VERIFYING, STAYS, BOTH),
    *_rows(happened.HeldTokenWiped, (AWAITING_TOKEN,), STAYS),
    *_rows(happened.ScopeMissing, VERIFYING, STAYS, BOTH),
    *_rows(happened.AccountTaken, VERIFYING, STAYS, BOTH),
    # the recruiter
    *_rows(happened.RecruiterPrepared, (TOKEN_VALID,), AWAITING_RECRUITER, RECRUITERS, not_there_yet),
    *_rows(happened.RecruiterPrepared, (TOKEN_VALID,), LINKED, RECRUITERS, already_there),
    *_rows(happened.RecruiterFound, (AWAITING_RECRUITER,), LINKED, RECRUITERS),
    *_rows(happened.RecruiterAbsent, (AWAITING_RECRUITER,), STAYS, RECRUITERS),
    *_rows(happened.RecruiterOverdue, (AWAITING_RECRUITER,), FAILED, RECRUITERS),
    # the link
    *_rows(happened.HealthConfirmed, (LINKED,), STAYS, RECRUITERS),
    *_rows(happened.RefusalDoubted, WORKING, STAYS, RECRUITERS),
    *_rows(happened.TokenExpiring, (AWAITING_RECRUITER, LINKED), STAYS, guard=expiry_untold),
    *_rows(happened.RecruiterVanished, (LINKED,), AWAITING_RECRUITER, RECRUITERS),
    *_rows(happened.TokenRevoked, WORKING, FAILED, RECRUITERS),
    *_rows(happened.ScopeLost, WORKING, FAILED, RECRUITERS),
    *_rows(happened.AccountMoved, WORKING, FAILED, RECRUITERS),
    *_rows(happened.AccountGone, WORKING, FAILED, RECRUITERS),
    *_rows(happened.AccountRenamed, (*WORKING, FAILED), STAYS, RECRUITERS),
    # what had failed, looked at again
    *_rows(happened.Recovered, (FAILED,), LINKED, RECRUITERS, recruiter_seen),
    *_rows(happened.Recovered, (FAILED,), AWAITING_RECRUITER, RECRUITERS, recruiter_not_seen),
    *_rows(happened.StillFailed, (FAILED,), STAYS, RECRUITERS),
    # the host's own use of the link
    *_rows(happened.RefusalReported, WORKING, STAYS, guard=not_reported_lately),
    *_rows(happened.UseConfirmed, (LINKED,), STAYS, guard=look_can_be_spared),
    *_rows(happened.PermissionTried, (LINKED,), STAYS, guard=permission_is_news),
    *_rows(happened.TokenRevealed, ANY, STAYS, guard=token_held),
    # another token for a connection that has one
    *_rows(happened.ReplacementSubmitted, WORKING, STAYS),
    *_rows(happened.ReplacementAccepted, WORKING, STAYS, BOTH),
    *_rows(happened.ReplacementRefused, (*WORKING, FAILED), STAYS, BOTH),
    # trouble that is nobody's verdict
    *_rows(happened.WorkableUnavailable, ANY, STAYS, BOTH),
    *_rows(happened.Throttled, ANY, STAYS, BOTH),
    *_rows(happened.AnswerNotUnderstood, ANY, STAYS, BOTH),
    *_rows(happened.AttentionFailed, ANY, STAYS),
    *_rows(happened.TroubleLasted, CALLING, STAYS, guard=trouble_untold),
    # people and the clock
    *_rows(happened.CheckRequested, ANY, STAYS, guard=something_to_ask_with),
    *_rows(happened.Abandoned, (AWAITING_TOKEN,), FAILED),
    *_rows(happened.Restarted, (FAILED,), AWAITING_TOKEN, guard=no_token_held),
    *_rows(happened.Restarted, (FAILED,), TOKEN_VALID, guard=token_held),
    *_rows(happened.Paused, ANY, STAYS),
    *_rows(happened.Resumed, ANY, STAYS),
    *_rows(happened.MetadataSet, ANY, STAYS),
    *_forced(AWAITING_TOKEN, None),
    *_forced(TOKEN_VALID, token_held),
    *_forced(AWAITING_RECRUITER, recruiter_issued),
    *_forced(LINKED, recruiter_issued),
    *_forced(FAILED, None),
    *_rows(happened.Unlinked, ANY, AWAITING_TOKEN),
)


def _fingerprint() -> str:
    """Twelve hexadecimal digits that change when a row of the law changes."""
    rows = (f"{t.event.name} {t.source} {t.target} {t.call} {t.guard.__name__ if t.guard else ''}" for t in TRANSITIONS)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


#: The law's hash, stored with each row that it has decided about.
LAW = _fingerprint()
