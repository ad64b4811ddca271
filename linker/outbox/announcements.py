"""What the host is told, and how the delivery of it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Something that the host is told: `message_id` is the same at every try, `payload` holds no secret."""

    id: int
    message_id: str
    connection_id: str
    type: str
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    delivered_to: frozenset[str]
    #: From when on a failure is the last one; None: it was not tried yet.
    give_up_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryOutcome:
    """How the delivery of an announcement ended: it is over when nothing is due any more."""

    announcement: Announcement
    delivered_to: frozenset[str]
    #: When to try again; None: delivered, or given up.
    due_at: datetime | None = None
    error: str | None = None
    give_up_at: datetime | None = None

    @property
    def held_others_up(self) -> bool:
        """True if what comes behind it had to wait: it failed, now or before."""
        return self.error is not None or self.announcement.attempts > 0

    @property
    def is_given_up(self) -> bool:
        """True for a dead letter: it failed, and is not tried again."""
        return self.due_at is None and self.error is not None
