"""The two ways that an announcement goes to the host: neither waits for the other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause


@dataclass(frozen=True)
class Way:
    """A way through the outbox, with columns of its own. Its name is what people, numbers and JSON call it."""

    name: str
    prefix: str
    #: True if its index of what is due is kept by type: a host listens to some, and the others wait for nobody.
    by_type: bool

    def of(self, table: FromClause, column: str) -> ColumnElement[Any]:
        """A column of this way in the outbox, or in an alias of it."""
        return table.c[self.prefix + column]

    def groups(self, types: Collection[str]) -> list[Collection[str]]:
        """The types as they stand together in the index of what is due."""
        return [[each] for each in types] if self.by_type else [types]

    def values(self, **columns: Any) -> dict[str, Any]:
        """Columns to write."""
        return {self.prefix + column: value for column, value in columns.items()}


HANDLERS = Way("handlers", "", by_type=True)
WEBHOOK = Way("webhook", "hook_", by_type=False)
WAYS = (HANDLERS, WEBHOOK)
