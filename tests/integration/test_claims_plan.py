"""What claiming, pruning and looking for trouble cost: it grows with what is found, never with what is stored."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from linker.database.database import Database
from linker.engine.fairness import FairClaims
from linker.engine.ports import Selection
from linker.operations.retention import Pruned, Pruning
from linker.outbox.administration import OutboxAdministration
from linker.outbox.channels import WEBHOOK
from linker.outbox.outbox_store import OutboxStore
from linker.persistence import schema
from linker.settings import Settings
from linker.testing import SettableClock
from states.history import ANNOUNCEMENTS
from tests.integration.storehouse import MINUTE, NOW, House, a_lease

Statement = tuple[str, Any]

#: Rows in all states, of which a few fell due: (how many there are, how many of them are due).
FEW, MANY, DUE = 2_000, 20_000, 50
#: What PostgreSQL may read: also what the other tests here left of rows that they changed, until it is vacuumed.
LITTLE = 5 * DUE

SQLITE_NUMBERS = "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < :rows) "
POSTGRES_NUMBERS = "WITH g(n) AS (SELECT generate_series(1, CAST(:rows AS integer))) "
FILL_CONNECTIONS = (
    "INSERT INTO linker_connection (id, owner, metadata, state, state_since, recruiter_email, token_sealed, "
    "token_key_id, attempts, checks, due_at, problem_code, paused_at, created_at, updated_at, version, last_seq, law) "
    "SELECT 'con_' || n, 'owner_' || (n % 100), '{}', 'awaiting_recruiter', :now, 'ats+' || n || '@example.com', "
    "'v1.key.body', 'key' || (n % 2), 0, 0, CASE WHEN n % 3 = 0 THEN NULL WHEN n <= :due * 3 / 2 THEN :past "
    "ELSE :future END, CASE WHEN n <= :due THEN 'recruiter_removed' END, "
    "CASE WHEN n <= :due AND n % 3 = 0 THEN :now END, :now, :now, 1, 1, 'law' FROM g"
)
#: Unlinked ones, of which a few are old. They were paused once: that makes none of them stuck.
FILL_CLOSED = (
    "INSERT INTO linker_connection (id, owner, metadata, state, state_since, attempts, checks, paused_at, closed_at, "
    "created_at, updated_at, version, last_seq, law) "
    "SELECT 'closed_' || n, 'owner_' || (n % 100), '{}', 'awaiting_recruiter', :now, 0, 0, :now, "
    "CASE WHEN n <= :due THEN :old ELSE :now END, :now, :now, 1, 1, 'law' FROM g"
)
#: Histories of one old step that stays, or of one that what came before was pruned of; of a few the first one goes.
FILL_STEPS = (
    "INSERT INTO linker_step (connection_id, seq, event, target, at, actor, evidence, pruned_at) "
    "SELECT 'con_' || n, CASE WHEN n <= :due OR n % 2 = 0 THEN 1 ELSE 7 END, 'e', 'linked', :old, 'a', '{}', "
    "CASE WHEN n > :due AND n % 2 = 1 THEN :now END FROM g"
)
FILL_SECOND_STEPS = (
    "INSERT INTO linker_step (connection_id, seq, event, target, at, actor, evidence, pruned_at) "
    "SELECT 'con_' || n, 2, 'e', 'linked', :old, 'a', '{}', NULL FROM g WHERE n <= :due"
)
#: Announcements that are over, of which a few are old.
FILL_OVER = (
    "INSERT INTO linker_outbox (message_id, connection_id, seq, type, payload, created_at, attempts, delivered_to) "
    "SELECT 'over_' || n, 'con_' || n, 1, 'connection.linked', '{\"data\": {}}', "
    "CASE WHEN n <= :due THEN :old ELSE :now END, 1, '[]' FROM g"
)
FILL_OUTBOX = (
    "INSERT INTO linker_outbox (message_id, connection_id, seq, type, payload, created_at, due_at, attempts, "
    "delivered_to, hook_due_at) SELECT 'msg_' || n, 'con_' || n, 1, "
    "CASE WHEN n <= :due THEN 'connection.linked' ELSE 'connection.opened' END, "
    "'{\"data\": {}}', "
    ":now, :past, 0, '[]', CASE WHEN n <= :due THEN :past WHEN n % 3 = 0 THEN NULL ELSE :future END FROM g"
)


def fill(house: House, rows: int) -> None:
    """Store connections and announcements, most of which no claim is interested in."""
    numbers = SQLITE_NUMBERS if house.database.is_sqlite else POSTGRES_NUMBERS
    times = {"now": NOW, "past": NOW - MINUTE, "future": NOW + MINUTE, "old": NOW - timedelta(days=500)}
    typed = [sa.bindparam(name, type_=sa.DateTime(timezone=True)) for name in times]

    def work(transaction: sa.Connection) -> None:
        for statement in (FILL_CONNECTIONS, FILL_CLOSED, FILL_STEPS, FILL_SECOND_STEPS, FILL_OUTBOX, FILL_OVER):
            text = statement.replace("INSERT", numbers + "INSERT", 1)
            used = [param for param in typed if f":{param.key}" in text]
            values = {"rows": rows, "due": DUE} | {param.key: times[param.key] for param in used}
            transaction.execute(sa.text(text).bindparams(*used), values)

    house.database.write_here(work)
    house.database.outside_here("ANALYZE")


async def statements(house: House, action: Callable[[House], Any]) -> list[Statement]:
    """What an action sends to the database, begin and settings aside; of what is sent with many rows, one."""
    seen: list[Statement] = []

    @sa.event.listens_for(house.database.engine, "before_cursor_execute")
    def see(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if statement.startswith(("WITH", "SELECT", "UPDATE", "DELETE")):
            seen.append((statement, parameters[0] if many else parameters))

    await action(house)
    sa.event.remove(house.database.engine, "before_cursor_execute", see)
    return seen


async def claim_due(house: House) -> Any:
    """Claim what is due."""
    found = await house.store.claim_due(now=NOW, limit=1_000, lease=a_lease())
    assert len(found) == DUE
    return found


async def claim_announcements(house: House) -> Any:
    """Claim the announcements that a host listens to: the others are never delivered, and wait for ever."""
    found = await house.outbox.claim_announcements(["connection.linked"], now=NOW, limit=100, lease=a_lease())
    assert len(found) == DUE
    return found


async def claim_posts(house: House) -> Any:
    """Claim the announcements that are posted to the webhook."""
    outbox = OutboxStore(house.database, WEBHOOK)
    found = await outbox.claim_announcements(ANNOUNCEMENTS, now=NOW, limit=100, lease=a_lease())
    assert len(found) == DUE
    return found


async def let_lapse(house: House) -> Any:
    """Look for announcements that nobody took: there are none."""
    assert await OutboxStore(house.database, WEBHOOK).expire_unclaimed(now=NOW) == 0


async def read_keys(house: House) -> Any:
    """Which keys are in use."""
    assert await house.store.key_ids() == {"key0", "key1"}


async def check_states(house: House) -> Any:
    """The check of the states at start-up."""
    assert await house.database.read(schema.states_held) == ["awaiting_recruiter"]


async def read_account(house: House) -> Any:
    """Whether the owner has the account already."""
    assert await house.store.connections_with_accounts({("owner_1", "nobody's"), ("owner_2", "nobody's")}) == {}


async def claim_one(house: House) -> Any:
    """Claim for a person."""
    assert await house.store.claim("con_7", now=NOW, lease=a_lease()) is not None


async def list_stuck(house: House) -> Any:
    """What `linker list --stuck` asks."""
    assert len(await house.store.find(Selection(stuck=True))) == DUE
    assert len(await house.store.find(Selection(stuck=True, limit=5))) == 5


async def list_paused(house: House) -> Any:
    """What `linker list --paused` asks."""
    assert len(await house.store.find(Selection(paused=True))) == DUE // 3


async def retry_dead(house: House) -> Any:
    """Look for dead letters: there are none."""
    assert [some async for some in OutboxAdministration(house.database).retry_dead(now=NOW, until=NOW)] == []


def pruning(house: House) -> Pruning:
    """Pruning with the defaults, at the moment of these tests."""
    return Pruning(house.database, Settings(), SettableClock(NOW))


async def foresee(house: House) -> Any:
    """What a dry run asks."""
    assert await pruning(house).foresee() == Pruned(steps=DUE, announcements=DUE, connections=DUE)


async def prune(house: House) -> Any:
    """What a prune does. Where others look as well, it is undone."""
    kinds = pruning(house)._before

    def work(transaction: sa.Connection) -> None:
        undone = transaction.begin_nested()
        assert [kind.prune(before, NOW, transaction)[0] for kind, before in kinds.items()] == [DUE] * 3
        undone.rollback()

    await house.database.write(work)


async def claim_in_turns(house: House) -> Any:
    """Claim what is due as a sweep does when more is due than one batch holds."""
    turns = FairClaims(house.store, SettableClock(NOW))
    found = []
    while not turns.over:
        found += await turns.claim(a_lease(), DUE // 2)
    assert len(found) == DUE


LOOKING = [read_keys, check_states, read_account, list_stuck, list_paused, retry_dead, foresee]
EVERY = [claim_due, claim_in_turns, claim_one, claim_announcements, claim_posts, let_lapse, prune, *LOOKING]


async def _undone(house: House, statement: Statement, work: Callable[[sa.Connection, Statement], Any]) -> Any:
    def in_vain(transaction: sa.Connection) -> Any:
        found = work(transaction, statement)
        transaction.rollback()
        return found

    return await house.database.write(in_vain)


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────────


#: What may be read from end to end: it holds nothing but what is looked for.
MAY_SCAN = re.compile(
    r"SCAN (chosen|CONSTANT ROW|anon_\d+|\(subquery-\d+\)|anon_\d+ VIRTUAL TABLE.*"
    r"|linker_connection USING INDEX linker_connection_troubled)"
)


async def believe_in_a_million(house: House) -> None:
    """Let SQLite plan as if there were a million of everything: then it takes other ways, and as yet with few rows."""
    await house.sql("UPDATE sqlite_stat1 SET stat = '1000000' || substr(stat, instr(stat, ' '))")
    house.database.disconnect()


def sqlite_plan(transaction: sa.Connection, statement: Statement) -> list[str]:
    """The lines of SQLite's plan."""
    rows = transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1])
    return [row[3] for row in rows]


