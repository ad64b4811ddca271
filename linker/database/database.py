"""How the database is reached: one engine, its threads, and the one place where its errors are translated.

SQLite is written by one thread, in transactions that take the write lock when they begin: nobody ever reads, decides
and then finds the lock taken. PostgreSQL is reached through a pool. A unit of work is one hop into a thread and one
transaction; the event loop never waits for a disk.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import SQLAlchemyError

from linker.database.errors import HELD, translate
from linker.database.postgres import POSTGRES_POOL, postgres
from linker.database.sqlite import PASSING, READING, WRITING, Access, begin_on_sqlite, sqlite
from linker.database.sqlite_connections import SqliteConnections
from linker.database.threads import Threads
from linker.database.urls import in_memory, is_path, parse_url, shown

T = TypeVar("T")

#: How long SQLite waits for another process's write lock, in seconds.
SQLITE_PATIENCE = 30.0
#: How long a single wait for it is, in seconds.
SQLITE_WAIT = 1.0
#: How many threads read an SQLite file beside the one that writes it.
SQLITE_READERS = 2


class Database:
    """One database: gives each unit of work a thread and a transaction."""

    def __init__(self, url: str) -> None:
        """Take the database's URL; nothing is opened before the first unit of work.

        Raises:
            BadSettings: the URL is not one, or its engine is not known or not installed.
        """
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._engine = sqlite(self.url, wait=min(SQLITE_WAIT, SQLITE_PATIENCE))
        else:
            self._engine = postgres(self.url)
        #: What the driver raises where SQLAlchemy does not stand between.
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._closing = False
        self._file = SqliteConnections(self._engine) if is_path(self.url) else None
        self._threads = Threads(1 if self.is_sqlite else POSTGRES_POOL, self.name)
        # a file has threads for reading too, so that nobody who reads waits for somebody else's write lock
        self._readers = Threads(SQLITE_READERS, self.name) if self.is_sqlite and self.tells else self._threads

    @property
    def dialect(self) -> Dialect:
        """What statements are made for, before the database is reached."""
        return self._engine.dialect

    @property
    def name(self) -> str:
        """The URL, fit to be shown."""
        return shown(self.url)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work that only reads, in a thread."""
        return await self._readers.do(self.read_here, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work in a thread and in one transaction: committed if it returns, undone if it raises."""
        return await self._threads.do(self.write_here, work)

    async def write_without_fsync(self, work: Callable[[Connection], T]) -> T:
        """The same for what a power cut may undo: a lease is worthless when its holder has lost its power.

        That is so for a file. A PostgreSQL server may lose its power alone, so there it waits for the disk as always.
        """
        return await self._threads.do(self._do, PASSING, work)

    async def run_in_thread(self, work: Callable[[Database], T]) -> T:
        """Do something with this database in a thread, in as many transactions as it likes."""
        return await self._threads.do(work, self)

    def read_here(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work that only reads, in this thread. Raises as `write_here`."""
        return self._do(READING, work)

    def write_here(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work in this thread.

        Raises:
            StoreUnavailable: the database cannot be reached, is full, or cannot be written.
            OurFault: it refuses what we wrote.
        """
        return self._do(WRITING, work)

    def _do(self, access: Access, work: Callable[[Connection], T]) -> T:
        """Turn a driver's errors into ours, to which neither the driver's nor its statement is chained.

        A lock on SQLite is met only when a transaction begins, so that it can be waited for here: in short waits,
        because closing must not take as long as somebody else's lock.
        """
        patience_ends = time.monotonic() + SQLITE_PATIENCE
        while True:
            begun = False
            try:
                with self._transaction(access) as connection:
                    begun = True
                    return work(connection)
            except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                translated = translate(error, self.name)
            waits = not begun and HELD in str(translated) and not self._closing
            if not waits or time.monotonic() > patience_ends:
                raise translated

    @contextmanager
    def _transaction(self, access: Access) -> Iterator[Connection]:
        """A transaction for one block: committed if it ends, undone if it raises."""
        connection = self._file.take() if self._file else self._engine.connect()
        fit = False
        try:
            with connection.begin():
                if self.is_sqlite:
                    begin_on_sqlite(connection, access)
                yield connection
            fit = True
        except Exception as error:
            fit = not isinstance(error, SQLAlchemyError | self._driver_error)  # a lost race is no trouble
            raise
        finally:
            if fit and self._file:
                self._file.put_back(connection)
            else:
                connection.close()

    def outside_here(self, statement: str) -> None:
        """Execute, in this thread, what SQLite allows only outside a transaction. Raises as `write_here`."""
        try:
            with closing(self._engine.raw_connection()) as raw:
                raw.cursor().execute(statement)
                return
        except (SQLAlchemyError, sqlite3.Error) as error:
            translated = translate(error, self.name)
        raise translated

    def disconnect(self) -> None:
        """Close the connections that nobody uses now, from one of our threads; the next unit of work makes new ones."""
        if self._file:
            self._file.close()
        self._engine.dispose()

    @property
    def tells(self) -> bool:
        """True if others can write it, and tell: a database in memory is ours alone."""
        return not self.is_sqlite or not in_memory(self.url)

    @contextmanager
    def dedicated_connection(self) -> Iterator[Any]:
        """A driver's connection beside the pool, for one block: for what lasts. Errors are translated as everywhere."""
        try:
            pooled = self._engine.raw_connection()
            raw: Any = pooled.driver_connection
            pooled.detach()
            try:
                if not self.is_sqlite:
                    raw.autocommit = True
                yield raw
            finally:
                raw.close()
            return
        except (SQLAlchemyError, self._driver_error) as error:
            translated = translate(error, self.name)
        raise translated

    def close(self) -> None:
        """Wait for what is under way, then close all connections; closing again does nothing."""
        if self._closing:
            return
        self._closing = True
        # a database in memory is closed by its own thread only
        self._threads.close(last=self._engine.dispose if self.is_sqlite else None)
        self._readers.close()
        self.disconnect()
