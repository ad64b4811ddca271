"""What a connection, a step and an announcement look like from outside: JSON, without any secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from linker.engine.ports import DamagedRow, Settlement
from linker.wording import catalogue, describe
from linker.wording.catalogue import ENGLISH
from states.connection import Connection, Credential, Doubt, LastLook, Permissions, Problem, Recruiter, evolve
from states.description import law_facts
from states.history import Step

#: A connection without facts: its JSON has all keys.
_NOTHING = Connection(
    id="", owner="", created_at=datetime.min.replace(tzinfo=UTC), state_since=datetime.min.replace(tzinfo=UTC)
)


@lru_cache(maxsize=1024)
def moment(at: datetime | date | None) -> str | None:
    """A time as ISO 8601, in UTC; a day as it is."""
    if at is None:
        return None
    if isinstance(at, datetime):
        utc = at if at.tzinfo is UTC else at.astimezone(UTC)
        return utc.isoformat()[: -len("+00:00")] + "Z"
    return at.isoformat()


class Status(StrEnum):
    """Whether a connection is worked on at all, which its state does not tell."""

    OPEN = "open"
    #: An operator keeps it at rest.
    PAUSED = "paused"
    #: It was given up for good: nothing is due, and nothing is the matter any more.
    CLOSED = "closed"
    #: Its row cannot be read.
    DAMAGED = "damaged"


def status_of(c: Connection) -> Status:
    """Whether a connection is worked on at all."""
    if c.closed_at is not None:
        return Status.CLOSED
    return Status.PAUSED if c.paused_at is not None else Status.OPEN


def connection_json(c: Connection, language: str = ENGLISH) -> dict[str, Any]:
    """A connection, as `linker show --json` prints it: with words for people, in a language."""
    return with_words(connection_facts(c), language)


def connection_facts(c: Connection) -> dict[str, Any]:
    """A connection as JSON without any words: problems are codes with parameters. This is what announcements store."""
    return {
        "id": c.id,
        "owner": c.owner,
        "key": c.key,
        "status": status_of(c).value,
        "state": c.state.value,
        "state_since": moment(c.state_since),
        "problem": _problem(c.problem),
        "replacement_problem": _problem(c.replacement_problem),
        "doubt": _doubt(c.doubt),
        "subdomain": c.subdomain,
        "account": _account(c),
        "recruiter": _recruiter(c.recruiter),
        "token": _token(c.token),
        "candidate": _token(c.candidate),
        "attempts": c.attempts,
        "checks": c.checks,
        "due_at": moment(c.due_at),
        "not_before": moment(c.not_before),
        "deadline": moment(c.deadline),
        "linked_at": moment(c.linked_at),
        "last_ok_at": moment(c.last_ok_at),
        "last_look": _last_look(c.last_look),
        "permissions": _permissions(c.permissions),
        "troubled_since": moment(c.troubled_since),
        "paused_at": moment(c.paused_at),
        "closed_at": moment(c.closed_at),
        "metadata": dict(c.metadata),
        "version": c.version,
        "created_at": moment(c.created_at),
        "updated_at": moment(c.updated_at),
    }


def damaged_json(row: DamagedRow) -> dict[str, Any]:
    """What is legible of a connection whose row cannot be read, in the shape of one."""
    keys = connection_facts(_NOTHING)
    return {**dict.fromkeys(keys), "id": row.id, "status": Status.DAMAGED.value, "metadata": {}, "cause": row.cause}


def _problem(problem: Problem | None) -> dict[str, Any] | None:
    if problem is None:
        return None
    return {
        "code": problem.code.value,
        "owner": problem.owner.value,
        "field": problem.field,
        "since": moment(problem.since),
        "next_look": problem.next_look.value,
        "params": dict(problem.params),
    }


def with_words(facts: dict[str, Any], language: str = ENGLISH) -> dict[str, Any]:
    """A connection's JSON with what its problems say to people. Old announcements, which hold words, keep theirs."""
    said = dict(facts)
    for name in ("problem", "replacement_problem"):
        problem = facts.get(name)
        if problem and "message" not in problem:
            words = describe(StoredProblem(problem["code"], problem["params"]), language)
            look = catalogue(language).text(f"next_look.{problem['next_look']}") or problem["next_look"]
            told = {"message": words.message, "action": words.action, "detail": words.detail or words.internal or None}
            said[name] = {**problem, **told, "next_look": look}
    return said


def announced(payload: Mapping[str, Any], language: str = ENGLISH) -> dict[str, Any]:
    """What the host is told: a stored announcement, with words for people."""
    return {**payload, "data": with_words(payload["data"], language)}


def law_json(language: str = ENGLISH) -> dict[str, Any]:
    """The whole law, as `linker states --json` prints it: with words for people, in a language."""
    law = law_facts()
    for problem in law["problems"]:
        words = describe(StoredProblem(problem["code"], {}), language)
        look = catalogue(language).text(f"next_look.{problem['next_look']}")
        problem |= {"message": words.message, "action": words.action, "next_look": look}
    return law


def json_schemas() -> dict[str, Any]:
    """The JSON Schemas of a `connection`, a `step` and an `announcement`; they are files of the package, too."""
    shipped = files("linker") / "schemas"
    return {
        name: json.loads((shipped / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("connection", "step", "announcement")
    }


class StoredProblem(NamedTuple):
    """A problem as JSON holds it."""

    code: str
    params: dict[str, Any]

    @property
    def wording_key(self) -> str:
        """Where its words stand in the catalogue."""
        return f"problem.{self.code}"


def _account(c: Connection) -> dict[str, Any] | None:
    account = c.account
    return {"id": account.id, "name": account.name, "subdomain": account.subdomain} if account else None


def _recruiter(recruiter: Recruiter | None) -> dict[str, Any] | None:
    return {"name": recruiter.name, "email": recruiter.email, "id": recruiter.id} if recruiter else None


def _token(held: Credential | None) -> dict[str, Any] | None:
    return {"expires_on": moment(held.expires_on), "fingerprint": held.fingerprint} if held else None


def _doubt(doubt: Doubt | None) -> dict[str, Any] | None:
    return {"code": doubt.code.value, "count": doubt.count, "since": moment(doubt.since)} if doubt else None


def _permissions(allowed: Permissions | None) -> dict[str, list[str]] | None:
    if allowed is None:
        return None
    return {name: list(getattr(allowed, name)) for name in ("needed", "verified", "missing", "unverified")}


def _last_look(look: LastLook | None) -> dict[str, Any] | None:
    if look is None:
        return None
    return {"at": moment(look.at), "call": look.call, "status": look.status, "ms": look.ms, "by": look.by}


def step_json(step: Step) -> dict[str, Any]:
    """A step, as `linker history --json` prints it."""
    return {
        "seq": step.seq,
        "event": step.event,
        "from": step.source.value if step.source else None,
        "to": step.target.value,
        "actor": step.actor,
        "reason": step.reason,
        "problem": step.problem.value if step.problem else None,
        "evidence": dict(step.evidence),
        "verb": step.verb,
        "operation": step.operation,
        "at": moment(step.at),
    }


def payload(one: Settlement) -> dict[str, Any]:
    """What an announcement stores: the connection as it is after the transition, without words for people."""
    assert one.step is not None, "every announcement belongs to a step"
    after = evolve(one.after, version=one.before.version + 1, updated_at=one.step.at)
    return {"type": one.announcement, "timestamp": moment(one.step.at), "data": connection_facts(after)}
