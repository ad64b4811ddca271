"""A database as a program before revision 0006 left it: the statements of each revision for each engine, and rows.

The statements are those that the programs ran, one revision after another. The rows were made by the last of them, with
connections in every state, every problem and near miss that it had, and announcements in all stages of delivery. `KEY`
opens their tokens, but for one that was damaged on purpose.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from linker.database.database import Database

HERE = Path(__file__).parent
KEY = SecretStr(base64.urlsafe_b64encode(b"a-key-for-a-database-of-before-x").decode())
TABLES = ("connection", "step", "outbox")
REVISIONS = ("0001", "0002", "0003", "0004", "0005")


def rows() -> dict[str, list[dict[str, Any]]]:
    """The rows of each table; what a row does not name is null."""
    found: dict[str, list[dict[str, Any]]] = json.loads((HERE / "rows.json").read_text())
    return found


def make(database: Database, revision: str = REVISIONS[-1]) -> None:
    """Make the tables of a revision of before in a database, with rows that hold what there were columns for."""
    folder = HERE / ("sqlite" if database.is_sqlite else "postgresql")
    statements = "".join((folder / f"{each}.sql").read_text() for each in REVISIONS if each <= revision)

    def work(connection: sa.Connection) -> None:
        if not database.is_sqlite:
            connection.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        for name, found in rows().items():
            there = {column["name"] for column in sa.inspect(connection).get_columns(name)}
            for row in ({column: value for column, value in each.items() if column in there} for each in found):
                listed = ", ".join(row)
                named = ", ".join(f":{column}" for column in row)
                put = sa.text(f"INSERT INTO {name} ({listed}) VALUES ({named})")  # noqa: S608 - names of ours
                connection.execute(put, row)

    database.write_here(work)
    if database.is_sqlite:
        database.outside_here("PRAGMA journal_mode=WAL")
