"""A PostgreSQL that goes down under the workers' hands: they come back by themselves, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from linker.sandbox import EVERYWHERE, Fault
from tests.acceptance.chaos import (
    Arena,
    Outage,
    arena,
    assert_all_arrived,
    assert_leases_kept,
    assert_nobody_met,
    outage,
)
from tests.acceptance.commands import until
from tests.postgres import PostgresServer, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(240)]

WORKERS, CONNECTIONS = 3, 600
LEASE = 4.0
#: Workable's answers come so late, in seconds, that the work lasts for as long as the server needs to go and come back.
LATE = 0.1


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own."""
    with running_postgres() as started:
        yield started


def verified(stage: Arena) -> int:
    """How many tokens have been verified."""
    [(count,)] = stage.sql("SELECT count(*) FROM linker_step WHERE event = 'token_accepted'")
    return int(count)


def write_much(url: str) -> None:
    """Give a recovery something to do."""
    engine = sa.create_engine(url)
    with engine.begin() as writing:
        writing.execute(sa.text("CREATE TABLE ballast AS SELECT n, md5(n::text) FROM generate_series(1, 500000) AS n"))
    engine.dispose()


def test_a_server_that_goes_down_twice_in_a_sweep(server: PostgresServer, tmp_path: Path) -> None:
    """Once it is stopped at once, once it is killed and killed again in recovery; the workers live through both."""
    with server.database() as url, arena(url, tmp_path, lease_seconds=str(LEASE)) as stage, stage.workable():
        outages: list[Outage] = []
        stage.fill(CONNECTIONS)
        stage.world.fail(EVERYWHERE, Fault.SLOW, seconds=LATE)
        workers = [stage.start() for _ in range(WORKERS)]
        until(lambda: verified(stage) > CONNECTIONS / 4)
        with outage(outages):
            server.restart(kill=True)
        before = verified(stage)
        assert before < CONNECTIONS, "the sweep was over before the server went"
        until(lambda: verified(stage) > before)
        write_much(url)
        assert stage.owed(), "the sweep was over before the server was killed"
        with outage(outages):
            server.crash_in_recovery()
        assert verified(stage) >= before, "what was committed is lost"
        until(lambda: not stage.owed(), within=120)
        for worker in workers:
            assert worker.logged("heartbeat.failed"), "it has not met the outage"
            worker.stop()
        assert_all_arrived(stage, CONNECTIONS)
        assert_nobody_met(stage.requests())
        assert_leases_kept(stage, LEASE, outages)
