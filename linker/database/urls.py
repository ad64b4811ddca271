"""Database URLs: which engine one names, by which driver it is reached, and how it is shown without its password."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from linker.errors import BadSettings

#: The engines that we know, with the driver that we reach them by. Hosting companies hand out `postgres://`.
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


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
        raise BadSettings("database_url", "unknown_engine")
    if "@" in (parsed.host or ""):  # and the rest of the password is taken for a part of the host
        raise BadSettings("database_url", "unescaped_at")
    return parsed.set(drivername=DRIVERS[backend])


def refuse_unknown_parameters(url: URL, known: Collection[str]) -> None:
    """Make sure that the driver knows all parameters of a URL: hosting companies add those of other programs.

    Raises:
        BadSettings: it does not know one. Values are not shown.
    """
    unknown = sorted(set(url.query) - set(known))
    if unknown:
        raise BadSettings("database_url", "unknown_parameters", parameters=unknown)


def redacted(url: URL) -> str:
    """A URL without its password, wherever it stands: drivers take one among the parameters too."""
    return url.set(query={}).render_as_string(hide_password=True)


def in_memory(url: URL) -> bool:
    """True for a database in memory, which is seen by the thread that made it only."""
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"


def is_path(url: URL) -> bool:
    """True for an SQLite file that is named by its path; SQLite's own URIs may mean anything."""
    return url.get_backend_name() == "sqlite" and not in_memory(url) and "uri" not in url.query


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database; None on a server or in memory."""
    name = url.database if url.get_backend_name() == "sqlite" else None
    return Path(name) if name and name != ":memory:" else None
