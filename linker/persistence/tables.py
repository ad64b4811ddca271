"""The tables. Each has a name that begins with `linker_`, so that it meets none of a host's; so do indexes and keys.

Enums are lower-case text; times are aware, in UTC.

What is due is found through partial indexes, so that the cost of a sweep grows with what is due and not with what is
stored. The rows are written by `linker.persistence.connection_store` alone; the schema changes by a migration alone.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, Text, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from linker.database.column_types import RowId, UtcTime


def _text(*, null: bool = True, unique: bool = False) -> Any:
    return Field(default=None, sa_column=Column(Text(), nullable=null, unique=unique or None))


def _time(*, null: bool = True) -> Any:
    return Field(default=None, sa_column=Column(UtcTime(), nullable=null))


def _json(name: str | None = None, *, null: bool = True) -> Any:
    return Field(sa_column=Column(name, JSON(none_as_null=True), nullable=null))


def _connection_id(*, primary_key: bool = False) -> Any:
    owner = ForeignKey("linker_connection.id", ondelete="CASCADE")
    return Field(sa_column=Column(Text(), owner, primary_key=primary_key, nullable=False))


def _where(condition: str) -> dict[str, Any]:
    """A partial index, on both engines."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# Conditions of partial indexes. A query that wants to go by the index repeats the condition to the letter.

#: Connections that may need somebody: only a superset of those that do, because the law decides which problems count.
TROUBLED = (
    "closed_at IS NULL AND (state = 'failed' OR problem_code IS NOT NULL OR replacement_problem_code IS NOT NULL "
    "OR paused_at IS NOT NULL)"
)
PAUSED = "closed_at IS NULL AND paused_at IS NOT NULL"
CLOSED = "closed_at IS NOT NULL"
IS_OPEN = "closed_at IS NULL"
#: Where an owner has each key once: a connection that was closed gives its key free.
OPEN_WITH_KEY = "key IS NOT NULL AND closed_at IS NULL"
#: Connections whose token was ever refused, and those whose account answered well: what an incident is seen by.
REFUSED = "refused_at IS NOT NULL AND closed_at IS NULL"
WELL = "last_ok_at IS NOT NULL AND account_id IS NOT NULL AND closed_at IS NULL"
#: Open connections that are not linked: few, and what operators look at.
STANDING = "closed_at IS NULL AND state <> 'linked'"
#: Steps that were done by a verb of an operator's.
BY_HAND = "verb IS NOT NULL"
#: Steps with an earlier step before them that is still kept.
CONTINUES = "seq > 1 AND pruned_at IS NULL"
#: Announcements that nobody is owed any more, on neither channel.
OVER = "due_at IS NULL AND hook_due_at IS NULL"
#: Dead letters, on each channel.
DEAD, HOOK_DEAD = "dead_at IS NOT NULL", "hook_dead_at IS NOT NULL"


class Table(SQLModel, registry=registry()):
    """The root of our tables, with a registry of their own: a host's SQLModel tables never meet them."""


