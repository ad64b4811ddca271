"""What was asked of the sandbox: a bounded list of requests that never holds a token."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: How many requests are remembered unless told otherwise; older ones are dropped.
LENGTH = 1000
#: Longer texts are cut to this many characters, so that a stranger's header cannot fill the memory.
LONGEST_TEXT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """One request and what it got.

    `at` is the world's clock (Unix seconds) when the request came. `started` and `ended` are seconds of this
    process's monotonic clock and only good for differences and overlaps; `ended` is taken just before the
    last byte is handed over. `path` is the part after `/spi/v3`. `fingerprint` is None when no token came;
    `fault` names the fault that struck.
    """

    number: int
    at: float
    method: str
    subdomain: str
    path: str
    query: str
    status: int
    started: float
    ended: float
    fingerprint: str | None
    user_agent: str
    fault: str | None

    @property
    def milliseconds(self) -> float:
        """How long the answer took."""
        return (self.ended - self.started) * 1000


class Journal:
    """The latest requests, oldest first. Not locked: its owner, the world, does that."""

    def __init__(self, length: int = LENGTH) -> None:
        """Starts empty; `length` is how many requests are remembered."""
        self._entries: deque[LogEntry] = deque(maxlen=length)
        self._last = 0

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """What is remembered, oldest first."""
        return tuple(self._entries)

    @property
    def last(self) -> int:
        """The number of the latest request since the start, 0 before the first; it never goes back."""
        return self._last

    def add(
        self,
        *,
        at: float,
        method: str,
        subdomain: str,
        path: str,
        query: str,
        status: int,
        started: float,
        ended: float,
        fingerprint: str | None,
        user_agent: str,
        fault: str | None,
    ) -> LogEntry:
        """Writes one request down under the next number, its texts cut to size."""
        self._last += 1
        entry = LogEntry(
            number=self._last,
            at=at,
            method=method,
            subdomain=subdomain[:LONGEST_TEXT],
            path=path[:LONGEST_TEXT],
            query=query[:LONGEST_TEXT],
            status=status,
            started=started,
            ended=ended,
            fingerprint=fingerprint,
            user_agent=user_agent[:LONGEST_TEXT],
            fault=fault,
        )
        self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forgets the requests; the numbers go on."""
        self._entries.clear()
