"""Telling the host: handlers are called at least once, after the commit, in order for each connection.

A handler that raises is called again later, and only that one: it harms no other handler and no other connection.
A process delivers only what it has handlers for; a process without handlers leaves the announcements to others.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from anyio import CapacityLimiter, to_thread

from linker.errors import BadInput
from linker.leasing import Leasing
from linker.observing import UNOBSERVED, Observer, Work
from linker.ports import Announcement, Delivery, Outbox
from states.history import ANNOUNCEMENTS
from states.timing import Timing, next_try

log = structlog.get_logger("linker")

Handler = Callable[[Announcement], Awaitable[None] | None]

#: How long a handler that raises is tried again before the announcement is given up.
GIVE_UP_AFTER = timedelta(days=3)
#: How long a handler may take, in seconds: less than a lease lasts.
HANDLER_TIME = 15.0
#: How many announcements are leased in one transaction.
BATCH = 100
#: The pauses between two tries: 5 s, doubling up to an hour, with full jitter.
RETRY = Timing()


def announcement_named(name: str) -> str:
    """The full name of an announcement: `linked` means `connection.linked`.

    Raises:
        BadInput: there is no such announcement.
    """
    for known in ANNOUNCEMENTS:
        if name in {known, known.removeprefix("connection.")}:
            return known
    raise BadInput("announcement", f"there is none called {name!r}.", f"There are: {', '.join(ANNOUNCEMENTS)}.")


@dataclass(frozen=True, kw_only=True)
class Deliverer:
    """Delivers announcements to the handlers of this process."""

    outbox: Outbox
    leasing: Leasing
    dice: Callable[[], float]
    now: Callable[[], datetime]
    observer: Observer = UNOBSERVED
    handlers: dict[str, dict[str, Handler]] = field(default_factory=dict)
    #: Calls of plain functions that have not ended yet: (handler, message).
    under_way: set[tuple[str, str]] = field(default_factory=set)

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler` for announcements of this name. Its module and name say, over restarts, who has what."""
        listening = self.handlers.setdefault(announcement_named(name), {})
        if handler not in listening.values():
            listening[_known_as(handler, listening)] = handler

    async def deliver(self) -> int:
        """Deliver what is due, also what becomes due by that; gives how many announcements were delivered."""
        delivered = 0
        while self.handlers:
            lease = self.leasing.new()
            due = await self.outbox.claim_announcements(list(self.handlers), now=self.now(), limit=BATCH, lease=lease)
            if not due:
                break
            deliveries = await asyncio.gather(*(self._watched(announcement) for announcement in due))
            await self.outbox.settle_deliveries(deliveries, now=self.now(), lease=lease)
            delivered += sum(delivery.due_at is None and delivery.error is None for delivery in deliveries)
        return delivered

    async def _watched(self, announcement: Announcement) -> Delivery:
        with self.observer.watch(Work.DELIVERY, way="handlers", type=announcement.type) as note:
            delivery = await self._deliver(announcement)
            note(outcome=_outcome(delivery))
            return delivery

    async def _deliver(self, announcement: Announcement) -> Delivery:
        owed = {
            known_as: handler
            for known_as, handler in self.handlers[announcement.type].items()
            if known_as not in announcement.delivered_to
        }
        said = await asyncio.gather(
            *(self._call(handler, known_as, announcement) for known_as, handler in owed.items())
        )
        reached = {known_as for known_as, error in zip(owed, said, strict=True) if error is None}
        error = next(filter(None, said), None)
        due_at = self._again_at(announcement) if error else None
        delivered_to = announcement.delivered_to | reached
        return Delivery(announcement=announcement, delivered_to=delivered_to, due_at=due_at, error=error)

    async def _call(self, handler: Handler, known_as: str, announcement: Announcement) -> str | None:
        """Call a handler, unless its call of before is still under way; gives what it raised, in short."""
        call = (known_as, announcement.message_id)
        if call in self.under_way:
            return f"{known_as}: still under way"
        return await _call(handler, known_as, announcement, self.under_way)

    def _again_at(self, announcement: Announcement) -> datetime | None:
        if self.now() - announcement.created_at >= GIVE_UP_AFTER:
            return None
        return next_try(self.now(), announcement.attempts + 1, self.dice(), RETRY)


def _outcome(delivery: Delivery) -> str:
    if delivery.error is None:
        return "delivered"
    return "given_up" if delivery.due_at is None else "to_be_tried_again"


def _known_as(handler: Handler, taken: Container[str]) -> str:
    """A handler's module and name; a number sets apart those that share them, as functions made in a loop do."""
    name = f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
    numbered = (name if number == 1 else f"{name}#{number}" for number in itertools.count(1))
    return next(free for free in numbered if free not in taken)


def _is_cancelled() -> bool:
    """True if we are asked to stop; a handler may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _call(
    handler: Handler, known_as: str, announcement: Announcement, under_way: set[tuple[str, str]]
) -> str | None:
    try:
        async with asyncio.timeout(HANDLER_TIME):
            if inspect.iscoroutinefunction(handler):
                await handler(announcement)
            elif inspect.isawaitable(later := await _in_thread(handler, known_as, announcement, under_way)):
                await later
    except (Exception, asyncio.CancelledError) as error:
        if _is_cancelled():
            raise
        log.warning(
            "announcement.failed", handler=known_as, type=announcement.type, connection_id=announcement.connection_id
        )
        return f"{known_as}: {type(error).__name__}"
    return None


async def _in_thread(
    handler: Handler, known_as: str, announcement: Announcement, under_way: set[tuple[str, str]]
) -> Awaitable[None] | None:
    """Call a plain function in a thread that nobody else needs; one that hangs is left behind, and known to be."""
    call = (known_as, announcement.message_id)

    def called() -> Awaitable[None] | None:
        try:
            return handler(announcement)
        finally:
            under_way.discard(call)

    under_way.add(call)
    return await to_thread.run_sync(called, abandon_on_cancel=True, limiter=CapacityLimiter(1))
