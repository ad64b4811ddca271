"""Workers that are killed again and again, on a PostgreSQL: everything arrives, once."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path

import pytest

from linker.sandbox import EVERYWHERE, Fault
from tests.acceptance.chaos import (
    Arena,
    Worker,
    arena,
    asked_again,
    assert_all_arrived,
    assert_leases_kept,
    assert_nobody_met,
    by_account,
)
from tests.acceptance.commands import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WORKERS, CONNECTIONS, KILLS = 4, 3_000, 20
#: Short, so that the leases of the dead run out within the test; Workable has a quarter of it to answer.
LEASE = 8.0
#: Workable's answers come so late, in seconds: 40 questions at a time get 9,000 answers in 22 s at the earliest, so
#: that there is work left for every worker that is killed, on a fast machine too.
LATE = 0.1


def kill_one_every_second(arena: Arena, workers: list[Worker]) -> None:
    """Kill one worker after the other, a second apart, and start another one in its place."""
    began = time.monotonic()
    for kill in range(KILLS):
        time.sleep(max(0.0, began + kill + 1 - time.monotonic()))  # the beat itself, nothing is waited for
        place = kill % WORKERS
        workers[place].kill()
        workers[place] = arena.start()


def test_a_worker_is_killed_every_second(postgres_url: str, tmp_path: Path) -> None:
    """Of 3,000 connections all arrive, by the steps of the undisturbed way, while no two workers meet at one."""
    with arena(postgres_url, tmp_path, lease_seconds=str(LEASE)) as stage, stage.workable():
        stage.fill(CONNECTIONS)
        stage.world.fail(EVERYWHERE, Fault.SLOW, seconds=LATE)
        workers = [stage.start() for _ in range(WORKERS)]
        kill_one_every_second(stage, workers)
        assert stage.owed(), "there was nothing left to be killed at"
        until(lambda: not stage.owed(), within=300)
        for worker in workers:
            worker.stop()
        assert_all_arrived(stage, CONNECTIONS)
        assert_nobody_met(stage.requests())
        assert_leases_kept(stage, LEASE)
        repeated = chain.from_iterable(asked_again(entries) for entries in by_account(stage.requests()).values())
        assert len(list(repeated)) >= KILLS / 2, "the kills hit nothing"
