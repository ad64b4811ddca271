"""Whose turn it is: batches of what is due, in which no owner waits for another one's crowd.

As long as little is due, what is longest due comes first. When more is due than one batch holds, the owners take turns:
an owner with ten connections gets them attended also while another one has fifty thousand.
"""

from __future__ import annotations

from linker.ports import Clock, Lease, Store
from states.connection import Connection

#: How many turns are worked out at once: looking at all that is due costs too much for each batch.
AHEAD = 5_000


class Turns:
    """Claims batch after batch of at most `size`."""

    def __init__(self, store: Store, clock: Clock, size: int) -> None:
        self._store = store
        self._clock = clock
        self._size = size
        self._next: list[str] = []
        #: True once a claim found less than a batch: nothing more is due.
        self.over = False

    async def claim(self, lease: Lease) -> list[Connection]:
        """Lease the next batch; an empty one is not the last unless it is `over`."""
        if self._next:
            batch, self._next = self._next[: self._size], self._next[self._size :]
            return await self._store.claim_these(batch, now=self._clock.now(), lease=lease)
        claimed = await self._store.claim_due(now=self._clock.now(), limit=self._size, lease=lease)
        self.over = len(claimed) < self._size
        if not self.over:
            self._next = await self._store.turns(now=self._clock.now(), limit=AHEAD)
        return claimed
