"""How the database is reached: one engine, its threads, and the one place where its errors are translated.

SQLite is written by one thread, in transactions that take the write lock when they begin: nobody ever reads, decides
and then finds the lock taken. PostgreSQL is reached through a pool. A unit of work is one hop into a thread and one
transaction; the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Engine, Select, create_engine, event, select
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from linker.errors import BadSettings, LinkerError, OurFault, StoreUnavailable

T = TypeVar("T")

#: How long SQLite waits for another process's write lock, in seconds.
SQLITE_PATIENCE = 30.0
#: How long a single wait for it is, in seconds.
SQLITE_WAIT = 1.0
#: The execution option that says how a transaction on SQLite begins.
BEGIN = "linker_begin"
#: The execution option that says whether SQLite waits until a commit is on the disk.
SYNCHRONOUS = "linker_synchronous"
#: From how many written pages on SQLite puts them into the file: 16 MiB. A page is often written again soon, when what
#: was claimed is settled, and then has to be put there once only; and many rows are scattered over many pages.
SQLITE_CHECKPOINT = 4_000
#: The engines that we know, with the driver that we reach them by. Hosting companies hand out `postgres://`.
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
#: How many threads read an SQLite file beside the one that writes it.
SQLITE_READERS = 2
#: How many connections to PostgreSQL a process keeps.
POSTGRES_POOL = 8
#: How long reaching PostgreSQL may take, in seconds.
POSTGRES_CONNECT = 10
#: What the URL does not say itself. A server that vanished must not hold a thread for hours: neither while we send (the
#: time is in milliseconds) nor while we wait for its answer (in seconds).
POSTGRES_OPTIONS = {
    "connect_timeout": POSTGRES_CONNECT,
    "client_encoding": "utf8",
    "application_name": "workable-linker",
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
#: The parameter of the URL that says when psycopg prepares statements: a number, or `none`.
PREPARE_THRESHOLD = "prepare_threshold"
#: What PostgreSQL says of a transaction on a server that is not the primary one, or not any more.
READ_ONLY = "25006"


class Database:
    """One database: gives each unit of work a thread and a transaction."""

    def __init__(self, url: str) -> None:
        """Take the database's URL; nothing is opened before the first unit of work.

        Raises:
            BadSettings: the URL is not one, or its engine is not known or not installed.
        """
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite(self.url) if self.is_sqlite else _postgres(self.url)
        #: What the driver raises where SQLAlchemy does not stand between.
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._closing = False
        self._file = _File(self.url)
        self._reading = self._engine.execution_options(**{BEGIN: "BEGIN"})
        self._passing = self._engine.execution_options(**{SYNCHRONOUS: "NORMAL"})
        self._threads = _threads(1 if self.is_sqlite else POSTGRES_POOL)
        # a file has threads for reading too, so that nobody who reads waits for somebody else's write lock
        self._readers = _threads(SQLITE_READERS) if self.is_sqlite and not _in_memory(self.url) else self._threads

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
        return await self._hopped(self._readers, self.read_here, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work in a thread and in one transaction: committed if it returns, undone if it raises."""
        return await self._hopped(self._threads, self.write_here, work)

    async def write_passing(self, work: Callable[[Connection], T]) -> T:
        """The same for what a power cut may undo: a lease is worthless when its holder has lost its power.

        That is so for a file. A PostgreSQL server may lose its power alone, so there it waits for the disk as always.
        """
        return await self._hopped(self._threads, self._do, self._passing, work)

    async def hop(self, work: Callable[[Database], T]) -> T:
        """Do something with this database in a thread, in as many transactions as it likes."""
        return await self._hopped(self._threads, work, self)

    async def _hopped(self, threads: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> T:
        """Do it in one of these threads. Raises StoreUnavailable once the database is closed."""
        if self._closing:
            raise StoreUnavailable(f"{self.name}: it was closed here. Open the linker again.")
        return await asyncio.get_running_loop().run_in_executor(threads, work, *given)

    def read_here(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work that only reads, in this thread. Raises as `write_here`."""
        return self._do(self._reading, work)

    def write_here(self, work: Callable[[Connection], T]) -> T:
        """Do a unit of work in this thread.

        Raises:
            StoreUnavailable: the database cannot be reached, is full, or cannot be written.
            OurFault: it refuses what we wrote.
        """
        return self._do(self._engine, work)

    def _do(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        """Turn a driver's errors into ours, to which neither the driver's nor its statement is chained.

        A lock on SQLite is met only when a transaction begins, so that it can be waited for here: in short waits,
        because closing must not take as long as somebody else's lock.
        """
        patience_ends = time.monotonic() + SQLITE_PATIENCE
        while True:
            begun = False
            if self._file.was_exchanged():
                self._engine.dispose()
            try:
                with engine.begin() as connection:
                    begun = True
                    return work(connection)
            except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                translated = translate(error, self.name)
            waits = not begun and HELD in str(translated) and not self._closing
            if not waits or time.monotonic() > patience_ends:
                raise translated

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
        """Close all connections, from one of our threads; the next unit of work makes new ones."""
        self._engine.dispose()

    @property
    def tells(self) -> bool:
        """True if others can write it, and tell: a database in memory is ours alone."""
        return not self.is_sqlite or not _in_memory(self.url)

    @contextmanager
    def apart(self) -> Iterator[Any]:
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
        if self.is_sqlite:  # a database in memory is closed by its own thread only
            self._threads.submit(self._engine.dispose).result()
        self._threads.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._engine.dispose()


class _File:
    """The file of an SQLite database: whoever deletes or replaces it does not take our open connections away.

    What is written through them then is in a file without a name, and lost.
    """

    def __init__(self, url: URL) -> None:
        named = url.get_backend_name() == "sqlite" and not _in_memory(url) and not url.query.get("uri")
        self._path = Path(url.database or "").absolute() if named else None
        self._identity: tuple[int, int] | None = None

    def was_exchanged(self) -> bool:
        """True if there is another file than at the last call. Raises StoreUnavailable if there is none any more."""
        if self._path is None:
            return False
        try:
            found = self._path.stat()
            identity = (found.st_dev, found.st_ino)
        except OSError:
            identity = None
        known, self._identity = self._identity, identity or self._identity
        if known is not None and identity is None:
            raise StoreUnavailable(
                f"{self._path}: the database file is gone. Put it back; nothing is written meanwhile."
            )
        return known is not None and identity != known


def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, thread_name_prefix="linker-database")


def _in_memory(url: URL) -> bool:
    """True for a database in memory, which is seen by the thread that made it only."""
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"


def chosen_once(rows: Select[Any]) -> Select[Any]:
    """The rows that a locking query chooses, for `IN`.

    As a plain subquery PostgreSQL may run it again for each row that it looks at, and as each run skips what is locked
    by then, many more rows than the limit would be chosen.
    """
    return select(rows.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql"))


def shown(url: URL) -> str:
    """A URL without its password, wherever it stands: drivers take one among the parameters too."""
    return url.set(query={}).render_as_string(hide_password=True)


def parse_url(url: str) -> URL:
    """Read a database URL, whichever driver it names: a host may hand over the one that it uses itself.

    Raises:
        BadSettings: it is not a URL of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = "unreadable"
    if backend not in DRIVERS:
        raise BadSettings(
            "LINKER_DATABASE_URL",
            "this is not the URL of a SQLite or PostgreSQL database.",
            "Use sqlite:///linker.db or postgresql://user:password@host/name.",
        )
    if "@" in (parsed.host or ""):  # and the rest of the password is taken for a part of the host
        raise BadSettings("LINKER_DATABASE_URL", "its user or its password holds an @ as it is.", "Write %40 for it.")
    return parsed.set(drivername=DRIVERS[backend])


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": min(SQLITE_WAIT, SQLITE_PATIENCE)})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(raw: Any, _record: object) -> None:
    """Let us say BEGIN ourselves, hold rows to their connection, and put pages into the file less often."""
    raw.isolation_level = None
    raw.execute("PRAGMA foreign_keys=ON").close()
    raw.execute(f"PRAGMA wal_autocheckpoint={SQLITE_CHECKPOINT}").close()


def _begin(connection: Connection) -> None:
    """Writers take the lock at once, and their commits survive a power cut; readers take no lock."""
    options, pooled = connection.get_execution_options(), connection.connection
    raw: Any = pooled.driver_connection
    synchronous = options.get(SYNCHRONOUS, "FULL")
    if pooled.info.get(SYNCHRONOUS) != synchronous:
        raw.execute(f"PRAGMA synchronous={synchronous}").close()
        pooled.info[SYNCHRONOUS] = synchronous
    raw.execute(options.get(BEGIN, "BEGIN IMMEDIATE")).close()


def _postgres(url: URL) -> Engine:
    options: dict[str, Any] = {name: value for name, value in POSTGRES_OPTIONS.items() if name not in url.query}
    if PREPARE_THRESHOLD in url.query:
        options[PREPARE_THRESHOLD] = _threshold(str(url.query[PREPARE_THRESHOLD]))
        url = url.difference_update_query([PREPARE_THRESHOLD])
    try:
        engine = create_engine(
            url,
            paramstyle="format",
            isolation_level="READ COMMITTED",  # whatever the server's default is: claims count on it
            hide_parameters=True,
            pool_size=POSTGRES_POOL,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args=options,
        )
    except ModuleNotFoundError:
        engine = None
    if engine is None:
        raise BadSettings(
            "LINKER_DATABASE_URL",
            "PostgreSQL is asked for, but its driver is not installed.",
            "Install it with `pip install 'workable-linker[postgres]'`.",
        )
    event.listen(engine, "handle_error", _leave_what_is_read_only)
    return engine


def _leave_what_is_read_only(context: ExceptionContext) -> None:
    """Connect anew, all of the pool: after a switch-over another server is the primary one."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def _threshold(given: str) -> int | None:
    """After how many runs psycopg prepares a statement; None: never. Raises BadSettings."""
    if given == "none":
        return None
    if given.isdecimal():
        return int(given)
    raise BadSettings(
        "LINKER_DATABASE_URL",
        f"its {PREPARE_THRESHOLD} is not a number.",
        f"Write {PREPARE_THRESHOLD}=none, as a pooler in transaction mode needs, or leave it out.",
    )


#: How an error begins that a lock of somebody else's is the cause of.
HELD = "Another process held the database"
#: What the engines say of trouble that is not ours, and what we say to people.
_TROUBLE = {
    "disk is full": "The disk is full. Nothing was half-done; make room, then try again.",
    "no space left": "The disk is full. Nothing was half-done; make room, then try again.",
    "disk i/o error": "The disk cannot be written or read. Nothing was half-done; check the disk, then try again.",
    "readonly database": "The database is read-only for this user. Make its file and its folder writable.",
    "read-only transaction": "The database is read-only. Use the primary server.",
    "unable to open": "The database file cannot be opened. Check that its folder exists and may be written.",
    "is locked": f"{HELD} for too long. Try again.",
    "deadlock detected": "Others wrote the same rows at the same time. Nothing was half-done; try again.",
    "could not serialize": "Others wrote the same rows at the same time. Nothing was half-done; try again.",
    "locking protocol": "Too many processes opened the database at the same time. Try again.",
}


def translate(error: BaseException, where: str) -> LinkerError:
    """The error of this library that a driver's error is. Carries no statement and no parameters."""
    error = _first_of(error)
    said = str(getattr(error, "orig", None) or error)
    for sign, meaning in _TROUBLE.items():
        if sign in said.lower():
            return StoreUnavailable(f"{where}: {meaning}")
    if "not a database" in said or "malformed" in said:
        return OurFault(f"{where}: the file is not a SQLite database, or it is damaged. Restore it from a backup.")
    if isinstance(error, PoolTimeout) or _unreachable(error):
        return StoreUnavailable(
            f"{where}: the database cannot be reached ({_first_line(said)}). "
            "Check that the server runs and that LINKER_DATABASE_URL is right, then try again."
        )
    return OurFault(
        f"{where}: the database refused our statement ({_first_line(said)}). "
        "Nothing was half-done; `linker doctor` looks for the cause."
    )


def _first_of(error: BaseException) -> BaseException:
    """What went wrong first: on a full disk SQLite undoes the whole transaction, so that no savepoint is left."""
    while "no such savepoint" in str(error) and error.__context__ is not None:
        error = error.__context__
    return error


def _unreachable(error: BaseException) -> bool:
    """True if the server is gone, going, or out of resources: what psycopg calls operational."""
    if not isinstance(error, DBAPIError):  # a driver's own, where SQLAlchemy does not stand between
        names = {kind.__name__ for kind in type(error).__mro__}
        return "OperationalError" in names and not isinstance(error, sqlite3.Error)
    return error.connection_invalidated or (
        isinstance(error, OperationalError) and not isinstance(error.orig, sqlite3.Error)
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "no reason given"
