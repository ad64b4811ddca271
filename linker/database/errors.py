"""The one place where a driver's errors become errors of this library."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from linker.errors import LinkerError, OurFault, StoreUnavailable

#: How an error begins that a lock of somebody else's is the cause of.
HELD = "Another process held the database"


#: What the engines say of trouble that is not ours, and what we say to people.
_TROUBLE = {
    "disk is full": "The disk is full. Nothing was half-done; make room, then try again.",
    "no space left": "The disk is full. Nothing was half-done; make room, then try again.",
    "disk i/o error": "The disk cannot be written or read. Nothing was half-done; check the disk, then try again.",
    "readonly database": "The database is read-only for this user. Make its file and its folder writable.",
    "read-only transaction": "The database is read-only. Use the primary server.",
    "unable to open": "The database file cannot be opened. Check that its folder exists and may be written.",
    "is locked": f"{HELD} for too long. Try again.",
    "deadlock detected": "Others wrote the same rows at the same time. Nothing was half-done; try again.",
    "could not serialize": "Others wrote the same rows at the same time. Nothing was half-done; try again.",
    "locking protocol": "Too many processes opened the database at the same time. Try again.",
}


def translate(error: BaseException, where: str) -> LinkerError:
    """The error of this library that a driver's error is. Carries no statement and no parameters."""
    while "no such savepoint" in str(error) and error.__context__ is not None:
        error = error.__context__  # what went wrong first: on a full disk SQLite undoes the whole transaction
    said = str(getattr(error, "orig", None) or error)
    for sign, meaning in _TROUBLE.items():
        if sign in said.lower():
            return StoreUnavailable(f"{where}: {meaning}")
    if "not a database" in said or "malformed" in said:
        return OurFault(f"{where}: the file is not a SQLite database, or it is damaged. Restore it from a backup.")
    if isinstance(error, DBAPIError):
        operational = isinstance(error, OperationalError) and not isinstance(error.orig, sqlite3.Error)
        unreachable = error.connection_invalidated or operational
    else:  # a driver's own, where SQLAlchemy does not stand between; psycopg calls it operational too
        named = {kind.__name__ for kind in type(error).__mro__}
        unreachable = "OperationalError" in named and not isinstance(error, sqlite3.Error)
    first_line = said.strip().splitlines()[0][:200] if said.strip() else "no reason given"
    if unreachable or isinstance(error, PoolTimeout):
        return StoreUnavailable(
            f"{where}: the database cannot be reached ({first_line}). "
            "Check that the server runs and that LINKER_DATABASE_URL is right, then try again."
        )
    return OurFault(
        f"{where}: the database refused our statement ({first_line}). "
        "Nothing was half-done; `linker doctor` looks for the cause."
    )
