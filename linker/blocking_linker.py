"""A linker for hosts without an event loop: the same `Linker`, run by a thread of its own.

The thread is ours, and not `anyio.from_thread.start_blocking_portal`: that one waits for its thread, for ever, when the
interpreter tears down what is still open, and queues and web frameworks leave a linker open until their process ends.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import anyio
import httpx
from anyio.from_thread import BlockingPortal

from linker.accounts.client import BlockingAccountClient
from linker.engine.heartbeat import Heartbeat
from linker.linker import Linker
from linker.validation.token import hidden

P = ParamSpec("P")
T = TypeVar("T")


class BlockingLinker:
    """Calls async methods of a linker from any thread without an event loop, and waits for their results.

    The linker is opened by `with`, or else by the first call: a process that was forked before that has one of its
    own. Whoever does not `close()` leaves it open until the process ends, which does no harm: what is being written is
    waited for then (on SQLite up to 30 seconds for another process's lock), and what was being asked is asked again.
    """

    def __init__(self, linker: Linker) -> None:
        """Take the linker; nothing is opened yet."""
        self._linker = linker
        self._turn = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._process: int | None = None
        self._beating: list[AbstractContextManager[Heartbeat]] = []

    def __call__(self, method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Give what the method gives; raise what it raises, and what opening the linker raises."""
        if kwargs.get("token") is not None:
            kwargs["token"] = hidden(kwargs["token"])
        return self._opened().call(partial(method, *args, **kwargs))

    def __enter__(self) -> Self:
        """Open the linker."""
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; after an error what is still in flight is cancelled."""
        with self._turn:
            portal, self._portal = self._portal, None
            if portal is not None and self._thread is not None and self._process == os.getpid():
                for beating in list(self._beating):
                    self._end(beating)
                portal.call(portal.stop, error is not None)
                self._thread.join()
                self._ended.result()

    @contextmanager
    def heartbeat(self) -> Iterator[Heartbeat]:
        """Attend what is due and deliver announcements every few seconds, in the linker's thread, for one block.

        For a host without an event loop: `with blocking(linker) as call, call.heartbeat(): serve()`.
        """
        beating = self._opened().wrap_async_context_manager(self._linker.heartbeat())
        heartbeat = beating.__enter__()
        self._beating.append(beating)
        try:
            yield heartbeat
        finally:
            self._end(beating)

    def _end(self, beating: AbstractContextManager[Heartbeat]) -> None:
        """End a heartbeat, once: by the end of its block, or by the end of the linker that it belongs to."""
        if beating in self._beating:
            self._beating.remove(beating)
            beating.__exit__(None, None, None)

    def client(
        self,
        connection_id: str,
        *,
        wait: float = 10.0,
        retries: int = 0,
        allow: str | Collection[str] = (),
        timeout: httpx.Timeout | float | None = None,
    ) -> BlockingAccountClient:
        """A client for calls of your own to the account that a connection is linked to: an `httpx.Client`.

        The same as `Linker.client`, by the same rules: `with blocking(linker).client(id) as workable:`.
        """
        self._opened()
        assert self._loop is not None, "it is opened"
        use = self._linker.use(connection_id, wait=wait, retries=retries, allow=allow)
        return BlockingAccountClient(use, self._loop, timeout)

    def close(self) -> None:
        """Wait for what is in flight, then close the linker. It cannot be opened again."""
        self.__exit__(None, None, None)

    def _opened(self) -> BlockingPortal:
        """The portal into the linker's thread.

        Raises:
            RuntimeError: the linker was closed, or it was opened before this process was forked.
        """
        with self._turn:
            if self._portal is None:
                if self._process is not None:
                    raise RuntimeError("This linker was closed. Make a new one.")
                opened: Future[BlockingPortal] = Future()
                # a daemon, so that a process ends also while its linker is open
                self._thread = threading.Thread(target=self._live, args=(opened,), name="linker", daemon=True)
                self._thread.start()
                self._portal, self._process = opened.result(), os.getpid()
            if self._process != os.getpid():  # threads and connections did not come along
                raise RuntimeError("This linker was opened before the process was forked. Open it in each process.")
            return self._portal

    def _live(self, opened: Future[BlockingPortal]) -> None:
        """What the thread does: keep the linker open until the portal is stopped."""

        async def keep_open() -> None:
            self._loop = asyncio.get_running_loop()
            async with self._linker, BlockingPortal() as portal:
                opened.set_result(portal)
                await portal.sleep_until_stopped()

        try:
            anyio.run(keep_open)
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            (self._ended if opened.done() else opened).set_exception(error)
        else:
            self._ended.set_result(None)


def blocking(linker: Linker) -> BlockingLinker:
    """Give a `call` for the methods of a linker, as in `call(linker.create, owner="customer-42")`.

    `with blocking(linker) as call:` opens it for a block. Without `with`, as for the tasks of a queue and the views of
    a web framework, `call = blocking(linker)` opens it at the first call in each process.
    """
    return BlockingLinker(linker)
