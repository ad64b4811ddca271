"""`linker db`: the schema's revision, and what is too old."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from linker.cli.context import naming_the_database, settings
from linker.cli.exit_codes import DONE, INTERRUPTED
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.cli.terminal.progress import progress_bar
from linker.database.database import Database
from linker.errors import BadInput
from linker.operations.retention import Progress, Pruned, Pruning
from linker.persistence import schema
from linker.persistence.connection_store import open_database
from linker.persistence.migrations import HEAD
from linker.persistence.server_clock import shared_clock
from linker.serialization import moment
from linker.wording import catalogue

app = typer.Typer()
db = typer.Typer(help="The database: its schema's revision, and what is too old.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
def upgrade(as_json: Json = False) -> int:
    """Bring the database to the revision that this program needs. Take a backup first."""
    given, output = settings(), Output(as_json)
    database = Database(given.database_url, given.database_schema)
    try:
        with naming_the_database(given):
            found = schema.version(database)
            with output.busy("Upgrading the database …"):
                now = schema.upgrade(database).revision
    finally:
        database.close()
    before = found.revision if found else None
    told = {"revision": now, "head": HEAD, "before": before, "database": database.name}
    done = f"upgraded from {before or 'nothing'} to {now}" if before != now else f"at revision {now} already"
    output.result(told, Text.assemble(("✓ ", "good"), f"{database.name}: {done}"))
    return DONE


@db.command()
def current(as_json: Json = False) -> int:
    """Say which revision the database has, and whether it fits. Changes nothing."""
    given = settings()
    database = Database(given.database_url, given.database_schema)
    try:
        with naming_the_database(given):
            told = schema.compared(database)
    finally:
        database.close()
    mark = ("✓ ", "good") if told["state"] == "head" else ("! ", "care")
    meaning = catalogue().text(f"schema.{told['state']}")
    line = f"{told['database']}: revision {told['revision'] or 'none'}, {meaning}"
    Output(as_json).result(told, Text.assemble(mark, line))
    return DONE


@db.command()
def drop(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Take the tables of this program away, with all connections in them, and nothing else of the database."""
    given, output = settings(), Output(as_json)
    database = Database(given.database_url, given.database_schema)
    try:
        with naming_the_database(given):
            something = schema.holds_tables(database)
            if something and not yes:
                if as_json or sys.stdin is None or not sys.stdin.isatty():
                    raise BadInput("yes", "not_confirmed")
                if not typer.confirm(f"Drop our tables in {database.name}, with all connections?", err=True):
                    return INTERRUPTED
            dropped = schema.drop(database) if something else []
    finally:
        database.close()
    told = f"dropped {', '.join(dropped)}" if dropped else "there are no tables of ours"
    output.result({"dropped": dropped, "database": database.name}, Text(f"{database.name}: {told}"))
    return DONE


#: What goes, as people say it.
WENT = {"steps": "steps of history", "announcements": "announcements", "connections": "unlinked connections"}


@db.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    as_json: Json = False,
) -> int:
    """Take away what is older than the settings keep: steps, announcements, unlinked connections.

    Run it once a day. Nobody waits for it, and it can be ended at any moment: the next run goes on.
    """
    given, output = settings(), Output(as_json)

    async def pruned_by(progress: Progress) -> tuple[Pruned, dict[str, datetime]]:
        async with open_database(given) as database:
            pruning = Pruning(database, given, await shared_clock(database))
            return await (pruning.foresee() if dry_run else pruning.run(progress)), pruning.before

    with progress_bar(output, "pruning") as progress:
        pruned, before = asyncio.run(pruned_by(progress))
    limits = dict.fromkeys(asdict(pruned)) | {name: moment(limit) for name, limit in before.items()}
    lines = ["Nothing was changed; this would go:" if dry_run else "This went:"]
    for name, count in asdict(pruned).items():
        went = f"{count} from before {before[name]:%Y-%m-%d %H:%M} UTC" if name in before else "none, all are kept"
        lines.append(f"  {WENT[name]}: {went}")
    output.result({**asdict(pruned), "dry_run": dry_run, "before": limits}, Text("\n".join(lines)))
    return DONE
