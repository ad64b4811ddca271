"""What operators do by hand, written into the history with who and why: `advance`, `force`, `pause` and the like.

What only looks, as `explain` does, needs no key: it answers also when the key is gone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Group
from rich.text import Text

from linker.cli.context import settings, with_database
from linker.cli.doing import (
    CODES,
    DOING,
    FAILED_IDS,
    RATE_OPTION,
    YES,
    ActingCommand,
    Doing,
    act,
    carry_out,
    saying_what_goes_on,
    summed_up,
    telling,
)
from linker.cli.exit_codes import DONE
from linker.cli.linker_context import with_linker
from linker.cli.options import Id, Json, needed_reason, pairs, state_named, whole
from linker.cli.selector_options import SELECTING, Chosen, OptionGroup, chosen, composed
from linker.cli.terminal.connection_views import WIDE_COLUMNS, plain_table
from linker.cli.terminal.explanation_view import explanation_view
from linker.cli.terminal.output import Output
from linker.cli.terminal.plan_view import outcome_line
from linker.database.database import Database
from linker.errors import BadInput
from linker.linker import Linker
from linker.operations.bulk import RATE
from linker.operations.explain import Explanation, explanation_json
from linker.operations.explain import explain as explained_now
from linker.operations.operation_run import Outcome, operation_json
from linker.operations.plan import plan_from_json
from linker.operations.verbs import GRAVE
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.operation_store import Operation, OperationItem, OperationStore
from linker.persistence.server_clock import shared_clock
from linker.serialization import moment
from states.connection import ConnectionState
from states.explanation import Verb

app = typer.Typer()

T = TypeVar("T")

#: What every verb takes: which connections, and how.
VERB_OPTIONS = composed(OptionGroup("chosen", chosen, SELECTING), OptionGroup("doing", Doing, DOING))
To = Annotated[str, typer.Option("--to", metavar="STATE", help=f"The state: {', '.join(ConnectionState)}.")]


@app.command()
def explain(connection_id: Id, as_json: Json = False) -> int:
    """Say why a connection is where it is, and what may be done."""

    async def work(database: Database) -> Explanation:
        store, clock = ConnectionStore(database), await shared_clock(database)
        connection = await whole(store, store.get, connection_id)
        return await explained_now(connection, database, clock.now(), settings().timing)

    explained = with_database(work)
    output = Output(as_json)
    output.result(explanation_json(explained), explanation_view(explained, output.width))
    return DONE


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def advance(chosen: Chosen, doing: Doing) -> int:
    """Do now what is owed; the law decides what that is.

    Ends with 0 when it was done or still waits as told, with 4 when nothing may be done or Workable refused, and with
    5 if Workable cannot say now.
    """
    return act(Verb.ADVANCE, chosen, doing)


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def check(chosen: Chosen, doing: Doing) -> int:
    """Look now, in any state that holds a token.

    Ends with 0 when nothing is wrong or it waits as before, with 4 when it has failed or there is nothing to ask with,
    and with 5 if Workable cannot say now.
    """
    return act(Verb.CHECK, chosen, doing)


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def force(chosen: Chosen, doing: Doing, to: To) -> int:
    """Put a connection into another state by hand."""
    return act(Verb.FORCE, chosen, doing, to=state_named("to", to))


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def pause(chosen: Chosen, doing: Doing) -> int:
    """Stop attending a connection until it is resumed."""
    return act(Verb.PAUSE, chosen, doing)


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def resume(chosen: Chosen, doing: Doing) -> int:
    """Let a paused connection go on."""
    return act(Verb.RESUME, chosen, doing)


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def restart(chosen: Chosen, doing: Doing) -> int:
    """Let a failed connection go on."""
    return act(Verb.RESTART, chosen, doing)


@app.command(cls=ActingCommand)
@VERB_OPTIONS
def unlink(chosen: Chosen, doing: Doing) -> int:
    """Give a connection up for good, and wipe its secrets."""
    return act(Verb.UNLINK, chosen, doing)


@app.command("metadata", cls=ActingCommand)
@VERB_OPTIONS
def set_metadata(
    chosen: Chosen,
    doing: Doing,
    put: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Set a text; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="K", help="Take a text away.")] = None,
) -> int:
    """Set or take away texts of the metadata."""
    texts: dict[str, str | None] = {**pairs("set", put or []), **dict.fromkeys(remove or [])}
    if not texts:
        raise BadInput("set", "empty")
    return act(Verb.SET_METADATA, chosen, doing, texts=texts)


@app.command(cls=ActingCommand)
def apply(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The file that --out wrote; - reads it from stdin.")],
    yes: YES = None,
    rate: RATE_OPTION = RATE,
    failed_ids: FAILED_IDS = False,
    as_json: Json = False,
) -> int:
    """Carry out a plan that --dry-run --out made."""
    planned = plan_from_json(_read(plan))
    doing = Doing(
        reason=planned.reason,
        actor=planned.actor,
        dry_run=False,
        out=None,
        yes=yes,
        rate=rate,
        failed_ids=failed_ids,
        as_json=as_json,
    )
    if planned.verb in GRAVE or len(planned.items) > 1:
        needed_reason(planned.reason)
    return with_linker(lambda linker: carry_out(linker, planned, doing, Output(as_json)))


def _read(plan: str) -> Any:
    """What is in a plan's file. Raises BadInput."""
    try:
        text = sys.stdin.read() if plan == "-" else Path(plan).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise BadInput("plan", "cannot_read", file=plan, cause=cause) from None
    try:
        return json.loads(text)
    except ValueError:
        raise BadInput("plan", "not_a_plan") from None


