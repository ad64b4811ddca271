"""The store alone, for commands that only read: no keys, no network, and little to import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from linker.cli import logs
from linker.reading import open_store
from linker.settings import load_settings
from linker.store import SqlStore

T = TypeVar("T")


def with_store(work: Callable[[SqlStore], Awaitable[T]]) -> T:
    """Do something with the open store, and close it. Raises BadSettings, StoreUnavailable, SchemaMismatch."""
    settings = load_settings()
    logs.follow(settings)

    async def opened() -> T:
        async with open_store(settings) as store:
            return await work(store)

    return asyncio.run(opened())
