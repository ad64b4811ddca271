"""Workers alive: each process with a heartbeat leaves a row, and says every few seconds that it is still there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, select

from linker.database.statements import insert_into
from linker.persistence.tables import WORKER

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


def write_beat(transaction: Transaction, worker: WorkerInfo) -> None:
    """Write down that a worker is alive, and forget those that died long ago."""
    columns = dict(vars(worker))
    put = insert_into(transaction, WORKER).values(columns)
    transaction.execute(put.on_conflict_do_update(index_elements=["id"], set_=columns))
    transaction.execute(delete(WORKER).where(WORKER.c.last_beat_at < worker.last_beat_at - KEPT))


def forget(transaction: Transaction, worker_id: str) -> None:
    """A worker that stopped as it should leaves no row."""
    transaction.execute(delete(WORKER).where(WORKER.c.id == worker_id))


def alive_workers(transaction: Transaction, now: datetime) -> int:
    """How many are alive at a time."""
    return sum(each.is_alive(now) for each in workers(transaction))


def workers(transaction: Transaction) -> list[WorkerInfo]:
    """All that have a row, the one that was heard of last first."""
    rows = transaction.execute(select(WORKER).order_by(WORKER.c.last_beat_at.desc(), WORKER.c.id)).mappings()
    return [WorkerInfo(**row) for row in rows]
