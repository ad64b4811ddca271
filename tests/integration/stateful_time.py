"""Time that a test owns: an event loop in which waiting costs nothing and moves the settable clock.

With it every run of the same rules is the same run: no thread, no real pause, no race that cannot be repeated.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from math import ceil
from typing import Any, TypeVar

from linker.testing import SettableClock

T = TypeVar("T")


class Here(Executor):
    """No threads: the work is done by who asks, and in the turn of the event loop behind it nobody knows it yet."""

    def submit(self, work: Callable[..., T], /, *given: Any, **named: Any) -> Future[T]:
        """Do it."""
        done: Future[T] = Future()
        try:
            done.set_result(work(*given, **named))
        except BaseException as error:  # noqa: BLE001 - it comes out of the future
            done.set_exception(error)
        return done


class _Leaping(selectors.SelectSelector):
    """Waits by moving the clock."""

    def __init__(self, clock: SettableClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; if nothing is, it is later."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits for something that will never happen")
        if not ready and timeout is not None and timeout > 0:
            self._clock.advance(microseconds=ceil(timeout * 1e6) + 1)
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a settable clock's."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock
        self._began = clock.now()
        super().__init__(_Leaping(clock))
        self.set_exception_handler(_all_but_deaths)

    def time(self) -> float:
        """Seconds of the settable clock."""
        return (self._clock.now() - self._began).total_seconds()


def _all_but_deaths(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Tell of what nobody waited for, but for tasks of workers that died: those end in what is no `Exception`."""
    if isinstance(told.get("exception"), Exception | None):
        loop.default_exception_handler(told)


def runner(clock: SettableClock) -> asyncio.Runner:
    """A runner on such a loop; its owner closes it."""
    return asyncio.Runner(loop_factory=lambda: LeapingLoop(clock))


async def run_here(function: Callable[[], T], **_: object) -> T:
    """Stands in for what runs a function in a thread."""
    await asyncio.sleep(0)
    return function()
