"""What is old is found by an index, and so is what needs a person.

Revision: 0004, after 0003. No row is written. The indexes are built from what is there: on PostgreSQL, with a million
connections, that takes some seconds in which nobody can write.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TROUBLED = (
    "closed_at IS NULL AND (state = 'failed' OR problem_code IS NOT NULL OR replacement_problem_code IS NOT NULL "
    "OR paused_at IS NOT NULL)"
)
#: Each index with its table, its columns and its condition.
INDEXES = (
    ("connection_troubled", "connection", ["created_at", "id"], TROUBLED),
    ("connection_closed", "connection", ["closed_at"], "closed_at IS NOT NULL"),
    ("step_continues", "step", ["at"], "seq > 1 AND pruned_at IS NULL"),
    ("outbox_over", "outbox", ["created_at"], "due_at IS NULL AND hook_due_at IS NULL"),
)


def upgrade() -> None:
    """Say where a pruned history begins; make the indexes."""
    op.drop_index("step_at", table_name="step")
    op.add_column("step", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back to the first indexes."""
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("step", "pruned_at")
    op.create_index("step_at", "step", ["at"])
