"""What is due in the outbox is read in the order of its indexes, so that a claim costs the same however much waits.

Revision: 0005, after 0004. No row is written. The indexes hold only what is still to be delivered: little, as a rule.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Each index with its columns before and its condition; from now on the id comes last in it.
INDEXES = (
    ("outbox_due", ["type", "due_at"], "due_at IS NOT NULL"),
    ("outbox_hook_due", ["hook_due_at"], "hook_due_at IS NOT NULL"),
)


def upgrade() -> None:
    """Put the id at the end of both indexes."""
    _replace(["id"])


def downgrade() -> None:
    """Go back to the indexes without it."""
    _replace([])


def _replace(last: list[str]) -> None:
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.drop_index(name, table_name="outbox")
        op.create_index(name, "outbox", columns + last, sqlite_where=where, postgresql_where=where)
