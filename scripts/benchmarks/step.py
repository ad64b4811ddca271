"""What one step costs on top of its call, and what importing us costs on top of what we stand on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from linker import Linker
from linker.engine.ports import SystemClock
from linker.http_client import build_transport
from linker.workable.client import WorkableClient
from scripts.benchmarks import local, sweep
from scripts.benchmarks.figures import Figures
from states.duties import HINT_CALLS_FOR_A_PERSON

#: A pause between two calls of one account would be polite; the bench uses each account once instead.
STEPS = 150
#: How often each is imported in a round: the start of an interpreter varies by a half.
IMPORTS = 5
FOUNDATIONS = (
    "alembic.command, anyio.from_thread, apscheduler.schedulers.asyncio, cryptography.hazmat.primitives.ciphers.aead, "
    "httpx, httpx_aiohttp, pydantic_settings, sqlmodel, sqlalchemy, structlog, transitions"
)


async def steps(url: str, database_url: str) -> tuple[float, float]:
    """The median milliseconds of “Set up integration”, and of the same look alone, with its call for a hint."""
    async with build_transport() as transport:
        linker = Linker(local.settings(database_url, url))
        ids = local.fill(database_url, linker.settings, STEPS)
        client = WorkableClient(transport, url_template=url, clock=SystemClock())
        async with linker:
            await linker.confirm_recruiter(ids[0])
            whole, calls = [], []
            for number in range(1, STEPS):
                began = time.perf_counter()
                await client.look(
                    f"bench{number}", local.token_of(number), sweep.OURS, extra_calls=HINT_CALLS_FOR_A_PERSON
                )
                calls.append(time.perf_counter() - began)
                began = time.perf_counter()
                await linker.confirm_recruiter(ids[number])
                whole.append(time.perf_counter() - began)
    return median(whole) * 1000, median(calls) * 1000


def imports(what: str) -> float:
    """The seconds that a fresh interpreter takes to import something."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {what}"], check=True)
    return time.perf_counter() - began


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of single steps and of imports."""
    with local.workable(STEPS) as url:
        for number in range(rounds):
            whole, call = asyncio.run(steps(url, f"sqlite:///{folder}/step{number}.db"))
            figures.add("a step with its call, ms", whole)
            figures.add("the call alone, ms", call)
            figures.add("a step on top of its call, ms", whole - call)
    figures.ratio("step_over_goal", "a step on top of its call, ms", 5, goal=1.0, at_most=True)
    imports("linker.linker")
    for _ in range(rounds * IMPORTS):
        figures.add("import linker, s", imports("linker.linker, linker.blocking_linker"))
        figures.add("import what it stands on, s", imports(FOUNDATIONS))
    figures.ratio("import", "import linker, s", "import what it stands on, s", goal=1.2, at_most=True)
