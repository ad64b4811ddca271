"""What one part of a pass hands on to the next."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

#: How long things are gathered before they are taken, in seconds.
GATHER = 0.02


class BatchQueue(Generic[T]):
    """One part puts things here, and the next one takes all that are there at once."""

    def __init__(self, *, gathering: int = 0) -> None:
        """Take from how many things on nobody waits for more of them."""
        self._gathering = gathering
        self._things: list[T] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._ended = False

    def put(self, things: list[T]) -> None:
        """Hand things on."""
        self._things += things
        self._some.set()
        if len(self._things) >= self._gathering:
            self._enough.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._some.set()
        self._enough.set()

    async def take(self) -> list[T]:
        """Wait for things and take them all; none once nothing more comes. As long as they are few, wait for more."""
        await self._some.wait()
        if not self._enough.is_set():
            await self._gathered()
        if not self._ended:
            self._some.clear()
            self._enough.clear()
        taken, self._things = self._things, []
        return taken

    async def _gathered(self) -> None:
        try:
            async with asyncio.timeout(GATHER):
                await self._enough.wait()
        except TimeoutError:
            pass


class InFlight:
    """Counts the blocks that are under way: `with under_way:` is one of them."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._number = 0
        self._ended = asyncio.Event()
        self._ended.set()

    def __enter__(self) -> None:
        self._number += 1
        self._ended.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._number -= 1
        if not self._number:
            self._ended.set()

    async def ended(self, within: float) -> None:
        """Wait until nothing is under way any more, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._number:
                    await self._ended.wait()
