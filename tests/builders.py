"""Values with valid defaults: a test names only what it is about."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from states import events as happened
from states.connection import Account, Connection, ConnectionState, Credential, Doubt, Problem, Recruiter
from states.machine import advance
from states.problems import ProblemCode
from states.timing import Timing

#: When the tests of the law take place.
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(days=2)
LATER = NOW + timedelta(days=2)
TIMING = Timing()
#: The dice fall in the middle.
DICE = 0.5

ACME = Account(id="c71fa", name="Acme", subdomain="acme")
GLOBEX = Account(id="d82ab", name="Globex", subdomain="globex")
ISSUED = Recruiter(name="Integration", email="ats+k7m2xw9q4r@inbound.example.com")
SEEN = Recruiter(name="Integration", email="ats+k7m2xw9q4r@inbound.example.com", id="2b81c0")


def a_credential(name: str = "in-use", *, subdomain: str = "acme", expires_on: date | None = None) -> Credential:
    """A sealed token; the name tells it from others."""
    return Credential(
        subdomain=subdomain, sealed=f"v1.0123abcd.{name}", fingerprint=name[:8].ljust(8, "0"), expires_on=expires_on
    )


#: The token in use, one that is being verified, and one that a person gives now.
TOKEN = a_credential("in-use")
CANDIDATE = a_credential("candidate")
ANOTHER = a_credential("another")


def a_problem(code: ProblemCode, *, since: datetime = EARLIER, lasting: bool = False, **params: Any) -> Problem:
    """A problem that began earlier."""
    return Problem(code=code, since=since, params=params, lasting=lasting)


def a_doubt(code: ProblemCode = ProblemCode.TOKEN_REVOKED, *, count: int = 1, since: datetime = EARLIER) -> Doubt:
    """A refusal that was not believed so far."""
    return Doubt(code=code, count=count, since=since)


def a_connection(state: ConnectionState = ConnectionState.AWAITING_TOKEN, **facts: Any) -> Connection:
    """A connection that the law can have put into this state, two days ago."""
    by_state: dict[ConnectionState, dict[str, Any]] = {
        ConnectionState.AWAITING_TOKEN: {"deadline": LATER, "due_at": LATER},
        ConnectionState.TOKEN_VALID: _with_token() | {"due_at": NOW},
        ConnectionState.AWAITING_RECRUITER: _with_token() | {"recruiter": ISSUED, "deadline": LATER, "due_at": NOW},
        ConnectionState.LINKED: _with_token() | {"recruiter": SEEN, "linked_at": EARLIER, "due_at": NOW},
        ConnectionState.FAILED: _with_token()
        | {"recruiter": SEEN, "linked_at": EARLIER, "problem": a_problem(ProblemCode.TOKEN_REVOKED)},
    }
    given = {"id": "con_1", "owner": "customer-1", "created_at": EARLIER, "state_since": EARLIER, **by_state[state]}
    return Connection(state=state, **{**given, **facts})


def _with_token() -> dict[str, Any]:
    return {"subdomain": "acme", "account": ACME, "token": TOKEN, "last_ok_at": EARLIER}


def move(
    connection: Connection,
    event: happened.Event,
    *,
    now: datetime = NOW,
    jitter: float = DICE,
    timing: Timing = TIMING,
) -> Connection:
    """What the law makes of a connection, now, with dice that fall in the middle."""
    return advance(connection, event, now=now, jitter=jitter, timing=timing)
