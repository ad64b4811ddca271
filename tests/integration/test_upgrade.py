"""A database of before revision 0006 is brought over: nothing is lost, nothing is half-done, no stranger is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import linker
from linker import ConnectionState, Linker, Settings, describe
from linker.database.database import Database
from linker.encryption import TokenCipher
from linker.engine.ports import Selection
from linker.errors import Refused, SchemaMismatch, SealBroken, TryAgain
from linker.outbox.outbox_store import OutboxStore
from linker.persistence import schema
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.migrations import HEAD
from linker.serialization import connection_json
from linker.testing import ScriptedWorkable
from states.problems import NearMissKind, ProblemCode
from tests.integration import before_0006
from tests.integration.storehouse import assert_fit_for_people, raised_by
from tests.integration.test_schema import OURS, everything, tables

ROOT = Path(linker.__file__).parent.parent


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """An empty database, on each engine."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of before, on each engine."""
    opened = Database(database_url)
    before_0006.make(opened)
    yield opened
    opened.close()


def read(database: Database, statement: str) -> list[Any]:
    """The rows that a statement gives, as the driver gives them."""
    return database.read_here(lambda connection: list(connection.execute(sa.text(statement))))


# ── nothing is lost ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_rows_of_before_hold_all_that_there_can_be() -> None:
    """Whoever reads these tests can trust that they look at every state, problem and near miss."""
    rows = before_0006.rows()["connection"]
    assert {row["state"] for row in rows} == {state.value for state in ConnectionState} - {"token_valid"}
    told = {row.get("problem_code") for row in rows} | {row.get("replacement_problem_code") for row in rows}
    never_there = {None, ProblemCode.TOKEN_EXPIRED.value, ProblemCode.RECRUITER_REMOVED.value}
    later = {ProblemCode.ACCOUNT_GONE.value}
    assert {code.value for code in ProblemCode} - told <= never_there | later
    assert len({step["event"] for step in before_0006.rows()["step"]}) > 20


async def test_every_row_comes_over_as_it_was(database: Database) -> None:
    """Every column that is still there has the value that it had, row by row."""
    assert_upgraded_without_loss(database)


def assert_upgraded_without_loss(database: Database) -> None:
    """Bring a database over, and compare all rows."""
    tables_before = {name: read(database, f"SELECT * FROM {name} ORDER BY 1, 2") for name in before_0006.TABLES}  # noqa: S608
    schema.upgrade(database)
    for name, old_rows in tables_before.items():
        new_rows = read(database, f"SELECT * FROM linker_{name} ORDER BY 1, 2")  # noqa: S608
        assert len(new_rows) == len(old_rows) > 0
        for old, new in zip(old_rows, new_rows, strict=True):
            kept = {column: value for column, value in old._mapping.items() if column in new._mapping}
            gone = old._mapping.keys() - kept.keys()
            assert gone == ({"problem_detail", "replacement_problem_detail"} if name == "connection" else set())
            came = {column: new._mapping[column] for column in kept}
            for column in ("last_error", "hook_last_error"):
                if kept.get(column) == "nobody was there to take it":
                    kept[column] = "unclaimed"
            assert came == kept


