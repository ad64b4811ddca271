"""What the engines are told: JSON as it is kept."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.database.column_types import as_json

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)  # half characters too
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@given(VALUES)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    """Whatever a host's metadata or Workable's answer holds: no text makes a batch fail, and none is changed."""
    assert json.loads(as_json(value)) == value


@pytest.mark.parametrize("beside", ["", "\ud83d"])
def test_times_among_rows_are_written_as_postgresql_reads_them(beside: str) -> None:
    """Also in a batch that holds half a character."""
    told = json.loads(as_json([{"at": datetime(2026, 3, 1, 12, tzinfo=UTC), "on": date(2026, 3, 1), "text": beside}]))
    assert datetime.fromisoformat(told[0].pop("at")) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert told == [{"on": "2026-03-01", "text": beside}]


@pytest.mark.parametrize("value", [object(), {"a": object()}, ["\ud83d", object()], ["\ud83d", b"a"]])
def test_what_cannot_be_told_as_json_is_an_error(value: Any) -> None:
    """Nothing is kept by its looks, such as `<object at 0x7f>`."""
    with pytest.raises(TypeError):
        as_json(value)


@given(VALUES)
def test_json_fits_into_any_encoding(value: Any) -> None:
    """A PostgreSQL database of an older encoding takes it too."""
    assert as_json(value).isascii()
