"""The command as a process: tokens that nobody sees, signals, closed pipes, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from linker.encryption import new_key
from linker.sandbox import EVERYWHERE, Fault, Limit, World, running, seed
from tests.acceptance.commands import PATIENCE, Terminal, until

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> World:
    """The demonstration's world, without a limit of calls."""
    made = seed.seeded()
    made.set_limit(Limit.off())
    return made


@pytest.fixture
def linker(tmp_path: Path, world: World) -> Iterator[Terminal]:
    """The command, with a key, a database of its own and the sandbox."""
    with running(world) as url:
        key = new_key().get_secret_value()
        yield Terminal(tmp_path, {"secret_keys": key, "workable_url": url, "sweep_seconds": "0.2", "poll_first": "1"})


def awaiting_recruiter(linker: Terminal) -> str:
    """A connection that waits for its recruiter; its id."""
    connection_id = linker.opened()
    assert linker("submit", connection_id, "--subdomain", "acme", stdin=seed.ACME_TOKEN).code == 0
    return connection_id


def make_due(linker: Terminal, connection_id: str) -> None:
    """Let the connection be due now."""
    with closing(sqlite3.connect(linker.folder / "linker.db")) as database, database:
        database.execute(
            "UPDATE linker_connection SET due_at = '2020-01-01 00:00:00.000000' WHERE id = ?", [connection_id]
        )


def lease_of(linker: Terminal, connection_id: str) -> Any:
    """Who holds the connection."""
    with closing(sqlite3.connect(linker.folder / "linker.db")) as database:
        [(holder,)] = database.execute("SELECT lease_holder FROM linker_connection WHERE id = ?", [connection_id])
    return holder


def has_struck(world: World) -> bool:
    """True once a request is under way that a fault holds up."""
    return any(rule.struck for rule in world.faults)


# the token


def test_a_token_is_seen_nowhere_while_it_is_verified(linker: Terminal, world: World, tmp_path: Path) -> None:
    """The token is in no argument, no output at any level and no file, from the pipe on to the end."""
    canary = "canary-Z9x8y7w6v5-token"
    world.add_token("acme", canary)
    connection_id = linker.opened()
    world.fail(EVERYWHERE, Fault.SLOW, seconds=0.7)
    with linker.started("submit", connection_id, "--subdomain", "acme", "--json", log_level="debug") as process:
        process.stdin.write(f"{canary}\n")
        process.stdin.close()
        until(lambda: has_struck(world))
        seen = psutil.Process(process.pid)
        assert canary not in " ".join(seen.cmdline())
        assert canary not in str(seen.environ())
        out, err = process.stdout.read(), process.stderr.read()
        assert process.wait(PATIENCE) == 0
    assert json.loads(out)["token"]["fingerprint"] in out
    assert canary not in out + err
    shown = linker("show", connection_id).out + linker("history", connection_id, "--json").out
    assert canary not in shown
    assert not [file for file in tmp_path.iterdir() if file.is_file() and canary.encode() in file.read_bytes()]


@pytest.mark.parametrize("misplaced", [["canary-as-argument"], ["--token=canary-as-argument"]])
def test_a_token_as_an_argument_is_refused_and_not_repeated(linker: Terminal, misplaced: list[str]) -> None:
    """Whoever gives the token as an argument is told how to give it, without seeing it again."""
    ran = linker("submit", "con_x", *misplaced, "--subdomain", "acme")
    assert ran.code == 2
    assert "canary" not in ran.out + ran.err