@pytest.mark.parametrize("revision", before_0006.REVISIONS[:-1])
async def test_the_first_revisions_come_over_too(empty: Database, database_url: str, revision: str) -> None:
    """In one step, whichever revision it is: a database that nobody upgraded for long goes on as one of today.

    What was announced before there were webhooks is not posted: nobody had set one.
    """
    before_0006.make(empty, revision)
    assert empty.read_here(schema.current) == (revision, revision)
    assert schema.compared(empty)["state"] == "behind"
    assert_upgraded_without_loss(empty)
    assert read(empty, "SELECT version_num FROM alembic_version") == [("moved",)]
    upgraded = empty.read_here(everything)
    if revision < "0003":
        posting = "SELECT count(*) FROM linker_outbox WHERE hook_due_at IS NOT NULL OR hook_attempts <> 0"
        assert read(empty, posting) == [(0,)]
    settings = Settings(database_url=database_url, secret_keys=(before_0006.KEY,))
    async with Linker(settings, workable=ScriptedWorkable()) as opened:
        found = await opened.find(closed=None)
        assert {each.id for each in found} == {row["id"] for row in before_0006.rows()["connection"]}
        for each in found:
            assert [step.seq for step in await opened.history(each.id)] == list(range(1, each.last_seq + 1))
        await opened.attend_due()
        await opened.prune()
    schema.drop(empty)
    schema.upgrade(empty)
    assert empty.read_here(everything) == upgraded


def test_a_database_of_the_first_revision_is_refused_at_start_on_postgresql(postgres_url: str) -> None:
    """There nobody's tables are upgraded by a start: the refusal says which revision it is, and what to do."""
    database = Database(postgres_url)
    before_0006.make(database, "0001")
    error = raised_by(lambda: schema.check(database), SchemaMismatch)
    assert_fit_for_people(error, reason="older", location=database.name)
    assert error.params == {"found": "0001", "needed": HEAD}
    assert read(database, "SELECT version_num FROM alembic_version") == [("0001",)]
    database.close()


async def test_problems_say_what_they_said(database: Database) -> None:
    """What was kept as a sentence is kept in parameters, and is told in the same words."""
    before = {row["id"]: row for row in before_0006.rows()["connection"]}
    schema.upgrade(database)
    found = await ConnectionStore(database).find(Selection(closed=None))
    assert len(found) == len(before)
    near_misses = set()
    for connection in found:
        old = before[connection.id]
        for name, problem in (("problem", connection.problem), ("replacement_problem", connection.replacement_problem)):
            assert (problem.code.value if problem else None) == old.get(f"{name}_code")
            if problem is None:
                continue
            said = old.get(f"{name}_detail", "")
            assert "said" not in problem.params
            if "was changed, or was sealed" in said:
                said = said.partition(" Restore")[0]  # what to do is not said twice any more
            words = describe(problem)
            assert (words.detail or words.internal) == said
            assert (connection_json(connection)[name]["detail"] or "") == said
            near_misses.add(problem.params.get("near_miss"))
    assert near_misses == {None, *(kind.value for kind in NearMissKind)}


def test_a_sentence_that_nobody_knows_is_kept_whole(database: Database) -> None:
    """Somebody may have written one by hand."""
    put = "UPDATE connection SET problem_detail = 'As told on the phone.' WHERE problem_code = 'throttled'"
    database.write_here(lambda connection: connection.exec_driver_sql(put))
    schema.upgrade(database)
    query = "SELECT id FROM linker_connection WHERE problem_code = 'throttled'"
    [(connection_id,)] = read(database, query)
    problem = _get(database, connection_id).problem
    assert problem is not None
    assert describe(problem).detail == "As told on the phone."


def _get(database: Database, connection_id: str) -> linker.Connection:
    reader = ConnectionStore(database)
    [found] = database.read_here(lambda transaction: [reader.one_in(transaction, connection_id)])
    assert found is not None
    return found


async def test_histories_and_tokens_are_whole(database: Database) -> None:
    """Steps can be read, and each token opens with the key that it was sealed with, but for a damaged one."""
    schema.upgrade(database)
    store, cipher, broken = ConnectionStore(database), TokenCipher([before_0006.KEY]), 0
    for connection in await store.find(Selection(closed=None)):
        steps = await store.history(connection.id)
        assert [step.seq for step in steps] == list(range(1, connection.last_seq + 1))
        assert steps[-1].target is connection.state
        for held in (connection.token, connection.candidate):
            if held is not None:
                try:
                    assert cipher.open(held.sealed, bound_to=connection.id).get_secret_value().startswith("a-token-")
                except SealBroken:
                    broken += 1
    assert broken == 1


