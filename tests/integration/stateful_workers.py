"""Workers that die or stall at any commit or call, over the real store and the sandbox's Workable.

A dead worker is as dead as after `kill -9`: nothing that it still tries, clean-ups included, reaches the database or
Workable.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import httpx
from sqlalchemy import Connection

from linker import Linker, Settings
from linker.database.database import Database
from linker.database.sqlite import READING, Access
from linker.engine.ports import Randomness
from linker.sandbox import Sandbox, World, fingerprint
from linker.testing import SettableClock
from tests.integration.stateful_time import Here
from tests.seams import parts

T = TypeVar("T")

URL = "http://127.0.0.1/{subdomain}"
#: How long a call may be under way, in seconds of the settable clock.
LATENCIES = (0.0, 0.0, 0.01, 0.2)


class Killed(BaseException):
    """The worker is dead: no `except Exception` may hold this up."""


@dataclass(frozen=True)
class Fate:
    """What happens to a worker at its n-th point: before and after each commit, call and handler."""

    point: int
    action: Literal["die", "stall"] = "die"
    #: How long a stalled worker stands still, in seconds.
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A call on the wire: who made it, with which token, and between which two ticks."""

    worker: str
    subdomain: str
    fingerprint: str
    at: datetime
    began: int
    ended: int


@dataclass
class Wire:
    """What all workers share: the sandbox, the time that calls take, and what was seen on the way."""

    world: World
    clock: SettableClock
    jitter: random.Random
    seen: list[Exchange] = field(default_factory=list)
    ticks: int = 0

    def tick(self) -> int:
        """A number for this moment, later than all before."""
        self.ticks += 1
        return self.ticks

    async def delay(self) -> None:
        """Let others come in between."""
        await asyncio.sleep(self.jitter.choice(LATENCIES))


class Mortal:
    """The life of one worker: it goes through points, and its fate may be waiting at one of them."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock
        self._fate: Fate | None = None
        self._passed = 0
        self.dead = False
        self.stalled = False

    def meet(self, fate: Fate | None) -> None:
        """Count from here."""
        self._fate, self._passed, self.stalled = fate, 0, False

    def breathe(self) -> None:
        """Raise Killed if dead."""
        if self.dead:
            raise Killed

    def point(self) -> None:
        """Go through a point: nothing happens, or the worker dies there, or time passes without it."""
        self.breathe()
        self._passed += 1
        if self._fate is None or self._passed != self._fate.point:
            return
        if self._fate.action == "stall":
            self.stalled = True
            self._clock.advance(seconds=self._fate.seconds)
            return
        self.dead = True
        raise Killed


class _Line(httpx.AsyncBaseTransport):
    """A worker's line to the sandbox."""

    def __init__(self, mortal: Mortal, wire: Wire) -> None:
        self.name = ""
        self._mortal = mortal
        self._wire = wire
        self._inner = httpx.ASGITransport(Sandbox(wire.world))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Bring one request there and its answer back, some time later."""
        self._mortal.point()
        at, began = self._wire.clock.now(), self._wire.tick()
        try:
            await self._wire.delay()
            self._mortal.breathe()
            response = await self._inner.handle_async_request(request)
            await self._wire.delay()
        finally:
            self._note(request, at, began)
        self._mortal.point()
        return response

    def _note(self, request: httpx.Request, at: datetime, began: int) -> None:
        exchange = Exchange(
            worker=self.name,
            subdomain=request.url.path.split("/")[1],
            fingerprint=fingerprint(request.headers["authorization"].removeprefix("Bearer ")),
            at=at,
            began=began,
            ended=self._wire.tick(),
        )
        self._wire.seen.append(exchange)


@dataclass
class Worker:
    """One process: a linker of its own."""

    linker: Linker
    http: httpx.AsyncClient
    mortal: Mortal

    @property
    def id(self) -> str:
        """What the holders of its leases begin with."""
        return self.linker.worker_id


class _MortalDatabase(Database):
    """A database whose transactions go through its worker's points: those that write before their commit, and after."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.mortal: Mortal | None = None
        self.wire: Wire | None = None
        self._writing = False
        self._commit = self.engine.dialect.do_commit
        for name, value in list(vars(self).items()):
            if isinstance(value, ThreadPoolExecutor):
                vars(self)[name] = Here()
        vars(self.engine.dialect)["do_commit"] = self._mortal_commit

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As everywhere, after others had their turn: so what was decided in the meantime comes in one batch."""
        if self.wire is not None:
            await self.wire.delay()
        return await super().write(work)

    @contextmanager
    def _transaction(self, access: Access) -> Iterator[Connection]:
        if self.mortal is not None:
            self.mortal.breathe()
        self._writing = access is not READING
        with super()._transaction(replace(access, synchronous="OFF")) as transaction:  # nobody pulls the plug here
            yield transaction

    def _mortal_commit(self, raw: Any) -> None:
        if self.mortal is None or not self._writing:
            self._commit(raw)
        else:
            self.mortal.point()
            self._commit(raw)
            self.mortal.point()


@dataclass
class Office:
    """Where workers are hired. Databases of those who left are used again: their statements are compiled already."""

    url: str
    _left: list[_MortalDatabase] = field(default_factory=list)

    async def hire(self, settings: Settings, wire: Wire, randomness: Randomness) -> Worker:
        """A new worker, open and ready."""
        database = self._left.pop() if self._left else _MortalDatabase(self.url)
        database.mortal = mortal = Mortal(wire.clock)
        database.wire = wire
        line = _Line(mortal, wire)
        http = httpx.AsyncClient(transport=line)
        with patch("linker.composition.Database", lambda *_, **__: database):
            linker = Linker(settings, http=http, clock=wire.clock, randomness=randomness)
        line.name = linker.worker_id
        await linker.__aenter__()
        return Worker(linker, http, mortal)

    async def dismiss(self, worker: Worker) -> None:
        """Close what a worker holds open; a dead one leaves nothing else behind either."""
        await worker.linker.__aexit__(None, None, None)
        await worker.http.aclose()
        database = parts(worker.linker).database
        assert isinstance(database, _MortalDatabase)
        database.mortal = database.wire = None
        database._closing = False
        self._left.append(database)


async def bury() -> None:
    """End what the dead have left running."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    with suppress(Killed):
        await asyncio.gather(*others, return_exceptions=True)
