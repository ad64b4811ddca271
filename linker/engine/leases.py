"""Leases: the right to attend a connection, who holds it, and until when.

A lease is renewed as long as its pass goes on, given back when nothing came of it, and ends by itself when its holder
died. A holder that stood still for too long loses it, and writes nothing: the version has changed.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from linker.engine.ports import Clock, Lease, Store
from linker.errors import LinkerError
from states.connection import Connection

#: With less than this share of it left, a lease is not used for a call any more: longer than any question may take.
NEEDED_RATIO = 0.3
#: The share of a lease that a delivery to the host may take at most; the rest is for claiming and writing down.
DELIVERY_RATIO = 0.5
#: How long a delivery may take, however long leases are.
DELIVERY_SECONDS = 15.0
#: The share of a lease that a question to Workable may take at most.
QUESTION_RATIO = 0.25


def new_worker_id() -> str:
    """A name for this worker that is new at each start: a restarted worker is not the one that died."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class LeaseIssuer:
    """Makes this worker's leases; each has a holder of its own, so that none is mistaken for another."""

    def __init__(self, clock: Clock, length: timedelta, worker_id: str | None = None) -> None:
        """Take the length of a lease and, in tests, the worker's name."""
        self._clock = clock
        self._length = length
        self._worker_id = worker_id or new_worker_id()
        self._process = os.getpid()
        self._numbers = itertools.count(1)

    @property
    def worker_id(self) -> str:
        """This worker's name: another one in a process that was forked, as queues and web servers do."""
        if self._process != os.getpid():
            self._process, self._worker_id = os.getpid(), new_worker_id()
        return self._worker_id

    def new(self) -> Lease:
        """A lease that begins now."""
        return Lease(holder=f"{self.worker_id}:{next(self._numbers)}", until=self._clock.now() + self._length)

    def renewed(self, lease: Lease) -> Lease:
        """The same lease, as long as one that begins now."""
        return replace(lease, until=self._clock.now() + self._length)

    @property
    def renew_seconds(self) -> float:
        """How often leases are renewed: one lost try does no harm."""
        return self._length.total_seconds() / 3

    @property
    def delivery_seconds(self) -> float:
        """How long a delivery may take: it ends before its lease does."""
        return min(DELIVERY_SECONDS, self._length.total_seconds() * DELIVERY_RATIO)

    def allows_a_delivery(self, lease: Lease) -> bool:
        """True if a delivery that begins now surely ends before the lease does."""
        return self._clock.now() + timedelta(seconds=self.delivery_seconds) <= lease.until

    def allows_a_call(self, lease: Lease) -> bool:
        """True if a call that begins now surely ends before the lease does."""
        return self._clock.now() + self._length * NEEDED_RATIO <= lease.until


#: What a lease is for: a connection's id, and the version that it was claimed at. A pass that stood still may meet a
#: connection twice.
Hold = tuple[str, int]


class HeldLeases:
    """The leases that a pass holds: of what is claimed and not written yet."""

    def __init__(self, store: Store, lease_issuer: LeaseIssuer) -> None:
        self._store = store
        self._lease_issuer = lease_issuer
        self._leases: dict[Hold, Lease] = {}
        #: How many were given back, or left to end by themselves: nothing of ours was written.
        self.lost = 0

    def __len__(self) -> int:
        return len(self._leases)

    def took(self, batch: Iterable[Connection], lease: Lease) -> None:
        """Hold what was claimed under a lease."""
        self._leases |= {(one.id, one.version): lease for one in batch}

    def allows_a_call(self, connection: Connection) -> bool:
        """True if a call that begins now surely ends before the lease of this connection does."""
        return self._lease_issuer.allows_a_call(self._leases[connection.id, connection.version])

    def wrote(self, connection: Connection) -> None:
        """Hold no longer what was written: its lease was given back in the same commit."""
        del self._leases[connection.id, connection.version]

    async def renew(self) -> None:
        """Let what is held last as long as if it was claimed now. What is lost by now is left as it is."""
        for lease, holds in self._by_lease(list(self._leases)).items():
            renewed = self._lease_issuer.renewed(lease)
            kept = await self._store.renew([connection_id for connection_id, _ in holds], renewed)
            self._leases |= {hold: renewed for hold in holds if hold in self._leases and hold[0] in kept}

    async def release(self, connections: Iterable[Connection]) -> None:
        """Give back what nothing came of, so that nobody has to wait for its leases to run out."""
        await self._release([(one.id, one.version) for one in connections])

    async def release_if_possible(self, connections: Iterable[Connection]) -> None:
        """Give back what nobody has begun. Where that fails its leases end by themselves: they are not renewed."""
        holds = [(one.id, one.version) for one in connections]
        try:
            await self._release(holds)
        except LinkerError:
            self._forget(holds)

    async def release_all(self) -> None:
        """Give back whatever is held."""
        await self._release(list(self._leases))

    async def _release(self, holds: Iterable[Hold]) -> None:
        for lease, of_it in self._by_lease(holds).items():
            await self._store.release([connection_id for connection_id, _ in of_it], lease)
            self._forget(of_it)  # only now: whoever is cancelled before leaves it to the end of the pass

    def _forget(self, holds: Iterable[Hold]) -> None:
        self.lost += sum(self._leases.pop(hold, None) is not None for hold in holds)

    def _by_lease(self, holds: Iterable[Hold]) -> dict[Lease, list[Hold]]:
        by_lease: dict[Lease, list[Hold]] = {}
        for hold in holds:
            by_lease.setdefault(self._leases[hold], []).append(hold)
        return by_lease
