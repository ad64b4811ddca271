"""The one place where Workable's answers become verdicts.

The status is trusted first, then the body. But a refusal (401, 403, 404, 422) is Workable's own only if it comes as
Workable's JSON, an object with `error`: proxies and maintenance pages send the same statuses with HTML or with nothing,
and infrastructure trouble must never be shown as a credential problem. So an empty 401 is not understood rather than
believed: the candidate token is kept, an operator sees the evidence, and nobody is told to paste again. (That the body
of a refused token is always JSON is recorded once and documented; it is not established for every case.)

No text of an answer goes into a verdict or into the evidence: a server could echo the token there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic_core import from_json

from linker.http_client import Headers, number, retry_after, server_time
from linker.validation.subdomain import is_label
from linker.validation.text import is_control
from linker.workable import api
from states.connection import Account
from states.table import ACCOUNT, RECRUITERS
from states.verdicts import (
    AccountNotThere,
    AccountReadable,
    CredentialRefused,
    Forbidden,
    NotUnderstood,
    OverLimit,
    Unavailable,
    Verdict,
    WrongAccount,
)

#: No name of an account is kept longer.
LONGEST_NAME_CHARACTERS = 200
#: No name, e-mail or other text is looked at that is longer: none of ours is, and combining marks are put in order in a
#: time that grows with the square of their number.
LONGEST_TEXT_CHARACTERS = 320
#: How many accounts that a token reaches are looked at.
MOST_ACCOUNTS = 1_000


class ObjectMissing(Verdict):
    """Workable answered 404. Integrators report single spurious ones, so it is no verdict before it is asked again."""


class Page(NamedTuple):
    """A good answer: the JSON object that it carried."""

    body: dict[str, Any]


class Judged(NamedTuple):
    """What an answer was, and where the status does not tell it all, a code for the evidence, as in `redirect`."""

    outcome: Page | Verdict
    note: str | None = None


# ── by the head alone ─────────────────────────────────────────────────────────────────────────────────────────────────


def judge_head(status: int, headers: Headers, now: datetime) -> Judged | None:
    """The judgement, where status and headers are enough for one; None: the body has to be read.

    Whoever names a time for the next try says that this passes: then it is no verdict, whatever the status.
    """
    from_edge = is_from_edge(status, headers)
    if status == 200 and headers.get(b"content-type", b"").startswith(b"application/json") and not from_edge:
        return None
    named = retry_after(headers, now)
    note = None
    if from_edge:
        note = "edge"
    elif 300 <= status <= 399:
        note = "redirect"
    elif b"html" in headers.get(b"content-type", b"").lower():
        note = "web_page"
    if status == 429:
        return Judged(OverLimit(throttled_until(headers, now)), note if from_edge else None)
    if 500 <= status <= 599 or status == 408:
        return Judged(Unavailable(named), note if from_edge else None)
    if note is not None or named is not None:
        return Judged(Unavailable(named), note)
    return None


#: What only an edge or a proxy in between says: Cloudflare's challenges, a proxy that wants to be signed in to or that
#: failed, a firewall's action.
EDGE_HEADERS = (b"cf-mitigated", b"proxy-authenticate", b"x-squid-error", b"x-amzn-waf-action")
#: How proxies and web servers ask for a user and a password. Workable's tokens are of another scheme.
SIGN_IN = (b"basic", b"digest", b"ntlm", b"negotiate", b"kerberos")


def is_from_edge(status: int, headers: Headers) -> bool:
    """True if an answer says that it does not come from Workable."""
    asks_for_a_user = headers.get(b"www-authenticate", b"").strip().lower().startswith(SIGN_IN)
    failed = b"error=" in headers.get(b"proxy-status", b"").lower()  # RFC 9209
    return status == 407 or asks_for_a_user or failed or any(name in headers for name in EDGE_HEADERS)


def throttled_until(headers: Headers, now: datetime) -> datetime:
    """When Workable may be called again after a 429: Retry-After, else the end of the window, else in ten seconds."""
    named = retry_after(headers, now)
    if named is not None:
        return named
    return now + timedelta(seconds=window_left(headers, now))


def window_left(headers: Headers, now: datetime) -> float:
    """How many seconds are left of Workable's window: by its own clock, and never more than a whole window."""
    reset = number(headers.get(api.RESET_HEADER))
    left = 0.0 if reset is None else reset - server_time(headers, now).timestamp()
    return min(left, api.WINDOW_SECONDS) if left > 0 else api.WINDOW_SECONDS


# ── by the body ───────────────────────────────────────────────────────────────────────────────────────────────────────


def judge_body(status: int, headers: Headers, raw: bytes | None, now: datetime) -> Judged:
    """The judgement by the body as it was sent; None: it is longer than we read."""
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in (b"application/json", b"application/problem+json"):
        return _odd(status, "not_json")
    body = None if raw is None else unpacked(headers, raw)
    if body is None or sum(map(body.count, (b",", b"[", b"{"))) > api.MOST_ANSWER_VALUES:
        return _odd(status, "too_large")
    found = _object(body)
    if found is None:
        return _odd(status, "not_an_object")
    if _is_edges_own(found):
        wait = found.get("retry_after")
        named = retry_after({b"retry-after": str(wait).encode()}, now) if isinstance(wait, int) else None
        return Judged(Unavailable(named), "edge")
    if kind != b"application/json":
        return _odd(status, "not_json")
    if status == 200:
        return Judged(Page(found))
    if status in REFUSALS and found.get("error"):
        return Judged(REFUSALS[status])
    return _odd(status, "no_rule")


#: What Workable's own refusals mean. 401 and 403 say nothing of the cause beyond that.
REFUSALS: dict[int, Verdict] = {
    401: CredentialRefused(),
    403: Forbidden(api.SCOPE),
    404: ObjectMissing(),
    422: WrongAccount(),
}


