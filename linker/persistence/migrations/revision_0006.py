"""The first revision with names of ours: all tables, as a new database gets them.

What there was before it is brought over by `linker.persistence.migrations.before_0006`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from linker.persistence.migrations import before_0006

REVISION = "0006"
OLDEST_WRITER = "0006"

TEXT = sa.Text()
INTEGER = sa.Integer()
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables and their indexes, and bring over what there was before."""
    connection = op.get_bind()
    before = bool(before_0006.tables_of_before(connection))
    if before:
        before_0006.refuse_alive_leases(connection)
        before_0006.refuse_loss(connection)
    make_tables(op)
    if before:
        before_0006.copy_rows(connection)
        before_0006.drop_tables(connection)
    make_indexes(op)


def make_tables(op: Operations) -> None:
    """Make the tables, without their indexes: rows that are brought over are copied faster so."""
    op.create_table(
        "linker_connection",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("key", TEXT),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("state_since", TIME, nullable=False),
        sa.Column("subdomain", TEXT),
        sa.Column("account_id", TEXT),
        sa.Column("account_name", TEXT),
        sa.Column("account_subdomain", TEXT),
        sa.Column("recruiter_name", TEXT),
        sa.Column("recruiter_email", TEXT),
        sa.Column("recruiter_id", TEXT),
        sa.Column("token_subdomain", TEXT),
        sa.Column("token_sealed", TEXT),
        sa.Column("token_key_id", TEXT),
        sa.Column("token_fingerprint", TEXT),
        sa.Column("token_expires_on", sa.Date()),
        sa.Column("candidate_subdomain", TEXT),
        sa.Column("candidate_sealed", TEXT),
        sa.Column("candidate_key_id", TEXT),
        sa.Column("candidate_fingerprint", TEXT),
        sa.Column("candidate_expires_on", sa.Date()),
        sa.Column("held_subdomain", TEXT),
        sa.Column("held_sealed", TEXT),
        sa.Column("held_key_id", TEXT),
        sa.Column("held_fingerprint", TEXT),
        sa.Column("held_expires_on", sa.Date()),
        sa.Column("held_until", TIME),
        sa.Column("problem_code", TEXT),
        sa.Column("problem_since", TIME),
        sa.Column("problem_params", JSON),
        sa.Column("replacement_problem_code", TEXT),
        sa.Column("replacement_problem_since", TIME),
        sa.Column("replacement_problem_params", JSON),
        sa.Column("doubt_code", TEXT),
        sa.Column("doubt_count", INTEGER),
        sa.Column("doubt_since", TIME),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("checks", INTEGER, nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("not_before", TIME),
        sa.Column("deadline", TIME),
        sa.Column("linked_at", TIME),
        sa.Column("last_ok_at", TIME),
        sa.Column("refused_at", TIME),
        sa.Column("paused_at", TIME),
        sa.Column("closed_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("last_seq", INTEGER, nullable=False),
        sa.Column("lease_holder", TEXT),
        sa.Column("lease_until", TIME),
        sa.Column("law", TEXT, nullable=False),
        sa.Column("expiry_told", sa.Date()),
        sa.Column("troubled_since", TIME),
        sa.Column("watched_since", TIME),
        sa.Column("watched_until", TIME),
        sa.Column("last_look_at", TIME),
        sa.Column("last_look_call", TEXT),
        sa.Column("last_look_status", INTEGER),
        sa.Column("last_look_ms", INTEGER),
        sa.Column("last_look_by", TEXT),
        sa.Column("last_look_verdict", TEXT),
        sa.Column("last_look_told_at", TIME),
        sa.Column("permissions", JSON),
        sa.Column("reported_at", TIME),
        sa.Column("used_at", TIME),
        sa.Column("searched", TEXT),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "linker_step",
        sa.Column("connection_id", TEXT, nullable=False),
        sa.Column("seq", INTEGER, autoincrement=False, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("source", TEXT),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reason", TEXT),
        sa.Column("problem", TEXT),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("pruned_at", TIME),
        sa.Column("operation", TEXT),
        sa.Column("verb", TEXT),
        sa.ForeignKeyConstraint(["connection_id"], ["linker_connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("connection_id", "seq"),
    )
    op.create_table(
        "linker_outbox",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("message_id", TEXT, nullable=False),
        sa.Column("connection_id", TEXT, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("delivered_to", JSON, nullable=False),
        sa.Column("last_error", TEXT),
        sa.Column("delivered_at", TIME),
        sa.Column("dead_at", TIME),
        sa.Column("lease_holder", TEXT),
        sa.Column("lease_until", TIME),
        sa.Column("give_up_at", TIME),
        sa.Column("dropped_at", TIME),
        sa.Column("hook_due_at", TIME),
        sa.Column("hook_attempts", INTEGER, server_default="0", nullable=False),
        sa.Column("hook_last_error", TEXT),
        sa.Column("hook_delivered_at", TIME),
        sa.Column("hook_dead_at", TIME),
        sa.Column("hook_lease_holder", TEXT),
        sa.Column("hook_lease_until", TIME),
        sa.Column("hook_give_up_at", TIME),
        sa.Column("hook_dropped_at", TIME),
        sa.ForeignKeyConstraint(["connection_id"], ["linker_connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
    )
    op.create_table(
        "linker_link",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("public_id", TEXT, nullable=False),
        sa.Column("connection_id", TEXT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("embed_origin", TEXT),
        sa.Column("language", TEXT),
        sa.Column("contact", TEXT),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("entries_until", TIME),
        sa.ForeignKeyConstraint(["connection_id"], ["linker_connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_table(
        "linker_rate_limit",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("spread_until", sa.Float(), nullable=False),
        sa.Column("blocked_until", sa.Float()),
        sa.Column("calls", JSON),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "linker_incident",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "linker_operation",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("verb", TEXT, nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("selector", JSON, nullable=False),
        sa.Column("reason", TEXT),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("law", TEXT, nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("stopped_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("lease_holder", TEXT),
        sa.Column("lease_until", TIME),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "linker_operation_item",
        sa.Column("operation_id", TEXT, nullable=False),
        sa.Column("position", INTEGER, autoincrement=False, nullable=False),
        sa.Column("connection_id", TEXT, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("planned", JSON, nullable=False),
        sa.Column("outcome", TEXT),
        sa.Column("told", JSON),
        sa.Column("done_at", TIME),
        sa.ForeignKeyConstraint(["operation_id"], ["linker_operation.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("operation_id", "position"),
    )
    op.create_table(
        "linker_worker",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("last_beat_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "linker_schema_version",
        sa.Column("revision", TEXT, nullable=False),
        sa.Column("oldest_writer", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("revision"),
    )


def make_indexes(op: Operations) -> None:
    """Make the indexes, from what is there."""
    for name, table, columns, condition in INDEXES:
        where = None if condition is None else sa.text(condition)
        unique = name.endswith("_once")
        op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


#: Each index with its table, its columns and its condition. Those that allow something once say so in their names.
INDEXES: tuple[tuple[str, str, list[str], str | None], ...] = (
    (
        "linker_connection_account_once",
        "linker_connection",
        ["owner", "account_id"],
        "account_id IS NOT NULL AND closed_at IS NULL",
    ),
    ("linker_connection_candidate_key", "linker_connection", ["candidate_key_id"], None),
    ("linker_connection_closed", "linker_connection", ["closed_at"], "closed_at IS NOT NULL"),
    ("linker_connection_due", "linker_connection", ["due_at"], "due_at IS NOT NULL"),
    ("linker_connection_key_once", "linker_connection", ["owner", "key"], "key IS NOT NULL AND closed_at IS NULL"),
    ("linker_connection_owner", "linker_connection", ["owner", "created_at"], None),
    ("linker_connection_recruiter_once", "linker_connection", ["recruiter_email"], None),
    ("linker_connection_state", "linker_connection", ["state", "state_since", "id"], "closed_at IS NULL"),
    ("linker_connection_account", "linker_connection", ["account_id"], None),
    ("linker_connection_account_subdomain", "linker_connection", ["account_subdomain"], None),
    ("linker_connection_open", "linker_connection", ["created_at", "id", "searched", "closed_at"], "closed_at IS NULL"),
    ("linker_connection_since", "linker_connection", ["state_since", "id"], "closed_at IS NULL"),
    (
        "linker_connection_problem",
        "linker_connection",
        ["problem_code", "state_since", "id"],
        "problem_code IS NOT NULL",
    ),
    ("linker_connection_expires", "linker_connection", ["token_expires_on", "id"], "token_expires_on IS NOT NULL"),
    (
        "linker_connection_standing",
        "linker_connection",
        ["state", "problem_code", "closed_at"],
        "closed_at IS NULL AND state <> 'linked'",
    ),
    ("linker_step_by_hand", "linker_step", ["at", "connection_id", "seq"], "verb IS NOT NULL"),
    ("linker_connection_ended", "linker_connection", ["created_at", "id"], "closed_at IS NOT NULL"),
    ("linker_connection_refused", "linker_connection", ["refused_at"], "refused_at IS NOT NULL AND closed_at IS NULL"),
    ("linker_connection_subdomain", "linker_connection", ["subdomain"], "subdomain IS NOT NULL AND closed_at IS NULL"),
    ("linker_connection_token_key", "linker_connection", ["token_key_id"], None),
    (
        "linker_connection_troubled",
        "linker_connection",
        ["closed_at", "state_since", "id"],
        "closed_at IS NULL AND (state = 'failed' OR problem_code IS NOT NULL OR replacement_problem_code IS NOT NULL "
        "OR paused_at IS NOT NULL)",
    ),
    (
        "linker_connection_paused",
        "linker_connection",
        ["closed_at", "state_since", "id"],
        "closed_at IS NULL AND paused_at IS NOT NULL",
    ),
    (
        "linker_connection_well",
        "linker_connection",
        ["last_ok_at"],
        "last_ok_at IS NOT NULL AND account_id IS NOT NULL AND closed_at IS NULL",
    ),
    ("linker_step_continues", "linker_step", ["at"], "seq > 1 AND pruned_at IS NULL"),
    ("linker_outbox_due", "linker_outbox", ["type", "due_at"], "due_at IS NOT NULL"),
    ("linker_outbox_hook_due", "linker_outbox", ["hook_due_at", "id"], "hook_due_at IS NOT NULL"),
    ("linker_outbox_order", "linker_outbox", ["connection_id", "id"], None),
    ("linker_outbox_over", "linker_outbox", ["created_at"], "due_at IS NULL AND hook_due_at IS NULL"),
    ("linker_outbox_dead", "linker_outbox", ["connection_id", "id"], "dead_at IS NOT NULL"),
    ("linker_outbox_hook_dead", "linker_outbox", ["connection_id", "id"], "hook_dead_at IS NOT NULL"),
    ("linker_link_connection", "linker_link", ["connection_id"], None),
    ("linker_operation_made", "linker_operation", ["made_at"], None),
    ("linker_operation_item_left", "linker_operation_item", ["operation_id", "position"], "outcome IS NULL"),
)
