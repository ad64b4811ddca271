"""A database with very many connections, made by the database itself: a row is never in Python."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from linker import Settings
from linker.database.database import Database
from linker.encryption import TokenCipher, fingerprint
from linker.persistence import schema
from linker.persistence.tables import CONNECTION
from scripts.benchmarks import local
from states.connection import ConnectionState
from states.table import LAW

#: How many of them are due, scattered evenly among the others.
DUE = 1_000
PAST = local.NOW - timedelta(minutes=1)

#: What the engines say differently: numbers from 1 on, twenty random hexadecimal digits, a time an hour or more away.
SQLITE = {
    "numbers": "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < :rows)",
    "random": "lower(hex(randomblob(10)))",
    "later": "strftime('%Y-%m-%d %H:%M:%f', :now, (3600 + n % {seconds}) || ' seconds') || '000'",
}
POSTGRES = {
    "numbers": "WITH g(n) AS (SELECT generate_series(1, CAST(:rows AS integer)))",
    "random": "substr(md5(random()::text), 1, 20)",
    "later": ":now + (3600 + n % {seconds}) * interval '1 second'",
}

#: Of ten: seven are linked, and one each waits for its recruiter, waits for a token, or has failed or was unlinked.
STATE = """CASE WHEN n % :every = 0 OR n % 10 = 7 THEN 'awaiting_recruiter' WHEN n % 10 < 7 THEN 'linked'
    WHEN n % 20 = 9 THEN 'failed' ELSE 'awaiting_token' END"""
#: They are due within a day, an hour and a month, and none while it is measured; failed and unlinked ones never are.
DUE_AT = """CASE WHEN n % :every = 0 THEN :past WHEN n % 10 < 7 THEN {day} WHEN n % 10 = 7 THEN {hour}
    WHEN n % 10 = 8 THEN {month} END"""
FILL = """INSERT INTO linker_connection (id, owner, metadata, state, state_since, subdomain, account_id, account_name,
    account_subdomain, recruiter_name, recruiter_email, recruiter_id, token_subdomain, token_sealed, token_key_id,
    token_fingerprint, problem_code, problem_since, attempts, checks, due_at, deadline, linked_at, last_ok_at,
    closed_at, created_at, updated_at, version, last_seq, law)
    {numbers}
    SELECT 'con_' || {random}, 'customer-' || n, '{{"plan": "pro"}}', {state}, :now, 'company-' || n,
    {random}, 'Company ' || n, 'company-' || n, 'Integration', 'ats+' || {random} || '@inbound.example.com',
    {random}, 'company-' || n, :sealed, :key_id, 'f1a2b3c4d5e6', CASE WHEN n % 20 = 9 THEN 'token_revoked' END,
    CASE WHEN n % 20 = 9 THEN :now END, 0, n % 400, {due_at}, :now, CASE WHEN n % 10 < 7 THEN :now END, :now,
    CASE WHEN n % 20 = 19 THEN :now END, :now, :now, 9, 5, :law FROM g"""

#: A due one becomes one that a sweep can attend, against `local.workable`.
ATTENDABLE = """UPDATE linker_connection SET subdomain = :subdomain, token_subdomain = :subdomain,
    account_subdomain = :subdomain, token_sealed = :sealed, token_fingerprint = :fingerprint WHERE id = :id"""


def fill(database: Database, of: Settings, rows: int) -> None:
    """Make the schema and fill it: realistic rows in all states, of which `DUE` are due."""
    schema.upgrade(database)
    sealer = TokenCipher(of.secret_keys)
    words = SQLITE if database.is_sqlite else POSTGRES
    spans = {"day": 86_400, "hour": 3_600, "month": 30 * 86_400}
    due_at = DUE_AT.format(**{name: words["later"].format(seconds=seconds) for name, seconds in spans.items()})
    statement = sa.text(FILL.format(**words, state=STATE, due_at=due_at)).bindparams(
        sa.bindparam("now", type_=CONNECTION.c.due_at.type),
        sa.bindparam("past", type_=CONNECTION.c.due_at.type),
    )
    values = {
        "rows": rows,
        "every": rows // DUE,
        "now": local.NOW,
        "past": PAST,
        "sealed": sealer.seal(local.token_of(0), bound_to=f"con_{secrets.token_hex(10)}"),
        "key_id": sealer.newest,
        "law": LAW,
    }
    database.write_here(lambda transaction: _without_indexes(transaction, statement, values))
    database.write_here(lambda transaction: _make_attendable(transaction, sealer))


def _without_indexes(transaction: sa.Connection, statement: Any, values: dict[str, Any]) -> None:
    """Indexes that are built at the end are built by sorting: that is several times as fast."""
    for index in CONNECTION.indexes:
        index.drop(transaction)
    transaction.execute(statement, values)
    for index in CONNECTION.indexes:
        index.create(transaction)


def due(transaction: sa.Connection) -> list[str]:
    """The ids of those that are due."""
    query = sa.select(CONNECTION.c.id).where(CONNECTION.c.due_at <= local.NOW)
    return list(transaction.execute(query).scalars())


def _make_attendable(transaction: sa.Connection, sealer: TokenCipher) -> None:
    rows = [
        {
            "id": connection_id,
            "subdomain": f"bench{number}",
            "sealed": sealer.seal(local.token_of(number), bound_to=connection_id),
            "fingerprint": fingerprint(local.token_of(number)),
        }
        for number, connection_id in enumerate(due(transaction))
    ]
    assert len(rows) == DUE
    transaction.execute(sa.text(ATTENDABLE), rows)


def make_due_again(database: Database, ids: list[str]) -> None:
    """Let the same be due again."""
    again = sa.update(CONNECTION).where(CONNECTION.c.id.in_(ids))
    held = {"state": ConnectionState.AWAITING_RECRUITER.value, "lease_holder": None, "lease_until": None}
    database.write_here(lambda transaction: transaction.execute(again.values(due_at=PAST, **held)))
