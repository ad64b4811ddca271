"""The store alone, for whoever only reads: needs no keys and no network, and imports little."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from linker.database import Database
from linker.settings import Settings
from linker.store import SqlStore


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[SqlStore]:
    """Open the store, and close it afterwards. Raises StoreUnavailable, SchemaMismatch."""
    database = Database(settings.database_url)
    try:
        store = SqlStore(database)
        await store.open()
        yield store
    finally:
        database.close()
