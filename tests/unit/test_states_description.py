"""The law as data and as a diagram."""

from __future__ import annotations

import re

from linker.serialization import law_json
from linker.wording import describe
from states.connection import ConnectionState
from states.description import LABEL, law_facts, mermaid, rules
from states.problems import PROBLEMS, ProblemCode
from states.table import TRANSITIONS
from tests.builders import a_problem

ARROW = re.compile(r"    (\w+) --> (\w+): (.+)")


def arrows() -> dict[tuple[str, str], str]:
    """The diagram's arrows between states."""
    found = [match.groups() for line in mermaid().splitlines() if (match := ARROW.fullmatch(line))]
    assert len(found) == len({(source, target) for source, target, _ in found}), "two arrows between the same states"
    return {(source, target): label for source, target, label in found}


def test_every_move_is_in_the_diagram() -> None:
    """Each event that changes the state is on the arrow between its states, or in the note of what comes anywhere."""
    note = mermaid().partition("note")[2]
    drawn = arrows()
    for row in TRANSITIONS:
        if row.target is not row.source:
            label = drawn.get((row.source.value, row.target.value), "")
            assert row.event.name in label or row.event.name in note, row


def test_no_arrow_is_invented() -> None:
    """Each event on an arrow is a row of the law."""
    law = {(row.event.name, row.source.value, row.target.value) for row in TRANSITIONS}
    for (source, target), label in arrows().items():
        for event in re.sub(r" \([^)]*\)", "", label).replace("<br/>", " ").split(","):
            assert (event.strip(), source, target) in law


def test_the_diagram_stays_readable() -> None:
    """Labels are broken into lines; the diagram begins where every connection begins."""
    assert mermaid().splitlines()[0] == "stateDiagram-v2"
    assert "    [*] --> awaiting_token: opened" in mermaid()
    for label in arrows().values():
        assert all(len(line) <= LABEL + 4 for line in label.split("<br/>"))


def test_the_whole_law_is_told_to_machines() -> None:
    """Every row of the law and every problem is in the JSON; the rules for people leave out no row either."""
    told = law_facts()
    assert len(told["transitions"]) == len(TRANSITIONS)
    assert told["states"] == list(ConnectionState)
    assert {problem["code"] for problem in told["problems"]} == set(ProblemCode)
    for problem in told["problems"]:
        kind = PROBLEMS[ProblemCode(problem["code"])]
        assert problem == {
            "code": problem["code"],
            "owner": kind.owner.value,
            "next_look": kind.next_look.value,
            "field": kind.field,
        }
    assert sum(len(rule.sources) for rule in rules()) == len(TRANSITIONS)


def test_people_read_the_law_with_words() -> None:
    """What is printed is the law's facts, with what each problem says, and when we look again, in words."""
    facts, told = law_facts(), law_json()
    assert {name: told[name] for name in told if name != "problems"} == {
        name: facts[name] for name in facts if name != "problems"
    }
    for fact, problem in zip(facts["problems"], told["problems"], strict=True):
        words = describe(a_problem(ProblemCode(problem["code"])))
        assert (problem["message"], problem["action"]) == (words.message, words.action)
        assert [problem[name] for name in ("code", "owner", "field")] == [
            fact[name] for name in ("code", "owner", "field")
        ]
        assert " " in problem["next_look"]
        assert problem["next_look"] != fact["next_look"]
