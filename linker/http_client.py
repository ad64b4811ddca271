"""The one HTTP client of the process, what its libraries raise when the network is in trouble, and Retry-After."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

Kind = Literal["aiohttp", "httpx", "httpx-no-keepalive"]

#: The furthest time, in seconds, that a server may put us off to.
MAX_WAIT = 3600.0
#: Not documented by Workable; honoured if it comes.
RETRY_AFTER_HEADER = b"retry-after"
#: How long an idle connection is kept, in seconds: there is one host per customer, so most are used once.
KEPT_IDLE = 15.0
#: What means that Workable could not be reached or broke off. `httpx-aiohttp` 0.2 lets some errors of aiohttp through
#: as they are (an answer that is no HTTP), and the TLS and socket errors of the system are `OSError`.
TRANSPORT_TROUBLE = (httpx.TransportError, aiohttp.ClientError, OSError)


def trouble_name(error: BaseException) -> str:
    """The name of the trouble, for the evidence; never the message, which may quote what was sent.

    It is the same in whichever way a client is asked: `httpx-aiohttp` 0.2 calls every lost connection a
    `ConnectTimeout`, so the error of `aiohttp` behind it is named.
    """
    cause = error.__cause__
    named = cause if isinstance(error, httpx.TransportError) and isinstance(cause, aiohttp.ClientError) else error
    return type(named).__name__


def build_http(
    kind: Kind = "aiohttp",
    *,
    connections: int = 100,
    verify: ssl.SSLContext | bool = True,
) -> httpx.AsyncClient:
    """Build the process's client. It opens nothing before its first request, and is its owner's to close.

    `connections`: the most at one time. Proxies named in the environment are not used, cookies not kept, redirects not
    followed.
    """
    # SSL_CERT_FILE and SSL_CERT_DIR are honoured: they say whom to believe, not whom to talk to.
    context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)
    transport = (
        _aiohttp(context, connections)
        if kind == "aiohttp"
        else _httpx(context, connections, idle=min(connections, 20) if kind == "httpx" else 0)
    )
    return PlainClient(transport)


class _NoCookies(httpx.Cookies):
    """Takes no cookies. `httpx` would keep those of every account, and spends a tenth of a request on it."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them where they are."""


NO_COOKIES = _NoCookies()


class OverSession(AiohttpTransport):
    """The transport over the session that we make. It is known by its class: any other may do what ours does not."""


class PlainClient(httpx.AsyncClient):
    """A client without a memory."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, follow_redirects=False, trust_env=False)

    @property
    def cookies(self) -> httpx.Cookies:
        """None, always."""
        return NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        """Passed over."""

    def session(self) -> aiohttp.ClientSession | None:
        """The session beneath, of the event loop that asked first; None where it would pass somebody over.

        That is another transport than `build_http` makes, or whoever watches what is sent.
        """
        if self.is_closed:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        transport = self._transport
        if type(transport) is not OverSession or self._is_watched:
            return None
        if not isinstance(transport.client, aiohttp.ClientSession):
            transport.client = transport.get_client()
        return transport.client

    @property
    def _is_watched(self) -> bool:
        """True if there are hooks, or if somebody wrapped the transport, as instrumentations do."""
        return any(self.event_hooks.values()) or "handle_async_request" in vars(self._transport)


def _httpx(context: ssl.SSLContext, connections: int, *, idle: int) -> httpx.AsyncBaseTransport:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=idle, keepalive_expiry=KEPT_IDLE)
    return httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)


def _aiohttp(context: ssl.SSLContext, connections: int) -> httpx.AsyncBaseTransport:
    """A transport over a bare session, which is made in the event loop that asks first.

    `httpx` and our client do the time-outs, the redirects and the unpacking.
    """

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=KEPT_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    return OverSession(verify=context, client=session)


Headers = Mapping[bytes, bytes]


def retry_after(headers: Headers, now: datetime) -> datetime | None:
    """The time in Retry-After, in seconds or as a date: at least one second ahead, at most one hour."""
    value = headers.get(RETRY_AFTER_HEADER)
    if value is None:
        return None
    seconds = number(value)
    wait = float(seconds) if seconds is not None else _until_date(value, now)
    return None if wait is None else now + timedelta(seconds=min(max(wait, 1.0), MAX_WAIT))


def _until_date(value: bytes, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def number(value: bytes | None) -> int | None:
    """The whole number in a header; None if there is none, or one that is too long to be sensible."""
    return int(value) if value is not None and len(value) <= 12 and value.isdigit() else None
