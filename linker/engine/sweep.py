"""One pass over what is due: claim, call, decide and settle at the same time, each at its own pace.

Whoever asks Workable takes from what is claimed; the next batch is claimed a little before the last one is used up.
Whatever was found out in the meantime is decided in one go and settled in one commit: the slower the disk, the larger
the batches. (In one go, because the law is slower when it is taken up anew between any two calls.)
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from linker.engine.concurrency import BatchQueue, InFlight
from linker.engine.executor import DutyExecutor, Finding, log_written
from linker.engine.fairness import Claims, ClaimsOfSome, FairClaims
from linker.engine.impossible_times import ImpossibleTimes
from linker.engine.leases import HeldLeases, LeaseIssuer
from linker.engine.observer import UNOBSERVED, Observer
from linker.engine.ports import Clock, Settlement, Store
from linker.engine.prefetch import ClaimPacing, Prefetch
from linker.errors import LinkerError, OurFault
from linker.event_log import log
from states.connection import ConnectionState
from states.problems import TRANSIENT

#: How many are decided on, and settled in one commit, at most: a host's event loop is held for that long at a time.
DECIDED_ROWS = 50
SETTLED_ROWS = 100


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
        before, after = settlement.before, settlement.after
        if after.state is ConnectionState.FAILED and before.state is not ConnectionState.FAILED:
            self.failed += 1
        elif after.state is not before.state:
            self.advanced += 1
        elif after.problem and after.problem.code in TRANSIENT:
            self.unavailable += 1
        else:
            self.waiting += 1

    def add(self, other: Sweep) -> None:
        """Add another pass."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, kw_only=True)
class Sweeper:
    """Passes over what is due, several connections at a time."""

    store: Store
    executor: DutyExecutor
    lease_issuer: LeaseIssuer
    clock: Clock
    pacing: ClaimPacing
    impossible_times: ImpossibleTimes
    observer: Observer = UNOBSERVED
    #: True if all calls come out of one limit: a partner's.
    scarce: bool = False
    #: What has to come to its end before the store is closed.
    in_flight: InFlight = field(default_factory=InFlight)
    #: Once set, nothing more is claimed; what is in flight is finished.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def sweep(self, only: Sequence[str] | None = None) -> Sweep:
        """Attend everything that is due, also what becomes due at once by advancing and what was given back.

        `only`: of these connections.
        """
        total = Sweep()
        if only is None and not self.stopping.is_set():
            await self.impossible_times.bring_back()
        while not self.stopping.is_set():
            fair = FairClaims(self.store, self.clock, scarce=self.scarce)
            this = _Pass(self, fair if only is None else ClaimsOfSome(self.store, self.clock, only))
            done = await this.run()
            total.add(done)
            if not (done.advanced or this.gave_back):
                break
        return total


class _Pass:
    """Calls, decides and settles at the same time; what it holds is kept, or given back."""

    def __init__(self, by: Sweeper, claims: Claims) -> None:
        self._by = by
        self._held_leases = HeldLeases(by.store, by.lease_issuer)
        self._prefetch = Prefetch(
            claims,
            by.lease_issuer,
            self._held_leases,
            plan=by.executor.plan,
            pacing=by.pacing,
            stopping=by.stopping,
        )
        #: Asked, and not decided yet; decided, and not written yet.
        self._found = BatchQueue[Finding](enough=by.pacing.concurrency)
        self._decided = BatchQueue[Settlement]()
        self._sweep = Sweep()
        #: True once something was given back because it was not begun for too long.
        self.gave_back = False

    async def run(self) -> Sweep:
        beside = [asyncio.create_task(self._renew_leases()), asyncio.create_task(self._release_overdue())]
        try:
            await _together(self._call_several_at_a_time(), self._decide(), self._settle())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.shield(self._end())
        self._sweep.claimed, self._sweep.lost = self._prefetch.claimed, self._held_leases.lost
        return self._sweep

    async def _end(self) -> None:
        """Give back what is left, also of a claim that is still in flight, and also when nobody waits for it."""
        with self._by.in_flight:
            await self._prefetch.ended()
            await self._held_leases.release_all()

    async def _renew_leases(self) -> None:
        """Renew what is held in time. A worker that cannot claims no more, and begins nothing new."""
        while True:
            await asyncio.sleep(self._by.lease_issuer.renew_seconds)
            try:
                await self._held_leases.renew()
            except LinkerError as error:
                log.warning("lease.not_renewed", code=error.code, reason=error.reason, held=len(self._held_leases))
                await self._held_leases.release_if_possible(self._prefetch.stop())

    async def _release_overdue(self) -> None:
        """Give back what is held and not begun for too long: a person may want it. It is due in the next pass."""
        while True:
            overdue = await self._prefetch.overdue()
            self.gave_back = True
            await self._held_leases.release_if_possible(overdue)

    async def _call_several_at_a_time(self) -> None:
        """Do what is owed to one connection after another, several at a time; hand on what was found out."""

        async def one_after_another() -> None:
            while (planned := await self._prefetch.next()) is not None:
                found = None
                if self._held_leases.allows_a_call(planned.held):
                    began = time.monotonic()
                    found = await self._by.executor.run(planned)
                    if found is not None and found.asked:
                        self._by.pacing.took(time.monotonic() - began)
                if found is None:
                    await self._held_leases.release([planned.held])
                else:
                    self._found.put([found])

        await _together(*(one_after_another() for _ in range(self._by.pacing.concurrency)))
        self._found.end()

    async def _decide(self) -> None:
        """Decide on whatever was found in the meantime, until everything is done."""
        while batch := await self._found.take(DECIDED_ROWS):
            self._decided.put(await self._by.executor.decide_batch(batch))
        self._decided.end()

    async def _settle(self) -> None:
        """Write whatever was decided in the meantime in one commit, until everything is done.

        What was not taken is written down as such, unless somebody else was faster.
        """
        while batch := await self._decided.take(SETTLED_ROWS):
            refused = await self._write(batch)
            raced = [one for one in refused if is_race(one)]
            lost = await self._write([self._by.executor.give_up(one.before) for one in refused if not is_race(one)])
            self._by.observer.leases_lost(len(lost))
            await self._held_leases.release(one.before for one in (*lost, *raced))

    async def _write(self, batch: list[Settlement]) -> list[Settlement]:
        """Write what can be written; gives the rest. One that the database refuses must not end the pass for others."""
        if not batch:
            return []
        try:
            written = await self._by.store.settle(batch, now=self._by.clock.now(), release=True)
        except OurFault as fault:
            if len(batch) > 1:
                raise
            log.error("settlement.refused", connection_id=batch[0].after.id, reason=fault.reason)
            written = [False]
        for settlement in itertools.compress(batch, written):
            self._sweep.count(settlement)
            log_written(settlement)
            self._held_leases.wrote(settlement.before)
        return [settlement for settlement, ours in zip(batch, written, strict=True) if not ours]


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
