"""The canary given to the command `linker`: not in its output, its logs, its arguments or its environment."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linker.sandbox import EVERYWHERE, Fault
from tests.acceptance.leaks import Places, Secret
from tests.acceptance.stage import Stage, Theatre, open_theatre

CANARY = f"CANARY{secrets.token_hex(24)}TOKEN"


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandboxes of this file are reached at."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre, tmp_path: Path) -> Stage:
    """A stage whose Workable knows the canary as a good token."""
    (tmp_path / "data").mkdir()
    made = theatre.stage(f"sqlite:///{tmp_path / 'data' / 'linker.db'}")
    made.world.add_account("acme", name="Acme")
    made.world.add_token("acme", CANARY)
    return made


class Terminal:
    """Runs `linker` and collects all that a bystander could see of it."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.places = Places()
        self._config = folder / "linker.toml"
        self._config.write_text(
            f'database_url = "{stage.database_url}"\nworkable_url = "{stage.url}"\nlog_level = "debug"\n'
            f'secret_keys = ["{stage.key.get_secret_value()}"]\n'
        )
        self._running: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """Run a command to its end; gives its exit code and what it printed."""
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "COVERAGE_PROCESS_START"}}
        self._running = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "ignore", "-m", "linker.cli", *arguments],
            env={**kept, "LINKER_CONFIG": str(self._config)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = self._running.communicate(stdin.encode(), timeout=60)
        self.places.add(f"stdout of {arguments[0]}", out)
        self.places.add(f"stderr of {arguments[0]}", err)
        return self._running.returncode, out.decode()

    def look_at_process(self) -> None:
        """Look at the process that is running, as `ps` and its owner can."""
        assert self._running is not None
        for name in ("cmdline", "environ", "comm"):
            self.places.add(f"process {name}", Path(f"/proc/{self._running.pid}/{name}").read_bytes())


@pytest.fixture
def terminal(stage: Stage, tmp_path: Path, theatre: Theatre) -> Iterator[Terminal]:
    """A terminal, whose processes are looked at whenever they call Workable."""
    made = Terminal(stage, tmp_path)
    theatre.on_request = made.look_at_process
    yield made
    theatre.on_request = None


def opened(terminal: Terminal) -> str:
    """Open a connection; gives its id."""
    code, out = terminal.run("open", "--owner", "customer-1")
    assert code == 0
    return next(word.strip(".,:") for word in out.split() if word.startswith("con_"))


def assert_clean(terminal: Terminal, stage: Stage, folder: Path) -> None:
    """Neither the token nor the key is anywhere."""
    terminal.places.add_files(folder / "data")
    assert terminal.places.with_(Secret(CANARY)) == []
    assert terminal.places.with_(Secret(stage.key.get_secret_value())) == []


@pytest.mark.parametrize(
    ("fault", "ends_with"),
    [(None, 0), (Fault.UNAUTHORIZED, 4), (Fault.SERVER_ERROR, 5), (Fault.BROKEN_JSON, 5)],
    ids=["good", "refused", "down", "odd"],
)
def test_token_on_stdin(stage: Stage, terminal: Terminal, tmp_path: Path, fault: Fault | None, ends_with: int) -> None:
    """A token from stdin, with logs at DEBUG, whatever Workable answers; and then all that can be asked."""
    connection = opened(terminal)
    if fault is not None:
        stage.world.fail(EVERYWHERE, fault)
    code, _ = terminal.run("submit", connection, "--subdomain", "acme", stdin=f"{CANARY}\n")
    assert code == ends_with
    for asked in ("show", "history") if fault is None else ():
        assert terminal.run(asked, connection, "--json")[0] == 0
    assert "process" in terminal.places.kinds()
    assert_clean(terminal, stage, tmp_path)


@pytest.mark.parametrize(
    "pasted",
    [f"{CANARY[:20]} {CANARY[20:]}", CANARY * 100, f"https://{CANARY}.workable.com"],
    ids=["torn", "long", "url"],
)
def test_unusable_token_on_stdin(stage: Stage, terminal: Terminal, tmp_path: Path, pasted: str) -> None:
    """A token that was copied badly is refused without being repeated."""
    code, _ = terminal.run("submit", opened(terminal), "--subdomain", "acme", stdin=pasted)
    assert code == 2
    assert_clean(terminal, stage, tmp_path)


def test_token_for_a_subdomain(stage: Stage, terminal: Terminal, tmp_path: Path) -> None:
    """A token in the place of the subdomain is refused without being repeated; the arguments are the caller's own."""
    code, _ = terminal.run("submit", opened(terminal), "--subdomain", CANARY, stdin=CANARY)
    assert code == 2
    assert_clean(terminal, stage, tmp_path)


def test_database_that_breaks(stage: Stage, terminal: Terminal, tmp_path: Path) -> None:
    """A database that is none any more is told without what was to be written."""
    connection = opened(terminal)
    for rest in (tmp_path / "data").glob("linker.db*"):
        rest.unlink()
    (tmp_path / "data" / "linker.db").write_bytes(b"this is no database any more" * 400)
    code, _ = terminal.run("submit", connection, "--subdomain", "acme", stdin=CANARY)
    assert code == 1
    assert_clean(terminal, stage, tmp_path)
