"""`linker demo`: the whole flow as it happens, with nothing set up and nothing left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.commands.demo_scenes import Outcome, Play, PlayFailed
from linker.cli.exit_codes import DONE, OUR_FAULT
from linker.cli.options import Json
from linker.cli.terminal.connection_views import history_table
from linker.cli.terminal.output import Output
from linker.encryption import new_key
from linker.linker import Linker
from linker.sandbox import running, seed
from linker.serialization import connection_json, step_json
from linker.settings import Settings

app = typer.Typer()


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the database, to look at it afterwards.")] = False,
    as_json: Json = False,
) -> int:
    """Show the whole flow as it happens, against a sandbox, with nothing set up.

    The database, the key, the connections over sockets and the heartbeat are real; Workable is the sandbox, and the
    pauses are shorter than yours will be. Every line is read back from the running system.
    """
    logging_setup.configure("error")
    output = Output(as_json)
    folder = Path(tempfile.mkdtemp(prefix="linker-demo-"))
    try:
        outcome = _played(output, folder)
        output.tell(_json(outcome), *_ending(outcome, output.width))
        if keep:
            output.note(_kept(folder, outcome.connection.id))
        return DONE
    except PlayFailed as failure:
        output.err.print(Text.assemble(("error ", "bad"), f"The demo did not get to the end: {failure}"))
        return OUR_FAULT
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _played(output: Output, folder: Path) -> Outcome:
    world = seed.seeded()
    with running(world) as url:
        play = Play(output, Linker(_settings(folder, url)), world, folder)
        return asyncio.run(play.run())


def _settings(folder: Path, url: str) -> Settings:
    """As in production, but for the pauses. A partner's client id has room for looks every second."""
    values: dict[str, Any] = {
        "database_url": f"sqlite:///{folder / 'linker.db'}",
        "secret_keys": (new_key(),),
        "workable_url": url,
        "workable_client_id": "demo",
        "recruiter_name": "Your Product",
        "recruiter_email": "ats+{key}@inbound.your-product.example",
        "sweep_seconds": 0.5,
        "backoff_first": "PT0.5S",
        "backoff_last": "PT1S",
        "poll_first": "PT1S",
    }
    return Settings(**values)


def _json(outcome: Outcome) -> dict[str, Any]:
    return {
        "linked": True,
        "seconds": round(outcome.seconds, 1),
        "calls": outcome.calls,
        "scenes": outcome.scenes,
        "announcements": outcome.announcements,
        "connection": connection_json(outcome.connection),
        "history": [step_json(step) for step in outcome.steps],
    }


def _ending(outcome: Outcome, width: int) -> list[Any]:
    account = outcome.connection.account
    name = account.name if account else "the account"
    return [
        Text("The history, as `linker history` prints it", style="title"),
        Text(),
        history_table(outcome.steps, width),
        Text(),
        Text.assemble(("✓ ", "good"), f"{name} is linked, {outcome.seconds:.1f} s after the connection was opened"),
        Text.assemble(("✓ ", "good"), f"{outcome.calls} calls were made to Workable; none went over its limit"),
        Text.assemble(("✓ ", "good"), "the token stands in clear text in no file of the database"),
    ]


def _kept(folder: Path, connection_id: str) -> Text:
    return Text.assemble(
        ("\nThe database was kept. Look at it with\n", "quiet"),
        (f"  LINKER_DATABASE_URL=sqlite:///{folder / 'linker.db'} linker show {connection_id}\n", "copy"),
        (f"and remove it with  rm -r {folder}", "quiet"),
    )
