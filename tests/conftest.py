"""What every test can ask for: databases of both kinds, a browser, none of the developer's own settings."""

import inspect
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import PostgresServer, running_postgres

# No deadline per example anywhere: a busy machine is not a bug.
# `ci` tries the same examples for the same code, so that a change is not refused for what it did not touch.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", max_examples=5_000, deadline=None, print_blob=True)

IN_CI = bool(os.environ.get("CI"))
settings.load_profile("ci" if IN_CI else "dev")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start; what a shell starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """An `async def` test needs no mark: also with an anyio that has no option for that yet."""
    inner = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    if name.startswith("test") and inspect.iscoroutinefunction(inner):
        pytest.mark.anyio(obj)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL or a browser, so that `-m` can leave it out."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "postgres_server" in fixtures:
            item.add_marker(pytest.mark.postgres)
        if "browser" in item.path.relative_to(item.config.rootpath).parts or "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the program does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No LINKER_… variable of the developer reaches a test, nor a process that a test starts."""
    for name in [name for name in os.environ if name.startswith("LINKER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started for the first test that needs one, in each process of pytest-xdist.

    A test may restart it, and leaves it running.
    """
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, the test's own."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'linker.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once for each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium or Chrome; without one the test is skipped, in CI it fails."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or _missing(
        f"no browser on PATH (looked for {', '.join(BROWSERS)}); on Debian: apt-get install chromium"
    )


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The folder of `prometheus` and `promtool`; without them the test is skipped, in CI it fails."""
    unpacked = Path(sys.prefix, "debian", "usr", "bin")  # by scripts/test
    found = shutil.which("promtool", path=f"{unpacked}{os.pathsep}{os.environ['PATH']}")
    return Path(found or _missing("no promtool on PATH; on Debian: apt-get install prometheus")).parent


def _missing(reason: str) -> NoReturn:
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
