"""`linker doctor`: checks what a stuck operator would check, and says what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.exit_codes import DONE
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.operations.health_checks import Check, examine

app = typer.Typer()

MARKS = {"ok": ("✓", "good"), "care": ("!", "care"), "failed": ("✗", "bad")}


@app.command()
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not call Workable.")] = False,
    as_json: Json = False,
) -> int:
    """Check everything that a stuck operator would check.

    Ends with 0 if all is well, otherwise with the code that fits the first thing that is not.
    """
    logging_setup.configure("error")
    output = Output(as_json)
    checks = asyncio.run(_examined(output, offline))
    wrong = [check for check in checks if check.mark == "failed"]
    output.tell({"ok": not wrong, "checks": [_json(check) for check in checks]}, _summary(checks))
    return wrong[0].code if wrong else DONE


async def _examined(output: Output, offline: bool) -> list[Check]:
    """Check one thing after another; people see each as soon as it is known."""
    checks = []
    with output.busy("Looking …"):
        async for check in examine(offline=offline):
            checks.append(check)
            if not output.as_json:
                output.show(_line(check))
    return checks


def _line(check: Check) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=12)
    grid.add_column(overflow="fold")
    mark, style = MARKS[check.mark]
    said = Text(check.said)
    if check.advice:
        said.append(f"\n→ {check.advice}", style)
    grid.add_row(Text(mark, style=style), Text(check.name, style="label"), said)
    return grid


def _summary(checks: list[Check]) -> Text:
    wrong = sum(check.mark == "failed" for check in checks)
    unsure = sum(check.mark == "care" for check in checks)
    if wrong:
        return Text(f"\n{wrong} of {len(checks)} checks failed.", style="bad")
    care = f"; {unsure} deserve a look" if unsure else ""
    return Text(f"\nAll is well{care}.", style="good")


def _json(check: Check) -> dict[str, object]:
    told = asdict(check)
    del told["code"]
    return {"status": told.pop("mark"), **told}
