"""`blocking` as queues and web frameworks use it: without `with`, from many threads, over forks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from linker import ConnectionState, Linker, Settings, StoreUnavailable, blocking, new_key
from linker.sandbox import running, seed
from linker.testing import ScriptedWorkable

ROOT = Path(__file__).parents[2]

#: What the processes below begin with; they get the database's URL and a key as arguments.
BEGINNING = """
import os, sys
from linker import Linker, Settings, blocking
from linker.testing import ScriptedWorkable

linker = Linker(Settings(database_url=sys.argv[1], secret_keys=(sys.argv[2],)), workable=ScriptedWorkable())
call = blocking(linker)

def in_a_fork(work):
    child = os.fork()
    if child == 0:
        work()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def a_linker(url: str) -> Linker:
    """A linker that asks no network."""
    return Linker(Settings(database_url=url, secret_keys=(new_key(),)), workable=ScriptedWorkable())


def process(url: str, program: str) -> str:
    """What a process says that ends by itself, with nothing to complain about."""
    ended = subprocess.run(
        [sys.executable, "-c", BEGINNING + program, url, new_key().get_secret_value()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return "\n".join(line for line in ended.stdout.splitlines() if "step.written" not in line)


def test_many_threads_open_one_linker_by_their_first_call(sqlite_url: str) -> None:
    """Without `with`, the first call opens the linker; calls at the same time wait for it and share it."""
    call = blocking(linker := a_linker(sqlite_url))
    before = set(threading.enumerate())
    together = threading.Barrier(4)

    def create(number: int) -> str:
        together.wait(10)
        return call(linker.create, owner=f"customer-{number}").id

    with ThreadPoolExecutor(4) as threads:
        created = list(threads.map(create, range(4)))
    assert {connection.id for connection in call(linker.find)} == set(created)
    assert [thread.name for thread in threading.enumerate()].count("linker") == 1
    call.close()
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name.startswith("linker")] == []


def test_a_closed_linker_says_so(sqlite_url: str) -> None:
    """After its end a call is an error, not another linker; closing again does nothing."""
    with blocking(linker := a_linker(sqlite_url)) as call:
        call(linker.create, owner="customer-1")
    call.close()
    with pytest.raises(RuntimeError, match="was closed"):
        call(linker.find)


@pytest.mark.parametrize("come", [lambda call, linker: call(linker.find), lambda call, _: call.__enter__()])
def test_a_linker_that_could_not_be_opened_opens_later(tmp_path: Path, come: Callable[..., object]) -> None:
    """While the database is away each call says so; once it is there, the same process goes on."""
    folder = tmp_path / "later"
    call = blocking(linker := a_linker(f"sqlite:///{folder / 'linker.db'}"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            come(call, linker)
    folder.mkdir()
    assert call(linker.find) == []
    call.close()


def test_a_process_ends_while_its_linker_is_open(sqlite_url: str) -> None:
    """Nobody has to close: the process ends by itself, at once, and nothing complains."""
    assert process(sqlite_url, "print(call(linker.create, owner='customer-1').owner)") == "customer-1"


def test_each_forked_process_has_a_linker_of_its_own(sqlite_url: str) -> None:
    """A linker that was made before the fork opens in each process, where its leases bear another name."""
    program = """
def work():
    print(call(linker.create, owner="customer-1").owner, linker.worker_id)

in_a_fork(work)
in_a_fork(work)
work()
"""
    owners, names = zip(*(line.split() for line in process(sqlite_url, program).splitlines()), strict=True)
    assert owners == ("customer-1",) * 3
    assert len(set(names)) == 3


def test_a_linker_that_was_opened_before_the_fork_says_so(sqlite_url: str) -> None:
    """A forked process is told what is wrong instead of waiting for a thread that it does not have."""
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # the mistake is on purpose

def work():
    try:
        call(linker.find)
    except RuntimeError as error:
        print(error)
    call.close()

call(linker.find)
in_a_fork(work)
print(len(call(linker.find)))
"""
    told = "This linker was opened before the process was forked. Open it in each process.\n0"
    assert process(sqlite_url, program) == told


@pytest.mark.parametrize("asked", ["linker.find()", "linker.create(owner='customer-1')"])
def test_an_async_linker_that_was_opened_before_the_fork_says_so(sqlite_url: str, asked: str) -> None:
    """Whatever it is asked there, reading as well as writing; the process that opened it goes on."""
    program = f"""
import asyncio, warnings
from linker import StoreUnavailable
warnings.simplefilter("ignore", DeprecationWarning)  # the mistake is on purpose

def work():
    try:
        asyncio.run({asked})
    except StoreUnavailable as error:
        print(error.reason, error)

runner = asyncio.Runner()
runner.run(linker.__aenter__())
in_a_fork(work)
print(len(runner.run(linker.find())))
runner.run(linker.__aexit__(None, None, None))
"""
    told = "forked The database was opened before this process was forked. Open it in each process.\n0"
    assert process(sqlite_url, program) == told


def test_the_heartbeat_beats_without_an_event_loop(sqlite_url: str) -> None:
    """Between the lines of an ordinary program what is due is attended, and handlers are told."""
    told = threading.Event()
    with running(world := seed.seeded()) as url:
        settings = Settings(database_url=sqlite_url, secret_keys=(new_key(),), workable_url=url, sweep_seconds=0.1)
        linker = Linker(settings)
        linker.on("linked")(lambda announcement: told.set())
        with blocking(linker) as call, call.heartbeat() as heartbeat:
            connection = call(linker.create, owner="customer-42")
            connection = call(linker.submit_token, connection.id, subdomain=seed.ACME, token=seed.ACME_TOKEN)
            assert connection.recruiter is not None
            world.add_recruiter(seed.ACME, name=connection.recruiter.name, email=connection.recruiter.email)
            assert told.wait(30)
            assert call(linker.get, connection.id).state is ConnectionState.LINKED
            assert heartbeat is not None
        assert not [thread for thread in threading.enumerate() if thread.name == "linker"]


def test_a_linker_that_is_closed_ends_its_heartbeat(sqlite_url: str) -> None:
    """Within the block of the heartbeat, and where nobody ended that: closing waits for nobody."""
    call = blocking(a_linker(sqlite_url))
    with call.heartbeat():
        call.close()
    forgotten = blocking(a_linker(sqlite_url))
    forgotten.heartbeat().__enter__()
    forgotten.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "linker"]
