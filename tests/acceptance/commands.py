"""The `linker` command as a process of its own, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.acceptance.warm_commands import WarmCommands

ROOT = Path(__file__).parents[2]
#: How long anything may take before a test gives up, in seconds.
PATIENCE = 60.0
WARM = WarmCommands()


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which has to be one JSON value."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error that it told on stderr as JSON."""
        return json.loads(self.err)["error"]


@dataclass
class Terminal:
    """Runs `linker` with settings of its own, in a folder of its own."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **settings: str) -> dict[str, str]:
        """The variables of a command: ours, then the settings in capitals with their prefix."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LINKER_")}
        ours |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)}
        return ours | {f"LINKER_{name.upper()}": value for name, value in {**self.settings, **settings}.items()}

    def __call__(self, *arguments: str, stdin: str = "", **settings: str) -> Ran:
        """Run a command to its end, in a process that need not import anything."""
        variables = self.environment(**settings)
        return Ran(*WARM.run(arguments, stdin=stdin, folder=self.folder, variables=variables, within=PATIENCE))

    @contextmanager
    def started(self, *arguments: str, stdout: int | IO[str] = subprocess.PIPE, **settings: str) -> Iterator[Any]:
        """Run a command beside the test; it is killed at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "linker.cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(**settings),
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def opened(self) -> str:
        """A new connection's id."""
        return str(self("open", "--owner", "customer-1", "--json").json["id"])


def until(happened: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait for something, looking often."""
    ends = time.monotonic() + within
    while not happened():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
