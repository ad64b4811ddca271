"""The schema: what the revisions make is what the program means, and no other database is touched."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

import linker
from linker.database.database import Database
from linker.errors import OurFault, SchemaMismatch
from linker.persistence import schema
from linker.persistence.migrations import HEAD
from linker.persistence.tables import Table
from tests.integration.storehouse import NOW, House, assert_fit_for_people, kept, raised_by

ROOT = Path(linker.__file__).parent.parent
TABLES = ["alembic_version", "connection", "link", "outbox", "ration", "step"]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of each engine."""
    opened = Database(database_url)
    yield opened
    opened.close()


def alembic(database: Database, run: Any, to: str) -> None:
    """Run a command of Alembic's in one transaction."""

    def work(connection: sa.Connection) -> None:
        config = schema.configuration()
        config.attributes["connection"] = connection
        run(config, to)

    database.write_here(work)


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
        if name != "alembic_version"
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
    """Columns, checks, indexes with their conditions, keys: both ways to a schema come to the same."""
    schema.upgrade(database)
    by_revisions = database.read_here(everything)
    alembic(database, command.downgrade, "base")
    database.write_here(Table.metadata.create_all)
    by_rows = database.read_here(everything)
    assert by_revisions == by_rows
    assert len(by_rows["connection"]["checks"]) == 4
    assert ("connection_due", ["due_at"]) in [index[:2] for index in by_rows["connection"]["indexes"]]


def test_a_downgrade_and_an_upgrade_come_back_to_the_same(database: Database) -> None:
    """What goes down leaves nothing, and what comes up again is what it was."""
    schema.upgrade(database)
    before = database.read_here(everything)
    alembic(database, command.downgrade, "base")
    assert database.read_here(tables) == ["alembic_version"]
    assert schema.upgrade(database) == HEAD
    assert database.read_here(everything) == before


def test_head_is_the_newest_revision() -> None:
    """The program's own number for its schema is that of the last script, and there is one last script only."""
    assert ScriptDirectory.from_config(schema.configuration()).get_heads() == [HEAD]


def test_an_upgrade_that_fails_half_way_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision is one transaction: after a failure in its middle the database is as empty as before."""
    make = op.create_table

    def fail(name: str, *parts: Any) -> Any:
        if name == "outbox":
            raise sa.exc.OperationalError("CREATE TABLE outbox", {}, sqlite3.OperationalError("disk is full"))
        return make(name, *parts)

    monkeypatch.setattr(op, "create_table", fail)
    with pytest.raises(linker.StoreUnavailable):
        schema.upgrade(database)
    assert database.read_here(tables) == []
    monkeypatch.undo()
    assert schema.upgrade(database) == HEAD


def test_our_tables_are_not_among_the_hosts() -> None:
    """A host that makes all its SQLModel tables does not make ours."""
    assert not set(Table.metadata.tables) & set(SQLModel.metadata.tables)


def test_alembic_can_be_run_by_hand(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alembic -c config/alembic.ini upgrade head` brings the database of LINKER_DATABASE_URL up."""
    monkeypatch.setenv("LINKER_DATABASE_URL", database_url)
    command.upgrade(Config(str(ROOT / "config" / "alembic.ini")), "head")
    database = Database(database_url)
    assert database.read_here(schema.current) == HEAD
    database.close()


def test_what_was_told_before_there_were_webhooks_is_not_posted(database: Database) -> None:
    """0003 leaves every row as it was; an old announcement still waits for handlers, and is none of the webhook's."""
    schema.upgrade(database)
    alembic(database, command.downgrade, "0001")
    rows = (
        "INSERT INTO connection (id, owner, metadata, state, state_since, attempts, checks, created_at, updated_at, "
        "version, last_seq, law) VALUES ('con_1', 'o', '{}', 'linked', :at, 0, 0, :at, :at, 3, 1, 'l')",
        "INSERT INTO outbox (message_id, connection_id, seq, type, payload, created_at, due_at, attempts, "
        "delivered_to) VALUES ('msg_1', 'con_1', 1, 'connection.linked', '{}', :at, :at, 2, '[]')",
    )
    at: sa.BindParameter[Any] = sa.bindparam("at", "2026-03-01 12:00:00.000000" if database.is_sqlite else NOW)
    for row in rows:
        database.write_here(lambda connection, row=row: connection.execute(sa.text(row).bindparams(at)))  # type: ignore[misc]
    assert schema.upgrade(database) == HEAD
    query = sa.text("SELECT due_at IS NULL, attempts, hook_due_at IS NULL, hook_attempts FROM outbox")
    [found] = database.read_here(lambda connection: connection.execute(query).all())
    assert tuple(found) == (False, 2, True, 0)
    query = sa.text("SELECT version, expiry_told FROM connection")
    [found] = database.read_here(lambda connection: connection.execute(query).all())
    assert tuple(found) == (3, None)


