"""One GET over a client that was handed in, and its answer with the body unread.

A client of ours is asked at the session beneath it. What `httpx` and its transport make of a request and of its answer
costs more there than everything that we check (`docs/why.md`, Speed), and nobody would look at it. A host's own client
is asked in the usual way, so that its proxies, hooks and transports have their effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import aiohttp
import httpx
import yarl

from linker.http_client import PlainClient

Headers = Mapping[str, str]


class Reply(NamedTuple):
    """An answer whose head has come."""

    status: int
    #: As they came.
    headers: Sequence[tuple[bytes, bytes]]
    #: The body as it was sent, piece by piece: unpacking it would have no limit.
    body: AsyncIterable[bytes]
    #: Ends it, whether its body was read or not.
    close: Callable[[], Awaitable[None]]


class Sender:
    """Asks over a client, neither signed in nor redirected, with the headers that it is given and no others."""

    def __init__(self, http: httpx.AsyncClient, *, connect: float, read: float) -> None:
        """Take the client and the time-outs, in seconds.

        There is none for a connection of the pool that becomes free: whoever asks ends the whole question.
        """
        self._http = http
        self._for_session = aiohttp.ClientTimeout(sock_connect=connect, sock_read=read)
        self._for_client = {"timeout": httpx.Timeout(read, connect=connect, pool=None).as_dict()}

    async def get(self, url: yarl.URL, headers: Headers) -> Reply:
        """Send a GET, to a URL that is written as it is to be sent."""
        session = self._http.session() if type(self._http) is PlainClient else None
        return await (self._by_client(url, headers) if session is None else self._by_session(session, url, headers))

    async def _by_session(self, session: aiohttp.ClientSession, url: yarl.URL, headers: Headers) -> Reply:
        response = await session.get(url, headers=headers, timeout=self._for_session, allow_redirects=False)

        async def close() -> None:
            response.release()

        return Reply(response.status, response.raw_headers, response.content.iter_any(), close)

    async def _by_client(self, url: yarl.URL, headers: Headers) -> Reply:
        """The request is made by hand: nothing of the client's own headers, cookies or parameters gets into it."""
        request = httpx.Request("GET", str(url), headers=headers, extensions=self._for_client)
        response = await self._http.send(request, stream=True, auth=None, follow_redirects=False)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return Reply(response.status_code, response.headers.raw, response.stream, response.aclose)
