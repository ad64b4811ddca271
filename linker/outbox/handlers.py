"""The handlers of this process: functions of the host that are called for announcements.

A handler that raises is called again later, and only that one; the others have the announcement. Later announcements of
the same connection wait for it, because they are told in order, until it is given up.

Each is handed a payload of its own, that it may change. A plain function is called in a thread that nobody else needs.
A call that hangs is left behind, and known to be: it is not made again for the same announcement before it has ended,
and a handler that has left too many behind is not called at all until some of them end. So whatever hangs costs a
bounded number of threads and tasks.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Collection
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar

from anyio import CapacityLimiter, to_thread

from linker.errors import BadInput
from linker.outbox.announcements import Announcement
from linker.outbox.channels import HANDLERS, Channel
from linker.outbox.deliverer import ReceiverResult
from states.history import ANNOUNCEMENTS
from states.timing import Backoff

#: How many threads one plain function has at a time, and how often it is looked whether one is free.
MOST_THREADS = 40
THREAD_PAUSE_SECONDS = 0.02
#: A handler that left so many calls behind is not called any more before some of them end.
MOST_LEFT_BEHIND = 20
#: How long a call that is cancelled may take to end.
END_SECONDS = 1.0

Handler = Callable[[Announcement], Awaitable[None] | None]


def announcement_named(name: str) -> str:
    """The full name of an announcement: `linked` means `connection.linked`.

    Raises:
        BadInput: there is no such announcement.
    """
    if not isinstance(name, str):
        raise BadInput("announcement", "not_text")
    for known in ANNOUNCEMENTS:
        if name in {known, known.removeprefix("connection.")}:
            return known
    raise BadInput("announcement", "unknown", given=name, known=list(ANNOUNCEMENTS))


@dataclass(frozen=True, eq=False)
class Listener:
    """A handler, with the calls of it that have not ended yet, by their messages."""

    handler: Handler
    known_as: str
    in_flight: set[str] = field(default_factory=set)
    #: Those of them that nobody waits for any more.
    left_behind: set[str] = field(default_factory=set)

    async def tell(self, announcement: Announcement, within: float) -> str | None:
        """Call the handler with a payload of its own, unless it hangs; gives what it raised, in short."""
        message = announcement.message_id
        if message in self.in_flight:
            return f"{self.known_as}: still under way"
        if len(self.left_behind) >= MOST_LEFT_BEHIND:
            return f"{self.known_as}: hangs, {MOST_LEFT_BEHIND} calls of before have not ended"
        own = replace(announcement, payload=deepcopy(dict(announcement.payload)))
        calling = asyncio.create_task(self._called(own))
        try:
            await asyncio.wait({calling}, timeout=within)
            has_ended = calling.done()
        finally:
            if not calling.done():  # it takes too long, or we are asked to stop
                calling.cancel()
                await asyncio.wait({calling}, timeout=END_SECONDS)
            if message in self.in_flight:
                self.left_behind.add(message)
        return calling.result() if has_ended else f"{self.known_as}: TimeoutError"

    async def _called(self, own: Announcement) -> str | None:
        is_plain = not inspect.iscoroutinefunction(self.handler)

        def in_thread() -> Awaitable[None] | None:
            try:
                return self.handler(own)
            finally:
                self._ended(own.message_id)

        try:
            # a thread ends the wait, and the next time there may be another event loop
            while is_plain and len(self.in_flight) >= MOST_THREADS:  # noqa: ASYNC110 - so there is no asyncio.Event
                await asyncio.sleep(THREAD_PAUSE_SECONDS)
            self.in_flight.add(own.message_id)
            if is_plain:
                later = await to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=CapacityLimiter(1))
            else:
                later = self.handler(own)
            if inspect.isawaitable(later):
                await later
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever a handler raises is told
            return f"{self.known_as}: {type(error).__name__}"
        finally:
            if not is_plain:
                self._ended(own.message_id)
        return None

    def _ended(self, message: str) -> None:
        self.in_flight.discard(message)
        self.left_behind.discard(message)


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """Calls the handlers of this process."""

    channel: ClassVar[Channel] = HANDLERS
    concurrency: ClassVar[int] = 100
    #: 5 s, doubling up to an hour, with full jitter.
    backoff: ClassVar[Backoff] = Backoff()

    by_type: dict[str, dict[str, Listener]] = field(default_factory=dict)

    @property
    def types(self) -> Collection[str]:
        """The kinds that somebody listens to."""
        return self.by_type.keys()

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler` for announcements of this name.

        Its module and name say, over restarts, who has what; a number sets apart those that share them, as functions
        made in a loop do.
        """
        if not callable(handler):
            raise BadInput("handler", "not_callable")
        listening = self.by_type.setdefault(announcement_named(name), {})
        if all(handler != other.handler for other in listening.values()):
            qualified = getattr(handler, "__qualname__", type(handler).__qualname__)
            known_as = f"{getattr(handler, '__module__', '?')}.{qualified}"
            numbered = (f"{known_as}#{number}" for number in itertools.count(2))
            name_of_its_own = next(free for free in itertools.chain([known_as], numbered) if free not in listening)
            listening[name_of_its_own] = Listener(handler, name_of_its_own)

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Call all handlers that do not have the announcement yet, each within so many seconds."""
        listening = self.by_type[announcement.type].items()
        owed = {known_as: each for known_as, each in listening if known_as not in announcement.delivered_to}
        said = await asyncio.gather(*(each.tell(announcement, within) for each in owed.values()))
        reached = frozenset(known_as for known_as, error in zip(owed, said, strict=True) if error is None)
        return ReceiverResult(reached=reached, error="; ".join(filter(None, said)) or None)
