"""Explanations as JSON: codes and facts, and the commands that an operator may copy."""

from __future__ import annotations

from typing import Any

from linker.operations.explain import Explanation
from linker.operations.plan import foreseen_json
from linker.operations.verbs import GRAVE
from linker.serialization import connection_json, moment
from states.connection import ConnectionState
from states.explanation import Foresight, Verb


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
