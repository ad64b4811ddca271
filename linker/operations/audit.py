"""The audit: every change by hand, by whom, why, by which verb and in which operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import select, text, tuple_

from linker.database.database import Database
from linker.persistence.tables import BY_HAND, CONNECTION, STEP
from linker.serialization import moment

#: How many are read at a time.
PAGE_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One change by hand."""

    at: datetime
    connection_id: str
    owner: str
    seq: int
    actor: str
    verb: str
    #: What happened, and from which state to which.
    event: str
    source: str | None
    target: str
    reason: str | None
    problem: str | None
    operation: str | None
    #: The e-mail of the recruiter: a customer's data, which is told on request only.
    email: str | None


async def read_audit(
    database: Database,
    *,
    since: datetime,
    actor: str | None = None,
    after: AuditEntry | None = None,
) -> list[AuditEntry]:
    """A page of the audit, oldest first. Raises StoreUnavailable."""
    at = (STEP.c.at, STEP.c.connection_id, STEP.c.seq)
    query = (
        select(STEP, CONNECTION.c.owner, CONNECTION.c.recruiter_email)
        .join(CONNECTION, CONNECTION.c.id == STEP.c.connection_id)
        .where(text(BY_HAND), STEP.c.at >= since)
        .order_by(*at)
        .limit(PAGE_ROWS)
    )
    if actor is not None:
        query = query.where(STEP.c.actor == actor)
    if after is not None:
        query = query.where(tuple_(*at) > (after.at, after.connection_id, after.seq))

    def work(transaction: Transaction) -> list[AuditEntry]:
        return [_entry(row) for row in transaction.execute(query).mappings()]

    return await database.read(work)


def _entry(row: Mapping[Any, Any]) -> AuditEntry:
    same = ("at", "connection_id", "owner", "seq", "actor", "verb", "event", "source", "target", "reason", "problem")
    return AuditEntry(**{name: row[name] for name in same}, operation=row["operation"], email=row["recruiter_email"])


def audit_json(entry: AuditEntry, *, personal: bool) -> dict[str, Any]:
    """A change by hand as JSON. `personal`: with the data of people."""
    told = {
        "at": moment(entry.at),
        "id": entry.connection_id,
        "owner": entry.owner,
        "seq": entry.seq,
        "actor": entry.actor,
        "verb": entry.verb,
        "event": entry.event,
        "from": entry.source,
        "to": entry.target,
        "reason": entry.reason if personal or entry.reason is None else without_emails(entry.reason),
        "problem": entry.problem,
        "operation": entry.operation,
    }
    return {**told, "email": entry.email} if personal else told


def without_emails(said: str) -> str:
    """A text with e-mail addresses blotted out."""
    return " ".join("…@…" if "@" in word else word for word in said.split(" "))
