"""`linker outbox`: what the host was told and is still to be told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from linker.cli.context import settings, with_database, with_store
from linker.cli.exit_codes import DONE, TRY_AGAIN
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Json, OfConnection, pasted_id
from linker.cli.terminal.connection_views import WIDE_COLUMNS, plain_table
from linker.cli.terminal.output import Output
from linker.database.database import Database
from linker.engine.observer import Fact, Note, Unobserved, Work
from linker.errors import BadInput, BadSettings
from linker.humanize import relative
from linker.linker import Linker
from linker.outbox.administration import DeliveryState, OutboxAdministration, QueuedDelivery
from linker.outbox.channels import CHANNELS, WEBHOOK, Channel
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.persistence.server_clock import shared_clock
from linker.serialization import moment
from linker.validation.text import one_line

T = TypeVar("T")

app = typer.Typer()
outbox = typer.Typer(help="What the host was told and is still to be told.", no_args_is_help=True)
app.add_typer(outbox, name="outbox")

#: How many deliveries are listed unless more are asked for.
LISTED_ROWS = 50

#: What becomes of a delivery that fails.
FAILED = {"to_be_tried_again", "given_up"}

STYLES = {
    DeliveryState.PENDING: "quiet",
    DeliveryState.RETRYING: "care",
    DeliveryState.DELIVERED: "good",
    DeliveryState.DEAD: "bad",
    DeliveryState.DROPPED: "quiet",
    DeliveryState.LAPSED: "quiet",
}

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Announcements, as `linker outbox list` shows.")]
To = Annotated[str | None, typer.Option("--to", help="Only on this channel: webhook or handlers.")]


@outbox.command("list")
def list_(
    dead: Annotated[bool, typer.Option("--dead", help="Those that were given up.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Those that are still to be delivered.")] = False,
    lapsed: Annotated[bool, typer.Option("--lapsed", help="Those that nobody was there to take for a week.")] = False,
    connection: OfConnection = None,
    to: To = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = LISTED_ROWS,
    as_json: Json = False,
) -> int:
    """List announcements with what became of them, newest first.

    Each stands there once for each of its two channels: to the handlers of the host, and to the webhook.
    """
    asked = {
        DeliveryState.DEAD: dead,
        DeliveryState.PENDING: pending,
        DeliveryState.RETRYING: pending,
        DeliveryState.LAPSED: lapsed,
    }
    states = {state for state in asked if asked[state]} or set(DeliveryState) - {DeliveryState.LAPSED}
    wanted = {channel: set(states) for channel in _channels(to)}
    if to is None and settings().webhook_url is None:  # then what was never posted is no news
        wanted[WEBHOOK] -= {DeliveryState.PENDING, DeliveryState.LAPSED}
    found = with_outbox(lambda queue, _: queue.find(wanted, connection_id=connection, limit=limit))
    if connection is not None and not found:
        with_store(lambda store: store.get(connection))  # it may be that there is no such connection
    output = Output(as_json)
    if not found and not as_json:
        output.note(Text("There is no such announcement.", style="quiet"))
        return DONE
    _print_deliveries(output, found)
    if len(found) == limit:
        output.note(Text(f"These are the newest {limit}; `--limit` shows more.", style="quiet"))
    return DONE


def with_outbox(work: Callable[[OutboxAdministration, datetime], Awaitable[T]]) -> T:
    """Do something with the outbox, as `with_database` does; by the time that all workers share."""

    async def timed(database: Database) -> T:
        return await work(OutboxAdministration(database), (await shared_clock(database)).now())

    return with_database(timed)


def _channels(to: str | None) -> tuple[Channel, ...]:
    if to is None:
        return CHANNELS
    named = {channel.name: channel for channel in CHANNELS}
    if to not in named:
        raise BadInput("to", "unknown", known=list(named))
    return (named[to],)


@outbox.command()
def retry(
    ids: Ids = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All that were given up.")] = False,
    to: To = None,
    as_json: Json = False,
) -> int:
    """Let announcements be tried again, now and for three more days.

    A worker or `linker outbox deliver` does it. What comes after them has been delivered meanwhile: receivers tell by
    `data.version` which one is newer.
    """
    wanted, channels, output = _ids(ids, all_dead), _channels(to), Output(as_json)

    async def again(queue: OutboxAdministration, now: datetime) -> list[QueuedDelivery]:
        return await queue.retry(wanted, channels=channels, now=now, until=now + GIVE_UP_AFTER)

    async def all_again(queue: OutboxAdministration, now: datetime) -> tuple[int, list[QueuedDelivery]]:
        """As many as are listed are kept for people; machines get all of them, one batch after another."""
        count, first = 0, list[QueuedDelivery]()
        with output.array() as add:
            async for batch in queue.retry_dead(channels=channels, now=now, until=now + GIVE_UP_AFTER):
                count += len(batch)
                first += batch[: LISTED_ROWS - len(first)]
                add(delivery_json(each) for each in batch)
        return count, first

    if not all_dead:
        _print_deliveries(output, with_outbox(again))
        return DONE
    count, first = with_outbox(all_again)
    if as_json:
        return DONE
    if first:
        _print_deliveries(output, first)
    more = count - len(first)
    told = f"{more} more are tried again, too." if more else "" if first else "None was dead."
    if told:
        output.note(Text(told, style="quiet"))
    return DONE


@outbox.command()
def drop(
    ids: Ids = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, kept with the announcement. [required]")
    ] = "",
    to: To = None,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Take announcements out that are not delivered yet; later ones of their connections go on."""
    wanted, channels, why = _ids(ids, False), _channels(to), f"dropped by {actor}: {one_line('reason', reason)}"
    dropped = with_outbox(lambda queue, now: queue.drop(wanted, channels=channels, now=now, reason=why))
    _print_deliveries(Output(as_json), dropped)
    return DONE


