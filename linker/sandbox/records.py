"""What the sandbox's world is made of: frozen records, and the checks on every value that comes in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

#: Scopes seen on Workable's token form (Workable's documentation). There is no `r_members`: `/members` needs
#: `r_jobs`.
SCOPES = frozenset(
    {
        "r_jobs",
        "r_candidates",
        "w_candidates",
        "w_comments",
        "r_employees",
        "w_employees",
        "r_account",
        "w_account",
        "w_members",
        "w_departments",
        "r_offers",
        "w_offers",
        "r_requisitions",
        "w_requisitions",
        "r_timeoff",
        "w_timeoff",
    }
)

#: The subdomain that answers "which accounts does this token reach?"; it belongs to no account.
WWW = "www"

_SUBDOMAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_FINGERPRINT_LENGTH = 8
_LONGEST_TEXT = 255


class WorldError(ValueError):
    """The world was asked for something that makes no sense; nothing was changed.

    `field` names the argument at fault and `message` says what would be right, both safe to show to a person.
    """

    def __init__(self, field: str, message: str) -> None:
        """Keeps the name of the argument and the sentence about it."""
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A company's Workable account; `id` is hex text, as recorded from the real service."""

    subdomain: str
    id: str
    name: str
    website_url: str | None = None
    description: str | None = None
    summary: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token of one account; only `fingerprint` may be shown, `secret` stays out of every `repr`."""

    secret: str = field(repr=False)
    fingerprint: str
    subdomain: str
    scopes: frozenset[str]
    revoked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Recruiter:
    """An external recruiter of an account; `shortcodes` are the jobs that it is assigned to."""

    id: str
    name: str
    email: str
    shortcodes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """An account member: a colleague with a login, which an external recruiter is not."""

    id: str
    name: str
    email: str
    role: str = "simple"
    active: bool = True


def fingerprint(secret: str) -> str:
    """Names a token without revealing it: the first eight hex digits of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def checked_subdomain(value: str) -> str:
    """Returns `value` if it can be an account's subdomain; raises `WorldError` otherwise.

    Workable's own grammar is not published; this is the one that integrators use.
    """
    if value == WWW:
        raise WorldError("subdomain", f"'{WWW}' belongs to no account; choose another")
    if not _SUBDOMAIN.fullmatch(value):
        raise WorldError(
            "subdomain",
            "use 1 to 63 lower-case letters, digits, '-' or '_', beginning with a letter or a digit",
        )
    return value


def checked_secret(value: str) -> str:
    """Returns `value` if it can travel in a header; raises `WorldError`, which does not repeat it."""
    if not _TOKEN.fullmatch(value):
        raise WorldError("token", "use 1 to 512 visible ASCII characters without spaces")
    return value


def checked_scopes(values: frozenset[str]) -> frozenset[str]:
    """Returns `values` if all are scopes that Workable offers; raises `WorldError` naming the others."""
    unknown = sorted(values - SCOPES)
    if unknown:
        raise WorldError("scopes", f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(SCOPES))}")
    return values


def checked_text(field: str, value: str) -> str:
    """Returns `value` without surrounding blanks; raises `WorldError` when nothing or too much is left."""
    text = value.strip()
    if not text:
        raise WorldError(field, "must not be empty")
    if len(text) > _LONGEST_TEXT:
        raise WorldError(field, f"must have at most {_LONGEST_TEXT} characters")
    return text


def checked_email(value: str) -> str:
    """Returns `value`, its letters untouched; raises `WorldError` if it is no e-mail address."""
    text = checked_text("email", value)
    name, at, domain = text.partition("@")
    if not (name and at and domain) or "@" in domain or any(letter.isspace() for letter in text):
        raise WorldError("email", "must look like name@example.com")
    return text
