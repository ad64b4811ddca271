"""Where rows and facts meet: the columns of a connection, and the connection of a row."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Dialect, LargeBinary, Text, cast, literal

from linker.encryption import key_id_of
from linker.engine.ports import Settlement
from linker.errors import RowUnreadable
from linker.persistence.selections import searched_text
from linker.persistence.tables import CONNECTION
from linker.serialization import payload
from states.connection import (
    Account,
    Connection,
    ConnectionState,
    Credential,
    Doubt,
    LastLook,
    Permissions,
    Problem,
    Recruiter,
    restore,
)
from states.history import Step
from states.problems import TRANSIENT, ProblemCode

Columns = dict[str, Any]


def _credential(prefix: str) -> Callable[[Credential | None], Columns]:
    def columns(held: Credential | None) -> Columns:
        return {
            f"{prefix}_subdomain": held.subdomain if held else None,
            f"{prefix}_sealed": held.sealed if held else None,
            f"{prefix}_key_id": key_id_of(held.sealed) if held else None,
            f"{prefix}_fingerprint": held.fingerprint if held else None,
            f"{prefix}_expires_on": held.expires_on if held else None,
        }

    return columns


def _problem(prefix: str) -> Callable[[Problem | None], Columns]:
    def columns(problem: Problem | None) -> Columns:
        return {
            f"{prefix}_code": problem.code.value if problem else None,
            f"{prefix}_since": problem.since if problem else None,
            f"{prefix}_params": dict(problem.params) if problem and problem.params else None,
        }

    return columns


def _doubt(doubt: Doubt | None) -> Columns:
    return {
        "doubt_code": doubt.code.value if doubt else None,
        "doubt_count": doubt.count if doubt else None,
        "doubt_since": doubt.since if doubt else None,
    }


def _permissions(allowed: Permissions | None) -> Columns:
    kept = {name: list(getattr(allowed, name)) for name in ("needed", "verified", "missing")} if allowed else None
    return {"permissions": kept}


def _account(account: Account | None) -> Columns:
    return {
        "account_id": account.id if account else None,
        "account_name": account.name if account else None,
        "account_subdomain": account.subdomain if account else None,
    }


def _recruiter(recruiter: Recruiter | None) -> Columns:
    return {
        "recruiter_name": recruiter.name if recruiter else None,
        "recruiter_email": recruiter.email if recruiter else None,
        "recruiter_id": recruiter.id if recruiter else None,
    }


def _last_look(look: LastLook | None) -> Columns:
    return {
        "last_look_at": look.at if look else None,
        "last_look_call": look.call if look else None,
        "last_look_status": look.status if look else None,
        "last_look_ms": look.ms if look else None,
        "last_look_by": look.by if look else None,
        "last_look_verdict": look.verdict if look else None,
        "last_look_told_at": look.told_at if look else None,
    }


#: The facts that are not kept as they are, most of them in several columns; every other is a column of its own name.
_SPREAD: dict[str, Callable[[Any], Columns]] = {
    "state": lambda state: {"state": state.value},
    "metadata": lambda metadata: {"metadata": dict(metadata)},
    "token": _credential("token"),
    "candidate": _credential("candidate"),
    "held_token": _credential("held"),
    "problem": _problem("problem"),
    "replacement_problem": _problem("replacement_problem"),
    "doubt": _doubt,
    "permissions": _permissions,
    "account": _account,
    "recruiter": _recruiter,
    "last_look": _last_look,
}
#: The facts that people search by.
_SEARCHED = {"id", "owner", "key", "subdomain", "account", "recruiter", "metadata"}
#: What the store itself keeps about a connection.
_KEPT = {"version", "last_seq", "updated_at"}
_FACTS = tuple(field.name for field in fields(Connection) if field.name not in _KEPT)


def changed_columns(before: Connection | None, after: Connection) -> Columns:
    """The columns of what differs, with their new values; all of them if there was nothing before."""
    columns: Columns = {}
    were, are = vars(before) if before else {}, vars(after)
    searched = before is None
    for fact in _FACTS:
        value = are[fact]
        if were and were[fact] is value:
            continue
        spread = _SPREAD.get(fact)
        columns.update(spread(value) if spread else {fact: value})
        searched = searched or fact in _SEARCHED
    if searched:
        is_new = before is None or searched_text(before) != searched_text(after)
        columns |= {"searched": searched_text(after)} if is_new else {}
    if before and before.recruiter and after.recruiter and before.recruiter.email == after.recruiter.email:
        columns.pop("recruiter_email", None)  # it was found: SQLite would write the index of what stays as it is
    return columns


#: What reading a row raises that somebody wrote by other means.
UNREADABLE = (ValueError, TypeError, ArithmeticError, RecursionError)


class Reader:
    """Reads connections out of what the driver gives for the columns of the table, in their order."""

    def __init__(self, dialect: Dialect) -> None:
        """Look up once how this engine's values are read."""
        self._names = tuple(CONNECTION.c.keys())
        read = [
            (name, column.type.dialect_impl(dialect).result_processor(dialect, None))
            for name, column in CONNECTION.c.items()
        ]
        self._read = [(name, take) for name, take in read if take is not None]

    def connection(self, values: Sequence[Any]) -> Connection:
        """The connection that a row holds. Raises RowUnreadable, which quotes none of its values."""
        try:
            row = dict(zip(self._names, values, strict=True))
            for name, take in self._read:
                if row[name] is not None:
                    row[name] = take(row[name])
            return connection(row)
        except UNREADABLE as error:
            cause = type(error).__name__
        raise unreadable(values[0], cause)


