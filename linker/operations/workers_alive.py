"""Workers alive: each process with a heartbeat leaves a row, and says every few seconds that it is still there."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, select

from linker.database.database import Database
from linker.database.statements import insert_into
from linker.engine.ports import Clock
from linker.errors import LinkerError
from linker.event_log import log
from linker.persistence.tables import WORKER
from linker.version import version

#: How often a worker says that it is alive, and after how long without that it is taken for dead.
BEAT_SECONDS = 10.0
DEAD_AFTER = timedelta(seconds=35)
#: How long the row of one that died is kept, so that somebody can see it.
KEPT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A process that attends connections."""

    id: str
    host: str
    pid: int
    #: What it is: `worker`, or `host` for a heartbeat within a host's own process.
    kind: str
    version: str
    started_at: datetime
    last_beat_at: datetime

    def is_alive(self, now: datetime) -> bool:
        """True if it said so lately."""
        return now - self.last_beat_at < DEAD_AFTER


class SignOfLife:
    """The row of this process, as long as a heartbeat of it is open."""

    def __init__(self, database: Database, clock: Clock, worker_id: str, kind: str) -> None:
        """Take where the row is and what it says; nothing is written yet."""
        self._database = database
        self._clock = clock
        self._worker_id = worker_id
        self._kind = kind
        self._written_at = -math.inf

    @property
    def is_fresh(self) -> bool:
        """True if the row was written lately."""
        return time.monotonic() - self._written_at < DEAD_AFTER.total_seconds()

    async def keep_fresh(self) -> None:
        """Write the row anew every few seconds, for ever."""
        started_at = self._clock.now()
        while True:
            info = WorkerInfo(
                id=self._worker_id,
                host=socket.gethostname(),
                pid=os.getpid(),
                kind=self._kind,
                version=version(),
                started_at=started_at,
                last_beat_at=self._clock.now(),
            )
            try:
                await self._database.write_without_fsync(partial(_write_beat, worker=info))
                self._written_at = time.monotonic()
            except LinkerError as error:
                log.warning("worker.not_seen", code=error.code, reason=error.reason)
            await asyncio.sleep(BEAT_SECONDS)

    async def take_away(self) -> None:
        """A worker that stops as it should leaves no row; one that cannot be reached grows old by itself."""
        forget = delete(WORKER).where(WORKER.c.id == self._worker_id)
        with suppress(LinkerError):
            await self._database.write_without_fsync(lambda transaction: transaction.execute(forget))


def _write_beat(transaction: Transaction, worker: WorkerInfo) -> None:
    """Write down that a worker is alive, and forget those that died long ago."""
    columns = dict(vars(worker))
    put = insert_into(transaction, WORKER).values(columns)
    transaction.execute(put.on_conflict_do_update(index_elements=["id"], set_=columns))
    transaction.execute(delete(WORKER).where(WORKER.c.last_beat_at < worker.last_beat_at - KEPT))


def alive_workers(transaction: Transaction, now: datetime) -> int:
    """How many are alive at a time."""
    return sum(each.is_alive(now) for each in workers(transaction))


def workers(transaction: Transaction) -> list[WorkerInfo]:
    """All that have a row, the one that was heard of last first."""
    rows = transaction.execute(select(WORKER).order_by(WORKER.c.last_beat_at.desc(), WORKER.c.id)).mappings()
    return [WorkerInfo(**row) for row in rows]
