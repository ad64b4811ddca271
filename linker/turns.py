"""Whose turn it is: batches of what is due, in which no owner waits for another one's crowd.

The first batch is what is longest due. If more is due than that, the owners take turns: an owner with ten connections
gets them attended also while another one has fifty thousand. Each connection comes once in a pass: one that cannot be
written does not keep the pass going for ever.
"""

from __future__ import annotations

from linker.ports import Clock, Lease, Store
from states.connection import Connection

#: How many turns are worked out at once: looking at all that is due costs too much for each batch.
AHEAD = 5_000


class Turns:
    """Claims batch after batch."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._next: list[str] = []
        self._given: set[str] = set()
        #: True once all that was due is listed: what falls due in the meantime is for the next pass.
        self._all_listed = False
        #: True once nothing more is due.
        self.over = False

    async def claim(self, lease: Lease, most: int) -> list[Connection]:
        """Lease the next batch of at most so many. It may be empty: others were faster, or all were put off."""
        if not self._given:
            claimed = await self._store.claim_due(now=self._clock.now(), limit=most, lease=lease)
            self.over = not claimed
        else:
            batch = await self._next_ids(most)
            self.over = not batch
            claimed = await self._store.claim_these(batch, now=self._clock.now(), lease=lease) if batch else []
            self._given.update(batch)
        self._given.update(one.id for one in claimed)
        return claimed

    async def _next_ids(self, most: int) -> list[str]:
        if not self._next and not self._all_listed:
            due = await self._store.turns(now=self._clock.now(), limit=AHEAD)
            self._all_listed = len(due) < AHEAD
            self._next = [one for one in due if one not in self._given]
        batch, self._next = self._next[:most], self._next[most:]
        return batch
