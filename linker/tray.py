"""What one part of a pass hands on to the next."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")

#: How long things are gathered before they are taken, in seconds.
GATHER = 0.02


class Tray(Generic[T]):
    """One part puts things here, and the next one takes all that are there at once."""

    def __init__(self) -> None:
        self._things: list[T] = []
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, things: list[T]) -> None:
        """Hand things on."""
        self._things += things
        self._changed.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._changed.set()

    async def take(self, *, gathering: int = 0) -> list[T]:
        """Wait for things and take them all; none once nothing more comes. As long as they are few, wait for more."""
        await self._changed.wait()
        if len(self._things) < gathering and not self._ended:
            await asyncio.sleep(GATHER)
        if not self._ended:
            self._changed.clear()
        taken, self._things = self._things, []
        return taken
