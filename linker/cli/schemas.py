"""`linker db`: the schema's revision; what is too old is in `housekeeping`."""

from __future__ import annotations

import typer
from rich.text import Text

from linker.cli.archive import settings
from linker.cli.endings import DONE
from linker.cli.housekeeping import prune
from linker.cli.options import Json
from linker.cli.screen import Screen
from linker.database.database import Database
from linker.persistence import schema
from linker.persistence.migrations import HEAD
from linker.persistence.schema import MEANINGS, compared, revision

app = typer.Typer()
db = typer.Typer(help="The database: its schema's revision, and what is too old.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
def upgrade(as_json: Json = False) -> int:
    """Bring the database to the revision that this program needs. Take a backup first."""
    screen = Screen(as_json)
    database = _database()
    try:
        before = revision(database)
        with screen.busy("Upgrading the database …"):
            now = schema.upgrade(database)
    finally:
        database.close()
    told = {"revision": now, "head": HEAD, "before": before, "database": database.name}
    done = f"upgraded from {before or 'nothing'} to {now}" if before != now else f"at revision {now} already"
    screen.tell(told, Text.assemble(("✓ ", "good"), f"{database.name}: {done}"))
    return DONE


@db.command()
def current(as_json: Json = False) -> int:
    """Say which revision the database has, and whether it fits. Changes nothing."""
    database = _database()
    try:
        told = compared(database)
    finally:
        database.close()
    mark = ("✓ ", "good") if told["state"] == "head" else ("! ", "care")
    line = f"{told['database']}: revision {told['revision'] or 'none'}, {MEANINGS[told['state']]}"
    Screen(as_json).tell(told, Text.assemble(mark, line))
    return DONE


db.command()(prune)


def _database() -> Database:
    return Database(settings().database_url)
