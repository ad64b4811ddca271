"""The three steps as jobs of Procrastinate, each of which defers the next.

One worker, as its documentation advises for asynchronous tasks: several jobs at a time in one process, its own pool of
connections, woken by LISTEN/NOTIFY. With 20, 30 or 50 jobs at a time there was no difference beyond the noise. The
first job of each chain is in the queue before the clock starts, and the clock stops when the last job of the last chain
ends.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import procrastinate

from scripts.benchmarks.peers import contract

CONCURRENCY = 10

COUNT = "SELECT count(*) AS done FROM procrastinate_jobs WHERE status = 'succeeded'"


async def chains(url: str, connections: int) -> tuple[int, float]:
    """Run every chain; gives the number of jobs that the database says are done, and the seconds."""
    connector = procrastinate.PsycopgConnector(conninfo=url)
    app = procrastinate.App(connector=connector)
    firsts: list[dict[str, Any]] = [{"number": number} for number in range(connections)]
    left = connections
    over = asyncio.Event()

    async def find_recruiter(number: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    async def prepare_recruiter(number: int) -> None:
        await third.defer_async(number=number)

    async def accept_token(number: int) -> None:
        await second.defer_async(number=number)

    third = app.task(name="find_recruiter")(find_recruiter)
    second = app.task(name="prepare_recruiter")(prepare_recruiter)
    first = app.task(name="accept_token")(accept_token)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await first.batch_defer_async(*firsts)
        await connector.execute_query_async("ANALYZE")
        began = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=CONCURRENCY, listen_notify=True, install_signal_handlers=False)
        )
        await asyncio.wait({worker, asyncio.create_task(over.wait())}, return_when=asyncio.FIRST_COMPLETED)
        seconds = time.perf_counter() - began
        await _stop(worker)
        done = await connector.execute_query_one_async(COUNT)
    return int(done["done"]), seconds


async def _stop(worker: asyncio.Task[None]) -> None:
    """Cancelled, a worker finishes what it has begun."""
    worker.cancel()
    try:
        await worker
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    asked = contract.asked()
    persisted, seconds = asyncio.run(chains(asked.url, asked.connections))
    contract.report("procrastinate", persisted=persisted, connections=asked.connections, seconds=seconds)
