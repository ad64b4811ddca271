"""The right to attend a connection: who holds it, and until when."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from dataclasses import replace
from datetime import timedelta

from linker.ports import Clock, Lease

#: With less than this share of it left, a lease is not used for a call any more: longer than any question may take.
NEEDED = 0.3
#: The share of a lease that a delivery to the host may take at most; the rest is for claiming and writing down.
FOR_A_DELIVERY = 0.5
#: How long a delivery may take, in seconds, however long leases are.
DELIVERY_TIME = 15.0
#: The share of a lease that a question to Workable may take at most.
FOR_A_QUESTION = 0.25


def new_worker_id() -> str:
    """A name for this worker that is new at each start: a restarted worker is not the one that died."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Leasing:
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
    def renew_every(self) -> float:
        """How often leases are renewed, in seconds: one lost try does no harm."""
        return self._length.total_seconds() / 3

    @property
    def for_a_delivery(self) -> float:
        """How long a delivery may take, in seconds: it ends before its lease does."""
        return min(DELIVERY_TIME, self._length.total_seconds() * FOR_A_DELIVERY)

    def allows_a_delivery(self, lease: Lease) -> bool:
        """True if a delivery that begins now surely ends before the lease does."""
        return self._clock.now() + timedelta(seconds=self.for_a_delivery) <= lease.until

    def allows_a_call(self, lease: Lease) -> bool:
        """True if a call that begins now surely ends before the lease does."""
        return self._clock.now() + self._length * NEEDED <= lease.until
