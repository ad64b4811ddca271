"""How the database is reached: one engine and its threads; a unit of work is one thread and one transaction.

SQLite is written by one thread, in transactions that take the write lock when they begin: nobody ever reads, decides
and then finds the lock taken. PostgreSQL is reached through a pool. The event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import SQLAlchemyError

from linker.database.errors import is_lock, translate
from linker.database.postgres import POOL_CONNECTIONS, postgres
from linker.database.sqlite import READING, WRITING, WRITING_WITHOUT_FSYNC, Access, begin, sqlite
from linker.database.sqlite_connections import SqliteConnections
from linker.database.urls import in_memory, is_path, parse_url, redacted
from linker.errors import BadSettings, StoreUnavailable

T = TypeVar("T")

#: How long SQLite waits for another process's write lock, in all and at a time.
SQLITE_PATIENCE_SECONDS = 30.0
SQLITE_WAIT_SECONDS = 1.0
#: How many threads read an SQLite file beside the one that writes it.
SQLITE_READERS = 2


class Database:
    """One database: gives each unit of work a thread and a transaction."""

    def __init__(self, url: str, schema: str | None = None, *, opened: bool = True) -> None:
        """Take the database's URL, and the schema of PostgreSQL that our tables are in; nothing is reached yet.

        `opened`: if not, work is refused until `open` is called.

        Raises:
            BadSettings: the URL is not one, or its engine is not known or not installed, or has no schemas.
        """
        self.url = parse_url(url)
        self.schema = schema
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if schema is not None and self.is_sqlite:
            raise BadSettings("database_schema", "no_schemas")
        if self.is_sqlite:
            self.engine = sqlite(self.url, wait_seconds=min(SQLITE_WAIT_SECONDS, SQLITE_PATIENCE_SECONDS))
        else:
            self.engine = postgres(self.url, schema)
        #: What the driver raises where SQLAlchemy does not stand between.
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        self._is_opened = opened
        self._closing = False
        #: Where its threads are: the process that used it first.
        self._process: int | None = None
        self._connections = SqliteConnections(self.engine) if is_path(self.url) else None
        self._threads = ThreadPoolExecutor(1 if self.is_sqlite else POOL_CONNECTIONS, "linker-database")
        # a file has threads for reading too, so that nobody who reads waits for somebody else's write lock
        reads_apart = self.is_sqlite and self.is_shared
        self._readers = ThreadPoolExecutor(SQLITE_READERS, "linker-database") if reads_apart else self._threads

    def open(self) -> None:
        """Take work from now on."""
        self._is_opened = True

    @property
    def dialect(self) -> Dialect:
        """What statements are made for, before the database is reached."""
        return self.engine.dialect

    @property
    def name(self) -> str:
        """The URL, fit to be shown."""
        return redacted(self.url)

    @property
    def is_shared(self) -> bool:
        """True if other processes can write it too: a database in memory is ours alone."""
        return not self.is_sqlite or not in_memory(self.url)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work that only reads, in a thread."""
        return await self._in_thread(self._readers, self._do, READING, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work in a thread and in one transaction: committed if it returns, undone if it raises."""
        return await self._in_thread(self._threads, self._do, WRITING, work)

    async def write_without_fsync(self, work: Callable[[Connection], T]) -> T:
        """The same for what a power cut may undo: a lease is worthless when its holder has lost its power.

        That is so for a file. A PostgreSQL server may lose its power alone, so there it waits for the disk as always.
        """
        return await self._in_thread(self._threads, self._do, WRITING_WITHOUT_FSYNC, work)

    async def run_in_thread(self, work: Callable[[Database], T]) -> T:
        """Do something with this database in a thread, in as many transactions as it likes."""
        return await self._in_thread(self._threads, work, self)

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> T:
        """Who is cancelled does not wait for its end any more; what was not begun by then is not done at all.

        Raises:
            StoreUnavailable: the database is closed, was opened before this process was forked, or has no thread.
        """
        self._process = self._process or os.getpid()
        answer: Future[T] = Future()
        refusal = None
        if self._process != os.getpid():  # the threads did not come along
            refusal = "forked"
        elif self._closing:
            refusal = "closed"
        elif not self._is_opened:
            refusal = "not_opened"
        else:
            try:
                threads.submit(_do, [answer], work, given)
            except RuntimeError:  # it is queued all the same: unless a thread has begun it, it is not done later
                if answer.cancel():
                    refusal = "no_thread"
        if refusal is not None:
            raise StoreUnavailable(refusal)
        try:
            return await asyncio.wrap_future(answer)
        finally:
            del answer  # it may hold an error, and the error this frame

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
        """Do a unit of work, and turn a driver's errors into ours, with neither its error nor its statement chained.

        A lock on SQLite is met only when a transaction begins, so that it can be waited for here: in short waits,
        because closing must not take as long as somebody else's lock.
        """
        patience_ends = time.monotonic() + SQLITE_PATIENCE_SECONDS
        while True:
            begun = False
            try:
                with self._transaction(access) as connection:
                    begun = True
                    return work(connection)
            except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                translated = translate(error)
            waits = not begun and is_lock(translated) and not self._closing
            if not waits or time.monotonic() > patience_ends:
                raise translated

    @contextmanager
    def _transaction(self, access: Access) -> Iterator[Connection]:
        """A transaction for one block: committed if it ends, undone if it raises."""
        connection = self._connections.take() if self._connections else self.engine.connect()
        is_sound = False
        try:
            with connection.begin():
                if self.is_sqlite:
                    begin(connection, access)
                yield connection
            is_sound = True
            if self._connections and access.synchronous:
                self._connections.make_sure()
        except Exception as error:
            is_sound = not isinstance(error, SQLAlchemyError | self._driver_error)  # a lost race is no trouble
            raise
        finally:
            if self._connections:
                self._connections.put_back(connection, is_sound=is_sound)
            else:
                connection.close()

    def outside_here(self, statement: str) -> None:
        """Execute, in this thread, what SQLite allows only outside a transaction. Raises as `write_here`."""
        try:
            with closing(self.engine.raw_connection()) as raw:
                raw.cursor().execute(statement)
                return
        except (SQLAlchemyError, sqlite3.Error) as error:
            translated = translate(error)
        raise translated

    def disconnect(self) -> None:
        """Close the connections that nobody uses now, from one of our threads; the next unit of work makes new ones."""
        if self._connections:
            self._connections.close()
        self.engine.dispose()

    def make_sure(self) -> None:
        """Make sure that the journal of an SQLite file is still the one that we write. Raises StoreUnavailable."""
        if self._connections:
            self._connections.make_sure()

    @contextmanager
    def dedicated_connection(self) -> Iterator[Any]:
        """A driver's connection beside the pool, for one block: for what lasts. Errors are translated as everywhere."""
        try:
            with self._connections.apart() if self._connections else nullcontext():
                pooled = self.engine.raw_connection()
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
            translated = translate(error)
        raise translated

    def close(self) -> None:
        """Wait for what is under way, then close all connections; closing again does nothing."""
        if self._closing:
            return
        self._closing = True
        if self._process in {None, os.getpid()}:  # nobody can wait for threads that did not come along
            if not self.is_shared:  # a database in memory is closed by its own thread only
                self._threads.submit(self.engine.dispose)
            for threads in (self._threads, self._readers):
                threads.shutdown()
        self.disconnect()


def _do(answers: list[Future[T]], work: Callable[..., T], given: Any) -> None:
    """Do a unit of work, unless nobody waits for it any more.

    The answer is taken out of its list, and let go of: it may hold an error, the error the frames that it came
    through, and they what they were called with.
    """
    answer = answers.pop()
    if answer.set_running_or_notify_cancel():
        try:
            result = work(*given)
        except BaseException as error:  # noqa: BLE001 - it comes out of the answer
            answer.set_exception(error)
        else:
            answer.set_result(result)
        finally:
            del answer
