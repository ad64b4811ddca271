"""The database alone, for commands that need no keys and no network: little to import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from linker.cli import logs
from linker.letters import Letters
from linker.reading import open_database, open_store
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


def with_letters(work: Callable[[Letters], Awaitable[T]]) -> T:
    """Do something with the letters of the outbox. Raises BadSettings, StoreUnavailable, SchemaMismatch."""
    settings = load_settings()
    logs.follow(settings)

    async def opened() -> T:
        async with open_database(settings) as database:
            return await work(Letters(database))

    return asyncio.run(opened())
