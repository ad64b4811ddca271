"""The `linker` command in a moment: forked from a process that has imported everything, a tenth of the work of a start.

`python -m tests.acceptance.warm_commands` reads jobs from its standard input, one JSON object in a line, and answers a
process id: that process waits for the command, writes its exit code into the job's file `ended`, and ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import linker.cli.commands
from linker.cli.main import main as linker_command

#: What is imported before: all that a command may need.
FOREMOST = ("linker.linker", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg")


class WarmCommands:
    """Runs commands, several at a time if several threads ask; the process that forks them ends with this one."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._alone = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: Sequence[str], *, stdin: str, folder: Path, variables: Mapping[str, str], within: float
    ) -> tuple[int, str, str]:
        """Run a command to its end; gives its exit code, as `subprocess` does, and what it printed and told."""
        with tempfile.TemporaryDirectory() as kept:
            streams = {name: str(Path(kept, name)) for name in ("in", "out", "err", "ended")}
            Path(streams["in"]).write_text(stdin, encoding="utf-8", errors="surrogateescape")
            job = {"arguments": list(arguments), "folder": str(folder), "variables": dict(variables), **streams}
            _wait(self._begin(job), within)
            out, err = (Path(streams[name]).read_bytes().decode() for name in ("out", "err"))
            return int(Path(streams["ended"]).read_text(encoding="ascii")), out, err

    def _begin(self, job: Mapping[str, Any]) -> int:
        with self._alone:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def _wait(pid: int, within: float) -> None:
    try:
        waited = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has ended
    try:
        if not select.select([waited], [], [], within)[0]:
            os.killpg(pid, signal.SIGKILL)
            raise TimeoutError(f"the command did not end within {within} s")
    finally:
        os.close(waited)


def _work(job: Mapping[str, Any]) -> None:
    """Be the command, in the surroundings of the job."""
    for stream, (name, how) in enumerate({"in": os.O_RDONLY, "out": os.O_WRONLY, "err": os.O_WRONLY}.items()):
        os.dup2(os.open(job[name], how | (os.O_CREAT if how else 0), 0o600), stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - as a start does
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(job["variables"])
    os.chdir(job["folder"])
    sys.argv = ["linker", *job["arguments"]]
    sys.exit(linker_command(job["arguments"]))


def _attend(job: Mapping[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _work(job)
    _, status = os.waitpid(pid, 0)
    Path(job["ended"]).write_text(str(os.waitstatus_to_exitcode(status)), encoding="ascii")
    os._exit(0)


def main() -> None:
    """Fork a command for each job; those that attend them are forgotten by the system at once."""
    for name in FOREMOST:
        importlib.import_module(name)
    for each in pkgutil.walk_packages(linker.cli.commands.__path__, "linker.cli.commands."):
        importlib.import_module(each.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _attend(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
