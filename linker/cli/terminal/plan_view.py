"""How plans, outcomes and operations look to people."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linker.cli.terminal.explanation_view import words
from linker.humanize import span
from linker.operations.explain import command_line
from linker.operations.operation_run import Outcome
from linker.operations.plan import Plan, PlannedChange, outcome_of_skipped
from linker.operations.verbs import GRAVE
from linker.wording import catalogue
from linker.workable.api import LOOKS_OF_TEN, WINDOW_SECONDS
from states.connection import ConnectionState
from states.duties import Duty
from states.explanation import Change, Verb

#: How many ids of what is passed over are named.
NAMED_IDS = 3
STYLES = {"done": "good", "waiting": "care", "refused": "bad", "error": "bad", "try_again": "care", "changed": "care"}


def outcome_line(outcome: Outcome) -> Text:
    """What became of one connection, in one line."""
    line = Text.assemble((outcome.id, "copy"), "  ", (f"{outcome.outcome:<9}", STYLES.get(outcome.outcome, "")))
    if outcome.state is not None:
        line.append(f"  {outcome.state.value}", style=f"state.{outcome.state.value}")
    if outcome.why is not None:
        line.append(f"  {outcome.why}", style="quiet")
    return line


def plan_view(plan: Plan, rate: float, width: int, out: Path | None) -> RenderableType:
    """A plan: what would become of how many, and why others are passed over."""
    count = len(plan.items)
    connections = "1 connection" if count == 1 else f"{count} connections"
    head = Text.assemble(("PLAN ", "title"), plan.id, f" · {connections} · by {plan.actor} · nothing was changed")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    groups: dict[tuple[str, str, str], list[PlannedChange]] = {}
    for item in plan.items:
        groups.setdefault((item.source.value if item.source else "-", *_does(plan, item)), []).append(item)
    for (source, does, note), items in sorted(groups.items(), key=lambda group: -len(group[1])):
        skipped = items[0].skipped is not None
        state = Text("skipped", style="quiet") if skipped else Text(source, style=f"state.{source}")
        told = Text(_ids(items), style="quiet") if skipped else Text(_costs(items, rate, note))
        table.add_row(f"  {len(items)}", state, Text(does), told)
    parts: list[RenderableType] = [head, table]
    if plan.verb in GRAVE:
        alike: dict[Change, list[str]] = {}
        for item in plan.acting:
            if item.change is not None:
                alike.setdefault(item.change, []).append(item.id)
        parts += [Padding(change_view(change, ids), (1, 0, 0, 2)) for change, ids in alike.items()]
    if out is not None and plan.items:
        parts.append(Text(f"Do it: linker apply {out}        (by version: what moves meanwhile is left alone)"))
    return Group(*parts)


def change_view(change: Change, ids: list[str]) -> RenderableType:
    """What a deed changes: the row of the law, what is kept and wiped, who is told, the command that leads back."""

    def words(key: str, **params: object) -> str:
        return catalogue().text(f"change.{key}", params) or key

    def facts(names: tuple[str, ...]) -> str:
        return ", ".join(words(f"fact.{name}") for name in names) or words("nothing")

    condition = (change.guard or "").partition("_and_")[2]
    this = ids[0] if len(ids) == 1 else "ID"
    row = words("row", event=change.event, source=change.source.value, target=change.target.value)
    told = [
        ("law", f"{row}, {words(f'if.{condition}')}" if condition else row),
        ("kept", facts(change.kept)),
        ("wiped", facts(change.wiped)),
        ("told", words("host", name=change.announced) if change.announced else words("nobody")),
        ("then", words("no_more") if change.then is Duty.NOTHING else words("at_once", duty=change.then.value)),
        ("back", command_line(change.back, this, change.back_to) if change.back else words("no_way_back")),
    ]
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="label", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in told:
        grid.add_row(words(f"label.{name}"), value)
    return grid


def _does(plan: Plan, item: PlannedChange) -> tuple[str, str]:
    """What would be done to one, and what is worth a note."""
    if item.skipped is not None:
        outcome = outcome_of_skipped(item.skipped)
        return outcome if outcome == item.skipped else f"{outcome}: {item.skipped}", ""
    if plan.verb not in {Verb.ADVANCE, Verb.CHECK}:
        target = f" → {item.to.value}" if item.to is not None and item.to is not item.source else ""
        return f"{plan.verb.value.replace('_', ' ')}{target}", ""
    ends = [each for each in item.answers if each.to is ConnectionState.FAILED and item.source is not each.to]
    not_there = next((each for each in ends if each.event == "recruiter_overdue"), None)
    note = f"the deadline is over: {not_there.problem.value}" if not_there and not_there.problem else ""
    does = words(f"duty.{item.duty}")
    return (f"{does}; not there → failed" if not_there else does), note


def _costs(items: list[PlannedChange], rate: float, note: str) -> str:
    calls = sum(item.calls for item in items)
    accounts = Counter(item.account for item in items if item.account)
    shared = sum(1 for count in accounts.values() if count > 1)
    busiest = max(accounts.values(), default=0)
    about = max(len(items) / rate, busiest * WINDOW_SECONDS / LOOKS_OF_TEN if busiest > LOOKS_OF_TEN else 0.0)
    told = ["no call" if not calls else "1 call" if calls == 1 else f"{calls} calls"]
    if shared:
        told.append("1 account is shared" if shared == 1 else f"{shared} accounts share a budget")
    if about >= 2:
        told.append(f"about {span(timedelta(seconds=about))}")
    return f"{', '.join(told)}{f'; {note}' if note else ''}"


def _ids(items: list[PlannedChange]) -> str:
    named = " ".join(item.id for item in items[:NAMED_IDS])
    return f"{named} …" if len(items) > NAMED_IDS else named
