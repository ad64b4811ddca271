"""Looking at connections: `show`, `list`, `history`, `explain`. Needs no network."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from linker.cli.context import database_location, with_store, with_store_and_time
from linker.cli.exit_codes import DONE
from linker.cli.linker_context import with_linker
from linker.cli.options import Id, Json, whole
from linker.cli.selector_options import Chosen, selecting
from linker.cli.terminal.connection_views import history_table, print_connection
from linker.cli.terminal.explanation_view import explanation_view
from linker.cli.terminal.list_view import connections_table
from linker.cli.terminal.output import Output, write_line
from linker.engine.ports import DamagedRow, Page
from linker.operations.json_values import explanation_json
from linker.persistence.connection_store import ConnectionStore
from linker.serialization import connection_json, damaged_json, step_json
from linker.settings import load_settings
from states.connection import Connection

app = typer.Typer()

#: How many are shown unless more are asked for, and read at a time.
PAGE_ROWS = 50
CSV_COLUMNS = (
    "id",
    "owner",
    "status",
    "state",
    "state_since",
    "problem",
    "who_must_act",
    "account",
    "subdomain",
    "due_at",
    "deadline",
    "linked_at",
    "paused_at",
    "closed_at",
    "created_at",
    "updated_at",
    "metadata",
)


@app.command()
def show(connection_id: Id, as_json: Json = False) -> int:
    """Show a connection: where it stands, who must act, what to do."""
    connection = with_store(lambda store: whole(store, store.get, connection_id))
    print_connection(connection, as_json)
    return DONE


@app.command("list")
@selecting
def list_(
    chosen: Chosen,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="What comes after this: the id that a page ended with.")
    ] = None,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print all of them, one JSON value a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table for a spreadsheet.")] = False,
    as_json: Json = False,
) -> int:
    """List open connections, oldest first; with selectors, as CSV."""
    streams = (as_jsonl or as_csv) and "limit" not in chosen.words
    output = Output(as_json or as_jsonl or as_csv)

    async def listed(store: ConnectionStore, now: datetime) -> tuple[int, str | None]:
        wanted = replace(await chosen.selection(store, now), after=after)
        left = None if streams else wanted.limit or PAGE_ROWS
        shown = 0
        while True:
            page = await store.page(replace(wanted, limit=PAGE_ROWS if left is None else left))
            print_page(page, now, output, first=shown == 0, as_jsonl=as_jsonl, as_csv=as_csv)
            shown, wanted = shown + len(page.found), replace(wanted, after=page.after)
            if page.after is None or not streams:
                return shown, page.after

    shown, following = with_store_and_time(listed)
    if following is not None:
        output.err.print(Text(f"There are more: --after {following}", style="quiet"), soft_wrap=True)
    if shown or output.as_json:
        return DONE
    nothing = "No connection is like that. `linker list` shows all."
    if not chosen.is_given:  # it may be another database than people think
        location = database_location(load_settings())
        nothing = f"There are no connections in {location} yet. `linker open --owner …` creates one."
    output.note(Text(nothing, style="quiet"))
    return DONE


def print_page(page: Page, now: datetime, output: Output, *, first: bool, as_jsonl: bool, as_csv: bool) -> None:
    """Print a page of a list: as one JSON value, as lines, or for people."""
    if as_jsonl:
        for each in page.found:
            write_line(json.dumps(_listed_json(each)))
    elif as_csv:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        if first:
            rows.writerow(CSV_COLUMNS)
        for each in page.found:
            whole_row = _listed_json(each)
            problem, account = whole_row["problem"] or {}, whole_row["account"] or {}
            row = {**whole_row, "problem": problem.get("code"), "who_must_act": problem.get("owner")}
            row |= {"account": account.get("name"), "metadata": json.dumps(whole_row["metadata"], ensure_ascii=False)}
            rows.writerow([_cell(row[column]) for column in CSV_COLUMNS])
    elif output.as_json or page.found:
        told = [_listed_json(each) for each in page.found]
        output.result(told, connections_table(page.found, now, output.width))


def _listed_json(each: Connection | DamagedRow) -> dict[str, Any]:
    return connection_json(each) if isinstance(each, Connection) else damaged_json(each)


def _cell(value: Any) -> Any:
    """A value in a spreadsheet: what would be taken for a formula is a text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"} else value


@app.command()
def explain(connection_id: Id, as_json: Json = False) -> int:
    """Say why a connection is where it is, and what may be done."""
    explained = with_linker(lambda linker: whole(linker, linker.explain, connection_id))
    output = Output(as_json)
    output.result(explanation_json(explained), explanation_view(explained, output.width))
    return DONE


@app.command()
def history(connection_id: Id, as_json: Json = False) -> int:
    """Show what happened to a connection, step by step."""
    steps = with_store(lambda store: whole(store, store.history, connection_id))
    output = Output(as_json)
    output.result([step_json(each) for each in steps], history_table(steps, output.width))
    return DONE
