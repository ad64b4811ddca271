"""Links to the connection dialog: what a link is, how one is issued, and what its secret proves.

A link is `…/c/<id>#<secret>`: a browser sends no fragment, so the secret is in no log. It is random and long, and kept
only as a hash, which needs no salt for that reason.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from linker.errors import BadInput
from linker.validation import text

#: How many random bytes a secret has.
SECRET_BYTES = 32
#: How long a link lasts if nobody says otherwise, and at most.
USUAL_SPAN = timedelta(days=7)
LONGEST_SPAN = timedelta(days=90)
#: How many entries may be sent by one link at once; each makes room again after this time. Only what costs something
#: is counted: what can be an entry, and what makes us ask Workable. Neither are guesses at a link's secret: they would
#: let anybody lock the customer out.
MOST_ENTRIES = 20
ENTRY_EVERY = timedelta(seconds=30)
#: How many by all links of a connection: a link that was shared in public leaves room for another one.
MOST_ENTRIES_OF_A_CONNECTION = 2 * MOST_ENTRIES

#: What the history calls somebody who acts by a link, before the contact; both together are one actor.
ACTOR = "customer:"
LONGEST_CONTACT = text.LONGEST_CHARACTERS - len(ACTOR)

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.ASCII | re.IGNORECASE)


class Purpose(StrEnum):
    """What a link is for. The texts are stored: they never change."""

    #: The whole way, from nothing to linked.
    SETUP = "setup"
    #: The subdomain and the token.
    TOKEN = "token"
    #: The external recruiter.
    RECRUITER = "recruiter"
    #: Another token for a connection that has one, or had one.
    RECONNECT = "reconnect"
    #: To look, and to do nothing.
    STATUS = "status"


class LinkStatus(StrEnum):
    """Whether a link opens anything."""

    OPEN = "open"
    EXPIRED = "expired"
    REVOKED = "revoked"
    #: As many entries were sent by it as it allows: for some minutes it only shows.
    USED_UP = "used_up"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link to the dialog, without its secret."""

    #: `lnk_` and twenty characters; it stands in the URL.
    id: str
    connection_id: str
    purpose: Purpose
    #: The one origin that may show the dialog in a frame, as in `https://app.example.com`.
    embed_origin: str | None = None
    #: The language of the pages, as in `en` or `pt-BR`; None: English.
    language: str | None = None
    #: For whom it is, for the history.
    contact: str | None = None
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None = None
    #: How many entries were sent by it.
    attempts: int = 0
    #: When all of them have made room again.
    entries_until: datetime | None = None

    def status(self, now: datetime) -> LinkStatus:
        """Whether it opens anything at a time."""
        if self.revoked_at is not None:
            return LinkStatus.REVOKED
        if now >= self.expires_at:
            return LinkStatus.EXPIRED
        return LinkStatus.OPEN if has_room(self.entries_until, now) else LinkStatus.USED_UP

    @property
    def actor(self) -> str:
        """Who acts by it, for the history."""
        return f"{ACTOR}{self.contact or self.id}"


@dataclass(frozen=True, kw_only=True)
class IssuedLink:
    """A link that was just made. Its URL is known now and never again."""

    id: str
    url: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Without the URL: whoever has it can act for the customer."""
        return f"IssuedLink(id={self.id!r}, expires_at={self.expires_at!r})"


def issue(
    connection_id: str,
    *,
    now: datetime,
    purpose: str = Purpose.SETUP,
    expires: timedelta | None = None,
    embed_origin: str | None = None,
    language: str | None = None,
    contact: str | None = None,
    actor: str,
) -> tuple[Link, str]:
    """A new link and its secret. Raises BadInput."""
    if purpose not in set(Purpose):
        raise BadInput("for", "unknown", known=[each.value for each in Purpose])
    span = USUAL_SPAN if expires is None else expires
    if not timedelta(0) < span <= LONGEST_SPAN:
        raise BadInput("expires", "not_a_link_span", days=LONGEST_SPAN.days)
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise BadInput("language", "not_a_language")
    link = Link(
        id=f"lnk_{secrets.token_hex(10)}",
        connection_id=connection_id,
        purpose=Purpose(purpose),
        embed_origin=None if embed_origin is None else parse_origin(embed_origin),
        language=language,
        contact=None if contact is None else _contact(contact),
        created_at=now,
        created_by=text.one_line("actor", actor),
        expires_at=now + span,
    )
    return link, secrets.token_urlsafe(SECRET_BYTES)


def _contact(given: str) -> str:
    """For whom a link is: short enough to be an actor of the history."""
    contact = text.one_line("contact", given)
    if len(contact) > LONGEST_CONTACT:
        raise BadInput("contact", "too_long", most=LONGEST_CONTACT)
    return contact


def has_room(entries_until: datetime | None, now: datetime) -> bool:
    """True if a link whose entries count until a time may send one more."""
    return entries_until is None or entries_until - now <= ENTRY_EVERY * (MOST_ENTRIES - 1)


def link_json(link: Link, now: datetime) -> dict[str, Any]:
    """A link, as `linker links --json` prints it: without its secret, which nobody knows any more."""
    return {
        "id": link.id,
        "connection": link.connection_id,
        "for": link.purpose.value,
        "status": link.status(now).value,
        "embed_origin": link.embed_origin,
        "language": link.language,
        "contact": link.contact,
        "created_at": link.created_at.isoformat(),
        "created_by": link.created_by,
        "expires_at": link.expires_at.isoformat(),
        "revoked_at": link.revoked_at.isoformat() if link.revoked_at else None,
        "attempts": link.attempts,
    }


def url_of(base: str, link_id: str, secret: str, *, plain: bool = False) -> str:
    """Where a link leads. `plain`: for browsers without JavaScript; the secret is in the path, and so in logs."""
    return f"{base.rstrip('/')}/c/{link_id}{'/' if plain else '#'}{secret}"


def parse_origin(given: str) -> str:
    """An origin, as in `https://app.example.com`. Raises BadInput: it is none that a browser would say."""
    origin = None
    try:
        parts = urlsplit(given.strip().lower())
        port = f":{parts.port}" if parts.port is not None else ""
        origin = f"{parts.scheme}://{parts.hostname}{port}"
    except ValueError:
        parts = None
    whole = parts is not None and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    names_host = parts is not None and parts.hostname is not None and re.fullmatch(r"[a-z0-9.-]+", parts.hostname)
    if origin is None or parts is None or not whole or not names_host or parts.scheme not in ("https", "http"):
        raise BadInput("embed_origin", "not_an_origin")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1"):
        raise BadInput("embed_origin", "not_https")
    return origin


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def proves(secret: str, kept_hash: str | None) -> bool:
    """True if a secret is the one of a hash. Takes as long without a hash: nobody learns which links exist."""
    same = hmac.compare_digest(hash_of(secret), kept_hash or "0" * 64)
    return same and kept_hash is not None
