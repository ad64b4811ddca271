"""Retention: what is older than the settings keep is pruned, in small batches that nobody has to wait for.

- Steps: a step goes once the step after it is too old as well. So what is left tells the whole of the time that is
  kept, from the state at its beginning on; it has no gap, and its last step is the state.
- Announcements that are delivered or given up.
- Connections that were unlinked, with all that belongs to them, once nothing of it is still to be told to the host.
- The calls to accounts that count no more. They are kept for seconds; this is about their rows, which name accounts.

A batch is a short transaction of its own: whoever kills a run loses nothing, and the next one goes on. What is too old
is found by partial indexes that hold nothing else for long: the cost grows with what goes, never with what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, func, or_, select, text, update
from sqlalchemy import Connection as Transaction

from linker.database.database import Database
from linker.database.statements import materialized
from linker.engine.ports import Clock
from linker.event_log import log
from linker.outbox.channels import CHANNELS, HANDLERS, WEBHOOK
from linker.outbox.outbox_store import EXPIRE_AFTER, OutboxStore, is_unclaimed
from linker.persistence.tables import CLOSED, CONNECTION, CONTINUES, OUTBOX, OVER, RATE_LIMIT, STEP
from linker.settings import Settings

#: How many rows are looked for in one transaction; of connections fewer, because much may belong to each.
BATCH_ROWS = 500
CONNECTION_BATCH_ROWS = 50
#: How long after their last call the rows of accounts' calls are kept.
CALLS_KEPT = timedelta(hours=1)
#: The pause after a batch. Whoever waits for SQLite's lock asks for it every 0.1 s: longer than that.
SQLITE_PAUSE_SECONDS = 0.15
#: On PostgreSQL nobody waits; the pause leaves the disk to others.
POSTGRES_PAUSE_SECONDS = 0.02

#: Told how many rows are gone and about how many there are to go.
Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class Pruned:
    """What went, or in a dry run what would go; what belonged to a connection that went is not counted."""

    steps: int = 0
    announcements: int = 0
    connections: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _RetentionRule:
    """What one setting keeps: how the rows that are too old are found, and how a batch of them goes."""

    name: str
    #: The column that says how old a row is, and the condition of the index that it is found by.
    age: Any
    condition: str
    batch: int
    #: Removes the rows that a query finds; gives how many it found and how many went.
    remove: Callable[[Transaction, Select[Any], datetime], tuple[int, int]]
    #: What is not taken away though it is too old.
    unless: ColumnElement[bool] | None = None

    def count(self, before: datetime, transaction: Transaction) -> int:
        """How much is too old."""
        return int(transaction.execute(self._old(before).with_only_columns(func.count())).scalar_one())

    def prune(self, before: datetime, now: datetime, transaction: Transaction) -> tuple[int, bool]:
        """Take a batch away, the oldest first; gives how many rows went, and whether there may be more.

        Two runs take turns, so that their batches never wait for each other's rows. SQLite has one lock for all.
        """
        if transaction.dialect.name == "postgresql":
            transaction.execute(text("SELECT pg_advisory_xact_lock(hashtext('workable-linker prune'))"))
        found, gone = self.remove(transaction, self._old(before).order_by(self.age).limit(self.batch), now)
        return gone, found == self.batch

    def _old(self, before: datetime) -> Select[Any]:
        old = select(*self.age.table.primary_key).where(text(self.condition), self.age < before)
        return old if self.unless is None else old.where(~self.unless)


class Pruning:
    """Takes away what is older than the settings keep."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        """Take the database, open; what is too old is reckoned from now on."""
        self._database = database
        self._now = clock.now()
        self._pause_seconds = SQLITE_PAUSE_SECONDS if database.is_sqlite else POSTGRES_PAUSE_SECONDS
        kept = {
            STEPS: settings.keep_history,
            ANNOUNCEMENTS: settings.keep_announcements,
            CLOSED_CONNECTIONS: settings.keep_closed,
        }
        self._before = {rule: self._now - span for rule, span in kept.items() if span is not None}

    @property
    def before(self) -> dict[str, datetime]:
        """What is older than this goes, by its name; what is kept for ever is left out."""
        return {rule.name: before for rule, before in self._before.items()}

    async def foresee(self) -> Pruned:
        """What would go now. Changes nothing."""

        def count(transaction: Transaction) -> dict[str, int]:
            # as it will be once what nobody took has expired
            after = {CLOSED_CONNECTIONS: replace(CLOSED_CONNECTIONS, unless=_untold(self._now))}
            counts = {
                rule.name: after.get(rule, rule).count(before, transaction) for rule, before in self._before.items()
            }
            if ANNOUNCEMENTS in self._before:  # with those that a run would let expire, and then take away
                too_old = OUTBOX.c.created_at < self._before[ANNOUNCEMENTS]
                over = {channel: channel.column(OUTBOX, "due_at").is_(None) for channel in CHANNELS}
                lapsing = {channel: is_unclaimed(channel, self._now - EXPIRE_AFTER, self._now) for channel in CHANNELS}
                for on_webhook, on_handlers in ((lapsing, over), (over, lapsing), (lapsing, lapsing)):
                    query = select(func.count()).where(too_old, on_webhook[WEBHOOK], on_handlers[HANDLERS])
                    counts[ANNOUNCEMENTS.name] += transaction.execute(query.select_from(OUTBOX)).scalar_one()
            return counts

        return Pruned(**await self._database.read(count))

    async def run(self, progress: Progress | None = None) -> Pruned:
        """Take it away, batch by batch. Raises StoreUnavailable; what went before that is gone.

        Announcements that nobody took for a week expire first, on both channels: perhaps no process here delivers.
        """
        lapsed = 0
        for channel in CHANNELS:
            while more := await OutboxStore(self._database, channel).expire_unclaimed(now=self._now):
                lapsed += more
                await asyncio.sleep(self._pause_seconds)
        if lapsed:
            log.warning("announcements.lapsed", count=lapsed)
        total = _sum(await self.foresee()) if progress else 0
        pruned = Pruned()
        for rule, before in self._before.items():
            unfinished = True
            while unfinished:
                # what a power cut undoes here, the next run does again
                gone, unfinished = await self._database.write_without_fsync(partial(rule.prune, before, self._now))
                setattr(pruned, rule.name, getattr(pruned, rule.name) + gone)
                if progress:
                    progress(_sum(pruned), total)
                await asyncio.sleep(self._pause_seconds if gone else 0)
        unfinished = True
        while unfinished:
            unfinished = await self._database.write_without_fsync(self._forget_calls)
            await asyncio.sleep(self._pause_seconds if unfinished else 0)
        log.info("prune.finished", **asdict(pruned))
        return pruned

    def _forget_calls(self, transaction: Transaction) -> bool:
        """Remove a batch of accounts' rows of which nothing counts any more; True if there may be more."""
        old = select(RATE_LIMIT.c.name).where(RATE_LIMIT.c.spread_until < (self._now - CALLS_KEPT).timestamp())
        return _remove(transaction, old.limit(BATCH_ROWS), self._now)[0] == BATCH_ROWS


