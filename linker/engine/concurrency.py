"""What runs at the same time: batches that one part hands to the next, and what is in flight when somebody closes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
Given = TypeVar("Given")
Answer = TypeVar("Answer")


class BatchQueue(Generic[T]):
    """One part puts items here, and the next one takes what is there, many at once."""

    def __init__(self, *, enough: int = 0, gather_seconds: float = 0.02) -> None:
        """From `enough` items on nobody waits for more of them; for fewer, so many seconds at most."""
        self._enough_items = enough
        self._gather_seconds = gather_seconds
        self._items: list[T] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._ended = False

    def put(self, items: list[T]) -> None:
        """Hand items on."""
        self._items += items
        self._some.set()
        if len(self._items) >= self._enough_items:
            self._enough.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._some.set()
        self._enough.set()

    async def take(self, most: int) -> list[T]:
        """Wait for items and take at most so many; none once nothing more comes. While they are few, wait for more."""
        await self._some.wait()
        if not self._enough.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather_seconds):
                    await self._enough.wait()
        taken, self._items = self._items[:most], self._items[most:]
        if not (self._ended or self._items):
            self._some.clear()
            self._enough.clear()
        return taken


async def in_parts(items: Sequence[T], most: int) -> AsyncIterator[Sequence[T]]:
    """The items, so many at a time, with a turn of the event loop between: a host's loop is not held for all."""
    for start in range(0, len(items), most):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + most]


#: A piece of heavy work holds a host's event loop for about so long.
PIECE_SECONDS = 0.003


class AskedTogether(Generic[Given, Answer]):
    """A question that many have at the same time: whoever comes while it is asked is in the next one."""

    def __init__(self, ask: Callable[[Mapping[str, Given]], Awaitable[Mapping[str, Answer]]]) -> None:
        """Take what answers for several names at once, each with what was given for it."""
        self._ask = ask
        self._given: dict[str, Given] = {}
        self._gathering: asyncio.Task[Mapping[str, Answer]] | None = None
        self._asking: asyncio.Task[Mapping[str, Answer]] | None = None

    async def __call__(self, name: str, given: Given) -> Answer | None:
        """The answer for a name; None: there is none. Raises what the question raises."""
        gathering, loop = self._gathering, asyncio.get_running_loop()
        if gathering is None or gathering.get_loop() is not loop:
            gathering = self._gathering = asyncio.create_task(self._answers())
        self._given[name] = given
        return (await asyncio.shield(gathering)).get(name)

    async def _answers(self) -> Mapping[str, Answer]:
        asking = self._asking
        if asking is not None and asking.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({asking})
        self._asking, self._gathering = self._gathering, None
        given, self._given = self._given, {}
        return await self._ask(given)


class Turns:
    """Heavy work in short pieces, of which one is done in each turn of the event loop, whoever's it is.

    Fifty who only let the loop turn between their pieces would each do one in every turn.
    """

    def __init__(self) -> None:
        """Nobody works."""
        self._turn = asyncio.Lock()

    async def do(self, work: Callable[[], T]) -> T:
        """Do what cannot be done in pieces, in a turn of its own."""
        async with self._turn:
            done = work()
            await asyncio.sleep(0)
        return done

    async def first(self, items: Iterable[T], matches: Callable[[T], bool]) -> T | None:
        """The first of the items that matches; None if none does."""
        left = iter(items)
        while True:
            async with self._turn:
                until = time.perf_counter() + PIECE_SECONDS
                for item in left:
                    if matches(item):
                        return item
                    if time.perf_counter() > until:
                        break
                else:
                    return None
                await asyncio.sleep(0)


class InFlight:
    """Counts the blocks that are in flight: `with in_flight:` is one of them."""

    def __init__(self) -> None:
        """Nothing is in flight."""
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
        """Wait until nothing is in flight any more, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._number:
                    await self._ended.wait()
