"""The use of one link: what happens to each request of a client, from the row to the answer.

The token is opened here for one sending, and is in nothing that a host gets to see: the host's request is copied, the
answer is made anew, and what the network raises is made afresh.
"""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import httpx
from pydantic import SecretStr

from linker.accounts import requests
from linker.accounts.access import Access, unusable
from linker.accounts.failures import seen_from_outside
from linker.encryption import TokenCipher
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import Clock, Randomness
from linker.errors import LinkerError, OurFault, Refused
from linker.event_log import log
from linker.http_client import Headers, send_with_secrets
from linker.workable import api
from linker.workable.client import secret_headers
from linker.workable.urls import AccountUrls
from states.connection import Connection, Recruiter

#: What means that no connection was made, so that nothing was done.
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Budget(Protocol):
    """How many calls hosts may make."""

    async def take(self, connection: Connection, *, wait: float) -> float:
        """Take one call to this connection's account, waiting so many seconds at most; gives how long it waited.

        Raises:
            TryAgain: none is to be had in this time.
        """
        ...

    def learn(self, connection: Connection, status: int, headers: Headers) -> None:
        """Workable answered: its headers, by their lower-case names, say what is left."""
        ...


class Reports(Protocol):
    """Who is told what a host's calls met. Neither waits for anything."""

    def refused(self, connection: Connection, status: int, method: str, path: str) -> None:
        """A call with the token in use was refused: 401 or 403, by Workable itself. `path` is a template."""
        ...

    def went_well(self, connection: Connection, method: str, path: str) -> None:
        """A call with the token in use was answered well."""
        ...


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """What all uses of links share."""

    access: Access
    transport: httpx.AsyncBaseTransport
    urls: AccountUrls
    cipher: TokenCipher
    clock: Clock
    budget: Budget
    client_id: SecretStr | None = None
    randomness: Randomness = field(default_factory=Randomness)
    observer: Observer = UNOBSERVED


