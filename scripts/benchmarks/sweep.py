"""The sweep, against a bare loop over a client like ours that makes the same calls and stores nothing.

The bare loop is `client.get` and `answer.json()`, as many at a time as the sweep. Our client alone, which makes the
same calls with every check of the answer, is measured beside it. All of them make a pass before anything is counted,
because a worker makes many: its connections to Workable are open, its statements and addresses are made. Between two
passes a worker's clock goes on until all 2,000 connections are due again. Each pass is compared with the mean of the
two bare loops before and after it, because a machine that is shared is quicker in one second than in the next.

Workable answers in tens of milliseconds, so the rows with answers that take 50 ms are the goals. Those with answers
that take no time say what the processor costs.

How long a host's event loop is held is measured in passes of their own: the processor time of each callback that the
loop runs, ours and the libraries' alike, and the longest one counts. What the clock shows beside it is longer, because
other threads and processes take their turns meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import harmonic_mean
from unittest.mock import patch

import httpx

from linker import Linker
from linker.engine.ports import SystemClock
from linker.http_client import Kind, build_transport
from linker.workable import api
from linker.workable.client import WorkableClient
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from scripts.benchmarks.peers.part import SERVER
from states.connection import Recruiter
from states.duties import RARE
from states.timing import poll_pause
from tests.postgres import running_postgres

DUE = 2000
CONCURRENCY = 50
MANY_AT_ONCE = 200
#: How long a callback may hold a host's event loop.
HELD_MS = 10
KINDS: tuple[Kind, ...] = ("aiohttp", "httpx-no-keepalive", "httpx")
#: Over the internet an answer takes a while, in seconds. Assumed, not measured: nobody answers much sooner.
LATENCY = 0.05
LATE = " (answers take 50 ms)"
MANY_LATE = " (answers take 50 ms, 200 at a time)"
#: How long the connections wait when the first pass begins.
YOUNG = timedelta(minutes=1)
#: How often a pass and its bare loops take turns in a round: where nothing is waited for, each notices the machine.
TURNS = 5
#: The same where answers take a while.
LATE_TURNS = 2
#: The transports are told apart by fewer calls: the slowest would take minutes.
CALLS = 600
OURS = Recruiter(name="Integration", email="ats+nobody@inbound.example.com")


def question(url: str, number: int) -> tuple[str, dict[str, str]]:
    """Where an account is asked for its recruiters, and with which headers."""
    token = local.token_of(number).get_secret_value()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    return f"{url.format(subdomain=f'bench{number}')}/spi/v3/recruiters", headers


async def bare(http: httpx.AsyncClient, url: str, count: int, concurrency: int = CONCURRENCY) -> float:
    """Calls per second of a loop over `httpx` that reads each answer's JSON and forgets it."""

    async def call(number: int) -> None:
        address, headers = question(url, number)
        answer = await http.get(address, headers=headers)
        assert answer.json() == {"recruiters": []}, answer.text

    return await rate(call, count, concurrency)


def a_client(kind: Kind = "aiohttp") -> httpx.AsyncClient:
    """A client over a transport like ours."""
    return httpx.AsyncClient(transport=build_transport(kind, connections=MANY_AT_ONCE), trust_env=False)


