"""The engine of SQLite: how it is opened, and how a transaction on it begins."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL

from linker.database.column_types import as_json
from linker.database.urls import is_path, refuse_unknown_parameters
from linker.errors import BadSettings

#: From how many written pages on SQLite puts them into the file: 16 MiB. A page is often written again soon, when what
#: was claimed is settled, and then has to be put there once only; and many rows are scattered over many pages.
CHECKPOINT_PAGES = 4_000
#: The parameters of the URL that Python's driver takes.
PARAMETERS = ("timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements")


@dataclass(frozen=True, slots=True)
class Access:
    """How a transaction on SQLite begins, and whether its commit waits for the disk. PostgreSQL has one way only."""

    begin: str
    #: None: nothing is written.
    synchronous: str | None


#: Takes no lock.
READING = Access("BEGIN", None)
#: Takes the lock at once, and survives a power cut.
WRITING = Access("BEGIN IMMEDIATE", "FULL")
#: Takes the lock at once, and may be undone by a power cut.
WRITING_WITHOUT_FSYNC = Access("BEGIN IMMEDIATE", "NORMAL")


def sqlite(url: URL, wait_seconds: float) -> Engine:
    """The engine of SQLite. `wait_seconds`: how long to wait for somebody else's lock, in seconds.

    To a file it opens each connection anew: who keeps them is `linker.database.sqlite_connections`.
    """
    if "uri" not in url.query:  # SQLite's own URIs may have any
        refuse_unknown_parameters(url, PARAMETERS)
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=as_json,
        connect_args={"timeout": wait_seconds},
        poolclass=NullPool if is_path(url) else None,
    )

    try:
        engine.dialect.create_connect_args(url)
        is_sound = True
    except ValueError:
        is_sound = False
    if not is_sound:
        raise BadSettings("database_url", "parameter_unreadable")

    if is_path(url):

        @event.listens_for(engine, "do_connect")
        def make(*_: object) -> None:
            """Before SQLite makes the file, with the modes that the process is set to; those of its journal follow."""
            with suppress(OSError):  # it is there, or its folder is not: SQLite says so
                os.close(os.open(str(url.database), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        raw.text_factory = _text
        raw.execute("PRAGMA foreign_keys=ON").close()
        raw.execute("PRAGMA secure_delete=ON").close()  # what is wiped is gone from the file
        raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}").close()

    return engine


def _text(stored: bytes) -> str:
    """A text of the file. A byte of it that is no UTF-8 comes out as half a character, for who reads rows to refuse.

    By itself the driver gives no row of a result in which one text is damaged.
    """
    return stored.decode(errors="surrogateescape")


def begin(connection: Connection, access: Access) -> None:
    """Begin what SQLAlchemy thinks has begun: its driver would wait for the first statement that writes."""
    pooled = connection.connection
    raw: Any = pooled.driver_connection
    if access.synchronous not in {None, pooled.info.get("synchronous")}:
        raw.execute(f"PRAGMA synchronous={access.synchronous}").close()
        pooled.info["synchronous"] = access.synchronous
    raw.execute(access.begin).close()
