"""How values are kept: times in UTC, row numbers, JSON in ASCII."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Integer,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


def as_json(value: Any) -> str:
    """A value as JSON that any database can keep: in ASCII, which has escapes for half a character too."""
    return json.dumps(value, separators=(",", ":"), default=_time)


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC, on engines that know time zones and on SQLite, which keeps it as text.

    The processors are given whole, not by `process_bind_param`: times are most of what a sweep reads and writes.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        """Refuse a naive time: nobody can say what it means."""
        return _to_text if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        """Give the time back in UTC."""
        return _from_text if dialect.name == "sqlite" else _to_utc


def _to_utc(time: datetime | None) -> datetime | None:
    if time is None or time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise ValueError("a time without a time zone cannot be stored")
    return time.astimezone(UTC)


#: The length of a time as we write it on SQLite; one that somebody wrote by hand may have another one, and a zone.
WRITTEN_CHARACTERS = len("2026-11-26 18:00:00.000000")


@lru_cache(maxsize=1024)
def _to_text(time: datetime | None) -> str | None:
    """As SQLAlchemy writes times on SQLite: of one length, so that texts compare as the times do."""
    utc = _to_utc(time)
    return None if utc is None else utc.isoformat(" ", "microseconds")[:WRITTEN_CHARACTERS]


def _from_text(text: str | None) -> datetime | None:
    if text is None:
        return None
    if len(text) == WRITTEN_CHARACTERS and text[-6:].isdigit():
        return datetime.fromisoformat(f"{text}+00:00")
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


#: SQLite counts rows by itself only for INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


def _time(value: Any) -> str:
    """A time or a day as JSON. Raises TypeError: it is neither."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not kept as JSON")
