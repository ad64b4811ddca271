"""Hosts made from the pages in docs/howto: the program that a page prints, run by the commands that it prints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from linker import Connection, ConnectionState, Linker, load_settings, new_key
from linker.sandbox import Limit, World, running, seed
from tests.acceptance.commands import PATIENCE, ROOT, until

#: The programs of the environment that the tests run in.
PROGRAMS = Path(sys.executable).parent
PROGRAM = re.compile(r"^`(\w+\.py)`, whole:\n\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^\$ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page of docs/howto."""

    text: str
    #: The files that the page says to write, and what is in them.
    programs: dict[str, str]

    @property
    def snippets(self) -> list[str]:
        """What a host may add to the programs."""
        return [shown for shown in PYTHON.findall(self.text) if shown not in self.programs.values()]

    @property
    def commands(self) -> list[str]:
        """The commands that the page shows, in their order."""
        return COMMANDS.findall(self.text)


def page(name: str) -> Page:
    """Read a page."""
    text = (ROOT / "docs" / "howto" / f"{name}.md").read_text(encoding="utf-8")
    programs = dict(PROGRAM.findall(text))
    assert programs, f"the page {name} shows no program"
    return Page(text, programs)


@dataclass(frozen=True)
class Running:
    """A process of a host."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """What it has printed and logged so far."""
        return self.log.read_text(encoding="utf-8")

    def until_said(self, text: str) -> None:
        """Wait for a text; the assertion shows what was said instead."""
        until(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said, self.said

    def stop(self) -> int:
        """Ask it to end, as a supervisor does; gives its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


@dataclass
class Host:
    """A host in a folder of its own, with settings in its environment."""

    folder: Path
    page: Page
    world: World
    #: Variables of its environment.
    settings: dict[str, str]

    def __post_init__(self) -> None:
        self._processes = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes; the folder is found as a user's is, by being the current one."""
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.settings}

    def run(self, command: str) -> None:
        """Run a command to its end, which has to be a good one."""
        ended = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    @contextmanager
    def started(self, command: str) -> Iterator[Running]:
        """Run a command beside the test; it and its children are killed at the end if they still run."""
        self._processes += 1
        log = self.folder / f"{self._processes}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with process:
            try:
                yield Running(process, log)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def linker(self) -> Linker:
        """A linker with the host's settings, as its web process would have it."""
        given = {
            name.removeprefix("LINKER_").lower(): value
            for name, value in self.settings.items()
            if name.startswith("LINKER_")
        }
        return Linker(load_settings(**given))


@contextmanager
def hosted(name: str, folder: Path) -> Iterator[Host]:
    """A host with the programs of a page, a SQLite file, and a sandbox on a socket; it looks often."""
    shown, world = page(name), seed.seeded()
    for file, program in shown.programs.items():
        (folder / file).write_text(program, encoding="utf-8")
    world.set_limit(Limit.off())
    with running(world) as url:
        settings = {
            "LINKER_DATABASE_URL": f"sqlite:///{folder / 'linker.db'}",
            "LINKER_SECRET_KEYS": new_key().get_secret_value(),
            "LINKER_WORKABLE_URL": url,
            "LINKER_POLL_FIRST": "0.2",
        }
        yield Host(folder, shown, world, settings)


async def awaiting_recruiter(linker: Linker) -> Connection:
    """A connection whose token was given in the web process; the rest is the sweep's."""
    connection = await linker.create(owner="customer-42")
    connection = await linker.submit_token(connection.id, subdomain=seed.ACME, token=seed.ACME_TOKEN)
    assert connection.state is ConnectionState.AWAITING_RECRUITER
    return connection


def add_recruiter(world: World, email: str) -> None:
    """What the customer does by hand."""
    world.add_recruiter(seed.ACME, name="Integration", email=email)