@pytest.mark.parametrize("action", EVERY)
async def test_sqlite_goes_by_an_index(sqlite_house: House, action: Callable[[House], Any]) -> None:
    """No statement of a sweep or of the start scans a table."""
    fill(sqlite_house, FEW)
    await believe_in_a_million(sqlite_house)
    plans = []
    for statement in await statements(sqlite_house, action):
        plans += await _undone(sqlite_house, statement, sqlite_plan)
    assert plans
    for line in plans:
        assert not line.startswith("SCAN") or MAY_SCAN.fullmatch(line), plans
    if action is claim_due:
        assert "SEARCH linker_connection USING INDEX linker_connection_due (due_at<?)" in "\n".join(plans)
    if action in (list_paused, retry_dead):
        assert all(
            re.search("INDEX linker_(connection_paused|outbox_dead|outbox_hook_dead)", line) for line in plans
        ), plans
    if action is read_keys:
        assert all("USING COVERING INDEX" in line for line in plans), plans


def sqlite_steps(house: House) -> Callable[[], int]:
    """Count the instructions of SQLite's machine, in tens."""
    counted = 0

    def step() -> int:
        nonlocal counted
        counted += 1
        return 0

    def listen(transaction: sa.Connection) -> None:
        raw: Any = transaction.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_progress_handler(step, 10)

    house.database.write_here(listen)
    return lambda: counted


