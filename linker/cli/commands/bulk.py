"""`linker operations`: what was done to many connections at once, and what is under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from linker.cli.doing import Doing, summed_up, tell
from linker.cli.exit_codes import DONE
from linker.cli.linker_context import with_linker
from linker.cli.options import Json
from linker.cli.terminal.connection_views import plain_table
from linker.cli.terminal.output import Output
from linker.cli.terminal.plan_view import outcome_line
from linker.operations.bulk import RATE, Outcome, operation_json
from linker.persistence.operation_store import Operation
from linker.serialization import moment
from states.connection import ConnectionState

app = typer.Typer()
operations = typer.Typer(help="What was done to many: list, show, stop, resume.", no_args_is_help=True)
app.add_typer(operations, name="operations")

OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="As `linker operations list` shows it.")]


@operations.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest first.")] = 50, as_json: Json = False
) -> int:
    """List operations, the latest first."""
    found = with_linker(lambda linker: linker.operations(limit=limit))
    output = Output(as_json)
    if not found and not as_json:
        output.note(Text("There are no operations yet.", style="quiet"))
        return DONE
    output.result([operation_json(each) for each in found], _table(found))
    return DONE


@operations.command()
def show(operation_id: OperationId, as_json: Json = False) -> int:
    """Show an operation, with what became of each connection."""
    operation, items = with_linker(lambda linker: linker.operation(operation_id))
    told = [
        {
            "id": item.connection_id,
            "version": item.version,
            "planned": dict(item.planned),
            "outcome": item.outcome,
            "told": dict(item.told) if item.told and item.outcome else None,
            "done_at": moment(item.done_at),
        }
        for item in items
    ]
    lines = []
    for item in items:
        state = (item.told or {}).get("state")
        why = (item.told or {}).get("why")
        outcome = Outcome(
            id=item.connection_id,
            outcome=item.outcome or "left",
            state=ConnectionState(state) if state else None,
            why=why,
        )
        lines.append(outcome_line(outcome))
    Output(as_json).result({**operation_json(operation), "items": told}, _table([operation]), Text(), Group(*lines))
    return DONE


@operations.command()
def stop(operation_id: OperationId, as_json: Json = False) -> int:
    """Let an operation begin nothing more; what it has begun comes to its end."""
    stopped = with_linker(lambda linker: linker.stop_operation(operation_id))
    Output(as_json).result(operation_json(stopped), _table([stopped]))
    return DONE


@operations.command()
def resume(operation_id: OperationId, as_json: Json = False) -> int:
    """Go on with an operation that was interrupted or stopped."""
    output = Output(as_json)
    outcomes = with_linker(
        lambda linker: linker.resume_operation(operation_id, tell=lambda each: tell(each, output, people=not as_json))
    )
    doing = Doing(
        reason=None, actor="", dry_run=False, out=None, yes=None, rate=RATE, failed_ids=False, as_json=as_json
    )
    return summed_up(outcomes, operation_id, doing, output)


def _table(found: Sequence[Operation]) -> Group:
    table = plain_table("id", "made at (UTC)", "verb", "status", "outcomes", "by", "reason")
    for each in found:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(each.counts.items()))
        made = f"{each.made_at:%Y-%m-%d %H:%M}"
        table.add_row(each.id, made, each.verb, each.status, counts, each.actor, each.reason or "-")
    return Group(table)
