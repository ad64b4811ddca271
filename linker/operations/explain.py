"""Explaining a connection: where it is and why, who must act, what comes by itself, what an operator may do.

Nothing is written, and Workable is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, not_, or_, select

from linker.database.database import Database
from linker.engine.service import FOR_CUSTOMERS, OPERATORS
from linker.operations.plan import foreseen_json
from linker.operations.verbs import GRAVE
from linker.operations.workers_alive import WorkerInfo, workers
from linker.persistence.tables import CONNECTION, STEP
from linker.serialization import connection_json, moment
from states.connection import Connection, ConnectionState
from states.explanation import (
    Foresight,
    Upcoming,
    Verb,
    WaitsFor,
    foresee,
    upcoming,
    verbs_for,
    waits_for,
    who_must_act,
)
from states.problems import ProblemOwner
from states.timing import Timing

#: Who attends connections when nobody asked; everybody else is a person or speaks for one.
HEARTBEAT = "heartbeat"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What people did last by themselves, and what they were told then; operators' deeds do not count."""

    at: datetime
    actor: str
    #: What happened, as the history names it.
    event: str
    #: The problem's code that they were told.
    problem: str | None
    #: How often people did something since the connection is in its state.
    presses: int


@dataclass(frozen=True, kw_only=True)
class Attendance:
    """Who is there to attend a connection."""

    alive: int
    #: When any worker last said that it is alive; None: there is none that anybody remembers.
    last_beat_at: datetime | None
    #: Who holds the connection now, and until when; None: nobody does.
    held_by: str | None
    held_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """All that an operator wants to know of a connection, as codes and facts; times are aware, in UTC."""

    connection: Connection
    #: When it was explained, by the clock that counts.
    at: datetime
    waits_for: WaitsFor
    #: Who must act; None: nobody has to.
    owner: ProblemOwner | None
    told: Told | None
    next: Upcoming
    workers: Attendance
    #: What `advance` would do now.
    advance: Foresight
    #: What else an operator may do, the likely first; `force` with the state that it leads to.
    verbs: tuple[tuple[Verb, ConnectionState | None], ...]
    #: What a link to the connection dialog would be for; None: the customer has nothing to do there.
    link: str | None


#: What a customer who has to act is to be given a link for.
_LINKS = {
    ConnectionState.AWAITING_TOKEN: "setup",
    ConnectionState.TOKEN_VALID: "status",
    ConnectionState.AWAITING_RECRUITER: "recruiter",
    ConnectionState.LINKED: "reconnect",
    ConnectionState.FAILED: "reconnect",
}


@dataclass(frozen=True, kw_only=True)
class _Circumstances:
    """What the database holds around a connection."""

    told: Told | None
    held_by: str | None
    held_until: datetime | None
    workers: list[WorkerInfo]


async def explain(connection: Connection, database: Database, now: datetime, timing: Timing) -> Explanation:
    """Explain a connection that was just read. Raises StoreUnavailable."""
    around = await database.read(lambda transaction: _circumstances(transaction, connection))
    held = around.held_until is not None and around.held_until > now
    return Explanation(
        connection=connection,
        at=now,
        waits_for=waits_for(connection),
        owner=who_must_act(connection),
        told=around.told,
        next=upcoming(connection),
        workers=Attendance(
            alive=sum(each.is_alive(now) for each in around.workers),
            last_beat_at=around.workers[0].last_beat_at if around.workers else None,
            held_by=around.held_by if held else None,
            held_until=around.held_until if held else None,
        ),
        advance=foresee(Verb.ADVANCE, connection, now, timing),
        verbs=tuple(verbs_for(connection, now)),
        link=_LINKS[connection.state] if who_must_act(connection) is ProblemOwner.CUSTOMER else None,
    )


def _circumstances(transaction: Transaction, c: Connection) -> _Circumstances:
    leased = select(CONNECTION.c.lease_holder, CONNECTION.c.lease_until).where(CONNECTION.c.id == c.id)
    held_by, held_until = transaction.execute(leased).one()
    operators = or_(
        *(STEP.c.actor.startswith(name) for name in OPERATORS),
        func.coalesce(STEP.c.verb, "").in_(FOR_CUSTOMERS),
        STEP.c.operation.is_not(None),
    )
    by_people = (STEP.c.connection_id == c.id, STEP.c.actor != HEARTBEAT, not_(operators))
    last = transaction.execute(select(STEP).where(*by_people).order_by(STEP.c.seq.desc()).limit(1)).mappings().first()
    told = None
    if last is not None and last["source"] is not None:  # that it was opened tells of nobody who tried anything
        since = (*by_people, STEP.c.source.is_not(None), STEP.c.at >= c.state_since)
        presses = transaction.execute(select(func.count()).select_from(STEP).where(*since)).scalar_one()
        known = {name: last[name] for name in ("at", "actor", "event", "problem")}
        told = Told(**known, presses=presses)
    return _Circumstances(
        told=told,
        held_by=held_by,
        held_until=held_until,
        workers=workers(transaction),
    )


def command_line(verb: Verb, connection_id: str, to: ConnectionState | None = None) -> str:
    """A verb as a command to copy."""
    words = ["linker", verb.value.replace("_", "-"), connection_id]
    words += ["--to", to.value] if to is not None else []
    words += ["--reason", "'…'"] if verb in GRAVE else []
    return " ".join(words)


def link_command(connection_id: str, purpose: str) -> str:
    """The command that makes a link for the customer, to copy."""
    return f"linker link {connection_id} --for {purpose}"


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """An explanation, as `linker explain --json` prints it."""
    c, told, comes, workers = explained.connection, explained.told, explained.next, explained.workers
    shown = connection_json(c)
    return {
        "id": c.id,
        "at": moment(explained.at),
        "where": c.state.value,
        "since": moment(c.state_since),
        "status": shown["status"],
        "waits_for": explained.waits_for.value,
        "owner": explained.owner.value if explained.owner else None,
        "problem": shown["problem"],
        "replacement_problem": shown["replacement_problem"],
        "doubt": shown["doubt"],
        "last_look": shown["last_look"],
        "told": {**vars(told), "at": moment(told.at)} if told else None,
        "next": {
            "duty": comes.duty.value,
            "at": moment(comes.at),
            "gives_up_at": moment(comes.gives_up_at),
            "gives_up_in": comes.gives_up_in.value if comes.gives_up_in else None,
            "gives_up_as": comes.gives_up_as.value if comes.gives_up_as else None,
        },
        "workers": {
            "alive": workers.alive,
            "last_beat_at": moment(workers.last_beat_at),
            "held_by": workers.held_by,
            "held_until": moment(workers.held_until),
        },
        "advance": foresight_json(explained.advance),
        "commands": [
            *(command_line(verb, c.id, to) for verb, to in explained.verbs),
            *([link_command(c.id, explained.link)] if explained.link else []),
        ],
        "connection": shown,
    }


def foresight_json(foresight: Foresight) -> dict[str, Any]:
    """What a verb would do."""
    return {
        "skipped": foresight.hindrance.value if foresight.hindrance else None,
        "duty": foresight.duty.value,
        "calls": foresight.calls,
        "to": foresight.to.value if foresight.to else None,
        "answers": [foreseen_json(each) for each in foresight.answers],
    }
