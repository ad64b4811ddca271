"""Telling the host: each announcement at least once, after the commit, in order for each connection.

A receiver takes announcements: the handlers of this process, or the webhook. Each has a channel of the outbox of its
own, so that neither waits for the other; and nobody who links waits for either. What a receiver does not take is tried
again for three days, then it is a dead letter, and the next one of its connection goes on.

A process delivers only what it has a receiver for. What nobody was there to take for a week expires: whoever begins to
listen is not told of years ago. What is cut off in the midst is delivered again once its lease has run out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from linker.engine.leases import LeaseIssuer
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import Clock, Lease, Randomness
from linker.event_log import log
from linker.outbox.announcements import Announcement, DeliveryOutcome
from linker.outbox.channels import Channel
from linker.outbox.outbox_store import OutboxStore
from states.timing import Backoff, next_try

#: How long an announcement is tried, from its first try on.
GIVE_UP_AFTER = timedelta(days=3)
#: How often announcements that nobody was there for are looked for.
EXPIRE_EVERY = timedelta(hours=1)
#: How long deliveries that end are gathered before they are written in one commit.
GATHER_SECONDS = 0.02
#: How long a slow delivery keeps us from looking for what else is due.
LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class ReceiverResult:
    """What became of an announcement at its receiver."""

    #: The names of those that have it now.
    reached: frozenset[str] = frozenset()
    #: What went wrong, in short and without any secret; None: nothing.
    error: str | None = None
    #: The receiver asked not to be told again before this time.
    retry_at: datetime | None = None
    #: Trying again is of no use.
    is_permanent: bool = False


class Receiver(Protocol):
    """Who takes announcements."""

    #: The channel on which announcements come here.
    channel: ClassVar[Channel]
    #: How many are delivered at the same time.
    concurrency: ClassVar[int]
    #: The pauses between two tries.
    backoff: ClassVar[Backoff]

    @property
    def types(self) -> Collection[str]:
        """The kinds that are taken now; none: nothing is claimed."""
        ...

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Take an announcement, within so many seconds. Trouble is an answer, never an exception."""
        ...


@dataclass(kw_only=True)
class Deliverer:
    """Brings announcements to one receiver."""

    outbox: OutboxStore
    receiver: Receiver
    lease_issuer: LeaseIssuer
    clock: Clock
    randomness: Randomness
    observer: Observer = UNOBSERVED
    #: Once set, nothing more is claimed; what is in flight is finished.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _expired_at: datetime | None = None

    async def deliver(self, *, begin_for: float = math.inf) -> int:
        """Deliver what is due, also what becomes due by that; gives how many announcements were delivered.

        A slow delivery holds up its own connection only: the others are claimed and written down meanwhile.
        `begin_for`: after so many seconds nothing more is begun.
        """
        await self._tidy_up()
        begins_until = time.monotonic() + begin_for
        delivered = 0
        in_flight: dict[asyncio.Task[DeliveryOutcome], Lease] = {}
        try:
            while True:
                room, types = self.receiver.concurrency - len(in_flight), list(self.receiver.types)
                if room > 0 and types and not self.stopping.is_set() and time.monotonic() < begins_until:
                    lease = self.lease_issuer.new()
                    now = self.clock.now()
                    due = await self.outbox.claim_announcements(types, now=now, limit=room, lease=lease)
                    if due and not self.lease_issuer.allows_a_delivery(lease):  # claiming took too long
                        await self.outbox.release(lease)
                    else:
                        in_flight |= {asyncio.create_task(self._attempt(each)): lease for each in due}
                if not in_flight:
                    return delivered
                await asyncio.wait(in_flight, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(GATHER_SECONDS if any(not task.done() for task in in_flight) else 0)
                ended = [task for task in in_flight if task.done()]
                delivered += await self._settle({task: in_flight.pop(task) for task in ended})
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _tidy_up(self) -> None:
        """At times, and when the clock was set back: what nobody took is over, what a wrong clock put off is due."""
        now = self.clock.now()
        if self._expired_at is not None and timedelta(0) <= now - self._expired_at < EXPIRE_EVERY:
            return
        await self.outbox.bring_back(now=now)
        expired = 0
        while not self.stopping.is_set() and (more := await self.outbox.expire_unclaimed(now=now)):
            expired += more
        self._expired_at = now
        if expired and self.receiver.types:
            log.warning("announcements.lapsed", count=expired)

    async def _attempt(self, announcement: Announcement) -> DeliveryOutcome:
        """Hand an announcement over, and say when it is to be tried again, if it is."""
        facts = {"way": self.receiver.channel.name, "type": announcement.type}
        with self.observer.watch(Work.DELIVERY, **facts) as note:
            try:
                result = await self.receiver.receive(announcement, within=self.lease_issuer.delivery_seconds)
            except Exception as error:  # noqa: BLE001 - one poisoned announcement must not stop the others
                result = ReceiverResult(error=f"our fault: {type(error).__name__}")
            now, due_at = self.clock.now(), None
            give_up_at = announcement.give_up_at or now + GIVE_UP_AFTER
            if result.error is not None and not result.is_permanent and now < give_up_at:
                attempts, jitter = announcement.attempts + 1, self.randomness.jitter()
                due_at = next_try(now, attempts, jitter, self.receiver.backoff, at_least=result.retry_at)
            outcome = DeliveryOutcome(
                announcement=announcement,
                delivered_to=announcement.delivered_to | result.reached,
                due_at=due_at,
                error=result.error,
                give_up_at=give_up_at,
            )
            failed = "given_up" if outcome.is_given_up else "to_be_tried_again"
            note(outcome="delivered" if outcome.error is None else failed)
            return outcome

    async def _settle(self, ended: dict[asyncio.Task[DeliveryOutcome], Lease]) -> int:
        """Write down how deliveries ended; gives how many succeeded."""
        failures = [task.exception() for task in ended]  # all are looked at: none may be left unheard
        for failure in filter(None, failures):
            raise failure
        by_lease: dict[Lease, list[DeliveryOutcome]] = defaultdict(list)
        for task, lease in ended.items():
            by_lease[lease].append(task.result())
        for lease, outcomes in by_lease.items():
            types = list(self.receiver.types)
            await self.outbox.settle_deliveries(outcomes, now=self.clock.now(), lease=lease, types=types)
        delivered = 0
        for outcome in (task.result() for task in ended):
            told = outcome.announcement
            facts = {"type": told.type, "connection_id": told.connection_id, "message_id": told.message_id}
            if outcome.error is None:
                delivered += 1
            elif outcome.is_given_up:
                log.error("announcement.dead", **facts, reason=outcome.error)
            else:
                log.warning("announcement.failed", **facts, reason=outcome.error, attempts=told.attempts + 1)
        return delivered
