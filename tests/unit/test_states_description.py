"""The law as data and as a diagram."""

from __future__ import annotations

import re

from states.connection import ConnectionState
from states.description import LABEL, law_json, mermaid, rules
from states.problems import ProblemCode
from states.table import TRANSITIONS

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
    told = law_json()
    assert len(told["transitions"]) == len(TRANSITIONS)
    assert told["states"] == list(ConnectionState)
    assert {problem["code"] for problem in told["problems"]} == set(ProblemCode)
    assert sum(len(rule.sources) for rule in rules()) == len(TRANSITIONS)
