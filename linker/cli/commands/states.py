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
from linker.serialization import json_schemas, law_json
from states.description import mermaid, rules
from states.table import LAW

app = typer.Typer()

#: From this width on, each row of the law is one line.
WIDE_COLUMNS = 170


class Format(StrEnum):
    """How the law is printed."""

    TABLE = "table"
    MERMAID = "mermaid"


@app.command()
def states(
    form: Annotated[Format, typer.Option("--format", help="A table, or a Mermaid diagram.")] = Format.TABLE,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON Schemas of connections, steps and announcements, instead.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print the law: every event, from where to where, and every problem with its owner."""
    output = Output(as_json or schema)
    if schema:
        output.result(json_schemas())
        return DONE
    if form is Format.MERMAID and not as_json:
        output.out.print(mermaid(), end="", soft_wrap=True)
        return DONE
    wide = output.width >= WIDE_COLUMNS
    columns = ("problem", "who must act", "what to do", "next look")
    problems = plain_table(*(columns if wide else ("problem, who must act", "what to do")))
    problems.columns[0].no_wrap = True
    law = law_json()
    for problem in law["problems"]:
        owner = Text(problem["owner"], style=f"owner.{problem['owner']}")
        if wide:
            problems.add_row(problem["code"], owner, problem["action"], problem["next_look"])
        else:
            action = Text.assemble(problem["action"], (f"\nnext look: {problem['next_look']}", "quiet"))
            problems.add_row(Text("\n").join([Text(problem["code"]), owner]), action)
    heading = Text.assemble(("What can happen", "title"), (f"   law {LAW}", "quiet"))
    output.result(law, heading, _law_table(wide), Text(), Text("Problems", style="title"), problems)
    return DONE


def _law_table(wide: bool) -> RenderableType:
    """The law; where it is narrow, the calls are named in short and guards stand below the event."""
    table = plain_table("event", "from", "to", "answer to", *(["if"] if wide else []))
    for column in table.columns:
        column.no_wrap = True
    for rule in rules():
        event = Text(rule.event)
        states_named = [Text(source.value, style=f"state.{source.value}") for source in rule.sources]
        sources = Text(rule.breadth) if rule.breadth else Text(", " if wide else "\n").join(states_named)
        target = Text(rule.target.value, style=f"state.{rule.target.value}") if rule.target else Text("stays")
        call = rule.call or "-"
        if wide:
            table.add_row(event, sources, target, call, rule.condition or "-")
            continue
        if rule.condition:
            event.append(f"\n  if {rule.condition}", "quiet")
        # of each path its first word: `accounts`, `recruiters`
        calls = [part.strip().removeprefix("GET /").partition("/")[0] for part in call.split(",")]
        table.add_row(event, sources, target, "\n".join(calls))
    return table
