"""How `watch` looks: a screen that is drawn anew, or a line each time where there is no terminal."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linker.humanize import clock, relative, span
from linker.operations.overview import LATE_SECONDS, Overview
from states.connection import ConnectionState


def watch_view(seen: Overview, width: int) -> RenderableType:
    """What is seen, for a screen."""
    by_state = _by_state(seen)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True)
    for state in ConnectionState:
        problems = sorted(
            ((problem, count) for (found, problem), count in seen.counts.items() if found == state.value and problem),
            key=lambda each: -each[1],
        )
        said = ", ".join(f"{count} {problem}" for problem, count in problems)
        table.add_row(Text(state.value, style=f"state.{state.value}"), str(by_state[state.value]), Text(said))
    moved = Table.grid(padding=(0, 2))
    for _ in range(3):
        moved.add_column(no_wrap=True)
    moved.add_column()  # this one gives way: what is to be copied stays whole
    for each in seen.moved:
        stands = Text(each.state, style=f"state.{each.state}")
        owner = Text(each.owner, no_wrap=True, overflow="ellipsis")
        moved.add_row(Text(each.id, style="copy"), stands, Text(relative(each.at, seen.at)), owner)
    late = f", the oldest since {span(timedelta(seconds=seen.lag_seconds))}" if seen.due else ""
    names = ", ".join(each.host for each in seen.alive[:4])
    alive = f"{len(seen.alive)} alive ({names})" if seen.alive else "none alive"
    return Group(
        Text.assemble(("linker watch", "title"), (f"   {clock(seen.at)}   Ctrl-C ends it", "quiet")),
        Text(),
        table,
        Text(),
        Text.assemble(("due      ", "label"), (f"{seen.due}{late}", "bad" if seen.lag_seconds > LATE_SECONDS else "")),
        Text.assemble(("workers  ", "label"), (alive, "" if seen.alive else "care")),
        Text(),
        Text("moved last", style="label"),
        moved,
    )


def watch_line(seen: Overview) -> str:
    """What is seen, in one plain line."""
    counts = " ".join(f"{state}={count}" for state, count in sorted(_by_state(seen).items()))
    return f"{clock(seen.at)} {counts} due={seen.due} lag={seen.lag_seconds:.0f}s workers={len(seen.alive)}"


def _by_state(seen: Overview) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int, {state.value: 0 for state in ConnectionState})
    for (state, _), count in seen.counts.items():
        counts[state] += count
    return counts
