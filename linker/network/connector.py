"""The pool of connections to Workable: how many are open, also of those that nobody uses now."""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from typing import Any

import aiohttp

from linker.network.resolver import OwnThreadsResolver

#: How many seconds whoever asks here waits at most until one of the connections is free; None: as long as it takes.
WAITS_FOR_ONE: ContextVar[float | None] = ContextVar("linker_waits_for_a_connection", default=None)


class NoneFree(aiohttp.ClientConnectionError):
    """All connections are in use, and none became free in time. Nothing was sent."""


class BoundedConnector(aiohttp.TCPConnector):
    """A pool that closes idle connections for those in use.

    By itself aiohttp bounds those in use only, and here every customer has a host of its own: a thousand of them would
    be a thousand open files.
    """

    def __init__(self, *, connections: int, idle_seconds: float, context: ssl.SSLContext) -> None:
        """Take the most that are in use at one time, or kept, and for how long an idle one is kept."""
        super().__init__(limit=connections, ssl=context, keepalive_timeout=idle_seconds, resolver=OwnThreadsResolver())

    async def _wait_for_available_connection(self, *args: Any) -> None:
        """Wait for a free connection. Raises NoneFree; aiohttp has one time-out for this and for connecting."""
        try:
            async with asyncio.timeout(WAITS_FOR_ONE.get()):
                await super()._wait_for_available_connection(*args)
        except TimeoutError:
            raise NoneFree("All connections are in use.") from None

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        """Take a connection back, and close what was not used for longest: aiohttp has no option for that."""
        super()._release(key, protocol, should_close=should_close)
        idle = sum(map(len, self._conns.values()))
        for _ in range(idle - max(self.limit - len(self._acquired), 0)):
            oldest = next(iter(self._conns))
            kept = self._conns[oldest]
            unused, _since = kept[0]
            del kept[0]
            if not kept:
                del self._conns[oldest]
            unused.close()
