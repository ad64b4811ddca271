"""What operators do by hand, written into the history with who and why: `advance`, `force`, `pause` and the like."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from linker.cli.exit_codes import DONE, INTERRUPTED, after_asking
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Id, Json, Reason, needed_reason, state_named
from linker.cli.terminal.connection_views import print_connection
from linker.cli.terminal.output import Output
from states.connection import ConnectionState

app = typer.Typer()


@app.command()
def advance(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Do now what is owed to a connection; the law decides what that is.

    Ends with 0 when it was done or still waits as told, with 4 when nothing may be done or Workable refused, and with
    5 if Workable cannot say now.
    """
    with Output(as_json).busy("Doing what is owed …"):
        connection = with_linker(lambda linker: linker.advance(connection_id, actor=actor, reason=reason))
    print_connection(connection, as_json)
    return after_asking(connection)


@app.command()
def force(
    connection_id: Id,
    to: Annotated[str, typer.Option("--to", metavar="STATE", help=f"The state: {', '.join(ConnectionState)}.")],
    reason: Reason = None,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Put a connection into another state by hand. It bends the law's order, never its facts."""
    target, why = state_named("to", to), needed_reason(reason)
    connection = with_linker(lambda linker: linker.force(connection_id, to=target, actor=actor, reason=why))
    print_connection(connection, as_json)
    return DONE


@app.command()
def pause(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Stop attending a connection until it is resumed."""
    connection = with_linker(lambda linker: linker.pause(connection_id, actor=actor, reason=reason))
    print_connection(connection, as_json)
    return DONE


@app.command()
def resume(connection_id: Id, reason: Reason = None, actor: Actor = "", as_json: Json = False) -> int:
    """Let a paused connection go on."""
    connection = with_linker(lambda linker: linker.resume(connection_id, actor=actor, reason=reason))
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
