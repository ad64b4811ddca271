"""The engine of PostgreSQL: its pool, its driver's options, and what a switch-over of servers needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext

from linker.database.column_types import as_json
from linker.database.urls import refuse_unknown_parameters
from linker.errors import BadSettings

#: How many connections to PostgreSQL a process keeps.
POOL_CONNECTIONS = 8
#: How long reaching PostgreSQL may take, in seconds.
CONNECT_SECONDS = 10
#: What the URL does not say itself. A server that vanished must not hold a thread for hours: neither while we send (the
#: time is in milliseconds) nor while we wait for its answer (in seconds).
DEFAULT_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
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
READ_ONLY_SQLSTATE = "25006"


def postgres(url: URL, schema: str | None = None) -> Engine:
    """The engine of PostgreSQL, with its pool; tables without a schema are meant to be in this one. Raises BadSettings.

    They are named with it in each statement: a search path would belong to a session, which a pooler shares out.
    """
    options: dict[str, Any] = {name: value for name, value in DEFAULT_OPTIONS.items() if name not in url.query}
    if PREPARE_THRESHOLD in url.query:
        given = str(url.query[PREPARE_THRESHOLD])
        if given != "none" and not given.isdecimal():
            raise BadSettings("database_url", "not_a_threshold")
        options[PREPARE_THRESHOLD] = None if given == "none" else int(given)
        url = url.difference_update_query([PREPARE_THRESHOLD])
    try:
        engine = create_engine(
            url,
            paramstyle="format",
            isolation_level="READ COMMITTED",  # whatever the server's default is: claims count on it
            hide_parameters=True,
            json_serializer=as_json,
            pool_size=POOL_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args=options,
        )
    except ModuleNotFoundError:
        engine = None
    if engine is None:
        raise BadSettings("database_url", "no_driver", extra="postgres")
    refuse_unknown_parameters(
        url, {each.keyword.decode() for each in engine.dialect.loaded_dbapi.pq.Conninfo.get_defaults()}
    )

    @event.listens_for(engine, "handle_error")
    def connect_anew(context: ExceptionContext) -> None:
        """After a switch-over another server is the primary one: let go of all connections of the pool."""
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_SQLSTATE:
            context.is_disconnect = True

    return engine.execution_options(schema_translate_map={None: schema}) if schema else engine