class ConnectionRow(Table, table=True):
    """A connection. `version` is the fencing token, the lease says who attends it, `law` the law that decided."""

    __tablename__: ClassVar[str] = "linker_connection"
    __table_args__: ClassVar[Any] = (
        Index("linker_connection_due", "due_at", **_where("due_at IS NOT NULL")),
        Index(
            "linker_connection_account_once",
            "owner",
            "account_id",
            unique=True,
            **_where("account_id IS NOT NULL AND closed_at IS NULL"),
        ),
        Index("linker_connection_recruiter_once", "recruiter_email", unique=True),
        Index("linker_connection_state", "state", "state_since", "id", **_where(IS_OPEN)),
        Index("linker_connection_owner", "owner", "created_at"),
        Index("linker_connection_account", "account_id"),
        Index("linker_connection_account_subdomain", "account_subdomain"),
        Index("linker_connection_open", "created_at", "id", "searched", "closed_at", **_where(IS_OPEN)),
        Index("linker_connection_since", "state_since", "id", **_where(IS_OPEN)),
        Index("linker_connection_problem", "problem_code", "state_since", "id", **_where("problem_code IS NOT NULL")),
        Index("linker_connection_expires", "token_expires_on", "id", **_where("token_expires_on IS NOT NULL")),
        Index("linker_connection_standing", "state", "problem_code", "closed_at", **_where(STANDING)),
        Index("linker_connection_ended", "created_at", "id", **_where(CLOSED)),
        Index("linker_connection_subdomain", "subdomain", **_where("subdomain IS NOT NULL AND closed_at IS NULL")),
        Index("linker_connection_token_key", "token_key_id"),
        Index("linker_connection_candidate_key", "candidate_key_id"),
        Index("linker_connection_troubled", "closed_at", "state_since", "id", **_where(TROUBLED)),
        Index("linker_connection_paused", "closed_at", "state_since", "id", **_where(PAUSED)),
        Index("linker_connection_closed", "closed_at", **_where(CLOSED)),
        Index("linker_connection_key_once", "owner", "key", unique=True, **_where(OPEN_WITH_KEY)),
        Index("linker_connection_refused", "refused_at", **_where(REFUSED)),
        Index("linker_connection_well", "last_ok_at", **_where(WELL)),
    )

    id: str = Field(sa_column=Column(Text(), primary_key=True))
    owner: str = _text(null=False)
    key: str | None = _text()
    details: dict[str, str] = _json("metadata", null=False)
    state: str = _text(null=False)
    state_since: datetime = _time(null=False)
    subdomain: str | None = _text()
    account_id: str | None = _text()
    account_name: str | None = _text()
    account_subdomain: str | None = _text()
    recruiter_name: str | None = _text()
    recruiter_email: str | None = _text()
    recruiter_id: str | None = _text()
    token_subdomain: str | None = _text()
    token_sealed: str | None = _text()
    token_key_id: str | None = _text()
    token_fingerprint: str | None = _text()
    token_expires_on: date | None = None
    candidate_subdomain: str | None = _text()
    candidate_sealed: str | None = _text()
    candidate_key_id: str | None = _text()
    candidate_fingerprint: str | None = _text()
    candidate_expires_on: date | None = None
    held_subdomain: str | None = _text()
    held_sealed: str | None = _text()
    held_key_id: str | None = _text()
    held_fingerprint: str | None = _text()
    held_expires_on: date | None = None
    held_until: datetime | None = _time()
    problem_code: str | None = _text()
    problem_since: datetime | None = _time()
    problem_params: dict[str, Any] | None = _json()
    replacement_problem_code: str | None = _text()
    replacement_problem_since: datetime | None = _time()
    replacement_problem_params: dict[str, Any] | None = _json()
    doubt_code: str | None = _text()
    doubt_count: int | None = None
    doubt_since: datetime | None = _time()
    attempts: int = 0
    checks: int = 0
    due_at: datetime | None = _time()
    not_before: datetime | None = _time()
    deadline: datetime | None = _time()
    linked_at: datetime | None = _time()
    last_ok_at: datetime | None = _time()
    refused_at: datetime | None = _time()
    paused_at: datetime | None = _time()
    closed_at: datetime | None = _time()
    created_at: datetime = _time(null=False)
    updated_at: datetime = _time(null=False)
    version: int = 1
    last_seq: int = 0
    lease_holder: str | None = _text()
    lease_until: datetime | None = _time()
    law: str = _text(null=False)
    expiry_told: date | None = None
    troubled_since: datetime | None = _time()
    watched_since: datetime | None = _time()
    watched_until: datetime | None = _time()
    last_look_at: datetime | None = _time()
    last_look_call: str | None = _text()
    last_look_status: int | None = None
    last_look_ms: int | None = None
    last_look_by: str | None = _text()
    last_look_verdict: str | None = _text()
    last_look_told_at: datetime | None = _time()
    permissions: dict[str, Any] | None = _json()
    reported_at: datetime | None = _time()
    used_at: datetime | None = _time()
    searched: str | None = _text()


