"""One budget for sweeps, people and hosts: the log of calls, against every ten seconds of what was made."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.workable.api import WINDOW_SECONDS
from linker.workable.call_log import LONGEST_AHEAD_SECONDS, Caller, CallLog, Calls

NOW = 1_000_000.0
LOOK, PERSON, HOST = Caller.LOOK, Caller.PERSON, Caller.HOST


def log(*calls: Calls, now: float = NOW, partner: bool = False) -> CallLog:
    """A log with these calls, as it is read from its row."""
    stored = CallLog(calls, now, partner=partner).as_stored()
    return CallLog.stored(json.loads(json.dumps(stored)), now, partner=partner)


def test_looks_alone_make_four() -> None:
    """And two while a host calls."""
    assert log().room(LOOK) == 4
    assert log(Calls(HOST, 1, NOW)).room(LOOK) == 2
    assert log(Calls(HOST, 4, NOW)).room(LOOK) == 2
    assert log(Calls(HOST, 1, NOW), Calls(LOOK, 2, NOW)).room(LOOK) == 0


def test_hosts_make_four_and_leave_room_for_nobody_else() -> None:
    """Six together, of which hosts have four; people are counted, and go beyond."""
    assert log().room(HOST) == 4
    assert log(Calls(LOOK, 4, NOW)).room(HOST) == 2
    assert log(Calls(PERSON, 3, NOW)).room(HOST) == 3
    assert log(Calls(PERSON, 8, NOW)).room(HOST) == -2
    assert log(partner=True).room(HOST) == 20


def test_a_block_counts_until_it_is_given_back() -> None:
    """What of it was not used is free at once then; what was used is free ten seconds after."""
    taken = log(Calls(HOST, 4, NOW + 5, "mine"), Calls(LOOK, 1, NOW))
    assert taken.room(HOST) == 0
    assert taken.free_at(HOST, 1) == NOW + 15
    taken.replace_block("mine", [NOW - 2.0, NOW - 11.0])
    assert taken.room(HOST) == 3
    assert taken.free_at(HOST, 4) == NOW + 8


def test_a_wrong_clock_keeps_nobody_waiting() -> None:
    """What is further ahead than a minute counts for a minute from when it is seen."""
    seen = log(Calls(HOST, 4, NOW + 1e9))
    assert seen.room(HOST) == 0
    assert seen.free_at(HOST, 4) == NOW + LONGEST_AHEAD_SECONDS + WINDOW_SECONDS
    assert log(*seen.calls, now=NOW + LONGEST_AHEAD_SECONDS + WINDOW_SECONDS).room(HOST) == 4


@pytest.mark.parametrize("number", [5, 50])
def test_more_than_there_ever_is_room_for_waits_for_an_empty_log(number: int) -> None:
    """It does not wait for ever."""
    assert log(Calls(LOOK, 1, NOW - 1)).free_at(LOOK, number) == NOW + 9


WISHES = st.lists(
    st.tuples(
        st.sampled_from([LOOK, LOOK, HOST, HOST, HOST, PERSON]), st.floats(0, 4), st.integers(1, 4), st.floats(0, 1)
    ),
    max_size=40,
)


def most_in_ten_seconds(made: Sequence[float]) -> int:
    """The most calls in any ten seconds that begin with one of them."""
    return max((sum(start <= at < start + 10 for at in made) for start in made), default=0)


@given(WISHES)
def test_no_ten_seconds_see_more(wishes: list[tuple[Caller, float, int, float]]) -> None:
    """However sweeps, people and hosts come, and whenever hosts use what they took and tell of it, or die."""
    now, stored = NOW, CallLog((), NOW).as_stored()
    looks: list[float] = []
    hosts: list[float] = []
    people: list[float] = []
    for number, (caller, pause, wanted, use) in enumerate(wishes):
        now += pause
        book = CallLog.stored(stored, now)
        if caller is PERSON:
            book.add(PERSON, wanted)
            people += [now] * wanted
        elif caller is LOOK and book.free_at(LOOK, wanted) <= now:
            book.add(LOOK, wanted)
            looks += [now] * wanted
        elif caller is HOST and (room := min(wanted, book.room(HOST))) > 0:
            at = now + 5 * use
            book.add(HOST, room, until=now + 5, block=str(number))
            hosts += [at] * (room if use < 0.7 else room - 1)  # one is not used
            if use < 0.2:  # a process that goes on, and tells at once
                now = at
                book = CallLog.stored(book.as_stored(), now)
                book.replace_block(str(number), [at] * room)
        stored = book.as_stored()
    assert most_in_ten_seconds(hosts) <= 4
    assert most_in_ten_seconds(looks) <= 4
    assert most_in_ten_seconds([*looks, *hosts]) <= 6
