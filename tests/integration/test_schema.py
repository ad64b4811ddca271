"""The schema: what the revisions make is what the program means, and nothing of a host's is touched."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from pydantic import SecretStr
from sqlmodel import SQLModel

import linker
from linker import Linker, Settings, new_key
from linker.database.database import Database
from linker.errors import BadSettings, OurFault, SchemaMismatch
from linker.persistence import schema
from linker.persistence.migrations import HEAD
from linker.persistence.tables import Table
from linker.testing import ScriptedWorkable
from tests.integration.storehouse import House, assert_fit_for_people, kept, raised_by

ROOT = Path(linker.__file__).parent.parent
OURS = sorted(Table.metadata.tables)
PINNED = Path(__file__).parent / "schema"
#: What a host may have in its database, with names and numbers that could be ours.
HOSTS_OWN = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
    "INSERT INTO alembic_version VALUES ('0005')",
    "CREATE TABLE connection (id INTEGER PRIMARY KEY, peer TEXT)",
    "INSERT INTO connection VALUES (1, 'router')",
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY, letter TEXT)",
    "CREATE INDEX connection_due ON connection (peer)",
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of each engine."""
    opened = Database(database_url)
    yield opened
    opened.close()


def tables(connection: sa.Connection) -> list[str]:
    """The names of all tables."""
    return sorted(sa.inspect(connection).get_table_names())


def everything(connection: sa.Connection) -> dict[str, Any]:
    """All that the engine knows of our tables, with the texts of checks and conditions."""
    inspector = sa.inspect(connection)
    return {
        name: {
            "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
            "key": inspector.get_pk_constraint(name)["constrained_columns"],
            "checks": sorted((str(check["name"]), check["sqltext"]) for check in inspector.get_check_constraints(name)),
            "indexes": sorted(
                (str(index["name"]), index["column_names"], index["unique"], _conditions(index))
                for index in inspector.get_indexes(name)
            ),
            "uniques": sorted(unique["column_names"] for unique in inspector.get_unique_constraints(name)),
            "foreign": [
                (key["constrained_columns"], key["referred_table"], key["referred_columns"], key["options"])
                for key in inspector.get_foreign_keys(name)
            ],
        }
        for name in tables(connection)
        if name.startswith("linker_")
    }


def _conditions(index: Any) -> list[str]:
    """The condition of a partial index."""
    return sorted(str(value) for key, value in index.get("dialect_options", {}).items() if key.endswith("_where"))


# ── the revisions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_revisions_make_what_the_rows_say(database: Database) -> None:
    """Alembic finds nothing to add to a database that went through all revisions."""
    schema.upgrade(database)

    def compare(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Table.metadata))

    assert database.read_here(compare) == []


def test_the_revisions_make_the_same_as_the_rows_to_the_letter(database: Database) -> None:
    """Columns, indexes with their conditions, keys: both ways to a schema come to the same."""
    schema.upgrade(database)
    by_revisions = database.read_here(everything)
    schema.drop(database)
    database.write_here(Table.metadata.create_all)
    by_rows = database.read_here(everything)
    assert by_revisions == by_rows
    assert sorted(by_rows) == OURS
    due = ("linker_connection_due", ["due_at"])
    assert due in [index[:2] for index in by_rows["linker_connection"]["indexes"]]


def test_every_name_is_one_of_ours(database: Database) -> None:
    """Tables, indexes, constraints and sequences: nothing has a name that a host may have."""
    schema.upgrade(database)
    names = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_linker%'",
        "postgresql": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL "
        "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    }
    query = sa.text(names["sqlite" if database.is_sqlite else "postgresql"])
    found = database.read_here(lambda connection: list(connection.execute(query).scalars()))
    assert len(found) > 20
    assert [name for name in found if not name.startswith("linker_")] == []


