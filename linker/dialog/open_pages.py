"""The pages that are open now: what their connections wait for is attended here, also where no worker runs.

A page that is open asks for news every few seconds. That makes no call by itself: it writes down that somebody is
there, and a task of this process attends the connection when something is due for it. Other workers may be faster.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from linker.errors import LinkerError
from linker.event_log import log
from linker.linker import Linker
from states.connection import Connection
from states.timing import Timing, watched_pause

#: For how long a page counts as open that was not heard of any more, in seconds.
OPEN_SECONDS = 45.0
#: The pause between two passes over what is due, in seconds.
STEP_SECONDS = 0.5
#: A page asks no more often than this, in seconds.
SHORTEST_POLL_SECONDS = 3.0


def poll_seconds(connection: Connection, now: datetime) -> float:
    """How long a page waits before it asks again: as long as the engine waits between two looks, or a little less."""
    open_until, since = connection.watched_until, connection.watched_since
    age = now - since if since is not None and open_until is not None and open_until > now else timedelta(0)
    pause = watched_pause(age, Timing()).total_seconds()
    return max(SHORTEST_POLL_SECONDS, pause - 1.0)


@dataclass
class _Page:
    until: float
    due_at: datetime | None


class OpenPages:
    """The connections whose pages are open in this process."""

    def __init__(self, linker: Linker) -> None:
        """Take the linker; nothing is done before a page is seen."""
        self._linker = linker
        self._pages: dict[str, _Page] = {}
        self._task: asyncio.Task[None] | None = None
        self._passes: set[asyncio.Task[None]] = set()

    async def seen(self, connection: Connection, now: datetime) -> None:
        """The page of a connection, which was just read, is open. Writes that down at most every ten seconds."""
        if connection.at_rest:
            self._pages.pop(connection.id, None)
            return
        known = connection.watched_until
        if known is None or known < now + timedelta(seconds=OPEN_SECONDS * 2 / 3):
            connection = await self._linker.watch(connection.id)
        self._pages[connection.id] = _Page(time.monotonic() + OPEN_SECONDS, connection.due_at)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._attend_while_open())

    async def close(self) -> None:
        """End the task, and what it has in flight."""
        task, self._task = self._task, None
        self._pages.clear()
        ended = [*([task] if task else []), *self._passes]
        for each in ended:
            each.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _attend_while_open(self) -> None:
        """Attend what is due, as long as there is a page that is open. An account that hangs keeps no other waiting."""
        while self._pages:
            now, clock = self._linker.clock.now(), time.monotonic()
            due = [each for each, page in self._pages.items() if page.due_at is not None and page.due_at <= now]
            if due:
                for each in due:
                    self._pages[each].due_at = None  # until the pass is over, or the page asks again
                begun = asyncio.create_task(self._attend(due))
                self._passes.add(begun)
                begun.add_done_callback(self._passes.discard)
            self._pages = {each: page for each, page in self._pages.items() if page.until >= clock}
            await asyncio.sleep(STEP_SECONDS)

    async def _attend(self, due: list[str]) -> None:
        """One pass over those that are due together; whatever is raised by it stops no other."""
        try:
            await self._linker.attend_due(due)
            for connection in await self._linker.find(ids=due):
                if connection.id in self._pages:
                    self._pages[connection.id].due_at = connection.due_at
        except LinkerError as error:
            log.warning("dialog.not_attended", connections=len(due), code=error.code, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - its frames may hold a token: only its name is told
            log.warning("dialog.not_attended", connections=len(due), code="our_fault", reason=type(error).__name__)
