"""The sweep, against a bare loop of the same client that makes the same calls and stores nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import httpx

from linker import Linker
from linker.ports import SystemClock
from linker.workable import WorkableClient, build_http
from linker.workable.transport import Kind
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from states.connection import Recruiter

DUE = 2000
CONCURRENCY = 50
KINDS: tuple[Kind, ...] = ("aiohttp", "httpx-no-keepalive", "httpx")
#: The transports are told apart by fewer calls: the slowest would take minutes.
CALLS = 600
OURS = Recruiter(name="Integration", email="ats+nobody@inbound.example.com")


async def bare(http: httpx.AsyncClient, url: str, count: int) -> float:
    """Calls per second of a loop over `httpx` that reads each answer's JSON and forgets it."""

    async def call(number: int) -> None:
        token = local.token_of(number).get_secret_value()
        address = f"{url.format(subdomain=f'bench{number}')}/spi/v3/recruiters"
        answer = await http.get(address, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
        assert answer.json() == {"recruiters": []}, answer.text

    return await rate(call, count)


async def looks(http: httpx.AsyncClient, url: str, count: int) -> float:
    """Looks per second of a loop over our own client: the same calls, with every check of the answer."""
    client = WorkableClient(http, url_template=url, clock=SystemClock())

    async def look(number: int) -> None:
        await client.look(f"bench{number}", local.token_of(number), OURS, closely=False)

    return await rate(look, count)


async def sweep(http: httpx.AsyncClient, url: str, database_url: str) -> float:
    """Connections per second of a sweep over a database in which all are due."""
    linker = Linker(local.settings(database_url, url), http=http)
    local.fill(database_url, linker.settings, DUE)
    async with linker:
        began = time.perf_counter()
        done = await linker.attend_due()
        lasted = time.perf_counter() - began
    assert done.waiting == DUE, done
    return DUE / lasted


async def naive(url: str, count: int) -> float:
    """Calls per second when a client is made for each connection, as many integrations do."""

    async def call(number: int) -> None:
        async with httpx.AsyncClient() as http:
            token = local.token_of(number).get_secret_value()
            address = f"{url.format(subdomain=f'bench{number}')}/spi/v3/recruiters"
            (await http.get(address, headers={"Authorization": f"Bearer {token}"})).raise_for_status()

    return await rate(call, count)


async def rate(call: Callable[[int], Awaitable[None]], count: int) -> float:
    """How many calls are made in a second, `CONCURRENCY` at a time."""
    numbers = iter(range(count))
    began = time.perf_counter()
    await together(one_after_another(call, numbers) for _ in range(CONCURRENCY))
    return count / (time.perf_counter() - began)


async def one_after_another(call: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> None:
    """Make calls until the numbers are used up."""
    for number in numbers:
        await call(number)


async def together(parts: Iterable[Awaitable[None]]) -> None:
    """Run all parts at the same time."""
    await asyncio.gather(*parts)


async def measure_sweep(figures: Figures, url: str, folder: Path, rounds: int) -> None:
    """Bare loop, our client alone, and the sweep, in turns over one client."""
    async with build_http() as http:
        await bare(http, url, CONCURRENCY * 4)
        for number in range(rounds):
            figures.add("bare loop, calls/s", await bare(http, url, DUE))
            figures.add("our client alone, looks/s", await looks(http, url, DUE))
            figures.add(
                "sweep on SQLite, connections/s", await sweep(http, url, f"sqlite:///{folder}/sweep{number}.db")
            )


async def measure_transports(figures: Figures, url: str, rounds: int) -> None:
    """Each transport of `httpx` under the same loop, in turns."""
    for _ in range(rounds):
        for kind in KINDS:
            async with build_http(kind) as http:
                await bare(http, url, CONCURRENCY)
                figures.add(f"transport {kind}, calls/s", await bare(http, url, CALLS))
        figures.add("a client made for each call, calls/s", await naive(url, CALLS // 10))


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of the sweep and of the transports."""
    with local.workable(DUE) as url:
        asyncio.run(measure_sweep(figures, url, folder, rounds))
        asyncio.run(measure_transports(figures, url, max(rounds // 2, 1)))
    figures.ratio("sweep_sqlite", "sweep on SQLite, connections/s", "bare loop, calls/s", goal=0.9)
    figures.ratio("sweep_sqlite_over_our_client", "sweep on SQLite, connections/s", "our client alone, looks/s")
    figures.ratio("transport_aiohttp_over_httpx", "transport aiohttp, calls/s", "transport httpx, calls/s")