class GoingOn(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The time now: aware, in UTC."""
        return super().now() + self._ahead

    def go_on(self, by: timedelta) -> None:
        """Let time pass."""
        self._ahead += by


class Looks:
    """Our own client, alone: the same calls, with every check of the answer."""

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str, concurrency: int) -> None:
        self._concurrency = concurrency
        self._clock = GoingOn()
        self._client = WorkableClient(transport, url_template=url, clock=self._clock)

    async def rate(self) -> float:
        """Looks per second."""
        self._clock.go_on(timedelta(seconds=api.WINDOW_SECONDS))
        return await rate(self._look, DUE, self._concurrency)

    async def _look(self, number: int) -> None:
        await self._client.look(f"bench{number}", local.token_of(number), OURS, extra_calls=0)


class Worker:
    """A linker that makes one pass after another over the same connections, which are all due each time."""

    def __init__(self, url: str, database_url: str, concurrency: int = CONCURRENCY) -> None:
        self._clock = GoingOn()
        self._since = self._clock.now() - YOUNG
        self.linker = Linker(local.settings(database_url, url, concurrency=concurrency), clock=self._clock)
        local.fill(database_url, self.linker.settings, DUE, partial(local.waiting, since=self._since))

    async def rate(self) -> float:
        """Connections per second of a pass."""
        self._clock.go_on(poll_pause(self._age, self.linker.settings.timing))
        assert self._age < RARE, "fewer rounds, please: from this age on a look may make a second call"
        local.leave_alone()
        began = time.perf_counter()
        done = await self.linker.attend_due()
        lasted = time.perf_counter() - began
        assert done.waiting == DUE, done
        return DUE / lasted

    @property
    def _age(self) -> timedelta:
        return self._clock.now() - self._since


async def naive(url: str, count: int) -> float:
    """Calls per second when a client is made for each connection, as many integrations do."""

    async def call(number: int) -> None:
        async with httpx.AsyncClient() as http:
            address, headers = question(url, number)
            (await http.get(address, headers=headers)).raise_for_status()

    return await rate(call, count)


@contextmanager
def watched_callbacks() -> Iterator[list[tuple[float, float]]]:
    """For one block: how long each callback of the event loop holds it, in milliseconds of processor and of clock."""
    held: list[tuple[float, float]] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began, computing = time.perf_counter(), time.thread_time()
        run(handle)
        held.append((1000 * (time.thread_time() - computing), 1000 * (time.perf_counter() - began)))

    with patch.object(asyncio.Handle, "_run", timed):
        yield held


async def rate(call: Callable[[int], Awaitable[None]], count: int, concurrency: int = CONCURRENCY) -> float:
    """How many calls are made in a second, so many at a time."""
    numbers = iter(range(count))
    local.leave_alone()
    began = time.perf_counter()
    await together(one_after_another(call, numbers) for _ in range(concurrency))
    return count / (time.perf_counter() - began)


async def one_after_another(call: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> None:
    """Make calls until the numbers are used up."""
    for number in numbers:
        await call(number)


async def together(parts: Iterable[Awaitable[None]]) -> None:
    """Run all parts at the same time."""
    await asyncio.gather(*parts)


async def measure_sweep(
    figures: Figures,
    url: str,
    databases: Mapping[str, str],
    turns: int,
    label: str = "",
    concurrency: int = CONCURRENCY,
) -> None:
    """A worker's passes on each database, each between two bare loops, and our client alone."""
    async with a_client() as http, build_transport(connections=MANY_AT_ONCE) as transport, AsyncExitStack() as linkers:
        looks = Looks(transport, url, concurrency)
        for engine, database_url in databases.items():
            worker = Worker(url, database_url, concurrency)
            await linkers.enter_async_context(worker.linker)
            await worker.rate()
            await looks.rate()
            for _ in range(turns):
                before = await bare(http, url, DUE, concurrency)
                figures.add(f"sweep on {engine}{label}, connections/s", await worker.rate())
                after = await bare(http, url, DUE, concurrency)
                figures.add(f"bare loop beside {engine}{label}, calls/s", harmonic_mean((before, after)))
                figures.add(f"our client alone beside {engine}{label}, looks/s", await looks.rate())
            if not label:
                for _ in range(max(turns // 2, 1)):
                    with watched_callbacks() as held:
                        await worker.rate()
                    figures.add(f"longest callback of a sweep on {engine}, ms of processor", max(held)[0])
                    figures.add(f"longest callback of a sweep on {engine}, ms of clock", max(on for _, on in held))


async def measure_transports(figures: Figures, url: str, rounds: int) -> None:
    """Each transport of `httpx` under the same loop, in turns."""
    for _ in range(rounds):
        for kind in KINDS:
            async with a_client(kind) as http:
                await bare(http, url, CONCURRENCY)
                figures.add(f"transport {kind}, calls/s", await bare(http, url, CALLS))
        figures.add("a client made for each call, calls/s", await naive(url, CALLS // 10))


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of the sweep and of the transports."""
    late_turns = rounds * LATE_TURNS
    with running_postgres(SERVER) as server, server.database() as postgres:
        databases = {"SQLite": f"sqlite:///{folder}/sweep.db", "PostgreSQL": postgres}
        with local.workable(DUE) as url:
            asyncio.run(measure_sweep(figures, url, databases, rounds * TURNS))
            asyncio.run(measure_transports(figures, url, max(rounds // 2, 1)))
        with local.workable(DUE, seconds=LATENCY) as url:
            asyncio.run(measure_sweep(figures, url, databases, late_turns, LATE))
            asyncio.run(measure_sweep(figures, url, databases, late_turns, MANY_LATE, MANY_AT_ONCE))
    for engine in databases:
        name = f"sweep_{engine.lower().replace('postgresql', 'postgres')}"
        for ratio, label, goal in (
            (f"{name}_with_latency", LATE, 0.9),
            (f"{name}_with_latency_200_at_a_time", MANY_LATE, 0.7),
            (name, "", None),
        ):
            rate, bare_loop = f"sweep on {engine}{label}, connections/s", f"bare loop beside {engine}{label}, calls/s"
            figures.ratio(ratio, rate, bare_loop, goal=goal)
        sweep = f"sweep on {engine}, connections/s"
        figures.ratio(f"{name}_over_our_client", sweep, f"our client alone beside {engine}, looks/s")
        longest = f"longest callback of a sweep on {engine}, ms of processor"
        figures.ratio(f"{name}_holds_the_loop", longest, HELD_MS, goal=1.0, at_most=True)
    figures.ratio("transport_aiohttp_over_httpx", "transport aiohttp, calls/s", "transport httpx, calls/s")
