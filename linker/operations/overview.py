"""What is in the database at a glance: counts, what moved last, what is due, who works. Cheap however much is stored.

What is linked is most of it and moves seldom: it is counted once a minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select, text

from linker.database.database import Database
from linker.engine.ports import Clock
from linker.operations.workers_alive import WorkerInfo, alive_workers, workers
from linker.persistence.connection_store import backlog
from linker.persistence.tables import CONNECTION, STANDING
from states.connection import ConnectionState

#: How often what is linked is counted.
LINKED_SECONDS = 60.0
#: How many that moved last are shown.
MOVED = 5
#: What is due for longer than this is not attended.
LATE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A connection that came into its state lately."""

    id: str
    owner: str
    state: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What was seen at one moment. Times are aware, in UTC."""

    at: datetime
    #: How many open connections there are, by state and problem's code (None: there is none).
    counts: dict[tuple[str, str | None], int]
    moved: list[Moved]
    due: int
    #: By how many seconds the one is late that is due the longest.
    lag_seconds: float
    alive: list[WorkerInfo]
    #: How long reading it took, in milliseconds.
    ms: float


class OverviewReader:
    """Reads overviews of one database, again and again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database and the clock that counts."""
        self._database = database
        self._clock = clock
        self._linked: tuple[float, dict[tuple[str, str | None], int]] | None = None

    async def read(self) -> Overview:
        """What is seen now. Raises StoreUnavailable."""
        now, began = self._clock.now(), time.monotonic()
        if self._linked is None or began - self._linked[0] > LINKED_SECONDS:
            self._linked = (began, await self._database.read(_linked))
            began = time.monotonic()
        linked = self._linked[1]

        def work(transaction: Transaction) -> Overview:
            waiting = backlog(transaction, now)
            return Overview(
                at=now,
                counts=linked | _standing(transaction),
                moved=_moved(transaction),
                due=waiting.due,
                lag_seconds=waiting.lag_seconds,
                alive=[each for each in workers(transaction) if each.is_alive(now)],
                ms=(time.monotonic() - began) * 1000,
            )

        return await self._database.read(work)


def _standing(transaction: Transaction) -> dict[tuple[str, str | None], int]:
    c = CONNECTION.c
    query = select(c.state, c.problem_code, func.count()).where(text(STANDING)).group_by(c.state, c.problem_code)
    return {(state, problem): count for state, problem, count in transaction.execute(query)}


def _linked(transaction: Transaction) -> dict[tuple[str, str | None], int]:
    c = CONNECTION.c
    query = select(func.count()).where(c.state == ConnectionState.LINKED.value, c.closed_at.is_(None))
    return {(ConnectionState.LINKED.value, None): transaction.execute(query).scalar_one()}


def _moved(transaction: Transaction) -> list[Moved]:
    c = CONNECTION.c
    query = select(c.id, c.owner, c.state, c.state_since).where(c.closed_at.is_(None))
    rows = transaction.execute(query.order_by(c.state_since.desc(), c.id.desc()).limit(MOVED))
    return [Moved(id=one, owner=owner, state=state, at=at) for one, owner, state, at in rows]


async def health(database: Database, now: datetime) -> dict[str, Any]:
    """Whether the database is reached, and what is due is attended, for probes. Raises StoreUnavailable."""

    def work(transaction: Transaction) -> dict[str, Any]:
        waiting = backlog(transaction, now)
        alive = alive_workers(transaction, now)
        why = "no_worker" if waiting.lag_seconds > LATE_SECONDS and not alive else None
        told = {"live": True, "ready": why is None, "why": why, "workers": alive, "due": waiting.due}
        return {**told, "lag_seconds": waiting.lag_seconds}

    return await database.read(work)
