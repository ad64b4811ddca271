"""What a host's own call costs through `Linker.client`, over a bare `httpx` client that signs its requests itself.

Both ask the same sandbox for a list of jobs, one after the other, in turns; the linker's budget of calls is off, as
it would make both wait. Without an event loop it is `httpx.Client` against `blocking(linker).client`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import httpx

from linker import Linker, blocking
from linker.http_client import build_transport
from linker.testing import Unlimited
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures

#: So often each is asked in a round.
CALLS = 400
#: What a request may cost more than bare `httpx`, in milliseconds.
GOAL_MS = 0.3


async def asynchronous(url: str, database_url: str) -> tuple[float, float, float]:
    """The median milliseconds of a call through the linker, of a bare one on the same transport, and of plain httpx."""
    linker = Linker(local.settings(database_url, url), budget=Unlimited())
    [linked] = local.fill(database_url, linker.settings, 1)
    base = f"{url.replace('{subdomain}', 'bench0')}/spi/v3/"
    signed = {"Authorization": f"Bearer {local.token_of(0).get_secret_value()}"}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(linker)
        ours = await stack.enter_async_context(linker.client(linked, allow="awaiting_recruiter"))
        shared = httpx.AsyncClient(transport=build_transport(), base_url=base, headers=signed)
        bare = await stack.enter_async_context(shared)
        plain = await stack.enter_async_context(httpx.AsyncClient(base_url=base, headers=signed))
        return await _in_turns(*(client.get for client in (ours, bare, plain)))


async def _in_turns(*asked: Callable[[str], Awaitable[httpx.Response]]) -> tuple[float, float, float]:
    took: list[list[float]] = [[] for _ in asked]
    local.leave_alone()
    for _ in range(CALLS):
        for times, ask in zip(took, asked, strict=True):
            began = time.perf_counter()
            answer = await ask("jobs")
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200
    one, two, three = (median(times) * 1000 for times in took)
    return one, two, three


def synchronous(url: str, database_url: str) -> tuple[float, float]:
    """The same without an event loop: through the linker, and with plain httpx."""
    linker = Linker(local.settings(database_url, url), budget=Unlimited())
    [linked] = local.fill(database_url, linker.settings, 1)
    base = f"{url.replace('{subdomain}', 'bench0')}/spi/v3/"
    signed = {"Authorization": f"Bearer {local.token_of(0).get_secret_value()}"}
    took: tuple[list[float], list[float]] = ([], [])
    with (
        blocking(linker) as call,
        call.client(linked, allow="awaiting_recruiter") as ours,
        httpx.Client(base_url=base, headers=signed) as plain,
    ):
        local.leave_alone()
        for _ in range(CALLS):
            for times, client in zip(took, (ours, plain), strict=True):
                began = time.perf_counter()
                assert client.get("jobs").status_code == 200
                times.append(time.perf_counter() - began)
    return median(took[0]) * 1000, median(took[1]) * 1000


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add what a call of a host's costs."""
    with local.workable(1) as url:
        for number in range(rounds):
            ours, bare, plain = asyncio.run(asynchronous(url, f"sqlite:///{folder}/use{number}.db"))
            figures.add("a host's call, ms", ours)
            figures.add("the same on the bare transport, ms", bare)
            figures.add("the same by plain httpx, ms", plain)
            figures.add("a host's call on top of plain httpx, ms", max(ours - plain, 0.001))
            figures.add("a host's call on top of the bare transport, ms", max(ours - bare, 0.001))
            ours, plain = synchronous(url, f"sqlite:///{folder}/use_blocking{number}.db")
            figures.add("a blocking host's call, ms", ours)
            figures.add("the same by plain blocking httpx, ms", plain)
            figures.add("a blocking host's call on top of it, ms", max(ours - plain, 0.001))
    of = "a host's call on top of the bare transport, ms"
    figures.ratio("use_over_goal", of, GOAL_MS, goal=1.0, at_most=True)
    figures.ratio("use", "a host's call, ms", "the same by plain httpx, ms")
    figures.ratio("use_blocking_over_goal", "a blocking host's call on top of it, ms", GOAL_MS, goal=1.0, at_most=True)
    figures.ratio("use_blocking", "a blocking host's call, ms", "the same by plain blocking httpx, ms")
