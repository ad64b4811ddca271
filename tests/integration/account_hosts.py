"""Hosts that use a link, with an event loop and without one: every test of the client runs over both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import httpx
from pydantic import SecretStr

from linker import AccountClient, BlockingAccountClient, BlockingLinker, Connection, Linker, Settings, blocking, new_key
from linker.accounts.client import AsyncPages, Pages
from linker.sandbox import World
from linker.testing import ScriptedAnswers, ScriptedWorkable, SettableClock, Unlimited

P = ParamSpec("P")
T = TypeVar("T")

TOKEN = "CANARY0123456789abcdefTOKEN"
OTHER_TOKEN = "CANARY9876543210fedcbaTOKEN"
SCOPES = {"r_jobs", "r_candidates", "w_candidates"}


class Client:
    """A client of either kind, asked in the same words."""

    def __init__(self, http: AccountClient | BlockingAccountClient) -> None:
        """Take the client; `http` is it, of whichever kind."""
        self.http: Any = http
        self._blocks = isinstance(http, BlockingAccountClient)

    async def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        """Make a request."""
        if self._blocks:
            return cast(httpx.Response, await asyncio.to_thread(self.http.request, method, url, **given))
        return cast(httpx.Response, await self.http.request(method, url, **given))

    async def get(self, url: str, **given: Any) -> httpx.Response:
        """Make a GET request."""
        return await self.request("GET", url, **given)

    async def listed(self, pages: AsyncPages | Pages, most: int | None = None) -> list[Any]:
        """Read a list, or its first entries."""
        found: list[Any] = []
        if isinstance(pages, AsyncPages):
            async for entry in pages:
                found.append(entry)
                if len(found) == most:
                    break
            return found

        def read() -> list[Any]:
            for entry in pages:
                found.append(entry)
                if len(found) == most:
                    break
            return found

        return await asyncio.to_thread(read)


class Host:
    """A host with a linker of its own. `blocks`: it has no event loop."""

    def __init__(self, linker: Linker, *, blocks: bool) -> None:
        """Take the linker, which is opened by `opened`."""
        self.linker = linker
        self.call: BlockingLinker | None = blocking(linker) if blocks else None

    async def do(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the linker."""
        if self.call is None:
            return await method(*args, **kwargs)
        return await asyncio.to_thread(self.call, method, *args, **kwargs)

    @asynccontextmanager
    async def client(self, connection: Connection, **given: Any) -> AsyncIterator[Client]:
        """A client, entered."""
        if self.call is None:
            async with self.linker.client(connection.id, **given) as http:
                yield Client(http)
            return
        blocking_http = await asyncio.to_thread(partial(self.call.client, connection.id, **given))
        await asyncio.to_thread(blocking_http.__enter__)
        try:
            yield Client(blocking_http)
        finally:
            await asyncio.to_thread(blocking_http.__exit__)

    async def linked(
        self, world: World | ScriptedWorkable, token: str = TOKEN, owner: str = "customer-1"
    ) -> Connection:
        """A connection that is linked to `acme`."""
        if isinstance(world, World) and world.account("acme") is None:
            world.add_account("acme", name="Acme Robotics")
        if isinstance(world, World) and world.token(token) is None:
            world.add_token("acme", token, scopes=SCOPES)
        connection = await self.do(self.linker.create, owner=owner)
        connection = await self.do(self.linker.submit_token, connection.id, subdomain="acme", token=SecretStr(token))
        assert connection.recruiter is not None, connection.problem
        if isinstance(world, World):
            world.add_recruiter("acme", name=connection.recruiter.name, email=connection.recruiter.email)
        else:
            world.add_recruiter(connection.recruiter.email)
        connection = await self.do(self.linker.confirm_recruiter, connection.id)
        assert connection.state == "linked"
        return connection


@asynccontextmanager
async def opened(linker: Linker, *, blocks: bool) -> AsyncIterator[Host]:
    """A host with this linker, opened for one block."""
    host = Host(linker, blocks=blocks)
    async with AsyncExitStack() as stack:
        if host.call is None:
            await stack.enter_async_context(linker)
        else:
            await asyncio.to_thread(host.call.__enter__)
            stack.push_async_callback(asyncio.to_thread, host.call.close)
        yield host


def a_linker(url: str, *, budgeted: bool = False, **given: Any) -> Linker:
    """A linker in memory that asks a sandbox; without a budget, unless it is wanted."""
    settings: dict[str, Any] = {"database_url": "sqlite://", "secret_keys": (new_key(),), "workable_url": url}
    settings |= {name: given.pop(name) for name in list(given) if name in Settings.model_fields}
    return Linker(Settings(**settings), budget=None if budgeted else Unlimited(), **given)


def a_scripted_linker(workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock) -> Linker:
    """A linker in memory without a network."""
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    return Linker(settings, workable=workable, account_transport=answers, clock=clock, budget=Unlimited())
