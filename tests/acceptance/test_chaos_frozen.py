"""A worker that stands still for longer than its lease: what it comes back with is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linker.sandbox import EVERYWHERE, Fault
from tests.acceptance.chaos import Arena, Worker, arena, assert_all_arrived, assert_leases_kept, assert_nobody_met
from tests.acceptance.commands import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: A call may take a quarter of it.
LEASE = 4.0
#: How late Workable answers, in seconds: long enough for a worker to be frozen while it waits.
LATE = 0.5
CONNECTIONS = 6


def frozen_in_a_call(stage: Arena) -> Worker:
    """A worker that stands still, its questions with Workable."""
    stage.world.fail(EVERYWHERE, Fault.SLOW, seconds=LATE)
    worker = stage.start()
    until(lambda: stage.asked(worker) == CONNECTIONS)
    worker.freeze()
    until(lambda: len(stage.requests()) == CONNECTIONS)  # the answers are on their way, and nobody takes them
    stage.world.heal()
    assert {row[0] for row in stage.sql("SELECT state FROM linker_connection")} == {"awaiting_token"}
    return worker


@contextmanager
def a_frozen_worker(database_url: str, folder: Path) -> Iterator[tuple[Arena, Worker]]:
    """An arena whose only worker stands still, its questions with Workable."""
    with arena(database_url, folder, lease_seconds=str(LEASE)) as stage, stage.workable():
        stage.fill(CONNECTIONS)
        yield stage, frozen_in_a_call(stage)


def assert_done_once(stage: Arena) -> None:
    """Everything arrived, nobody met another one, and all kept their leases."""
    assert_all_arrived(stage, CONNECTIONS)
    assert_nobody_met(stage.requests())
    assert_leases_kept(stage, LEASE)


def said_to_be_lost(worker: Worker) -> int:
    """How many connections the worker says that it has lost."""
    return sum(swept["lost"] for swept in worker.logged("sweep.finished"))


def facts(stage: Arena) -> list[tuple[object, ...]]:
    """Everything about the connections, with their histories and announcements."""
    tables = ("linker_connection ORDER BY id", "linker_step ORDER BY connection_id, seq", "linker_outbox ORDER BY id")
    return [tuple(row) for table in tables for row in stage.sql(f"SELECT * FROM {table}")]  # noqa: S608 - our own names


def test_an_answer_that_comes_too_late_is_refused(postgres_url: str, tmp_path: Path) -> None:
    """Another worker has done everything by then: nothing is changed, nothing is told twice, and the log says so."""
    with a_frozen_worker(postgres_url, tmp_path) as (stage, late):
        other = stage.start()
        until(lambda: not stage.owed())
        other.stop()
        before = facts(stage)
        late.thaw()
        until(lambda: said_to_be_lost(late) == CONNECTIONS)
        assert facts(stage) == before
        late.stop()
        assert facts(stage) == before
        assert_done_once(stage)


def test_an_answer_that_comes_while_another_worker_asks_is_refused(postgres_url: str, tmp_path: Path) -> None:
    """The late worker neither writes over the other one's question, nor gives the other one's lease back."""
    with a_frozen_worker(postgres_url, tmp_path) as (stage, late):
        stage.world.fail(EVERYWHERE, Fault.SLOW, seconds=LATE)
        other = stage.start()
        until(lambda: stage.asked(other) == CONNECTIONS)
        late.thaw()
        until(lambda: said_to_be_lost(late) == CONNECTIONS)
        stage.world.heal()
        until(lambda: not stage.owed())
        for worker in (late, other):
            worker.stop()
        assert said_to_be_lost(other) == 0
        assert_done_once(stage)


def test_a_worker_that_comes_back_goes_on(postgres_url: str, tmp_path: Path) -> None:
    """Alone, it has lost nothing to anybody: whatever it makes of answers that are so late, everything arrives."""
    with a_frozen_worker(postgres_url, tmp_path) as (stage, late):
        held = "SELECT count(*) FROM linker_connection WHERE lease_until > clock_timestamp()"
        until(lambda: stage.sql(held) == [(0,)])
        late.thaw()
        until(lambda: not stage.owed())
        late.stop()
        assert_all_arrived(stage, CONNECTIONS)
