"""Telling the host: each announcement at least once, after the commit, in order for each connection.

A receiver takes announcements: the handlers of this process, or the webhook. Each has a way through the outbox of its
own, so that neither waits for the other; and nobody who links waits for either. What a receiver does not take is tried
again for three days, then it is a dead letter, and the next one of its connection goes on.

A process delivers only what it has a receiver for. What nobody was there to take for a week lapses: whoever begins to
listen is not told of years ago.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

import structlog

from linker.engine.leases import LeaseIssuer
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import Announcement, DeliveryOutcome, Lease, Outbox
from linker.outbox.channels import Channel
from states.timing import Backoff, next_try

log = structlog.get_logger("linker")

#: How long an announcement is tried, from its first try on.
GIVE_UP_AFTER = timedelta(days=3)
#: How often announcements that nobody was there for are looked for.
LAPSE_EVERY = timedelta(hours=1)
#: How long deliveries that end are gathered before they are written in one commit, in seconds.
GATHER = 0.02
#: How long a slow delivery keeps us from looking for what else is due, in seconds.
LOOK_AGAIN = 0.5


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
    for_good: bool = False


class Receiver(Protocol):
    """Who takes announcements."""

    #: The way on which announcements come here.
    way: ClassVar[Channel]
    #: How many are delivered at the same time.
    at_once: ClassVar[int]
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

    outbox: Outbox
    receiver: Receiver
    lease_issuer: LeaseIssuer
    jitter: Callable[[], float]
    now: Callable[[], datetime]
    observer: Observer = UNOBSERVED
    #: Once set, nothing more is claimed; what is under way is finished.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _lapsed_at: datetime | None = None

    async def deliver(self, *, begin_for: float = math.inf) -> int:
        """Deliver what is due, also what becomes due by that; gives how many announcements were delivered.

        A slow delivery holds up its own connection only: the others are claimed and written down meanwhile.
        `begin_for`: after so many seconds nothing more is begun.
        """
        await self._let_lapse()
        begins_until = time.monotonic() + begin_for
        delivered = 0
        in_flight: dict[asyncio.Task[DeliveryOutcome], Lease] = {}
        try:
            while await self._begin(in_flight, begins_until):
                await asyncio.wait(in_flight, timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(GATHER if any(not task.done() for task in in_flight) else 0)
                delivered += await self._settle({task: in_flight.pop(task) for task in _ended(in_flight)})
        finally:
            await _cancel(in_flight)
        return delivered

    async def _begin(self, in_flight: dict[asyncio.Task[DeliveryOutcome], Lease], until: float) -> bool:
        """Begin as many deliveries as there is room for; True if any is under way."""
        room = self.receiver.at_once - len(in_flight)
        types = self.receiver.types
        if room > 0 and types and not self.stopping.is_set() and time.monotonic() < until:
            lease = self.lease_issuer.new()
            due = await self.outbox.claim_announcements(list(types), now=self.now(), limit=room, lease=lease)
            if due and not self.lease_issuer.allows_a_delivery(lease):  # claiming took too long
                await self.outbox.give_back(lease)
            else:
                in_flight |= {asyncio.create_task(self._attempt(each)): lease for each in due}
        return bool(in_flight)

    async def _attempt(self, announcement: Announcement) -> DeliveryOutcome:
        with self.observer.watch(Work.DELIVERY, way=self.receiver.way.name, type=announcement.type) as note:
            delivery = await self._attempted(announcement)
            note(outcome=_outcome(delivery))
            return delivery

    async def _attempted(self, announcement: Announcement) -> DeliveryOutcome:
        try:
            received = await self.receiver.receive(announcement, within=self.lease_issuer.for_a_delivery)
        except Exception as error:  # noqa: BLE001 - one poisoned announcement must not stop the others
            received = ReceiverResult(error=f"our fault: {type(error).__name__}")
        give_up_at = announcement.give_up_at or self.now() + GIVE_UP_AFTER
        return DeliveryOutcome(
            announcement=announcement,
            delivered_to=announcement.delivered_to | received.reached,
            due_at=self._again_at(announcement, received, give_up_at),
            error=received.error,
            give_up_at=give_up_at,
        )

    def _again_at(self, announcement: Announcement, received: ReceiverResult, give_up_at: datetime) -> datetime | None:
        now = self.now()
        if received.error is None or received.for_good or now >= give_up_at:
            return None
        tries, backoff = announcement.attempts + 1, self.receiver.backoff
        return next_try(now, tries, self.jitter(), backoff, at_least=received.retry_at)

    async def _settle(self, ended: dict[asyncio.Task[DeliveryOutcome], Lease]) -> int:
        """Write down how deliveries ended; gives how many succeeded."""
        by_lease: dict[Lease, list[DeliveryOutcome]] = defaultdict(list)
        failures = [task.exception() for task in ended]  # all are looked at: none may be left unheard
        for failure in filter(None, failures):
            raise failure
        for task, lease in ended.items():
            by_lease[lease].append(task.result())
        for lease, deliveries in by_lease.items():
            await self.outbox.settle_deliveries(
                deliveries, now=self.now(), lease=lease, types=list(self.receiver.types)
            )
        every = [delivery for deliveries in by_lease.values() for delivery in deliveries]
        for delivery in every:
            _log_failure(delivery)
        return sum(delivery.error is None for delivery in every)

    async def _let_lapse(self) -> None:
        now = self.now()
        if self._lapsed_at is not None and now - self._lapsed_at < LAPSE_EVERY:
            return
        lapsed = 0
        while not self.stopping.is_set() and (more := await self.outbox.lapse(now=now)):
            lapsed += more
        self._lapsed_at = now
        if lapsed and self.receiver.types:
            log.warning("announcements.lapsed", count=lapsed)


def _ended(in_flight: Collection[asyncio.Task[DeliveryOutcome]]) -> list[asyncio.Task[DeliveryOutcome]]:
    return [task for task in in_flight if task.done()]


async def _cancel(in_flight: Collection[asyncio.Task[DeliveryOutcome]]) -> None:
    """End deliveries that nobody waits for any more: they are told again, when their leases have run out."""
    for task in in_flight:
        task.cancel()
    await asyncio.gather(*in_flight, return_exceptions=True)


def _outcome(delivery: DeliveryOutcome) -> str:
    if delivery.error is None:
        return "delivered"
    return "given_up" if delivery.is_given_up else "to_be_tried_again"


def _log_failure(delivery: DeliveryOutcome) -> None:
    if delivery.error is None:
        return
    announcement = delivery.announcement
    told = {"type": announcement.type, "connection_id": announcement.connection_id}
    told |= {"message_id": announcement.message_id, "reason": delivery.error}
    if delivery.is_given_up:
        log.error("announcement.dead", **told)
    else:
        log.warning("announcement.failed", **told, attempts=announcement.attempts + 1)
