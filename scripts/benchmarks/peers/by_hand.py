"""SQL written by hand for these three steps: the same rows as ours, in batches as large as ours were.

A batch is leased in one commit and written in another, as by any worker that must not hold a transaction open while it
asks somebody. There is no law, no check of an answer, no seal and no comparing of what changed: the columns of each
step are known beforehand. psycopg sends the rows of a batch in one pipeline.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from scripts.benchmarks import local
from scripts.benchmarks.peers import contract, ours
from states.table import LAW

Row = dict[str, Any]
#: What was asked last, as a row tells it.
CALL = "GET /accounts/{subdomain}"

CLAIM = """
    UPDATE linker_connection SET lease_holder = 'by-hand', lease_until = %(until)s, version = version + 1
    WHERE id IN (SELECT id FROM linker_connection
                 WHERE due_at <= %(now)s AND (lease_until IS NULL OR lease_until <= %(now)s)
                 ORDER BY due_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    RETURNING *
"""
KEPT = """state = %(state)s, state_since = %(now)s, due_at = %(next)s, last_ok_at = %(last_ok_at)s,
    version = version + 1, last_seq = %(seq)s, updated_at = %(now)s, law = %(law)s, lease_holder = NULL,
    lease_until = NULL WHERE id = %(id)s AND version = %(version)s"""
LOOKED = """last_look_at = %(now)s, last_look_call = %(call)s, last_look_status = 200, last_look_ms = 40,
    last_look_by = 'by-hand', last_look_verdict = %(event)s"""
ACCEPT: LiteralString = f"""
    UPDATE linker_connection SET account_id = %(account_id)s, account_name = %(account_name)s,
    account_subdomain = %(account_subdomain)s, token_subdomain = candidate_subdomain, token_sealed = candidate_sealed,
    token_key_id = candidate_key_id, token_fingerprint = candidate_fingerprint, candidate_subdomain = NULL,
    candidate_sealed = NULL, candidate_key_id = NULL, candidate_fingerprint = NULL, deadline = NULL, {LOOKED}, {KEPT}"""
PREPARE: LiteralString = f"""
    UPDATE linker_connection SET recruiter_name = %(recruiter_name)s, recruiter_email = %(recruiter_email)s,
    deadline = %(deadline)s, {KEPT}"""
FIND: LiteralString = f"""
    UPDATE linker_connection SET recruiter_id = %(recruiter_id)s, checks = checks + 1,
    linked_at = %(now)s, deadline = NULL, {LOOKED}, {KEPT}"""
STEP = """
    INSERT INTO linker_step (connection_id, seq, event, source, target, at, actor, evidence)
    VALUES (%(id)s, %(seq)s, %(event)s, %(source)s, %(target)s, %(now)s, 'heartbeat', %(evidence)s)"""
OUTBOX = """
    INSERT INTO linker_outbox
    (message_id, connection_id, seq, type, payload, created_at, due_at, hook_due_at, attempts, delivered_to)
    VALUES (%(message)s, %(id)s, %(seq)s, %(type)s, %(payload)s, %(now)s, %(now)s, %(now)s, 0, '[]')"""


def accepted(row: Row, now: datetime) -> Row:
    """What the first step makes of a connection."""
    name = row["candidate_subdomain"]
    account = {"account_id": f"id-of-{name}", "account_name": name.title(), "account_subdomain": name}
    token = {"token_fingerprint": row["candidate_fingerprint"], "candidate_fingerprint": None}
    return account | token | {"state": "token_valid", "deadline": None, "last_ok_at": now}


def prepared(row: Row, now: datetime) -> Row:
    """What the second step makes of a connection."""
    recruiter = {"recruiter_name": "Integration", "recruiter_email": f"ats+{row['id']}@inbound.example.com"}
    return recruiter | {"state": "awaiting_recruiter", "deadline": now + timedelta(days=14)}


def found(row: Row, now: datetime) -> Row:
    """What the third step makes of a connection."""
    facts = {"state": "linked", "deadline": None, "last_ok_at": now, "linked_at": now}
    return facts | {"recruiter_id": "recruiter-1", "checks": row["checks"] + 1}


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One of the three steps: its statement, what it makes of a connection, and what is said of it."""

    update: LiteralString
    changes: Callable[[Row, datetime], Row]
    event: str
    announcement: str
    evidence: Row


ASKED = {"calls": [{"call": "look", "status": 200, "ms": 0}]}
STEPS = (
    Transition(update=ACCEPT, changes=accepted, event="token_accepted", announcement="token.accepted", evidence=ASKED),
    Transition(
        update=PREPARE,
        changes=prepared,
        event="recruiter_prepared",
        announcement="connection.awaiting_recruiter",
        evidence={},
    ),
    Transition(update=FIND, changes=found, event="recruiter_found", announcement="connection.linked", evidence=ASKED),
)


def steps(url: str, connections: int, batch: int) -> float:
    """Take every connection through its three steps; gives the seconds."""
    ours.prepared(url, connections)
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        began = time.perf_counter()
        for hour, step in enumerate(STEPS):
            now = local.NOW + timedelta(hours=hour)
            terms = {"now": now, "until": now + timedelta(minutes=1), "batch": batch}
            while claimed := connection.execute(CLAIM, terms).fetchall():
                with connection.transaction():
                    _write(connection, step.update, [_values(step, row, now) for row in claimed])
        return time.perf_counter() - began


def _values(step: Transition, row: Row, now: datetime) -> Row:
    """The values of all three statements for one connection."""
    after = row | step.changes(row, now) | {"now": now, "next": now + timedelta(hours=1), "law": LAW, "call": CALL}
    said = {"type": step.announcement, "timestamp": _iso(now), "data": _data(after)}
    return after | {
        "seq": row["last_seq"] + 1,
        "event": step.event,
        "source": row["state"],
        "target": after["state"],
        "evidence": json.dumps(step.evidence),
        "message": f"msg_{secrets.token_hex(12)}",
        "type": step.announcement,
        "payload": json.dumps(said),
    }


def _data(row: Row) -> Row:
    """The connection as an announcement carries it."""
    recruiter = {"name": row["recruiter_name"], "email": row["recruiter_email"], "id": row["recruiter_id"]}
    return {
        "id": row["id"],
        "owner": row["owner"],
        "key": row["key"],
        "status": "open",
        "state": row["state"],
        "state_since": _iso(row["now"]),
        "problem": None,
        "replacement_problem": None,
        "doubt": None,
        "subdomain": row["subdomain"],
        "account": {"id": row["account_id"], "name": row["account_name"], "subdomain": row["account_subdomain"]},
        "recruiter": recruiter if row["recruiter_email"] else None,
        "token": {"expires_on": None, "fingerprint": row["token_fingerprint"]},
        "candidate": None,
        "attempts": row["attempts"],
        "checks": row["checks"],
        "due_at": _iso(row["next"]),
        "not_before": None,
        "deadline": _iso(row["deadline"]),
        "linked_at": _iso(row["linked_at"]),
        "last_ok_at": _iso(row["last_ok_at"]),
        "paused_at": None,
        "closed_at": None,
        "metadata": row["metadata"],
        "version": row["version"] + 1,
        "created_at": _iso(row["created_at"]),
        "updated_at": _iso(row["now"]),
        "last_look": {"at": _iso(row["now"]), "call": row["call"], "status": 200, "ms": 40, "by": "by-hand"},
        "permissions": None,
        "troubled_since": None,
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


def _write(connection: psycopg.Connection[Row], update: LiteralString, rows: list[Row]) -> None:
    """Write a batch: the connections, their steps, their announcements."""
    with connection.cursor() as cursor:
        cursor.executemany(update, rows)
        assert cursor.rowcount == len(rows), "somebody else wrote in the meantime"
        cursor.executemany(STEP, rows)
        cursor.executemany(OUTBOX, rows)


if __name__ == "__main__":
    asked = contract.asked()
    seconds = steps(asked.url, asked.connections, asked.batch)
    persisted_steps, commits = ours.written(asked.url)
    contract.report(
        "psycopg",
        persisted=persisted_steps,
        connections=asked.connections,
        seconds=seconds,
        batch=persisted_steps / commits,
    )
