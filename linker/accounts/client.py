"""The clients that a host is given: an `httpx.AsyncClient` and an `httpx.Client`, over the use of one link.

The one that is not `async` sends from its host's thread through the linker's own event loop: the same code does the
same for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self, TypeVar, cast

import httpx
from anyio import to_thread

from linker.accounts.paging import PageTurner
from linker.accounts.requests import refuse_ways_out
from linker.accounts.use import LinkUse
from linker.workable import api
from states.connection import Connection, Recruiter

T = TypeVar("T")

#: How long connecting, and each wait for a part of the answer, may take.
TIMEOUT = httpx.Timeout(30.0, connect=5.0, pool=None)
HEADERS = {"Accept": "application/json", "User-Agent": api.USER_AGENT}
#: An answer that says that it is no longer than this crosses to the host's thread in one go.
WHOLE_BYTES = 1024 * 1024


def _settings(timeout: httpx.Timeout | float | None) -> dict[str, Any]:
    """What clients of both kinds are made with. They take no cookies: what Workable sets is its edge's business."""
    return {
        "headers": HEADERS,
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=())),
        "timeout": TIMEOUT if timeout is None else timeout,
        "trust_env": False,
    }


class _OfOneAccount:
    """What clients of both kinds have in common, before the one of `httpx`."""

    _use: LinkUse

    @property
    def connection(self) -> Connection:
        """The connection as it was when the client was entered."""
        return self._use.connection

    @property
    def recruiter(self) -> Recruiter:
        """Our external recruiter in the account: its `id` is what candidates are created with as `recruiter_key`."""
        return self._use.recruiter

    def build_request(self, method: str, url: httpx.URL | str, **given: Any) -> httpx.Request:
        """Build a request, as `httpx` does. Raises BadInput if the URL would be read as something else than it says."""
        refuse_ways_out(url)
        request: httpx.Request = super().build_request(method, url, **given)  # type: ignore[misc]  # of either httpx client
        return request

    def _turner(self, url: httpx.URL | str, params: Any, name: str | None) -> PageTurner:
        return PageTurner(self._use.owns, self.build_request("GET", url, params=params).url, name)


class AccountClient(_OfOneAccount, httpx.AsyncClient):
    """An `httpx.AsyncClient` for one linked account: `base_url` is the account's API, and the token is added beneath.

    Neither requests nor answers, errors, hooks or logs hold the token, and it is sent nowhere else.
    """

    def __init__(self, use: LinkUse, timeout: httpx.Timeout | float | None = None) -> None:
        """`Linker.client` makes it; nothing is opened before `async with`."""
        self._use = use
        super().__init__(transport=_AccountTransport(use), **_settings(timeout))

    async def __aenter__(self) -> Self:
        """Make sure that the connection may be used. Raises what `Linker.client` names."""
        await self._use.enter()
        self.base_url = self._use.root
        return await super().__aenter__()

    def pages(self, url: httpx.URL | str, *, params: Any = None, name: str | None = None) -> AsyncPages:
        """The entries of a list, page by page, each page asked for when its turn comes.

        Args:
            url: as in `jobs`, or the `url` of an earlier `pages`, to go on from there.
            params: the query of the first page.
            name: what the list is called in the answer; needed only if an answer holds several.
        """
        return AsyncPages(self, self._turner(url, params, name))