@pytest.mark.parametrize("action", EVERY)
async def test_sqlite_does_the_same_work_among_ten_times_as_many(
    tmp_path: Path, action: Callable[[House], Any]
) -> None:
    """The instructions that SQLite executes do not grow with what is stored."""
    work = []
    for rows in (FEW, MANY):
        house = House(f"sqlite:///{tmp_path / str(rows)}")
        try:
            schema.upgrade(house.database)
            fill(house, rows)
            counted = sqlite_steps(house)
            before = counted()
            await action(house)
            work.append(counted() - before)
        finally:
            house.close()
    assert work[1] <= work[0] * 1.2 + 5


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


def postgres_plan(transaction: sa.Connection, statement: Statement) -> Any:
    """PostgreSQL's plan, after it was run."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement[0]}"
    found = transaction.exec_driver_sql(explain, statement[1]).scalar_one()
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def nodes(plan: Any) -> list[Any]:
    """A plan's nodes."""
    return [plan, *(below for part in plan.get("Plans", []) for below in nodes(part))]


@pytest.fixture(scope="module")
def filled_postgres(postgres_schema: str) -> Any:
    """A PostgreSQL with many connections; statements are undone."""
    database = Database(postgres_schema)
    database.write_here(lambda transaction: transaction.execute(sa.text("TRUNCATE linker_connection CASCADE")))
    database.close()
    house = House(postgres_schema)

    def analyse(transaction: sa.Connection) -> None:
        transaction.exec_driver_sql(
            "INSERT INTO linker_rate_limit (name, spread_until) SELECT 'account:other' || n, 0 "
            "FROM generate_series(1, 20000) AS n ON CONFLICT DO NOTHING"
        )
        for table in ("linker_connection", "linker_step", "linker_outbox", "linker_rate_limit"):
            transaction.exec_driver_sql(f"ANALYZE {table}")

    fill(house, MANY)
    house.database.write_here(analyse)
    yield house
    house.database.write_here(
        lambda transaction: transaction.execute(sa.text("TRUNCATE linker_connection, linker_rate_limit CASCADE"))
    )
    house.close()


