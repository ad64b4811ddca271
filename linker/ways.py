"""The two ways that an announcement goes to the host: neither waits for the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause


@dataclass(frozen=True)
class Way:
    """A way through the outbox, with columns of its own. Its name is what people, numbers and JSON call it."""

    name: str
    prefix: str

    def of(self, table: FromClause, column: str) -> ColumnElement[Any]:
        """A column of this way in the outbox, or in an alias of it."""
        return table.c[self.prefix + column]

    def values(self, **columns: Any) -> dict[str, Any]:
        """Columns to write."""
        return {self.prefix + column: value for column, value in columns.items()}


HANDLERS = Way("handlers", "")
WEBHOOK = Way("webhook", "hook_")
WAYS = (HANDLERS, WEBHOOK)
