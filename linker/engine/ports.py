"""What the service needs of the world: Protocols with few methods, and the values that cross them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import SecretStr

from states.connection import Connection, ConnectionState, Recruiter
from states.history import ANNOUNCEMENTS, Step
from states.verdicts import Verdict


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
class Answer:
    """What asking Workable gave: the verdict, and the evidence for the history.

    `evidence` is `{"calls": [{"call": "GET /recruiters", "status": 200, "ms": 41}]}`: no secret, no stranger's data.
    """

    verdict: Verdict
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Workable(Protocol):
    """The two questions that linking asks. Trouble is an answer, never an exception."""

    async def verify(self, subdomain: str, token: SecretStr) -> Answer:
        """Can this token read the account and its recruiters? Tries both, so that nothing is missing later."""
        ...

    async def look(self, subdomain: str, token: SecretStr, recruiter: Recruiter, *, extra_calls: int = 0) -> Answer:
        """Is our recruiter in the account? If not: what comes close? `extra_calls`: how many may be spent on that."""
        ...


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to attend a connection: `holder` is new for each claim, `until` is when the right ends."""

    holder: str
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """One connection's new facts, with the step and the announcement that go into the same commit."""

    before: Connection
    after: Connection
    step: Step | None = None
    announcement: str | None = None
    #: True if whoever wrote it goes on with it at once, so that no other worker needs to be woken.
    quiet: bool = False


class Store(Protocol):
    """The memory. Every method is one transaction."""

    async def add(self, opened: Settlement) -> Connection:
        """Write a new connection with its first step."""
        ...

    async def get(self, connection_id: str) -> Connection:
        """Read one connection. Raises NotFound."""
        ...

    async def find(
        self,
        *,
        state: ConnectionState | None = None,
        owner: str | None = None,
        stuck: bool = False,
        limit: int | None = None,
    ) -> list[Connection]:
        """Read connections, oldest first. `stuck`: only open ones that a person has to act for."""
        ...

    async def connections_with_accounts(self, accounts: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The ids of the open connections among these, which are named by owner and Workable account id."""
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

    async def turns(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """The ids and states of up to `limit` connections that are due, taking turns among their owners."""
        ...

    async def claim_these(self, ids: Sequence[str], *, now: datetime, lease: Lease) -> list[Connection]:
        """Lease those of these connections that are due and that nobody else holds, in the order given."""
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

    async def release(self, connection_ids: Sequence[str], lease: Lease) -> None:
        """Give back those of these connections that are still held under this lease; changes nothing else."""
        ...


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Something that the host is told: `message_id` is the same at every try, `payload` holds no secret."""

    id: int
    message_id: str
    connection_id: str
    type: str
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    delivered_to: frozenset[str]
    #: From when on a failure is the last one; None: it was not tried yet.
    give_up_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryOutcome:
    """How the delivery of an announcement ended: it is over when nothing is due any more."""

    announcement: Announcement
    delivered_to: frozenset[str]
    #: When to try again; None: delivered, or given up.
    due_at: datetime | None = None
    error: str | None = None
    give_up_at: datetime | None = None

    @property
    def held_others_up(self) -> bool:
        """True if what comes behind it had to wait: it failed, now or before."""
        return self.error is not None or self.announcement.attempts > 0

    @property
    def is_given_up(self) -> bool:
        """True for a dead letter: it failed, and is not tried again."""
        return self.due_at is None and self.error is not None


class Outbox(Protocol):
    """The announcements that wait for the host."""

    async def claim_announcements(
        self, types: Collection[str], *, now: datetime, limit: int, lease: Lease
    ) -> list[Announcement]:
        """Lease announcements that are due, at most the oldest undelivered one of each connection."""
        ...

    async def settle_deliveries(
        self,
        deliveries: Sequence[DeliveryOutcome],
        *,
        now: datetime,
        lease: Lease,
        types: Collection[str] = ANNOUNCEMENTS,
    ) -> None:
        """Write down how deliveries ended, as far as they are still held under this lease.

        `types`: those that the deliverer takes; of them what comes behind a failure waits for it.
        """
        ...

    async def give_back(self, lease: Lease) -> None:
        """Let others deliver what is still held under this lease."""
        ...

    async def lapse(self, *, now: datetime) -> int:
        """Let lapse a batch of what nobody took for too long; gives how many those were."""
        ...