class StepRow(Table, table=True):
    """A line of history; `seq` counts without a gap for each connection, from 1 until the oldest are pruned.

    `pruned_at` is set on the first one that is left, when those before it went.
    """

    __tablename__: ClassVar[str] = "linker_step"
    __table_args__: ClassVar[Any] = (
        Index("linker_step_continues", "at", **_where(CONTINUES)),
        Index("linker_step_by_hand", "at", "connection_id", "seq", **_where(BY_HAND)),
    )

    connection_id: str = _connection_id(primary_key=True)
    seq: int = Field(sa_column=Column(Integer(), primary_key=True, autoincrement=False))
    event: str = _text(null=False)
    source: str | None = _text()
    target: str = _text(null=False)
    at: datetime = _time(null=False)
    actor: str = _text(null=False)
    reason: str | None = _text()
    problem: str | None = _text()
    evidence: dict[str, Any] = _json(null=False)
    pruned_at: datetime | None = _time()
    operation: str | None = _text()
    verb: str | None = _text()


class OutboxRow(Table, table=True):
    """An announcement to the host, written in the commit of the transition that it announces.

    It goes by two channels that know nothing of each other: to the handlers, and (`hook_…`) to the webhook. On each it
    is due until it was delivered, given up (`dead_at`), dropped by an operator, or had nobody to go to for too long:
    then none of the three times is set. `delivered_to` names the handlers that have it; `message_id` is stable over all
    tries.
    """

    __tablename__: ClassVar[str] = "linker_outbox"
    __table_args__: ClassVar[Any] = (
        Index("linker_outbox_due", "type", "due_at", **_where("due_at IS NOT NULL")),
        Index("linker_outbox_order", "connection_id", "id"),
        Index("linker_outbox_hook_due", "hook_due_at", "id", **_where("hook_due_at IS NOT NULL")),
        Index("linker_outbox_over", "created_at", **_where(OVER)),
        Index("linker_outbox_dead", "connection_id", "id", **_where(DEAD)),
        Index("linker_outbox_hook_dead", "connection_id", "id", **_where(HOOK_DEAD)),
    )

    id: int | None = Field(default=None, sa_column=Column(RowId, primary_key=True, autoincrement=True))
    message_id: str = _text(null=False, unique=True)
    connection_id: str = _connection_id()
    seq: int = Field(sa_column=Column(Integer(), nullable=False))
    type: str = _text(null=False)
    payload: dict[str, Any] = _json(null=False)
    created_at: datetime = _time(null=False)
    due_at: datetime | None = _time()
    attempts: int = 0
    delivered_to: list[str] = _json(null=False)
    last_error: str | None = _text()
    delivered_at: datetime | None = _time()
    dead_at: datetime | None = _time()
    lease_holder: str | None = _text()
    lease_until: datetime | None = _time()
    give_up_at: datetime | None = _time()
    dropped_at: datetime | None = _time()
    hook_due_at: datetime | None = _time()
    hook_attempts: int = Field(default=0, sa_column=Column(Integer(), nullable=False, server_default="0"))
    hook_last_error: str | None = _text()
    hook_delivered_at: datetime | None = _time()
    hook_dead_at: datetime | None = _time()
    hook_lease_holder: str | None = _text()
    hook_lease_until: datetime | None = _time()
    hook_give_up_at: datetime | None = _time()
    hook_dropped_at: datetime | None = _time()


class LinkRow(Table, table=True):
    """A link to the connection dialog. `public_id` stands in its URL; of its secret only a hash is kept."""

    __tablename__: ClassVar[str] = "linker_link"
    __table_args__: ClassVar[Any] = (Index("linker_link_connection", "connection_id"),)

    id: int | None = Field(default=None, sa_column=Column(RowId, primary_key=True, autoincrement=True))
    public_id: str = _text(null=False, unique=True)
    connection_id: str = _connection_id()
    secret_hash: str = _text(null=False)
    purpose: str = _text(null=False)
    embed_origin: str | None = _text()
    language: str | None = _text()
    contact: str | None = _text()
    created_at: datetime = _time(null=False)
    created_by: str = _text(null=False)
    expires_at: datetime = _time(null=False)
    revoked_at: datetime | None = _time()
    attempts: int = 0
    entries_until: datetime | None = _time()


