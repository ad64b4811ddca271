"""When to look again. Time and chance are arguments; the rule without jitter stands apart from the jitter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """The pauses after tries that failed: they double from the first up to the last."""

    first: timedelta = timedelta(seconds=5)
    last: timedelta = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How patient and how polite we are. The defaults suit Workable's limit of 10 calls in 10 seconds."""

    #: The shortest and the longest pause between two looks for the recruiter.
    poll_first: timedelta = timedelta(seconds=10)
    poll_last: timedelta = timedelta(hours=1)
    #: The pause is the time waited so far divided by this.
    poll_share: float = 10.0
    #: The same while somebody has the page of the connection open, and by how long it has been open.
    watched_first: timedelta = timedelta(seconds=4)
    watched_last: timedelta = timedelta(seconds=30)
    #: How long the customer has for adding the recruiter.
    recruiter_within: timedelta = timedelta(days=14)
    #: How long we wait for a working token before the connection is put aside.
    token_within: timedelta = timedelta(days=30)
    #: How long a token is kept that turned out to be another account's.
    held_for: timedelta = timedelta(minutes=15)
    #: How often a linked account is checked.
    health_every: timedelta = timedelta(hours=24)
    #: The pause after the first try without an answer; it doubles up to the longest one.
    backoff_first: timedelta = Backoff.first
    backoff_last: timedelta = Backoff.last
    #: How long before a token's last day the host is told.
    expiry_notice: timedelta = timedelta(days=14)
    #: A refusal ends a working link only after so many in a row (2 or more), spread over at least this time.
    refusals: int = 3
    refusals_spread: timedelta = timedelta(hours=1)
    #: A replacement token whose answer is not understood is turned down after so many tries.
    replacement_tries: int = 5
    #: How long after its deadline a connection still waits for Workable to answer at all.
    overdue_grace: timedelta = timedelta(days=1)
    #: How long there may be no answer to go by before somebody who can act is told; a third of it while a person waits.
    trouble_within: timedelta = timedelta(days=3)

    @property
    def backoff(self) -> Backoff:
        """The pauses between two tries without an answer."""
        return Backoff(first=self.backoff_first, last=self.backoff_last)


#: A time that Workable names is heeded for so long at most.
LONGEST_NAMED = timedelta(hours=1)
#: A stored time is impossible only if it lies further ahead than anything could have put it by this: clocks of machines
#: differ a little, and are set a little.
CLOCK_SLACK = timedelta(minutes=10)
#: No setting is longer.
LONGEST_SPAN = timedelta(days=3650)

#: No pause is shorter than this, however the jitter falls: nothing may spin.
SHORTEST_PAUSE = timedelta(seconds=1)


def poll_pause(age: timedelta, timing: Timing) -> timedelta:
    """How long to wait before the next look for a recruiter that we have waited for since `age`."""
    return min(max(age / timing.poll_share, timing.poll_first), timing.poll_last)


def watched_pause(age: timedelta, timing: Timing) -> timedelta:
    """How long to wait before the next look while somebody has had the page open since `age`."""
    return min(max(age / timing.poll_share, timing.watched_first), timing.watched_last)


def next_poll(now: datetime, age: timedelta, jitter: float, timing: Timing) -> datetime:
    """The next look: never later than the rule says, and up to a tenth earlier, so that looks spread out."""
    return now + poll_pause(age, timing) * (1.0 - 0.1 * jitter)


def backoff_ceiling(attempts: int, backoff: Backoff) -> timedelta:
    """The longest pause after so many tries in a row (1 for the first)."""
    times = 2 ** min(max(attempts - 1, 0), 62)
    if times >= backoff.last / backoff.first:
        return backoff.last
    ceiling: timedelta = backoff.first * times
    return ceiling


def next_try(
    now: datetime, attempts: int, jitter: float, backoff: Backoff, *, at_least: datetime | None = None
) -> datetime:
    """The next try, with full jitter: anywhere between nothing and the ceiling, but after `at_least`.

    A little after it: everybody who waits for the same moment would otherwise come at that moment. And the pauses grow
    all the same, for a limit that is used up again whenever it is renewed.
    """
    own = now + max(backoff_ceiling(attempts, backoff) * jitter, SHORTEST_PAUSE)
    if at_least is None or at_least <= now:
        return own
    return max(own, at_least + max(backoff.first * jitter, SHORTEST_PAUSE))


def next_health(now: datetime, jitter: float, timing: Timing) -> datetime:
    """The next check of a linked account, up to a tenth earlier or later so that checks spread over the day."""
    return now + timing.health_every * (0.9 + 0.2 * jitter)


#: What ended by refusals is looked at again at these ages: after an hour and after six, then daily, then weekly.
HEALING_AGES = (
    timedelta(hours=1),
    timedelta(hours=6),
    *(timedelta(days=day) for day in range(1, 15)),
    *(timedelta(days=day) for day in range(21, 91, 7)),
)


def next_healing(now: datetime, ended_at: datetime, jitter: float) -> datetime | None:
    """The next look at what ended at a time, up to a tenth of the pause later so that looks spread; None: no more."""
    age = now - ended_at
    following = next((each for each in HEALING_AGES if each > age), None)
    return None if following is None else now + (following - age) * (1.0 + 0.1 * jitter)


def furthest_due(timing: Timing, *, waits_for_token: bool, has_failed: bool) -> timedelta:
    """How far ahead anything can have put the time at which a connection is due."""
    pauses = [timing.poll_last, timing.health_every * 1.1, timing.backoff_last, timing.refusals_spread * 1.1]
    pauses += [LONGEST_NAMED + timing.backoff_first, timing.watched_last, timing.held_for]
    if waits_for_token:
        pauses.append(timing.token_within)
    if has_failed:
        pauses.append(max(later - earlier for earlier, later in pairwise(HEALING_AGES)) * 1.1)
    return max(pauses) + CLOCK_SLACK


def notice_at(expires_on: date, timing: Timing) -> datetime:
    """When the host is told that a token expires: so long before its last day begins, in UTC."""
    return datetime.combine(expires_on, time(), tzinfo=UTC) - timing.expiry_notice


def next_doubt(now: datetime, jitter: float, timing: Timing) -> datetime:
    """The next look at a refusal: just so late that the last one that is needed completes the spread."""
    return now + timing.refusals_spread / max(timing.refusals - 1, 1) * (1.0 + 0.1 * jitter)
