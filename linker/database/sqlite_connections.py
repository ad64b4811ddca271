"""An SQLite file, and our connections to it: they stay open between units of work.

To open one for each, or to take it from SQLAlchemy's pool, which describes a connection anew at each use, is a visible
part of a transition that is written alone.

What was committed may stand in the journal beside the file (`-wal`) for a while. Whoever deletes the file or its
journal does not take them away from the connections that are open: what is written through them then is lost when they
close, unless nobody else has written in the meantime. So both are looked at before and after each unit of work.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Lock

from sqlalchemy import Connection, Engine

from linker.errors import StoreUnavailable

#: What tells one file from another that has taken its name: the device and the number on it.
Identity = tuple[int, int]
#: The journal and its index.
Journal = tuple[Identity | None, Identity | None]
#: Where a connection remembers which file it was opened for.
FILE = "file"
#: How long a file without a journal may be open to somebody else: who opens it makes the journal at once.
OPENING_SECONDS = 2.0


class SqliteConnections:
    """The connections to one file that nobody uses now."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine, which opens connections and keeps none; nothing is opened yet."""
        self._engine = engine
        self._path = os.path.abspath(engine.url.database or "")
        self._file: Identity | None = None
        self._journal: Journal | None = None
        self._idle: list[Connection] = []
        self._in_use = 0
        self._lock = Lock()

    def take(self) -> Connection:
        """A connection to the file as it is now; it is to be put back.

        Raises:
            StoreUnavailable: there was a file and is none any more, or its journal was taken away.
        """
        while True:
            with self._lock:
                file = self._look()
                if self._idle:
                    self._in_use += 1
                    return self._idle.pop()
                is_known = self._journal is not None
                self._in_use += 1
            connection = None
            try:
                if not is_known:
                    self._refuse_a_missing_journal()
                connection = self._engine.connect()
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()  # and with that, the journal is made
                connection.rollback()
                with self._lock:
                    if file == self._named():  # else it was made, moved or replaced in this moment
                        connection.info[FILE] = file
                        if mode == "wal" and self._journal is None:
                            self._journal = self._named_journal()
                        return connection
            except BaseException:
                self.put_back(connection, is_sound=False)
                raise
            self.put_back(connection, is_sound=False)

    def put_back(self, connection: Connection | None, *, is_sound: bool) -> None:
        """Keep a connection that no transaction is under way on for its next use, or close it."""
        with self._lock:
            named = self._named_journal()
            if self._journal is None and all(named):  # the first unit of work made it
                self._journal = named
            # one whose journal was taken away is kept too: they are closed together
            if connection is not None and is_sound and connection.info.get(FILE) == self._file:
                self._idle.append(connection)
                self._in_use -= 1
                return
        try:
            if connection is not None:
                connection.close()
        finally:
            with self._lock:
                self._in_use -= 1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Somebody has a connection of its own, for one block. Raises StoreUnavailable as `take`."""
        with self._lock:
            self._look()
            self._in_use += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_use -= 1

    def make_sure(self) -> None:
        """Make sure that what was just written is in the journal that has the name. Raises StoreUnavailable."""
        with self._lock:
            if not self._has_its_journal():
                raise StoreUnavailable("journal_gone")

    def close(self) -> None:
        """Close what is not in use."""
        with self._lock:
            self._close_idle()

    def _look(self) -> Identity | None:
        """Which file has the name now, after whatever is open to another one was closed; None: there is none yet."""
        found = self._named()
        if found is None and self._file is not None:
            raise StoreUnavailable("file_gone")
        if found != self._file:
            self._close_idle()
            self._file, self._journal = found, None
        if not (self._idle or self._in_use):
            self._journal = None  # whoever has nothing open holds on to none: the last one who closes deletes it
        if not self._has_its_journal():
            self._close_all_without_their_journal()
        return found

    def _close_all_without_their_journal(self) -> None:
        """Let go of all that is open, so that nothing is lost.

        The last one puts what it knows of its journal into the file, and deletes the journal of that name. That is good
        where it is gone, and must not be one that others made.
        """
        named, journal = self._named_journal()[0], f"{self._path}-wal"
        is_same = self._journal is not None and named == self._journal[0]
        if named is not None and not is_same and os.path.getsize(journal):
            raise StoreUnavailable("journal_replaced")
        if self._in_use:
            raise StoreUnavailable("journal_gone")
        if is_same:  # its index alone was taken away: others may have written on in it since
            kept = f"{journal}-kept"
            try:
                with suppress(FileNotFoundError):
                    os.unlink(kept)
                os.link(journal, kept)
            except OSError:
                raise StoreUnavailable("journal_gone") from None
            self._close_idle()
            os.replace(kept, journal)
        self._close_idle()
        self._journal = None

    def _has_its_journal(self) -> bool:
        return self._journal is None or self._journal == self._named_journal()

    def _refuse_a_missing_journal(self) -> None:
        """Make sure that a file without a journal is open to nobody: else theirs was taken away.

        Whoever reads a file of this mode keeps a lock on it as long as it is open, and has made the journal with it. So
        it is tried to have the file alone, in SQLite's exclusive mode, which needs neither journal nor index of others.
        """
        until = time.monotonic() + OPENING_SECONDS
        while os.path.exists(self._path) and not any(
            map(os.path.exists, (f"{self._path}-wal", f"{self._path}-journal"))
        ):
            with closing(sqlite3.connect(self._path, timeout=0.0, isolation_level=None)) as probe:
                try:
                    probe.execute("PRAGMA locking_mode=EXCLUSIVE").close()
                    probe.execute("SELECT count(*) FROM sqlite_master").close()
                    return
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):
                        return  # whoever opens it next says what it is
                except sqlite3.DatabaseError:
                    return
            if time.monotonic() > until:
                raise StoreUnavailable("journal_gone")
            time.sleep(0.02)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _named(self) -> Identity | None:
        """Which file has the name; None: there is none."""
        return _identity(self._path)

    def _named_journal(self) -> Journal:
        """Which journal and index have the names."""
        return _identity(f"{self._path}-wal"), _identity(f"{self._path}-shm")


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
