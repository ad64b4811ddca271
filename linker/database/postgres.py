"""The engine of PostgreSQL: its pool, its driver's options, and what a switch-over of servers needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext

from linker.database.column_types import as_json
from linker.errors import BadSettings

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