async def test_announcements_go_on_where_they_were(database: Database) -> None:
    """What was half delivered is delivered to the rest; old payloads keep the words that they were written with."""
    schema.upgrade(database)
    told: list[linker.Announcement] = []
    settings = Settings(database_url=database.url.render_as_string(hide_password=False), secret_keys=(before_0006.KEY,))
    async with Linker(settings, workable=ScriptedWorkable()) as opened:

        @opened.on("failed")
        async def failed(announcement: linker.Announcement) -> None:
            told.append(announcement)

        await opened.deliver()
        made = await opened.create(owner="after")
        assert (await opened.history(made.id))[0].event == "opened"
    assert told == [] or all(each.payload["data"]["problem"]["message"] for each in told)
    newest = "SELECT max(id) FROM linker_outbox"
    assert read(database, newest)[0][0] == max(row["id"] for row in before_0006.rows()["outbox"]) + 1
    assert await OutboxStore(database).claim_announcements([], now=datetime.now(UTC), limit=1, lease=_lease()) == []


def _lease() -> linker.engine.ports.Lease:  # type: ignore[name-defined]
    from linker.engine.ports import Lease  # noqa: PLC0415

    return Lease(holder="me", until=datetime.now(UTC) + timedelta(minutes=1))


def test_it_is_afterwards_as_if_it_had_been_new(database: Database, database_url: str, tmp_path: Path) -> None:
    """Tables, columns, indexes and keys are those of a new database."""
    assert schema.upgrade(database) == (HEAD, HEAD)
    upgraded = database.read_here(everything)
    assert database.read_here(tables) == sorted([*OURS, "alembic_version"])
    schema.drop(database)
    schema.upgrade(database)
    assert database.read_here(everything) == upgraded


# ── nothing is half-done ──────────────────────────────────────────────────────────────────────────────────────────────


