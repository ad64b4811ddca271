"""What a connection, a step and an announcement look like from outside: JSON, without any secret."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from linker.engine.ports import Settlement
from states.connection import Connection, Credential, Doubt, Problem, Recruiter, evolve
from states.history import Step


@lru_cache(maxsize=1024)
def moment(at: datetime | date | None) -> str | None:
    """A time as ISO 8601, in UTC; a day as it is."""
    if at is None:
        return None
    if isinstance(at, datetime):
        utc = at if at.tzinfo is UTC else at.astimezone(UTC)
        return utc.isoformat()[: -len("+00:00")] + "Z"
    return at.isoformat()


def connection_json(c: Connection) -> dict[str, Any]:
    """A connection, as `linker show --json` prints it and as webhooks carry it."""
    return {
        "id": c.id,
        "owner": c.owner,
        "state": c.state.value,
        "state_since": moment(c.state_since),
        "problem": problem_json(c.problem),
        "replacement_problem": problem_json(c.replacement_problem),
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
        "paused_at": moment(c.paused_at),
        "closed_at": moment(c.closed_at),
        "metadata": dict(c.metadata),
        "version": c.version,
        "created_at": moment(c.created_at),
        "updated_at": moment(c.updated_at),
    }


def problem_json(problem: Problem | None) -> dict[str, Any] | None:
    """A problem with its owner and advice; null if there is none."""
    if problem is None:
        return None
    advice = problem.advice
    return {
        "code": problem.code.value,
        "owner": advice.owner.value,
        "message": problem.message,
        "action": advice.action,
        "since": moment(problem.since),
        "detail": problem.detail,
        "field": advice.field,
        "next_look": advice.next_look,
    }


def _account(c: Connection) -> dict[str, Any] | None:
    account = c.account
    return {"id": account.id, "name": account.name, "subdomain": account.subdomain} if account else None


def _recruiter(recruiter: Recruiter | None) -> dict[str, Any] | None:
    return {"name": recruiter.name, "email": recruiter.email, "id": recruiter.id} if recruiter else None


def _token(held: Credential | None) -> dict[str, Any] | None:
    return {"expires_on": moment(held.expires_on), "fingerprint": held.fingerprint} if held else None


def _doubt(doubt: Doubt | None) -> dict[str, Any] | None:
    return {"code": doubt.code.value, "count": doubt.count, "since": moment(doubt.since)} if doubt else None


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
        "at": moment(step.at),
    }


def payload(one: Settlement) -> dict[str, Any]:
    """What an announcement tells the host: the connection as it is after the transition."""
    assert one.step is not None, "every announcement belongs to a step"
    after = evolve(one.after, version=one.before.version + 1, updated_at=one.step.at)
    return {"type": one.announcement, "timestamp": moment(one.step.at), "data": connection_json(after)}
