"""What is claimed a little before it is begun: whoever is free to ask Workable does not wait for the database.

Only a little before, and only while answers come quickly: a person may want what is held and not begun.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from linker.holding import Holding
from linker.leasing import Leasing
from linker.turns import Turns
from states.connection import Connection

#: The next batch is claimed when so few are left, as a share of those that are attended at a time: as many as that are
#: begun while the last one is written and the next one read.
AHEAD = 2.0
#: How long a connection may be held and not begun, in seconds: a person may want it. Where a whole batch would take
#: longer, only as many are claimed as are begun at once, and none ahead.
SOON = 1.0


@dataclass
class Pace:
    """How many are claimed, and how early: as many as are surely begun soon. What a pass learnt holds for the next one.

    `concurrency`: how many are attended at a time. `batch_size`: how many are claimed in one transaction at most.
    """

    concurrency: int
    batch_size: int
    #: True while a whole batch would be begun soon.
    is_quick: bool = False

    @property
    def next_batch(self) -> int:
        """How many to claim now: a whole batch if the last one was used up quickly."""
        return self.batch_size if self.is_quick else min(self.batch_size, self.concurrency)

    def is_early_enough(self, left: int) -> bool:
        """True if so few are left that the next batch is claimed ahead."""
        return self.is_quick and left <= self.concurrency * AHEAD

    def used_up(self, number: int, seconds: float) -> None:
        """Learn how long a batch of so many lasted; an empty one tells nothing."""
        if number:
            self.is_quick = seconds * self.batch_size < number * SOON


class Prefetch:
    """Gives one connection after another to be attended, out of batches that it claims."""

    def __init__(
        self,
        turns: Turns,
        leasing: Leasing,
        holding: Holding,
        *,
        pace: Pace,
        stopping: asyncio.Event,
    ) -> None:
        """Take where batches come from and where their leases go.

        Args:
            turns: whose turn it is.
            leasing: makes the leases.
            holding: holds them.
            pace: how many are claimed, and how early.
            stopping: once set, nothing more is claimed or given.
        """
        self._turns = turns
        self._leasing = leasing
        self._holding = holding
        self._pace = pace
        #: The last batch that was claimed: when, and how many.
        self._last: tuple[float, int] | None = None
        self._stopping = stopping
        #: Claimed, and not begun yet.
        self._waiting: deque[Connection] = deque()
        self._claim_under_way: asyncio.Task[None] | None = None
        self._all_claimed = False
        self._begun = 0
        #: How many were claimed.
        self.claimed = 0

    async def next(self) -> Connection | None:
        """The next one to attend; None once nothing more is to be done. Raises what claiming raised."""
        while not self._waiting and self._claims():
            await asyncio.shield(self._under_way())  # to its end: leases that it takes after us would be nobody's
        if not self._waiting or self._stopping.is_set():
            return None
        self._begun += 1
        connection = self._waiting.popleft()
        if self._pace.is_early_enough(len(self._waiting)) and self._claims():
            self._under_way()
        return connection

    def stop(self) -> list[Connection]:
        """Claim no more, and begin nothing of what is held; gives what is not begun any more."""
        self._all_claimed = True
        return self._put_back()

    async def left_idle(self) -> list[Connection]:
        """What is held and not begun, if nothing was begun for a while: it is not begun any more."""
        begun = self._begun
        await asyncio.sleep(SOON)
        return self._put_back() if self._begun == begun else []

    async def ended(self) -> None:
        """Wait for a claim that nobody waits for any more: its thread goes on."""
        if self._claim_under_way is not None:
            await asyncio.gather(self._claim_under_way, return_exceptions=True)

    def _put_back(self) -> list[Connection]:
        unbegun = list(self._waiting)
        self._waiting.clear()
        return unbegun

    def _claims(self) -> bool:
        """True if there may be more to claim. Raises what claiming raised."""
        if self._claim_under_way is not None and self._claim_under_way.done():
            self._claim_under_way.result()
        return not (self._all_claimed or self._stopping.is_set())

    def _under_way(self) -> asyncio.Task[None]:
        """The claim that is under way, or a new one."""
        if self._claim_under_way is None or self._claim_under_way.done():
            self._claim_under_way = asyncio.create_task(self._claim_batch())
        return self._claim_under_way

    async def _claim_batch(self) -> None:
        if self._last is not None:
            claimed_at, claimed = self._last
            self._pace.used_up(claimed, time.monotonic() - claimed_at)
        lease = self._leasing.new()
        batch = await self._turns.claim(lease, self._pace.next_batch)
        self._last = (time.monotonic(), len(batch))
        self._all_claimed = self._all_claimed or self._turns.over
        self.claimed += len(batch)
        self._holding.took(batch, lease)
        self._waiting += batch