def test_it_may_be_killed_at_each_statement(database: Database, database_url: str) -> None:
    """After kill -9 the database is as it was before, and the next upgrade does it all."""
    before = database.read_here(everything)
    database.close()
    killed = subprocess.run(
        [sys.executable, "-m", "tests.integration.before_0006.killed", database_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == 0, killed.stderr
    kills = int(killed.stdout.split()[-1])
    assert kills > 30
    again = Database(database_url)
    assert again.read_here(schema.current) == (HEAD, HEAD)
    assert before.keys() & again.read_here(everything).keys() == set()
    assert len(read(again, "SELECT * FROM linker_connection")) == len(before_0006.rows()["connection"])
    again.close()


def test_several_at_once_do_it_once(database: Database, database_url: str) -> None:
    """The others wait, and find nothing left to do."""
    others = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(schema.upgrade, others)) == [(HEAD, HEAD)] * 4
    for other in others:
        other.close()
    assert len(read(database, "SELECT * FROM linker_connection")) == len(before_0006.rows()["connection"])


@pytest.mark.parametrize(
    "lease",
    [
        "UPDATE connection SET lease_holder = 'w', lease_until = :until WHERE state = 'linked'",
        "UPDATE outbox SET lease_holder = 'w', lease_until = :until",
        "UPDATE outbox SET hook_lease_holder = 'w', hook_lease_until = :until",
    ],
    ids=["a connection", "an announcement for handlers", "an announcement for the webhook"],
)
def test_it_waits_for_programs_of_before(database: Database, lease: str) -> None:
    """While one of them holds a lease nothing is changed, and it is said until when; afterwards it is done."""
    until = datetime.now(UTC) + timedelta(seconds=40)
    typed: Any = sa.bindparam("until", until.replace(tzinfo=None).isoformat(" ") if database.is_sqlite else until)
    database.write_here(lambda connection: connection.execute(sa.text(lease).bindparams(typed)))
    before = database.read_here(everything)
    error = raised_by(lambda: schema.upgrade(database), TryAgain)
    assert (error.reason, error.exit_code) == ("leases_alive", 5)
    assert error.retry_after is not None
    assert 30 < error.retry_after < 41
    assert database.read_here(everything) == before
    past = "2020-01-01 00:00:00.000000+00:00"
    over: Any = sa.bindparam("until", past if database.is_sqlite else datetime(2020, 1, 1, tzinfo=UTC))
    database.write_here(lambda connection: connection.execute(sa.text(lease).bindparams(over)))
    assert schema.upgrade(database) == (HEAD, HEAD)


# ── programs of before, and strangers ─────────────────────────────────────────────────────────────────────────────────


def test_a_program_of_before_refuses_afterwards(database: Database) -> None:
    """Its version table says a revision that it does not know: it makes no new tables."""
    schema.upgrade(database)
    assert read(database, "SELECT version_num FROM alembic_version") == [("moved",)]


@pytest.mark.parametrize("revision", ["ae1027a6acf1", "0001_users"])
def test_a_version_table_that_a_host_writes_is_left_alone(database: Database, revision: str) -> None:
    """Whatever we find of ours beside it."""
    put = sa.text("UPDATE alembic_version SET version_num = :revision")
    database.write_here(lambda connection: connection.execute(put, {"revision": revision}))
    schema.upgrade(database)
    assert read(database, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert len(read(database, "SELECT * FROM linker_connection")) == len(before_0006.rows()["connection"])


@pytest.mark.parametrize("missing", ["link", "ration", "alembic_version"])
def test_what_is_missing_of_before_does_no_harm(database: Database, missing: str) -> None:
    """It is known by its connections, steps and announcements."""
    database.write_here(lambda connection: connection.exec_driver_sql(f"DROP TABLE {missing}"))
    assert schema.upgrade(database) == (HEAD, HEAD)
    assert not {"connection", "step", "outbox", "link", "ration"} & set(database.read_here(tables))


# ── nothing of a host's goes with it ──────────────────────────────────────────────────────────────────────────────────

FOREIGN_KEYS = ["ON DELETE CASCADE", "ON DELETE SET NULL", ""]


@pytest.mark.parametrize("rule", FOREIGN_KEYS)
def test_a_hosts_table_that_refers_to_ours_is_not_emptied(database: Database, rule: str) -> None:
    """Neither by the upgrade nor by the drop afterwards: it is refused, by name, and nothing is changed."""
    first = before_0006.rows()["connection"][0]["id"]

    def refer(table: str) -> None:
        run(database, f"CREATE TABLE customer (linker_id TEXT REFERENCES {table} (id) {rule})")
        run(database, f"INSERT INTO customer VALUES ('{first}')")  # noqa: S608 - made here

    refer("connection")
    before = database.read_here(everything)
    assert_refers(raised_by(lambda: schema.upgrade(database), Refused), "customer")
    assert database.read_here(everything) == before
    run(database, "DROP TABLE customer")
    assert schema.upgrade(database) == (HEAD, HEAD)
    refer("linker_connection")
    assert_refers(raised_by(lambda: schema.drop(database), Refused), "customer")
    assert read(database, "SELECT linker_id FROM customer") == [(first,)]
    run(database, "DROP TABLE customer")
    assert set(OURS) <= set(schema.drop(database))


def test_a_hosts_view_is_not_broken(postgres_url: str) -> None:
    """PostgreSQL knows what a view stands upon."""
    database = Database(postgres_url)
    before_0006.make(database)
    run(database, "CREATE VIEW customers AS SELECT id, owner FROM connection")
    assert_refers(raised_by(lambda: schema.upgrade(database), Refused), "customers")
    run(database, "DROP VIEW customers")
    schema.upgrade(database)
    run(database, "CREATE VIEW customers AS SELECT id, owner FROM linker_connection")
    assert_refers(raised_by(lambda: schema.drop(database), Refused), "customers")
    database.close()


def assert_refers(error: Refused, name: str) -> None:
    """What refers to us is named, and what can be done."""
    assert (error.reason, error.params) == ("referenced", {"by": [name]})
    assert name in str(error)


def run(database: Database, statement: str) -> None:
    """Do something to a database by hand."""
    database.write_here(lambda connection: connection.exec_driver_sql(statement))


@pytest.mark.parametrize("table", ["connection", "step", "outbox"])
def test_columns_that_a_host_added_are_not_lost(database: Database, table: str) -> None:
    """They have no place in the new tables, so the upgrade names them and changes nothing."""
    run(database, f"ALTER TABLE {table} ADD COLUMN crm_id TEXT")
    error = raised_by(lambda: schema.upgrade(database), Refused)
    assert (error.reason, error.params) == ("unknown_columns", {"table": table, "columns": ["crm_id"]})
    assert "linker_connection" not in database.read_here(tables)


@pytest.mark.parametrize(
    "table",
    [
        "ration (name TEXT, spread_until REAL, food TEXT)",
        "link (connection_id TEXT, token_hash TEXT, scope TEXT, mine TEXT)",
    ],
)
def test_hosts_tables_of_the_same_name_stay(database: Database, table: str) -> None:
    """A few columns of ours do not make it ours."""
    name = table.partition(" ")[0]
    run(database, f"DROP TABLE {name}")
    run(database, f"CREATE TABLE {table}")
    schema.upgrade(database)
    assert name in database.read_here(tables)


@pytest.mark.parametrize("end", ["'soon'", "x'ff41'", "'2099-01-01 00:00:00+00:00'"])
def test_a_lease_that_no_program_can_hold_is_over(sqlite_url: str, end: str) -> None:
    """A damaged one, and one of a clock that was wrong by years."""
    database = Database(sqlite_url)
    before_0006.make(database)
    run(database, f"UPDATE connection SET lease_holder = 'w', lease_until = {end}")  # noqa: S608 - made here
    assert schema.upgrade(database) == (HEAD, HEAD)
    database.close()


def test_a_damaged_sentence_is_kept_as_far_as_it_can_be_read(sqlite_url: str) -> None:
    """Bytes that are no text stop no upgrade."""
    database = Database(sqlite_url)
    before_0006.make(database)
    run(database, "UPDATE connection SET problem_detail = x'ff41' WHERE problem_code IS NOT NULL")
    schema.upgrade(database)
    kept = read(database, "SELECT DISTINCT problem_params FROM linker_connection WHERE problem_code IS NOT NULL")
    assert [json.loads(one) for (one,) in kept] == [{"said": "\ufffdA"}]
    database.close()


def test_a_host_that_brings_its_alembic_later_takes_the_word_away(database: Database) -> None:
    """The way that the page on databases tells: the version table is the host's from then on."""
    schema.upgrade(database)
    run(database, "DELETE FROM alembic_version")
    run(database, "INSERT INTO alembic_version VALUES ('0001_users')")
    assert schema.upgrade(database) == (HEAD, HEAD)
    assert "alembic_version" not in schema.drop(database)


def test_dropping_one_schema_leaves_the_tables_of_another(postgres_url: str) -> None:
    """Also if those are tables of before, or say that they moved."""
    for_tenant, before = Database(postgres_url, "tenant"), Database(postgres_url)
    schema.upgrade(for_tenant)
    before_0006.make(before)
    there = before.read_here(tables)
    assert sorted(schema.drop(for_tenant)) == OURS
    assert before.read_here(tables) == there
    schema.upgrade(before)
    schema.upgrade(for_tenant)
    assert sorted(schema.drop(for_tenant)) == OURS
    assert read(before, "SELECT version_num FROM alembic_version") == [("moved",)]
    for_tenant.close()
    before.close()
