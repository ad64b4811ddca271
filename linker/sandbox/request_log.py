"""A request that was made to the sandbox, as its log remembers it: it never holds a token."""

from __future__ import annotations

from dataclasses import dataclass

#: How many requests are remembered unless told otherwise; older ones are dropped.
LOG_ENTRIES = 1000
#: Longer texts are cut to this many characters, so that a stranger's header cannot fill the memory.
LONGEST_TEXT_CHARACTERS = 200


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
