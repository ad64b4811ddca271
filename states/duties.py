"""What is owed to a connection, derived from its row alone: after a crash the row still says it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from states.connection import Connection, ConnectionState
from states.problems import TRANSIENT
from states.timing import Timing, notice_at


class Duty(StrEnum):
    """The next thing to do for a connection, in the imperative."""

    VERIFY_TOKEN = "verify_token"
    PREPARE_RECRUITER = "prepare_recruiter"
    FIND_RECRUITER = "find_recruiter"
    CHECK_HEALTH = "check_health"
    #: A connection that has failed, and whose token may be good again.
    LOOK_AGAIN = "look_again"
    #: Nobody gave a working token in time.
    PUT_ASIDE = "put_aside"
    NOTHING = "nothing"


_BY_STATE = {
    ConnectionState.AWAITING_TOKEN: Duty.PUT_ASIDE,
    ConnectionState.TOKEN_VALID: Duty.PREPARE_RECRUITER,
    ConnectionState.AWAITING_RECRUITER: Duty.FIND_RECRUITER,
    ConnectionState.LINKED: Duty.CHECK_HEALTH,
    ConnectionState.FAILED: Duty.NOTHING,
}


def next_duty(connection: Connection) -> Duty:
    """The duty that falls due at the connection's `due_at`."""
    if connection.at_rest:
        return Duty.NOTHING
    if connection.candidate is not None:
        return Duty.VERIFY_TOKEN
    if connection.state is ConnectionState.FAILED and connection.due_at is not None:
        return Duty.LOOK_AGAIN
    return _BY_STATE[connection.state]


#: How many calls to Workable each duty makes, as a rule.
_CALLS = {
    Duty.VERIFY_TOKEN: 2,
    Duty.PREPARE_RECRUITER: 1,
    Duty.FIND_RECRUITER: 1,
    Duty.CHECK_HEALTH: 1,
    Duty.LOOK_AGAIN: 1,
}
#: How many calls more a hint about the recruiter is worth to a person who waits for it.
HINT_CALLS_FOR_A_PERSON = 3
#: From this age on, looks for a recruiter are so rare that a second call for a hint is polite.
RARE = timedelta(hours=1)


def hint_calls(connection: Connection, now: datetime, *, person_waits: bool) -> int:
    """How many calls more a look may make for a hint about the recruiter."""
    if person_waits:
        return HINT_CALLS_FOR_A_PERSON
    waiting = connection.state is ConnectionState.AWAITING_RECRUITER
    return 1 if waiting and now - connection.state_since >= RARE else 0


def permission_to_try(connection: Connection, now: datetime, readable: Sequence[str]) -> str | None:
    """Which permission a look at a linked account tries beside: on each day another one, and one call a day.

    `readable`: those that the host needs, beside what linking needs, and that can be tried by reading.
    """
    looked_today = connection.last_look is not None and connection.last_look.at.date() == now.date()
    if not readable or looked_today or next_duty(connection) is not Duty.CHECK_HEALTH:
        return None
    return readable[now.date().toordinal() % len(readable)]


def calls_needed(connection: Connection, now: datetime) -> int:
    """How many calls to Workable the next duty makes in the background."""
    duty = next_duty(connection)
    if duty not in _CALLS or (duty is Duty.PREPARE_RECRUITER and connection.recruiter is None):
        return 0  # a recruiter that was never issued is prepared without a call
    others = connection.permissions is not None and len(connection.permissions.needed) > 1
    tries = 1 if duty is Duty.CHECK_HEALTH and others else 0
    return _CALLS[duty] + tries + hint_calls(connection, now, person_waits=False)


def owes_expiry_notice(connection: Connection, now: datetime, timing: Timing) -> bool:
    """True if the host has to be told, before anything else is done, that the token in use expires soon."""
    told_in = {ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED}
    day = connection.untold_expiry
    return day is not None and connection.state in told_in and now >= notice_at(day, timing)


def trouble_notice_at(connection: Connection, timing: Timing) -> datetime | None:
    """When somebody who can act has to be told that there is no answer to go by; None: nothing is to be told."""
    problem = connection.problem
    if problem is None or problem.code not in TRANSIENT or connection.troubled_since is not None:
        return None
    a_person_waits = connection.state is not ConnectionState.LINKED or connection.candidate is not None
    return problem.since + (timing.trouble_within / 3 if a_person_waits else timing.trouble_within)


def owes_trouble_notice(connection: Connection, now: datetime, timing: Timing) -> bool:
    """True if the host has to be told, before anything else is done, that trouble has lasted for too long."""
    told_at = trouble_notice_at(connection, timing)
    return told_at is not None and now >= told_at
