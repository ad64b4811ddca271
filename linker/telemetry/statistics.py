"""Statistics: what is due, what waits and where the connections stand, read so that nobody feels it.

What indexes tell is read every 15 seconds. Counting looks at every connection, so it is done once a minute at most.
And neither takes more than a hundredth of the time: after a second of reading it pauses for 100, but not for longer
than ten minutes.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection as Transaction
from sqlalchemy import case, func, literal_column, select

from linker.database.database import Database
from linker.engine.observer import ConnectionStats, QueueStats, Statistics, Waiting
from linker.errors import LinkerError, StoreUnavailable
from linker.outbox.channels import CHANNELS, HANDLERS, Channel
from linker.persistence.connection_store import backlog
from linker.persistence.incidents import latest_incident
from linker.persistence.tables import CONNECTION, OUTBOX
from states.connection import ConnectionState
from states.problems import TRANSIENT

T = TypeVar("T")

#: How old what is due, and the counts of connections, may at least become before they are read again.
QUEUE_INTERVAL_SECONDS = 15.0
CONNECTIONS_INTERVAL_SECONDS = 60.0
#: The share of the time that reading may take at most.
MAX_READING_RATIO = 0.01
#: The longest pause: numbers that are older mislead.
LONGEST_PAUSE_SECONDS = 600.0
#: The name of what is no problem.
NO_PROBLEM = "none"
#: Who is linked waits for nothing.
_WAITING = [state.value for state in ConnectionState if state is not ConnectionState.LINKED]


class StatisticsReader:
    """Reads the statistics of one database, at a pace of its own."""

    def __init__(
        self,
        database: Database,
        now: Callable[[], datetime],
        *,
        posts: bool = True,
        alive: Callable[[Transaction, datetime], int] = lambda transaction, now: 0,
    ) -> None:
        """Take the database, and where the time comes from; nothing is opened yet.

        `posts`: a webhook is set. `alive`: counts the workers that are alive.
        """
        self._alive = alive
        self._database = database
        self._now = now
        self._channels = CHANNELS if posts else (HANDLERS,)
        self._queue = CachedReading[QueueStats](QUEUE_INTERVAL_SECONDS)
        self._connections = CachedReading[ConnectionStats](CONNECTIONS_INTERVAL_SECONDS)
        self._query = InterruptibleQuery()

    async def read(self) -> Statistics | None:
        """What is in the database now, or was when it was last the time to look; None if it was interrupted.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        now = self._now()
        self._query.interrupted = False
        try:
            await self._read_if_due(
                self._queue, lambda transaction: _queue(transaction, now, self._channels, self._alive)
            )
            await self._read_if_due(self._connections, lambda transaction: _connections(transaction, now))
        except LinkerError:
            if not self._query.interrupted:
                raise
        if self._query.interrupted:
            return None
        return Statistics(queue=self._queue.value, connections=self._connections.value)

    def interrupt(self) -> None:
        """End what is being read: who wants to stop does not wait for it."""
        self._query.interrupt()

    async def _read_if_due(self, cached: CachedReading[T], reading: Callable[[Transaction], T]) -> None:
        def work(transaction: Transaction) -> None:
            with self._query.of(transaction):
                cached.read(lambda: reading(transaction))

        if cached.is_due:
            await self._database.read(work)


class InterruptibleQuery:
    """A transaction whose statement another thread can end."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._driver: Any = None
        self.interrupted = False

    @contextmanager
    def of(self, transaction: Transaction) -> Iterator[None]:
        """For one block it is this transaction. Raises StoreUnavailable if it was interrupted before."""
        with self._turn:
            if self.interrupted:
                raise StoreUnavailable("interrupted")
            self._driver = transaction.connection.driver_connection
        try:
            yield
        finally:
            with self._turn:  # from here on its connection may serve somebody else
                self._driver = None

    def interrupt(self) -> None:
        """End the statement that is running, if there is one."""
        with self._turn:
            self.interrupted = True
            if isinstance(self._driver, sqlite3.Connection):
                self._driver.interrupt()
            elif self._driver is not None:
                self._driver.cancel()  # psycopg's


class CachedReading(Generic[T]):
    """A value that is read again only after a while: the longer reading it took, the later."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._again_at = 0.0
        self._found: T | None = None

    @property
    def is_due(self) -> bool:
        """True if it is time to read it again."""
        return self._found is None or time.monotonic() >= self._again_at

    @property
    def value(self) -> T:
        """What was read last."""
        assert self._found is not None, "it was read before"
        return self._found

    def read(self, reading: Callable[[], T]) -> None:
        """Read it."""
        began = time.monotonic()
        self._found = reading()
        ended = time.monotonic()
        self._again_at = ended + max(
            self._interval_seconds, min((ended - began) / MAX_READING_RATIO, LONGEST_PAUSE_SECONDS)
        )


def _queue(
    transaction: Transaction,
    now: datetime,
    channels: Collection[Channel],
    alive: Callable[[Transaction, datetime], int],
) -> QueueStats:
    due = backlog(transaction, now)
    outbox = {}
    for channel in channels:
        tried = (channel.column(OUTBOX, "attempts") > literal_column("0")).label("tried")
        waiting = (
            select(OUTBOX.c.type, tried, func.count().label("number"), func.min(OUTBOX.c.created_at).label("oldest"))
            .where(channel.column(OUTBOX, "due_at").is_not(None))
            .group_by(OUTBOX.c.type, tried)
        )
        for row in transaction.execute(waiting):
            found = Waiting(number=row.number, oldest=_seconds_since(row.oldest, now))
            outbox[channel.name, row.type, bool(row.tried)] = found
    latest = latest_incident(transaction)
    return QueueStats(
        read_at=now,
        due=due.due,
        lag_seconds=due.lag_seconds,
        outbox=outbox,
        incident=latest is not None and latest.lasts,
        workers=alive(transaction, now),
    )


def _connections(transaction: Transaction, now: datetime) -> ConnectionStats:
    since = func.min(case((CONNECTION.c.paused_at.is_(None), CONNECTION.c.state_since))).label("since")
    standing = (
        select(
            CONNECTION.c.state,
            CONNECTION.c.problem_code,
            func.count().label("number"),
            func.count(CONNECTION.c.troubled_since).label("troubled"),
            since,
        )
        .where(CONNECTION.c.closed_at.is_(None))
        .group_by(CONNECTION.c.state, CONNECTION.c.problem_code)
    )
    connections = dict.fromkeys(((state.value, NO_PROBLEM) for state in ConnectionState), 0)
    oldest: dict[str, float] = defaultdict(float)
    troubled = {code.value: 0 for code in sorted(TRANSIENT)}
    for row in transaction.execute(standing):
        connections[row.state, row.problem_code or NO_PROBLEM] = row.number
        oldest[row.state] = max(oldest[row.state], _seconds_since(row.since, now))
        if row.troubled:
            problem = row.problem_code or NO_PROBLEM
            troubled[problem] = troubled.get(problem, 0) + row.troubled
    dead = {}
    for channel in CHANNELS:
        query = select(func.count()).select_from(OUTBOX).where(channel.column(OUTBOX, "dead_at").is_not(None))
        dead[channel.name] = transaction.execute(query).scalar_one()
    waits = {state: oldest[state] for state in _WAITING}
    return ConnectionStats(by_state=connections, oldest_wait=waits, troubled=troubled, dead=dead)


def _seconds_since(then: datetime | None, now: datetime) -> float:
    """None of it if the time is still to come."""
    return max(0.0, (now - then).total_seconds()) if then else 0.0
