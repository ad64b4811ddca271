"""Announcements go to a webhook too; the host is told once that a token expires.

Revision: 0003, after 0002. Announcements that were written before are not posted: nobody had set a webhook.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
DUE = sa.text("hook_due_at IS NOT NULL")


def upgrade() -> None:
    """Add the columns; on both engines that takes no longer with many rows."""
    op.add_column("connection", sa.Column("expiry_told", sa.Date(), nullable=True))
    for column in _columns():
        op.add_column("outbox", column)
    op.create_index("outbox_hook_due", "outbox", ["hook_due_at"], sqlite_where=DUE, postgresql_where=DUE)


def downgrade() -> None:
    """Forget what was posted."""
    op.drop_index("outbox_hook_due", table_name="outbox", sqlite_where=DUE, postgresql_where=DUE)
    for column in reversed(_columns()):
        op.drop_column("outbox", column.name)
    op.drop_column("connection", "expiry_told")


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("give_up_at", TIME, nullable=True),
        sa.Column("dropped_at", TIME, nullable=True),
        sa.Column("hook_due_at", TIME, nullable=True),
        sa.Column("hook_attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("hook_last_error", sa.Text(), nullable=True),
        sa.Column("hook_delivered_at", TIME, nullable=True),
        sa.Column("hook_dead_at", TIME, nullable=True),
        sa.Column("hook_lease_holder", sa.Text(), nullable=True),
        sa.Column("hook_lease_until", TIME, nullable=True),
        sa.Column("hook_give_up_at", TIME, nullable=True),
        sa.Column("hook_dropped_at", TIME, nullable=True),
    ]
