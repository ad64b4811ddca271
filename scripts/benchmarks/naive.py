"""The sweep, against what an integration often begins with: a client and a commit for each connection.

For each due connection the naive loop makes an `httpx` client, asks whether the recruiter is there, and writes down in
a commit of its own when to look again; as many at a time as the sweep. It has no lease, no history and no check of the
answer. Both look at the same Workable in a process of its own and write to SQLite, whose commits wait for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import httpx

from scripts.benchmarks import local, sweep
from scripts.benchmarks.figures import Figures

#: How many connections the naive loop attends: its rate does not depend on that, and it is slow.
DUE = 150

OURS = "sweep on SQLite beside the naive one, connections/s"
NAIVE = "a client and a commit for each connection, connections/s"

AGAIN = (
    "UPDATE linker_connection SET due_at = ?, checks = checks + 1, last_ok_at = ?, version = version + 1 WHERE id = ?"
)


async def naive(url: str, path: Path) -> float:
    """Connections per second of the naive loop."""
    database_url = f"sqlite:///{path}"
    ids = local.fill(database_url, local.settings(database_url, url), DUE)
    now = local.NOW.isoformat(" ", "microseconds")[:26]
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA synchronous=FULL")

    async def attend(number: int) -> None:
        async with httpx.AsyncClient() as http:
            token = local.token_of(number).get_secret_value()
            address = f"{url.format(subdomain=f'bench{number}')}/spi/v3/recruiters"
            (await http.get(address, headers={"Authorization": f"Bearer {token}"})).raise_for_status()
        with raw:
            raw.execute(AGAIN, (now, now, ids[number]))

    found = await sweep.rate(attend, DUE)
    raw.close()
    return found


async def ours(url: str, path: Path) -> float:
    """Connections per second of our sweep."""
    worker = sweep.Worker(url, f"sqlite:///{path}")
    async with worker.linker:
        return await worker.rate()


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of the sweep beside those of the naive loop."""
    with local.workable(sweep.DUE) as url:
        for number in range(rounds):
            figures.add(OURS, asyncio.run(ours(url, folder / f"beside-naive{number}.db")))
            figures.add(NAIVE, asyncio.run(naive(url, folder / f"naive{number}.db")))
    figures.ratio("sweep_over_naive", OURS, NAIVE)