class AsyncPages:
    """The entries of a list that comes in pages. `async for` reads it once."""

    def __init__(self, client: AccountClient, turner: PageTurner) -> None:
        """`AccountClient.pages` makes it."""
        self._client = client
        self._turner = turner
        #: The page that is being read, to go on from later; None once the last one was read to its end.
        self.url: httpx.URL | None = turner.url

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Each entry, as a dictionary.

        Raises:
            httpx.HTTPStatusError: a page was answered with something else than 2xx.
            TryAgain: what was answered is no page of a list, was there before, or leads to another place.
        """
        while self._turner.url is not None:
            self.url = self._turner.begin()
            response = await self._client.get(self.url)
            for entry in self._turner.turn(response):
                yield entry
        self.url = None


class _AccountTransport(httpx.AsyncBaseTransport):
    """Beneath a client: the use of the link does everything. Closing it closes nothing that others use."""

    def __init__(self, use: LinkUse) -> None:
        self._use = use

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return await self._use.send(request)


# for hosts without an event loop


class BlockingAccountClient(_OfOneAccount, httpx.Client):
    """An `httpx.Client` for one linked account, by the same rules as `AccountClient`."""

    def __init__(
        self, use: LinkUse, loop: asyncio.AbstractEventLoop, timeout: httpx.Timeout | float | None = None
    ) -> None:
        """`BlockingLinker.client` makes it; nothing is opened before `with`."""
        self._use = use
        self._loop = loop
        super().__init__(transport=_BlockingTransport(use, loop), **_settings(timeout))

    def __enter__(self) -> Self:
        """Make sure that the connection may be used. Raises what `Linker.client` names."""
        _run(self._loop, self._use.enter)
        self.base_url = self._use.root
        return super().__enter__()

    def pages(self, url: httpx.URL | str, *, params: Any = None, name: str | None = None) -> Pages:
        """The entries of a list, page by page, each page asked for when its turn comes; see `AccountClient.pages`."""
        return Pages(self, self._turner(url, params, name))


class Pages:
    """The entries of a list that comes in pages. `for` reads it once; see `AsyncPages`."""

    def __init__(self, client: BlockingAccountClient, turner: PageTurner) -> None:
        """`BlockingAccountClient.pages` makes it."""
        self._client = client
        self._turner = turner
        #: The page that is being read, to go on from later; None once the last one was read to its end.
        self.url: httpx.URL | None = turner.url

    def __iter__(self) -> Iterator[Any]:
        """Each entry, as a dictionary. Raises as `AsyncPages` does."""
        while self._turner.url is not None:
            self.url = self._turner.begin()
            yield from self._turner.turn(self._client.get(self.url))
        self.url = None


class _BlockingTransport(httpx.BaseTransport):
    """Beneath a blocking client: hands requests over to the linker's event loop, and answers back."""

    def __init__(self, use: LinkUse, loop: asyncio.AbstractEventLoop) -> None:
        self._use = use
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and wait for its answer."""
        return _run(self._loop, self._sent, request)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            request = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=_FromThread(request.stream),
                extensions=request.extensions,
            )
        answer = await self._use.send(request)
        body = cast(httpx.AsyncByteStream, answer.stream)
        length = answer.headers.get("content-length", "")
        stream: httpx.SyncByteStream = _ToThread(body, self._loop)
        if length.isdigit() and int(length) <= WHOLE_BYTES:
            try:
                stream = httpx.ByteStream(b"".join([chunk async for chunk in body]))
            finally:
                await body.aclose()
        answer.stream = stream
        return answer


class _FromThread(httpx.AsyncByteStream):
    """A request's body that a host gives bit by bit without an event loop."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self._stream)
        while (chunk := await to_thread.run_sync(next, chunks, None)) is not None:
            yield chunk


class _ToThread(httpx.SyncByteStream):
    """An answer's body that is read bit by bit without an event loop."""

    def __init__(self, stream: httpx.AsyncByteStream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop

    def __iter__(self) -> Iterator[bytes]:
        chunks = aiter(self._stream)

        async def following() -> bytes | None:
            return await anext(chunks, None)

        while (chunk := _run(self._loop, following)) is not None:
            yield chunk

    def close(self) -> None:
        """Let the network have its connection back."""
        _run(self._loop, self._stream.aclose)


def _run(loop: asyncio.AbstractEventLoop, what: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Wait for something in the linker's event loop; who stops waiting, by Ctrl-C for one, stops it.

    Raises:
        RuntimeError: the linker is closed, or it is the linker's own thread that would wait for itself.
    """
    is_its_own = False
    with suppress(RuntimeError):
        is_its_own = asyncio.get_running_loop() is loop
    if is_its_own or loop.is_closed():
        raise RuntimeError("This client cannot be used here: its linker is closed, or waits for this call itself.")
    doing: asyncio.Task[Any] | None = None
    is_left = False

    async def do() -> T:
        nonlocal doing
        doing = asyncio.current_task()
        if is_left:
            raise asyncio.CancelledError
        return await what(*args)

    def leave() -> None:
        nonlocal is_left
        is_left = True
        if doing is not None:
            doing.cancel()

    # An interrupt can come between the handing over and the waiting, where there is no handle yet to stop it by.
    try:
        return asyncio.run_coroutine_threadsafe(do(), loop).result()
    except BaseException:
        with suppress(RuntimeError):  # closed meanwhile: nothing of it goes on
            loop.call_soon_threadsafe(leave)
        raise
