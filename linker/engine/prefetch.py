"""Prefetching claims: what is claimed a little before it is begun, so that nobody who is free waits for the database.

Only a little before, and only while answers come quickly: a person may want what is held and not begun.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from linker.engine.concurrency import in_parts
from linker.engine.executor import PlannedDuty
from linker.engine.fairness import Claims
from linker.engine.leases import HeldLeases, LeaseIssuer
from states.connection import Connection

#: How long a connection may be held and not begun: a person may want it.
BEGIN_WITHIN_SECONDS = 1.0
#: How many are claimed at once: those that are begun within this share of that time.
BATCH_RATIO = 0.5
#: The next batch is claimed when fewer are left than are begun within this share of it, and never while more are left
#: than this multiple of those that are attended at a time.
EARLY_RATIO = 0.1
AHEAD_RATIO = 4
#: After which share of it is looked again for what is held for longer.
WATCH_RATIO = 0.25
#: No answer is quicker.
QUICKEST_SECONDS = 0.0001
#: How many duties are planned at a time: a host's event loop is held for that long.
PLANNED_ROWS = 50
#: How much of what is known of Workable's pace comes from the last answer.
NEWS_RATIO = 0.1


@dataclass
class ClaimPacing:
    """How many are claimed, and how early: those that are surely begun soon. What a pass learnt holds for the next one.

    `concurrency`: how many are attended at a time. `batch_size`: how many are claimed in one transaction at most.
    """

    concurrency: int
    batch_size: int
    #: How long an answer takes, in seconds, as the last ones showed. None until one came.
    latency: float | None = None

    def next_batch(self, free: int) -> int:
        """How many to claim now, while so many wait for one: few while all wait, or while answers are slow."""
        soon = self._few if free >= self.concurrency else self._begun_within(BATCH_RATIO)
        return max(1, min(self.batch_size, max(free, soon)))

    def is_early_enough(self, left: int) -> bool:
        """True if so few are left that the next batch is claimed ahead."""
        return left < self._few

    def took(self, seconds: float) -> None:
        """Learn that an answer took so long."""
        self.latency = seconds if self.latency is None else self.latency + (seconds - self.latency) * NEWS_RATIO

    def slowed_down(self) -> None:
        """Learn that what was to be begun soon was not. The next quick answers may tell otherwise."""
        self.latency = max(self.latency or 0.0, 2 * BEGIN_WITHIN_SECONDS * BATCH_RATIO)

    @property
    def _few(self) -> int:
        """Those that are begun within a moment, in which the next batch can be claimed."""
        return min(self.concurrency * AHEAD_RATIO, self._begun_within(EARLY_RATIO))

    def _begun_within(self, share: float) -> int:
        """How many are begun within a share of the time; none where answers are slow, or nobody knows."""
        if self.latency is None or self.latency > BEGIN_WITHIN_SECONDS * BATCH_RATIO:
            return 0
        return int(self.concurrency * BEGIN_WITHIN_SECONDS * share / max(self.latency, QUICKEST_SECONDS))


class Prefetch:
    """Gives one connection after another to be attended, out of batches that it claims."""

    def __init__(
        self,
        claims: Claims,
        lease_issuer: LeaseIssuer,
        held_leases: HeldLeases,
        *,
        plan: Callable[[Connection], PlannedDuty],
        pacing: ClaimPacing,
        stopping: asyncio.Event,
    ) -> None:
        """Take where batches come from and where their leases go.

        Args:
            claims: claims a batch.
            lease_issuer: makes the leases.
            held_leases: holds them.
            plan: says what is to be done for a connection; a batch is planned in one go.
            pacing: how many are claimed, and how early.
            stopping: once set, nothing more is claimed or given.
        """
        self._claims = claims
        self._lease_issuer = lease_issuer
        self._held_leases = held_leases
        self._plan = plan
        self._pacing = pacing
        self._stopping = stopping
        #: Claimed at these times, and not begun yet.
        self._waiting: deque[tuple[float, PlannedDuty]] = deque()
        self._claim_in_flight: asyncio.Task[None] | None = None
        #: How many wait for something to begin.
        self._free = 0
        self._ended = False
        #: How many were claimed.
        self.claimed = 0

    async def next(self) -> PlannedDuty | None:
        """What to do next; None once nothing more is to be done. Raises what claiming raised."""
        self._free += 1
        try:
            while not self._waiting and self._may_claim():
                await asyncio.shield(self._claim())  # to its end: leases that it takes after us would be nobody's
        finally:
            self._free -= 1
        if not self._waiting or self._ended or self._stopping.is_set():
            return None
        _, planned = self._waiting.popleft()
        if self._pacing.is_early_enough(len(self._waiting)) and self._may_claim():
            self._claim()
        return planned

    def _may_claim(self) -> bool:
        """True if there may be more to claim. Raises what claiming raised."""
        if self._claim_in_flight is not None and self._claim_in_flight.done():
            self._claim_in_flight.result()
        return not (self._ended or self._claims.over or self._stopping.is_set())

    def _claim(self) -> asyncio.Task[None]:
        """The claim that is in flight, or a new one."""

        async def claim_batch() -> None:
            lease = self._lease_issuer.new()
            batch = await self._claims.claim(lease, self._pacing.next_batch(self._free))
            self.claimed += len(batch)
            self._held_leases.took(batch, lease)
            now = time.monotonic()
            async for part in in_parts(batch, PLANNED_ROWS):
                self._waiting += [(now, self._plan(held)) for held in part]

        if self._claim_in_flight is None or self._claim_in_flight.done():
            self._claim_in_flight = asyncio.create_task(claim_batch())
        return self._claim_in_flight

    def stop(self) -> list[Connection]:
        """Claim no more, and begin nothing of what is held; gives what is not begun any more."""
        self._ended = True
        return self._put_back(len(self._waiting))

    async def overdue(self) -> list[Connection]:
        """What was held for too long and not begun, once there is some: it is not begun any more."""
        while True:
            await asyncio.sleep(BEGIN_WITHIN_SECONDS * WATCH_RATIO)
            begun_by_now = time.monotonic() - BEGIN_WITHIN_SECONDS
            if too_long := sum(claimed_at <= begun_by_now for claimed_at, _ in self._waiting):
                self._pacing.slowed_down()
                return self._put_back(too_long)

    def _put_back(self, count: int) -> list[Connection]:
        return [self._waiting.popleft()[1].held for _ in range(count)]

    async def ended(self) -> None:
        """Wait for a claim that nobody waits for any more: its thread goes on."""
        if self._claim_in_flight is not None:
            await asyncio.gather(self._claim_in_flight, return_exceptions=True)
