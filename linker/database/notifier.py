"""Wake-ups: a worker that is idle hears of a commit that gives it something to do.

PostgreSQL tells by LISTEN/NOTIFY; the commit itself carries the word, so that none is told too early. SQLite says, when
it is asked, whether anybody wrote since. What is not heard is found by the next heartbeat: nothing depends on this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from linker.database.database import Database
from linker.errors import LinkerError
from linker.event_log import log

#: The channel that commits are told on.
NOTIFY_CHANNEL = "workable_linker"
#: How often SQLite is asked: a few microseconds each time.
POLL_SECONDS = 0.05
#: How long a listener may take to notice that it shall end.
LISTEN_SECONDS = 0.25
#: The pauses between two tries to listen: doubling up to the longest one.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


class CommitListener:
    """Calls `wake`, in a thread of its own, whenever somebody wrote what may give us something to do."""

    def __init__(self, database: Database, wake: Callable[[], object]) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database
        self._wake = wake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="linker-wakeups", daemon=True)

    def start(self) -> None:
        """Begin to listen. A database that is away is tried again, again and again."""
        if self._database.is_shared:
            self._thread.start()

    def stop(self) -> None:
        """Stop listening; takes a moment."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        listen = self._poll_data_version if self._database.is_sqlite else self._listen
        while not self._stopping.is_set():
            try:
                with self._database.dedicated_connection() as raw:
                    pause = FIRST_PAUSE_SECONDS
                    listen(raw)
            except LinkerError as error:
                log.warning("wakeups.deaf", code=error.code, reason=error.reason)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _listen(self, raw: Any) -> None:
        raw.execute(f"LISTEN {NOTIFY_CHANNEL}")
        self._wake()  # something may have been told before
        while not self._stopping.is_set():
            for _ in raw.notifies(timeout=LISTEN_SECONDS):
                self._wake()

    def _poll_data_version(self, raw: Any) -> None:
        known = None
        while not self._stopping.is_set():
            self._database.make_sure()
            version = raw.execute("PRAGMA data_version").fetchone()
            if version != known:
                self._wake()
            known = version
            self._stopping.wait(POLL_SECONDS)
