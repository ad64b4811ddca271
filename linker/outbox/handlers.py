"""The handlers of this process: functions of the host that are called for announcements.

A handler that raises is called again later, and only that one; the others have the announcement. Later announcements of
the same connection wait for it, because they are told in order, until it is given up.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Collection, Container
from dataclasses import dataclass, field
from typing import ClassVar

from anyio import CapacityLimiter, to_thread

from linker.engine.ports import Announcement
from linker.errors import BadInput
from linker.outbox.channels import HANDLERS, Channel
from linker.outbox.deliverer import ReceiverResult
from states.history import ANNOUNCEMENTS
from states.timing import Backoff

Handler = Callable[[Announcement], Awaitable[None] | None]


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
class Handlers:
    """Calls the handlers of this process."""

    way: ClassVar[Channel] = HANDLERS
    at_once: ClassVar[int] = 100
    #: 5 s, doubling up to an hour, with full jitter.
    backoff: ClassVar[Backoff] = Backoff()

    by_type: dict[str, dict[str, Handler]] = field(default_factory=dict)
    #: Calls of plain functions that have not ended yet: (handler, message).
    in_flight: set[tuple[str, str]] = field(default_factory=set)

    @property
    def types(self) -> Collection[str]:
        """The kinds that somebody listens to."""
        return self.by_type.keys()

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler` for announcements of this name. Its module and name say, over restarts, who has what."""
        listening = self.by_type.setdefault(announcement_named(name), {})
        if handler not in listening.values():
            listening[_known_as(handler, listening)] = handler

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Call all handlers that do not have the announcement yet, each within so many seconds."""
        owed = {
            known_as: handler
            for known_as, handler in self.by_type[announcement.type].items()
            if known_as not in announcement.delivered_to
        }
        said = await asyncio.gather(
            *(self._call(handler, known_as, announcement, within) for known_as, handler in owed.items())
        )
        reached = frozenset(known_as for known_as, error in zip(owed, said, strict=True) if error is None)
        return ReceiverResult(reached=reached, error="; ".join(filter(None, said)) or None)

    async def _call(self, handler: Handler, known_as: str, announcement: Announcement, within: float) -> str | None:
        """Call a handler, unless its call of before is still under way; gives what it raised, in short."""
        call = (known_as, announcement.message_id)
        if call in self.in_flight:
            return f"{known_as}: still under way"
        try:
            async with asyncio.timeout(within):
                if inspect.iscoroutinefunction(handler):
                    await handler(announcement)
                elif inspect.isawaitable(later := await _in_thread(handler, call, announcement, self.in_flight)):
                    await later
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if _is_cancelled():
                raise
            return f"{known_as}: {type(error).__name__}"
        return None


def _known_as(handler: Handler, taken: Container[str]) -> str:
    """A handler's module and name; a number sets apart those that share them, as functions made in a loop do."""
    name = f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
    numbered = (name if number == 1 else f"{name}#{number}" for number in itertools.count(1))
    return next(free for free in numbered if free not in taken)


def _is_cancelled() -> bool:
    """True if we are asked to stop; a handler may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _in_thread(
    handler: Handler, call: tuple[str, str], announcement: Announcement, in_flight: set[tuple[str, str]]
) -> Awaitable[None] | None:
    """Call a plain function in a thread that nobody else needs; one that hangs is left behind, and known to be."""

    def called() -> Awaitable[None] | None:
        try:
            return handler(announcement)
        finally:
            in_flight.discard(call)

    in_flight.add(call)
    return await to_thread.run_sync(called, abandon_on_cancel=True, limiter=CapacityLimiter(1))
