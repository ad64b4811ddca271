"""A connection and its five states: the frozen facts that a decision may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from states.problems import HEALING, PROBLEMS, NextLook, ProblemCode, ProblemOwner


class ConnectionState(StrEnum):
    """Where a connection stands, in the order of the story. The texts are stored: they never change."""

    #: Nothing usable yet: a token has to be given, or the one given is being verified.
    AWAITING_TOKEN = "awaiting_token"
    #: Workable accepted the token; the recruiter's name and e-mail are about to be issued.
    TOKEN_VALID = "token_valid"
    #: The customer has to add our external recruiter in Workable; we look until it is there.
    AWAITING_RECRUITER = "awaiting_recruiter"
    #: The account is linked; its health is checked from time to time.
    LINKED = "linked"
    #: Nothing happens any more until a person acts.
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A Workable account as the API names it."""

    id: str
    name: str
    subdomain: str


@dataclass(frozen=True, kw_only=True)
class Recruiter:
    """The external recruiter that the customer adds by hand; `id` is Workable's, once it was seen there."""

    name: str
    email: str
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A token for one subdomain, sealed: the law moves it about and cannot read it.

    `fingerprint` names the token to people without revealing it. `expires_on` is what the person told us,
    because Workable does not tell.
    """

    subdomain: str
    sealed: str
    fingerprint: str
    expires_on: date | None = None


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """Workable's permissions that the host needs, and what is known of the token's, each by Workable's name.

    Reading is the only way to learn them, so those to write stay `unverified` until a call needs one.
    """

    needed: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def unverified(self) -> tuple[str, ...]:
        """Needed, and not tried: only a call that needs one tells."""
        return tuple(name for name in self.needed if name not in self.verified and name not in self.missing)

    @property
    def lost(self) -> tuple[str, ...]:
        """Needed, and refused."""
        return tuple(name for name in self.needed if name in self.missing)

    def after(self, scope: str, *, allowed: bool) -> Permissions:
        """What is known once a call that needs this one was answered, or refused."""
        verified = tuple(name for name in self.verified if name != scope) + ((scope,) if allowed else ())
        missing = tuple(name for name in self.missing if name != scope) + (() if allowed else (scope,))
        return Permissions(needed=self.needed, verified=verified, missing=missing)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a connection is not moving, since when, and what was seen (never a secret, never a stranger's data).

    `params` are texts, numbers and lists of texts. `linker.describe` says all of it to people. `lasting`: it should
    have passed by itself and did not, for so long that an operator has to act. A new token that could not be verified
    for too long is `dropped`, and whoever gave it has to give it again.
    """

    code: ProblemCode
    since: datetime
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    lasting: bool = False

    @property
    def owner(self) -> ProblemOwner:
        """Who must act for the connection to go on."""
        if self.is_dropped:
            return ProblemOwner.CUSTOMER
        return ProblemOwner.OPERATOR if self.lasting else PROBLEMS[self.code].owner

    @property
    def field(self) -> str | None:
        """The field of the connection dialog that it belongs to, if it belongs to one."""
        return "token" if self.is_dropped else PROBLEMS[self.code].field

    @property
    def is_dropped(self) -> bool:
        """True if it is of a new token that could not be verified for so long that it was not kept."""
        return bool(self.params.get("dropped"))

    @property
    def next_look(self) -> NextLook:
        """When we look again by ourselves."""
        return PROBLEMS[self.code].next_look

    @property
    def wording_key(self) -> str:
        """Where its words stand in the catalogue."""
        return "problem.dropped" if self.is_dropped else f"problem.{self.code.value}"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A refusal that is not believed yet: which one, how often in a row, and since when."""

    code: ProblemCode
    count: int
    since: datetime


@dataclass(frozen=True, kw_only=True)
class LastLook:
    """The last time that Workable was asked: the last call of it, its status (None: no answer), and who asked.

    `verdict` is the name of what the answer meant; `told_at` is when this answer last went into the history.
    """

    at: datetime
    call: str
    status: int | None
    ms: int
    by: str
    verdict: str
    told_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One customer's link to Workable, as the law sees it. All times are aware, in UTC."""

    #: `con_` and twenty characters.
    id: str
    #: The host's own name for the customer.
    owner: str
    #: When it was opened.
    created_at: datetime
    #: What the host called it when it was opened, so that opening it once more gives this one.
    key: str | None = None
    #: Where it stands.
    state: ConnectionState = ConnectionState.AWAITING_TOKEN
    #: When it came into this state.
    state_since: datetime
    #: Texts of the host's, to find again with the connection.
    metadata: dict[str, str] = field(default_factory=dict, hash=False)
    #: The accepted subdomain, or the last one that a person gave.
    subdomain: str | None = None
    #: The account that the token belongs to, as Workable names it; None until a token was accepted.
    account: Account | None = None
    #: What the customer has to add in Workable; None until it is issued.
    recruiter: Recruiter | None = None
    #: The token in use.
    token: Credential | None = None
    #: A token that a person gave and that is not verified yet.
    candidate: Credential | None = None
    #: A token that turned out to be another account's, and until when it is kept: whoever names that account need not
    #: paste it again.
    held_token: Credential | None = None
    held_until: datetime | None = None
    #: What the host needs to be allowed, and what the token is; None: no token was tried yet.
    permissions: Permissions | None = None
    #: Why it is not moving; None: nothing is wrong.
    problem: Problem | None = None
    #: Why the last replacement token was turned down, or, of one for what has failed, why there is no answer yet; the
    #: token in use was left alone.
    replacement_problem: Problem | None = None
    #: A refusal that is not believed yet; it is asked again soon.
    doubt: Doubt | None = None
    #: Tries in a row that ended without an answer to go by.
    attempts: int = 0
    #: How often we looked for the recruiter.
    checks: int = 0
    #: When the connection has to be attended next; None: nothing is owed.
    due_at: datetime | None = None
    #: Workable asked not to be called before this time.
    not_before: datetime | None = None
    #: When waiting ends: for the token (abandoned) or for the recruiter (overdue).
    deadline: datetime | None = None
    #: When it was linked for the first time.
    linked_at: datetime | None = None
    #: When Workable last gave an answer that is as it should be.
    last_ok_at: datetime | None = None
    #: When Workable refused the token in use, for the first time since it last answered well.
    refused_at: datetime | None = None
    #: Since when there is no answer to go by, once that has lasted so long that the host was told; until a look works.
    troubled_since: datetime | None = None
    #: The last time that Workable was asked.
    last_look: LastLook | None = None
    #: Since when an operator keeps it at rest.
    paused_at: datetime | None = None
    #: When it was given up for good.
    closed_at: datetime | None = None
    #: Since when somebody has had the page of the connection open, and until when that is certain.
    watched_since: datetime | None = None
    watched_until: datetime | None = None
    #: The last day of a token that the host was told will expire soon.
    expiry_told: date | None = None
    #: When the host last told that the token in use was refused to it.
    reported_at: datetime | None = None
    #: When calls of the host's took the place of a look; None: the last look was our own.
    used_at: datetime | None = None
    #: The fencing token: it grows with every claim and every write, and a write is compared with what was read.
    version: int = 0
    #: The number of the last step.
    last_seq: int = 0
    #: When its row was last written.
    updated_at: datetime | None = None

    @property
    def at_rest(self) -> bool:
        """True if nothing may be done for this connection: it is paused or closed."""
        return self.paused_at is not None or self.closed_at is not None

    @property
    def heals(self) -> bool:
        """True if it has failed by what may be taken back, and the token is held: it is looked at again, seldom."""
        taken_back = self.problem is not None and self.problem.code in HEALING
        return taken_back and self.token is not None and self.state is ConnectionState.FAILED

    @property
    def present_problem(self) -> Problem | None:
        """What is the matter with what is done now: with a new token for what has failed, or with the connection."""
        verifies = self.state is ConnectionState.FAILED and self.candidate is not None
        return self.replacement_problem if verifies else self.problem

    @property
    def untold_expiry(self) -> date | None:
        """The last day of the token in use, if it is known and the host was not told of it yet."""
        day = self.token.expires_on if self.token else None
        return None if day == self.expiry_told else day


_FACTS = frozenset(field.name for field in fields(Connection))


def restore(**facts: Any) -> Connection:
    """The connection with these facts, which are all of them: as `Connection(…)`, but at the cost of a copy."""
    assert facts.keys() == _FACTS, f"these are not all facts of a connection: {facts.keys() ^ _FACTS}"
    connection = object.__new__(Connection)
    connection.__dict__.update(facts)
    return connection


def evolve(connection: Connection, **facts: Any) -> Connection:
    """The connection with some facts changed: `dataclasses.replace`, but at the cost of a copy.

    Whoever attends thousands of connections does little else than this.
    """
    assert facts.keys() <= _FACTS, f"a connection has no {facts.keys() - _FACTS}"
    other = object.__new__(Connection)
    other.__dict__.update(connection.__dict__, **facts)
    return other
