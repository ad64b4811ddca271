"""One pass over what is due: claim, attend and settle at the same time, each at its own pace.

The three meet in two queues. While calls are under way the next rows are claimed, and whatever has been decided in the
meantime is settled in one commit: the slower the disk, the larger the batches.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field, fields
from typing import Any

import structlog

from linker.attending import Attendant, log_written
from linker.errors import OurFault
from linker.leasing import Leasing
from linker.ports import Clock, Lease, Settlement, Store
from states.connection import Connection, ConnectionState
from states.problems import TRANSIENT

log = structlog.get_logger("linker")

#: How long decisions are gathered before they are written in one commit, in seconds.
GATHER = 0.02


@dataclass(kw_only=True)
class Sweep:
    """What a pass did: how many connections were claimed, and what became of them.

    A connection that owes another duty at once is claimed once more in the same pass, and counted once more.
    """

    claimed: int = 0
    #: Went on to another state.
    advanced: int = 0
    #: Stay where they are, and nothing is wrong with that.
    waiting: int = 0
    #: Ended: a person has to act.
    failed: int = 0
    #: No answer to go by; they are tried again later.
    unavailable: int = 0
    #: Somebody else was faster, or the lease ran out; nothing of ours was written.
    lost: int = 0

    def count(self, settlement: Settlement) -> None:
        """Add a connection that was written."""
        outcome = _outcome(settlement.before, settlement.after)
        setattr(self, outcome, getattr(self, outcome) + 1)

    def add(self, other: Sweep) -> None:
        """Add another pass."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def _outcome(before: Connection, after: Connection) -> str:
    if after.state is ConnectionState.FAILED:
        return "failed"
    if after.state is not before.state:
        return "advanced"
    return "unavailable" if after.problem and after.problem.code in TRANSIENT else "waiting"


@dataclass(frozen=True, kw_only=True)
class _Held:
    connection: Connection
    lease: Lease


@dataclass(frozen=True, kw_only=True)
class Sweeper:
    """Passes over what is due: `concurrency` connections at a time, `batch_size` claimed in one transaction."""

    store: Store
    attendant: Attendant
    leasing: Leasing
    clock: Clock
    concurrency: int
    batch_size: int
    #: Once set, nothing more is claimed; what is under way is finished.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def sweep(self) -> Sweep:
        """Attend everything that is due, also what becomes due at once by advancing."""
        total = Sweep()
        while not self.stopping.is_set():
            done = await _Pass(self).run()
            total.add(done)
            if not done.advanced:
                break
        return total


class _Pass:
    """The queues and the tasks of one pass."""

    def __init__(self, by: Sweeper) -> None:
        self._by = by
        # Nothing is claimed far ahead: what waits here is held, and a person may want it.
        self._todo: asyncio.Queue[_Held | None] = asyncio.Queue(maxsize=1)
        self._batch_size = min(by.batch_size, by.concurrency)
        self._done: asyncio.Queue[Settlement | None] = asyncio.Queue()
        self._unsettled: dict[str, Lease] = {}
        self._sweep = Sweep()

    async def run(self) -> Sweep:
        try:
            await _together(self._claim(), self._attend(), self._settle())
        finally:
            await asyncio.shield(self._give_back(list(self._unsettled)))
        return self._sweep

    async def _claim(self) -> None:
        """Keep `todo` filled until a claim finds less than it asked for, then say so to everybody."""
        full = True
        while full and not self._by.stopping.is_set():
            lease = self._by.leasing.new()
            batch = await self._by.store.claim_due(now=self._by.clock.now(), limit=self._batch_size, lease=lease)
            full = len(batch) == self._batch_size
            self._sweep.claimed += len(batch)
            for connection in batch:
                self._unsettled[connection.id] = lease
                await self._todo.put(_Held(connection=connection, lease=lease))
        for _ in range(self._by.concurrency):
            await self._todo.put(None)

    async def _attend(self) -> None:
        """Attend several at a time; once all are done, say so to the one who settles."""
        await _together(*(self._attend_one_after_another() for _ in range(self._by.concurrency)))
        self._done.put_nowait(None)

    async def _attend_one_after_another(self) -> None:
        while (held := await self._todo.get()) is not None:
            ready = not self._by.stopping.is_set() and self._by.leasing.allows_a_call(held.lease)
            settlement = await self._by.attendant.attend(held.connection) if ready else None
            if settlement is not None:
                self._done.put_nowait(settlement)
            else:
                await self._give_back([held.connection.id])

    async def _settle(self) -> None:
        """Write whatever has been decided in the meantime in one commit, until everything is done."""
        ended = False
        while not ended:
            batch = [await self._done.get()]
            await asyncio.sleep(GATHER)
            while not self._done.empty():
                batch.append(self._done.get_nowait())
            ended = batch[-1] is None
            await self._write([decided for decided in batch if decided is not None])

    async def _write(self, batch: list[Settlement]) -> None:
        """Write a batch. What was not taken is written down as such, unless somebody else was faster."""
        refused = await self._written(batch)
        lost = await self._written([self._by.attendant.give_up(one.before) for one in refused if not _is_race(one)])
        raced = [one for one in refused if _is_race(one)]
        await self._give_back([one.after.id for one in (*lost, *raced)])

    async def _written(self, batch: list[Settlement]) -> list[Settlement]:
        """Write what can be written; gives the rest."""
        if not batch:
            return []
        written = await self._settled(batch)
        for settlement in itertools.compress(batch, written):
            self._sweep.count(settlement)
            log_written(settlement)
            del self._unsettled[settlement.after.id]
        return [settlement for settlement, ours in zip(batch, written, strict=True) if not ours]

    async def _settled(self, batch: list[Settlement]) -> list[bool]:
        """Settle; one that the database does not take on its own must not end the pass for all others."""
        try:
            return await self._by.store.settle(batch, now=self._by.clock.now(), release=True)
        except OurFault as fault:
            if len(batch) > 1:
                raise
            log.error("settlement.refused", connection_id=batch[0].after.id, reason=str(fault))
            return [False]

    async def _give_back(self, connection_ids: list[str]) -> None:
        """Give back the leases of what was claimed and not written, so that nobody has to wait for them to run out."""
        by_lease: dict[Lease, list[str]] = {}
        for connection_id in connection_ids:
            by_lease.setdefault(self._unsettled.pop(connection_id), []).append(connection_id)
        self._sweep.lost += len(connection_ids)
        for lease, held in by_lease.items():
            await self._by.store.release(held, lease)


def _is_race(refused: Settlement) -> bool:
    """True for what another row can be faster with: an account or an e-mail is taken once. It is decided again."""
    return refused.after.account != refused.before.account or refused.after.recruiter != refused.before.recruiter


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all parts; when one fails the others are cancelled, and its error comes out as it is."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part)
    except BaseExceptionGroup as group:
        failure = group.exceptions[0]
    if failure is not None:
        raise failure
