"""The database alone, for whoever needs no keys and no network: imports little."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from linker.database.database import Database
from linker.settings import Settings
from linker.store import SqlStore


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, and close it afterwards. Raises StoreUnavailable, SchemaMismatch."""
    database = Database(settings.database_url)
    try:
        await SqlStore(database).open()
        yield database
    finally:
        database.close()
