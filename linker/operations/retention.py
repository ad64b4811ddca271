"""Pruning: what is older than the settings keep goes, in small batches that nobody has to wait for.

- Steps: a step goes once the step after it is too old as well. So what is left tells the whole of the time that is
  kept, from the state at its beginning on; it has no gap, and its last step is the state.
- Announcements that are delivered or given up.
- Connections that were unlinked, with all that belongs to them.

A batch is a short transaction of its own: whoever kills a run loses nothing, and the next one goes on. What is too old
is found by partial indexes that hold nothing else for long: the cost grows with what goes, never with what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import Select, bindparam, delete, func, select, text, update

from linker.database.database import Database
from linker.database.statements import materialized
from linker.engine.ports import Clock
from linker.outbox.channels import CHANNELS, HANDLERS, WEBHOOK
from linker.outbox.outbox_store import LAPSE_AFTER, OutboxStore, is_forgotten
from linker.persistence.tables import CLOSED, CONNECTION, CONTINUES, OUTBOX, OVER, STEP
from linker.settings import Settings

log = structlog.get_logger("linker")


#: How many rows are looked for in one transaction; of connections fewer, because much may belong to each.
BATCH = 500
CONNECTIONS = 50
#: The pause after a batch, in seconds. Whoever waits for SQLite's lock asks for it every 0.1 s: longer than that.
SQLITE_PAUSE = 0.15
#: On PostgreSQL nobody waits; the pause leaves the disk to others.
POSTGRES_PAUSE = 0.02

#: Told how many rows are gone and about how many there are to go.
Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class Pruned:
    """What went, or in a dry run what would go; what belonged to a connection that went is not counted."""

    steps: int = 0
    announcements: int = 0
    connections: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kind:
    """One kind of what goes: how it is found, and how a batch of it goes."""

    name: str
    #: The column that says how old a row is, and the condition of the index that it is found by.
    age: Any
    condition: str
    batch: int
    #: Removes the rows that a query finds; gives how many it found and how many went.
    remove: Callable[[Transaction, Select[Any], datetime], tuple[int, int]]

    def count(self, before: datetime, transaction: Transaction) -> int:
        """How much is too old."""
        return int(transaction.execute(self._old(before).with_only_columns(func.count())).scalar_one())

    def prune(self, before: datetime, now: datetime, transaction: Transaction) -> tuple[int, bool]:
        """Take a batch away, the oldest first; gives how many rows went, and whether there may be more."""
        _one_at_a_time(transaction)
        found, gone = self.remove(transaction, self._old(before).order_by(self.age).limit(self.batch), now)
        return gone, found == self.batch

    def _old(self, before: datetime) -> Select[Any]:
        return select(*self.age.table.primary_key).where(text(self.condition), self.age < before)


class Pruning:
    """Takes away what is older than the settings keep."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        """Take the database, open; what is too old is reckoned from now on."""
        self._database = database
        self._now = clock.now()
        self._pause = SQLITE_PAUSE if database.is_sqlite else POSTGRES_PAUSE
        kept = {
            STEPS: settings.keep_history,
            ANNOUNCEMENTS: settings.keep_announcements,
            CLOSED_CONNECTIONS: settings.keep_closed,
        }
        #: What is older than this goes, by its kind; what is kept for ever is left out.
        self._before = {kind: self._now - span for kind, span in kept.items() if span is not None}

    @property
    def before(self) -> dict[str, datetime]:
        """What is older than this goes, by its name; what is kept for ever is left out."""
        return {kind.name: before for kind, before in self._before.items()}

    async def foresee(self) -> Pruned:
        """What would go now. Changes nothing."""
        counts = {
            kind.name: await self._database.read(partial(kind.count, before)) for kind, before in self._before.items()
        }
        if ANNOUNCEMENTS in self._before:
            counts[ANNOUNCEMENTS.name] += await self._database.read(self._count_lapsing)
        return Pruned(**counts)

    def _count_lapsing(self, transaction: Transaction) -> int:
        """How many announcements are too old that a run would let lapse, and then take away."""
        webhook_is_over, handlers_are_over = (way.of(OUTBOX, "due_at").is_(None) for way in (WEBHOOK, HANDLERS))
        webhook, handlers = (is_forgotten(way, self._now - LAPSE_AFTER, self._now) for way in (WEBHOOK, HANDLERS))
        found = 0
        for lapsing in ((webhook, handlers_are_over), (handlers, webhook_is_over), (webhook, handlers)):
            too_old = OUTBOX.c.created_at < self._before[ANNOUNCEMENTS]
            query = select(func.count()).select_from(OUTBOX).where(too_old, *lapsing)
            found += transaction.execute(query).scalar_one()
        return found

    async def run(self, progress: Progress | None = None) -> Pruned:
        """Take it away, batch by batch. Raises StoreUnavailable; what went before that is gone.

        Announcements that nobody took for a week lapse first, on both ways: perhaps no process here delivers.
        """
        await self._let_lapse()
        total = _sum(await self.foresee()) if progress else 0
        pruned = Pruned()
        for kind, before in self._before.items():
            more = True
            while more:
                # what a power cut undoes here, the next run does again
                gone, more = await self._database.write_without_fsync(partial(kind.prune, before, self._now))
                setattr(pruned, kind.name, getattr(pruned, kind.name) + gone)
                if progress:
                    progress(_sum(pruned), total)
                await asyncio.sleep(self._pause if gone else 0)
        log.info("prune.finished", **asdict(pruned))
        return pruned

    async def _let_lapse(self) -> None:
        lapsed = 0
        for way in CHANNELS:
            while more := await OutboxStore(self._database, way).lapse(now=self._now):
                lapsed += more
                await asyncio.sleep(self._pause)
        if lapsed:
            log.warning("announcements.lapsed", count=lapsed)


def _sum(pruned: Pruned) -> int:
    return sum(asdict(pruned).values())


def _one_at_a_time(transaction: Transaction) -> None:
    """Let two runs take turns, so that their batches never wait for each other's rows. SQLite has one lock for all."""
    if transaction.dialect.name == "postgresql":
        transaction.execute(text("SELECT pg_advisory_xact_lock(hashtext('workable-linker prune'))"))


