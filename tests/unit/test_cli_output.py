"""What people get to see: times, cards and tables at several widths."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from linker.cli.terminal.connection_views import card, details, history_table
from linker.cli.terminal.list_view import connections_table
from linker.cli.terminal.output import THEME
from linker.humanize import expiry, relative, span
from linker.wording import describe
from states.connection import ConnectionState, Problem
from states.history import Step
from states.problems import ProblemCode
from tests.builders import NOW, a_connection


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (540, "9 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
        (36000, "10 h"),
        (86400, "24 h"),
        (172800, "2 d"),
        (1209600, "14 d"),
        (-540, "9 min"),
    ],
)
def test_a_span_is_said_in_the_units_that_matter(seconds: float, said: str) -> None:
    """A span has one unit, or two between one and ten hours."""
    assert span(timedelta(seconds=seconds)) == said


def test_times_are_said_from_now() -> None:
    """What is ahead, what is past and what is now."""
    assert relative(NOW + timedelta(minutes=9), NOW) == "in 9 min"
    assert relative(NOW - timedelta(hours=3), NOW) == "3 h ago"
    assert relative(NOW, NOW) == "now"


def test_a_token_works_on_its_last_day() -> None:
    """An expiry is told ahead, on the day and afterwards."""
    now = datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert expiry(date(2027, 2, 10), now) == "expires on 2027-02-10, in 10 d"
    assert expiry(date(2027, 1, 31), now) == "expires today (2027-01-31)"
    assert expiry(date(2027, 1, 30), now) == "expired on 2027-01-30"


def printed(renderable: RenderableType, width: int) -> str:
    """What a terminal of this width shows."""
    console = Console(theme=THEME, width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


@pytest.mark.parametrize("width", [80, 120, 500])
@pytest.mark.parametrize("code", list(ProblemCode))
def test_a_card_tells_every_problem_and_can_be_copied_from(code: ProblemCode, width: int) -> None:
    """Id, e-mail, who must act and what to do stand in the card at any width, ids and e-mails unbroken."""
    seen = {"near_miss": "slip", "alike": "[bold]What was seen.[/bold]", "name": "N", "email": "e@example.com"}
    problem = Problem(code=code, since=NOW, params=seen)
    connection = a_connection(ConnectionState.AWAITING_RECRUITER, problem=problem)
    shown = printed(card(connection, NOW), width)
    words = describe(problem)
    assert connection.recruiter is not None
    assert connection.id in shown
    assert connection.recruiter.email in shown
    said = " ".join(shown.split())
    assert f"who must act {problem.owner.value} what to do {words.action}" in said
    assert words.message in said.replace(" ! ", " ")
    assert "[bold]" in words.detail
    assert "[bold]" in shown
    assert all(len(line) <= width for line in shown.splitlines())


STEP = Step(
    event="token_accepted",
    source=ConnectionState.AWAITING_TOKEN,
    target=ConnectionState.TOKEN_VALID,
    at=NOW,
    actor="operator:somebody",
    reason="because",
    evidence={"calls": [{"call": "GET /accounts/{subdomain}", "status": 200, "ms": 1234}]},
    seq=100,
)


@pytest.mark.parametrize("width", [40, 60])
@pytest.mark.parametrize("days", [0, 1])
def test_a_history_can_be_read_where_it_is_narrow(width: int, days: int) -> None:
    """Below 80 columns one thing stands below the other, and no word of it is broken."""
    steps = [STEP, replace(STEP, at=NOW + timedelta(days=days), event="recruiter_prepared")]
    lines = printed(history_table(steps, width), width).splitlines()
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).split()
    for said in (
        "token_accepted",
        "recruiter_prepared",
        "→ token_valid",
        "operator:somebody",
        "“because”",
        f"{NOW:%X}",
    ):
        assert all(word in words for word in said.split()), said
    assert "GET /accounts/{subdomain} 200, 1234 ms" in " ".join(words)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"note": "redirect", "status": 302, "ms": 9}, "GET /recruiters 302, 9 ms (a redirect, not followed)"),
        ({"note": "no_answer_within", "seconds": 7.5}, "GET /recruiters (no whole answer within 7.5 s)"),
        ({"note": "not_made"}, "GET /recruiters (not made: the budget of calls is used up)"),
        ({"note": "As it was said before."}, "GET /recruiters (As it was said before.)"),
        ({"note": None, "status": 200}, "GET /recruiters 200"),
    ],
)
def test_a_note_beside_a_call_is_told_in_words(call: dict[str, Any], told: str) -> None:
    """The history stores a code; what an older program wrote is a sentence, and is shown as it is."""
    step = replace(STEP, evidence={"calls": [{"call": "GET /recruiters", **call}]})
    assert details(step)[-1] == told


@pytest.mark.parametrize("width", [80, 120, 500])
def test_tables_fit_and_keep_ids_whole(width: int) -> None:
    """Tables are not wider than the terminal, and no id is broken or cut."""
    connections = [a_connection(state) for state in ConnectionState]
    listed, history = (
        printed(connections_table(connections, NOW, width), width),
        printed(history_table([STEP], width), width),
    )
    assert all(connection.id in listed for connection in connections)
    assert "GET /accounts/{subdomain} 200, 1234 ms" in history
    assert "“because”" in history
    assert all(len(line) <= width for line in (listed + history).splitlines())
