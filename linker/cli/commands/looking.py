"""Looking at connections: `show`, `list`, `history`, `watch`, `audit`, `health`. Needs no network and no keys."""

from __future__ import annotations

import asyncio
import csv
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from linker.cli.context import database_location, with_database, with_store, with_store_and_time
from linker.cli.exit_codes import DONE, REFUSED, TRY_AGAIN
from linker.cli.options import Id, Json, state_named, whole
from linker.cli.selector_options import Chosen, selecting
from linker.cli.terminal.connection_views import WIDE_COLUMNS, history_table, plain_table, print_connection
from linker.cli.terminal.list_view import connections_table
from linker.cli.terminal.output import Output, json_text, write_line
from linker.cli.terminal.watch_view import watch_line, watch_view
from linker.database.database import Database
from linker.engine.ports import DamagedRow, Page
from linker.errors import BadInput
from linker.operations.audit import AuditEntry, audit_json, read_audit
from linker.operations.overview import OverviewReader, health
from linker.operations.selectors import span
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.server_clock import shared_clock
from linker.serialization import connection_json, damaged_json, step_json
from linker.settings import load_settings
from linker.validation.text import spreadsheet_cell
from states.connection import Connection, ConnectionState

app = typer.Typer()

#: How often `wait` looks.
WAIT_SECONDS = 1.0
AUDIT_COLUMNS = ("at", "id", "owner", "actor", "verb", "event", "from", "to", "reason", "problem", "operation")
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
            write_line(json_text(_listed_json(each), indent=None))
    elif as_csv:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        if first:
            rows.writerow(CSV_COLUMNS)
        for each in page.found:
            whole_row = _listed_json(each)
            problem, account = whole_row["problem"] or {}, whole_row["account"] or {}
            row = {**whole_row, "problem": problem.get("code"), "who_must_act": problem.get("owner")}
            row |= {"account": account.get("name"), "metadata": json_text(whole_row["metadata"], indent=None)}
            rows.writerow([spreadsheet_cell(row[column]) for column in CSV_COLUMNS])
    elif output.as_json or page.found:
        told = [_listed_json(each) for each in page.found]
        output.result(told, connections_table(page.found, now, output.width))


def _listed_json(each: Connection | DamagedRow) -> dict[str, Any]:
    return connection_json(each) if isinstance(each, Connection) else damaged_json(each)


@app.command()
def history(connection_id: Id, as_json: Json = False) -> int:
    """Show what happened to a connection, step by step."""
    steps = with_store(lambda store: whole(store, store.history, connection_id))
    output = Output(as_json)
    output.result([step_json(each) for each in steps], history_table(steps, output.width))
    return DONE


@app.command()
def wait(
    connection_id: Id,
    wanted: Annotated[str, typer.Option("--for", metavar="state=STATE", help="What to wait for.")],
    timeout: Annotated[str, typer.Option("--timeout", metavar="SPAN", help="How long, as in 10m.")] = "10m",
    as_json: Json = False,
) -> int:
    """Wait until a connection is in a state."""
    what, equals, value = wanted.partition("=")
    if what.strip() != "state" or not equals:
        raise BadInput("for", "not_a_wish")
    state, within = state_named("for", value.strip()), span("timeout", timeout)
    ends_at = time.monotonic() + within.total_seconds()

    async def until(store: ConnectionStore) -> tuple[Connection, int]:
        this = await store.whole_id(connection_id)
        while True:
            now = await store.get(this)
            if now.state is state and now.closed_at is None:
                return now, DONE
            if now.closed_at is not None or now.state is ConnectionState.FAILED:
                return now, REFUSED
            if time.monotonic() >= ends_at:
                return now, TRY_AGAIN
            await asyncio.sleep(min(WAIT_SECONDS, max(ends_at - time.monotonic(), 0.05)))

    output = Output(as_json)
    with output.busy(f"Waiting for {state.value} …"):
        now, code = with_store(until)
    print_connection(now, as_json)
    if code == TRY_AGAIN:
        output.note(Text(f"It is not {state.value} after {timeout}.", style="care"))
    return code


