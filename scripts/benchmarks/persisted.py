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

#: How many transitions are written, and how many in one commit: one, as when a person presses a button, or many, as in
#: a sweep.
COUNTS = {1: 200, 200: 2000}

UPDATE = """UPDATE connection SET state=?, state_since=?, recruiter_id=?, checks=checks+1, last_ok_at=?, linked_at=?,
    due_at=?, deadline=NULL, version=version+1, last_seq=last_seq+1, updated_at=?, law=?, lease_holder=NULL,
    lease_until=NULL WHERE id=? AND version=?"""
STEP = """INSERT INTO step (connection_id, seq, event, source, target, at, actor, evidence)
    VALUES (?, 1, 'recruiter_found', 'awaiting_recruiter', 'linked', ?, 'heartbeat', '{}')"""
OUTBOX = """INSERT INTO outbox
    (message_id, connection_id, seq, type, payload, created_at, due_at, attempts, delivered_to)
    VALUES (?, ?, 1, 'connection.linked', ?, ?, ?, 0, '[]')"""


async def ours(database_url: str, batch: int) -> float:
    """Transitions per second: the law decides, the store writes."""
    count = COUNTS[batch]
    linker = Linker(local.settings(database_url, "http://127.0.0.1:9/{subdomain}"))
    local.fill(database_url, linker.settings, count)
    async with linker:
        waiting = await linker.find(state=ConnectionState.AWAITING_RECRUITER)
        began = time.perf_counter()
        for start in range(0, count, batch):
            await _settle(linker, waiting[start : start + batch])
        lasted = time.perf_counter() - began
        assert len(await linker.find(state=ConnectionState.LINKED)) == count
    return count / lasted


async def _settle(linker: Linker, batch: list[Connection]) -> None:
    decide, settle = linker._attendant.decide, linker._store.settle
    decided = [decide(before, RecruiterFound("2b81ff"), actor="heartbeat") for before in batch]
    assert all(await settle(decided, now=local.NOW, release=True))


def by_hand(database_url: str, path: Path, batch: int) -> float:
    """Transitions per second of SQL written by hand for this one transition: no law, no checks."""
    count = COUNTS[batch]
    ids = local.fill(database_url, local.settings(database_url, "http://127.0.0.1:9/{subdomain}"), count)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous=FULL")
    began = time.perf_counter()
    for start in range(0, count, batch):
        _write_by_hand(raw, ids[start : start + batch])
    lasted = time.perf_counter() - began
    raw.close()
    return count / lasted


def _write_by_hand(raw: sqlite3.Connection, ids: list[str]) -> None:
    now = local.NOW.isoformat(" ", "microseconds")[:26]
    raw.execute("BEGIN IMMEDIATE")
    updates = [("linked", now, "2b81ff", now, now, now, now, "law", one, 1) for one in ids]
    assert raw.executemany(UPDATE, updates).rowcount == len(ids)
    raw.executemany(STEP, [(one, now) for one in ids])
    raw.executemany(OUTBOX, [(f"msg_{one}", one, _payload(one, now), now, now) for one in ids])
    raw.execute("COMMIT")


def _payload(one: str, now: str) -> str:
    """An announcement of the size of ours."""
    data = dict.fromkeys(("id", "owner", "state", "created_at", "updated_at", "linked_at", "due_at", "deadline"), now)
    nested = {"recruiter": {"name": "Integration", "email": now, "id": one}, "account": {"id": one, "name": one}}
    empty = dict.fromkeys(("problem", "doubt", "replacement_problem", "candidate", "not_before", "paused_at"))
    return json.dumps({"type": "connection.linked", "timestamp": now, "data": data | nested | empty})


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of persisted transitions."""
    for batch in COUNTS:
        mine, theirs = f"persisted transitions, {batch} a commit, 1/s", f"the same by hand, {batch} a commit, 1/s"
        for number in range(rounds):
            ours_at, by_hand_at = folder / f"ours{batch}-{number}.db", folder / f"hand{batch}-{number}.db"
            figures.add(mine, asyncio.run(ours(f"sqlite:///{ours_at}", batch)))
            figures.add(theirs, by_hand(f"sqlite:///{by_hand_at}", by_hand_at, batch))
        figures.ratio(f"transitions_over_hand_written_sql_{batch}_a_commit", mine, theirs, goal=0.5)
