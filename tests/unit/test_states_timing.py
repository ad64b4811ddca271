"""When we look again: bounds that hold for every age, every number of tries and every dice."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from states.connection import ConnectionState, LastLook
from states.impossible import without_impossible_times
from states.problems import ProblemCode
from states.timing import (
    SHORTEST_PAUSE,
    Backoff,
    Timing,
    backoff_ceiling,
    next_doubt,
    next_health,
    next_poll,
    next_try,
    poll_pause,
)
from tests.builders import NOW, TIMING, a_connection, a_doubt, a_problem

DICE = st.floats(0, 1, exclude_max=True)
AGES = st.timedeltas(timedelta(0), timedelta(days=400))
ATTEMPTS = st.integers(1, 10**6)
SPANS = st.timedeltas(timedelta(seconds=1), timedelta(days=3650))
BACKOFF = Backoff()
#: A microsecond may be lost in rounding.
GRAIN = timedelta(microseconds=1)


def test_defaults() -> None:
    """The timings that are promised to customers and operators."""
    assert vars(TIMING) == {
        "poll_first": timedelta(seconds=10),
        "poll_last": timedelta(hours=1),
        "poll_share": 10.0,
        "watched_first": timedelta(seconds=4),
        "watched_last": timedelta(seconds=30),
        "recruiter_within": timedelta(days=14),
        "token_within": timedelta(days=30),
        "held_for": timedelta(minutes=15),
        "health_every": timedelta(hours=24),
        "expiry_notice": timedelta(days=14),
        "backoff_first": timedelta(seconds=5),
        "backoff_last": timedelta(hours=1),
        "refusals": 3,
        "refusals_spread": timedelta(hours=1),
        "replacement_tries": 5,
        "overdue_grace": timedelta(days=1),
        "trouble_within": timedelta(days=3),
    }


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(seconds=-5), timedelta(seconds=10)),
        (timedelta(0), timedelta(seconds=10)),
        (timedelta(seconds=100), timedelta(seconds=10)),
        (timedelta(minutes=10), timedelta(minutes=1)),
        (timedelta(hours=10), timedelta(hours=1)),
        (timedelta(days=13), timedelta(hours=1)),
    ],
)
def test_poll_pause(age: timedelta, pause: timedelta) -> None:
    """A tenth of the time waited so far, from ten seconds to an hour, also when a clock went back."""
    assert poll_pause(age, TIMING) == pause


@given(age=AGES)
def test_a_recruiter_is_noticed_within_a_tenth_of_the_time_that_it_took(age: timedelta) -> None:
    """The pause is never longer than a tenth of the age, but for the first pauses."""
    pause = poll_pause(age, TIMING)
    assert TIMING.poll_first <= pause <= TIMING.poll_last
    assert pause <= max(age / 10 + GRAIN, TIMING.poll_first)


@given(one=AGES, other=AGES)
def test_pauses_grow_with_the_age(one: timedelta, other: timedelta) -> None:
    """Nobody who waits longer is looked at more often."""
    assert poll_pause(min(one, other), TIMING) <= poll_pause(max(one, other), TIMING)


@given(age=AGES, jitter=DICE)
def test_looks_spread_out(age: timedelta, jitter: float) -> None:
    """The next look is never later than the rule says, and at most a tenth earlier."""
    pause = poll_pause(age, TIMING)
    assert pause * 0.9 - GRAIN <= next_poll(NOW, age, jitter, TIMING) - NOW <= pause


@given(attempts=ATTEMPTS, first=SPANS, last=SPANS)
def test_the_ceiling_doubles_up_to_the_longest_pause(attempts: int, first: timedelta, last: timedelta) -> None:
    """Whatever is configured and however long it lasts: doubling, within its bounds, without overflow."""
    backoff = Backoff(first=first, last=last)
    ceiling, following = backoff_ceiling(attempts, backoff), backoff_ceiling(attempts + 1, backoff)
    assert min(first, last) <= ceiling <= following <= last
    assert following in {ceiling * 2, last}


def test_the_first_ceilings() -> None:
    """5 s, 10 s, 20 s, … up to an hour."""
    seconds = [backoff_ceiling(attempts, BACKOFF).total_seconds() for attempts in (1, 2, 3, 4, 10, 11, 1000)]
    assert seconds == [5, 10, 20, 40, 2560, 3600, 3600]


@given(attempts=ATTEMPTS, jitter=DICE)
def test_full_jitter(attempts: int, jitter: float) -> None:
    """The next try is anywhere between nothing and the ceiling, but never at once."""
    pause = next_try(NOW, attempts, jitter, BACKOFF) - NOW
    assert SHORTEST_PAUSE <= pause <= backoff_ceiling(attempts, BACKOFF)
    assert pause >= backoff_ceiling(attempts, BACKOFF) * jitter - GRAIN


@example(attempts=9, jitter=0.5, named=timedelta(0))
@given(attempts=ATTEMPTS, jitter=DICE, named=st.timedeltas(timedelta(days=-1), timedelta(days=1)))
def test_workables_own_time_comes_first(attempts: int, jitter: float, named: timedelta) -> None:
    """Nothing is tried before the time that Workable named, nor all at that moment; a time gone by means nothing."""
    at_least = NOW + named
    at = next_try(NOW, attempts, jitter, BACKOFF, at_least=at_least)
    if at_least > NOW:
        soon_after = at_least + max(BACKOFF.first, SHORTEST_PAUSE)
        assert at_least + SHORTEST_PAUSE <= at
        assert at <= soon_after or at == next_try(NOW, attempts, jitter, BACKOFF), "its pauses grow all the same"
    else:
        assert at == next_try(NOW, attempts, jitter, BACKOFF)


@given(jitter=DICE)
def test_health_checks_spread_over_the_day(jitter: float) -> None:
    """Once a day, up to a tenth earlier or later."""
    assert timedelta(hours=21.6) <= next_health(NOW, jitter, TIMING) - NOW <= timedelta(hours=26.4)


@given(jitter=DICE, refusals=st.integers(1, 20))
def test_the_last_look_that_is_needed_completes_the_spread(jitter: float, refusals: int) -> None:
    """So many looks, each when it is due, cover the spread and hardly more."""
    timing = Timing(refusals=refusals)
    pause = next_doubt(NOW, jitter, timing) - NOW
    covered = pause * max(refusals - 1, 1)
    assert timing.refusals_spread - GRAIN * refusals <= covered <= timing.refusals_spread * 1.1 + GRAIN * refusals


def test_what_a_wrong_clock_wrote_is_not_believed() -> None:
    """A year ahead: what began or was seen then begins now, and nothing waits for that year."""
    ahead = NOW + timedelta(days=365)
    names = ("watched_since", "watched_until", "refused_at", "last_ok_at", "reported_at", "used_at", "troubled_since")
    look = LastLook(at=ahead, call="", status=None, ms=0, by="x", verdict="unavailable", told_at=ahead)
    wrong = a_connection(
        ConnectionState.LINKED,
        problem=a_problem(ProblemCode.WORKABLE_UNAVAILABLE, since=ahead),
        replacement_problem=a_problem(ProblemCode.TOKEN_REFUSED, since=ahead),
        doubt=a_doubt(since=ahead),
        last_look=look,
        **dict.fromkeys(names, ahead),
    )
    mended = without_impossible_times(wrong, NOW, TIMING)
    assert [getattr(mended, name) for name in names] == [NOW] * len(names)
    problems = (mended.problem, mended.replacement_problem, mended.doubt)
    assert [one.since for one in problems if one is not None] == [NOW] * 3
    assert mended.last_look == replace(look, told_at=NOW)
    assert without_impossible_times(mended, NOW, TIMING) == mended
