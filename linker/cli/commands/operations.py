"""What operators do by hand, written into the history with who and why: `pause`, `resume`, `restart`, `unlink`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from linker.cli.exit_codes import DONE, INTERRUPTED, after_asking
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Id, Json, Reason
from linker.cli.terminal.connection_views import print_connection
from linker.cli.terminal.output import Output
from states import events as happened

app = typer.Typer()


@app.command()
def pause(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Stop attending a connection until it is resumed."""
    return _record(connection_id, happened.Paused(), reason, actor, as_json)


@app.command()
def resume(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Let a paused connection go on."""
    return _record(connection_id, happened.Resumed(), reason, actor, as_json)


def _record(connection_id: str, event: happened.Event, reason: str | None, actor: str, as_json: bool) -> int:
    connection = with_linker(lambda linker: linker.record(connection_id, lambda _: event, actor=actor, reason=reason))
    print_connection(connection, as_json)
    return DONE


@app.command()
def restart(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Let a failed connection go on, with the token that it holds or with a new one."""
    with Output(as_json).busy("Going on with the connection …"):
        connection = with_linker(lambda linker: linker.restart(connection_id, actor=actor, reason=reason))
    print_connection(connection, as_json)
    return after_asking(connection)


@app.command()
def unlink(
    connection_id: Id,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first (on a terminal).")] = False,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Give a connection up for good: its secrets are wiped and it is closed."""
    asking = not yes and not as_json and sys.stdin is not None and sys.stdin.isatty()
    if asking and not typer.confirm(f"Unlink {connection_id} for good, and wipe its token?", err=True):
        return INTERRUPTED
    connection = with_linker(lambda linker: linker.unlink(connection_id, actor=actor, reason=reason))
    print_connection(connection, as_json)
    return DONE