@app.command()
def watch(
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.5, help="How often to look.")] = 2.0,
    times: Annotated[int | None, typer.Option("--times", min=1, help="Look so often, then end.")] = None,
) -> int:
    """Watch counts, what moved, what is due, who works."""
    output = Output()

    async def looking(database: Database) -> None:
        reader = OverviewReader(database, await shared_clock(database))
        stop, looked = asyncio.Event(), 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        live = output.out.is_terminal

        async def look(show: Callable[[Any], None]) -> None:
            nonlocal looked
            while not stop.is_set():
                show(await reader.read())
                looked += 1
                if times is not None and looked >= times:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await stop.wait()

        if not live:
            await look(lambda seen: output.show(Text(watch_line(seen))))
            return
        with Live(console=output.out, auto_refresh=False, transient=False) as screen:
            await look(lambda seen: screen.update(watch_view(seen, output.width), refresh=True))

    with_database(looking)
    return DONE


@app.command()
def audit(
    since: Annotated[str, typer.Option("--since", metavar="SPAN", help="How far back, as in 30d.")] = "30d",
    actor: Annotated[str | None, typer.Option("--actor", metavar="WHO", help="Only by this one.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table for a spreadsheet.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON value a line.")] = False,
    personal: Annotated[
        bool, typer.Option("--with-personal-data", help="With e-mails of customers, and reasons as they were given.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show every change by hand: who, what, why."""
    back, output = span("since", since), Output(as_json)

    async def pages(database: Database) -> list[dict[str, Any]]:
        begins = (await shared_clock(database)).now() - back
        last: AuditEntry | None = None
        told: list[dict[str, Any]] = []
        rows = csv.writer(sys.stdout, lineterminator="\n")
        columns = (*AUDIT_COLUMNS, "email") if personal else AUDIT_COLUMNS
        if as_csv:
            rows.writerow(columns)
        while found := await read_audit(database, since=begins, actor=actor, after=last):
            last = found[-1]
            for each in (audit_json(entry, personal=personal) for entry in found):
                if as_jsonl:
                    write_line(json_text(each, indent=None))
                elif as_csv:
                    rows.writerow([spreadsheet_cell(each[column]) for column in columns])
                else:
                    told.append(each)
        return told

    told = with_database(pages)
    if as_csv or as_jsonl:
        return DONE
    if not told and not as_json:
        output.note(Text(f"Nothing was done by hand in the last {since}.", style="quiet"))
        return DONE
    wide = output.width >= WIDE_COLUMNS
    columns = ("by", "verb", "what happened", "why") if wide else ("what happened",)
    table = plain_table("at (UTC)", "id", *columns, whole={"at (UTC)", "id", "verb"})
    for each in told:
        moved = f"{each['event']} → {each['to']}" if each["from"] != each["to"] else each["event"]
        why = " ".join(filter(None, [each["reason"], each["operation"]]))
        done = [each["actor"], each["verb"], moved, why or "-"]
        below = "\n".join(filter(None, [f"{each['verb']}: {moved}", f"by {each['actor']}", why]))
        table.add_row(each["at"][:19].replace("T", " "), each["id"], *(done if wide else [below]))
    output.result(told, Group(table))
    return DONE


@app.command("health")
def health_(as_json: Json = False) -> int:
    """Say whether all is attended, for probes."""

    async def looked(database: Database) -> dict[str, Any]:
        return await health(database, (await shared_clock(database)).now())

    told = with_database(looked)
    ready = bool(told["ready"])
    line = f"ready: {told['workers']} workers alive, {told['due']} due" if ready else f"not ready: {told['why']}"
    Output(as_json).result(told, Text(line, style="good" if ready else "bad"))
    return DONE if ready else TRY_AGAIN