def test_an_upgrade_that_fails_half_way_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade is one transaction: after a failure in its middle the database is as empty as before."""
    make = Operations.create_table

    def fail(op: Operations, name: str, *parts: Any) -> Any:
        if name == "linker_outbox":
            raise sa.exc.OperationalError("CREATE TABLE", {}, sqlite3.OperationalError("disk is full"))
        return make(op, name, *parts)

    monkeypatch.setattr(Operations, "create_table", fail)
    with pytest.raises(linker.StoreUnavailable):
        schema.upgrade(database)
    assert database.read_here(tables) == []
    monkeypatch.undo()
    assert schema.upgrade(database) == (HEAD, HEAD)


def test_our_tables_are_not_among_the_hosts() -> None:
    """A host that makes all its SQLModel tables does not make ours."""
    assert not set(Table.metadata.tables) & set(SQLModel.metadata.tables)


# ── what is persisted ─────────────────────────────────────────────────────────────────────────────────────────────────

#: What each engine says of itself: columns, constraints and indexes, each as one line behind its table.
SAID_BY_SQLITE = (
    """SELECT t.name, 'column ' || c.name || ' ' || c.type || iif(c."notnull", ' NOT NULL', '')
    || coalesce(' DEFAULT ' || c.dflt_value, '') || iif(c.pk, ' KEY ' || c.pk, '') || iif(c.hidden, ' GENERATED', '')
    FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'""",
    """SELECT t.name, 'foreign key ' || f."from" || ' -> ' || f."table" || '.' || f."to" || ' ' || f.on_delete
    FROM sqlite_master t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'""",
    """SELECT t.name, iif(i."unique", 'unique ', '') || iif(i.origin = 'c', 'index ' || i.name, 'constraint') || ' ('
    || (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) || ')'
    || iif(i.partial, substr(m.sql, instr(m.sql, ' WHERE ')), '')
    FROM sqlite_master t, pragma_index_list(t.name) i LEFT JOIN sqlite_master m ON m.name = i.name
    WHERE t.type = 'table'""",
    """SELECT name, iif(type = 'table', 'check', type) FROM sqlite_master
    WHERE instr(sql, 'CHECK') OR type NOT IN ('table', 'index')""",
)
SAID_BY_POSTGRESQL = (
    """SELECT c.relname, 'column ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || CASE WHEN a.attgenerated <> '' THEN ' GENERATED' ELSE '' END
    || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace""",
    """SELECT c.relname, 'constraint ' || o.conname || ' ' || pg_get_constraintdef(o.oid)
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    WHERE o.contype <> 'n' AND c.relnamespace = 'public'::regnamespace""",
    """SELECT tablename, replace(indexdef, ' ON public.', ' ON ') FROM pg_indexes
    WHERE schemaname = 'public'""",
)


def persisted(database: Database) -> list[str]:
    """All that is persisted, as the engine tells it: a line for each column, constraint and index."""
    queries = SAID_BY_SQLITE if database.is_sqlite else SAID_BY_POSTGRESQL

    def work(connection: sa.Connection) -> list[str]:
        found = (row for query in queries for row in connection.execute(sa.text(query)))
        return sorted(" ".join(f"{table}: {told}".split()) for table, told in found)

    return database.read_here(work)


def test_what_is_persisted_changes_only_on_purpose(database: Database) -> None:
    """The tables of each revision are pinned in a file. A later revision has a file of its own, and only adds lines.

    Who changes what is persisted before it is released changes the file too; afterwards it takes a new revision.
    """
    schema.upgrade(database)
    engine = "sqlite" if database.is_sqlite else "postgresql"
    pinned = {file.name[:4]: file.read_text().splitlines() for file in sorted(PINNED.glob(f"*.{engine}.txt"))}
    assert persisted(database) == pinned[HEAD]
    for earlier, later in pairwise(pinned):
        assert set(pinned[earlier]) - set(pinned[later]) == set(), f"{later} takes away what {earlier} had"


# ── a guest in a host's database ──────────────────────────────────────────────────────────────────────────────────────


def hosts_own(connection: sa.Connection) -> list[Any]:
    """All that the host has."""
    queries = ("SELECT * FROM alembic_version", "SELECT * FROM connection", "SELECT * FROM outbox")
    return [[tuple(row) for row in connection.execute(sa.text(query))] for query in queries]


def make_hosts_own(connection: sa.Connection) -> None:
    """Make what the host has."""
    for statement in HOSTS_OWN:
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize("order", ["the host first", "we first"])
async def test_a_host_with_tables_of_the_same_names(database: Database, database_url: str, order: str) -> None:
    """Whoever comes first: ours are made beside them, work, and go again, and the host's stay as they are."""
    if order == "the host first":
        database.write_here(make_hosts_own)
    assert schema.upgrade(database) == (HEAD, HEAD)
    if order == "we first":
        database.write_here(make_hosts_own)
    before = database.read_here(hosts_own)
    settings = Settings(database_url=database_url, secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable()) as opened:
        made = await opened.create(owner="customer-1")
        waiting = await opened.submit_token(made.id, subdomain="acme", token=SecretStr("a-token-of-acme"))
        assert waiting.recruiter is not None
    assert database.read_here(hosts_own) == before
    assert sorted(schema.drop(database)) == OURS
    assert database.read_here(hosts_own) == before
    assert database.read_here(tables) == ["alembic_version", "connection", "outbox"]


