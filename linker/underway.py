"""What is under way, so that whoever closes can wait for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType


class UnderWay:
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