def unreadable(connection_id: object, cause: str, *, what: str = "connection") -> RowUnreadable:
    """The error that a row is which cannot be read, of a connection or a `step` of one."""
    return RowUnreadable(what, id=shown(connection_id), cause=cause)


def is_text(stored: object) -> bool:
    """True for a whole text: SQLite keeps whatever somebody writes, also bytes that are none, and half characters."""
    try:
        return isinstance(stored, str) and bool(stored.encode())
    except UnicodeEncodeError:
        return False


def shown(connection_id: object) -> str:
    """An id as it can be printed, also if it is damaged."""
    return str(connection_id).encode(errors="surrogateescape").decode(errors="replace")


def stored_id(connection_id: Any) -> Any:
    """An id to compare with, also if it is damaged."""
    if is_text(connection_id) or not isinstance(connection_id, str):
        return connection_id
    return cast(literal(connection_id.encode(errors="surrogateescape"), LargeBinary), Text)


def _refuse_damaged_text(row: Mapping[Any, Any]) -> None:
    """Raise UnicodeEncodeError if a text of a row is damaged."""
    "".join([value for value in row.values() if isinstance(value, str)]).encode()


def connection(row: Mapping[Any, Any]) -> Connection:
    """The connection that a row of the table holds. Raises what UNREADABLE names."""
    _refuse_damaged_text(row)
    account = recruiter = doubt = last_look = None
    if row["account_id"] is not None:
        account = Account(id=row["account_id"], name=row["account_name"], subdomain=row["account_subdomain"])
    if row["recruiter_email"] is not None:
        recruiter = Recruiter(name=row["recruiter_name"], email=row["recruiter_email"], id=row["recruiter_id"])
    if row["doubt_code"] is not None:
        doubt = Doubt(code=ProblemCode(row["doubt_code"]), count=row["doubt_count"], since=row["doubt_since"])
    if row["last_look_at"] is not None:
        last_look = LastLook(
            at=row["last_look_at"],
            call=row["last_look_call"],
            status=row["last_look_status"],
            ms=row["last_look_ms"],
            by=row["last_look_by"],
            verdict=row["last_look_verdict"],
            told_at=row["last_look_told_at"],
        )
    return restore(
        id=row["id"],
        owner=row["owner"],
        key=row["key"],
        created_at=row["created_at"],
        state=ConnectionState(row["state"]),
        state_since=row["state_since"],
        metadata=row["metadata"],
        subdomain=row["subdomain"],
        account=account,
        recruiter=recruiter,
        token=_read_credential(row, "token"),
        candidate=_read_credential(row, "candidate"),
        held_token=_read_credential(row, "held"),
        held_until=row["held_until"],
        permissions=_read_permissions(row["permissions"]),
        problem=_read_problem(row, "problem"),
        replacement_problem=_read_problem(row, "replacement_problem"),
        doubt=doubt,
        attempts=row["attempts"],
        checks=row["checks"],
        due_at=row["due_at"],
        not_before=row["not_before"],
        deadline=row["deadline"],
        linked_at=row["linked_at"],
        last_ok_at=row["last_ok_at"],
        refused_at=row["refused_at"],
        troubled_since=row["troubled_since"],
        last_look=last_look,
        paused_at=row["paused_at"],
        closed_at=row["closed_at"],
        watched_since=row["watched_since"],
        watched_until=row["watched_until"],
        expiry_told=row["expiry_told"],
        reported_at=row["reported_at"],
        used_at=row["used_at"],
        version=row["version"],
        last_seq=row["last_seq"],
        updated_at=row["updated_at"],
    )


