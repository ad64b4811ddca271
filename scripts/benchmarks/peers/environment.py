"""The peers' own environment, .venv-peers beside .venv: made when it is needed, never a part of ours."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: How long making the environment may take, in seconds.
PATIENCE = 600
PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--retries", "2", "--requirement")


class NotInstalled(Exception):
    """The environment cannot be made here; says why in one line."""


def python(folder: Path = FOLDER) -> Path:
    """The interpreter of the peers' environment, which is made or renewed first if need be.

    Raises:
        NotInstalled: there is no network, or no version of a peer for this Python.
    """
    interpreter = folder / "bin" / "python"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once take turns
        if not is_installed(folder):
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            _run(str(interpreter), *PIP, str(REQUIREMENTS))
            _stamp(folder).write_text(_wanted(folder), encoding="utf-8")
    return interpreter


def is_installed(folder: Path = FOLDER) -> bool:
    """True if the environment holds what is asked for today."""
    stamp = _stamp(folder)
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _wanted(folder)


def _stamp(folder: Path) -> Path:
    return folder / "installed"


def _wanted(folder: Path) -> str:
    """What is asked for, for which Python and at which place: environments cannot be moved."""
    wanted = f"{sys.version} {folder} {REQUIREMENTS.read_text(encoding='utf-8')}"
    return hashlib.sha256(wanted.encode()).hexdigest()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"their environment could not be made: {type(error).__name__}") from error
    if done.returncode != 0:
        raise NotInstalled(f"their environment could not be made: {last_line(done.stderr)}")


def last_line(said: str) -> str:
    """The last line of what a program said: the one that names the error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