#: Makes the terminal that it gets the one that Ctrl-C on it reaches, then becomes the command.
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "linker.cli", *sys.argv[1:]])
"""


def on_a_terminal(
    linker: Terminal, *arguments: str, typed: str = "", stdout: IO[bytes] | None = None
) -> tuple[int, str]:
    """Run a command on a terminal, type when it asks; gives the exit code and all that was to be seen.

    `stdout`: a file that has the output instead.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *arguments],
        stdin=theirs,
        stdout=stdout or theirs,
        stderr=theirs,
        cwd=linker.folder,
        env=linker.environment() | {"TERM": "xterm", "COLUMNS": "80"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := _read(ours):
            seen += chunk
            if typed and b"not shown" in seen:
                os.write(ours, typed.encode())
                typed = ""
        return process.wait(PATIENCE), seen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    """What came; nothing once the other end is closed, which Linux calls an error."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE)
    assert ready, "nothing came"
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_the_prompt_for_the_token_is_hidden(linker: Terminal) -> None:
    """On a terminal the token is asked for, and what is typed is not shown."""
    connection_id = linker.opened()
    arguments = ("submit", connection_id, "--subdomain", "acme")
    code, seen = on_a_terminal(linker, *arguments, typed=f"{seed.ACME_TOKEN}\n")
    assert code == 0
    assert "API token" in seen
    assert seed.ACME_TOKEN not in seen
    assert "\x1b[" in seen
    assert "awaiting_recruiter" in seen
    code, seen = on_a_terminal(linker, *arguments, typed="\x04")
    assert (code, "Nothing was entered" in seen) == (2, True)
    code, _ = on_a_terminal(linker, *arguments, typed="\x03")
    assert code == 130


def test_colour_is_for_terminals_that_want_it(linker: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR switches colour off on a terminal."""
    connection_id = linker.opened()
    monkeypatch.setenv("NO_COLOR", "1")
    _, seen = on_a_terminal(linker, "show", connection_id)
    assert "\x1b[3" not in seen
    assert connection_id in seen


def test_who_sends_json_to_a_file_sees_how_far_it_is(linker: Terminal) -> None:
    """The bar is on the terminal and nothing else is, and the file has the JSON alone; afterwards the line is clean."""
    opened = [linker.opened() for _ in range(3)]
    begin = ("pause", *opened, "--reason", "x", "--yes", "--rate", "5", "--json")
    with (linker.folder / "outcomes.json").open("wb") as file:
        code, seen = on_a_terminal(linker, *begin, stdout=file)
    assert code == 0
    assert {each["outcome"] for each in json.loads((linker.folder / "outcomes.json").read_text())} == {"done"}
    bars = re.findall(r"done .*? (\d/\d)", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen))
    assert bars[0] < bars[-1] == "3/3"
    assert seen.rstrip("\r\n").endswith("\x1b[2K"), "the bar is still there"


# signals and pipes


