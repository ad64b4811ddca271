"""What may be used of a connection now: its row, fresh enough, read once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial

from anyio import to_thread

from linker.database.database import Database
from linker.database.notifier import CommitListener
from linker.errors import BadInput
from states.connection import Connection, ConnectionState

#: How long a row is good for, if nobody says before that it has changed.
FRESH_SECONDS = 60.0
#: How many rows are remembered.
CONNECTIONS_KEPT = 10_000
#: What a client may be allowed to use beside a connection that is linked.
ALLOWABLE = ("token_valid", "awaiting_recruiter", "failed", "paused")


class Access:
    """The rows of connections that are in use, with tokens as they are stored: sealed."""

    def __init__(self, read: Callable[[str], Awaitable[Connection]], database: Database) -> None:
        """Take how a row is read, and the database that others write too."""
        self._read = read
        self._database = database
        self._listener: CommitListener | None = None
        self._known: OrderedDict[str, tuple[Connection, float]] = OrderedDict()
        self._readings: dict[str, tuple[asyncio.Task[Connection], float]] = {}

    def listen(self) -> None:
        """Hear from now on when others commit: what is known of a connection may be over."""
        if self._listener is None:
            wake = partial(asyncio.get_running_loop().call_soon_threadsafe, self.forget_all)
            self._listener = CommitListener(self._database, wake)
            self._listener.start()

    async def close(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await to_thread.run_sync(listener.stop)

    async def current(self, connection_id: str, *, since: float = 0.0) -> Connection:
        """The connection as it was a minute ago or later, and not before `since`, a time of the monotonic clock.

        Raises:
            NotFound: no such connection.
            StoreUnavailable: the database cannot be reached.
        """
        known = self._known.get(connection_id)
        if known is not None and known[1] >= max(since, time.monotonic() - FRESH_SECONDS):
            return known[0]
        while True:
            reading, began = self._readings.get(connection_id) or self._begin(connection_id)
            await asyncio.wait([reading])  # whoever waits may be cancelled: it is read for the others too
            if began >= since:
                return reading.result()

    def _begin(self, connection_id: str) -> tuple[asyncio.Task[Connection], float]:
        async def read() -> Connection:
            return await self._read(connection_id)

        reading = asyncio.create_task(read()), time.monotonic()
        self._readings[connection_id] = reading

        def ended(task: asyncio.Task[Connection]) -> None:
            is_latest = self._readings.get(connection_id) is reading
            if is_latest:
                del self._readings[connection_id]
            if task.cancelled() or task.exception() is not None or not is_latest:
                return
            self._known[connection_id] = (task.result(), reading[1])
            self._known.move_to_end(connection_id)
            if len(self._known) > CONNECTIONS_KEPT:
                self._known.popitem(last=False)

        reading[0].add_done_callback(ended)
        return reading

    def forget(self, connection_ids: Iterable[str]) -> None:
        """These were written: they are read anew before they are used, also by a reading that is under way."""
        for connection_id in connection_ids:
            self._known.pop(connection_id, None)
            self._readings.pop(connection_id, None)

    def forget_all(self) -> None:
        """Somebody wrote something."""
        self._known.clear()
        self._readings.clear()


def checked_allowances(allow: str | Collection[str]) -> frozenset[str]:
    """What beside a linked connection may be used.

    Raises:
        BadInput: there is no such state, or none with a token.
    """
    given: Collection[object] = [allow] if isinstance(allow, str) or not isinstance(allow, Collection) else allow
    if not all(isinstance(one, str) and one in (*ALLOWABLE, ConnectionState.LINKED) for one in given):
        raise BadInput("allow", "unknown", known=list(ALLOWABLE))
    return frozenset(map(str, given))


def unusable(connection: Connection, allowed: frozenset[str]) -> str | None:
    """Why a connection may not be used now: `closed`, `paused` or `not_linked`; None if it may be."""
    if connection.closed_at is not None:
        return "closed"
    if connection.paused_at is not None and "paused" not in allowed:
        return "paused"
    fits = connection.state is ConnectionState.LINKED or connection.state.value in allowed
    return None if fits and connection.token is not None else "not_linked"
