"""What the service needs of the world: Protocols with few methods, and the values that cross them."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from pydantic import SecretStr

from states.connection import Connection, ConnectionState, Recruiter, evolve
from states.history import Step
from states.verdicts import Verdict

#: What a connection's id begins with, and how many characters it has in all.
ID_PREFIX = "con_"
ID_CHARACTERS = 24
#: Letters and digits of a recruiter's key: none that people mistake for another. Ten of them are about 49 bits.
KEY_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
KEY_CHARACTERS = 10


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The time now: aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time now: aware, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """Where chance comes from: a test hands over its own."""

    #: A number from 0 (included) to 1 (not included), by which times are spread.
    jitter: Callable[[], float] = random.random
    #: The part of a recruiter's e-mail that makes it unique.
    key: Callable[[], str] = lambda: "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_CHARACTERS))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What asking Workable gave: the verdict, and the evidence for the history.

    `evidence` is `{"calls": [{"call": "GET /recruiters", "status": 200, "ms": 41}]}`: no secret, no stranger's data.
    """

    verdict: Verdict
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Workable(Protocol):
    """The two questions that linking asks. Trouble is an answer, never an exception."""

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """Can this token read the account and its recruiters? Tries both, so that nothing is missing later."""
        ...

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """Is our recruiter in the account? If not: what comes close? `extra_calls`: how many may be spent on that.

        `permission`: one to try beside, if the recruiter is there.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to attend a connection: `holder` is new for each claim, `until` is when the right ends."""

    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class BlockOfCalls:
    """Calls to one account that a host's process may make until a time. Times are Unix seconds."""

    name: str
    calls: int
    until: float
    #: When more may be had, as far as is known; in the past if nothing stands against it.
    free_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """One connection's new facts, with the step and the announcement that go into the same commit."""

    before: Connection
    after: Connection
    step: Step | None = None
    announcement: str | None = None
    #: True if whoever wrote it goes on with it at once, so that no other worker needs to be woken.
    quiet: bool = False
    #: How many calls were made to its account beyond those that its claim counted; see `Store.settle`.
    unforeseen_calls: int = 0

    def written(self, now: datetime) -> Connection:
        """The connection as its row is, once this was committed at a time."""
        seq = self.before.last_seq + (self.step is not None)
        return evolve(self.after, version=self.before.version + 1, last_seq=seq, updated_at=now)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which connections are meant: those for which all of it holds. Its times are fixed: it means the same later."""

    #: Whole ids; None: whichever.
    ids: tuple[str, ...] | None = None
    #: Only in this state.
    state: ConnectionState | None = None
    #: A problem's code.
    problem: str | None = None
    #: Of this customer of the host's.
    owner: str | None = None
    #: Workable's id of the account, or its subdomain as Workable names it.
    account: str | None = None
    #: The subdomain that was accepted or entered last.
    subdomain: str | None = None
    #: Texts that are in the metadata as they are.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: What an id, owner, key, account, e-mail or metadata hold, without regard to capitals.
    text: str | None = None
    #: In its state since then or longer.
    since_before: datetime | None = None
    #: In its state since later than that.
    since_after: datetime | None = None
    #: Due before then.
    due_before: datetime | None = None
    #: The token's last day is this one or a later one.
    expires_from: date | None = None
    #: The token's last day is this one or an earlier one.
    expires_until: date | None = None
    #: Only open ones that a person has to act for.
    stuck: bool = False
    #: Only open ones that are paused.
    paused: bool = False
    #: Only closed ones, or only open ones; None: both.
    closed: bool | None = False
    #: The cursor that a page before ended with.
    after: str | None = None
    #: So many at most; None: all.
    limit: int | None = None


@dataclass(frozen=True)
class DamagedRow:
    """A connection whose row cannot be read, with what is legible of it."""

    id: str
    #: The kind of what was raised.
    cause: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the connections that a selection means, in its order."""

    found: list[Connection | DamagedRow]
    #: Where the next page begins; None: there is none.
    after: str | None


class Store(Protocol):
    """The memory. Every method is one transaction."""

    async def add(self, opened: Settlement) -> Connection:
        """Write a new connection with its first step; gives it as it is then, or the one that has its key already."""
        ...

    async def get(self, connection_id: str) -> Connection:
        """Read one connection. Raises NotFound."""
        ...

    async def find(self, selection: Selection) -> list[Connection]:
        """Read connections, in the selection's order. What cannot be read is left out, and told to the log."""
        ...

    async def page(self, selection: Selection) -> Page:
        """Read connections, in the selection's order; what cannot be read is in it as such. Raises BadInput."""
        ...

    async def whole_id(self, prefix: str) -> str:
        """The id that begins like this. Raises NotFound, and BadInput if several do."""
        ...

    async def connections_with_accounts(self, accounts: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The ids of the open connections among these, which are named by owner and Workable account id."""
        ...

    async def review_incident(self, *, now: datetime) -> bool:
        """Whether Workable refuses many accounts at the moment that were good before, by all that is written."""
        ...

    async def attempts_wait_until(self, owner: str, *, now: datetime) -> datetime | None:
        """Until when no token of an owner is verified who gave many that were no good; None if there is no need."""
        ...

    async def history(self, connection_id: str) -> list[Step]:
        """Read a connection's steps, first one first. Raises NotFound."""
        ...

    async def claim(self, connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
        """Lease one connection; None if somebody else holds it. Raises NotFound."""
        ...

    async def claim_due(self, *, now: datetime, limit: int, lease: Lease) -> list[Connection]:
        """Lease up to `limit` connections that are due, longest due first. Some may be put off; fewer come then."""
        ...

    async def due_round_robin(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """The ids and states of up to `limit` connections that are due, taking turns among their owners."""
        ...

    async def claim_these(self, ids: Sequence[str], *, now: datetime, lease: Lease) -> list[Connection]:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
        ...

    async def bring_back(self, *, now: datetime, furthest: Mapping[str, timedelta], limit: int) -> int:
        """Let be due now up to `limit` of what is due further ahead than is possible in its state; gives how many."""
        ...

    async def renew(self, ids: Sequence[str], lease: Lease) -> list[str]:
        """Let this lease of these connections last until its new end; gives those that are still held under it."""
        ...

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime, release: bool) -> list[bool]:
        """Write a batch in one commit, each compared with the version that it was read at.

        Gives True for each one written and False for each one that lost its race or broke a uniqueness.
        `release`: give the leases back with it.
        """
        ...

    async def watch(
        self, connection_id: str, *, now: datetime, until: datetime, first_look: datetime, next_look: datetime
    ) -> Connection:
        """Somebody has the page of a connection open until a time: look for what is awaited in time.

        By `first_look` if the page was just opened, and otherwise by `next_look`. Gives it as it is then. Raises
        NotFound.
        """
        ...

    async def release(self, ids: Sequence[str], lease: Lease) -> None:
        """Give back those of these connections that are still held under this lease; changes nothing else."""
        ...
