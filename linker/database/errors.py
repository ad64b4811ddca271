"""The one place where a driver's errors become errors of this library."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from linker.errors import LinkerError, OurFault, StoreUnavailable

#: What the engines say of trouble that is not ours, and what it is.
_TROUBLE = {
    "disk is full": "disk_full",
    "no space left": "disk_full",
    "disk i/o error": "disk_error",
    "readonly database": "read_only",
    "read-only transaction": "read_only_server",
    "unable to open": "cannot_open",
    "is locked": "locked",
    "deadlock detected": "deadlock",
    "could not serialize": "deadlock",
    "locking protocol": "too_many_opening",
}


def translate(error: BaseException) -> LinkerError:
    """The error of this library that a driver's error is. Carries no statement and no parameters."""
    while "no such savepoint" in str(error) and error.__context__ is not None:
        error = error.__context__  # what went wrong first: on a full disk SQLite undoes the whole transaction
    said = str(getattr(error, "orig", None) or error)
    for sign, reason in _TROUBLE.items():
        if sign in said.lower():
            return StoreUnavailable(reason)
    if "not a database" in said or "malformed" in said:
        return OurFault("damaged_file")
    if isinstance(error, DBAPIError):
        operational = isinstance(error, OperationalError) and not isinstance(error.orig, sqlite3.Error)
        unreachable = error.connection_invalidated or operational
    else:  # a driver's own, where SQLAlchemy does not stand between; psycopg calls it operational too
        named = {kind.__name__ for kind in type(error).__mro__}
        unreachable = "OperationalError" in named and not isinstance(error, sqlite3.Error)
    driver = said.strip().splitlines()[0][:200] if said.strip() else ""
    if unreachable or isinstance(error, PoolTimeout):
        return StoreUnavailable("unreachable", driver=driver)
    return OurFault("refused_statement", driver=driver)


def is_lock(error: LinkerError) -> bool:
    """True if somebody else's lock is the cause: it may be waited for."""
    return isinstance(error, StoreUnavailable) and error.reason == "locked"