# ── the first start ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_sqlite_is_made_by_itself(sqlite_url: str) -> None:
    """A file that does not exist yet is made and brought up, with a write-ahead log; the next start finds it ready."""
    for _ in range(2):
        database = Database(sqlite_url)
        schema.check(database)
        assert database.read_here(tables) == TABLES
        [(mode,)] = database.read_here(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").all())
        assert mode == "wal"
        database.close()


def test_an_empty_postgresql_is_refused_and_upgraded_on_demand(postgres_url: str) -> None:
    """PostgreSQL is left alone until `linker db upgrade`, which the refusal names."""
    database = Database(postgres_url)
    error = raised_by(lambda: schema.check(database), SchemaMismatch)
    assert_fit_for_people(error, names=database.name)
    assert "`linker db upgrade`" in str(error)
    assert database.read_here(tables) == []
    assert schema.upgrade(database) == HEAD
    schema.check(database)
    database.close()


def test_several_upgrades_at_once_do_no_harm(database_url: str) -> None:
    """Eight that upgrade the same empty database at the same time all succeed, and it is done once."""
    databases = [Database(database_url) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(schema.upgrade, databases)) == [HEAD] * 8
    assert databases[0].read_here(tables) == TABLES
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


@pytest.mark.parametrize("action", [schema.check, schema.upgrade])
def test_a_database_from_a_newer_version_is_refused_unchanged(database: Database, action: Any) -> None:
    """Neither a start nor an upgrade touches what a newer version made; the refusal names it and the way out."""
    schema.upgrade(database)
    newer = "UPDATE alembic_version SET version_num = '9999'"
    database.write_here(lambda connection: connection.exec_driver_sql(newer))
    if database.is_sqlite:
        database.disconnect()  # only a connection that is alone may do this
        database.outside_here("PRAGMA journal_mode=DELETE")
        content = Path(str(database.url.database)).read_bytes()
    error = raised_by(lambda: action(database), SchemaMismatch)
    assert_fit_for_people(error, names=database.name)
    assert "9999" in str(error)
    assert "Install that version" in str(error)
    assert database.read_here(schema.current) == "9999"
    if database.is_sqlite:
        assert Path(str(database.url.database)).read_bytes() == content


def drop_state_check(house: House) -> None:
    """Take the CHECK away, as a newer version with more states would."""

    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE connection DROP CONSTRAINT state_known")

    house.database.write_here(work)


@pytest.mark.parametrize("state", ["hibernating", "aaa", "zzz", "Linked"])
async def test_a_state_that_the_law_does_not_know_is_refused_at_start(shared_house: House, state: str) -> None:
    """Start-up names the unknown state and goes no further; the row is left as it is."""
    await kept(shared_house)
    planted = await kept(shared_house)
    if shared_house.database.is_sqlite:
        plant_unchecked(shared_house, planted.id, state)
    else:
        drop_state_check(shared_house)
        await shared_house.sql("UPDATE connection SET state = :state WHERE id = :id", state=state, id=planted.id)
    try:
        error = raised_by(lambda: schema.check(shared_house.database), SchemaMismatch)
        assert_fit_for_people(error, names=shared_house.database.name)
        assert state in str(error)
        assert await shared_house.sql("SELECT state FROM connection WHERE id = :id", id=planted.id) == [(state,)]
    finally:
        if not shared_house.database.is_sqlite:
            await shared_house.sql("DELETE FROM connection")
            known = ", ".join(f"'{value.value}'" for value in linker.ConnectionState)
            await shared_house.sql(f"ALTER TABLE connection ADD CONSTRAINT state_known CHECK (state IN ({known}))")


def plant_unchecked(house: House, connection_id: str, state: str) -> None:
    """Write a state past the CHECK."""

    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        connection.execute(
            sa.text("UPDATE connection SET state = :state WHERE id = :id"), {"state": state, "id": connection_id}
        )
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=OFF")

    house.database.write_here(work)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE connection SET state = 'hibernating'",
        "UPDATE connection SET problem_code = 'bad_luck'",
        "UPDATE connection SET replacement_problem_code = 'bad_luck'",
        "UPDATE connection SET doubt_code = 'bad_luck'",
        "UPDATE step SET target = 'hibernating'",
        "UPDATE step SET source = 'hibernating'",
        "UPDATE step SET problem = 'bad_luck'",
    ],
)
async def test_the_database_refuses_texts_that_the_law_does_not_know(house: House, statement: str) -> None:
    """Each text column of the law has a CHECK that works."""
    before = await kept(house)
    with pytest.raises(OurFault, match=re.compile("check", re.IGNORECASE)):
        await house.sql(statement)
    assert await house.store.get(before.id) == before


async def test_what_belongs_to_a_connection_goes_with_it(house: House) -> None:
    """Nothing is left of an erased connection, and nothing can be told of one that does not exist."""
    connection = await kept(house)
    await house.sql("DELETE FROM connection WHERE id = :id", id=connection.id)
    assert await house.sql("SELECT count(*) FROM step") == [(0,)]
    with pytest.raises(OurFault, match=re.compile("foreign key", re.IGNORECASE)):
        await house.sql(
            "INSERT INTO step (connection_id, seq, event, target, at, actor, evidence) "
            "VALUES ('con_nobody', 1, 'e', 'linked', CURRENT_TIMESTAMP, 'a', '{}')"
        )


# ── the package ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_wheel_brings_the_revisions(tmp_path: Path) -> None:
    """A database is made with nothing but what is in the wheel."""
    pytest.importorskip("hatchling", reason="hatchling is one of the requirements for development")
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
        "linker/persistence/migrations/env.py",
        "linker/persistence/migrations/versions/0001_first.py",
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
        assert made.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    made.close()
