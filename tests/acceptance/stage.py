"""A stage for the tests of this folder: linkers on a database, a sandbox on a socket, and one clock for both."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from linker import Connection, Linker, Settings, new_key
from linker.engine.ports import Randomness
from linker.http_client import build_transport
from linker.sandbox import Limit, Sandbox, World, running
from linker.testing import SettableClock
from linker.workable.client import Timeouts, WorkableClient
from states.history import Step

#: So patient that a busy machine is not taken for a Workable that is down.
PATIENT = Timeouts(connect=30, read=30, total=60, pause=0)
#: Gives up at once: for tests in which Workable does not answer in time.
IMPATIENT = Timeouts(connect=5, read=0.2, total=0.4, pause=0)
#: More than a window of Workable's limit: moves on to where the budget of calls is whole again.
WINDOW = 11.0
#: Made once: making it costs more than a whole test.
TRUST = ssl.create_default_context()


@dataclass(kw_only=True)
class Stage:
    """What a test plays on. `jitter` is what every throw of the linkers' dice gives."""

    world: World
    url: str
    clock: SettableClock
    database_url: str
    jitter: float = 0.5
    key: SecretStr = field(default_factory=new_key)

    @asynccontextmanager
    async def linker(
        self,
        *,
        timeouts: Timeouts = PATIENT,
        transport: httpx.AsyncBaseTransport | None = None,
        url: str | None = None,
        **settings: Any,
    ) -> AsyncIterator[Linker]:
        """A linker as a process of its own would have it: with a client and a budget of its own."""
        given: dict[str, Any] = {"database_url": self.database_url, "secret_keys": (self.key,), **settings}
        async with transport or build_transport(verify=TRUST) as line:
            workable = WorkableClient(line, url_template=url or self.url, clock=self.clock, timeouts=timeouts)
            randomness = Randomness(jitter=lambda: self.jitter)
            async with Linker(Settings(**given), workable=workable, clock=self.clock, randomness=randomness) as linker:
                yield linker

    def token(self, subdomain: str = "acme", *, scopes: frozenset[str] = frozenset({"r_jobs"})) -> SecretStr:
        """A new good token of an account, which is opened if there is none."""
        if self.world.account(subdomain) is None:
            self.world.add_account(subdomain, name=subdomain.title())
        return SecretStr(self.world.add_token(subdomain, scopes=scopes).secret)

    def add_recruiter(self, connection: Connection, *, subdomain: str = "acme", email: str | None = None) -> None:
        """Add the connection's recruiter in Workable, as the customer does; `email`: as it was typed."""
        assert connection.recruiter is not None
        self.world.add_recruiter(subdomain, name=connection.recruiter.name, email=email or connection.recruiter.email)

    def wait_until_due(self, connection: Connection) -> None:
        """Let the time come at which the connection is due, and at least a window of Workable's limit pass."""
        assert connection.due_at is not None, "nothing is owed"
        ahead = (connection.due_at - self.clock.now()).total_seconds()
        self.clock.advance(seconds=max(ahead, WINDOW))

    def calls(self) -> int:
        """How many requests Workable got so far."""
        return self.world.last_logged


class Theatre:
    """One socket for many tests, each with a world of its own: starting a server costs more than a whole test."""

    def __init__(self) -> None:
        self._playing: Sandbox | None = None
        #: Called in the sandbox's thread before a request is answered.
        self.on_request: Callable[[], object] | None = None
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the world of the test that is running answer."""
        assert self._playing is not None, "nobody is on the stage"
        if self.on_request is not None:
            self.on_request()
        await self._playing(scope, receive, send)

    def stage(self, database_url: str, *, now: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> Stage:
        """A stage with an empty Workable without a limit; the one before it is over."""
        clock = SettableClock(now)
        world = World(clock=lambda: clock.now().timestamp(), limit=Limit.off())
        self._playing = Sandbox(world)
        return Stage(world=world, url=self.url, clock=clock, database_url=database_url)


@contextmanager
def open_theatre() -> Iterator[Theatre]:
    """A theatre on a socket, for one block."""
    theatre = Theatre()
    with running(theatre) as theatre.url:
        yield theatre


class Gate(httpx.AsyncBaseTransport):
    """Holds requests back on their way to Workable, once it is shut; `reached` says that one is waiting."""

    def __init__(self) -> None:
        self._way = httpx.AsyncHTTPTransport(verify=TRUST)
        self._open = asyncio.Event()
        self._open.set()
        self.reached = asyncio.Event()

    def shut(self) -> None:
        """Hold back what comes from now on."""
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request as soon as the gate is open."""
        if not self._open.is_set():
            self.reached.set()
            await self._open.wait()
        return await self._way.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the way behind the gate."""
        await self._way.aclose()


# connections on their way


async def awaiting_token(stage: Stage, linker: Linker, owner: str = "customer-1") -> Connection:
    """A connection that was just opened."""
    return await linker.create(owner=owner)


async def awaiting_recruiter(
    stage: Stage, linker: Linker, owner: str = "customer-1", subdomain: str = "acme"
) -> Connection:
    """A connection whose recruiter was issued and is not in Workable."""
    opened = await linker.create(owner=owner)
    return await linker.submit_token(opened.id, subdomain=subdomain, token=stage.token(subdomain))


async def linked(stage: Stage, linker: Linker, owner: str = "customer-1", subdomain: str = "acme") -> Connection:
    """A linked connection."""
    waiting = await awaiting_recruiter(stage, linker, owner, subdomain)
    stage.add_recruiter(waiting, subdomain=subdomain)
    stage.clock.advance(seconds=WINDOW)
    return await linker.confirm_recruiter(waiting.id)


async def sweep_when_due(stage: Stage, linker: Linker, connection: Connection) -> Connection:
    """Let the heartbeat attend the connection at its time; gives what it is then."""
    stage.wait_until_due(await linker.get(connection.id))
    await linker.attend_due()
    return await linker.get(connection.id)


def events(steps: list[Step]) -> list[str]:
    """The names of what happened."""
    return [step.event for step in steps]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, until it is true; the test's own time-out ends it if it never is."""
    while not await true():  # noqa: ASYNC110 - what is waited for may happen in another process
        await asyncio.sleep(0.005)
