"""`linker demo`: the whole flow as it happens, with nothing set up and nothing left behind."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.commands.demo_scenes import Demonstration, DemonstrationFailed
from linker.cli.exit_codes import DONE, OUR_FAULT
from linker.cli.options import Json
from linker.cli.terminal.connection_views import history_table
from linker.cli.terminal.output import Output
from linker.encryption import new_key
from linker.linker import Linker
from linker.sandbox import running, seed
from linker.settings import Settings
from linker.version import from_extra

app = typer.Typer()


#: As in production, but for the pauses. A partner's client id has room for looks every second.
SETTINGS: dict[str, Any] = {
    "workable_client_id": "demo",
    "recruiter_name": "Your Product",
    "recruiter_email": "ats+{key}@inbound.your-product.example",
    "sweep_seconds": 0.5,
    "backoff_first": "PT0.5S",
    "backoff_last": "PT1S",
    "poll_first": "PT1S",
}


@app.command()
def demo(
    dialog: Annotated[
        bool, typer.Option("--dialog", help="Serve it instead, for your browser: a product, the dialog and a sandbox.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the database, to look at it afterwards.")] = False,
    as_json: Json = False,
) -> int:
    """Show the whole flow as it happens, against a sandbox, with nothing set up.

    The database, the key, the connections over sockets and the heartbeat are real; Workable is the sandbox, and the
    pauses are shorter than yours will be. Every line is read back from the running system.
    """
    logging_setup.configure("error")
    if dialog:
        return _with_a_browser(Output(as_json))
    output, world = Output(as_json), seed.seeded()
    folder = Path(tempfile.mkdtemp(prefix="linker-demo-"))
    database_url = f"sqlite:///{folder / 'linker.db'}"
    try:
        with running(world) as url:
            settings = Settings(**SETTINGS, database_url=database_url, secret_keys=(new_key(),), workable_url=url)
            outcome = asyncio.run(Demonstration(output, Linker(settings), world, folder).run())
        account = outcome.connection.account
        name = account.name if account else "the account"
        done = (
            f"{name} is linked, {outcome.seconds:.1f} s after the connection was opened",
            f"{outcome.calls} calls were made to Workable; none went over its limit",
            "the token stands in clear text in no file of the database",
        )
        title = Text("The history, as `linker history` prints it", style="title")
        history = (Text(), history_table(outcome.steps, output.width), Text())
        output.result(outcome.as_json(), title, *history, *(Text.assemble(("✓ ", "good"), line) for line in done))
        if keep:
            kept = (
                ("\nThe database was kept. Look at it with\n", "quiet"),
                (f"  LINKER_DATABASE_URL={database_url} {sys.argv[0]} show {outcome.connection.id}\n", "copy"),
                (f"and remove it with  rm -r {folder}", "quiet"),
            )
            output.note(Text.assemble(*kept))
        return DONE
    except DemonstrationFailed as failure:
        output.err.print(Text.assemble(("error ", "bad"), f"The demo did not get to the end: {failure}"))
        return OUR_FAULT
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _with_a_browser(output: Output) -> int:
    """Serve the demonstration until Ctrl-C: whoever sits there is the customer."""
    demonstration = from_extra("dialog", "linker.dialog.demonstration")
    given = {
        "secret_keys": (new_key(),),
        "recruiter_name": "Northwind Integration",
        "recruiter_email": "ats+{key}@inbound.northwind.example",
        "dialog_name": "Northwind",
        "permissions": ("r_jobs", "r_candidates"),
        "sweep_seconds": 1,
    }

    def announce(at: Any) -> None:
        output.result(
            {"url": at.host, "dialog": at.dialog, "sandbox": f"{at.sandbox}/_sandbox"},
            Text.assemble("Open this in your browser: ", (at.host, "copy")),
            Text(),
            Text(
                "It plays your product; press “Connect Workable” there. The account is acme, its token is",
                style="quiet",
            ),
            Text(seed.ACME_TOKEN, style="copy"),
            Text.assemble(("and in the place of Workable there is ", "quiet"), (f"{at.sandbox}/_sandbox", "copy")),
            Text(),
            Text("Ctrl-C ends it, and nothing is left behind.", style="quiet"),
        )

    folder = Path(tempfile.mkdtemp(prefix="linker-demo-"))
    try:
        asyncio.run(demonstration.demonstrate(given, folder, announce))
        return DONE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
