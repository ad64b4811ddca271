"""Every reason a connection is not moving: its code, who must act, and when we look again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ProblemOwner(StrEnum):
    """Who must act for the connection to go on."""

    CUSTOMER = "customer"
    WORKABLE = "workable"
    OPERATOR = "operator"
    US = "us"


class ProblemCode(StrEnum):
    """The name of a problem. The texts are stored and public: they never change."""

    TOKEN_REFUSED = "token_refused"
    SUBDOMAIN_MISMATCH = "subdomain_mismatch"
    SCOPE_MISSING = "scope_missing"
    ACCOUNT_TAKEN = "account_taken"
    RECRUITER_ABSENT = "recruiter_absent"
    RECRUITER_OVERDUE = "recruiter_overdue"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_EXPIRED = "token_expired"
    SCOPE_LOST = "scope_lost"
    ACCOUNT_GONE = "account_gone"
    RECRUITER_REMOVED = "recruiter_removed"
    WORKABLE_UNAVAILABLE = "workable_unavailable"
    THROTTLED = "throttled"
    ANSWER_NOT_UNDERSTOOD = "answer_not_understood"
    ABANDONED = "abandoned"
    POISONED = "poisoned"


class NextLook(StrEnum):
    """When we look again by ourselves."""

    #: When the person acts.
    ON_ACTION = "on_action"
    #: On schedule, and at once on “Set up integration”.
    ON_SCHEDULE = "on_schedule"
    #: By itself, with growing pauses, never before the time that Workable names.
    WITH_BACKOFF = "with_backoff"
    #: When the person acts; by itself too, but seldom, and not for ever: what was refused may be good again.
    SELDOM = "seldom"


@dataclass(frozen=True, kw_only=True)
class ProblemKind:
    """What follows from a problem's code. What it says to people stands in the catalogue of `linker.wording`.

    `field` is the field of the connection dialog that the problem belongs to, if it belongs to one.
    """

    owner: ProblemOwner
    next_look: NextLook
    field: str | None = None


#: One entry for each code, in the order in which a connection can meet them.
PROBLEMS: dict[ProblemCode, ProblemKind] = {
    ProblemCode.TOKEN_REFUSED: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION, field="token"),
    ProblemCode.SUBDOMAIN_MISMATCH: ProblemKind(
        owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION, field="subdomain"
    ),
    ProblemCode.SCOPE_MISSING: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION, field="token"),
    ProblemCode.ACCOUNT_TAKEN: ProblemKind(
        owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION, field="subdomain"
    ),
    ProblemCode.RECRUITER_ABSENT: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_SCHEDULE),
    ProblemCode.RECRUITER_OVERDUE: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION),
    ProblemCode.TOKEN_REVOKED: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.SELDOM, field="token"),
    ProblemCode.TOKEN_EXPIRED: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION, field="token"),
    ProblemCode.SCOPE_LOST: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.SELDOM, field="token"),
    ProblemCode.ACCOUNT_GONE: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.SELDOM, field="subdomain"),
    ProblemCode.RECRUITER_REMOVED: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_SCHEDULE),
    ProblemCode.WORKABLE_UNAVAILABLE: ProblemKind(owner=ProblemOwner.WORKABLE, next_look=NextLook.WITH_BACKOFF),
    ProblemCode.THROTTLED: ProblemKind(owner=ProblemOwner.WORKABLE, next_look=NextLook.WITH_BACKOFF),
    ProblemCode.ANSWER_NOT_UNDERSTOOD: ProblemKind(owner=ProblemOwner.OPERATOR, next_look=NextLook.WITH_BACKOFF),
    ProblemCode.ABANDONED: ProblemKind(owner=ProblemOwner.CUSTOMER, next_look=NextLook.ON_ACTION),
    ProblemCode.POISONED: ProblemKind(owner=ProblemOwner.OPERATOR, next_look=NextLook.WITH_BACKOFF),
}

#: Problems of the infrastructure. They are never shown as a credential problem, and end nothing but a replacement that
#: is tried in vain, and a wait for a recruiter that is long overdue.
TRANSIENT = frozenset(
    {
        ProblemCode.WORKABLE_UNAVAILABLE,
        ProblemCode.THROTTLED,
        ProblemCode.ANSWER_NOT_UNDERSTOOD,
        ProblemCode.POISONED,
    }
)

#: Refusals that ended a working link, and that may be taken back: with the token that is held we look again, seldom.
HEALING = frozenset(
    {
        ProblemCode.TOKEN_REVOKED,
        ProblemCode.SCOPE_LOST,
        ProblemCode.SUBDOMAIN_MISMATCH,
        ProblemCode.ACCOUNT_GONE,
    }
)

#: Verdicts about what a person entered: told at once, on the right field.
REFUSALS = frozenset(
    {
        ProblemCode.TOKEN_REFUSED,
        ProblemCode.SUBDOMAIN_MISMATCH,
        ProblemCode.SCOPE_MISSING,
        ProblemCode.ACCOUNT_TAKEN,
    }
)


class NearMissKind(StrEnum):
    """What was seen instead of our recruiter. The texts are stored: they never change."""

    #: One with almost our e-mail; `alike` is how it begins up to the slip.
    SLIP = "slip"
    #: The same, with the slip in the first letter.
    SLIP_AT_START = "slip_at_start"
    #: One with our name and another e-mail.
    SAME_NAME = "same_name"
    #: Ours, added as a member of the account.
    MEMBER = "member"
    #: Nothing that comes close; `others` is how many other external recruiters there are.
    OTHERS = "others"
    #: The list is empty.
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """What comes close to our recruiter. Of other people's data it holds nothing."""

    kind: NearMissKind
    alike: str | None = None
    others: int | None = None

    @property
    def params(self) -> dict[str, Any]:
        """As a problem keeps it."""
        told = {"near_miss": self.kind.value, "alike": self.alike, "others": self.others}
        return {name: value for name, value in told.items() if value is not None}
