"""What a command works with that needs no keys and no network: settings, the database. Little is imported for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from linker.cli import logging_setup
from linker.database.database import Database
from linker.database.urls import file_of, parse_url, redacted
from linker.errors import NotFound, OurFault, StoreUnavailable
from linker.persistence.connection_store import ConnectionStore, open_database
from linker.persistence.server_clock import shared_clock
from linker.settings import Settings, load_settings

T = TypeVar("T")


def settings() -> Settings:
    """The settings of this process; logging follows them from here on. Raises BadSettings."""
    loaded = load_settings()
    logging_setup.follow(loaded)
    return loaded


@contextmanager
def naming_the_database(used: Settings) -> Iterator[None]:
    """Say in which database something was not found, or went wrong: it may be another one than people think."""
    try:
        yield
    except (NotFound, StoreUnavailable, OurFault) as error:
        error.add_note(f"The database is {database_location(used)}.")
        raise


def database_location(used: Settings) -> str:
    """Where the database is, without its password; a file by its whole path."""
    url = parse_url(used.database_url)
    return str(file.absolute()) if (file := file_of(url)) else redacted(url)


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the open database, and close it. Raises BadSettings, StoreUnavailable, SchemaMismatch."""

    async def opened() -> T:
        used = settings()
        with naming_the_database(used):
            async with open_database(used) as database:
                return await work(database)

    return asyncio.run(opened())


def with_store(work: Callable[[ConnectionStore], Awaitable[T]]) -> T:
    """Do something with the connections, as `with_database` does."""
    return with_database(lambda database: work(ConnectionStore(database)))


def with_store_and_time(work: Callable[[ConnectionStore, datetime], Awaitable[T]]) -> T:
    """Do something with the connections, as `with_database` does; by the time that all workers share."""

    async def timed(database: Database) -> T:
        return await work(ConnectionStore(database), (await shared_clock(database)).now())

    return with_database(timed)
