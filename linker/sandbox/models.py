"""What the sandbox's world is made of: frozen records, and the checks on every value that comes in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

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
_FINGERPRINT_CHARACTERS = 8
_LONGEST_TEXT_CHARACTERS = 255


Choice = TypeVar("Choice", bound=StrEnum)


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


class JobState(StrEnum):
    """Where a job stands (Workable's documentation)."""

    DRAFT = "draft"
    PUBLISHED = "published"
    CLOSED = "closed"
    ARCHIVED = "archived"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job of an account; `shortcode` is its name in URLs, `created_at` in Unix seconds."""

    id: str
    shortcode: str
    title: str
    state: JobState
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A candidate for a job; `recruiter` is the id of the external recruiter who is named as its source."""

    id: str
    shortcode: str
    name: str
    email: str
    created_at: float
    recruiter: str | None = None
    stage: str = "sourced"


def fingerprint(secret: str) -> str:
    """Names a token without revealing it: the first eight hex digits of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:_FINGERPRINT_CHARACTERS]


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
    if len(text) > _LONGEST_TEXT_CHARACTERS:
        raise WorldError(field, f"must have at most {_LONGEST_TEXT_CHARACTERS} characters")
    return text


def checked_email(value: str) -> str:
    """Returns `value`, its letters untouched; raises `WorldError` if it is no e-mail address."""
    text = checked_text("email", value)
    name, at, domain = text.partition("@")
    if not (name and at and domain) or "@" in domain or any(letter.isspace() for letter in text):
        raise WorldError("email", "must look like name@example.com")
    return text


class Fields:
    """A JSON object that came from outside; every method raises `WorldError` naming the field."""

    def __init__(self, values: Mapping[str, object], *known: str) -> None:
        """Takes the object; refuses a field that is not `known`: a typo must not pass for a default."""
        for name in values:
            if name not in known:
                raise WorldError(name, f"unknown field; known: {', '.join(known) or 'none'}")
        self._values = values

    def text(self, name: str) -> str:
        """Returns a text that has to be there."""
        value = self.optional_text(name)
        if value is None:
            raise WorldError(name, "is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """Returns a text, or None when it is absent, null or empty."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise WorldError(name, "must be a text")
        return value or None

    def texts(self, name: str) -> list[str] | None:
        """Returns a list of texts, or None when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise WorldError(name, "must be a list of texts")
        return value

    def whole_number(self, name: str) -> int | None:
        """Returns a whole number, or None when it is absent or null."""
        value = self._values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise WorldError(name, "must be a whole number")
        return value

    def number(self, name: str) -> float | None:
        """Returns a number, or None when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WorldError(name, "must be a number")
        return float(value)

    def flag(self, name: str, *, otherwise: bool) -> bool:
        """Returns true or false, `otherwise` when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return otherwise
        if not isinstance(value, bool):
            raise WorldError(name, "must be true or false")
        return value

    def optional_choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """Returns one of an enum's members by its value, or None when it is absent or null."""
        value = self.optional_text(name)
        if value is None:
            return None
        try:
            return choices(value)
        except ValueError:
            raise WorldError(name, f"unknown; known: {', '.join(each.value for each in choices)}") from None

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """Returns one of an enum's members that has to be there."""
        value = self.optional_choice(name, choices)
        if value is None:
            raise WorldError(name, "is missing")
        return value


def parsed(body: bytes) -> dict[str, object]:
    """Returns the JSON object in `body`, an empty one for no body; raises `WorldError` for all else."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise WorldError("body", "must be JSON") from None
    if not isinstance(value, dict):
        raise WorldError("body", "must be a JSON object")
    return value


def count_in(text: str | None, name: str, otherwise: int) -> int:
    """Returns a query parameter as a whole number of 0 or more, `otherwise` when it is absent."""
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise WorldError(name, "must be a whole number of 0 or more")
    return int(text)
