"""What is to be posted is read in the order of its index, so that a claim costs the same however much waits.

Revision: 0005, after 0004. No row is written. The index holds only what is still to be posted: little, as a rule.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DUE = sa.text("hook_due_at IS NOT NULL")


def upgrade() -> None:
    """Put the id at the end of the index."""
    _replace(["hook_due_at", "id"])


def downgrade() -> None:
    """Go back to the index without it."""
    _replace(["hook_due_at"])


def _replace(columns: list[str]) -> None:
    op.drop_index("outbox_hook_due", table_name="outbox")
    op.create_index("outbox_hook_due", "outbox", columns, sqlite_where=DUE, postgresql_where=DUE)
