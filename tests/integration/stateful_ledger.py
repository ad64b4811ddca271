"""What is in the database, read with plain SQL: the store under test has no part in this."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

Row = dict[str, Any]

TABLES = {
    "linker_connection": "created_at, id",
    "linker_step": "connection_id, seq",
    "linker_outbox": "id",
    "linker_link": "id",
    "linker_incident": "name",
    "linker_operation": "made_at, id",
    "linker_operation_item": "operation_id, position",
}
TIMES = frozenset(
    {
        *("at", "created_at", "updated_at", "state_since", "linked_at", "last_ok_at", "paused_at", "closed_at"),
        *("problem_since", "replacement_problem_since", "doubt_since", "due_at", "not_before", "deadline"),
        *("refused_at", "troubled_since", "last_look_at", "last_look_told_at", "began_at", "ended_at"),
        *("lease_until", "delivered_at", "dead_at", "give_up_at", "dropped_at"),
        *("made_at", "started_at", "stopped_at", "finished_at", "done_at"),
    }
)
PARSED = frozenset({"metadata", "evidence", "payload", "delivered_to"})


@dataclass(frozen=True)
class Snapshot:
    """All rows at one moment. Times are aware, JSON is read."""

    connections: dict[str, Row]
    #: The steps of each connection in the order of `seq`.
    steps: dict[str, list[Row]]
    #: The announcements of each connection in the order of `id`.
    outbox: dict[str, list[Row]]
    #: What operators did to many connections, and the items of each in the order of `position`.
    operations: dict[str, Row]
    items: dict[str, list[Row]]
    #: Everything that is written anywhere.
    text: str

    def new_steps(self, before: "Snapshot", connection_id: str) -> list[Row]:
        """The steps that were not there before."""
        return self.steps[connection_id][len(before.steps.get(connection_id, ())) :]

    def story(self, connection_id: str) -> str:
        """A connection's row and history, for people who look for a bug."""
        row = self.connections[connection_id]
        held = "\n".join(f"    {name} = {value}" for name, value in row.items() if value is not None)
        lines = "\n".join(
            f"    {step['seq']}. {step['at']:%d %H:%M:%S.%f} {step['event']}: {step['source']} -> {step['target']} "
            f"by {step['actor']} {step['problem'] or ''} {_calls(step)}"
            for step in self.steps[connection_id]
        )
        return f"{connection_id}\n{held}\n  history\n{lines}"


def _calls(step: Row) -> str:
    return " ".join(
        f"[{call['call']} {call.get('status', call.get('note'))}]" for call in step["evidence"].get("calls", ())
    )


class Ledger:
    """A connection of the test's own to the database."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._execute: Callable[..., Any]
        self._connection: Any
        if parsed.get_backend_name() == "sqlite":
            self._mark, self.file = "?", parsed.database
            self._connection = sqlite3.connect(str(parsed.database), isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        else:
            self._mark, self.file = "%s", None
            plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = psycopg.connect(plain, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        """Let the database go."""
        self._connection.close()

    def empty(self) -> None:
        """Forget everything."""
        told = ("linker_link", "linker_outbox", "linker_step", "linker_operation_item", "linker_operation")
        for table in (*told, "linker_connection", "linker_rate_limit"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names

    def outbox_id(self, message_id: str) -> int | None:
        """The number of an announcement, if it is written."""
        found = self._connection.execute(f"SELECT id FROM linker_outbox WHERE message_id = {self._mark}", [message_id])  # noqa: S608
        row = found.fetchone()
        return None if row is None else int(row["id"])

    def read(self) -> Snapshot:
        """Everything, as it is now."""
        tables = {table: self._rows(table, order) for table, order in TABLES.items()}
        return Snapshot(
            connections={row["id"]: row for row in tables["linker_connection"]},
            steps=_by("connection_id", tables["linker_step"]),
            outbox=_by("connection_id", tables["linker_outbox"]),
            operations={row["id"]: row for row in tables["linker_operation"]},
            items=_by("operation_id", tables["linker_operation_item"]),
            text=repr(tables),
        )

    def _rows(self, table: str, order: str) -> list[Row]:
        found = self._connection.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - our own names
        return [{name: _read(name, row[name]) for name in row.keys()} for row in found.fetchall()]  # noqa: SIM118


def _by(column: str, rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[column]].append(row)
    return found


def _read(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in TIMES:
        return _time(value) if isinstance(value, str) else value.astimezone(UTC)
    return _parsed(value) if name in PARSED and isinstance(value, str) else value


@lru_cache(maxsize=10_000)
def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> Any:
    return json.loads(text)
