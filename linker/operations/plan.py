"""Plans: what a verb would do to many connections, one by one, as values and as the JSON that people keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from linker.errors import BadInput
from linker.serialization import moment
from states.connection import ConnectionState
from states.duties import Duty
from states.explanation import Change, Foreseen, Hindrance, Verb
from states.problems import ProblemCode

#: The outcome of what is passed over, where it is not `refused`.
_PASSED_OVER = {"not_found": "not_found", Hindrance.DAMAGED.value: "error", Hindrance.NOT_BEFORE.value: "try_again"}


def outcome_of_skipped(why: str) -> str:
    """What the run says of a connection that its plan passes over, by why it does."""
    return _PASSED_OVER.get(why, "refused")


@dataclass(frozen=True, kw_only=True)
class PlannedChange:
    """What a plan says of one connection."""

    id: str
    #: The version that it is carried out at; -1: its row cannot be read.
    version: int
    #: The state that it is in; None: it cannot be read.
    source: ConnectionState | None
    #: The state that it comes to if all goes well; None: nothing is done.
    to: ConnectionState | None
    #: What is owed, as in `find_recruiter`, and how many calls it makes, as a rule.
    duty: str
    calls: int = 0
    #: The account whose calls they are.
    account: str | None = None
    #: Why nothing is done; None: something is. `not_found` for an id that there is not.
    skipped: str | None = None
    #: What each answer of Workable's would make of it.
    answers: tuple[Foreseen, ...] = ()
    #: The row of the law, what is kept and wiped, who is told, what leads back; None if an answer decides that.
    change: Change | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a verb would do to many connections, one by one. Making it changes nothing. Times are aware, in UTC."""

    id: str
    verb: Verb
    actor: str
    reason: str | None
    made_at: datetime
    #: The law that it was foreseen by.
    law: str
    items: tuple[PlannedChange, ...]
    #: What `force` aims at, and what `set_metadata` sets.
    to: ConnectionState | None = None
    texts: Mapping[str, str | None] = field(default_factory=dict)
    #: The words that the connections were selected by, for people to read.
    selector: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acting(self) -> tuple[PlannedChange, ...]:
        """Those that something is done to."""
        return tuple(item for item in self.items if item.skipped is None)


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, as `--dry-run --out` writes it.

    What is foreseen is the same for most connections: each has under `foreseen` its number in the plan's own list.
    """
    numbers: dict[Any, int] = {}
    items = []
    for item in plan.items:
        foreseen = (item.answers, item.change)
        number = numbers.setdefault(foreseen, len(numbers)) if any(foreseen) else None
        items.append({**planned_json(plan, item), "foreseen": number})
    return {
        "id": plan.id,
        "verb": plan.verb.value,
        "reason": plan.reason,
        "actor": plan.actor,
        "made_at": moment(plan.made_at),
        "law": plan.law,
        "to": plan.to.value if plan.to else None,
        "texts": dict(plan.texts),
        "selector": dict(plan.selector),
        "foreseen": [
            {
                "answers": [foreseen_json(each) for each in answers],
                "change": _change_json(change) if change else None,
            }
            for answers, change in numbers
        ],
        "items": items,
    }


def planned_json(plan: Plan, item: PlannedChange) -> dict[str, Any]:
    """What a plan says of one connection; an operation keeps it so."""
    return {
        "id": item.id,
        "version": item.version,
        "from": item.source.value if item.source else None,
        "verb": plan.verb.value,
        "to": item.to.value if item.to else None,
        "calls": item.calls,
        "skipped": item.skipped,
        "duty": item.duty,
        "account": item.account,
    }


def foreseen_json(foreseen: Foreseen) -> dict[str, Any]:
    """What one answer would make of a connection."""
    return {
        "answer": foreseen.answer,
        "event": foreseen.event,
        "to": foreseen.to.value,
        "problem": foreseen.problem.value if foreseen.problem else None,
        "doubted": foreseen.doubted,
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "event": change.event,
        "from": change.source.value,
        "to": change.target.value,
        "if": change.guard,
        "kept": list(change.kept),
        "wiped": list(change.wiped),
        "announced": change.announced,
        "then": change.then.value,
        "back": change.back.value if change.back else None,
        "back_to": change.back_to.value if change.back_to else None,
    }


def _change_from_json(told: Mapping[str, Any]) -> Change:
    return Change(
        event=str(told["event"]),
        source=ConnectionState(told["from"]),
        target=ConnectionState(told["to"]),
        guard=told["if"],
        kept=tuple(map(str, told["kept"])),
        wiped=tuple(map(str, told["wiped"])),
        announced=told["announced"],
        then=Duty(told["then"]),
        back=Verb(told["back"]) if told["back"] else None,
        back_to=ConnectionState(told["back_to"]) if told["back_to"] else None,
    )


def plan_from_json(told: Any) -> Plan:
    """The plan that was written as JSON. Raises BadInput."""
    try:
        foreseen = [_foreseen_from_json(each) for each in told["foreseen"]]
        return Plan(
            id=str(told["id"]),
            verb=Verb(told["verb"]),
            actor=str(told["actor"]),
            reason=told["reason"],
            made_at=datetime.fromisoformat(told["made_at"]),
            law=str(told["law"]),
            to=ConnectionState(told["to"]) if told.get("to") else None,
            texts=dict(told.get("texts") or {}),
            selector=dict(told.get("selector") or {}),
            items=tuple(_planned_from_json(item, foreseen) for item in told["items"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    raise BadInput("plan", "not_a_plan")


def _foreseen_from_json(told: Mapping[str, Any]) -> tuple[tuple[Foreseen, ...], Change | None]:
    answers = tuple(
        Foreseen(
            answer=each["answer"],
            event=each["event"],
            to=ConnectionState(each["to"]),
            problem=ProblemCode(each["problem"]) if each["problem"] else None,
            doubted=bool(each["doubted"]),
        )
        for each in told["answers"]
    )
    return answers, _change_from_json(told["change"]) if told["change"] else None


def _planned_from_json(
    item: Mapping[str, Any], foreseen: list[tuple[tuple[Foreseen, ...], Change | None]]
) -> PlannedChange:
    number = item["foreseen"]
    answers, change = ((), None) if number is None else foreseen[int(number)]
    return PlannedChange(
        id=str(item["id"]),
        version=int(item["version"]),
        source=ConnectionState(item["from"]) if item["from"] else None,
        to=ConnectionState(item["to"]) if item["to"] else None,
        duty=str(item.get("duty", "nothing")),
        calls=int(item["calls"]),
        account=item.get("account"),
        skipped=item["skipped"],
        answers=answers,
        change=change,
    )