def lines(text: str) -> list[dict[str, Any]]:
    """A log of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_worker_finishes_what_is_in_flight(linker: Terminal, world: World) -> None:
    """SIGTERM while a slow call is under way: the answer is written down, and the worker ends with 0 within 10 s."""
    connection_id = awaiting_recruiter(linker)
    world.fail("acme", Fault.SLOW, seconds=2)
    with linker.started("worker") as worker:
        until(lambda: has_struck(world))
        worker.send_signal(signal.SIGTERM)
        told = time.monotonic()
        log = lines(worker.communicate(timeout=PATIENCE)[1])
        assert worker.returncode == 0
        assert time.monotonic() - told < 10
    events = {entry["event"]: entry for entry in log}
    assert (log[0]["event"], log[-1]["event"]) == ("worker.started", "worker.stopped")
    assert events["worker.started"].keys() >= {"version", "worker_id", "database", "law"}
    assert events["sweep.finished"]["claimed"] == 1
    assert linker("show", connection_id, "--json").json["checks"] == 1


def test_a_worker_does_not_wait_for_ever(linker: Terminal, world: World) -> None:
    """A call that does not come to an end is given up within 10 s of SIGTERM; the connection is free at once."""
    connection_id = awaiting_recruiter(linker)
    world.fail("acme", Fault.TRICKLE, seconds=60)
    with linker.started("worker") as worker:
        until(lambda: has_struck(world))
        worker.send_signal(signal.SIGTERM)
        told = time.monotonic()
        err = worker.communicate(timeout=PATIENCE)[1]
        assert worker.returncode == 0
        assert time.monotonic() - told < 10
    assert "raised an exception" not in err
    world.heal()
    assert linker("confirm", connection_id).code == 0


def test_a_second_signal_ends_a_worker_at_once(linker: Terminal, world: World) -> None:
    """Whoever insists does not wait: the second signal ends the process."""
    awaiting_recruiter(linker)
    world.fail("acme", Fault.TRICKLE, seconds=60)
    with linker.started("worker") as worker:
        until(lambda: has_struck(world))
        worker.send_signal(signal.SIGTERM)
        while "worker.stopping" not in worker.stderr.readline():
            assert worker.poll() is None
        ended = None
        for _ in range(50):  # the first tenths of a second count as one signal
            worker.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                ended = worker.wait(0.1)
                break
        assert ended == 128 + signal.SIGINT


def test_ctrl_c_ends_a_command_quietly(linker: Terminal, world: World) -> None:
    """Ctrl-C ends with 130 and without a word."""
    connection_id = awaiting_recruiter(linker)
    world.fail("acme", Fault.SLOW, seconds=10)
    with linker.started("confirm", connection_id) as process:
        until(lambda: has_struck(world))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("command", ["confirm", "sweep"])
def test_sigterm_lets_a_command_give_its_lease_back(linker: Terminal, world: World, command: str) -> None:
    """SIGTERM ends a command with 143 and without a word, and the connection is free at once."""
    connection_id = awaiting_recruiter(linker)
    make_due(linker, connection_id)
    world.fail("acme", Fault.SLOW, seconds=10)
    with linker.started(command, *([connection_id] if command == "confirm" else [])) as process:
        until(lambda: has_struck(world))
        for _ in range(2):  # as supervisors do that tell a process and then its whole group
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (143, "", "")
    assert lease_of(linker, connection_id) is None
    world.heal()
    assert linker("confirm", connection_id).code == 0


@pytest.mark.parametrize("arguments", [("states",), ("states", "--json")])
def test_a_reader_that_has_gone_is_no_error(linker: Terminal, arguments: tuple[str, ...]) -> None:
    """A closed pipe ends a command quietly, as in `linker list | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    with linker.started(*arguments, stdout=writing) as process:
        os.close(writing)
        err = process.stderr.read()
        assert process.wait(PATIENCE) == 141
    assert err == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", ["db current", "states --format mermaid", "keys new", "sandbox --port 0", "--version"]
)
def test_output_that_cannot_be_written_is_told_once(
    linker: Terminal, arguments: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk every command ends with 2, and says in one line that what it did is done."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full, linker.started(*arguments.split(), stdout=full) as process:
        err = process.stderr.read()
        assert process.wait(PATIENCE) == 2
    assert (err.count("\n"), "No space left" in err, "is done" in err) == (1, True, True)


def test_lost_output_is_an_error_of_its_own(linker: Terminal) -> None:
    """Machines are not told that their input was bad."""
    with open("/dev/full", "w") as full, linker.started("states", "--json", stdout=full) as process:
        assert json.loads(process.stderr.read())["error"]["code"] == "output_lost"


def test_the_sandbox_says_how_to_use_it_and_ends_on_a_signal(linker: Terminal) -> None:
    """`linker sandbox` prints the address to set, its page and its tokens, and serves until SIGINT."""
    with linker.started("sandbox", "--port", "0", "--no-limit") as process:
        seen = ""
        while "Ctrl-C" not in seen:
            seen += process.stdout.readline()
        url = seen.split("export LINKER_WORKABLE_URL='")[1].split("'")[0]
        assert "/_sandbox" in seen
        assert seed.ACME_TOKEN in seen
        connection_id = linker.opened()
        ran = linker("submit", connection_id, "--subdomain", "acme", stdin=seed.ACME_TOKEN, workable_url=url)
        assert ran.code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
