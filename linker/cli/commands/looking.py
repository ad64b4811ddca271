"""Looking at connections: `show`, `list`, `history`. Needs no keys and no network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from linker.cli.context import database_location, with_store
from linker.cli.exit_codes import DONE
from linker.cli.options import Id, Json
from linker.cli.terminal.connection_views import connections_table, history_table, print_connection
from linker.cli.terminal.output import Output
from linker.engine.ports import Selection
from linker.errors import BadInput
from linker.serialization import connection_json, step_json
from linker.settings import load_settings
from linker.validation.text import one_line
from states.connection import ConnectionState

app = typer.Typer()


@app.command()
def show(connection_id: Id, as_json: Json = False) -> int:
    """Show a connection: where it stands, who must act, what to do."""
    connection = with_store(lambda store: store.get(connection_id))
    print_connection(connection, as_json)
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
    if state is not None and state not in set(ConnectionState):
        raise BadInput("state", "unknown", known=list(ConnectionState))
    selection = Selection(
        state=None if state is None else ConnectionState(state),
        owner=None if owner is None else one_line("owner", owner),
        stuck=stuck,
        limit=limit,
    )
    found = with_store(lambda store: store.find(selection))
    output = Output(as_json)
    if found or as_json:
        table = connections_table(found, datetime.now(UTC), output.width)
        output.result([connection_json(each) for each in found], table)
        return DONE
    nothing = "No connection is like that. `linker list` shows all."
    if not (state or owner or stuck):  # it may be another database than people think
        location = database_location(load_settings())
        nothing = f"There are no connections in {location} yet. `linker open --owner …` creates one."
    output.note(Text(nothing, style="quiet"))
    return DONE


@app.command()
def history(connection_id: Id, as_json: Json = False) -> int:
    """Show what happened to a connection, step by step."""
    steps = with_store(lambda store: store.history(connection_id))
    output = Output(as_json)
    output.result([step_json(each) for each in steps], history_table(steps, output.width))
    return DONE
