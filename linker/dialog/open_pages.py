"""The pages that are open now: what their connections wait for is attended here, also where no worker runs.

A page that is open asks for news every few seconds. That makes no call by itself: it writes down that somebody is
there, and a task of this process attends the connection when something is due for it. Other workers may be faster.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from linker.errors import LinkerError, TryAgain
from linker.event_log import log
from linker.linker import Linker
from states.connection import Connection
from states.timing import Timing, watched_pause

#: For how long a page counts as open that was not heard of any more, in seconds.
OPEN_SECONDS = 45.0
#: How long after trouble a connection is left alone, in seconds.
REST_SECONDS = 5.0
#: The pause between two looks at what is due, in seconds.
STEP_SECONDS = 0.25
#: A page asks no more often than this, in seconds.
SHORTEST_POLL_SECONDS = 3.0
#: So many connections are attended at the same time.
MOST_AT_ONCE = 20


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
        self._in_flight: dict[str, asyncio.Task[None]] = {}

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
        ended = [*([task] if task else []), *self._in_flight.values()]
        for each in ended:
            each.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        self._in_flight.clear()

    async def _attend_while_open(self) -> None:
        """Attend what is due, as long as there is a page that is open. An account that hangs keeps no other waiting."""
        while self._pages:
            now, clock = self._linker.clock.now(), time.monotonic()
            waiting = ((page.due_at, each) for each, page in self._pages.items() if page.due_at is not None)
            due = [each for due_at, each in sorted(waiting) if due_at <= now and each not in self._in_flight]
            for each in due[: MOST_AT_ONCE - len(self._in_flight)]:
                self._in_flight[each] = asyncio.create_task(self._attend(each))
            self._pages = {each: page for each, page in self._pages.items() if page.until >= clock}
            await asyncio.sleep(STEP_SECONDS)

    async def _attend(self, connection_id: str) -> None:
        """Attend one connection; whatever is raised for it stops no other."""
        due_at = None
        try:
            due_at = (await self._linker.attend(connection_id)).due_at
        except TryAgain:
            due_at = self._linker.clock.now() + timedelta(seconds=REST_SECONDS)
        except LinkerError as error:
            log.warning("dialog.not_attended", connection_id=connection_id, code=error.code, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - its frames may hold a token: only its name is told
            name = type(error).__name__
            log.warning("dialog.not_attended", connection_id=connection_id, code="our_fault", reason=name)
        finally:
            del self._in_flight[connection_id]
        page = self._pages.get(connection_id)
        if page is not None:
            page.due_at = due_at
