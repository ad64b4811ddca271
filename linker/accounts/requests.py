"""What is decided about one request, without sending anything: where it may go, what it is called, if it is repeated.

Both kinds of client, `async` and not, go by these functions.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import unquote

import httpx

from linker.errors import BadInput
from linker.http_client import Headers
from linker.workable.responses import is_from_edge, throttled_until
from linker.workable.urls import AccountUrls
from states.timing import Backoff, backoff_ceiling

#: Where the API of an account is.
ROOT = "/spi/v3/"
#: Statuses after which a request that only reads may be repeated.
REPEATABLE = frozenset({429, 502, 503, 504})
#: Methods that only read.
READING = frozenset({"GET", "HEAD"})
#: The pauses before repetitions.
PAUSES = Backoff(first=timedelta(seconds=0.5), last=timedelta(seconds=8))
#: What of a request's headers is not the host's to choose: who is asked, and as whom.
OURS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"host", b"x-workable-client-id"})
#: The words that Workable's paths are made of; every other part names something, and is left out of logs.
WORDS = frozenset(
    {
        "accounts",
        "activities",
        "application_form",
        "approve",
        "archive",
        "assign",
        "background_check",
        "balances",
        "candidates",
        "categories",
        "comments",
        "copy",
        "custom_attributes",
        "departments",
        "disable",
        "disqualify",
        "employees",
        "enable",
        "events",
        "fields",
        "files",
        "hiring_plan",
        "invite",
        "jobs",
        "legal_entities",
        "members",
        "merge",
        "move",
        "offer",
        "permission_sets",
        "questions",
        "rate",
        "ratings",
        "recruiters",
        "reject",
        "relocate",
        "requisitions",
        "revert",
        "review",
        "search",
        "shortcode",
        "stages",
        "subscriptions",
        "tags",
        "timeoff",
        "upload",
        "work_schedules",
    }
)


def refuse_ways_out(given: httpx.URL | str) -> None:
    """Refuse a URL that `httpx` would read as something else than it says: `//host`, `..`, backslashes.

    Raises:
        BadInput: it is such a URL. Nothing was sent.
    """
    if isinstance(given, str) and not any(mark in given for mark in ("//", "..", "\\", "%")):
        return
    url = httpx.URL(given)
    path = url.path if isinstance(given, httpx.URL) else re.split(r"[?#]", given, maxsplit=1)[0]
    if _leads_out(path) or (url.host and not url.scheme):
        raise BadInput("url", "leads_away")


def _leads_out(path: str) -> bool:
    """True if a path has a part like `..` or `..;`, also for whoever unquotes it more than once."""
    while (unquoted := unquote(path)) != path:
        path = unquoted
    return "\\" in path or any(part.startswith("..") for part in path.split("/"))


def refuse_echoes(method: str) -> None:
    """Refuse methods whose answer shows what was sent, or that open a tunnel. Raises BadInput."""
    if method in ("TRACE", "CONNECT"):
        raise BadInput("method", "never_sent")


def address(url: httpx.URL, urls: AccountUrls, *, entered: str, now: str) -> httpx.URL:
    """Where a request goes: its own URL, with the subdomain that the account has `now`.

    Args:
        url: the URL of the request, which belongs to the account as it was when the client was `entered`.
        urls: the places of accounts.
        entered: the subdomain of then.
        now: the subdomain of now; an account may be renamed.

    Raises:
        BadInput: it leads elsewhere. Nothing was sent.
    """
    if not _leads_out(url.path):
        if urls.belongs(url, now):
            return url
        if urls.belongs(url, entered):
            root, moved = urls.of(entered, ROOT), urls.of(now, ROOT)
            return moved.copy_with(raw_path=moved.raw_path + url.raw_path[len(root.raw_path) :])
    raise BadInput("url", "leads_away")


def copied(request: httpx.Request, url: httpx.URL) -> httpx.Request:
    """The request that is sent in place of the host's: its body and headers, without those that are not its to choose.

    Of the extensions only the time-outs count: others change whom the network asks.
    """
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in OURS]
    headers.append((b"Host", url.netloc))
    timeout = request.extensions.get("timeout")
    extensions = {} if timeout is None else {"timeout": timeout}
    copy = httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)
    if can_be_sent_again(request):
        copy.read()
    return copy


def can_be_sent_again(request: httpx.Request) -> bool:
    """True if the body is at hand: a stream is gone once it was sent."""
    return isinstance(request.stream, httpx.ByteStream)


def may_be_repeated(request: httpx.Request) -> bool:
    """True if doing it twice does no more than doing it once: it only reads, or the caller says so."""
    return can_be_sent_again(request) and (request.method in READING or request.extensions.get("idempotent") is True)


def pause_before_repeating(
    status: int | None, headers: Headers, attempt: int, *, now: datetime, jitter: float
) -> float | None:
    """For how many seconds to wait before a request is made again; None: its answer stands.

    Args:
        status: that of the answer; None if no connection was made.
        headers: the answer's, by their lower-case names.
        attempt: how often it was tried: 1 after the first time.
        now: the time.
        jitter: a number from 0 to 1.
    """
    if status is not None and status not in REPEATABLE:
        return None
    pause = backoff_ceiling(attempt, PAUSES).total_seconds() * jitter
    if status == 429 or b"retry-after" in headers:
        return (throttled_until(headers, now) - now).total_seconds() + pause
    return pause


def is_refusal(response: httpx.Response) -> bool:
    """True if Workable itself refuses the token: a 403 only in its JSON, because proxies and firewalls say it too."""
    if response.status_code not in (401, 403) or is_from_edge(response.status_code, headers_of(response)):
        return False
    return response.status_code == 401 or response.headers.get("content-type", "").startswith("application/json")


@lru_cache(maxsize=1024)
def path_template(path: str) -> str:
    """The path of a call without what it names: `jobs/{shortcode}/candidates`.

    Args:
        path: the part behind `/spi/v3/`.
    """
    parts: list[str] = []
    for part in path.strip("/").split("/"):
        before = parts[-1] if parts else ""
        if part in WORDS:
            parts.append(part)
        else:
            parts.append({"jobs": "{shortcode}", "accounts": "{subdomain}"}.get(before, "{id}"))
    return "/".join(parts)


def headers_of(response: httpx.Response) -> Headers:
    """The headers of an answer, by their lower-case names."""
    return {name.lower(): value for name, value in response.headers.raw}
