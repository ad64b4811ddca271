"""The four tables: connection, step, outbox, link.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = "'awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed'"
PROBLEMS = (
    "'token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', "
    "'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', "
    "'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned'"
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "connection",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", TIME, nullable=False),
        sa.Column("subdomain", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("account_name", sa.Text(), nullable=True),
        sa.Column("account_subdomain", sa.Text(), nullable=True),
        sa.Column("recruiter_name", sa.Text(), nullable=True),
        sa.Column("recruiter_email", sa.Text(), nullable=True),
        sa.Column("recruiter_id", sa.Text(), nullable=True),
        sa.Column("token_subdomain", sa.Text(), nullable=True),
        sa.Column("token_sealed", sa.Text(), nullable=True),
        sa.Column("token_key_id", sa.Text(), nullable=True),
        sa.Column("token_fingerprint", sa.Text(), nullable=True),
        sa.Column("token_expires_on", sa.Date(), nullable=True),
        sa.Column("candidate_subdomain", sa.Text(), nullable=True),
        sa.Column("candidate_sealed", sa.Text(), nullable=True),
        sa.Column("candidate_key_id", sa.Text(), nullable=True),
        sa.Column("candidate_fingerprint", sa.Text(), nullable=True),
        sa.Column("candidate_expires_on", sa.Date(), nullable=True),
        sa.Column("problem_code", sa.Text(), nullable=True),
        sa.Column("problem_since", TIME, nullable=True),
        sa.Column("problem_detail", sa.Text(), nullable=True),
        sa.Column("replacement_problem_code", sa.Text(), nullable=True),
        sa.Column("replacement_problem_since", TIME, nullable=True),
        sa.Column("replacement_problem_detail", sa.Text(), nullable=True),
        sa.Column("doubt_code", sa.Text(), nullable=True),
        sa.Column("doubt_count", sa.Integer(), nullable=True),
        sa.Column("doubt_since", TIME, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("deadline", TIME, nullable=True),
        sa.Column("linked_at", TIME, nullable=True),
        sa.Column("last_ok_at", TIME, nullable=True),
        sa.Column("paused_at", TIME, nullable=True),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("lease_holder", sa.Text(), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("law", sa.Text(), nullable=False),
        sa.CheckConstraint(f"doubt_code IN ({PROBLEMS})", name="doubt_code_known"),
        sa.CheckConstraint(f"problem_code IN ({PROBLEMS})", name="problem_code_known"),
        sa.CheckConstraint(f"replacement_problem_code IN ({PROBLEMS})", name="replacement_problem_code_known"),
        sa.CheckConstraint(f"state IN ({STATES})", name="state_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "connection_account_once",
        "connection",
        ["owner", "account_id"],
        unique=True,
        sqlite_where=sa.text("account_id IS NOT NULL AND closed_at IS NULL"),
        postgresql_where=sa.text("account_id IS NOT NULL AND closed_at IS NULL"),
    )
    op.create_index("connection_candidate_key", "connection", ["candidate_key_id"], unique=False)
    op.create_index(
        "connection_due",
        "connection",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("connection_owner", "connection", ["owner", "created_at"], unique=False)
    op.create_index("connection_recruiter_once", "connection", ["recruiter_email"], unique=True)
    op.create_index("connection_state", "connection", ["state", "created_at"], unique=False)
    op.create_index("connection_token_key", "connection", ["token_key_id"], unique=False)
    op.create_table(
        "link",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("link_connection", "link", ["connection_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_to", sa.JSON(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("delivered_at", TIME, nullable=True),
        sa.Column("dead_at", TIME, nullable=True),
        sa.Column("lease_holder", sa.Text(), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["type", "due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("outbox_order", "outbox", ["connection_id", "id"], unique=False)
    op.create_table(
        "step",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.CheckConstraint(f"problem IN ({PROBLEMS})", name="problem_known"),
        sa.CheckConstraint(f"source IN ({STATES})", name="source_known"),
        sa.CheckConstraint(f"target IN ({STATES})", name="target_known"),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("connection_id", "seq"),
    )
    op.create_index("step_at", "step", ["at"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index("step_at", table_name="step")
    op.drop_table("step")
    op.drop_index("outbox_order", table_name="outbox")
    op.drop_index(
        "outbox_due",
        table_name="outbox",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_table("outbox")
    op.drop_index("link_connection", table_name="link")
    op.drop_table("link")
    op.drop_index("connection_token_key", table_name="connection")
    op.drop_index("connection_state", table_name="connection")
    op.drop_index("connection_recruiter_once", table_name="connection")
    op.drop_index("connection_owner", table_name="connection")
    op.drop_index(
        "connection_due",
        table_name="connection",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_index("connection_candidate_key", table_name="connection")
    op.drop_index(
        "connection_account_once",
        table_name="connection",
        sqlite_where=sa.text("account_id IS NOT NULL AND closed_at IS NULL"),
        postgresql_where=sa.text("account_id IS NOT NULL AND closed_at IS NULL"),
    )
    op.drop_table("connection")
