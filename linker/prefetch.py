"""What is claimed a little before it is begun: whoever is free to ask Workable does not wait for the database.

Only a little before, and only while answers come quickly: a person may want what is held and not begun.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from linker.holding import Holding
from linker.leasing import Leasing
from linker.turns import Turns
from states.connection import Connection

#: The next batch is claimed when so few are left, as a share of those that are attended at a time.
AHEAD = 0.2
#: How long a connection may be held and not begun, in seconds: a person may want it. Where a whole batch would take
#: longer, only as many are claimed as are begun at once, and none ahead.
SOON = 1.0


class Prefetch:
    """Gives one connection after another to be attended, out of batches that it claims."""

    def __init__(
        self,
        turns: Turns,
        leasing: Leasing,
        holding: Holding,
        *,
        concurrency: int,
        batch_size: int,
        stopping: asyncio.Event,
    ) -> None:
        """Take where batches come from and where their leases go.

        Args:
            turns: whose turn it is.
            leasing: makes the leases.
            holding: holds them.
            concurrency: how many are attended at a time.
            batch_size: how many are claimed in one transaction at most.
            stopping: once set, nothing more is claimed or given.
        """
        self._turns = turns
        self._leasing = leasing
        self._holding = holding
        self._pace = _Pace(concurrency, batch_size)
        self._stopping = stopping
        #: Claimed, and not begun yet.
        self._waiting: deque[Connection] = deque()
        self._claiming = asyncio.Lock()
        self._claim_under_way: asyncio.Task[None] | None = None
        self._all_claimed = False
        self._begun = 0
        #: How many were claimed.
        self.claimed = 0

    async def next(self) -> Connection | None:
        """The next one to attend; whoever finds few left claims for all. None once nothing more is to be done."""
        while self._is_short() and not (self._waiting and self._claiming.locked()):
            async with self._claiming:
                if self._is_short():
                    await self._claim()
        if not self._waiting or self._stopping.is_set():
            return None
        self._begun += 1
        return self._waiting.popleft()

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

    def _is_short(self) -> bool:
        """True if it is time to claim more."""
        ended = self._all_claimed or self._stopping.is_set()
        return not ended and self._pace.is_short(len(self._waiting))

    async def _claim(self) -> None:
        """Claim a batch, to its end: leases that a thread takes after we were cancelled would be nobody's."""
        self._claim_under_way = asyncio.create_task(self._claim_batch(self._pace.next_batch()))
        await asyncio.shield(self._claim_under_way)

    async def _claim_batch(self, most: int) -> None:
        lease = self._leasing.new()
        batch = await self._turns.claim(lease, most)
        self._pace.claimed(len(batch))
        self._all_claimed = self._all_claimed or self._turns.over
        self.claimed += len(batch)
        self._holding.took(batch, lease)
        self._waiting += batch


class _Pace:
    """How many are claimed, and how early: as many as are surely begun soon."""

    def __init__(self, concurrency: int, batch_size: int) -> None:
        self._concurrency = concurrency
        self._batch_size = batch_size
        #: The last batch that was claimed: when, and how many.
        self._last = (-math.inf, 0)
        #: True while a whole batch would be begun soon.
        self._is_quick = False

    def is_short(self, left: int) -> bool:
        """True if so few are left that the next batch is claimed now."""
        return left <= (self._concurrency * AHEAD if self._is_quick else 0)

    def next_batch(self) -> int:
        """How many to claim now: a whole batch if the last one was used up quickly."""
        claimed_at, claimed = self._last
        self._is_quick = (time.monotonic() - claimed_at) * self._batch_size < claimed * SOON
        return self._batch_size if self._is_quick else min(self._batch_size, self._concurrency)

    def claimed(self, number: int) -> None:
        """Note that so many were claimed now."""
        self._last = (time.monotonic(), number)