def _read_credential(row: Mapping[Any, Any], prefix: str) -> Credential | None:
    if row[f"{prefix}_sealed"] is None:
        return None
    return Credential(
        subdomain=row[f"{prefix}_subdomain"],
        sealed=row[f"{prefix}_sealed"],
        fingerprint=row[f"{prefix}_fingerprint"],
        expires_on=row[f"{prefix}_expires_on"],
    )


def _read_permissions(kept: Mapping[str, Any] | None) -> Permissions | None:
    return None if kept is None else Permissions(**{name: tuple(names) for name, names in kept.items()})


def _read_problem(row: Mapping[Any, Any], prefix: str) -> Problem | None:
    code = row[f"{prefix}_code"]
    if code is None:
        return None
    known = ProblemCode(code)
    lasting = prefix == "problem" and known in TRANSIENT and row["troubled_since"] is not None
    return Problem(code=known, since=row[f"{prefix}_since"], params=row[f"{prefix}_params"] or {}, lasting=lasting)


def step_columns(connection_id: str, seq: int, step: Step) -> Columns:
    """The columns of a step."""
    return {
        "connection_id": connection_id,
        "seq": seq,
        "event": step.event,
        "source": step.source.value if step.source else None,
        "target": step.target.value,
        "at": step.at,
        "actor": step.actor,
        "reason": step.reason,
        "problem": step.problem.value if step.problem else None,
        "evidence": dict(step.evidence),
        "verb": step.verb,
        "operation": step.operation,
    }


def announcement_columns(one: Settlement) -> Columns:
    """The columns of an announcement, which is due at once on both of its channels."""
    assert one.step is not None, "every announcement belongs to a step"
    return {
        "message_id": f"msg_{secrets.token_hex(12)}",
        "connection_id": one.after.id,
        "seq": one.before.last_seq + 1,
        "type": one.announcement,
        "payload": payload(one),
        "created_at": one.step.at,
        "due_at": one.step.at,
        "hook_due_at": one.step.at,
        "attempts": 0,
        "delivered_to": [],
    }


def step(row: Mapping[Any, Any]) -> Step:
    """The step that a row of the table holds. Raises what UNREADABLE names."""
    _refuse_damaged_text(row)
    return Step(
        seq=row["seq"],
        event=row["event"],
        source=ConnectionState(row["source"]) if row["source"] else None,
        target=ConnectionState(row["target"]),
        at=row["at"],
        actor=row["actor"],
        reason=row["reason"],
        problem=ProblemCode(row["problem"]) if row["problem"] else None,
        evidence=row["evidence"],
        verb=row["verb"],
        operation=row["operation"],
    )
