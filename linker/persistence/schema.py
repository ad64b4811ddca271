"""The schema's revision: what the database has, what this program needs, and how it gets there."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from linker.database.database import SQLITE_PATIENCE_SECONDS, Database
from linker.database.errors import HELD
from linker.database.urls import file_of, redacted
from linker.errors import SchemaMismatch, StoreUnavailable
from linker.persistence.migrations import HEAD
from states.connection import ConnectionState

#: How a database's revision stands to what this program needs, and what to do.
MEANINGS = {
    "empty": "it is empty; `linker db upgrade` makes the tables (on SQLite the first use does)",
    "head": "it is what this program needs",
    "behind": "it is older than this program; take a backup, stop the workers, then run `linker db upgrade`",
    "newer": "it was made by a newer version of this program; install that version again",
}


def configuration() -> Config:
    """Alembic's configuration for the revisions that are shipped with the library."""
    config = Config()
    config.set_main_option("script_location", str(files("linker.persistence.migrations")))
    return config


# what there is


def current(connection: Connection) -> str | None:
    """The revision of a database; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def revision(database: Database) -> str | None:
    """The revision; None if the database is empty. An SQLite file that does not exist is not made."""
    file = file_of(database.url)
    return None if file is not None and not file.exists() else database.read_here(current)


def compared(database: Database) -> dict[str, Any]:
    """The revision, what this program needs, and how they stand: `empty`, `head`, `behind` or `newer`."""
    found = revision(database)
    older = "newer" if _is_unknown(found) else "behind"
    state = "empty" if found is None else "head" if found == HEAD else older
    return {"revision": found, "head": HEAD, "state": state, "database": database.name}


def _is_unknown(found: str | None) -> bool:
    """True for the revision of a newer version of this program."""
    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    return found is not None and found not in known


def check(database: Database) -> None:
    """Refuse a database that this program cannot work with; a SQLite database is made and upgraded by itself.

    Raises:
        SchemaMismatch: it is empty, older or newer, or holds a state that the law does not know.
    """
    found = database.read_here(current)
    if found != HEAD and database.is_sqlite:
        found = upgrade(database)
    if found != HEAD:
        _refuse_newer(found, database.name)
        has = f"has revision {found}" if found else "is empty"
        raise SchemaMismatch(f"{database.name} {has}, this program needs {HEAD}: run `linker db upgrade`.")
    unknown = set(database.read_here(states_held)) - {state.value for state in ConnectionState}
    if unknown:
        raise SchemaMismatch(
            f"{database.name} holds connections in the state {', '.join(sorted(unknown))}, which the law of this "
            "program does not know. Install the version that wrote them; nothing was changed."
        )


def _refuse_newer(found: str | None, name: str) -> None:
    if _is_unknown(found):
        raise SchemaMismatch(
            f"{name} has revision {found}, which this program ({HEAD}) does not know: it was made by a newer version. "
            "Install that version again; nothing was changed."
        )


def states_held(connection: Connection) -> list[str]:
    """The states that occur, found by one step in the index for each: the cost does not grow with the rows."""
    return distinct(connection, "connection", "state")


def distinct(connection: Connection, table: str, column: str) -> list[str]:
    """The values of an indexed text column, smallest first."""
    found: list[str] = []
    following = text(f"SELECT min({column}) FROM {table} WHERE {column} > :last")  # noqa: S608 - our own names
    while (value := connection.execute(following, {"last": found[-1] if found else ""}).scalar()) is not None:
        found.append(value)
    return found


# how it gets there


def upgrade(database: Database) -> str:
    """Bring a database to this program's revision, in one transaction; gives the revision.

    Several processes may do so at once: the others wait, then find nothing left to do.

    Raises:
        SchemaMismatch: the database is newer than this program.
    """

    def work(connection: Connection) -> str:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('workable-linker schema'))"))
        found = current(connection)
        if found != HEAD:
            _refuse_newer(found, redacted(connection.engine.url))
            config = configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return HEAD

    if database.is_sqlite:
        _refuse_newer(database.read_here(current), database.name)
        patience_ends = time.monotonic() + SQLITE_PATIENCE_SECONDS
        while True:  # SQLite does not wait for other processes when it changes this, so we do
            try:
                # readers and the writer work at the same time; kept in the file
                database.outside_here("PRAGMA journal_mode=WAL")
                break
            except StoreUnavailable as error:
                if HELD not in str(error) or time.monotonic() > patience_ends:
                    raise
            time.sleep(0.05)
    return database.write_here(work)
