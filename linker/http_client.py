"""How the process speaks HTTP: its transports, what they raise when the network is in trouble, and Retry-After.

A transport is the lowest part of `httpx` that sends a request: no cookies, redirects, proxies of the environment, hooks
or log lines are above it. A client that a host hands over is asked in the usual way, so that its own have their effect.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

import aiohttp
import httpx
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from linker.network.addresses import is_on_this_machine
from linker.network.connector import WAITS_FOR_ONE, BoundedConnector

Kind = Literal["aiohttp", "httpx", "httpx-no-keepalive"]
Headers = Mapping[bytes, bytes]

#: How long an idle connection is kept: there is one host per customer, so most are used once.
IDLE_SECONDS = 15.0
#: Headers may be this long; Workable's are over 8 KB at times (seen by integrators).
LONGEST_HEADER_BYTES = 128 * 1024
#: The furthest time that a server may put us off to.
LONGEST_WAIT_SECONDS = 3600.0
#: Not documented by Workable; honoured if it comes.
RETRY_AFTER_HEADER = b"retry-after"
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
    kind: Kind = "aiohttp",
    *,
    connections: int = 100,
    verify: ssl.SSLContext | bool = True,
    proxy: str | None = None,
) -> httpx.AsyncBaseTransport:
    """Build a transport. It opens nothing before its first request, and is its owner's to close.

    `connections`: the most at one time. `proxy`: the URL of an HTTP proxy that everything goes through, but for what is
    on this machine. SSL_CERT_FILE and SSL_CERT_DIR are honoured: they say whom to believe, not whom to talk to. Proxies
    named in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and a .netrc are not used.
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
        made = aiohttp.ClientSession(
            request_class=_SigningRequest,
            connector=BoundedConnector(
                connections=connections,
                idle_seconds=IDLE_SECONDS,
                context=context,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=LONGEST_HEADER_BYTES,
            max_field_size=LONGEST_HEADER_BYTES,
            trust_env=False,
        )
        made.trace_configs.clear()  # tracers that patch ClientSession are told of headers as they leave, with the token
        return made

    direct = AiohttpTransport(verify=context, client=session)
    if proxy is None:
        return OwnTransport(direct, signs=True)
    at = httpx.URL(proxy)
    # aiohttp makes a Proxy-Authorization of it; its own BasicAuth is deprecated, and httpx-aiohttp would use that
    signed_in = {"Authorization": f"Basic {b64encode(at.userinfo and unquote_to_bytes(at.userinfo)).decode()}"}
    via = httpx.Proxy(at.copy_with(userinfo=b""), headers=signed_in if at.userinfo else None)
    through = AiohttpTransport(verify=context, client=session, proxy=via)
    return OwnTransport(ProxiedTransport(direct, through), signs=True)


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
    """Headers that nobody else may see, for one sending, or two: then they are let go of."""

    def __init__(self, headers: Mapping[str, SecretStr], sendings: int) -> None:
        self._headers: Mapping[str, SecretStr] = headers
        self._left = sendings

    def take(self) -> Mapping[str, SecretStr]:
        """The headers. Raises ServerDisconnectedError when it was sent often enough: aiohttp would send it again."""
        if not self._left:
            raise aiohttp.ServerDisconnectedError
        headers, self._left = self._headers, self._left - 1
        if not self._left:
            self._headers = {}
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
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    secrets: Mapping[str, SecretStr],
    *,
    once: bool = False,
    wait: float | None = None,
) -> httpx.Response:
    """Send a request with secret headers, and let nobody see them in it.

    A transport that is not of ours is given a request that holds them: it has to send them. `once`: a request that only
    reads is not sent again either when the server has just closed the idle connection that it was sent on. `wait`: for
    how many seconds at most it waits for a free connection; None: as long as the request's own time-outs say.
    """
    if not (isinstance(transport, OwnTransport) and transport.signs):
        request.headers.update({name: value.get_secret_value() for name, value in secrets.items()})
        if wait is not None:
            request.extensions["timeout"] = {**request.extensions.get("timeout", {}), "pool": wait}
        return await transport.handle_async_request(request)
    before, waited_before = _LEAVING_WITH.set(_SecretHeaders(secrets, 1 if once else 2)), WAITS_FOR_ONE.set(wait)
    try:
        return await transport.handle_async_request(request)
    finally:
        _LEAVING_WITH.reset(before)
        WAITS_FOR_ONE.reset(waited_before)


class ProxiedTransport(httpx.AsyncBaseTransport):
    """Goes through a proxy, but for what is on this machine: only a proxy on it reaches that, and may see tokens."""

    def __init__(self, direct: AiohttpTransport, through: AiohttpTransport) -> None:
        """Take both ways, and close them with this one."""
        self._direct, self._through = direct, through
        self._is_here = through.proxy is not None and is_on_this_machine(through.proxy.url.host)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        way = self._through if self._is_here or not is_on_this_machine(request.url.host) else self._direct
        return await way.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._direct.aclose()
        await self._through.aclose()


class ClientTransport(httpx.AsyncBaseTransport):
    """A transport over a host's own client: neither signed in nor redirected, with its hooks and its transport."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Take the client, which stays its owner's to close."""
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as it is: nothing of the client's own headers, cookies or parameters gets into it."""
        response = await self._http.send(request, stream=True, auth=None, follow_redirects=False)
        response.stream = _ClosedForCertain(cast(httpx.AsyncByteStream, response.stream))
        return response


class _ClosedForCertain(httpx.AsyncByteStream):
    """The body of an answer that gives its connection back also if whoever closes it is cancelled meanwhile."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        """Close it. `aiohttp` does that at once; `httpx` has to wait for locks."""
        await asyncio.shield(self._stream.aclose())


def retry_after(headers: Headers, now: datetime) -> datetime | None:
    """The time in Retry-After, in seconds or as a date: at least one second ahead, at most one hour.

    A date is measured against the server's own Date: its clock and ours need not agree.
    """
    value = headers.get(RETRY_AFTER_HEADER)
    if value is None:
        return None
    wait: float | None = number(value)
    if wait is None:
        date = _date(value)
        if date is None:
            return None
        wait = (date - server_time(headers, now)).total_seconds()
    return now + timedelta(seconds=min(max(wait, 1.0), LONGEST_WAIT_SECONDS))


def server_time(headers: Headers, now: datetime) -> datetime:
    """What the server's clock said when it answered; ours, if it does not tell."""
    return _date(headers.get(b"date", b"")) or now


def _date(value: bytes) -> datetime | None:
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def number(value: bytes | None) -> int | None:
    """The whole number in a header; None if there is none, or one that is too long to be sensible."""
    return int(value) if value is not None and len(value) <= 12 and value.isdigit() else None