class RateLimitRow(Table, table=True):
    """How far the calls that share a limit are spread out: Unix seconds. Locked in the claim that counts on it."""

    __tablename__: ClassVar[str] = "linker_rate_limit"

    name: str = Field(sa_column=Column(Text(), primary_key=True))
    spread_until: float
    blocked_until: float | None = None
    calls: list[Any] | None = _json()


class IncidentRow(Table, table=True):
    """The latest time in which Workable refused many accounts at once; `ended_at` is null while it lasts."""

    __tablename__: ClassVar[str] = "linker_incident"

    name: str = Field(sa_column=Column(Text(), primary_key=True))
    began_at: datetime = _time(null=False)
    ended_at: datetime | None = _time()


class OperationRow(Table, table=True):
    """What an operator does to many connections: a plan, and how far it has come."""

    __tablename__: ClassVar[str] = "linker_operation"
    __table_args__: ClassVar[Any] = (Index("linker_operation_made", "made_at"),)

    id: str = Field(sa_column=Column(Text(), primary_key=True))
    verb: str = _text(null=False)
    params: dict[str, Any] = _json(null=False)
    selector: dict[str, Any] = _json(null=False)
    reason: str | None = _text()
    actor: str = _text(null=False)
    law: str = _text(null=False)
    made_at: datetime = _time(null=False)
    started_at: datetime | None = _time()
    stopped_at: datetime | None = _time()
    finished_at: datetime | None = _time()
    rate: float
    lease_holder: str | None = _text()
    lease_until: datetime | None = _time()


class OperationItemRow(Table, table=True):
    """One connection of an operation: its version when it was planned, and what became of it."""

    __tablename__: ClassVar[str] = "linker_operation_item"
    __table_args__: ClassVar[Any] = (
        Index("linker_operation_item_left", "operation_id", "position", **_where("outcome IS NULL")),
    )

    operation_id: str = Field(
        sa_column=Column(Text(), ForeignKey("linker_operation.id", ondelete="CASCADE"), primary_key=True)
    )
    position: int = Field(sa_column=Column(Integer(), primary_key=True, autoincrement=False))
    connection_id: str = _text(null=False)
    version: int
    planned: dict[str, Any] = _json(null=False)
    outcome: str | None = _text()
    told: dict[str, Any] | None = _json()
    done_at: datetime | None = _time()


class WorkerRow(Table, table=True):
    """A process that attends connections, and when it last said that it is alive."""

    __tablename__: ClassVar[str] = "linker_worker"

    id: str = Field(sa_column=Column(Text(), primary_key=True))
    host: str = _text(null=False)
    pid: int
    kind: str = _text(null=False)
    version: str = _text(null=False)
    started_at: datetime = _time(null=False)
    last_beat_at: datetime = _time(null=False)


class SchemaVersionRow(Table, table=True):
    """The one row that says which revision the tables have, and which is the oldest program that may write them."""

    __tablename__: ClassVar[str] = "linker_schema_version"

    revision: str = Field(sa_column=Column(Text(), primary_key=True))
    oldest_writer: str = _text(null=False)


def _table(row: Any) -> SqlTable:
    """What statements are made of: SQLModel adds it to each of its classes."""
    table: SqlTable = row.__table__
    return table


CONNECTION = _table(ConnectionRow)
STEP = _table(StepRow)
OUTBOX = _table(OutboxRow)
LINK = _table(LinkRow)
RATE_LIMIT = _table(RateLimitRow)
INCIDENT = _table(IncidentRow)
OPERATION = _table(OperationRow)
OPERATION_ITEM = _table(OperationItemRow)
WORKER = _table(WorkerRow)
SCHEMA_VERSION = _table(SchemaVersionRow)
