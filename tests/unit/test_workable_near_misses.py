from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.engine.concurrency import Turns
from linker.wording import Words, describe
from linker.workable import near_misses
from linker.workable.near_misses import MOST_COMPARED_ENTRIES, MOST_SLIPS, not_there, same_text, slips
from states import events as happened
from states.connection import ConnectionState, Recruiter
from states.problems import NearMiss, NearMissKind, ProblemCode
from tests.builders import a_connection, a_problem, move

OURS = Recruiter(name="Northwind ATS", email="ats+q7kd2m@inbound.example")


def close(ours: Recruiter, others: list[tuple[str, str]]) -> NearMiss | None:
    """What comes close, in an event loop of its own."""
    return asyncio.run(near_misses.close(ours, lambda: others, Turns()))


def told(near_miss: NearMiss) -> Words:
    """What the customer reads of it: the law keeps it in a problem, and that is put into words."""
    waiting = a_connection(ConnectionState.AWAITING_RECRUITER, recruiter=OURS)
    problem = move(waiting, happened.RecruiterAbsent(near_miss)).problem
    assert problem is not None
    return describe(problem)


def whole_distance(left: str, right: str) -> int:
    """The optimal string alignment distance, reckoned in full and without cleverness."""
    table = {(row, 0): row for row in range(len(left) + 1)} | {(0, column): column for column in range(len(right) + 1)}
    for row in range(1, len(left) + 1):
        for column in range(1, len(right) + 1):
            differs = left[row - 1] != right[column - 1]
            table[row, column] = min(
                table[row - 1, column] + 1, table[row, column - 1] + 1, table[row - 1, column - 1] + differs
            )
            if row > 1 and column > 1 and left[row - 1] == right[column - 2] and left[row - 2] == right[column - 1]:
                table[row, column] = min(table[row, column], table[row - 2, column - 2] + 1)
    return table[len(left), len(right)]


@given(st.text("abc", max_size=9), st.text("abc", max_size=9), st.integers(0, 4))
def test_slips_are_counted_up_to_the_limit(left: str, right: str, most: int) -> None:
    """The quick count is the distance as far as the limit, and one more than the limit beyond it."""
    assert slips(left, right, most) == min(whole_distance(left, right), most + 1)


@pytest.mark.parametrize(
    ("theirs", "alike"),
    [
        ("ats+q7kdm@inbound.example", "ats+q7kd"),
        ("ats+q7kd2mm@inbound.example", "ats+q7kd2m"),
        ("ats+q7kd2n@inbound.example", "ats+q7kd2"),
        ("ats+q7dk2m@inbound.example", "ats+q7"),
        ("ATS+Q7KD2M@inbond.exmaple", "ats+q7kd2m@inbo"),
        ("bats+q7kd2m@inbound.example", None),
        ("ats+q7kd2m@inbound.example.", "ats+q7kd2m@inbound.example"),
    ],
)
def test_a_slip_in_the_email_is_told_by_our_own_part(theirs: str, alike: str | None) -> None:
    """An e-mail with one or two slips is pointed at by what is right in it, and the right one is given."""
    near = close(OURS, [("Someone", "else@elsewhere.example"), ("Typo", theirs)])
    kind = NearMissKind.SLIP if alike else NearMissKind.SLIP_AT_START
    assert near == NearMiss(kind=kind, alike=alike)
    hint = told(near).detail
    where = f"after “{alike}”" if alike else "at the very beginning"
    assert f"added with almost this e-mail: it differs {where}." in hint
    assert hint.endswith(f"edit its e-mail to {OURS.email}.")
    assert theirs not in hint.replace(OURS.email, "")
    assert "Typo" not in hint


@pytest.mark.parametrize("name", ["Northwind ATS", " northwind  ats ", "NORTHWIND ATS"])
def test_the_right_name_with_another_email_is_told(name: str) -> None:
    """Our name beside another e-mail gives a hint that shows only our own."""
    near = close(OURS, [(name, "jane.doe@acme.example")])
    assert near == NearMiss(kind=NearMissKind.SAME_NAME)
    hint = told(near).detail
    assert "“Northwind ATS”" in hint
    assert OURS.email in hint
    assert "jane" not in hint


