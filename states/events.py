"""What can happen to a connection, in the past tense and in the order of the story."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from states.connection import Account, ConnectionState, Credential, Permissions, Recruiter
from states.problems import NearMiss, ProblemCode


@dataclass(frozen=True)
class Event:
    """Something that happened; `name` is its stored text and never changes."""

    name: ClassVar[str] = "event"

    def __init_subclass__(cls) -> None:
        """Give each event its stored text: the class name in lower-case words."""
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class TokenSubmitted(Event):
    """A person gave a subdomain and a token."""

    candidate: Credential


@dataclass(frozen=True)
class SubdomainGiven(Event):
    """A person said which account is meant, and has not given a token for it yet."""

    subdomain: str


@dataclass(frozen=True)
class TokenAccepted(Event):
    """Workable let the candidate read the account and its recruiters."""

    account: Account
    permissions: Permissions | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TokenRefused(Event):
    """Workable does not know the candidate (401)."""


@dataclass(frozen=True)
class SubdomainMismatched(Event):
    """The candidate belongs to another account (422 or 404); `belongs_to` are the subdomains that it reaches.

    `stays_with`: the subdomain of the account that the connection was linked to and stays with.
    """

    belongs_to: tuple[str, ...] = ()
    stays_with: str | None = None


@dataclass(frozen=True)
class HeldTokenWiped(Event):
    """Nobody named the account of the token that was kept after a mismatch, within the time."""


@dataclass(frozen=True)
class ScopeMissing(Event):
    """The candidate lacks a permission that the host needs (403); `scope` is the permission's name.

    `permissions` name all that are missing, if all were tried.
    """

    scope: str
    permissions: Permissions | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AccountTaken(Event):
    """The owner has another open connection to the same Workable account."""

    by: str


@dataclass(frozen=True)
class RecruiterPrepared(Event):
    """The recruiter's name and e-mail were issued; it has an id if it was seen in Workable already."""

    recruiter: Recruiter


@dataclass(frozen=True)
class RecruiterFound(Event):
    """Our recruiter is in the account."""

    recruiter_id: str


@dataclass(frozen=True)
class RecruiterAbsent(Event):
    """Our recruiter is not in the account yet; `near_miss` is what was seen instead.

    `thorough`: the members were looked through too, so that an earlier hint about them is worth nothing any more.
    """

    near_miss: NearMiss | None = None
    thorough: bool = False


@dataclass(frozen=True)
class RecruiterOverdue(Event):
    """The deadline passed and a last look did not find the recruiter.

    `looked` is False if Workable gave no answer to go by, for so long after the deadline that no outage is an excuse.
    """

    near_miss: NearMiss | None = None
    looked: bool = True
    thorough: bool = False


@dataclass(frozen=True)
class RefusalDoubted(Event):
    """A token that worked was refused, or our recruiter was missing: not often or long enough to believe it."""

    code: ProblemCode


@dataclass(frozen=True)
class TokenRevoked(Event):
    """Workable refused a token that worked, again and again (401)."""


@dataclass(frozen=True)
class ScopeLost(Event):
    """A token that worked lacks the permission now, again and again (403)."""


@dataclass(frozen=True)
class AccountMoved(Event):
    """The account does not answer to its subdomain any more, again and again (422, 404); the token reaches others."""

    belongs_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountGone(Event):
    """The account does not answer to its subdomain any more, again and again, and the token reaches none."""


@dataclass(frozen=True)
class AccountRenamed(Event):
    """The account has another subdomain now: the token names it, and it is followed."""

    account: Account


@dataclass(frozen=True)
class HealthConfirmed(Event):
    """The linked account answered and our recruiter is there."""

    recruiter_id: str


@dataclass(frozen=True)
class TokenExpiring(Event):
    """The token in use has only some days left, by the date that the person gave."""


@dataclass(frozen=True)
class RecruiterVanished(Event):
    """Our recruiter was removed from a linked account: it was missing again and again."""


@dataclass(frozen=True)
class RefusalReported(Event):
    """The host saw a call of its own refused (401, 403) with the token in use: we look, and it counts for nothing.

    `at`: when it was told, because one is enough for a minute.
    """

    at: datetime


@dataclass(frozen=True)
class UseConfirmed(Event):
    """Calls of the host's own are answered well, so the token is good: the next look is put off, once."""


@dataclass(frozen=True)
class PermissionTried(Event):
    """A permission that linking does not need was refused (403), or is there again. The link goes on.

    `recruiter_id`: the answer came with a look, which saw our recruiter; None: a call of the host's own met it.
    """

    scope: str
    allowed: bool
    recruiter_id: str | None = None


@dataclass(frozen=True)
class TokenRevealed(Event):
    """The host asked for the token in clear text."""


@dataclass(frozen=True)
class ReplacementSubmitted(Event):
    """A person gave a new token for a connection whose token is in use."""

    candidate: Credential


@dataclass(frozen=True)
class ReplacementAccepted(Event):
    """The replacement reaches the same account: it becomes the token."""

    account: Account
    permissions: Permissions | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ReplacementRefused(Event):
    """The replacement is no good; the token in use stays."""

    code: ProblemCode
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class WorkableUnavailable(Event):
    """Workable could not be asked or failed; not to be called before `retry_at`, if Workable named a time.

    `incident`: it refused the token, as it refuses those of many other accounts now, so that it proves nothing.
    """

    retry_at: datetime | None = None
    incident: bool = False


@dataclass(frozen=True)
class Throttled(Event):
    """Workable's limit of calls was reached; `retry_at` is Workable's own time.

    `attempts`: it is ours, for an owner who gave many tokens that were no good.
    """

    retry_at: datetime
    attempts: bool = False


@dataclass(frozen=True)
class AnswerNotUnderstood(Event):
    """Workable answered something that no rule covers; `params` say what it was."""

    params: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class AttentionFailed(Event):
    """Attending the connection went wrong on our side: a fault of the program or of its keys; `params` say which."""

    params: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class TroubleLasted(Event):
    """There has been no answer to go by for so long that somebody who can act is told."""


@dataclass(frozen=True)
class Recovered(Event):
    """A connection that had failed was looked at again, and its token works; with an id our recruiter is there."""

    recruiter_id: str | None = None
    near_miss: NearMiss | None = None
    thorough: bool = False


@dataclass(frozen=True)
class StillFailed(Event):
    """A connection that had failed was looked at again, and nothing is different.

    `refused`: the token was refused once more. `retry_at`: Workable is not to be called before.
    """

    refused: bool = False
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Abandoned(Event):
    """Nobody gave a working token within the time."""


@dataclass(frozen=True)
class CheckRequested(Event):
    """A person wants Workable to be asked now."""


@dataclass(frozen=True)
class Restarted(Event):
    """A person wants to go on with a failed connection."""


@dataclass(frozen=True)
class Paused(Event):
    """An operator stopped the attending of this connection."""


@dataclass(frozen=True)
class Resumed(Event):
    """An operator let the attending of this connection go on."""


@dataclass(frozen=True)
class MetadataSet(Event):
    """An operator set texts of the metadata; those without a text were taken away."""

    texts: Mapping[str, str | None] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Forced(Event):
    """An operator put the connection into a state by hand."""

    to: ConnectionState


@dataclass(frozen=True)
class Unlinked(Event):
    """The connection was given up for good: secrets wiped, closed."""


EVENTS: dict[str, type[Event]] = {event.name: event for event in Event.__subclasses__()}
