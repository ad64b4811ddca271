"""What an observer is told: how long each piece of work took and what came of it, and what is in the database.

An observer hears the names of verdicts, states and problems, counts and seconds; never an owner, an e-mail or a token.
Only what a person does carries the connection's id, for traces. Where nobody listens nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from states.verdicts import Verdict, in_lower_case, name_of

Fact = str | int | float | bool


class Work(StrEnum):
    """A piece of work that is watched, in the order of the story."""

    #: What a person does, from the press to the answer.
    SUBMIT_TOKEN = "submit_token"
    CONFIRM_RECRUITER = "confirm_recruiter"
    CHECK = "check"
    RESTART = "restart"
    #: One pass over what is due.
    SWEEP = "sweep"
    #: One transaction that takes leases.
    CLAIM = "claim"
    #: One question to Workable: one to three requests.
    CALL = "call"
    #: One transaction that writes decisions.
    SETTLE = "settle"
    #: One announcement on its way to the host.
    DELIVERY = "delivery"
    #: One request of the host's own to an account that is linked.
    USE = "use"


class Note(Protocol):
    """Adds facts to a piece of work that is in flight."""

    def __call__(self, **facts: Fact) -> None:
        """Add facts: `rows`, `question`, `verdict`, `way`, `type`, `outcome`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Announcements of one kind that wait: how many, and how long the oldest of them has waited, in seconds."""

    number: int
    oldest: float


@dataclass(frozen=True, kw_only=True)
class QueueStats:
    """What is due, as indexes tell it: cheap to read."""

    read_at: datetime
    #: How many connections are due.
    due: int
    #: By how many seconds the one is late that is due the longest.
    lag_seconds: float
    #: Announcements that wait, by channel, type, and whether they were tried already.
    outbox: Mapping[tuple[str, str, bool], Waiting]
    #: True while Workable refuses many accounts at once, so that no refusal is believed.
    incident: bool = False
    #: How many workers said lately that they are alive.
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class ConnectionStats:
    """What is stored: every connection is looked at, so it is read seldom."""

    #: How many open connections there are, by state and problem ("none": there is none).
    by_state: Mapping[tuple[str, str], int]
    #: For how many seconds the one has waited that waits longest, by state.
    oldest_wait: Mapping[str, float]
    #: How many are without an answer for so long that somebody was told (`connection.troubled`), by problem.
    troubled: Mapping[str, int]
    #: How many announcements were given up, by channel.
    dead: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is in the database; what is told of the connections may be older than the queue."""

    queue: QueueStats
    connections: ConnectionStats


class Observer(Protocol):
    """Whoever wants to know how it goes. It must be quick and must not raise: it is called in the midst of the work."""

    def watch(self, work: Work, **facts: Fact) -> AbstractContextManager[Note]:
        """Go along with a piece of work; an exception that comes through is its failure.

        Facts come as arguments, and later by calls of the note: `rows`, `question`, `verdict`, `way` (the channel),
        `type`, `outcome`.
        """
        ...

    def leases_lost(self, count: int) -> None:
        """Answers were thrown away, because their rows had changed meanwhile."""
        ...

    def statistics_read(self, statistics: Statistics) -> None:
        """The database was looked at."""
        ...


def _unheard(**facts: Fact) -> None:
    """Nobody writes it down."""


#: What goes along with a piece of work where nobody listens.
UNWATCHED: AbstractContextManager[Note, None] = nullcontext(_unheard)


class Unobserved:
    """Nobody listens."""

    def watch(self, work: Work, **facts: Fact) -> AbstractContextManager[Note]:
        """Do nothing."""
        return UNWATCHED

    def leases_lost(self, count: int) -> None:
        """Do nothing."""

    def statistics_read(self, statistics: Statistics) -> None:
        """Do nothing."""


UNOBSERVED = Unobserved()


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    each: tuple[Observer, ...]

    def watch(self, work: Work, **facts: Fact) -> AbstractContextManager[Note]:
        """Let all go along that listen now."""
        watching = [each.watch(work, **facts) for each in self.each]
        listening = [watched for watched in watching if watched is not UNWATCHED]
        return listening[0] if len(listening) == 1 else _all(listening)

    def leases_lost(self, count: int) -> None:
        """Tell all."""
        for observer in self.each:
            observer.leases_lost(count)

    def statistics_read(self, statistics: Statistics) -> None:
        """Tell all."""
        for observer in self.each:
            observer.statistics_read(statistics)


@contextmanager
def _all(watching: list[AbstractContextManager[Note]]) -> Iterator[Note]:
    with ExitStack() as stack:
        notes = [stack.enter_context(watched) for watched in watching]

        def note(**facts: Fact) -> None:
            for each in notes:
                each(**facts)

        yield note


def together(*observers: Observer | None) -> Observer:
    """One observer that is all of these; None stands for nobody."""
    present = tuple(observer for observer in observers if observer is not None)
    if len(present) == 1:
        return present[0]
    return Observers(present) if present else UNOBSERVED


def verdict_name(verdict: Verdict) -> str:
    """How a verdict is called in numbers and traces: `RecruiterSeen` is `recruiter_seen`."""
    return name_of(verdict)


def verdict_names() -> list[str]:
    """All that the law knows."""
    known = (kind for kind in Verdict.__subclasses__() if kind.__module__ == Verdict.__module__)
    return [in_lower_case(kind.__name__) for kind in known]
