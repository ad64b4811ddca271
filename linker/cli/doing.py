"""Carrying out a verb on a command line: on one connection at once, on several by a plan that is agreed to."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from linker.cli.exit_codes import DONE, NOT_FOUND, OUR_FAULT, REFUSED, TRY_AGAIN, after_asking
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Json, Reason, needed_reason
from linker.cli.selector_options import Chosen, Option
from linker.cli.terminal.connection_views import card
from linker.cli.terminal.output import Output, PipeClosed, write_line
from linker.cli.terminal.plan_view import change_view, outcome_line, plan_view
from linker.cli.terminal.progress import progress_bar
from linker.engine.ports import Selection
from linker.errors import BadInput, Busy
from linker.linker import Linker
from linker.operations.bulk import RATE
from linker.operations.operation_run import Outcome, outcome_json, outcome_of
from linker.operations.plan import Plan, plan_json
from linker.operations.verbs import ASKING, GRAVE
from linker.serialization import connection_json
from linker.wording import catalogue
from states.connection import Connection, ConnectionState
from states.explanation import Verb

#: More than so many are agreed to by their number.
MANY = 20
#: What a bulk run ends with, the worst first.
WORST = (OUR_FAULT, REFUSED, TRY_AGAIN, NOT_FOUND, DONE)
CODES = {
    "done": DONE,
    "waiting": DONE,
    "refused": REFUSED,
    "changed": TRY_AGAIN,
    "try_again": TRY_AGAIN,
    "not_found": NOT_FOUND,
    "error": OUR_FAULT,
}
AGREED = "agreed"


class ActingCommand(TyperCommand):
    """A command whose `--yes` may have a number behind it, as in `--yes=38`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, [f"--yes={AGREED}" if each in {"--yes", "-y"} else each for each in args])


@dataclass(frozen=True, kw_only=True)
class Doing:
    """How a verb is carried out."""

    reason: str | None
    actor: str
    dry_run: bool
    out: Path | None
    yes: str | None
    rate: float
    failed_ids: bool
    as_json: bool


YES = Annotated[
    str | None,
    typer.Option(
        "--yes", metavar="[=N]", help="Do not ask. For more than 20, and for force and unlink: --yes=N, their number."
    ),
]
RATE_OPTION = Annotated[float, typer.Option("--rate", help="At most so many are begun in a second.", metavar="N")]
FAILED_IDS = Annotated[
    bool, typer.Option("--failed-ids", help="Print only the ids of what was not done, for another run by stdin.")
]
#: The options of every verb: their types as Typer reads them, and what they are when they are not given.
DOING: dict[str, Option] = {
    "reason": (Reason, None),
    "actor": (Actor, ""),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; change nothing.")], False),
    "out": (
        Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the plan there, for `linker apply`.")],
        None,
    ),
    "yes": (YES, None),
    "rate": (RATE_OPTION, RATE),
    "failed_ids": (FAILED_IDS, False),
    "as_json": (Json, False),
}


def act(
    verb: Verb,
    chosen: Chosen,
    doing: Doing,
    *,
    to: ConnectionState | None = None,
    texts: Mapping[str, str | None] | None = None,
) -> int:
    """Carry out a verb on what was chosen; `force` has a state, `set_metadata` texts. Raises BadInput, NotFound."""
    if not chosen.is_given:
        raise BadInput("id", "nothing_selected")
    only, output = chosen.only_id, Output(doing.as_json)
    planning = doing.dry_run or doing.out is not None
    if verb in GRAVE or (only is None and not planning):
        needed_reason(doing.reason)
    if only is not None and not planning:
        return _one(verb, chosen, doing, output, to, texts)

    async def work(linker: Linker) -> int:
        now = linker.clock.now()
        wanted = await chosen.selection(linker, now)
        told = {**chosen.words, **({"all": True} if chosen.everything else {})}
        with progress_bar(output, "looking at connections") as progress:
            plan = await linker.plan(
                verb,
                wanted,
                to=to,
                texts=texts,
                selector=told,
                actor=doing.actor,
                reason=doing.reason,
                tell=lambda count: progress(count, None),
            )
        if not planning:
            return await carry_out(linker, plan, doing, output)
        if doing.out is not None:
            with output.busy(f"Writing {doing.out} …"):
                await asyncio.to_thread(_write, doing.out, plan)
        output.result(plan_json(plan) if doing.as_json else None, plan_view(plan, doing.rate, output.width, doing.out))
        return DONE

    return with_linker(work)


