"""How SQLite and PostgreSQL are reached: URLs, drivers and their options, and how a transaction begins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError

from linker.errors import BadSettings

#: The engines that we know, with the driver that we reach them by. Hosting companies hand out `postgres://`.
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
#: From how many written pages on SQLite puts them into the file: 16 MiB. A page is often written again soon, when what
#: was claimed is settled, and then has to be put there once only; and many rows are scattered over many pages.
SQLITE_CHECKPOINT = 4_000
#: How many connections to PostgreSQL a process keeps.
POSTGRES_POOL = 8
#: How long reaching PostgreSQL may take, in seconds.
POSTGRES_CONNECT = 10
#: What the URL does not say itself. A server that vanished must not hold a thread for hours: neither while we send (the
#: time is in milliseconds) nor while we wait for its answer (in seconds).
POSTGRES_OPTIONS = {
    "connect_timeout": POSTGRES_CONNECT,
    "client_encoding": "utf8",
    "application_name": "workable-linker",
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
#: The parameter of the URL that says when psycopg prepares statements: a number, or `none`.
PREPARE_THRESHOLD = "prepare_threshold"
#: What PostgreSQL says of a transaction on a server that is not the primary one, or not any more.
READ_ONLY = "25006"


def parse_url(url: str) -> URL:
    """Read a database URL, whichever driver it names: a host may hand over the one that it uses itself.

    Raises:
        BadSettings: it is not a URL of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = "unreadable"
    if backend not in DRIVERS:
        raise BadSettings(
            "LINKER_DATABASE_URL",
            "this is not the URL of a SQLite or PostgreSQL database.",
            "Use sqlite:///linker.db or postgresql://user:password@host/name.",
        )
    if "@" in (parsed.host or ""):  # and the rest of the password is taken for a part of the host
        raise BadSettings("LINKER_DATABASE_URL", "its user or its password holds an @ as it is.", "Write %40 for it.")
    return parsed.set(drivername=DRIVERS[backend])


def shown(url: URL) -> str:
    """A URL without its password, wherever it stands: drivers take one among the parameters too."""
    return url.set(query={}).render_as_string(hide_password=True)


def in_memory(url: URL) -> bool:
    """True for a database in memory, which is seen by the thread that made it only."""
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"


def is_path(url: URL) -> bool:
    """True for an SQLite file that is named by its path; SQLite's own URIs may mean anything."""
    return url.get_backend_name() == "sqlite" and not in_memory(url) and "uri" not in url.query


def as_json(value: Any) -> str:
    """A value as JSON that any database can keep: in ASCII, by pydantic's writer, which is faster than Python's."""
    try:
        return to_json(value, ensure_ascii=True).decode()
    except ValueError:  # half a character, which no text can hold: Python escapes that too
        return json.dumps(value, default=_time)


def _time(value: Any) -> str:
    """A time or a day as JSON. Raises TypeError: it is neither."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not kept as JSON")


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
PASSING = Access("BEGIN IMMEDIATE", "NORMAL")


def sqlite(url: URL, wait: float) -> Engine:
    """The engine of SQLite. `wait`: how long to wait for somebody else's lock, in seconds.

    To a file it opens each connection anew: who keeps them is `linker.files`.
    """
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=as_json,
        connect_args={"timeout": wait},
        poolclass=NullPool if is_path(url) else None,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(raw: Any, _record: object) -> None:
    """Let us say BEGIN ourselves, hold rows to their connection, and put pages into the file less often."""
    raw.isolation_level = None
    raw.execute("PRAGMA foreign_keys=ON").close()
    raw.execute(f"PRAGMA wal_autocheckpoint={SQLITE_CHECKPOINT}").close()


def begin_on_sqlite(connection: Connection, access: Access) -> None:
    """Begin what SQLAlchemy thinks has begun: its driver would wait for the first statement that writes."""
    pooled = connection.connection
    raw: Any = pooled.driver_connection
    if access.synchronous not in {None, pooled.info.get("synchronous")}:
        raw.execute(f"PRAGMA synchronous={access.synchronous}").close()
        pooled.info["synchronous"] = access.synchronous
    raw.execute(access.begin).close()


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


def postgres(url: URL) -> Engine:
    """The engine of PostgreSQL, with its pool. Raises BadSettings."""
    options: dict[str, Any] = {name: value for name, value in POSTGRES_OPTIONS.items() if name not in url.query}
    if PREPARE_THRESHOLD in url.query:
        options[PREPARE_THRESHOLD] = _threshold(str(url.query[PREPARE_THRESHOLD]))
        url = url.difference_update_query([PREPARE_THRESHOLD])
    try:
        engine = create_engine(
            url,
            paramstyle="format",
            isolation_level="READ COMMITTED",  # whatever the server's default is: claims count on it
            hide_parameters=True,
            json_serializer=as_json,
            pool_size=POSTGRES_POOL,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args=options,
        )
    except ModuleNotFoundError:
        engine = None
    if engine is None:
        raise BadSettings(
            "LINKER_DATABASE_URL",
            "PostgreSQL is asked for, but its driver is not installed.",
            "Install it with `pip install 'workable-linker[postgres]'`.",
        )
    event.listen(engine, "handle_error", _leave_what_is_read_only)
    return engine


def _leave_what_is_read_only(context: ExceptionContext) -> None:
    """Connect anew, all of the pool: after a switch-over another server is the primary one."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def _threshold(given: str) -> int | None:
    """After how many runs psycopg prepares a statement; None: never. Raises BadSettings."""
    if given == "none":
        return None
    if given.isdecimal():
        return int(given)
    raise BadSettings(
        "LINKER_DATABASE_URL",
        f"its {PREPARE_THRESHOLD} is not a number.",
        f"Write {PREPARE_THRESHOLD}=none, as a pooler in transaction mode needs, or leave it out.",
    )
