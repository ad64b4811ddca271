"""Every reason a connection is not moving: its code, who must act, what to do, and when we look again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    RECRUITER_REMOVED = "recruiter_removed"
    WORKABLE_UNAVAILABLE = "workable_unavailable"
    THROTTLED = "throttled"
    ANSWER_NOT_UNDERSTOOD = "answer_not_understood"
    ABANDONED = "abandoned"
    POISONED = "poisoned"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What a problem means to people.

    `message` says what is the matter, `action` what its owner does next, `next_look` when we look again by ourselves.
    `field` is the field of the connection dialog that the problem belongs to, if it belongs to one.
    """

    owner: ProblemOwner
    message: str
    action: str
    next_look: str
    field: str | None = None


ON_ACTION = "when the person acts"
ON_SCHEDULE = "on schedule, and at once on “Set up integration”"
WITH_BACKOFF = "by itself, with growing pauses, never before the time that Workable names"

#: One entry for each code, in the order in which a connection can meet them.
PROBLEMS: dict[ProblemCode, Advice] = {
    ProblemCode.TOKEN_REFUSED: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="token",
        message="Workable does not accept this API token.",
        action="Copy the whole token again, or generate a new one in Workable under Settings > Apps > API access "
        "tokens, and paste it here.",
        next_look=ON_ACTION,
    ),
    ProblemCode.SUBDOMAIN_MISMATCH: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="subdomain",
        message="This token does not belong to the account with this subdomain.",
        action="Check the subdomain in Workable under Settings > Company profile, and use a token that was made there.",
        next_look=ON_ACTION,
    ),
    ProblemCode.SCOPE_MISSING: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="token",
        message="The token is good, but it lacks a permission that linking needs.",
        action="Generate a token in Workable under Settings > Apps with the permission r_jobs, and paste it here.",
        next_look=ON_ACTION,
    ),
    ProblemCode.ACCOUNT_TAKEN: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="subdomain",
        message="This Workable account is connected already.",
        action="Continue with the connection that exists, or give it the new token there to reconnect it.",
        next_look=ON_ACTION,
    ),
    ProblemCode.RECRUITER_ABSENT: Advice(
        owner=ProblemOwner.CUSTOMER,
        message="The external recruiter is not in Workable yet.",
        action="In Workable, open Settings > Account members > Add an external recruiter, and paste the name and the "
        "e-mail that are shown here.",
        next_look=ON_SCHEDULE,
    ),
    ProblemCode.RECRUITER_OVERDUE: Advice(
        owner=ProblemOwner.CUSTOMER,
        message="The external recruiter was not added in time.",
        action="Restart the connection, then add the external recruiter in Workable with the name and e-mail shown.",
        next_look=ON_ACTION,
    ),
    ProblemCode.TOKEN_REVOKED: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="token",
        message="Workable refuses the token again and again: it was revoked, or it has expired.",
        action="Generate a new token in Workable under Settings > Apps, and give it here to reconnect.",
        next_look=ON_ACTION,
    ),
    ProblemCode.TOKEN_EXPIRED: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="token",
        message="The token's expiry date has passed and Workable refuses it.",
        action="Generate a new token in Workable under Settings > Apps, and give it here to reconnect.",
        next_look=ON_ACTION,
    ),
    ProblemCode.SCOPE_LOST: Advice(
        owner=ProblemOwner.CUSTOMER,
        field="token",
        message="The token has lost the permission r_jobs.",
        action="Generate a new token with the permission r_jobs in Workable under Settings > Apps, and give it here.",
        next_look=ON_ACTION,
    ),
    ProblemCode.RECRUITER_REMOVED: Advice(
        owner=ProblemOwner.CUSTOMER,
        message="The external recruiter was there, and has been removed in Workable.",
        action="Add the external recruiter again in Workable, with the same name and e-mail.",
        next_look=ON_SCHEDULE,
    ),
    ProblemCode.WORKABLE_UNAVAILABLE: Advice(
        owner=ProblemOwner.WORKABLE,
        message="Workable cannot be reached at the moment.",
        action="Nothing to do: what you entered is kept, and the connection goes on by itself.",
        next_look=WITH_BACKOFF,
    ),
    ProblemCode.THROTTLED: Advice(
        owner=ProblemOwner.WORKABLE,
        message="Workable's limit of calls for this account is used up for the moment.",
        action="Nothing to do: what you entered is kept, and the connection goes on by itself.",
        next_look=WITH_BACKOFF,
    ),
    ProblemCode.ANSWER_NOT_UNDERSTOOD: Advice(
        owner=ProblemOwner.OPERATOR,
        message="Workable answered in a way that we do not understand.",
        action="Look at the evidence in the history; if it stays so, report it with that evidence.",
        next_look=WITH_BACKOFF,
    ),
    ProblemCode.ABANDONED: Advice(
        owner=ProblemOwner.CUSTOMER,
        message="Nobody gave a working token for a long time, so the connection was put aside.",
        action="Restart the connection and give the subdomain and a token.",
        next_look=ON_ACTION,
    ),
    ProblemCode.POISONED: Advice(
        owner=ProblemOwner.OPERATOR,
        message="Attending this connection goes wrong on our side.",
        action="Look at the evidence in the history and mend the cause; it is tried again by itself.",
        next_look=WITH_BACKOFF,
    ),
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

#: Verdicts about what a person entered: told at once, on the right field.
REFUSALS = frozenset(
    {
        ProblemCode.TOKEN_REFUSED,
        ProblemCode.SUBDOMAIN_MISMATCH,
        ProblemCode.SCOPE_MISSING,
        ProblemCode.ACCOUNT_TAKEN,
    }
)


def belongs_elsewhere(subdomains: tuple[str, ...], stays_with: str | None = None) -> str | None:
    """The detail of a mismatch: the accounts that the token reaches, for the person who gave the wrong one."""
    reached = [f"This token belongs to: {', '.join(subdomains)}."] if subdomains else []
    bound = [f"This connection stays with {stays_with}."] if stays_with else []
    return " ".join(reached + bound) or None


def lacks(scope: str) -> str:
    """The detail of a permission that is missing."""
    return f"Missing permission: {scope}."
