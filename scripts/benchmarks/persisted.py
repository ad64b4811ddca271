"""Persisted transitions, against SQL written by hand that writes the same rows."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path

from linker import Linker
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from states.connection import Connection, ConnectionState
from states.events import RecruiterFound

COUNT = 2000
BATCH = 200

UPDATE = """UPDATE connection SET state=?, state_since=?, recruiter_id=?, checks=checks+1, last_ok_at=?, linked_at=?,
    due_at=?, deadline=NULL, version=version+1, last_seq=last_seq+1, updated_at=?, law=?, lease_holder=NULL,
    lease_until=NULL WHERE id=? AND version=?"""
STEP = """INSERT INTO step (connection_id, seq, event, source, target, at, actor, evidence)
    VALUES (?, 1, 'recruiter_found', 'awaiting_recruiter', 'linked', ?, 'heartbeat', '{}')"""
OUTBOX = """INSERT INTO outbox
    (message_id, connection_id, seq, type, payload, created_at, due_at, attempts, delivered_to)
    VALUES (?, ?, 1, 'connection.linked', ?, ?, ?, 0, '[]')"""


async def ours(database_url: str) -> tuple[float, list[Connection]]:
    """Transitions per second: the law decides, the store writes, a batch in one commit. Gives what was stored too."""
    linker = Linker(local.settings(database_url, "http://127.0.0.1:9/{subdomain}"))
    local.fill(database_url, linker.settings, COUNT)
    async with linker:
        waiting = await linker.find(state=ConnectionState.AWAITING_RECRUITER)
        began = time.perf_counter()
        for start in range(0, COUNT, BATCH):
            await _settle(linker, waiting[start : start + BATCH])
        lasted = time.perf_counter() - began
        linked = await linker.find(state=ConnectionState.LINKED)
    assert len(linked) == COUNT
    return COUNT / lasted, linked


async def _settle(linker: Linker, batch: list[Connection]) -> None:
    decide, settle = linker._attendant.decide, linker._store.settle
    decided = [decide(before, RecruiterFound("2b81ff"), actor="heartbeat") for before in batch]
    assert all(await settle(decided, now=local.NOW, release=True))


def by_hand(database_url: str, path: Path, linked: list[Connection]) -> float:
    """Transitions per second of SQL written by hand, with values that are known beforehand: no law, no checks."""
    settings = local.settings(database_url, "http://127.0.0.1:9/{subdomain}")
    ids = local.fill(database_url, settings, COUNT)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous=FULL")
    now = local.NOW.isoformat(" ", "microseconds")[:26]
    payload = json.dumps({"type": "connection.linked", "data": {"owner": "x" * 900}})
    began = time.perf_counter()
    for start in range(0, COUNT, BATCH):
        batch = ids[start : start + BATCH]
        raw.execute("BEGIN IMMEDIATE")
        updates = [("linked", now, "2b81ff", now, now, now, now, "law", one, 1) for one in batch]
        assert raw.executemany(UPDATE, updates).rowcount == len(batch)
        raw.executemany(STEP, [(one, now) for one in batch])
        raw.executemany(OUTBOX, [(f"msg_{one}", one, payload, now, now) for one in batch])
        raw.execute("COMMIT")
    lasted = time.perf_counter() - began
    raw.close()
    return COUNT / lasted


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of persisted transitions."""
    for number in range(rounds):
        mine, theirs = folder / f"ours{number}.db", folder / f"hand{number}.db"
        rate, linked = asyncio.run(ours(f"sqlite:///{mine}"))
        figures.add("persisted transitions, 1/s", rate)
        figures.add("the same rows by hand-written SQL, 1/s", by_hand(f"sqlite:///{theirs}", theirs, linked))
    figures.ratio(
        "transitions_over_hand_written_sql",
        "persisted transitions, 1/s",
        "the same rows by hand-written SQL, 1/s",
        goal=0.5,
    )