def _sum(pruned: Pruned) -> int:
    return sum(asdict(pruned).values())


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


STEPS = _RetentionRule(name="steps", age=STEP.c.at, condition=CONTINUES, batch=BATCH_ROWS, remove=_remove_before)
ANNOUNCEMENTS = _RetentionRule(
    name="announcements", age=OUTBOX.c.created_at, condition=OVER, batch=BATCH_ROWS, remove=_remove
)


def _untold(expiring_at: datetime | None = None) -> ColumnElement[bool]:
    """That something of a connection is still to be told on a channel: that ends by itself, told or given up.

    `expiring_at`: what a run at this time would let expire counts as told.
    """
    owed: list[ColumnElement[bool]] = []
    for channel in CHANNELS:
        is_due: ColumnElement[bool] = channel.column(OUTBOX, "due_at").is_not(None)
        if expiring_at is not None:
            is_due = and_(is_due, ~is_unclaimed(channel, expiring_at - EXPIRE_AFTER, expiring_at))
        owed.append(is_due)
    return select(OUTBOX.c.id).where(OUTBOX.c.connection_id == CONNECTION.c.id, or_(*owed)).exists()


#: Last, when little belongs to them any more.
CLOSED_CONNECTIONS = _RetentionRule(
    name="connections",
    age=CONNECTION.c.closed_at,
    condition=CLOSED,
    batch=CONNECTION_BATCH_ROWS,
    remove=_remove,
    unless=_untold(),
)