async def let_go(house: House) -> None:
    """Give all leases back."""
    await house.sql("UPDATE linker_connection SET lease_until = NULL WHERE lease_until IS NOT NULL")
    await house.sql("UPDATE linker_outbox SET lease_until = NULL WHERE lease_until IS NOT NULL")


@pytest.mark.postgres
@pytest.mark.parametrize("action", EVERY)
async def test_postgresql_goes_by_an_index(filled_postgres: House, action: Callable[[House], Any]) -> None:
    """No statement of a sweep or of the start reads a table through, and what is read and thrown away is little."""
    await let_go(filled_postgres)
    seen = await statements(filled_postgres, action)
    await let_go(filled_postgres)
    assert seen
    for statement in seen:
        plan = await _undone(filled_postgres, statement, postgres_plan)
        assert [node["Node Type"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"] == [], plan
        assert max(node.get("Rows Removed by Filter", 0) for node in nodes(plan)) <= LITTLE
        assert max(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan)) <= LITTLE
        if action is claim_due:
            assert "linker_connection_due" in {node.get("Index Name") for node in nodes(plan)}
        if action in (read_keys, check_states):
            assert "Index Only Scan" in {node["Node Type"] for node in nodes(plan)}


#: A second announcement of each connection, which waits behind the first.
FILL_BACKLOG = (
    "INSERT INTO linker_outbox (message_id, connection_id, seq, type, payload, created_at, due_at, attempts, "
    "delivered_to, hook_due_at) SELECT 'behind_' || n, 'con_' || n, 2, 'connection.opened', '{\"data\": {}}', "
    ":now, :past, 0, '[]', :past FROM g"
)


@pytest.mark.postgres
async def test_a_backlog_is_posted_from_its_front(postgres_house: House) -> None:
    """A claim for the webhook reads what it takes, and not all that waits for a receiver that was away."""
    fill(postgres_house, MANY)
    typed = [sa.bindparam(name, type_=sa.DateTime(timezone=True)) for name in ("now", "past")]
    times = {"now": NOW, "past": NOW - MINUTE}

    def work(transaction: sa.Connection) -> None:
        behind = sa.text(FILL_BACKLOG.replace("INSERT", POSTGRES_NUMBERS + "INSERT", 1)).bindparams(*typed)
        transaction.execute(behind, {"rows": MANY, **times})
        all_due = sa.text("UPDATE linker_outbox SET hook_due_at = :past WHERE due_at IS NOT NULL").bindparams(typed[1])
        transaction.execute(all_due, {"past": times["past"]})
        transaction.exec_driver_sql("ANALYZE linker_outbox")

    postgres_house.database.write_here(work)

    async def claim(house: House) -> Any:
        """Claim ten."""
        outbox = OutboxStore(house.database, WEBHOOK)
        assert len(await outbox.claim_announcements(ANNOUNCEMENTS, now=NOW, limit=10, lease=a_lease())) == 10

    [statement] = await statements(postgres_house, claim)
    plan = await _undone(postgres_house, statement, postgres_plan)
    assert max(node.get("Rows Removed by Filter", 0) for node in nodes(plan)) <= LITTLE, plan
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan)) <= LITTLE, plan
