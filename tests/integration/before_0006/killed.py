"""Upgrade a database of before, killed at its first statement, then at its second one, until it is done.

Usage: python -m tests.integration.before_0006.killed URL; prints how often it was killed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import alembic.operations
import alembic.runtime.migration
import sqlalchemy as sa

from linker.database.database import Database
from linker.persistence import schema
from linker.persistence.migrations import HEAD, revision_0006
from tests.integration import before_0006

#: Imported before the first kill, so that no import is killed.
IMPORTED = (alembic.operations, alembic.runtime.migration, revision_0006)


def upgrade_and_die(url: str, at: int) -> None:
    """Upgrade in this process, which ends at a statement that writes."""
    database, begun = Database(url), 0

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal begun
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            begun += 1
            if begun == at:
                os.kill(os.getpid(), signal.SIGKILL)

    schema.upgrade(database)
    database.close()


def is_as_before(url: str) -> bool:
    """True if all rows of before are there, and no table of ours."""
    database = Database(url)
    try:
        found = database.read_here(
            lambda connection: {
                name: len(list(connection.exec_driver_sql(f"SELECT * FROM {name}")))  # noqa: S608 - names of ours
                for name in before_0006.TABLES
            }
        )
        ours = database.read_here(
            lambda connection: [name for name in sa.inspect(connection).get_table_names() if "linker" in name]
        )
    finally:
        database.close()
    return found == {name: len(rows) for name, rows in before_0006.rows().items()} and not ours


def main(url: str) -> None:
    """Kill again and again."""
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            upgrade_and_die(url, kills + 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, "it went wrong by itself"
            break
        kills += 1
        assert is_as_before(url), f"after kill {kills} it is not as it was before"
    database = Database(url)
    found = database.read_here(schema.current)
    database.close()
    assert found is not None
    assert found.revision == HEAD
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(sys.argv[1])
