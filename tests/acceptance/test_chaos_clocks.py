"""Workers whose machines' clocks are ten minutes apart: what counts is the time of the database."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from linker.engine.leases import NEEDED_RATIO
from linker.sandbox import EVERYWHERE, Fault
from tests.acceptance.chaos import (
    Arena,
    arena,
    assert_all_arrived,
    assert_leases_kept,
    assert_nobody_met,
    by_account,
)
from tests.acceptance.commands import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: How far off the clocks are, in seconds.
BEHIND, AHEAD = -300.0, 300.0
LEASE = 6.0
#: How late Workable answers, in seconds: questions of one worker are always under way when another one looks.
LATE = 0.5
CONNECTIONS = 80


@pytest.fixture
def stage(postgres_url: str, tmp_path: Path) -> Iterator[Arena]:
    """Connections that wait for workers, and a slow Workable."""
    with arena(postgres_url, tmp_path, lease_seconds=str(LEASE), backoff_first="1") as made, made.workable():
        made.fill(CONNECTIONS)
        made.world.fail(EVERYWHERE, Fault.SLOW, seconds=LATE)
        yield made


def test_a_wrong_clock_is_wrong(stage: Arena) -> None:
    """What these tests stand on: the clocks of the workers are off, as their own logs show."""
    for clock in (BEHIND, AHEAD):
        worker = stage.start(clock=clock)
        until(lambda worker=worker: bool(worker.logged("worker.started")))  # type: ignore[misc]
        [started] = worker.logged("worker.started")
        off = datetime.fromisoformat(started["timestamp"]) - datetime.now(UTC)
        assert abs(off.total_seconds() - clock) < 60
        worker.stop()


@pytest.mark.parametrize(("first", "second"), [(BEHIND, AHEAD), (AHEAD, BEHIND)], ids=["late first", "early first"])
def test_two_workers_never_meet(stage: Arena, first: float, second: float) -> None:
    """Both work, at no time both at one connection, and each question is asked once."""
    workers = [stage.start(clock=first)]
    until(lambda: bool(stage.asked(workers[0])))
    workers.append(stage.start(clock=second))
    until(lambda: not stage.owed())
    for worker in workers:
        assert stage.asked(worker), "it has not worked"
        worker.stop()
    assert_all_arrived(stage, CONNECTIONS)
    assert_nobody_met(stage.requests())
    late = stage.answered_too_late()
    asked = {subdomain: len(entries) for subdomain, entries in by_account(stage.requests()).items()}
    assert {count for subdomain, count in asked.items() if subdomain not in late} == {3}


@pytest.mark.parametrize(("dies", "inherits"), [(BEHIND, AHEAD), (AHEAD, BEHIND)], ids=["late dies", "early dies"])
def test_a_lease_ends_at_its_time(stage: Arena, dies: float, inherits: float) -> None:
    """What a dead worker held is taken over neither early nor minutes late."""
    dead = stage.start(clock=dies)
    until(lambda: bool(stage.asked(dead)))
    dead.kill()
    died = time.monotonic()
    held = {row[0] for row in stage.sql("SELECT subdomain FROM linker_connection WHERE lease_holder IS NOT NULL")}
    assert held
    heir = stage.start(clock=inherits)
    until(lambda: not stage.owed())
    heir.stop()
    assert_all_arrived(stage, CONNECTIONS)
    assert_nobody_met(stage.requests())
    assert_leases_kept(stage, LEASE)
    for subdomain in held:
        taken = min(entry.started for entry in by_account(stage.requests())[subdomain] if heir.name == entry.user_agent)
        assert NEEDED_RATIO * LEASE <= taken - died <= 10 * LEASE


@pytest.mark.parametrize("clock", [BEHIND, AHEAD], ids=["late", "early"])
def test_workables_time_is_kept(stage: Arena, clock: float) -> None:
    """The time that a 429 names is Workable's: it is neither outrun nor overslept, not by another worker either."""
    stage.world.heal()
    stage.world.fail(EVERYWHERE, Fault.THROTTLED, seconds=4)
    workers = [stage.start(clock=clock)]
    until(lambda: len(by_account(stage.requests())) == CONNECTIONS)
    workers.append(stage.start(clock=-clock))
    until(lambda: all(len(entries) > 1 for entries in by_account(stage.requests()).values()))
    stage.world.heal()
    until(lambda: not stage.owed())
    for worker in workers:
        worker.stop()
    assert_all_arrived(stage, CONNECTIONS, also={"throttled"})
    assert_nobody_met(stage.requests())
    for entries in by_account(stage.requests()).values():
        for first, second in itertools.pairwise(entries):
            assert first.fault is None or second.at >= int(first.at + 4), (first, second)
