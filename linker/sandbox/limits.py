"""How many requests a token may make, in windows aligned to the clock, as seen on the real service."""

from __future__ import annotations

from dataclasses import dataclass, field

from linker.sandbox.models import WorldError

#: Length of a window in seconds (Workable's documentation; the alignment was seen, not promised).
WINDOW_SECONDS = 10
#: Requests in a window for an account token (Workable's documentation).
ACCOUNT_REQUESTS = 10
#: Requests in a window when X-WORKABLE-CLIENT-ID is sent (Workable's documentation).
PARTNER_REQUESTS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The limit in force, in requests per window; None switches that side off, and its headers with it."""

    requests: int | None = ACCOUNT_REQUESTS
    partner: int | None = PARTNER_REQUESTS

    def __post_init__(self) -> None:
        """Raises `WorldError` for a limit below one."""
        for name, value in (("requests", self.requests), ("partner", self.partner)):
            if value is not None and value < 1:
                raise WorldError(name, "must be 1 or more, or nothing for 'no limit'")

    @classmethod
    def off(cls) -> Limit:
        """Returns no limit at all, for a benchmark."""
        return cls(requests=None, partner=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What a request was told about its limit; `reset` is in Unix seconds, the end of the window."""

    granted: bool
    limit: int
    remaining: int
    reset: int


@dataclass(slots=True)
class RateCounter:
    """Counts the requests of each token in its window. Not locked: its owner, the world, does that."""

    limit: Limit = field(default_factory=Limit)
    _windows: dict[str, tuple[int, int]] = field(default_factory=dict)

    def spend(self, token: str, *, partner: bool, now: float) -> Allowance | None:
        """Counts one request, and returns what is left; None when no limit applies.

        A refused request is not counted. Whether several tokens of one account share a window on the real
        service is not established; here each has its own.
        """
        limit = self.limit.partner if partner else self.limit.requests
        if limit is None:
            return None
        window = int(now) // WINDOW_SECONDS
        before, used = self._windows.get(token, (window, 0))
        used = used if before == window else 0
        granted = used < limit
        if granted:
            used += 1
            self._windows[token] = (window, used)
        return Allowance(granted=granted, limit=limit, remaining=max(limit - used, 0), reset=window_end(now))


def window_end(now: float) -> int:
    """Returns the Unix second in which the window of `now` ends: later than `now`, by ten seconds at most."""
    return (int(now) // WINDOW_SECONDS + 1) * WINDOW_SECONDS
