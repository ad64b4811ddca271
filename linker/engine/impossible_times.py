"""Bringing back what a wrong clock put off: rows that are due later than anything can have made them.

Nobody claims them until then, so they are looked for. That costs nothing as long as there are none further ahead than
is possible in any state; to compare each with its own state costs a look at all that wait, so it is done seldom.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from linker.engine.ports import Clock, Store
from linker.event_log import log
from states.connection import ConnectionState
from states.impossible import furthest
from states.timing import Timing

#: How often each row is compared with its own state, if the clock gives no reason to do it at once.
THOROUGH_SECONDS = 600.0
#: How many are brought back at a time: they are all due then.
MOST_ROWS = 500
#: A clock that goes back by more was set.
SET_BACK = timedelta(seconds=5)


class ImpossibleTimes:
    """Looks for such rows before each pass."""

    def __init__(self, store: Store, clock: Clock, timing: Timing) -> None:
        """Take where the rows are, and what their times are compared with."""
        self._store = store
        self._clock = clock
        self._furthest = {state.value: furthest(state, timing) for state in ConnectionState}
        self._latest: datetime | None = None
        self._looked_at = 0.0

    async def bring_back(self) -> None:
        """Let be due now what is due later than is possible."""
        now = self._clock.now()
        was_set_back = self._latest is None or now < self._latest - SET_BACK
        thorough = was_set_back or time.monotonic() - self._looked_at > THOROUGH_SECONDS
        self._latest = now
        ahead = self._furthest if thorough else dict.fromkeys(self._furthest, max(self._furthest.values()))
        brought_back = await self._store.bring_back(now=now, furthest=ahead, limit=MOST_ROWS)
        if thorough and brought_back < MOST_ROWS:
            self._looked_at = time.monotonic()
        if brought_back:
            log.warning("times.brought_back", count=brought_back)
