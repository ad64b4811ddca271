"""What operators read: golden texts of explanations, and the pictures of the docs."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from linker.cli.terminal.explanation_view import explanation_view
from linker.cli.terminal.output import THEME
from linker.cli.terminal.watch_view import watch_view
from linker.operations.explain import Attendance, Explanation, Told
from linker.operations.overview import Moved, Overview
from linker.operations.workers_alive import WorkerInfo
from states import events as happened
from states.connection import Connection, ConnectionState, LastLook
from states.explanation import Verb, foresee, upcoming, verbs_for, waits_for, who_must_act
from states.problems import ProblemCode, ProblemOwner
from states.verdicts import CredentialRefused, RecruiterNotSeen, Verdict, in_lower_case, judge
from tests.builders import CANDIDATE, EARLIER, LATER, NOW, TIMING, a_connection, a_doubt, a_problem, move

GOLDEN = Path(__file__).with_name("explanations.txt")
IMAGES = Path(__file__).parents[2] / "docs" / "images"
#: Set it to write the texts and the pictures anew.
WRITES = bool(os.environ.get("WRITE_GOLDEN"))
WIDTH = 100
#: A time that Workable named.
SOON = NOW + timedelta(minutes=40)
#: What Workable said at the last look, where it was not that it is well.
SAID = {
    ProblemCode.TOKEN_REFUSED: (401, "credential_refused"),
    ProblemCode.TOKEN_REVOKED: (401, "credential_refused"),
    ProblemCode.WORKABLE_UNAVAILABLE: (503, "unavailable"),
    ProblemCode.RECRUITER_ABSENT: (200, "recruiter_not_seen"),
    ProblemCode.RECRUITER_OVERDUE: (200, "recruiter_not_seen"),
}
#: What stands in the place of a text that is missing: its key.
KEY = re.compile(r"\b(matter|owner|next|duty|answer|does|hindrance|status|due)\.[a-z]|{")
REFUSED = 401, "credential_refused"


def looked(status: int = 200, verdict: str = "recruiter_seen") -> LastLook:
    """A look of five minutes ago."""
    at, call = NOW - timedelta(minutes=5), "GET /recruiters"
    return LastLook(at=at, call=call, status=status, ms=212, by="heartbeat", verdict=verdict)


def explained(c: Connection, *, held: bool = False, alive: int = 2) -> Explanation:
    """The explanation of a connection, with workers."""
    return Explanation(
        connection=c,
        at=NOW,
        waits_for=waits_for(c),
        owner=who_must_act(c),
        told=None,
        next=upcoming(c),
        workers=Attendance(
            alive=alive,
            last_beat_at=NOW - timedelta(seconds=3) if alive else None,
            held_by="worker-3:7" if held else None,
            held_until=NOW + timedelta(seconds=40) if held else None,
        ),
        advance=foresee(Verb.ADVANCE, c, NOW, TIMING),
        verbs=tuple(verbs_for(c, NOW)),
        link=None,
    )


def printed(what: RenderableType) -> str:
    """What people read, without colour."""
    console = Console(file=io.StringIO(), width=WIDTH, theme=THEME, highlight=False, emoji=False, markup=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def cases() -> dict[str, Explanation]:
    """Every state with what can be the matter in it, and pairs of what bends it."""
    found: dict[str, Explanation] = {}
    for state in ConnectionState:
        facts: dict[str, dict[str, Any]] = {
            "plain": {},
            "paused": {"paused_at": EARLIER, "due_at": None},
            "candidate": {"candidate": CANDIDATE, "due_at": NOW},
            "doubted": {"doubt": a_doubt(count=2), "last_look": looked(*REFUSED)},
            "held back": {"not_before": SOON, "due_at": SOON},
            "suspected": {"doubt": a_doubt(since=NOW)},
            "absent and doubted": {
                "problem": a_problem(ProblemCode.RECRUITER_ABSENT),
                "doubt": a_doubt(count=2),
                "last_look": looked(*REFUSED),
            },
            "lost and candidate": {"problem": a_problem(ProblemCode.SCOPE_LOST), "candidate": CANDIDATE},
            "missing": {
                "doubt": a_doubt(ProblemCode.RECRUITER_REMOVED, count=2),
                "last_look": looked(verdict="recruiter_not_seen"),
            },
            "replacement refused": {"replacement_problem": a_problem(ProblemCode.TOKEN_REFUSED)},
        }
        for code in ProblemCode:
            facts[code.value] = {
                "problem": a_problem(code),
                "last_look": looked(*SAID.get(code, (200, "recruiter_seen"))),
            }
        for name, given in facts.items():
            found[f"{state.value}, {name}"] = explained(a_connection(state, **given))
        closed = move(a_connection(state), happened.Unlinked(), now=EARLIER)  # it is closed in another state
        found[f"{state.value}, closed"] = explained(closed)
        found[f"{state.value}, held, nobody alive"] = explained(a_connection(state), held=True, alive=0)
    healthy = a_connection(ConnectionState.LINKED, last_look=looked(), due_at=NOW + timedelta(hours=20))
    found["linked, plain"] = explained(healthy)
    tried = Told(
        at=NOW - timedelta(minutes=9),
        actor="customer-1",
        event="recruiter_absent",
        problem="recruiter_absent",
        presses=3,
    )
    absent = found["awaiting_recruiter, recruiter_absent"]
    found["awaiting_recruiter, recruiter_absent"] = replace(absent, told=tried)
    found["linked, told"] = replace(found["linked, plain"], told=replace(tried, event="recruiter_found", problem=None))
    found["failed, by hand"] = explained(a_connection(ConnectionState.FAILED, problem=None))
    found["failed, plain"] = explained(a_connection(ConnectionState.FAILED, due_at=LATER))
    found["failed, abandoned"] = explained(
        a_connection(ConnectionState.FAILED, problem=a_problem(ProblemCode.ABANDONED), token=None)
    )
    return found


SHOWN = (
    *(f"{state.value}, {name}" for state in ConnectionState for name in ("plain", "paused")),
    *(f"{state.value}, candidate" for state in ConnectionState if state is not ConnectionState.FAILED),
    "linked, told",
    "linked, closed",
    "linked, suspected",
    "awaiting_recruiter, recruiter_absent",
    "awaiting_recruiter, held back",
    "awaiting_recruiter, workable_unavailable",
    "awaiting_recruiter, held, nobody alive",
    "awaiting_token, token_refused",
    "awaiting_recruiter, absent and doubted",
    "linked, lost and candidate",
    "linked, doubted",
    "linked, missing",
    "linked, replacement refused",
    "failed, by hand",
    "failed, recruiter_overdue",
    "failed, abandoned",
    "linked, poisoned",
)


def test_the_texts_are_those_that_somebody_has_read() -> None:
    """Thirty-one explanations, to the letter: whoever changes one reads it again."""
    every = cases()
    assert len(SHOWN) == 31
    text = "\n\n".join(f"── {name}\n{printed(explanation_view(every[name], WIDTH))}" for name in SHOWN) + "\n"
    if WRITES:
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120])
def test_every_explanation_is_whole(width: int) -> None:
    """Every state and problem has words: no key is shown in their place, no line is too long, ids are whole."""
    for name, each in cases().items():
        console = Console(file=io.StringIO(), width=width, theme=THEME, highlight=False, emoji=False, markup=False)
        console.print(explanation_view(each, width))
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert each.connection.id in text
        assert "…" not in text.replace("'…'", ""), name  # nothing is cut off
        assert max(map(len, text.splitlines())) <= width, name
        assert not KEY.search(text), name


def test_what_one_more_refusal_does_is_what_the_law_makes_of_it() -> None:
    """Where it says that one more ends it, one more does; where it does not, one more is only doubted."""
    for name in ("suspected", "doubted", "missing"):
        for state in (ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED):
            if name == "missing" and state is ConnectionState.AWAITING_RECRUITER:
                continue  # a recruiter that is waited for is no doubt
            each = cases()[f"{state.value}, {name}"]
            answer = RecruiterNotSeen() if name == "missing" else CredentialRefused()
            event = judge(each.connection, answer, now=NOW, timing=TIMING)
            after = move(each.connection, event)
            text = " ".join(printed(explanation_view(each, WIDTH)).split())
            assert (f"Once more, and the connection goes to the state {after.state.value}." in text) == (
                after.state is not state
            )


def test_every_answer_of_the_last_look_has_words() -> None:
    """Whatever Workable said, and whoever asked."""
    answers = [each for each in Verdict.__subclasses__() if each.__module__ == Verdict.__module__]
    assert len(answers) == 10
    for verdict in answers:
        look = replace(looked(verdict=in_lower_case(verdict.__name__)), by="operator:ann")
        said = printed(explanation_view(explained(a_connection(ConnectionState.LINKED, last_look=look)), WIDTH))
        assert "by operator:ann: GET /recruiters 200, 212 ms" in said
        assert not KEY.search(said), verdict


def test_what_waits_comes_before_where_it_is() -> None:
    """A pause, then that nobody is there, then a time that Workable named: the first line says the first of them."""
    c = a_connection(ConnectionState.AWAITING_RECRUITER, not_before=SOON, due_at=SOON, candidate=CANDIDATE)
    told = [
        explained(replace(c, paused_at=EARLIER, due_at=None), alive=0),
        explained(c, alive=0),
        explained(c),
        explained(replace(c, not_before=None, due_at=NOW)),
    ]
    assert [printed(explanation_view(each, WIDTH)).splitlines()[1].partition(": ")[2] for each in told] == [
        "paused by an operator",
        "no worker is running",
        "Workable asked us to wait until 2 March, 10:40 UTC",
        "waits for the customer; a new token is being checked",
    ]


def test_whom_a_new_token_leaves_with_something_to_do() -> None:
    """It is the cure of a lost token or permission; it adds no recruiter."""
    lost = a_connection(ConnectionState.LINKED, problem=a_problem(ProblemCode.SCOPE_LOST))
    waiting = a_connection(ConnectionState.AWAITING_RECRUITER)
    assert who_must_act(lost) is ProblemOwner.CUSTOMER
    assert who_must_act(replace(lost, candidate=CANDIDATE)) is None
    assert who_must_act(waiting) is who_must_act(replace(waiting, candidate=CANDIDATE)) is ProblemOwner.CUSTOMER


def test_a_new_token_that_was_not_kept_is_to_be_given_again() -> None:
    """It says so, and to whom, not that Workable must come back."""
    dropped = a_problem(ProblemCode.WORKABLE_UNAVAILABLE, dropped=1)
    linked = a_connection(ConnectionState.LINKED, replacement_problem=dropped)
    said = printed(explanation_view(explained(linked), WIDTH))
    assert "give the token again on the connection page" in said
    assert "must come back" not in said


def test_pictures_of_the_docs() -> None:
    """They show what the program shows; WRITE_GOLDEN=1 writes them anew."""
    recruiter = replace(cases()["awaiting_recruiter, recruiter_absent"], link="recruiter")
    seen = Overview(
        at=NOW,
        counts={
            ("linked", None): 4127,
            ("awaiting_recruiter", "recruiter_absent"): 38,
            ("awaiting_recruiter", None): 4,
            ("awaiting_token", None): 12,
            ("awaiting_token", "token_refused"): 3,
            ("failed", "token_revoked"): 2,
        },
        moved=[
            Moved(id=f"con_{number:020x}", owner=f"customer-{number}", state=state, at=NOW - timedelta(minutes=number))
            for number, state in enumerate(("linked", "awaiting_recruiter", "linked", "token_valid"), start=1)
        ],
        due=3,
        lag_seconds=4,
        alive=[
            WorkerInfo(
                id="a", host="app-1", pid=1, kind="worker", version="0.1.0", started_at=EARLIER, last_beat_at=NOW
            )
        ],
        ms=3.0,
    )
    narrow = Console(record=True, width=80, theme=THEME, file=io.StringIO())
    narrow.print(watch_view(replace(seen, moved=[replace(each, owner="customer-" * 9) for each in seen.moved]), 80))
    told = narrow.export_text()
    assert all(each.id in told for each in seen.moved)
    for name, what in (("explain", explanation_view(recruiter, WIDTH)), ("watch", watch_view(seen, WIDTH))):
        console = Console(record=True, width=WIDTH, theme=THEME, file=io.StringIO(), highlight=False)
        console.print(what)
        picture = console.export_svg(title=f"linker {name}", unique_id=name)
        if WRITES:
            (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")
        assert picture == (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
