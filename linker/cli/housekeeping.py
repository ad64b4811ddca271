"""`linker db prune`: what is too old goes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from linker.cli.archive import settings
from linker.cli.bars import bar
from linker.cli.endings import DONE
from linker.cli.options import Json
from linker.cli.screen import Screen
from linker.operations.retention import Progress, Pruned, Pruning
from linker.persistence.connection_store import open_database
from linker.persistence.server_clock import shared_clock
from linker.serialization import moment


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    as_json: Json = False,
) -> int:
    """Take away what is older than the settings keep: steps, announcements, unlinked connections.

    Run it once a day. Nobody waits for it, and it can be ended at any moment: the next run goes on.
    """
    screen = Screen(as_json)
    with bar(screen, "pruning") as advance:
        pruned, before = asyncio.run(_pruned(dry_run, advance))
    limits = dict.fromkeys(asdict(pruned)) | {name: moment(limit) for name, limit in before.items()}
    screen.tell({**asdict(pruned), "dry_run": dry_run, "before": limits}, _told(pruned, before, dry_run))
    return DONE


async def _pruned(dry_run: bool, progress: Progress) -> tuple[Pruned, dict[str, datetime]]:
    given = settings()
    async with open_database(given) as database:
        pruning = Pruning(database, given, await shared_clock(database))
        return await (pruning.foresee() if dry_run else pruning.run(progress)), pruning.before


#: What goes, as people say it.
WENT = {"steps": "steps of history", "announcements": "announcements", "connections": "unlinked connections"}


def _told(pruned: Pruned, before: dict[str, datetime], dry_run: bool) -> Text:
    lines = ["Nothing was changed; this would go:" if dry_run else "This went:"]
    for name, count in asdict(pruned).items():
        went = f"{count} from before {before[name]:%Y-%m-%d %H:%M} UTC" if name in before else "none, all are kept"
        lines.append(f"  {WENT[name]}: {went}")
    return Text("\n".join(lines))
