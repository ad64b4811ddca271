"""The settings and the database alone, for commands that need no keys and no network: little to import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from linker.cli import logs
from linker.clocks import shared_clock
from linker.database import Database
from linker.letters import Letters
from linker.reading import open_database
from linker.settings import Settings, load_settings
from linker.store import SqlStore

T = TypeVar("T")


def settings() -> Settings:
    """The settings of this process; logging follows them from here on. Raises BadSettings."""
    loaded = load_settings()
    logs.follow(loaded)
    return loaded


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the open database, and close it. Raises BadSettings, StoreUnavailable, SchemaMismatch."""

    async def opened() -> T:
        async with open_database(settings()) as database:
            return await work(database)

    return asyncio.run(opened())


def with_store(work: Callable[[SqlStore], Awaitable[T]]) -> T:
    """Do something with the connections, as `with_database` does."""
    return with_database(lambda database: work(SqlStore(database)))


def with_letters(work: Callable[[Letters, datetime], Awaitable[T]]) -> T:
    """Do something with the letters of the outbox, as `with_database` does; by the time that all workers share."""

    async def timed(database: Database) -> T:
        return await work(Letters(database), (await shared_clock(database)).now())

    return with_database(timed)
