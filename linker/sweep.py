"""One pass over what is due: claim, attend and settle at the same time, each at its own pace.

Whoever asks Workable takes from what is claimed, and claims the next batch once nothing is left. Whatever was found out
in the meantime is decided in one go and settled in one commit: the slower the disk, the larger the batches. (In one go,
because the law is slower when it is taken up anew between any two calls.)
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

import structlog

from linker.attending import Attendant, Found, log_written
from linker.errors import LinkerError, OurFault
from linker.leasing import Leasing
from linker.observing import UNOBSERVED, Observer
from linker.ports import Clock, Lease, Settlement, Store
from linker.turns import Turns
from states.connection import Connection, ConnectionState
from states.problems import TRANSIENT

T = TypeVar("T")

log = structlog.get_logger("linker")

#: What a lease is for: a connection's id, and the version that it was claimed at.
Hold = tuple[str, int]

#: The next batch is claimed when so few are left, as a share of those that are attended at a time.
AHEAD = 0.2
#: How long a connection may be held and not begun, in seconds: a person may want it. Where a whole batch would take
#: longer, only as many are claimed as are begun at once, and none ahead.
SOON = 1.0
#: How long answers are gathered before they are decided on and written in one commit, in seconds.
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
    #: Somebody else was faster, the lease ran out, or it was given back unasked; nothing of ours was written.
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
class Sweeper:
    """Passes over what is due: `concurrency` connections at a time, `batch_size` claimed in one transaction."""

    store: Store
    attendant: Attendant
    leasing: Leasing
    clock: Clock
    concurrency: int
    batch_size: int
    observer: Observer = UNOBSERVED
    #: True if all calls come out of one ration: a partner's.
    scarce: bool = False
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
    """What is held, what was found out, and the tasks of one pass."""

    def __init__(self, by: Sweeper) -> None:
        self._by = by
        self._turns = Turns(by.store, by.clock, scarce=by.scarce)
        #: Claimed, and not attended yet.
        self._todo: deque[Connection] = deque()
        self._claiming = asyncio.Lock()
        self._all_claimed = False
        #: The last batch that was claimed: when, and how many.
        self._last = (-math.inf, 0)
        #: True while a whole batch would be begun soon.
        self._is_quick = False
        self._claim_under_way: asyncio.Task[None] | None = None
        #: How many were taken to be attended.
        self._begun = 0
        #: Asked, and not decided yet; decided, and not written yet.
        self._found = _Tray[Found]()
        self._decided = _Tray[Settlement]()
        #: The leases of what is held, by connection and version: a pass that stood still may meet a connection twice.
        self._held: dict[Hold, Lease] = {}
        self._sweep = Sweep()

    async def run(self) -> Sweep:
        beside = [asyncio.create_task(self._keep()), asyncio.create_task(self._let_go())]
        try:
            await _together(self._attend(), self._decide(), self._settle())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.shield(self._end())
        return self._sweep

    async def _end(self) -> None:
        """Give back what is left, also of a claim that nobody waits for any more: its thread goes on."""
        if self._claim_under_way is not None:
            await asyncio.gather(self._claim_under_way, return_exceptions=True)
        await self._give_back(list(self._held))

    async def _keep(self) -> None:
        """Renew what is held in time. A worker that cannot claims no more, and begins nothing new."""
        while True:
            await asyncio.sleep(self._by.leasing.renew_every)
            try:
                for lease, holds in _by_lease(self._held).items():
                    await self._renew(lease, holds)
            except LinkerError as error:
                log.warning("lease.not_renewed", code=error.code, reason=str(error), held=len(self._held))
                self._all_claimed = True
                self._todo.clear()

    async def _let_go(self) -> None:
        """Give back what is held and not begun, once nothing was begun for a while: a person may want it."""
        while True:
            begun = self._begun
            await asyncio.sleep(SOON)
            if self._todo and self._begun == begun:
                unbegun = [_hold(connection) for connection in self._todo]
                self._todo.clear()
                with suppress(LinkerError):  # leases end by themselves
                    await self._give_back(unbegun)

    async def _renew(self, lease: Lease, holds: list[Hold]) -> None:
        renewed = self._by.leasing.renewed(lease)
        kept = await self._by.store.renew([connection_id for connection_id, _ in holds], renewed)
        for hold in holds:
            if hold in self._held and hold[0] in kept:
                self._held[hold] = renewed

    async def _attend(self) -> None:
        """Attend several at a time."""
        await _together(*(self._attend_one_after_another() for _ in range(self._by.concurrency)))
        self._found.end()

    async def _attend_one_after_another(self) -> None:
        while (held := await self._next()) is not None:
            ready = self._by.leasing.allows_a_call(self._held[_hold(held)])
            found = await self._by.attendant.ask(held) if ready else None
            if found is not None:
                self._found.put([found])
            else:
                await self._give_back([_hold(held)])

    async def _next(self) -> Connection | None:
        """The next one to attend; whoever finds few left claims for all. None once nothing more is to be done."""
        while self._few_left() and not (self._todo and self._claiming.locked()):
            async with self._claiming:
                if self._few_left():
                    await self._claim()
        if not self._todo or self._by.stopping.is_set():
            return None
        self._begun += 1
        return self._todo.popleft()

    def _few_left(self) -> bool:
        """True if it is time to claim more."""
        ended = self._all_claimed or self._by.stopping.is_set()
        return not ended and len(self._todo) <= (self._by.concurrency * AHEAD if self._is_quick else 0)

    async def _claim(self) -> None:
        """Claim a batch, to its end: leases that a thread takes after we were cancelled would be nobody's."""
        claimed_at, claimed = self._last
        self._is_quick = (time.monotonic() - claimed_at) * self._by.batch_size < claimed * SOON
        most = self._by.batch_size if self._is_quick else min(self._by.batch_size, self._by.concurrency)
        self._claim_under_way = asyncio.create_task(self._claimed(most))
        await asyncio.shield(self._claim_under_way)

    async def _claimed(self, most: int) -> None:
        lease = self._by.leasing.new()
        batch = await self._turns.claim(lease, most)
        self._last = (time.monotonic(), len(batch))
        self._all_claimed = self._all_claimed or self._turns.over
        self._sweep.claimed += len(batch)
        self._held |= {_hold(connection): lease for connection in batch}
        self._todo += batch

    async def _decide(self) -> None:
        """Decide on whatever was found in the meantime, until everything is done."""
        while batch := await self._found.take(gathering=self._by.concurrency):
            self._decided.put(await self._by.attendant.conclude(batch))
        self._decided.end()

    async def _settle(self) -> None:
        """Write whatever was decided in the meantime in one commit, until everything is done."""
        while batch := await self._decided.take():
            await self._write(batch)

    async def _write(self, batch: list[Settlement]) -> None:
        """Write a batch. What was not taken is written down as such, unless somebody else was faster."""
        refused = await self._written(batch)
        lost = await self._written([self._by.attendant.give_up(one.before) for one in refused if not is_race(one)])
        raced = [one for one in refused if is_race(one)]
        self._by.observer.leases_lost(len(lost))
        await self._give_back([_hold(one.before) for one in (*lost, *raced)])

    async def _written(self, batch: list[Settlement]) -> list[Settlement]:
        """Write what can be written; gives the rest."""
        if not batch:
            return []
        written = await self._settled(batch)
        for settlement in itertools.compress(batch, written):
            self._sweep.count(settlement)
            log_written(settlement)
            del self._held[_hold(settlement.before)]
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

    async def _give_back(self, holds: list[Hold]) -> None:
        """Give back the leases of what was claimed and not written, so that nobody has to wait for them to run out."""
        for lease, of_it in _by_lease({hold: self._held[hold] for hold in holds}).items():
            await self._by.store.release([connection_id for connection_id, _ in of_it], lease)
            for hold in of_it:
                self._held.pop(hold, None)  # only now: whoever is cancelled before leaves it to the end of the pass
            self._sweep.lost += len(of_it)


class _Tray(Generic[T]):
    """What one part of a pass hands on to the next, who takes all that is there at once."""

    def __init__(self) -> None:
        self._things: list[T] = []
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, things: list[T]) -> None:
        """Hand things on."""
        self._things += things
        self._changed.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._changed.set()

    async def take(self, *, gathering: int = 0) -> list[T]:
        """Wait for things and take them all; none once nothing more comes. As long as they are few, wait for more."""
        await self._changed.wait()
        if len(self._things) < gathering and not self._ended:
            await asyncio.sleep(GATHER)
        if not self._ended:
            self._changed.clear()
        taken, self._things = self._things, []
        return taken


def _by_lease(held: dict[Hold, Lease]) -> dict[Lease, list[Hold]]:
    by_lease: dict[Lease, list[Hold]] = {}
    for hold, lease in held.items():
        by_lease.setdefault(lease, []).append(hold)
    return by_lease


def _hold(held: Connection) -> Hold:
    """What a lease is for: a connection, as it was claimed."""
    return held.id, held.version


def is_race(refused: Settlement) -> bool:
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
