"""A claim of 1,000 due connections among 1,000,000 that are stored, against the same among 10,000.

Both databases hold connections in all states, with rows as long as real ones, and the 1,000 due are scattered evenly
among them. They are claimed as a sweep claims them, batch after batch, each in a commit of its own, and then put back.
SQLite is a file, PostgreSQL a server with its own settings but for `fsync`, which is off: waiting for a disk would hide
the difference. The two sizes take turns, several times in each round.

Memory is the largest resident size of `linker worker` while it attends the 1,000 due: on SQLite, where the database is
in the worker's own process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import psutil
import psycopg

from linker import Settings
from linker.database.database import Database
from linker.engine.fairness import FairClaims
from linker.engine.ports import Lease
from linker.persistence.connection_store import ConnectionStore
from scripts.benchmarks import local, stored
from scripts.benchmarks.figures import Figures
from tests.postgres import running_postgres

ROOT = Path(__file__).parents[2]
SIZES = {"10,000": 10_000, "1,000,000": 1_000_000}
FEW, MANY = SIZES
#: How often a claim is measured in a round, in turns, and how often it is made before that.
TURNS = 7
WARM_UP = 3
#: Starting a worker takes some seconds, and what it needs hardly changes.
MEMORY_ROUNDS = 2
#: How long a worker may take for what is due, in seconds.
PATIENCE = 60.0
SERVER = {"shared_buffers": "128MB", "timezone": "UTC"}


class Standing:
    """The time at which the databases were filled."""

    def now(self) -> datetime:
        """Always the same."""
        return local.NOW


async def claim(store: ConnectionStore) -> float:
    """The milliseconds that claiming all that is due takes, in whole batches; then they are given back."""
    most = Settings().batch_size
    lease = Lease(holder="bench", until=local.NOW + timedelta(minutes=1))
    held: list[str] = []
    turns = FairClaims(store, Standing())
    began = time.perf_counter()
    while not turns.over:
        held += [connection.id for connection in await turns.claim(lease, most)]
    lasted = time.perf_counter() - began
    assert len(held) == len(set(held)) == stored.DUE, len(held)
    await store.release(held, lease)
    return lasted * 1000


def measure_claims(figures: Figures, name: str, engine: str, databases: dict[str, Database], rounds: int) -> None:
    """Claims in both databases, in turns."""
    stores = {size: ConnectionStore(database) for size, database in databases.items()}

    async def measure() -> None:
        for _ in range(WARM_UP):
            for store in stores.values():
                await claim(store)
        for _ in range(rounds):
            turns = [{size: await claim(store) for size, store in stores.items()} for _ in range(TURNS)]
            for size in stores:
                figures.add(_claim(engine, size), median(turn[size] for turn in turns))

    asyncio.run(measure())
    figures.ratio(name, _claim(engine, MANY), _claim(engine, FEW), goal=1.2, at_most=True)


def _claim(engine: str, size: str) -> str:
    return f"claim of 1,000 due among {size} on {engine}, ms"


def measure_memory(figures: Figures, databases: dict[str, Database], of: Settings, rounds: int) -> None:
    """The memory of a worker at both sizes, in turns."""
    ids = {size: database.read_here(stored.due) for size, database in databases.items()}
    with local.workable(stored.DUE) as url:
        for _ in range(min(rounds, MEMORY_ROUNDS)):
            for size, database in databases.items():
                stored.make_due_again(database, ids[size])
                figures.add(_memory(size), worker_memory(database, of, url))
    figures.ratio("memory_million_over_ten_thousand", _memory(MANY), _memory(FEW), goal=1.1, at_most=True)


def _memory(size: str) -> str:
    return f"a worker's memory with {size} stored, MiB"


def worker_memory(database: Database, of: Settings, url: str) -> float:
    """The most MiB that a worker holds while it attends what is due."""
    with worker(database, of, url) as process:
        gives_up = time.monotonic() + PATIENCE
        most = 0
        while database.read_here(stored.due):
            assert process.is_running(), "the worker ended"
            assert time.monotonic() < gives_up, "the worker takes too long"
            most = max(most, process.memory_info().rss)
            time.sleep(0.05)
        return max(most, process.memory_info().rss) / 1024**2


@contextmanager
def worker(database: Database, of: Settings, url: str) -> Iterator[psutil.Popen]:
    """`linker worker` on this database."""
    settings = {
        "LINKER_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "LINKER_SECRET_KEYS": ",".join(key.get_secret_value() for key in of.secret_keys),
        "LINKER_WORKABLE_URL": url,
        "LINKER_SWEEP_SECONDS": "1",
        "LINKER_LOG_LEVEL": "error",
        "PYTHONPATH": str(ROOT),
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("LINKER_")}
    command = [sys.executable, "-m", "linker.cli", "worker"]
    process = psutil.Popen(command, env=others | settings, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def filled(urls: dict[str, str], of: Settings) -> Iterator[dict[str, Database]]:
    """Both databases, filled."""
    databases = {size: Database(url) for size, url in urls.items()}
    try:
        for size, database in databases.items():
            stored.fill(database, of, SIZES[size])
        yield databases
    finally:
        for database in databases.values():
            database.close()


def settle_down(database: Database) -> None:
    """Let a file that was just filled be on the disk, with nothing left to write, and its statistics known."""
    database.outside_here("ANALYZE")
    database.outside_here("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of claims and of memory."""
    of = local.settings("sqlite://", "http://127.0.0.1:9/{subdomain}")
    files = {size: folder / f"stored-{rows}.db" for size, rows in SIZES.items()}
    with filled({size: f"sqlite:///{file}" for size, file in files.items()}, of) as databases:
        for database in databases.values():
            settle_down(database)
        measure_claims(figures, "claim_sqlite_million_over_ten_thousand", "SQLite", databases, rounds)
        measure_memory(figures, databases, of, rounds)
    for file in files.values():
        file.unlink()
    with running_postgres(SERVER) as server:
        urls = {size: server.url(server.create_database()) for size in SIZES}
        with filled(urls, of) as databases:
            for url in urls.values():
                with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as raw:
                    raw.execute("VACUUM ANALYZE")
            measure_claims(figures, "claim_postgres_million_over_ten_thousand", "PostgreSQL", databases, rounds)
