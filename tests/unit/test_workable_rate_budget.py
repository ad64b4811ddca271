from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.workable.rate_budget import LOOK, VERIFICATION, Allowance, RateBudget
from tests.unit.workable_helpers import NOON, SettableClock


def headers(remaining: int | str, reset: float | None = 10, limit: int = 10) -> dict[bytes, bytes]:
    """The headers of a good answer; `reset` is seconds from noon."""
    found = {b"x-rate-limit-limit": b"%d" % limit, b"x-rate-limit-remaining": str(remaining).encode()}
    return found if reset is None else found | {b"x-rate-limit-reset": b"%d" % (NOON.timestamp() + reset)}


@pytest.fixture
def clock() -> SettableClock:
    """A clock at noon."""
    return SettableClock()


@pytest.fixture
def budget(clock: SettableClock) -> RateBudget:
    """The budget of an account token."""
    return RateBudget(clock)


def spend(budget: RateBudget, allowance: Allowance, calls: int) -> list[bool]:
    """Try so many calls; True for each that may be made."""
    return [budget.spend("acme", allowance) is None for _ in range(calls)]


def test_looks_use_four_calls_in_ten_seconds(budget: RateBudget, clock: SettableClock) -> None:
    """The fifth look is put off until the first one is ten seconds old."""
    assert spend(budget, LOOK, 5) == [True] * 4 + [False]
    assert budget.spend("acme", LOOK) == NOON + timedelta(seconds=10)
    clock.go_on(10)
    assert budget.spend("acme", LOOK) is None


def test_a_clock_that_is_set_back_stops_nobody(budget: RateBudget, clock: SettableClock) -> None:
    """What was learnt before a clock was set back by a day is forgotten, not waited for."""
    spend(budget, LOOK, 4)
    budget.learn("acme", headers(1), clock.now())
    budget.block("acme", clock.now() + timedelta(minutes=1))
    clock.go_on(-24 * 3600)
    assert spend(budget, LOOK, 5) == [True] * 4 + [False]
    clock.go_on(24 * 3600)
    assert spend(budget, LOOK, 1) == [True], "nor is it remembered when its time comes"


def test_a_clock_that_is_set_back_a_little_forgets_nothing(budget: RateBudget, clock: SettableClock) -> None:
    """A correction of a second gives nobody more calls."""
    spend(budget, LOOK, 4)
    clock.go_on(-1)
    assert spend(budget, LOOK, 1) == [False]


def test_a_person_may_verify_again_at_once(budget: RateBudget) -> None:
    """Verifications have eight calls of their own, enough for a second and a third try, also after looks."""
    assert spend(budget, LOOK, 4) == [True] * 4
    assert spend(budget, VERIFICATION, 9) == [True] * 8 + [False]


def test_partners_have_five_times_as_much(clock: SettableClock) -> None:
    """With a partner's client id looks use twenty calls."""
    assert spend(RateBudget(clock, partner=True), LOOK, 21) == [True] * 20 + [False]


def test_accounts_do_not_share(budget: RateBudget) -> None:
    """What one account has used is nothing to another."""
    spend(budget, LOOK, 4)
    assert budget.spend("globex", LOOK) is None


@pytest.mark.parametrize(("allowance", "left", "granted"), [(LOOK, 4, 1), (LOOK, 3, 0), (VERIFICATION, 2, 1)])
def test_a_share_is_left_to_the_customers_tools(
    budget: RateBudget, clock: SettableClock, allowance: Allowance, left: int, granted: int
) -> None:
    """What Workable says is left stops us early, and our own calls count against it at once."""
    budget.learn("acme", headers(left, reset=7), clock.now())
    assert spend(budget, allowance, 2) == [n < granted for n in range(2)]
    assert budget.spend("acme", allowance) == NOON + timedelta(seconds=7)
    clock.go_on(7)
    assert budget.spend("acme", allowance) is None


def test_a_late_answer_does_not_give_back(budget: RateBudget, clock: SettableClock) -> None:
    """Within a window the smaller number stands; a later window starts anew."""
    budget.learn("acme", headers(3), clock.now())
    budget.learn("acme", headers(8), clock.now())
    assert budget.spend("acme", LOOK) is not None
    clock.go_on(6)
    budget.learn("acme", headers(9, reset=16), clock.now())
    assert budget.spend("acme", LOOK) is None


@pytest.mark.parametrize("off", [-90_000, -3600, -45, 0, 45, 3600, 90_000])
def test_a_window_is_measured_by_the_servers_own_clock(budget: RateBudget, clock: SettableClock, off: float) -> None:
    """Whatever our clock says, the calls are put off for as long as Workable meant, and never for longer."""
    theirs = NOON + timedelta(seconds=off)
    told = {b"date": format_datetime(theirs, usegmt=True).encode(), **headers(0, reset=off + 7)}
    budget.learn("acme", told, clock.now())
    assert budget.spend("acme", LOOK) == NOON + timedelta(seconds=7)


@pytest.mark.parametrize("reset", [None, -500, 0, 4000])
def test_a_window_that_makes_no_sense_is_ten_seconds(
    budget: RateBudget, clock: SettableClock, reset: float | None
) -> None:
    """A reset that is missing, past or far away counts as ten seconds from now."""
    budget.learn("acme", headers(0, reset=reset), clock.now())
    assert budget.spend("acme", LOOK) == NOON + timedelta(seconds=10)


@pytest.mark.parametrize("remaining", ["", "-1", "many", "9" * 40])
def test_a_count_that_makes_no_sense_is_passed_over(budget: RateBudget, clock: SettableClock, remaining: str) -> None:
    """Headers that hold no number change nothing."""
    budget.learn("acme", headers(remaining), clock.now())
    assert budget.spend("acme", LOOK) is None


def test_a_refusal_holds_for_everything(budget: RateBudget) -> None:
    """After a 429 nothing is asked before the time that was named."""
    until = NOON + timedelta(seconds=30)
    budget.block("acme", until)
    budget.block("acme", NOON)
    assert budget.spend("acme", LOOK) == budget.spend("acme", VERIFICATION) == until


def test_room_is_half_of_the_limit(budget: RateBudget, clock: SettableClock) -> None:
    """There is room for a call that is not needed while half is left, or nothing is known."""
    assert budget.is_roomy("acme")
    budget.learn("acme", headers(5), clock.now())
    assert budget.is_roomy("acme")
    budget.learn("acme", headers(4), clock.now())
    assert not budget.is_roomy("acme")


def test_memory_is_bounded(clock: SettableClock) -> None:
    """Only so many accounts are remembered, and those that are at rest are forgotten."""
    budget = RateBudget(clock, kept=10)
    for n in range(100):
        budget.spend(f"a{n}", LOOK)
    assert len(budget) == 10
    clock.go_on(60)
    for n in range(8):
        budget.spend(f"b{n}", LOOK)
        clock.go_on(11)
    assert len(budget) <= 3


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_never_more_than_the_own_limit_in_any_ten_seconds(moments: list[tuple[float, bool]]) -> None:
    """However calls fall, in no ten seconds are there more than four looks and eight calls for verifications."""
    clock = SettableClock()
    budget = RateBudget(clock)
    made: dict[Allowance, list[float]] = {LOOK: [], VERIFICATION: []}
    for wait, person in moments:
        clock.go_on(wait)
        allowance = VERIFICATION if person else LOOK
        until = budget.spend("acme", allowance)
        assert until is None or until > clock.now()
        if until is None:
            made[allowance].append(clock.now().timestamp())
    for allowance, times in made.items():
        for start in times:
            assert sum(start <= at < start + 10 for at in times) <= allowance.own
