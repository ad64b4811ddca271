"""`linker doctor`: checks what a stuck operator would check, and says what to do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.exit_codes import DONE, in_command_line_words
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.humanize import span
from linker.operations.health_checks import Check, run_checks
from linker.wording import catalogue

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
            told, advice = in_words(check)
            said = Text(told)
            if advice:
                said.append(f"\n→ {advice}", style)
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
    output.result({"ok": not failures, "checks": [_check_json(check) for check in checks]}, summary)
    return failures[0].code if failures else DONE


def _check_json(check: Check) -> dict[str, Any]:
    said, advice = in_words(check)
    told = {"status": check.status, "name": check.name, "said": said, "advice": advice}
    return told | {"found": check.found, "params": check.params}


def in_words(check: Check) -> tuple[str, str | None]:
    """What was found, and what to do about it."""
    if check.error is not None:
        said, hint = in_command_line_words(check.error)
        advice = " ".join(filter(None, [said.action, hint]))
        about = f"{said.about}: " if said.about else ""
        return f"{about}{said.message}", advice or catalogue().text("check.error.advice")
    spans = {"lag": "lag_seconds", "off": "seconds"}
    params = check.params | {
        name: span(timedelta(seconds=check.params[given])) for name, given in spans.items() if given in check.params
    }
    key = f"check.{check.name.replace(' ', '_')}.{check.found}"
    return catalogue().text(f"{key}.said", params) or check.found, catalogue().text(f"{key}.advice", params)
