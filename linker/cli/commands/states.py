"""`linker states`: the law, printed from the tables that the program runs on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from linker.cli.exit_codes import DONE
from linker.cli.options import Json
from linker.cli.terminal.connection_views import plain_table
from linker.cli.terminal.output import Output
from states.description import Rule, law_json, mermaid, rules
from states.problems import PROBLEMS
from states.table import LAW

app = typer.Typer()

#: From this width on, each row of the law is one line.
WIDE = 170


class Format(StrEnum):
    """How the law is printed."""

    TABLE = "table"
    MERMAID = "mermaid"


@app.command()
def states(
    form: Annotated[Format, typer.Option("--format", help="A table, or a Mermaid diagram.")] = Format.TABLE,
    as_json: Json = False,
) -> int:
    """Print the law: every event, from where to where, and every problem with its owner."""
    output = Output(as_json)
    if form is Format.MERMAID and not as_json:
        output.out.print(mermaid(), end="", soft_wrap=True)
    else:
        law, problems = _law(output.width), _problems(output.width)
        output.tell(law_json(), _heading("What can happen"), law, Text(), _heading("Problems"), problems)
    return DONE


def _heading(text: str) -> Text:
    return Text.assemble((text, "title"), (f"   law {LAW}" if text.startswith("What") else "", "quiet"))


def _law(width: int) -> RenderableType:
    """The law; where it is narrow, the calls are named in short and guards stand below the event."""
    wide = width >= WIDE
    table = plain_table("event", "from", "to", "answer to", *(["if"] if wide else []))
    for column in table.columns:
        column.no_wrap = True
    for rule in rules():
        guard = rule.condition
        event = Text(rule.event)
        if guard and not wide:
            event.append(f"\n  if {guard}", "quiet")
        target = Text(rule.target.value, style=f"state.{rule.target.value}") if rule.target else Text("stays")
        called = rule.call or "-"
        row: list[RenderableType] = [event, _sources(rule, wide), target, called if wide else _in_short(called)]
        table.add_row(*row, *([guard or "-"] if wide else []))
    return table


def _in_short(call: str) -> str:
    """The first word of each path: `accounts`, `recruiters`."""
    return "\n".join(part.strip().removeprefix("GET /").partition("/")[0] for part in call.split(","))


def _sources(rule: Rule, wide: bool) -> Text:
    """The states that a rule starts from, in few words if they are many."""
    if rule.breadth:
        return Text(rule.breadth)
    named = [Text(source.value, style=f"state.{source.value}") for source in rule.sources]
    return Text(", " if wide else "\n").join(named)


def _problems(width: int) -> RenderableType:
    wide = width >= WIDE
    columns = (
        ("problem", "who must act", "what to do", "next look") if wide else ("problem, who must act", "what to do")
    )
    table = plain_table(*columns)
    table.columns[0].no_wrap = True
    for code, advice in PROBLEMS.items():
        owner = Text(advice.owner.value, style=f"owner.{advice.owner.value}")
        if wide:
            table.add_row(code.value, owner, advice.action, advice.next_look)
        else:
            action = Text.assemble(advice.action, (f"\nnext look: {advice.next_look}", "quiet"))
            table.add_row(Text("\n").join([Text(code.value), owner]), action)
    return table
