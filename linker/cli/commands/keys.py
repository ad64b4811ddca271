"""`linker keys`: the keys that seal tokens."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.text import Text

from linker.cli.context import settings
from linker.cli.exit_codes import DONE
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.cli.terminal.progress import progress_bar
from linker.encryption import new_key
from linker.operations.key_rotation import rotate_keys
from linker.outbox.webhooks import new_webhook_secret

app = typer.Typer()
keys = typer.Typer(help="The keys that seal tokens.", no_args_is_help=True)
app.add_typer(keys, name="keys")


ABOUT_KEYS = (
    "Keep it in your secret store, apart from the backups of the database. Use it with\n"
    "  export LINKER_SECRET_KEYS=<this key>\n"
    "Have you a key already? Put the new one before it, with a comma between, restart the workers, then\n"
    "run `linker keys rotate` and drop the old one."
)
ABOUT_SECRETS = (
    "Give it to the receiver too. Use it with\n"
    "  export LINKER_WEBHOOK_SECRET=<this secret>\n"
    "Have you a secret already? Put the new one before it, with a comma between, and restart the workers: everything\n"
    "is then signed with both. Once the receiver has the new one, drop the old one."
)


@keys.command()
def new(
    webhook: Annotated[bool, typer.Option("--webhook", help="A secret that signs webhooks, instead.")] = False,
    as_json: Json = False,
) -> int:
    """Make a key and print it, and nothing else, on stdout."""
    output = Output(as_json)
    key = new_webhook_secret() if webhook else new_key()
    if as_json:
        output.result({"key": key.get_secret_value()})
        return DONE
    output.out.print(key.get_secret_value(), soft_wrap=True)
    if sys.stdout.isatty():
        output.note(Text(ABOUT_SECRETS if webhook else ABOUT_KEYS, style="quiet"))
    return DONE


@keys.command()
def rotate(as_json: Json = False) -> int:
    """Seal every stored token again with the newest key; afterwards the older keys are not needed.

    Safe to run again, and beside workers that have the new key already.
    """
    output = Output(as_json)
    with progress_bar(output, "sealing again") as progress:
        rotated = asyncio.run(rotate_keys(settings(), progress))
    done = f"tokens sealed again: {rotated.resealed}; sealed with the newest key before: {rotated.already}. "
    line = Text.assemble(("✓ ", "good"), done, "The older keys are not needed any more: drop them.")
    output.result({"resealed": rotated.resealed, "already": rotated.already}, line)
    return DONE
