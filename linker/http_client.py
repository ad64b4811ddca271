"""How the process speaks HTTP: its transports, what they raise when the network is in trouble, and Retry-After.

A transport is the lowest part of `httpx` that sends a request: no cookies, redirects, proxies of the environment, hooks
or log lines are above it. A client that a host hands over is asked in the usual way, so that its own have their effect.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import aiohttp
import httpx
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

Kind = Literal["aiohttp", "httpx", "httpx-no-keepalive"]
Headers = Mapping[bytes, bytes]

#: How long an idle connection is kept: there is one host per customer, so most are used once.
IDLE_SECONDS = 15.0
#: The furthest time that a server may put us off to.
LONGEST_WAIT_SECONDS = 3600.0
#: Not documented by Workable; honoured if it comes.
RETRY_AFTER_HEADER = b"retry-after"
#: How names of machines end that only a private network knows.
PRIVATE_NAMES = (".internal", ".local", ".localhost")
#: What means that a server could not be reached or broke off. `httpx-aiohttp` 0.2 lets some errors of aiohttp through
#: as they are (an answer that is no HTTP), and the TLS and socket errors of the system are `OSError`.
TRANSPORT_TROUBLE = (httpx.TransportError, aiohttp.ClientError, OSError)


def trouble_name(error: BaseException) -> str:
    """The name of the trouble, for the evidence; never the message, which may quote what was sent.

    `httpx-aiohttp` 0.2 calls every lost connection a `ConnectTimeout`, so the error of `aiohttp` behind it is named.
    """
    cause = error.__cause__
    named = cause if isinstance(error, httpx.TransportError) and isinstance(cause, aiohttp.ClientError) else error
    return type(named).__name__


def build_transport(
    kind: Kind = "aiohttp", *, connections: int = 100, verify: ssl.SSLContext | bool = True
) -> httpx.AsyncBaseTransport:
    """Build a transport. It opens nothing before its first request, and is its owner's to close.

    `connections`: the most at one time. SSL_CERT_FILE and SSL_CERT_DIR are honoured: they say whom to believe, not whom
    to talk to; proxies named in the environment are not used.
    """
    context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)
    if kind != "aiohttp":
        idle = min(connections, 20) if kind == "httpx" else 0
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=idle, keepalive_expiry=IDLE_SECONDS
        )
        return OwnTransport(httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False))

    def session() -> aiohttp.ClientSession:
        """Made in the event loop that asks first."""
        return aiohttp.ClientSession(
            request_class=_SigningRequest,
            connector=aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    return OwnTransport(AiohttpTransport(verify=context, client=session), signs=True)


class OwnTransport(httpx.AsyncBaseTransport):
    """A transport that we made. Once it is closed it opens nothing behind its owner's back."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, signs: bool = False) -> None:
        """Take the transport beneath, and close it with this one. `signs`: its requests can be signed as they leave."""
        self._transport = transport
        self._is_closed = False
        self.signs = signs

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises RuntimeError once it is closed."""
        if self._is_closed:
            raise RuntimeError("This transport was closed.")
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what was opened."""
        self._is_closed = True
        await self._transport.aclose()


class _SecretHeaders:
    """Headers that nobody else may see, for one sending: they are let go of when they are taken."""

    def __init__(self, headers: Mapping[str, SecretStr]) -> None:
        self._headers: Mapping[str, SecretStr] | None = headers

    def take(self) -> Mapping[str, SecretStr]:
        """The headers. Raises ServerDisconnectedError the second time: what was sent once is not sent again here."""
        headers, self._headers = self._headers, None
        if headers is None:
            raise aiohttp.ServerDisconnectedError
        return headers


_LEAVING_WITH: ContextVar[_SecretHeaders | None] = ContextVar("linker_leaving_with", default=None)


class _SigningRequest(aiohttp.ClientRequest):
    """A request of aiohttp's that holds its secret headers only while it is being written to the socket.

    So they are in no request that aiohttp shows: not in `request_info`, which answers and exceptions carry, nor in what
    recorders and tracers of `ClientSession` see.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request."""
        leaving_with = _LEAVING_WITH.get()
        if leaving_with is None:
            return await super().send(conn)
        secret = leaving_with.take()
        self.headers.update({name: value.get_secret_value() for name, value in secret.items()})
        try:
            return await super().send(conn)
        finally:
            for name in secret:
                self.headers.popall(name, None)


async def send_with_secrets(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, secrets: Mapping[str, SecretStr]
) -> httpx.Response:
    """Send a request with secret headers, and let nobody see them in it.

    A transport that is not of ours is given a request that holds them: it has to send them.
    """
    if not (isinstance(transport, OwnTransport) and transport.signs):
        request.headers.update({name: value.get_secret_value() for name, value in secrets.items()})
        return await transport.handle_async_request(request)
    before = _LEAVING_WITH.set(_SecretHeaders(secrets))
    try:
        return await transport.handle_async_request(request)
    finally:
        _LEAVING_WITH.reset(before)


class ClientTransport(httpx.AsyncBaseTransport):
    """A transport over a host's own client: neither signed in nor redirected, with its hooks and its transport."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Take the client, which stays its owner's to close."""
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as it is: nothing of the client's own headers, cookies or parameters gets into it."""
        return await self._http.send(request, stream=True, auth=None, follow_redirects=False)


# ── what is near, whatever it is written like ────────────────────────────────────────────────────────────────────────


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, as the system's resolver reads it; None for a name.

    That takes an IPv4 address as one number, with parts left out, in octal and in hexadecimal; an address of IPv6 that
    stands for one of IPv4 is that one.
    """
    written = host.removesuffix(".")
    with suppress(ValueError):
        found = ip_address(written)
        if isinstance(found, IPv6Address):
            return found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else found)
        return found
    with suppress(OSError):
        if re.fullmatch(r"[0-9a-fx.]+", written, re.ASCII | re.IGNORECASE):
            return ip_address(socket.inet_aton(written))
    return None


def is_on_this_machine(host: str) -> bool:
    """True for loopback addresses, `localhost` and the names under it: what is sent there leaves no machine."""
    address, name = address_of(host), host.removesuffix(".").lower()
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def is_private(host: str) -> bool:
    """True for where no stranger listens: addresses of private networks, and names that only those know.

    A name without a dot is one of them, but for two letters: those are countries, of which a few have an address.
    """
    address, name = address_of(host), host.removesuffix(".").lower()
    is_alone = "." not in name and not (len(name) == 2 and name.isalpha())
    return address.is_private if address else is_alone or name.endswith(PRIVATE_NAMES)


def retry_after(headers: Headers, now: datetime) -> datetime | None:
    """The time in Retry-After, in seconds or as a date: at least one second ahead, at most one hour."""
    value = headers.get(RETRY_AFTER_HEADER)
    if value is None:
        return None
    wait: float | None = number(value)
    if wait is None:
        try:
            date = parsedate_to_datetime(value.decode("ascii"))
            wait = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return now + timedelta(seconds=min(max(wait, 1.0), LONGEST_WAIT_SECONDS))


def number(value: bytes | None) -> int | None:
    """The whole number in a header; None if there is none, or one that is too long to be sensible."""
    return int(value) if value is not None and len(value) <= 12 and value.isdigit() else None