def test_new_databases_can_be_made_at_once_in_one_process(tmp_path: Path) -> None:
    """A dozen at the same time, in threads: each is whole. Alembic's own switches belong to the whole process."""
    databases = [Database(f"sqlite:///{tmp_path}/{number}.db") for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(schema.upgrade, databases)) == [(HEAD, HEAD)] * 12
    whole = databases[0].read_here(everything)
    assert sorted(whole) == OURS
    for one in databases:
        assert one.read_here(everything) == whole
        one.close()


async def test_several_linkers_open_new_databases_at_once(tmp_path: Path) -> None:
    """In one event loop, as a host with a database for each of its regions does."""
    linkers = [
        Linker(Settings(database_url=f"sqlite:///{tmp_path}/{number}.db", secret_keys=(new_key(),)))
        for number in range(6)
    ]
    await asyncio.gather(*(each.__aenter__() for each in linkers))
    for each in linkers:
        assert (await each.create(owner="customer-1")).version == 1
        await each.__aexit__(None, None, None)


# ── a schema of our own ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_our_tables_can_be_in_a_schema_of_their_own(postgres_url: str) -> None:
    """Two linkers in one database, each with its schema: neither sees the other's, nor leaves anything in `public`."""
    workable = ScriptedWorkable()
    for name in ("tenant_a", "tenant_b"):
        database = Database(postgres_url, name)
        assert schema.upgrade(database) == (HEAD, HEAD)
        schema.check(database)
        database.close()
        settings = Settings(database_url=postgres_url, database_schema=name, secret_keys=(new_key(),))
        async with Linker(settings, workable=workable) as opened:
            made = await opened.create(owner=name, key="the only one")
            assert (await opened.create(owner=name, key="the only one")).id == made.id
            waiting = await opened.submit_token(made.id, subdomain=f"acme-{name[-1]}", token=SecretStr("a-token-of-it"))
            assert waiting.recruiter is not None
            workable.add_recruiter(waiting.recruiter.email)
            assert (await opened.confirm_recruiter(made.id)).state == "linked"
            assert [found.owner for found in await opened.find()] == [name]
            assert (await opened.attend_due()).claimed == 0
            assert [step.seq for step in await opened.history(made.id)] == [1, 2, 3, 4, 5]
    plain = Database(postgres_url)
    assert plain.read_here(tables) == []
    assert plain.read_here(schema.current) is None
    in_b = Database(postgres_url, "tenant_b")
    assert sorted(schema.drop(in_b)) == OURS
    in_a = Database(postgres_url, "tenant_a")
    assert in_a.read_here(schema.current) == (HEAD, HEAD)
    for database in (plain, in_a, in_b):
        database.close()


@pytest.mark.parametrize("name", ["Tenant", "a-b", 'a"; DROP', "", "1a", "a" * 64])
def test_a_schema_has_a_plain_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would have to be quoted is refused, by the setting's name."""
    with pytest.raises(BadSettings) as refused:
        linker.load_settings(database_schema=name)
    assert (refused.value.field, refused.value.reason) == ("database_schema", "not_a_schema")


@pytest.mark.parametrize("name", ["pg_linker", "pg_catalog", "information_schema"])
def test_a_schema_of_postgresqls_own_is_refused(name: str) -> None:
    """It takes no tables of others, or should have none."""
    with pytest.raises(BadSettings) as refused:
        linker.load_settings(database_schema=name)
    assert (refused.value.field, refused.value.reason) == ("database_schema", "reserved_schema")


def test_sqlite_has_no_schemas() -> None:
    """Whoever names one there is told so."""
    with pytest.raises(BadSettings) as refused:
        Database("sqlite://", "tenant_a")
    assert (refused.value.field, refused.value.reason) == ("database_schema", "no_schemas")