# many at once

operations = typer.Typer(help="What was done to many: list, show, stop, resume.", no_args_is_help=True)
app.add_typer(operations, name="operations")


def with_operations(work: Callable[[OperationStore, datetime], Awaitable[T]]) -> T:
    """Do something with what was done to many, by the time that all workers share."""

    async def timed(database: Database) -> T:
        store = OperationStore(database, ConnectionStore(database))
        return await work(store, (await shared_clock(database)).now())

    return with_database(timed)


OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="As `linker operations list` shows it.")]


@operations.command("list")
def operations_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest first.")] = 50, as_json: Json = False
) -> int:
    """List operations, the latest first."""
    found = with_operations(lambda store, _: store.latest(limit))
    output = Output(as_json)
    if not found and not as_json:
        output.note(Text("There are no operations yet.", style="quiet"))
        return DONE
    output.result([operation_json(each) for each in found], _table(found))
    return DONE


@operations.command("show")
def operations_show(
    operation_id: OperationId,
    limit: Annotated[int, typer.Option(min=1, help="At most so many connections, first what was not done.")] = 50,
    as_json: Json = False,
) -> int:
    """Show an operation, with what became of each connection."""
    output = Output(as_json)

    async def work(store: OperationStore, _: datetime) -> tuple[Operation, list[OperationItem]]:
        operation = await store.get(operation_id)
        return operation, await store.items(operation.id)

    operation, items = with_operations(work)
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
    for item in sorted(items, key=lambda item: CODES.get(item.outcome or "left", DONE) == DONE)[:limit]:
        state, why = (item.told or {}).get("state"), (item.told or {}).get("why")
        became = ConnectionState(state) if state else None
        lines.append(
            outcome_line(Outcome(id=item.connection_id, outcome=item.outcome or "left", state=became, why=why))
        )
    if len(items) > limit:
        lines.append(Text(f"… and {len(items) - limit} more: --limit {len(items)}, or --json", style="quiet"))
    output.result({**operation_json(operation), "items": told}, _table([operation]), Text(), Group(*lines))
    return DONE


@operations.command("stop")
def operations_stop(operation_id: OperationId, as_json: Json = False) -> int:
    """Let an operation begin nothing more; what it has begun comes to its end."""
    stopped = with_operations(lambda store, now: store.stop(operation_id, now))
    Output(as_json).result(operation_json(stopped), _table([stopped]))
    return DONE


@operations.command("resume")
def operations_resume(operation_id: OperationId, as_json: Json = False) -> int:
    """Go on with an operation that was interrupted or stopped."""
    output = Output(as_json)

    async def work(linker: Linker) -> list[Outcome]:
        with saying_what_goes_on(operation_id, output), telling(output, None, people=not as_json) as tell:
            return await linker.resume_operation(operation_id, tell=tell)

    return summed_up(with_linker(work), operation_id, output, none="nothing is left to do")


def _table(found: Sequence[Operation]) -> Group:
    wide = Output().width >= WIDE_COLUMNS
    columns = ("verb", "outcomes", "by", "reason") if wide else ("what was done",)
    table = plain_table("id", "made at (UTC)", "status", *columns, whole={"id", "made at (UTC)", "status", "verb"})
    for each in found:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(each.counts.items()))
        made = f"{each.made_at:%Y-%m-%d %H:%M}"
        done = [each.verb, counts, each.actor, each.reason or "-"]
        below = "\n".join([f"{each.verb}: {counts}", f"by {each.actor}", *([each.reason] if each.reason else [])])
        table.add_row(each.id, made, each.status, *(done if wide else [below]))
    return Group(table)
