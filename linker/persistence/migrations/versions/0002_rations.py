"""Rate limits that all workers share, and an index that tells which connections share an account.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPEN = sa.text("subdomain IS NOT NULL AND closed_at IS NULL")


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "ration",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spread_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("connection_subdomain", "connection", ["subdomain"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("connection_subdomain", table_name="connection", sqlite_where=OPEN, postgresql_where=OPEN)
    op.drop_table("ration")
