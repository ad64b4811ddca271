"""What is owed to a connection, derived from its row alone: after a crash the row still says it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from states.connection import Connection, ConnectionState
from states.timing import Timing, notice_at


class Duty(StrEnum):
    """The next thing to do for a connection, in the imperative."""

    VERIFY_TOKEN = "verify_token"
    PREPARE_RECRUITER = "prepare_recruiter"
    FIND_RECRUITER = "find_recruiter"
    CHECK_HEALTH = "check_health"
    #: Nobody gave a working token in time.
    PUT_ASIDE = "quarantine"
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
    return _BY_STATE[connection.state]


#: From this age on, looks for a recruiter are so rare that a second call for a hint is polite.
RARE = timedelta(hours=1)


def extra_calls_for(connection: Connection, now: datetime) -> int:
    """How many calls more a look in the background may make for a hint about the recruiter."""
    waiting = connection.state is ConnectionState.AWAITING_RECRUITER
    return 1 if waiting and now - connection.state_since >= RARE else 0


def owes_expiry_notice(connection: Connection, now: datetime, timing: Timing) -> bool:
    """True if the host has to be told, before anything else is done, that the token in use expires soon."""
    told_in = {ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED}
    day = connection.untold_expiry
    return day is not None and connection.state in told_in and now >= notice_at(day, timing)
