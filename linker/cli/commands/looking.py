"""Looking at connections: `show`, `list`, `history`. Needs no keys and no network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from linker.cli.context import place, with_store
from linker.cli.exit_codes import DONE
from linker.cli.options import Id, Json, text
from linker.cli.terminal.connection_views import connections_table, history_table, tell_connection
from linker.cli.terminal.output import Output
from linker.errors import BadInput
from linker.serialization import connection_json, step_json
from linker.settings import load_settings
from states.connection import ConnectionState

app = typer.Typer()


@app.command()
def show(connection_id: Id, as_json: Json = False) -> int:
    """Show a connection: where it stands, who must act, what to do."""
    connection = with_store(lambda store: store.get(connection_id))
    tell_connection(connection, as_json)
    return DONE


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"Only in this state: {', '.join(ConnectionState)}.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only open ones that a person has to act for.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, oldest first.")] = None,
    as_json: Json = False,
) -> int:
    """List connections, oldest first."""
    wanted = _state(state)
    of = None if owner is None else text("owner", owner)
    found = with_store(lambda store: store.find(state=wanted, owner=of, stuck=stuck, limit=limit))
    output = Output(as_json)
    if found or as_json:
        table = connections_table(found, datetime.now(UTC), output.width)
        output.tell([connection_json(each) for each in found], table)
    else:
        output.note(Text(_nothing(chosen=bool(state or owner or stuck)), style="quiet"))
    return DONE


def _nothing(*, chosen: bool) -> str:
    """Why the list is empty. It may be another database than people think."""
    if chosen:
        return "No connection is like that. `linker list` shows all."
    return f"There are no connections in {place(load_settings())} yet. `linker open --owner …` creates one."


def _state(given: str | None) -> ConnectionState | None:
    if given is None:
        return None
    try:
        return ConnectionState(given)
    except ValueError:
        pass
    raise BadInput("state", "there is no such state.", f"The states are: {', '.join(ConnectionState)}.")


@app.command()
def history(connection_id: Id, as_json: Json = False) -> int:
    """Show what happened to a connection, step by step."""
    steps = with_store(lambda store: store.history(connection_id))
    output = Output(as_json)
    output.tell([step_json(each) for each in steps], history_table(steps, output.width))
    return DONE
