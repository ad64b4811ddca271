"""The threads in which units of work are done, beside the event loop.

They do what `concurrent.futures` does for an event loop, with one future for each unit of work instead of two, and
without a semaphore. Those, and the moment for which both threads want Python's lock because of them, were a visible
part of a transition that is written alone.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from linker.errors import StoreUnavailable

T = TypeVar("T")
#: One piece of work, which raises nothing; None ends a thread.
Job = Callable[[], object]
Jobs = SimpleQueue[Job | None]


class Threads:
    """So many threads at most, which take work in the order in which it was given."""

    def __init__(self, most: int, name: str) -> None:
        """Begin none yet. `name`: whose they are, in what is said of them."""
        self._most = most
        self._name = name
        self._jobs: Jobs = SimpleQueue()
        self._begun: list[Thread] = []
        self._process: int | None = None
        self._is_closed = False
        self._lock = Lock()
        # where closing is forgotten; not at the interpreter's exit, because who is called there may still need them
        weakref.finalize(self, _end, self._jobs, most).atexit = False

    async def do(self, work: Callable[..., T], *given: Any) -> T:
        """Do it in one of them; gives what it gives, and raises what it raises.

        Who is cancelled does not wait for its end any more; what was not begun by then is not done at all.

        Raises:
            StoreUnavailable: they are closed, or belong to the process that this one was forked from.
            RuntimeError: not one thread can be had, as when the interpreter ends.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._put(partial(_do, loop, answer, work, given))
        try:
            return await answer
        finally:
            del answer  # an error holds the frames that it came through, and the answer holds the error

    def close(self, last: Job | None = None) -> None:
        """Wait for all that was given; what is `last` is done by the thread that is the first to have nothing left."""
        with self._lock:
            self._is_closed = True
            _end(self._jobs, self._most, last)
        for thread in self._begun:
            thread.join()

    def _put(self, job: Job) -> None:
        if self._process not in {None, os.getpid()}:
            raise StoreUnavailable(
                f"{self._name}: it was opened before this process was forked. Open it in each process."
            )
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable(f"{self._name}: it was closed here. Open the linker again.")
            self._begin_another()
            self._jobs.put(job)

    def _begin_another(self) -> None:
        """Begin one more, up to all of them. The interpreter does not wait for them: that is what closing is for."""
        if len(self._begun) == self._most:
            return
        thread = Thread(target=_work, args=(self._jobs,), name="linker-database", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more of them can be had
            if not self._begun:
                raise
            return
        self._process = os.getpid()
        self._begun.append(thread)


def _end(jobs: Jobs, threads: int, last: Job | None = None) -> None:
    if last:
        jobs.put(last)
    for _ in range(threads):
        jobs.put(None)


def _work(jobs: Jobs) -> None:
    while job := jobs.get():
        job()
        del job  # or what it holds would live until the next one comes


def _do(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], work: Callable[..., T], given: Any) -> None:
    if answer.cancelled():
        return
    try:
        result = work(*given)
    except BaseException as error:  # noqa: BLE001 - it comes out of the future
        _tell(loop, answer, answer.set_exception, error)
    else:
        _tell(loop, answer, answer.set_result, result)
    finally:
        del answer  # as above


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], how: Callable[[Any], None], what: object) -> None:
    try:
        loop.call_soon_threadsafe(_unless_cancelled, answer, how, what)
    except RuntimeError:  # its event loop is closed: nobody waits any more
        pass


def _unless_cancelled(answer: asyncio.Future[T], how: Callable[[Any], None], what: object) -> None:
    if not answer.cancelled():
        how(what)
