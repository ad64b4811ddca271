"""What is kept of a connection, and times as SQLite keeps them, also those that somebody wrote by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url, update
from sqlalchemy.dialects import sqlite

from linker.database.column_types import UtcTime
from linker.database.statements import batch_statement
from linker.persistence.mapping import changed_columns
from linker.persistence.tables import CONNECTION
from states.connection import ConnectionState
from tests.builders import SEEN, a_connection

WRITE = UtcTime().bind_processor(sqlite.dialect())
READ = UtcTime().result_processor(sqlite.dialect(), None)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
TIMES = st.timedeltas(timedelta(days=1), timedelta(days=365 * 8000)).flatmap(
    lambda since_1970: ZONES.map(lambda zone: (datetime(1970, 1, 1, tzinfo=UTC) + since_1970).astimezone(zone))
)


@given(TIMES)
def test_a_time_is_read_as_it_was_written(time: datetime) -> None:
    """Whatever zone it was in, it comes back in UTC."""
    read = READ(WRITE(time))
    assert read == time
    assert read.tzinfo is UTC


@given(TIMES, TIMES)
def test_texts_compare_as_their_times_do(one: datetime, other: datetime) -> None:
    """So what is due is found by an index of texts."""
    assert (WRITE(one) < WRITE(other)) == (one < other)


@pytest.mark.parametrize(
    ("by_hand", "means"),
    [
        ("2026-11-26", datetime(2026, 11, 26, tzinfo=UTC)),
        ("2026-11-26 18:00", datetime(2026, 11, 26, 18, tzinfo=UTC)),
        ("2026-11-26 18:00:00", datetime(2026, 11, 26, 18, tzinfo=UTC)),
        ("2026-11-26T18:00:00Z", datetime(2026, 11, 26, 18, tzinfo=UTC)),
        ("2026-11-26T18:00:00+02:00", datetime(2026, 11, 26, 16, tzinfo=UTC)),
        ("2026-11-26 18:00:00.000000", datetime(2026, 11, 26, 18, tzinfo=UTC)),
        ("2026-11-26 18:00:00.000+02", datetime(2026, 11, 26, 16, tzinfo=UTC)),
        ("2026-11-26T18:00:00.00000Z", datetime(2026, 11, 26, 18, tzinfo=UTC)),
        ("2026-11-26 18:00 +02:00:00", datetime(2026, 11, 26, 16, tzinfo=UTC)),
        ("2026-11-26 18:00:00.000000+00:00", datetime(2026, 11, 26, 18, tzinfo=UTC)),
    ],
)
def test_a_time_that_was_written_by_hand_is_read_in_utc(by_hand: str, means: datetime) -> None:
    """An operator's hand does not write as we do."""
    read = READ(by_hand)
    assert read == means
    assert read.tzinfo is UTC


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_time_without_a_zone_is_not_written(engine: str) -> None:
    """Nobody can say what it means: neither in a row by itself nor among many."""
    dialect = make_url(f"{engine}://").get_dialect()()
    update_all = batch_statement(
        lambda value: update(CONNECTION).where(CONNECTION.c.id == value("at_id")).values(due_at=value("new_due_at")),
        {"at_id": CONNECTION.c.id.type, "new_due_at": CONNECTION.c.due_at.type},
        dialect,
    )
    naive = datetime(2026, 11, 26, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="without a time zone"):
        update_all.pack([{"at_id": "con_1", "new_due_at": naive}])
    with pytest.raises(ValueError, match="without a time zone"):
        UtcTime().bind_processor(dialect)(naive)


def test_the_email_of_a_recruiter_that_was_found_is_not_written_again() -> None:
    """Its index would be written for nothing. Whatever else belongs to a fact that differs is written with it."""
    before = a_connection(ConnectionState.AWAITING_RECRUITER)
    found = {"recruiter_name": SEEN.name, "recruiter_id": SEEN.id}
    assert changed_columns(before, replace(before, recruiter=SEEN)) == found
    another = replace(SEEN, email="another@inbound.example.com")
    changed = changed_columns(before, replace(before, recruiter=another))
    assert another.email in changed.pop("searched")
    assert changed == found | {"recruiter_email": another.email}
    added = changed_columns(replace(before, recruiter=None), replace(before, recruiter=SEEN))
    assert SEEN.email in added.pop("searched")
    assert added == found | {"recruiter_email": SEEN.email}
    assert changed_columns(before, before) == {}
