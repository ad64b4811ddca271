"""Three persisted transitions for each connection, against DBOS Transact, Procrastinate and SQL written by hand.

The three are: token accepted, recruiter prepared, recruiter found. All stand on one PostgreSQL server, each time in an
empty database, and every commit waits for the disk (`fsync`, `full_page_writes` and `synchronous_commit` are on). They
take turns: ours, then each of the others, in every round. Each is one process, in its fastest sensible configuration,
which its program in `scripts/benchmarks/peers` names with the reason; no step asks a network for anything. Preparing is
not timed, PostgreSQL's statistics are fresh when the clock starts, and what was persisted is counted in the database.
Ours and the SQL by hand write many transitions in one commit, which is what a sweep is for; the peers write each on its
own, because that is how they work. The SQL by hand writes the same rows in batches of the size that ours had in the
same round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from scripts.benchmarks.figures import Figures
from scripts.benchmarks.peers import environment
from tests.postgres import PostgresServer, running_postgres

#: Everything is as PostgreSQL comes, with room for the peers' connections, and durable.
SERVER = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "timezone": "UTC",
}
#: What PostgreSQL writes at a time.
PAGE = b"0" * 8192
#: How long one program may take, in seconds.
PATIENCE = 120

OURS = "transitions on PostgreSQL, 1/s"
BY_HAND = "the same by hand on PostgreSQL, 1/s"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another way of persisting the three steps."""

    name: str
    module: str
    rate: str
    ratio: str
    #: How many times as fast we want to be.
    goal: float


PEERS = (
    Peer(
        name="DBOS",
        module="with_dbos",
        rate="steps of DBOS workflows, 1/s",
        ratio="transitions_over_dbos",
        goal=10,
    ),
    Peer(
        name="Procrastinate",
        module="with_procrastinate",
        rate="jobs of Procrastinate, 1/s",
        ratio="transitions_over_procrastinate",
        goal=4,
    ),
)
RATIO_BY_HAND = "transitions_postgres_over_hand_written_sql"


class Failed(Exception):
    """A program did not bring its figure; says why in one line."""


def measure(figures: Figures, folder: Path, rounds: int, *, ours: int = 2000, theirs: int = 500) -> None:
    """Add the figures of the peers.

    Args:
        figures: where they go; what could not be measured goes there too, with the reason.
        folder: the disk that it is on is measured too, because it decides how fast a commit can be.
        rounds: how often everything is measured.
        ours: how many connections of ours go through the steps, and of the SQL by hand.
        theirs: how many workflows, and chains of jobs. They are slower, so fewer take as long.
    """
    able = dict.fromkeys(PEERS) if (python := _interpreter(figures)) else {}
    with running_postgres(SERVER) as server:
        figures.fact("PostgreSQL", described(server))
        figures.fact("disk", f"a write that waits for it takes {waits(folder) * 1000:.1f} ms")
        for _ in range(rounds):
            found = run(server, sys.executable, "ours", connections=ours)
            figures.add(OURS, found["rate"])
            by_hand = run(server, sys.executable, "by_hand", connections=ours, batch=max(1, round(found["batch"])))
            figures.add(BY_HAND, by_hand["rate"])
            for peer in list(able):
                if not _add(figures, peer, server, str(python), theirs):
                    del able[peer]
    figures.ratio(RATIO_BY_HAND, OURS, BY_HAND, goal=0.5)
    for peer in able:
        figures.ratio(peer.ratio, OURS, peer.rate, goal=peer.goal)


def _interpreter(figures: Figures) -> Path | None:
    """The peers' interpreter; without one their ratios are missing."""
    try:
        return environment.python()
    except environment.NotInstalled as error:
        for peer in PEERS:
            figures.miss(peer.ratio, f"{peer.name} is not installed: {error}")
    return None


def _add(figures: Figures, peer: Peer, server: PostgresServer, python: str, connections: int) -> bool:
    """Add one round of a peer; False if it failed, which ends its part."""
    try:
        found = run(server, python, peer.module, connections=connections)
    except Failed as error:
        figures.miss(peer.ratio, f"{peer.name} failed: {error}")
        return False
    figures.add(peer.rate, found["rate"])
    figures.fact(peer.name, found["version"])
    return True


def run(server: PostgresServer, python: str, module: str, *, connections: int, batch: int = 1) -> dict[str, Any]:
    """Run a program of this folder on an empty database; gives the line that it prints.

    Raises:
        Failed: it ended badly, or not at all.
    """
    with server.database() as url:
        plain = url.replace("+psycopg", "")
        _settle_disk(plain)
        numbers = (f"--connections={connections}", f"--batch={batch}")
        program = [python, "-m", f"scripts.benchmarks.peers.{module}", plain, *numbers]
        try:
            done = subprocess.run(
                program, cwd=environment.ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"it did not end within {PATIENCE} seconds") from None
    if done.returncode != 0:
        raise Failed(environment.last_line(done.stderr))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _settle_disk(url: str) -> None:
    """Let nobody pay for what somebody else wrote."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def waits(folder: Path, times: int = 50) -> float:
    """The seconds that a write of one page takes until it is on the disk: the median."""
    found = []
    with (folder / "page").open("wb", buffering=0) as page:
        for _ in range(times):
            began = time.perf_counter()
            page.write(PAGE)
            os.fsync(page.fileno())
            found.append(time.perf_counter() - began)
    return median(found)


def described(server: PostgresServer) -> str:
    """The server's version, and how durable it is."""
    durable = ("fsync", "full_page_writes", "synchronous_commit")
    with psycopg.connect(server.url().replace("+psycopg", "")) as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchall()[0][0] for name in ("server_version", *durable)}
    settings = ", ".join(f"{name} {shown[name]}" for name in durable)
    return f"{shown['server_version']} ({settings})"