class LinkUse:
    """One client's use of one connection. No lock is held while anything is waited for."""

    def __init__(
        self,
        accounts: Accounts,
        reports: Reports,
        connection_id: str,
        *,
        wait: float,
        retries: int,
        allowed: frozenset[str],
        reconnect_link: Callable[[Connection], Awaitable[SecretStr | None]],
    ) -> None:
        """Take what is shared, who is told, and this client's own choices; nothing is read yet.

        `reconnect_link` gives the URL with which a customer can mend what is refused at entering, if there is one.
        """
        self._accounts = accounts
        self._reports = reports
        self._reconnect_link = reconnect_link
        self._id = connection_id
        self._wait = wait
        self._retries = retries
        self._allowed = allowed
        self._entered: Connection | None = None
        self._subdomain_now = ""

    async def enter(self) -> None:
        """Begin. Raises what `Linker.client` names."""
        self._accounts.access.listen()
        try:
            self._entered = await self._usable()
        except Refused as error:
            error.reconnect_link = await self._reconnect_link(await self._accounts.access.current(self._id))
            raise

    @property
    def connection(self) -> Connection:
        """The connection as it was when the client was entered."""
        if self._entered is None:
            raise OurFault("not_entered")
        return self._entered

    @property
    def recruiter(self) -> Recruiter:
        """Our recruiter in the account. Raises Refused if none was issued yet."""
        recruiter = self.connection.recruiter
        if recruiter is None:
            raise Refused("not_linked", connection=self._id, state=self.connection.state.value)
        return recruiter

    def owns(self, url: httpx.URL) -> bool:
        """True if a URL is one of the account's, under its name of now or of when the client was entered."""
        known = {_subdomain(self.connection), self._subdomain_now}
        return any(self._accounts.urls.belongs(url, subdomain) for subdomain in known)

    @property
    def root(self) -> httpx.URL:
        """Where the account's API is, as it was when the client was entered."""
        return self._accounts.urls.of(_subdomain(self.connection), requests.ROOT)

    async def _usable(self) -> Connection:
        """The connection as it is now, if it may be used."""
        connection = await self._accounts.access.current(self._id)
        reason = unusable(connection, self._allowed)
        if reason is None:
            self._subdomain_now = _subdomain(connection)
            return connection
        told = {"connection": connection.id, "state": connection.state.value}
        if connection.problem is not None:
            told |= {"problem": connection.problem.code.value, "owner": connection.problem.owner.value}
        raise Refused(reason, **told)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request of a host's, and again where it may be and the client was told to.

        Raises:
            BadInput: it leads elsewhere. Nothing was sent.
            Refused: the connection may not be used any more. Nothing was sent.
            TryAgain: no call was to be had in time. Nothing was sent.
            httpx.TransportError: as with any client, with the host's own request.
        """
        requests.refuse_echoes(request.method)
        attempts = 1 + (self._retries if requests.may_be_repeated(request) else 0)
        for attempt in range(1, attempts):
            try:
                response = await self._call(request, attempt)
            except NOT_CONNECTED:
                response = None
            pause = requests.pause_before_repeating(
                response.status_code if response else None,
                requests.headers_of(response) if response else {},
                attempt,
                now=self._accounts.clock.now(),
                jitter=self._accounts.randomness.jitter(),
            )
            if response is not None:
                most = max(self._wait, api.WINDOW_SECONDS) + requests.PAUSES.last.total_seconds()
                if pause is None or pause > most:
                    return response
                await response.aclose()
            await sleep(pause or 0.0)
        return await self._call(request, attempts)

    async def _call(self, request: httpx.Request, attempt: int) -> httpx.Response:
        """One try: sent once, and once more only if the token was swapped meanwhile, because a 401 was not executed."""
        began = time.monotonic()
        path = requests.path_template(request.url.path[len(self.root.path) :])
        connection = await self._usable()
        self._address(request, connection)  # what leads away costs no call
        waited = await self._accounts.budget.take(connection, wait=self._wait)
        connection = await self._usable()  # it may have been given up while we waited
        response = await self._exchange(request, path, connection, attempt, waited)
        try:
            if response.status_code not in (401, 403):
                if response.is_success:
                    self._reports.went_well(connection, request.method, path)
                return response
            try:
                now = await self._accounts.access.current(self._id, since=began)
            except LinkerError:  # nobody can say whether the token is in use: the answer stands
                return response
            if not _same_token(now, connection):
                if response.status_code != 401 or now.token is None or not requests.can_be_sent_again(request):
                    return response
                await response.aclose()
                connection = await self._usable()
                waited = await self._accounts.budget.take(connection, wait=self._wait)
                response = await self._exchange(request, path, connection, attempt, waited)
            if requests.is_refusal(response):
                self._reports.refused(connection, response.status_code, request.method, path)
            return response
        except BaseException:  # nobody else has the answer
            await response.aclose()
            raise

    async def _exchange(
        self, request: httpx.Request, path: str, connection: Connection, attempt: int, waited: float
    ) -> httpx.Response:
        """Send a copy of the request with the token that is in use, and make an answer that knows nothing of it."""
        accounts, url = self._accounts, self._address(request, connection)
        told = {"connection_id": self._id, "method": request.method, "path": path}
        started = time.perf_counter()
        with accounts.observer.watch(Work.USE, method=request.method, path=path) as note:
            answer = await self._sent(requests.copied(request, url), connection, max(self._wait - waited, 0.0))
            took = {"ms": round((time.perf_counter() - started) * 1000), "waited": round(waited, 3), "attempt": attempt}
            if isinstance(answer, BaseException):
                log.info("account.called", **told, status=None, error=type(answer).__name__, **took)
                raise answer
            note(status=answer.status_code)
        log.info("account.called", **told, status=answer.status_code, **took)
        accounts.budget.learn(connection, answer.status_code, requests.headers_of(answer))
        shown = {name: value for name, value in answer.extensions.items() if name in ("http_version", "reason_phrase")}
        body = _Body(cast(httpx.AsyncByteStream, answer.stream))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body, extensions=shown)

    async def _sent(
        self, request: httpx.Request, connection: Connection, wait: float
    ) -> httpx.Response | BaseException:
        """Open the token, send the request with it, and let go of it: no frame that goes on has seen it.

        Gives what is to be raised, because a traceback would show the frames of here.
        """
        assert connection.token is not None, "it was refused otherwise"
        accounts = self._accounts
        token = accounts.cipher.open(connection.token.sealed, bound_to=connection.id)
        secrets = secret_headers(token, accounts.client_id)
        try:
            return await send_with_secrets(accounts.transport, request, secrets, once=True, wait=wait)
        except Exception as error:  # noqa: BLE001 - whatever it is, its frames hold the request
            return seen_from_outside(error, [token, *secrets.values()])
        except BaseException as error:  # noqa: BLE001 - cancelled, or the process ends: it goes on without them
            left = error.with_traceback(None)
            left.__cause__ = left.__context__ = None
            return left

    def _address(self, request: httpx.Request, now: Connection) -> httpx.URL:
        """Where a request goes now. Raises BadInput."""
        entered = self.connection
        return requests.address(request.url, self._accounts.urls, entered=_subdomain(entered), now=_subdomain(now))


class _Body(httpx.AsyncByteStream):
    """The body of an answer as it comes; what the network raises meanwhile is made afresh too."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        failure = None
        try:
            async for chunk in self._stream:
                yield chunk
        except Exception as error:  # noqa: BLE001 - whatever it is, its frames hold the request
            failure = seen_from_outside(error)
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Let the network have its connection back."""
        await self._stream.aclose()


def _subdomain(connection: Connection) -> str:
    """Where the token in use belongs."""
    return connection.token.subdomain if connection.token else connection.subdomain or ""


def _same_token(one: Connection, other: Connection) -> bool:
    return one.token is not None and other.token is not None and one.token.sealed == other.token.sealed
