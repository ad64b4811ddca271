"""The law as data for people and machines, and as a diagram. Pure: everything comes from the tables in `states`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from states.connection import ConnectionState
from states.problems import PROBLEMS
from states.table import LAW, TRANSITIONS, Transition

#: The longest line of a label in the diagram, in characters.
LABEL = 36


@dataclass(frozen=True)
class Rule:
    """Rows of the law that differ in their source only; `target` is None where the state stays as it is."""

    event: str
    sources: tuple[ConnectionState, ...]
    target: ConnectionState | None
    call: str | None
    guard: str | None

    @property
    def condition(self) -> str:
        """The guard in words, without the target that stands beside it."""
        words = in_words(self.guard or "")
        return words.removeprefix(f"to {in_words(self.target or '')}").removeprefix(" and ")

    @property
    def breadth(self) -> str | None:
        """`any` or `any other` if it starts from that many states; None if they are better named."""
        others = [state for state in ConnectionState if state not in self.sources]
        if not others:
            return "any"
        return "any other" if others == [self.target] else None


def law_facts() -> dict[str, Any]:
    """The whole law as data, without words for people."""
    return {
        "law": LAW,
        "states": [state.value for state in ConnectionState],
        "transitions": [
            {"event": t.event.name, "from": t.source.value, "to": t.target.value, "call": t.call, "guard": _guard(t)}
            for t in TRANSITIONS
        ],
        "problems": [
            {
                "code": code.value,
                "owner": kind.owner.value,
                "next_look": kind.next_look.value,
                "field": kind.field,
            }
            for code, kind in PROBLEMS.items()
        ],
    }


def in_words(guard: str) -> str:
    """A guard's name as words."""
    return guard.replace("_", " ")


def _guard(row: Transition) -> str | None:
    return row.guard.__name__ if row.guard else None


def rules() -> list[Rule]:
    """The law in its order, with rows put together that differ in their source only."""
    found: dict[tuple[str, ConnectionState | None, str | None, str | None], list[ConnectionState]] = {}
    for row in TRANSITIONS:
        target = None if row.target is row.source else row.target
        found.setdefault((row.event.name, target, row.call, _guard(row)), []).append(row.source)
    return [Rule(event, tuple(sources), target, call, guard) for (event, target, call, guard), sources in found.items()]


# the diagram


def mermaid() -> str:
    """The law as a Mermaid state diagram, one arrow from a state to another.

    What can happen in every state (an operator's force, unlinking) stands in a note, and what leaves the state as it
    is stands in the table only: as arrows they would hide the story.
    """
    lines = ["stateDiagram-v2", "    direction TB", f"    [*] --> {TRANSITIONS[0].target.value}: opened"]
    lines += [f"    {source} --> {target}: {label}" for (source, target), label in _arrows().items()]
    lines += [f"    note right of {ConnectionState.FAILED.value}", "        From every state:"]
    lines += [f"        {line}" for line in _from_everywhere()]
    return "\n".join([*lines, "    end note"]) + "\n"


def _moves(event: str) -> list[Transition]:
    return [row for row in TRANSITIONS if row.event.name == event and row.target is not row.source]


def _everywhere() -> list[str]:
    """The events that can move a connection out of every state, or out of every state but the target."""
    named = dict.fromkeys(row.event.name for row in TRANSITIONS)
    return [event for event in named if len({row.source for row in _moves(event)}) >= len(ConnectionState) - 1]


def _arrows() -> dict[tuple[str, str], str]:
    """A label for each pair of states, in the order of the story: the events that lead from one to the other."""
    events: dict[tuple[ConnectionState, ConnectionState], list[str]] = {}
    everywhere = set(_everywhere())
    for row in TRANSITIONS:
        if row.target is row.source or row.event.name in everywhere:
            continue
        guard = f" ({in_words(row.guard.__name__)})" if row.guard else ""
        events.setdefault((row.source, row.target), []).append(row.event.name + guard)
    story = list(ConnectionState)
    ordered = sorted(events.items(), key=lambda arrow: (story.index(arrow[0][0]), story.index(arrow[0][1])))
    return {(source.value, target.value): _label(list(dict.fromkeys(named))) for (source, target), named in ordered}


def _label(events: list[str]) -> str:
    """Events after one another, broken into lines that are not too long."""
    lines = [""]
    for event in events:
        joined = f"{lines[-1]}, {event}" if lines[-1] else event
        if lines[-1] and len(joined) > LABEL:
            lines[-1] += ","
            lines.append(event)
        else:
            lines[-1] = joined
    return "<br/>".join(lines)


def _from_everywhere() -> list[str]:
    """A line for each event that can happen in every state, with where it leads."""
    lines = []
    for event in _everywhere():
        targets = {row.target for row in _moves(event)}
        where = targets.pop().value if len(targets) == 1 else "any other state"
        lines.append(f"{event} → {where}")
    return lines
