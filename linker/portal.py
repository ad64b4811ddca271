"""A portal for hosts without an event loop: the same `Linker`, run by a thread of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from anyio.from_thread import start_blocking_portal

from linker.host import Linker

P = ParamSpec("P")
T = TypeVar("T")


class Call(Protocol):
    """Calls an async method from a thread without an event loop, and waits for its result."""

    def __call__(self, method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Give what the method gives; raise what it raises."""
        ...


@contextmanager
def blocking(linker: Linker) -> Iterator[Call]:
    """Keep a linker open in a thread of its own.

    `with blocking(linker) as call:` gives a `call` for its methods, as in `call(linker.create, owner="customer-42")`.
    """
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(linker):

        def call(method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
            return portal.call(partial(method, *args, **kwargs))

        yield call
