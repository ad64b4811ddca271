"""The schema's revision: what the database has, what this program needs, and how it gets there.

`linker_schema_version` holds the revision of the tables and the oldest program that may write them. A program works
with a database whose span, from the oldest writer to the revision, its own number lies in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, func, inspect, select, text
from sqlalchemy import Table as SqlTable

from linker.database.database import SQLITE_PATIENCE_SECONDS, Database
from linker.database.errors import is_lock
from linker.database.urls import file_of
from linker.errors import SchemaMismatch, StoreUnavailable
from linker.persistence.migrations import HEAD, before_0006
from linker.persistence.references import refuse_references
from linker.persistence.tables import CONNECTION, SCHEMA_VERSION, Table
from states.connection import ConnectionState


class Version(NamedTuple):
    """What a database says of its tables."""

    revision: str
    oldest_writer: str

    @property
    def fits(self) -> bool:
        """True if this program may work with it."""
        return self.oldest_writer <= HEAD <= self.revision


#: How a database's revision stands to what this program needs.
EMPTY, FITS, BEHIND, NEWER = "empty", "head", "behind", "newer"


# what there is


def current(connection: Connection) -> Version | None:
    """The version of a database; None if it holds no tables of ours.

    Raises:
        SchemaMismatch: it holds some of our tables, and does not say which version they are of.
    """
    if has_table(connection, SCHEMA_VERSION):
        told = connection.execute(select(SCHEMA_VERSION.c.revision, SCHEMA_VERSION.c.oldest_writer)).first()
        if told is None:
            raise SchemaMismatch("incomplete")
        return Version(*told)
    if has_table(connection, CONNECTION):
        raise SchemaMismatch("incomplete")
    if before_0006.tables_of_before(connection):
        told_before = before_0006.told_revision(connection) or before_0006.REVISIONS[-1]
        return Version(told_before, told_before)
    return None


def has_table(connection: Connection, table: SqlTable) -> bool:
    """True if a database holds a table of ours."""
    translated = connection.get_execution_options().get("schema_translate_map", {})
    return inspect(connection).has_table(table.name, schema=translated.get(None))


def version(database: Database) -> Version | None:
    """The version; None if there are no tables of ours. An SQLite file that does not exist is not made."""
    file = file_of(database.url)
    return None if file is not None and not file.exists() else database.read_here(current)


def holds_tables(database: Database) -> bool:
    """True if there are tables of ours, whatever they say of their version. An SQLite file is not made for it."""
    try:
        return version(database) is not None
    except SchemaMismatch:
        return True


def compared(database: Database) -> dict[str, Any]:
    """The revision, what this program needs, and how they stand: `empty`, `head`, `behind` or `newer`."""
    found = version(database)
    state = EMPTY if found is None else FITS if found.fits else BEHIND if found.revision < HEAD else NEWER
    return {
        "revision": found.revision if found else None,
        "oldest_writer": found.oldest_writer if found else None,
        "head": HEAD,
        "state": state,
        "database": database.name,
    }


def check(database: Database) -> None:
    """Refuse a database that this program cannot work with; a SQLite database is made and upgraded by itself.

    Raises:
        SchemaMismatch: it is empty, older or newer, or holds a state that the law does not know.
        TryAgain: it is older, and a program of before is still at work.
        Refused: it is one of before, and something of a host's would be lost.
    """
    found = database.read_here(current)
    if database.is_sqlite and (found is None or found.revision < HEAD):
        found = upgrade(database)
    _refuse_what_does_not_fit(database, found)


def check_unchanged(database: Database) -> None:
    """Refuse a database that this program cannot work with, and make nothing: for one that was opened already.

    Raises:
        SchemaMismatch: it is empty, older or newer, or holds a state that the law does not know.
    """
    _refuse_what_does_not_fit(database, database.read_here(current))


def _refuse_what_does_not_fit(database: Database, found: Version | None) -> None:
    if found is None:
        raise SchemaMismatch("empty")
    if found.revision < HEAD:
        raise SchemaMismatch("older", found=found.revision, needed=HEAD)
    _refuse_newer(found)
    unknown = set(database.read_here(states_held)) - {state.value for state in ConnectionState}
    if unknown:
        raise SchemaMismatch("unknown_state", states=sorted(unknown))


def _refuse_newer(found: Version | None) -> None:
    if found is not None and found.oldest_writer > HEAD:
        raise SchemaMismatch("newer", found=found.revision, oldest=found.oldest_writer, known=HEAD)


def states_held(connection: Connection) -> list[str]:
    """The states that occur, found by one step in the index for each: the cost does not grow with the rows."""
    return distinct(connection, CONNECTION.c.state, CONNECTION.c.closed_at.is_(None))


def distinct(connection: Connection, column: Column[str], *conditions: ColumnElement[bool]) -> list[str]:
    """The values of a text column that has an index for these conditions, smallest first."""
    found: list[str] = []
    while True:
        following = select(func.min(column)).where(column > (found[-1] if found else ""), *conditions)
        value = connection.execute(following).scalar()
        if value is None:
            return found
        found.append(value)


# how it gets there


def upgrade(database: Database) -> Version:
    """Bring a database to this program's revision, in one transaction; gives what it is then.

    Several processes may do so at once: the others wait, then find nothing left to do.

    Raises:
        SchemaMismatch: the database is newer than this program.
        TryAgain: a program of before 0006 is still at work.
        Refused: the database is one of before 0006, and something of a host's would be lost.
    """

    def work(connection: Connection) -> Version:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('workable-linker schema'))"))
        found = current(connection)
        _refuse_newer(found)
        if found is not None and found.revision >= HEAD:
            return found
        _apply(connection, found)
        return Version(*connection.execute(select(SCHEMA_VERSION.c.revision, SCHEMA_VERSION.c.oldest_writer)).one())

    if database.is_sqlite:
        _refuse_newer(database.read_here(current))
        # readers and the writer work at the same time; kept in the file
        _when_unlocked(lambda: database.outside_here("PRAGMA journal_mode=WAL"))
    return database.write_here(work)


def _apply(connection: Connection, found: Version | None) -> None:
    """Apply the revisions that are missing. What they need is imported only now: few processes ever do this."""
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    from linker.persistence.migrations import revision_0006  # noqa: PLC0415

    op = Operations(MigrationContext.configure(connection))
    schema = _schema(connection)
    if schema is not None and not inspect(connection).has_schema(schema):
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))  # only whoever may make schemas gets this far
    for revision in (revision_0006,):
        if found is None or found.revision < revision.REVISION:
            revision.upgrade(op)
            connection.execute(SCHEMA_VERSION.delete())
            told = {"revision": revision.REVISION, "oldest_writer": revision.OLDEST_WRITER}
            connection.execute(SCHEMA_VERSION.insert().values(told))


def _schema(connection: Connection) -> str | None:
    found: str | None = connection.get_execution_options().get("schema_translate_map", {}).get(None)
    return found


def _when_unlocked(work: Callable[[], None]) -> None:
    """Do what SQLite does not wait for other processes with, so we do."""
    patience_ends = time.monotonic() + SQLITE_PATIENCE_SECONDS
    while True:
        try:
            return work()
        except StoreUnavailable as error:
            if not is_lock(error) or time.monotonic() > patience_ends:
                raise
        time.sleep(0.05)


def drop(database: Database) -> list[str]:
    """Take our tables away, and nothing else; gives their names.

    Tables of before, and the word that they moved, belong to whoever has no schema of its own.

    Raises:
        Refused: something of a host's refers to one of them. Nothing was changed.
    """

    def work(connection: Connection) -> list[str]:
        there = [table for table in reversed(Table.metadata.sorted_tables) if has_table(connection, table)]
        schema = _schema(connection)
        refuse_references(connection, [table.name for table in there], schema)
        for table in there:
            table.drop(connection)
        gone = [table.name for table in there]
        return gone if schema is not None else gone + before_0006.drop_for_good(connection, with_tables=not there)

    return database.write_here(work)
