"""`linker doctor`: checks what a stuck operator would check, and says what to do."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.exit_codes import DONE
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.operations.health_checks import Check, run_checks

app = typer.Typer()

#: How people see what became of a check.
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
    checks: list[Check] = []

    async def look() -> None:
        async for check in run_checks(offline=offline):
            checks.append(check)
            if as_json:
                continue
            mark, style = MARKS[check.status]
            said = Text(check.said)
            if check.advice:
                said.append(f"\n→ {check.advice}", style)
            grid = Table.grid(padding=(0, 1))
            grid.add_column(no_wrap=True)
            grid.add_column(no_wrap=True, min_width=12)
            grid.add_column(overflow="fold")
            grid.add_row(Text(mark, style=style), Text(check.name, style="label"), said)
            output.show(grid)  # at once: people see each check as soon as it is done

    with output.busy("Looking …"):
        asyncio.run(look())
    failures = [check for check in checks if check.status == "failed"]
    if failures:
        summary = Text(f"\n{len(failures)} of {len(checks)} checks failed.", style="bad")
    else:
        unsure = sum(check.status == "care" for check in checks)
        summary = Text(f"\nAll is well{f'; {unsure} deserve a look' if unsure else ''}.", style="good")
    told = [{"status": c.status, "name": c.name, "said": c.said, "advice": c.advice} for c in checks]
    output.result({"ok": not failures, "checks": told}, summary)
    return failures[0].code if failures else DONE
