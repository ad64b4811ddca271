"""An SQLite file, and our connections to it: they stay open between units of work.

To open one for each, or to take it from SQLAlchemy's pool, which describes a connection anew at each use, is a visible
part of a transition that is written alone.
"""

from __future__ import annotations

import os
from threading import Lock

from sqlalchemy import Connection, Engine

from linker.errors import StoreUnavailable

#: What tells one file from another that has taken its name: the device and the number on it.
Identity = tuple[int, int]
#: Where a connection remembers which file it was opened for.
FILE = "file"


class SqliteConnections:
    """The connections to one file that nobody uses now.

    Whoever deletes or replaces the file does not take our open connections away: what is written through them then is
    in a file without a name, and lost. So each is handed out only while its file has the name.
    """

    def __init__(self, engine: Engine) -> None:
        """Take the engine, which opens connections and keeps none; nothing is opened yet."""
        self._engine = engine
        self._path = os.path.abspath(engine.url.database or "")
        self._file: Identity | None = None
        self._idle: list[Connection] = []
        self._lock = Lock()

    def take(self) -> Connection:
        """A connection to the file as it is now. Raises StoreUnavailable if there was a file and is none any more."""
        while True:
            with self._lock:
                file = self._look()
                if self._idle:
                    return self._idle.pop()
            connection = self._engine.connect()
            if file == self._named():  # else it was made, moved or replaced in this moment
                connection.info[FILE] = file
                return connection
            connection.close()

    def put_back(self, connection: Connection) -> None:
        """Keep a connection that no transaction is under way on for its next use."""
        with self._lock:
            if connection.info.get(FILE) == self._file:
                self._idle.append(connection)
                return
        connection.close()

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
            self._file = found
        return found

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _named(self) -> Identity | None:
        """Which file has the name; None: there is none."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
