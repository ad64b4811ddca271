"""Two workers against one, and how soon an idle worker hears of something to do, on one PostgreSQL.

Each worker is a process that makes one pass over the same 2,000 due connections. So that Workable is not the limit,
the sandbox takes 100 ms for each answer: a worker that has 50 calls under way makes 500 calls a second at most, which
is far less than the sandbox can answer; its share of a core during the run is among the facts.

A wake-up is measured from the return of the commit that makes a connection due to the question that the idle worker
asks Workable about it. The worker's heartbeat comes once in an hour, so nothing else can wake it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
from pydantic import SecretStr

from linker import Linker
from linker.engine.ports import Answer
from linker.testing import ScriptedWorkable
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from scripts.benchmarks.peers.part import SERVER
from states import events as happened
from states.connection import Recruiter
from tests.postgres import running_postgres

DUE = 2000
#: How long the sandbox takes for an answer, in seconds.
LATENCY = 0.1
WAKE_UPS = 40
ONE, TWO = "one worker, connections/s", "two workers, connections/s"
WOKEN = "wake-ups served, ms"


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of several workers."""
    with running_postgres(SERVER) as server, server.database() as database_url:
        with local.workable(DUE, seconds=LATENCY) as url:
            shares = []
            for _ in range(rounds):
                for name, workers in ((ONE, 1), (TWO, 2)):
                    rate, share = passes(url, database_url, workers)
                    figures.add(name, rate)
                    shares.append(share)
            figures.fact("the sandbox's share of a core with two workers", f"{median(shares[1::2]):.2f}")
        for _ in range(rounds):
            figures.add(WOKEN, asyncio.run(woken(database_url)))
    figures.ratio("two_workers_over_one", TWO, ONE, goal=1.6)
    figures.ratio("wake_up_over_50_ms", WOKEN, 50, goal=1.0, at_most=True)


def passes(url: str, database_url: str, workers: int) -> tuple[float, float]:
    """Connections per second of so many workers at once, and the sandbox's share of a core meanwhile."""
    settings = local.settings(database_url, url)
    local.fill(database_url, settings, DUE)
    [sandbox] = psutil.Process().children()[-1:]
    given = {"database": database_url, "workable": url, "key": settings.secret_keys[0].get_secret_value()}
    ready = [_started(given) for _ in range(workers)]
    before, began = sum(sandbox.cpu_times()[:2]), time.perf_counter()
    for process in ready:
        _tell(process, "go")
    claimed = sum(int(_heard(process)) for process in ready)
    lasted = time.perf_counter() - began
    busy = sum(sandbox.cpu_times()[:2]) - before
    for process in ready:
        process.wait(30)
    assert claimed == DUE, f"{claimed} of {DUE} were attended"
    return DUE / lasted, busy / lasted


def _started(given: dict[str, str]) -> subprocess.Popen[str]:
    """A worker that has opened everything and waits for the word."""
    command = [sys.executable, "-m", "scripts.benchmarks.workers", json.dumps(given)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert _heard(process) == "ready"
    return process


def _tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def work(given: dict[str, str]) -> None:
    """One pass, when told to."""
    settings = local.settings(given["database"], given["workable"])
    async with Linker(settings.model_copy(update={"secret_keys": (SecretStr(given["key"]),)})) as linker:
        print("ready", flush=True)
        sys.stdin.readline()
        done = await linker.attend_due()
    print(done.waiting, flush=True)


class Listening(ScriptedWorkable):
    """A Workable that remembers when it was asked."""

    asked_at = 0.0

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """As scripted."""
        self.asked_at = time.perf_counter()
        return await super().look(subdomain, token, recruiter, extra_calls=extra_calls)


async def woken(database_url: str) -> float:
    """The median milliseconds from a commit to the question of a worker that was idle."""
    settings = local.settings(database_url, "http://127.0.0.1:9/{subdomain}")
    ids = local.fill(database_url, settings, WAKE_UPS + 1)
    workable, took = Listening(), []
    quiet = settings.model_copy(update={"sweep_seconds": 3600.0})
    async with Linker(settings, workable=workable) as host, Linker(quiet, workable=workable) as worker:
        await host.attend_due()
        async with worker.heartbeat():
            await asyncio.sleep(1.0)  # the worker is idle from here on
            for connection_id in ids[1:]:
                await host.record(connection_id, lambda _: happened.Paused(), actor="bench")
                await asyncio.sleep(0.05)
                await host.record(connection_id, lambda _: happened.Resumed(), actor="bench")
                written_at = time.perf_counter()
                while workable.asked_at < written_at:  # noqa: ASYNC110 - what is waited for happens in this very loop
                    await asyncio.sleep(0.001)
                took.append((workable.asked_at - written_at) * 1000)
                await asyncio.sleep(0.25)
    return median(took)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