#: Keys of the errors that Cloudflare makes in JSON, for clients that ask for it.
EDGE_KEYS = frozenset({"cloudflare_error", "ray_id", "rayId", "cf_ray"})
#: The numbers of Cloudflare's own errors, as in “error 1015”.
EDGE_ERRORS = range(1000, 2000)


def _is_edges_own(body: Mapping[str, Any]) -> bool:
    """True for an error that Cloudflare made: by its keys, by its list of numbered errors, or because it says so."""
    listed = body.get("errors")
    numbered = body.get("success") is False and isinstance(listed, list)
    said = (body.get(name) for name in ("type", "title", "instance", "footer"))
    texts = (text[:LONGEST_TEXT_CHARACTERS] for text in said if isinstance(text, str))
    names_itself = any("cloudflare" in text.lower() for text in texts)
    code = body.get("error_code")
    is_known = isinstance(code, int) and code in EDGE_ERRORS  # a range looks for what is no number one by one
    return bool(EDGE_KEYS.intersection(body)) or is_known or numbered or names_itself


def _odd(status: int, why: str) -> Judged:
    return Judged(NotUnderstood(why, status=status), why)


def unpacked(headers: Headers, raw: bytes) -> bytes | None:
    """The body without its packing; None if it grows beyond the limit, or is packed otherwise than with gzip.

    We ask for no packing at all, so this is for proxies that pack all the same.
    """
    packing = headers.get(b"content-encoding", b"identity").strip().lower()
    if packing == b"identity":
        return raw
    if packing not in (b"gzip", b"x-gzip"):
        return None
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = unpacker.decompress(raw, api.MAX_ANSWER_BYTES + 1)
    except zlib.error:
        return b""
    return body if len(body) <= api.MAX_ANSWER_BYTES else None


def _object(body: bytes) -> dict[str, Any] | None:
    """The object, by the quicker of two readers; Python's own takes what only it does (half a character)."""
    found: Any = None
    try:
        found = from_json(body)
    except ValueError:
        with suppress(ValueError, RecursionError):
            found = json.loads(body)
    return found if isinstance(found, dict) else None


# ── what good answers hold ────────────────────────────────────────────────────────────────────────────────────────────


class Entry(NamedTuple):
    """One recruiter or member of a list; whatever is missing or of the wrong kind is empty."""

    id: str
    name: str
    email: str


def account_in(page: Page, subdomain: str) -> Verdict:
    """The account, if it is the one that was asked for."""
    account_id, theirs = _id(page.body.get("id")), page.body.get("subdomain")
    if not account_id or not isinstance(theirs, str) or not is_label(theirs.lower()):
        return _shape(ACCOUNT)
    if theirs.lower() != subdomain:
        return WrongAccount((theirs.lower(),))
    name = page.body.get("name")
    if not isinstance(name, str):
        return _shape(ACCOUNT)
    # as it may be stored and shown: no control characters, no broken Unicode, not endless; a line break is a blank
    spaced = "".join(
        " " if character.isspace() and is_control(character) else character
        for character in name[:LONGEST_TEXT_CHARACTERS]
    )
    shown = "".join(character for character in spaced if not is_control(character)).strip()[:LONGEST_NAME_CHARACTERS]
    return AccountReadable(Account(id=account_id, name=shown or subdomain, subdomain=subdomain))


def recruiters_in(page: Page) -> list[dict[str, Any]] | Verdict:
    """The external recruiters of a page. Odd entries are passed over: a stranger's odd entry must not stop ours."""
    found = page.body.get("recruiters")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else _shape(RECRUITERS)


def entries(found: Iterable[Any]) -> Iterator[Entry]:
    """The objects of a list, each with what it has, read one after another."""
    for one in found:
        if isinstance(one, dict):
            yield Entry(_id(one.get("id")), _text(one.get("name")), _text(one.get("email")))


def subdomains_in(page: Page, *, but: str) -> tuple[str, ...]:
    """The subdomains of the accounts that a token reaches, at most ten, without the one that was asked for."""
    found = page.body.get("accounts")
    given = found[:MOST_ACCOUNTS] if isinstance(found, list) else []
    listed = [one.get("subdomain") for one in given if isinstance(one, dict)]
    labels = (one.lower() for one in listed if isinstance(one, str) and len(one) <= LONGEST_TEXT_CHARACTERS)
    return tuple(dict.fromkeys(one for one in labels if is_label(one) and one != but))[:10]


def accounts_in(page: Page) -> AccountNotThere | None:
    """All accounts that a token reaches; None if that is not said. What cannot be read may be any account."""
    found = page.body.get("accounts")
    if not isinstance(found, list):
        return None
    reached = []
    for one in found:
        name = one.get("subdomain") if isinstance(one, dict) else None
        verdict = account_in(Page(one), name.lower()) if isinstance(name, str) else None
        if isinstance(verdict, AccountReadable):
            reached.append(verdict.account)
    return AccountNotThere(tuple(reached), complete=len(reached) == len(found) and not next_in(page))


def next_in(page: Page) -> object:
    """What is given as the URL of the next page, whatever it is; None: this is the last one."""
    paging = page.body.get("paging")
    return (paging.get("next") if isinstance(paging, dict) else paging) or None


def _shape(call: str) -> NotUnderstood:
    return NotUnderstood("other_shape", call=call)


def _id(value: object) -> str:
    """Workable's id as text; empty if it is none. Ids are hexadecimal texts (recorded); a number would do too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and len(value) <= 64 and value.isascii() and value.isprintable() else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= LONGEST_TEXT_CHARACTERS else ""
