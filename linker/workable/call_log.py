"""One account's calls of the last ten seconds, as all processes know them together: who made how many, and when.

The log is kept in the shared row of the account (`linker.persistence.rate_limits`). In any ten seconds

* looks and hosts together make at most 6 calls of Workable's 10; a person at Continue goes beyond, and is counted;
* hosts make at most 4 of them. They take calls in blocks: a block counts as made until it is told which calls were;
* looks make at most 4, and at most 2 while a host calls.

With a partner's client id all numbers are five times as large. Pure: the time is an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from linker.workable.api import (
    ACCOUNT_LIMIT,
    HOSTS_OF_TEN,
    LOOKS_BESIDE_A_HOST_OF_TEN,
    LOOKS_OF_TEN,
    PARTNER_LIMIT,
    SHARED_OF_TEN,
    WINDOW_SECONDS,
)

#: Nothing in a log is further ahead than this: a clock that went wrong keeps nobody waiting for long.
LONGEST_AHEAD_SECONDS = 60.0


class Caller(StrEnum):
    """Whose calls they are. The texts are stored."""

    LOOK = "look"
    PERSON = "person"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls that were made, or may still be made, until a time; of hosts with the block that they belong to."""

    caller: Caller
    number: int
    until: float
    block: str | None = None

    @property
    def over_at(self) -> float:
        """From when on they do not count any more."""
        return self.until + WINDOW_SECONDS


class CallLog:
    """The calls that count now."""

    def __init__(self, calls: Iterable[Calls], now: float, *, partner: bool = False) -> None:
        """Take what was stored, without what is over; what a wrong clock wrote far ahead counts for a minute."""
        latest = now + LONGEST_AHEAD_SECONDS
        self.calls = [replace(one, until=min(one.until, latest)) for one in calls if now < one.over_at]
        self._now = now
        self._scale = (PARTNER_LIMIT if partner else ACCOUNT_LIMIT) // 10

    @classmethod
    def stored(cls, rows: Sequence[Sequence[Any]] | None, now: float, *, partner: bool = False) -> CallLog:
        """The log of a row, which holds `[caller, number, until, block]` for each entry."""
        return cls((Calls(Caller(row[0]), *row[1:]) for row in rows or ()), now, partner=partner)

    def as_stored(self) -> list[list[Any]]:
        """As the row holds it."""
        return [[one.caller.value, one.number, one.until, one.block] for one in self.calls]

    @property
    def matters_until(self) -> float:
        """From when on nothing of it counts any more."""
        return max((one.over_at for one in self.calls), default=0.0)

    def add(self, caller: Caller, number: int, *, until: float | None = None, block: str | None = None) -> None:
        """Count calls: made now, or made until a time."""
        if number:
            self.calls.append(Calls(caller, number, self._now if until is None else until, block))

    def replace_block(self, block: str, made: Iterable[float]) -> None:
        """A block is given back: of its calls only those that were made at these times count on."""
        self.calls = [one for one in self.calls if one.block != block]
        told = (Calls(Caller.HOST, 1, at) for at in made)
        self.calls += [one for one in told if self._now < one.over_at]

    def room(self, caller: Caller, at: float | None = None) -> int:
        """How many calls may be made now, or at a later time if none is made before."""
        at = self._now if at is None else at
        counting = [one for one in self.calls if at < one.over_at]
        by = {caller: sum(one.number for one in counting if one.caller is caller) for caller in Caller}
        own = HOSTS_OF_TEN
        if caller is Caller.LOOK:
            own = LOOKS_BESIDE_A_HOST_OF_TEN if by[Caller.HOST] else LOOKS_OF_TEN
        return min(own * self._scale - by[caller], SHARED_OF_TEN * self._scale - sum(by.values()))

    def free_at(self, caller: Caller, number: int) -> float:
        """When so many calls may be made; more than there ever is room for may be made once nothing else counts."""
        times = [self._now, *sorted(one.over_at for one in self.calls)]
        return next((at for at in times if self.room(caller, at) >= number), times[-1])
