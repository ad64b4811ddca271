"""The time of a PostgreSQL server: one time for all workers, whatever their own machines say.

Leases, due times and the times that Workable names are compared between workers, so that a machine whose clock is five
minutes off must not judge them by it. The server's time is read when a linker opens, before each pass, before something
is written if it was not for half a minute, and with each block of calls that a host takes; in between, what counts is
how much time has passed, which also a wrong clock knows.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select

from linker.database.database import Database
from linker.engine.ports import Clock, SystemClock


class DatabaseClock:
    """Tells the server's time. Before it was read for the first time, the machine's."""

    def __init__(self, database: Database) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database
        #: A time of the server's, and when it was read, by the machine's monotonic clock.
        self._known = (time.time(), time.monotonic())

    def now(self) -> datetime:
        """The time now: aware, in UTC."""
        read, read_at = self._known
        return datetime.fromtimestamp(read + time.monotonic() - read_at, UTC)

    async def read(self) -> None:
        """Ask the server for its time. Raises StoreUnavailable."""
        await self._database.read(self.read_in)

    def read_in(self, transaction: Transaction) -> datetime:
        """Ask the server for its time in a transaction that is open, and give it. May be called from any thread."""
        asked_at = time.monotonic()
        told: datetime = transaction.execute(select(func.clock_timestamp())).scalar_one()
        self._known = (told.timestamp(), (asked_at + time.monotonic()) / 2)
        return told


async def shared_clock(database: Database) -> Clock:
    """The clock of all who work on this database, read just now: the server's; of an SQLite file the machine's.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    if database.is_sqlite:
        return SystemClock()
    clock = DatabaseClock(database)
    await clock.read()
    return clock