def test_a_slip_is_told_before_the_right_name() -> None:
    """An e-mail that is nearly ours tells more than our name with a foreign one."""
    near = close(OURS, [("Northwind ATS", "x@y.example"), ("Any", "ats+q7kd2n@inbound.example")])
    assert near == NearMiss(kind=NearMissKind.SLIP, alike="ats+q7kd2")


def test_strangers_are_not_near() -> None:
    """Other people's recruiters, and entries without anything, give no hint."""
    assert close(OURS, [("", ""), ("Jane", "jane@acme.example"), ("Other", "ats+zzzz99@inbound.example")]) is None


def test_our_own_email_is_no_slip() -> None:
    """The e-mail itself, also in capitals, is not one that is almost ours."""
    assert close(OURS, [("Any", OURS.email), ("Other", OURS.email.upper())]) is None


def test_a_list_without_an_end_is_compared_for_a_while_only() -> None:
    """So many e-mails are compared letter by letter and no more; the right name is found wherever it stands."""
    crowd = [("Jane", "jane@acme.example")] * (MOST_COMPARED_ENTRIES - 1)
    almost = ("Any", "ats+q7kd2n@inbound.example")
    assert close(OURS, [*crowd, almost]) == NearMiss(kind=NearMissKind.SLIP, alike="ats+q7kd2")
    assert close(OURS, [*crowd, crowd[0], almost]) is None
    named = close(OURS, [*crowd, *crowd, ("Northwind ATS", "x@y.example")])
    assert named == NearMiss(kind=NearMissKind.SAME_NAME)


@given(st.lists(st.tuples(st.text(max_size=30), st.emails() | st.text(max_size=40))))
def test_no_hint_shows_anything_of_others(others: list[tuple[str, str]]) -> None:
    """A hint is made of fixed words and our own data, so it depends on nothing of others but where a slip begins."""
    near = close(OURS, others)
    almost = [theirs for _, theirs in others if 0 < slips(same_text(OURS.email), same_text(theirs)) <= MOST_SLIPS]
    if near is None:
        assert not almost
        return
    slipped = near.kind in {NearMissKind.SLIP, NearMissKind.SLIP_AT_START}
    assert slipped == bool(almost)
    assert near.alike is None or OURS.email.startswith(near.alike)
    assert near.others is None
    assert ("almost" in told(near).detail) == bool(almost)


def test_texts_compare_without_blanks_capitals_or_spellings() -> None:
    """Blanks, capitals and the two ways to write an accented letter make no difference."""
    assert same_text(" Jos\u00e9@X.example ") == same_text("jose\u0301@x.EXAMPLE")


def test_the_other_hints_say_what_is_there() -> None:
    """A member, an empty list and a list of others are told apart."""
    member = told(NearMiss(kind=NearMissKind.MEMBER)).detail
    assert member.startswith(f"{OURS.email} was added as an account member, not as an external recruiter.")
    assert "Settings > Account members > Add an external recruiter" in member
    assert not_there(0) == NearMiss(kind=NearMissKind.NONE)
    assert not_there(1) == NearMiss(kind=NearMissKind.OTHERS, others=1)
    assert not_there(12) == NearMiss(kind=NearMissKind.OTHERS, others=12)
    assert told(not_there(0)).detail == "The list of external recruiters in Workable is empty."
    assert told(not_there(1)).detail == "Workable lists 1 other external recruiter; it is not this one."
    assert "12 other external recruiters; none of them is this one." in told(not_there(12)).detail


@pytest.mark.parametrize("kind", NearMissKind)
def test_every_hint_is_a_whole_sentence_of_ours(kind: NearMissKind) -> None:
    """Each kind has words, all of whose parameters are filled in, behind what is the matter."""
    words = told(NearMiss(kind=kind, alike="ats+", others=2))
    assert words.message == f"{describe(a_problem(ProblemCode.RECRUITER_ABSENT)).message} {words.detail}"
    assert words.detail.endswith(".")
    assert "{" not in words.message
