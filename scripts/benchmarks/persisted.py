"""Persisted transitions, against SQL written by hand that writes the same rows."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from linker import Linker
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from states.connection import Connection, ConnectionState
from states.events import RecruiterFound
from states.table import LAW

#: How many are written in one commit (one, as when a person presses a button, or many, as in a sweep), and how many in
#: all: so many that SQLite has put its log into the file several times.
COUNTS = {1: 2_000, 200: 20_000}

UPDATE = """UPDATE connection SET state='linked', state_since=?, recruiter_id='2b81ff', checks=checks+1, last_ok_at=?,
    linked_at=?, due_at=?, deadline=NULL, version=version+1, last_seq=last_seq+1, updated_at=?, law=?,
    lease_holder=NULL, lease_until=NULL WHERE id=? AND version=?"""
STEP = """INSERT INTO step (connection_id, seq, event, source, target, at, actor, evidence)
    VALUES (?, ?, 'recruiter_found', 'awaiting_recruiter', 'linked', ?, 'heartbeat', '{}')"""
OUTBOX = """INSERT INTO outbox
    (message_id, connection_id, seq, type, payload, created_at, due_at, hook_due_at, attempts, delivered_to)
    VALUES (?, ?, ?, 'connection.linked', ?, ?, ?, ?, 0, '[]')"""


async def ours(database_url: str, batch: int) -> float:
    """Transitions per second: the law decides, the store writes."""
    count = COUNTS[batch]
    linker = Linker(local.settings(database_url, "http://127.0.0.1:9/{subdomain}"))
    local.fill(database_url, linker.settings, count)
    async with linker:
        waiting = await linker.find(state=ConnectionState.AWAITING_RECRUITER)
        local.leave_alone()
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
    """Transitions per second of SQL written by hand for this one transition: no law, no checks, the same rows."""
    count = COUNTS[batch]
    local.fill(database_url, local.settings(database_url, "http://127.0.0.1:9/{subdomain}"), count)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.row_factory = sqlite3.Row
    raw.execute("PRAGMA synchronous=FULL")
    waiting = [dict(row) for row in raw.execute("SELECT * FROM connection ORDER BY created_at, id")]
    local.leave_alone()
    began = time.perf_counter()
    for start in range(0, count, batch):
        _write_by_hand(raw, waiting[start : start + batch])
    lasted = time.perf_counter() - began
    raw.close()
    return count / lasted


def _write_by_hand(raw: sqlite3.Connection, waiting: list[dict[str, Any]]) -> None:
    at = datetime.now(UTC)
    now = _moment(at)
    due = [_moment(at + timedelta(hours=24) * random.uniform(0.9, 1.1)) for _ in waiting]
    raw.execute("BEGIN IMMEDIATE")
    updates = [
        (now, now, now, next_due, now, LAW, row["id"], row["version"])
        for row, next_due in zip(waiting, due, strict=True)
    ]
    assert raw.executemany(UPDATE, updates).rowcount == len(waiting)
    raw.executemany(STEP, [(row["id"], row["last_seq"] + 1, now) for row in waiting])
    raw.executemany(OUTBOX, [_announcement(*each, now) for each in zip(waiting, due, strict=True)])
    raw.execute("COMMIT")


def _moment(at: datetime) -> str:
    return at.isoformat(" ", "microseconds")[:26]


def _announcement(row: dict[str, Any], due: str, now: str) -> tuple[Any, ...]:
    """The values of an announcement: its payload is the connection as ours is."""
    data = {
        "id": row["id"],
        "owner": row["owner"],
        "state": "linked",
        "state_since": _iso(now),
        "problem": None,
        "replacement_problem": None,
        "doubt": None,
        "subdomain": row["subdomain"],
        "account": {"id": row["account_id"], "name": row["account_name"], "subdomain": row["account_subdomain"]},
        "recruiter": {"name": row["recruiter_name"], "email": row["recruiter_email"], "id": "2b81ff"},
        "token": {"expires_on": row["token_expires_on"], "fingerprint": row["token_fingerprint"]},
        "candidate": None,
        "attempts": 0,
        "checks": row["checks"] + 1,
        "due_at": _iso(due),
        "not_before": None,
        "deadline": None,
        "linked_at": _iso(now),
        "last_ok_at": _iso(now),
        "paused_at": None,
        "closed_at": None,
        "metadata": json.loads(row["metadata"]),
        "version": row["version"] + 1,
        "created_at": _iso(row["created_at"]),
        "updated_at": _iso(now),
    }
    payload = json.dumps({"type": "connection.linked", "timestamp": _iso(now), "data": data})
    return f"msg_{secrets.token_hex(12)}", row["id"], row["last_seq"] + 1, payload, now, now, now


def _iso(kept: str) -> str:
    """A time as an announcement tells it, of a time as the database keeps it."""
    return kept.replace(" ", "T") + "Z"


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of persisted transitions."""
    for batch in COUNTS:
        mine, theirs = f"persisted transitions, {batch} a commit, 1/s", f"the same by hand, {batch} a commit, 1/s"
        for number in range(rounds):
            ours_at, by_hand_at = folder / f"ours{batch}-{number}.db", folder / f"hand{batch}-{number}.db"
            figures.add(mine, asyncio.run(ours(f"sqlite:///{ours_at}", batch)))
            figures.add(theirs, by_hand(f"sqlite:///{by_hand_at}", by_hand_at, batch))
        figures.ratio(f"transitions_over_hand_written_sql_{batch}_a_commit", mine, theirs, goal=0.5)
