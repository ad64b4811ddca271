"""Claims of what is due, batch after batch: of some, or of all, where no owner waits for another one's crowd.

The first batch is what is longest due. If more is due than that, the owners take turns: an owner with ten connections
gets them attended also while another one has fifty thousand. A connection comes once in each state in a pass: one that
cannot be written does not keep the pass going for ever.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from linker.engine.ports import Clock, Lease, Store
from states.connection import Connection

#: How many turns are worked out at once: looking at all that is due costs too much for each batch.
LISTED_ROWS = 5_000
#: How long they hold, at least, and as a multiple of the time that it took: what falls due in the meantime waits.
FRESH_SECONDS = 1.0
FRESH_PER_SECOND_RATIO = 20


class Claims(Protocol):
    """Where the batches of a pass come from."""

    #: True once nothing more is due.
    over: bool

    async def claim(self, lease: Lease, most: int) -> list[Connection]:
        """Lease the next batch of at most so many. It may be empty: others were faster, or all were put off."""


class ClaimsOfSome:
    """Claims those of some connections that are due, in the order given, each once."""

    def __init__(self, store: Store, clock: Clock, ids: Sequence[str]) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self.over = not ids

    async def claim(self, lease: Lease, most: int) -> list[Connection]:
        """Lease the next batch of at most so many."""
        batch, self._ids = self._ids[:most], self._ids[most:]
        self.over = not self._ids
        return await self._store.claim_these(batch, now=self._clock.now(), lease=lease)


class FairClaims:
    """Claims all that is due. `scarce`: all calls come out of one limit, so turns matter from the first one on."""

    def __init__(self, store: Store, clock: Clock, *, scarce: bool = False) -> None:
        self._store = store
        self._clock = clock
        self._scarce = scarce
        self._first = not scarce
        self._next: list[str] = []
        #: True once all that was due is listed.
        self._all_listed = False
        self._fresh_until = 0.0
        self._given: set[tuple[str, str]] = set()
        #: True once nothing more is due.
        self.over = False

    async def claim(self, lease: Lease, most: int) -> list[Connection]:
        """Lease the next batch of at most so many. It may be empty: others were faster, or all were put off."""
        if self._first:
            self._first = False
            claimed = await self._store.claim_due(now=self._clock.now(), limit=most, lease=lease)
        else:
            is_stale = bool(self._next) and time.monotonic() > self._fresh_until
            if is_stale or not (self._next or self._all_listed):
                await self._list()
            batch, self._next = self._next[:most], self._next[most:]
            claimed = await self._store.claim_these(batch, now=self._clock.now(), lease=lease) if batch else []
            self.over = not batch or (self._scarce and not claimed)
        self._given.update((one.id, one.state.value) for one in claimed)
        return claimed

    async def _list(self) -> None:
        """Work out whose turn it is, and how long that holds."""
        began = time.monotonic()
        due = await self._store.due_round_robin(now=self._clock.now(), limit=LISTED_ROWS)
        took = time.monotonic() - began
        self._fresh_until = began + took + max(FRESH_SECONDS, took * FRESH_PER_SECOND_RATIO)
        self._all_listed = len(due) < LISTED_ROWS
        self._next = [connection_id for connection_id, state in due if (connection_id, state) not in self._given]