def _write(path: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all, each connection in a line. Raises BadInput."""
    told = plan_json(plan)
    items = told.pop("items")
    try:
        beside = path.with_name(f"{path.name}.part")
        with beside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(told, indent=1).removesuffix("\n}"))
            file.write(',\n "items": [\n  ')
            file.write(",\n  ".join(json.dumps(item) for item in items))
            file.write("\n ]\n}\n")
        beside.replace(path)
        return
    except OSError as error:
        cause = error.strerror or str(error)
    raise BadInput("out", "cannot_write", file=str(path), cause=cause)


def _one(
    verb: Verb,
    chosen: Chosen,
    doing: Doing,
    output: Output,
    to: ConnectionState | None,
    texts: Mapping[str, str | None] | None,
) -> int:
    before: list[Connection] = []
    more = {name: value for name, value in (("to", to), ("texts", texts)) if value is not None}

    async def work(linker: Linker) -> Connection:
        connection_id = await linker.whole_id(chosen.only_id or "")
        before.append(await linker.get(connection_id))
        if verb in GRAVE:
            await say_before(linker, await chosen.selection(linker, linker.clock.now()), verb, to, doing, output)
            if before[0].version != (await linker.get(connection_id)).version:  # somebody thought it over for long
                raise Busy("changed_by_others", connection=connection_id)
        with output.busy("Doing what is asked for …"):
            method: Callable[..., Awaitable[Connection]] = getattr(linker, verb.value)
            return await method(connection_id, **more, actor=doing.actor, reason=doing.reason)

    now = with_linker(work)
    outcome = outcome_of(before[0], now) if verb in ASKING else "done"
    output.result({**connection_json(now), "outcome": outcome}, card(now, now.updated_at or now.state_since))
    return after_asking(now) if verb in ASKING else DONE


async def say_before(
    linker: Linker, wanted: Selection, verb: Verb, to: ConnectionState | None, doing: Doing, output: Output
) -> None:
    """Say what a grave deed keeps and wipes, who is told and what leads back, and ask.

    One `force` asks only where somebody can be asked: it has named its id, its state and its reason. One `unlink`
    always asks. Raises as `agree` does.
    """
    plan = await linker.plan(verb, wanted, to=to, actor=doing.actor, reason=doing.reason)
    [item] = plan.items
    if item.change is None:  # it will be refused, with the reason
        return
    if not doing.as_json:
        output.err.print(change_view(item.change, [item.id]))
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and not doing.as_json
    if verb is Verb.UNLINK or is_terminal:
        question = catalogue().text(f"change.{verb.value}", {"id": item.id, "to": item.change.target.value})
        agree(question or verb.value, 1, verb, doing, by_number=False)


def agree(question: str, count: int, verb: Verb, doing: Doing, *, by_number: bool) -> None:
    """Make sure that somebody wants this. Raises BadInput where nobody can be asked, Abort where nobody does."""
    if doing.yes is not None and ((doing.yes == AGREED and not by_number) or doing.yes == str(count)):
        return
    if doing.yes is not None:
        raise BadInput("yes", "number_needed" if doing.yes == AGREED else "other_number", count=count, given=doing.yes)
    if doing.as_json or sys.stdin is None or not sys.stdin.isatty():
        raise BadInput("yes", "number_needed" if by_number else "not_agreed", count=count)
    if not by_number:
        typer.confirm(question, err=True, abort=True)
    elif typer.prompt(f"{question} Type their number", err=True, default="", show_default=False) != str(count):
        raise typer.Abort


async def carry_out(linker: Linker, plan: Plan, doing: Doing, output: Output) -> int:
    """Let somebody agree to a plan, carry it out, and tell of each."""
    count = len(plan.acting)
    people = not (doing.as_json or doing.failed_ids)
    if count:
        if people and doing.yes is None:
            output.err.print(plan_view(plan, doing.rate, output.width, None))
        by_number = count > MANY or (plan.verb in GRAVE and len(plan.items) > 1)
        agree(
            "Do this to 1 connection?" if count == 1 else f"Do this to {count} connections?",
            count,
            plan.verb,
            doing,
            by_number=by_number,
        )
    with saying_what_goes_on(plan.id, output), telling(output, len(plan.items), people=people) as tell:
        outcomes = await linker.apply(plan, rate=doing.rate, tell=tell)
    none = "nothing is left to do" if plan.items else "nothing was selected"
    return summed_up(outcomes, plan.id, output, failed_ids=doing.failed_ids, none=none)


@contextmanager
def saying_what_goes_on(operation: str, output: Output) -> Iterator[None]:
    """Say how an operation goes on that is interrupted in this block."""
    try:
        yield
    except (asyncio.CancelledError, PipeClosed):
        output.note(Text(f"Interrupted. `linker operations resume {operation}` goes on.", style="care"))
        raise


@contextmanager
def telling(output: Output, count: int | None, *, people: bool) -> Iterator[Callable[[Outcome], None]]:
    """Tell of each as soon as it is done: people by a line, and by a bar whoever let stdout be for machines."""
    if people:
        yield lambda outcome: output.show(outcome_line(outcome))
        return
    with progress_bar(output, "done") as progress:
        done = itertools.count(1)
        yield lambda _: progress(next(done), count)


def summed_up(
    outcomes: Sequence[Outcome], operation: str, output: Output, *, failed_ids: bool = False, none: str
) -> int:
    """Tell what came of all, or that there was `none`, and give the exit code: the worst."""
    counts = Counter(outcome.outcome for outcome in outcomes)
    codes = {CODES[name] for name in counts} or {DONE}
    code = next(each for each in WORST if each in codes)
    if failed_ids:
        for outcome in outcomes:
            if CODES[outcome.outcome] != DONE:
                write_line(outcome.id)
    elif output.as_json:
        output.result([outcome_json(each) for each in outcomes])
    said = ", ".join(f"{counts[name]} {name}" for name in CODES if counts[name]) or none
    output.note(Text(f"{said} · {operation}" if outcomes else said, style="bad" if code == OUR_FAULT else "quiet"))
    return code
