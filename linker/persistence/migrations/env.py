"""Run the revisions on the connection that was handed over, or on LINKER_DATABASE_URL when `alembic` is run by hand.

Before an upgrade: take a backup, and stop the workers of the version before. Afterwards: start the new ones.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from linker.database.database import Database
from linker.persistence.tables import Table
from linker.settings import load_settings


def migrate(connection: Connection) -> None:
    """Apply the revisions in the connection's own transaction."""
    context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
    context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    migrate(handed_over)
else:
    by_hand = Database(load_settings().database_url)
    try:
        by_hand.write_here(migrate)
    finally:
        by_hand.close()