# ── the first start ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_sqlite_is_made_by_itself(sqlite_url: str) -> None:
    """A file that does not exist yet is made and brought up, with a write-ahead log; the next start finds it ready."""
    for _ in range(2):
        database = Database(sqlite_url)
        schema.check(database)
        assert database.read_here(tables) == OURS
        [(mode,)] = database.read_here(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").all())
        assert mode == "wal"
        database.close()


def test_an_empty_postgresql_is_refused_and_upgraded_on_demand(postgres_url: str) -> None:
    """PostgreSQL is left alone until `linker db upgrade`, which the refusal names."""
    database = Database(postgres_url)
    error = raised_by(lambda: schema.check(database), SchemaMismatch)
    assert_fit_for_people(error, reason="empty", location=database.name)
    assert error.params == {}
    assert database.read_here(tables) == []
    assert schema.upgrade(database) == (HEAD, HEAD)
    schema.check(database)
    database.close()


def test_several_upgrades_at_once_do_no_harm(database_url: str) -> None:
    """Eight that upgrade the same empty database at the same time all succeed, and it is done once."""
    databases = [Database(database_url) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(schema.upgrade, databases)) == [(HEAD, HEAD)] * 8
    assert databases[0].read_here(tables) == OURS
    for database in databases:
        database.close()


def test_eight_processes_open_a_fresh_file_at_once(sqlite_url: str) -> None:
    """All eight find a database that is ready, whoever of them made it."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.integration.child", "together", "8", "open", sqlite_url],
        cwd=ROOT,
        input="go\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert sorted(said.stdout.splitlines()) == ["ended 0"] * 8 + ["opened"] * 8 + ["ready"]


# ── databases that are not of this version ────────────────────────────────────────────────────────────────────────────


def says(database: Database, revision: str, oldest_writer: str) -> None:
    """Let a database say what a newer program would write into it."""
    put = sa.text("UPDATE linker_schema_version SET revision = :revision, oldest_writer = :oldest")
    database.write_here(lambda connection: connection.execute(put, {"revision": revision, "oldest": oldest_writer}))


@pytest.mark.parametrize("action", [schema.check, schema.upgrade])
def test_a_database_beyond_this_program_is_refused_unchanged(database: Database, action: Any) -> None:
    """Neither a start nor an upgrade touches what only newer programs may write; the refusal says which."""
    schema.upgrade(database)
    says(database, "9999", "9000")
    if database.is_sqlite:
        database.disconnect()  # only a connection that is alone may do this
        database.outside_here("PRAGMA journal_mode=DELETE")
        content = Path(str(database.url.database)).read_bytes()
    error = raised_by(lambda: action(database), SchemaMismatch)
    assert_fit_for_people(error, reason="newer", location=database.name)
    assert error.params == {"found": "9999", "oldest": "9000", "known": HEAD}
    assert database.read_here(schema.current) == ("9999", "9000")
    if database.is_sqlite:
        assert Path(str(database.url.database)).read_bytes() == content


def test_tables_without_their_version_are_told_and_can_be_dropped(database: Database) -> None:
    """A row that was deleted by hand: nothing is made anew over what is there."""
    schema.upgrade(database)
    database.write_here(lambda connection: connection.exec_driver_sql("DELETE FROM linker_schema_version"))
    for action in (schema.check, schema.check_unchanged, schema.upgrade):
        error = raised_by(lambda: action(database), SchemaMismatch)  # noqa: B023 - called at once
        assert_fit_for_people(error, reason="incomplete", location=database.name)
    assert sorted(schema.drop(database)) == OURS


async def test_an_open_linker_notices_that_its_tables_are_beyond_it(database: Database, database_url: str) -> None:
    """Before it writes, and at least every half minute; and it makes no tables where some were taken away."""
    schema.upgrade(database)
    async with Linker(
        Settings(database_url=database_url, secret_keys=(new_key(),)), workable=ScriptedWorkable()
    ) as linker:
        await linker.check_schema()
        says(database, "9999", "9000")
        with pytest.raises(SchemaMismatch) as caught:
            await linker.check_schema()
        assert caught.value.reason == "newer"
        schema.drop(database)
        with pytest.raises(SchemaMismatch) as caught:
            await linker.check_schema()
        assert caught.value.reason == "empty"
        assert database.read_here(tables) == []


async def test_a_schema_that_an_administrator_made_is_enough(postgres_url: str) -> None:
    """Who upgrades needs no right on the whole database; who works needs no right to make tables."""

    def run(database: Database, *statements: str) -> None:
        for statement in statements:
            database.write_here(lambda connection: connection.exec_driver_sql(statement))  # noqa: B023 - called at once

    upgrader, worker = (f"{name}_{secrets.token_hex(4)}" for name in ("upgrader", "worker"))
    administrator = Database(postgres_url)
    run(
        administrator,
        f"CREATE ROLE {upgrader} LOGIN PASSWORD 'a'",
        f"CREATE ROLE {worker} LOGIN PASSWORD 'b'",
        "CREATE SCHEMA ours",
        f"GRANT ALL ON SCHEMA ours TO {upgrader}",
        f"GRANT USAGE ON SCHEMA ours TO {worker}",
    )

    def url_of(role: str, password: str) -> str:
        return sa.make_url(postgres_url).set(username=role, password=password).render_as_string(hide_password=False)

    as_upgrader = Database(url_of(upgrader, "a"), "ours")
    assert schema.upgrade(as_upgrader) == (HEAD, HEAD)
    run(
        as_upgrader,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ours TO {worker}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA ours TO {worker}",
    )
    settings = Settings(database_url=url_of(worker, "b"), database_schema="ours", secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        made = await linker.create(owner="customer-1")
        assert (await linker.unlink(made.id)).closed_at is not None
        assert (await linker.attend_due()).claimed == 0
        await linker.deliver()
        await linker.prune()
    assert sorted(schema.drop(as_upgrader)) == OURS
    as_upgrader.close()
    run(
        administrator,
        "DROP SCHEMA ours",
        f"DROP OWNED BY {upgrader}, {worker}",
        f"DROP ROLE {upgrader}",
        f"DROP ROLE {worker}",
    )
    administrator.close()


@pytest.mark.parametrize("oldest_writer", ["0001", HEAD])
def test_a_newer_database_that_this_program_may_write_is_taken_as_it_is(database: Database, oldest_writer: str) -> None:
    """Revisions only add: while one version replaces the other, both work."""
    schema.upgrade(database)
    says(database, "9999", oldest_writer)
    schema.check(database)
    assert schema.upgrade(database) == ("9999", oldest_writer)
    assert schema.compared(database)["state"] == "head"


@pytest.mark.parametrize("state", ["hibernating", "aaa", "zzz", "Linked"])
async def test_a_state_that_the_law_does_not_know_is_refused_at_start(shared_house: House, state: str) -> None:
    """Start-up names the unknown state and goes no further; the row is left as it is."""
    await kept(shared_house)
    planted = await kept(shared_house)
    await shared_house.sql("UPDATE linker_connection SET state = :state WHERE id = :id", state=state, id=planted.id)
    error = raised_by(lambda: schema.check(shared_house.database), SchemaMismatch)
    assert_fit_for_people(error, reason="unknown_state", location=shared_house.database.name)
    assert error.params == {"states": [state]}
    left = await shared_house.sql("SELECT state FROM linker_connection WHERE id = :id", id=planted.id)
    assert left == [(state,)]


async def test_what_belongs_to_a_connection_goes_with_it(house: House) -> None:
    """Nothing is left of an erased connection, and nothing can be told of one that does not exist."""
    connection = await kept(house)
    await house.sql("DELETE FROM linker_connection WHERE id = :id", id=connection.id)
    assert await house.sql("SELECT count(*) FROM linker_step") == [(0,)]
    with pytest.raises(OurFault) as refused:
        await house.sql(
            "INSERT INTO linker_step (connection_id, seq, event, target, at, actor, evidence) "
            "VALUES ('con_nobody', 1, 'e', 'linked', CURRENT_TIMESTAMP, 'a', '{}')"
        )
    assert "foreign key" in refused.value.params["driver"].lower()


# ── the package ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_wheel_brings_the_revisions(tmp_path: Path) -> None:
    """A database is made with nothing but what is in the wheel."""
    project = tmp_path / "project"
    for folder in ("linker", "states"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / file, project / file)
    (project / "README.md").write_text("What it says does not matter here.")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {
        "linker/persistence/migrations/revision_0006.py",
        "linker/schemas/connection.json",
        "linker/wording/en.toml",
        "linker/py.typed",
    } <= names
    program = (
        "import linker.database.database, linker.persistence.schema as schema\n"
        f"database = linker.database.database.Database('sqlite:///{tmp_path / 'made.db'}')\n"
        "schema.check(database)\ndatabase.close()\nprint(linker.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "installed",
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == str(tmp_path / "installed" / "linker" / "__init__.py")
    with sqlite3.connect(tmp_path / "made.db") as made:
        assert made.execute("SELECT revision FROM linker_schema_version").fetchall() == [(HEAD,)]
    made.close()
