"""The two channels by which an announcement goes to the host: neither waits for the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause


@dataclass(frozen=True)
class Channel:
    """A channel of the outbox, with columns of its own. Its name is what people, numbers and JSON call it."""

    name: str
    prefix: str
    #: True if its index gives what is due in its order. The other's is by type: a host listens to some, and the others
    #: wait for nobody.
    in_order: bool

    def column(self, table: FromClause, name: str) -> ColumnElement[Any]:
        """A column of this channel in the outbox, or in an alias of it."""
        return table.c[self.prefix + name]

    def values(self, **columns: Any) -> dict[str, Any]:
        """Columns to write."""
        return {self.prefix + name: value for name, value in columns.items()}


HANDLERS = Channel("handlers", "", in_order=False)
WEBHOOK = Channel("webhook", "hook_", in_order=True)
CHANNELS = (HANDLERS, WEBHOOK)