def _remove_before(transaction: Transaction, old: Select[Any], now: datetime) -> tuple[int, int]:
    """Let the histories begin with the last of these steps; clocks that disagreed make no gap."""
    found = transaction.execute(old).all()
    first: dict[str, int] = {}
    for connection_id, seq in found:
        first[connection_id] = max(seq, first.get(connection_id, 0))
    begins = [{"this": connection_id, "first": seq} for connection_id, seq in first.items()]
    if not begins:
        return 0, 0
    gone = transaction.execute(_STEPS_BEFORE, begins).rowcount
    transaction.execute(_FIRST_STEP.values(pruned_at=now), begins)
    return len(found), gone


_OF_THIS = STEP.c.connection_id == bindparam("this")
_STEPS_BEFORE = delete(STEP).where(_OF_THIS, STEP.c.seq < bindparam("first"))
_FIRST_STEP = update(STEP).where(_OF_THIS, STEP.c.seq == bindparam("first"))


def _remove(transaction: Transaction, old: Select[Any], now: datetime) -> tuple[int, int]:
    """Remove rows; those that somebody writes just now are left to the next run."""
    [key] = old.selected_columns
    chosen = materialized(old.with_for_update(skip_locked=True))
    gone = len(transaction.execute(delete(key.table).where(key.in_(chosen)).returning(key)).all())
    return gone, gone


STEPS = _Kind(name="steps", age=STEP.c.at, condition=CONTINUES, batch=BATCH, remove=_remove_before)
ANNOUNCEMENTS = _Kind(name="announcements", age=OUTBOX.c.created_at, condition=OVER, batch=BATCH, remove=_remove)
#: Last, when little belongs to them any more.
CLOSED_CONNECTIONS = _Kind(
    name="connections", age=CONNECTION.c.closed_at, condition=CLOSED, batch=CONNECTIONS, remove=_remove
)
