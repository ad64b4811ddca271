"""Persisted transitions, against SQL written by hand that writes the same rows.

Ours and the SQL by hand take turns of 200 transitions, each on a file of its own, because a machine that is shared is
quicker in one second than in the next.
"""

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
#: After how many of them the other side has its turn.
TURN = 200

UPDATE = """UPDATE linker_connection SET state='linked', state_since=?, recruiter_id='2b81ff', checks=checks+1,
    last_ok_at=?, linked_at=?, due_at=?, deadline=NULL, version=version+1, last_seq=last_seq+1, updated_at=?, law=?,
    lease_holder=NULL, lease_until=NULL WHERE id=? AND version=?"""
STEP = """INSERT INTO linker_step (connection_id, seq, event, source, target, at, actor, evidence)
    VALUES (?, ?, 'recruiter_found', 'awaiting_recruiter', 'linked', ?, 'heartbeat', '{}')"""
OUTBOX = """INSERT INTO linker_outbox
    (message_id, connection_id, seq, type, payload, created_at, due_at, hook_due_at, attempts, delivered_to)
    VALUES (?, ?, ?, 'connection.linked', ?, ?, ?, ?, 0, '[]')"""


async def in_turns(ours: Path, by_hand: Path, batch: int) -> tuple[float, float]:
    """Transitions per second of both: the law decides and the store writes; and SQL that is written by hand."""
    count = COUNTS[batch]
    linker = Linker(local.settings(f"sqlite:///{ours}", "http://127.0.0.1:9/{subdomain}"))
    for path in (ours, by_hand):
        local.fill(f"sqlite:///{path}", linker.settings, count)
    raw = sqlite3.connect(by_hand, isolation_level=None)
    raw.row_factory = sqlite3.Row
    raw.execute("PRAGMA synchronous=FULL")
    rows = [dict(row) for row in raw.execute("SELECT * FROM linker_connection ORDER BY created_at, id")]
    async with linker:
        waiting = await linker.find(state=ConnectionState.AWAITING_RECRUITER)
        local.leave_alone()
        took = [0.0, 0.0]
        for turn in range(0, count, TURN):
            began = time.perf_counter()
            for start in range(turn, turn + TURN, batch):
                await _settle(linker, waiting[start : start + batch])
            between = time.perf_counter()
            for start in range(turn, turn + TURN, batch):
                _write_by_hand(raw, rows[start : start + batch])
            took = [took[0] + between - began, took[1] + time.perf_counter() - between]
        assert len(await linker.find(state=ConnectionState.LINKED)) == count
    raw.close()
    return count / took[0], count / took[1]


async def _settle(linker: Linker, batch: list[Connection]) -> None:
    decide, settle = linker._engine.executor.decide, linker._parts.store.settle
    decided = [decide(before, RecruiterFound("2b81ff"), actor="heartbeat") for before in batch]
    assert all(await settle(decided, now=local.NOW, release=True))


def _write_by_hand(raw: sqlite3.Connection, waiting: list[dict[str, Any]]) -> None:
    """One commit of this one transition: no law, no checks, the same rows."""
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
        "key": row["key"],
        "status": "open",
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
            ours, by_hand = folder / f"ours{batch}-{number}.db", folder / f"hand{batch}-{number}.db"
            rates = asyncio.run(in_turns(ours, by_hand, batch))
            figures.add(mine, rates[0])
            figures.add(theirs, rates[1])
        figures.ratio(
            f"transitions_over_hand_written_sql_{batch}_a_commit", mine, theirs, goal=0.5 if batch > 1 else None
        )