@outbox.command()
def deliver(as_json: Json = False) -> int:
    """Deliver to the webhook what is due; a worker does it all the time.

    Begins for five seconds, and leaves the rest to the next time. Ends with 5 if something could not be delivered: that
    is tried again, for three days.
    """
    output = Output(as_json)
    given = settings()
    if given.webhook_url is None:
        raise BadSettings("webhook_url", "no_webhook")
    failures = _FailureCounter()
    with output.busy("Delivering …"):
        delivered = with_linker(lambda linker: linker.deliver(), Linker(given, observer=failures))
    told = {"delivered": delivered, "failed": failures.number}
    output.result(told, Text(", ".join(f"{number} {what}" for what, number in told.items())))
    return TRY_AGAIN if failures.number else DONE


class _FailureCounter(Unobserved):
    """Counts the deliveries that fail."""

    number = 0

    @contextmanager
    def watch(self, work: Work, **facts: Fact) -> Iterator[Note]:
        """Look at what becomes of a delivery."""
        yield facts.update
        self.number += facts.get("outcome") in FAILED


def _ids(given: list[str] | None, all_dead: bool) -> list[str]:
    ids = list(dict.fromkeys(pasted_id(each, what="announcement") for each in given or []))
    if bool(ids) is all_dead:
        raise BadInput("id", "ids_and_all" if all_dead else "no_ids")
    return ids


def _print_deliveries(output: Output, deliveries: Sequence[QueuedDelivery]) -> None:
    now = datetime.now(UTC)
    wide = output.width >= WIDE_COLUMNS  # where it is narrow, they stand below one another
    what = ("id", "what", "connection", "last error")
    table = plain_table("to", "state", "when", *(what if wide else ("announcement",)))
    for column in table.columns[:2]:
        column.no_wrap = True
    for delivery in deliveries:
        # when it was settled, or when it is tried and how often it was
        settled = delivery.delivered_at or delivery.dead_at or delivery.dropped_at
        if settled is not None or delivery.due_at is None:
            when = relative(settled or delivery.created_at, now)
        else:
            when = "now" if delivery.due_at <= now else relative(delivery.due_at, now)
            if delivery.attempts:
                when += f", after {delivery.attempts} {'try' if delivery.attempts == 1 else 'tries'}"
        state = Text(delivery.state.value, style=STYLES[delivery.state])
        error = Text(delivery.last_error or "", style="quiet")
        named = [Text(delivery.id, style="copy"), Text(delivery.type), Text(delivery.connection_id), error]
        told = named if wide else [Text("\n").join(each for each in named if each)]
        table.add_row(delivery.channel.name, state, when, *told)
    output.result([delivery_json(each) for each in deliveries], table)


def delivery_json(delivery: QueuedDelivery) -> dict[str, Any]:
    """A delivery, as `linker outbox list --json` prints it."""
    return {
        "id": delivery.id,
        "connection": delivery.connection_id,
        "type": delivery.type,
        "to": delivery.channel.name,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": moment(delivery.due_at),
        "last_error": delivery.last_error,
        "created_at": moment(delivery.created_at),
        "delivered_at": moment(delivery.delivered_at),
        "dead_at": moment(delivery.dead_at),
        "dropped_at": moment(delivery.dropped_at),
    }
