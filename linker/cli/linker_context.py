"""What a command works with that needs keys and asks Workable: an open linker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from linker.cli.context import naming_the_database, settings
from linker.cli.exit_codes import Terminated
from linker.linker import Linker

T = TypeVar("T")


def with_linker(work: Callable[[Linker], Awaitable[T]], linker: Linker | None = None) -> T:
    """Do something with an open linker, and close it. Raises what `Linker` raises, and Terminated."""

    async def opened() -> T:
        used = linker or Linker(settings())
        with _cancelled_by_sigterm(), naming_the_database(used.settings):
            async with used as entered:
                return await work(entered)

    return asyncio.run(opened())


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel the task that is in the block, so that it gives its lease back. Raises Terminated."""
    loop, task, told = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    assert task is not None, "only a task can be in the block"

    def cancel() -> None:
        if not told.is_set():  # supervisors may tell it twice, and giving back takes its time
            told.set()
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, cancel)
    try:
        yield
    except asyncio.CancelledError:
        if told.is_set():
            raise Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
