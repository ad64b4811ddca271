"""The handlers of this process: functions of the host that are called for announcements.

A handler that raises is called again later, and only that one; the others have the announcement. Later announcements of
the same connection wait for it, because they are told in order, until it is given up.

A plain function is called in a thread that nobody else needs. One that hangs is left behind, and known to be: it is not
called again for the same announcement before it has ended.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

from anyio import CapacityLimiter, to_thread

from linker.errors import BadInput
from linker.outbox.announcements import Announcement
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
    if not isinstance(name, str):
        raise BadInput("announcement", "not_text")
    for known in ANNOUNCEMENTS:
        if name in {known, known.removeprefix("connection.")}:
            return known
    raise BadInput("announcement", "unknown", given=name, known=list(ANNOUNCEMENTS))


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """Calls the handlers of this process."""

    channel: ClassVar[Channel] = HANDLERS
    concurrency: ClassVar[int] = 100
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
        """Call `handler` for announcements of this name.

        Its module and name say, over restarts, who has what; a number sets apart those that share them, as functions
        made in a loop do.
        """
        if not callable(handler):
            raise BadInput("handler", "not_callable")
        listening = self.by_type.setdefault(announcement_named(name), {})
        if handler not in listening.values():
            qualified = getattr(handler, "__qualname__", type(handler).__qualname__)
            known_as = f"{getattr(handler, '__module__', '?')}.{qualified}"
            numbered = (f"{known_as}#{number}" for number in itertools.count(2))
            listening[next(free for free in itertools.chain([known_as], numbered) if free not in listening)] = handler

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
        """Call a handler, unless its call of before has not ended yet; gives what it raised, in short."""
        call = (known_as, announcement.message_id)
        if call in self.in_flight:
            return f"{known_as}: still under way"

        def in_thread() -> Awaitable[None] | None:
            try:
                return handler(announcement)
            finally:
                self.in_flight.discard(call)

        try:
            async with asyncio.timeout(within):
                if inspect.iscoroutinefunction(handler):
                    await handler(announcement)
                else:
                    self.in_flight.add(call)
                    later = await to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=CapacityLimiter(1))
                    if inspect.isawaitable(later):
                        await later
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # we are asked to stop; handlers may raise it by themselves too
                raise
            return f"{known_as}: {type(error).__name__}"
        return None
