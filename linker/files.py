"""An SQLite file, and our connections to it: they stay open between units of work.

To open one for each unit of work, or to take it from SQLAlchemy's pool, takes about as long as the work itself.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine

from linker.errors import StoreUnavailable

#: What tells one file from another that has taken its name: the device and the number on it.
Identity = tuple[int, int]
#: Where a connection remembers which file it was opened for.
FILE = "file"


class OpenFile:
    """The connections to one file that nobody uses now.

    Whoever deletes or replaces the file does not take our open connections away: what is written through them then is
    in a file without a name, and lost. So each is used only as long as its file has the name.
    """

    def __init__(self, engine: Engine) -> None:
        """Take the engine, which opens connections and keeps none; nothing is opened yet."""
        self._engine = engine
        url = engine.url
        self._path = None if url.query.get("uri") else Path(url.database or "").absolute()
        self._file: Identity | None = None
        self._idle: list[Connection] = []
        self._lock = Lock()

    def take(self) -> Connection:
        """A connection to the file as it is now. Raises StoreUnavailable if there was a file and is none any more."""
        with self._lock:
            found = self._found()
            if found != self._file:
                self._close_idle()
                self._file = found
            if self._idle:
                return self._idle.pop()
        connection = self._engine.connect()
        connection.info[FILE] = found
        return connection

    def put_back(self, connection: Connection) -> None:
        """Keep a connection that no transaction is under way on for its next use."""
        with self._lock:
            if connection.info[FILE] == self._file:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is not in use."""
        with self._lock:
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _found(self) -> Identity | None:
        """Which file has the name now; None: there is none yet."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            if self._file is None:
                return None
        else:
            return found.st_dev, found.st_ino
        raise StoreUnavailable(f"{self._path}: the database file is gone. Put it back; nothing is written meanwhile.")
