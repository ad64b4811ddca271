"""The way to Workable is cut, its name is gone, it turns everybody away: nobody spins, and nobody has to help.

A cut way and a name that is gone last some seconds, with pauses so short that each connection is tried several times
meanwhile. Workable turns everybody away for half a minute.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linker.sandbox import EVERYWHERE, Fault
from states.timing import SHORTEST_PAUSE
from tests.acceptance.chaos import SETTINGS, Arena, arena, assert_all_arrived, assert_nobody_met, by_account
from tests.acceptance.commands import until
from tests.acceptance.warm_workers import NAME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WORKERS, CONNECTIONS = 2, 30
#: How long the trouble lasts, in seconds.
TROUBLE = 6.0
#: The pauses of the workers: short, so that a few seconds are as telling as an hour.
PAUSES = {"backoff_first": "2", "backoff_last": "4", "lease_seconds": "8"}
#: How many transactions may be needed for a beat of a worker; and for a try, for which both workers wake.
PER_BEAT, PER_TRY = 10, 14


@pytest.fixture
def stage(postgres_url: str, tmp_path: Path) -> Iterator[Arena]:
    """Connections that wait for workers, and a port on which nobody listens yet."""
    with arena(postgres_url, tmp_path, **PAUSES) as made:
        made.fill(CONNECTIONS)
        with made.workable():
            pass
        yield made


class Patience:
    """Counts what the workers do from its beginning on: how often they try, and how often they go to the database."""

    def __init__(self, stage: Arena) -> None:
        self._stage = stage
        self._began = time.monotonic()
        owed = {row[0] for row in stage.sql("SELECT id FROM linker_connection WHERE state = 'awaiting_token'")}
        self._versions = {each: version for each, version in self._read_versions().items() if each in owed}
        self._transactions = self._read_transactions()

    def _read_versions(self) -> dict[str, int]:
        return dict(tuple(row) for row in self._stage.sql("SELECT id, version FROM linker_connection"))

    def _read_transactions(self) -> int:
        counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(self._stage.sql(counted)[0][0])

    def assert_kept(self) -> float:
        """Each connection was tried, and none before its pause was over; gives the tries that are allowed to each."""
        versions, lasted = self._read_versions(), time.monotonic() - self._began
        tries = {each: (versions[each] - version) / 2 for each, version in self._versions.items()}  # claim and settle
        allowed = lasted / SHORTEST_PAUSE.total_seconds() + 1
        assert min(tries.values()) >= 1
        assert max(tries.values()) <= allowed
        beats = WORKERS * (lasted / float(SETTINGS["sweep_seconds"]) + 1)
        allowance = beats * PER_BEAT + sum(tries.values()) * PER_TRY
        assert self._read_transactions() - self._transactions <= allowance
        return allowed


def troubled(stage: Arena) -> Patience:
    """Let the trouble last, and count meanwhile."""
    patience = Patience(stage)
    ends = time.monotonic() + TROUBLE
    until(lambda: time.monotonic() > ends)
    return patience


def assert_goes_on(stage: Arena) -> None:
    """Without a hand, everything arrives."""
    until(lambda: not stage.owed())
    assert_all_arrived(stage, CONNECTIONS, also={"throttled"})
    assert_nobody_met(stage.requests())


def test_the_way_is_cut(stage: Arena) -> None:
    """Workable goes in the middle of a sweep, connections to it are refused, and it comes back."""
    stage.world.fail(EVERYWHERE, Fault.SLOW, seconds=0.5)
    stage.settings["concurrency"] = "4"
    with stage.workable():
        for _ in range(WORKERS):
            stage.start()
        until(lambda: len(stage.requests()) > WORKERS)
    stage.world.heal()
    assert stage.owed(), "everything had arrived before"
    troubled(stage).assert_kept()
    with stage.workable():
        assert_goes_on(stage)


@contextmanager
def resetting(port: int) -> Iterator[list[float]]:
    """A listener that resets every connection, for one block; gives when there was one."""
    came: list[float] = []
    listener = socket.create_server(("127.0.0.1", port), backlog=512)

    def reset_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            came.append(time.monotonic())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    thread = threading.Thread(target=reset_all)
    thread.start()
    try:
        yield came
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_every_connection_is_reset(stage: Arena) -> None:
    """Something in between resets what comes: it sees each account no more often than the pauses allow."""
    with resetting(stage.port) as came:
        for _ in range(WORKERS):
            stage.start()
        until(lambda: bool(came))
        allowed = troubled(stage).assert_kept()
        assert CONNECTIONS <= len(came) <= CONNECTIONS * (allowed + 1)
    with stage.workable():
        assert_goes_on(stage)


def test_the_name_is_gone(stage: Arena, tmp_path: Path) -> None:
    """The name of Workable's host does not resolve, later it does: it is asked for at each try, and no more often."""
    gone = tmp_path / "dns"
    gone.touch()
    for _ in range(WORKERS):
        stage.start(host=NAME, dns_gone=str(gone))
    until(gone.with_suffix(".asked").exists)
    allowed = troubled(stage).assert_kept()
    assert gone.with_suffix(".asked").stat().st_size <= CONNECTIONS * (allowed + 1)
    with stage.workable():
        gone.unlink()
        assert_goes_on(stage)


#: How far ahead, in seconds, Workable names the time at which it may be asked again. Without one it is a window.
AHEAD, WINDOW = 3.0, 10.0
#: How long everybody is turned away, in seconds.
HALF_A_MINUTE = 30.0
TURNED_AWAY: dict[Fault, Callable[[float], float]] = {
    Fault.THROTTLED: lambda at: float(int(at + AHEAD)),
    Fault.THROTTLED_RETRY_AFTER: lambda at: at + AHEAD,
    Fault.THROTTLED_BARE: lambda at: at + WINDOW,
}


def turn_away(stage: Arena) -> None:
    """Let every answer be a 429, in all the ways in which one can name a time or none."""
    for number, fault in zip(range(CONNECTIONS), itertools.cycle(TURNED_AWAY), strict=False):
        timed = fault is not Fault.THROTTLED_BARE
        stage.world.fail(f"account-{number}", fault, seconds=AHEAD if timed else None)


def test_every_answer_is_429(stage: Arena) -> None:
    """No account is asked before the time that Workable named; once it answers again, all goes on."""
    turn_away(stage)
    with stage.workable():
        for _ in range(WORKERS):
            stage.start()
        until(lambda: len(stage.requests()) >= CONNECTIONS)
        time.sleep(HALF_A_MINUTE)
        stage.world.heal()
        assert min(len(entries) for entries in by_account(stage.requests()).values()) >= HALF_A_MINUTE / WINDOW - 1
        assert_goes_on(stage)
    assert_times_kept(stage)


def assert_times_kept(stage: Arena) -> None:
    """No request came before the time that the 429 before it named."""
    for entries in by_account(stage.requests()).values():
        for first, second in itertools.pairwise(entries):
            if first.fault is not None:
                assert second.at >= TURNED_AWAY[Fault(first.fault)](first.at), (first, second)
