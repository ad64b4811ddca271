"""Watching: `wait` for one connection, `watch` all of them, `audit` what was done by hand, `health` for probes."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from linker.cli.context import with_database, with_store
from linker.cli.exit_codes import DONE, REFUSED, TRY_AGAIN
from linker.cli.options import Id, Json, state_named
from linker.cli.terminal.connection_views import plain_table, print_connection
from linker.cli.terminal.output import Output, write_line
from linker.cli.terminal.watch_view import watch_line, watch_view
from linker.database.database import Database
from linker.errors import BadInput
from linker.operations.audit import AuditEntry, audit_json, read_audit
from linker.operations.overview import OverviewReader, health
from linker.operations.selectors import span
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.server_clock import shared_clock
from states.connection import Connection, ConnectionState

app = typer.Typer()

#: How often `wait` looks.
WAIT_SECONDS = 1.0
AUDIT_COLUMNS = ("at", "id", "owner", "actor", "verb", "event", "from", "to", "reason", "problem", "operation")


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
                    write_line(json.dumps(each))
                elif as_csv:
                    rows.writerow([_cell(each[column]) for column in columns])
                else:
                    told.append(each)
        return told

    told = with_database(pages)
    if as_csv or as_jsonl:
        return DONE
    if not told and not as_json:
        output.note(Text(f"Nothing was done by hand in the last {since}.", style="quiet"))
        return DONE
    table = plain_table("at (UTC)", "id", "by", "verb", "what happened", "why")
    for each in told:
        moved = f"{each['event']} → {each['to']}" if each["from"] != each["to"] else each["event"]
        why = " ".join(filter(None, [each["reason"], each["operation"]])) or "-"
        table.add_row(each["at"][:19].replace("T", " "), each["id"], each["actor"], each["verb"], moved, why)
    output.result(told, Group(table))
    return DONE


def _cell(value: Any) -> Any:
    """A value in a spreadsheet: what would be taken for a formula is a text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"} else value


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
