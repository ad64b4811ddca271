"""A guest's log: events are found where the host looks, and nothing of ours is on its stdout."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from linker.testing import linker_in_memory

HOST = """
import asyncio, json, logging, sys
from linker.testing import ScriptedWorkable, linker_in_memory
from states.verdicts import Unavailable

{setup}

async def main():
    workable = ScriptedWorkable()
    workable.will_say(Unavailable())
    async with linker_in_memory(workable=workable) as linker, linker.heartbeat():
        connection = await linker.create(owner="customer-1")
        connection = await linker.submit_token(connection.id, subdomain="acme", token="c4n4ry-" * 4)
    print(json.dumps(connection.state))

asyncio.run(main())
"""


def host(setup: str) -> tuple[str, str]:
    """What a host that sets its log up in this way sees on its stdout and on its stderr."""
    ran = subprocess.run([sys.executable, "-c", HOST.format(setup=setup)], capture_output=True, text=True, check=True)
    return ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("setup", "seen"),
    [
        ("logging.basicConfig(level=logging.INFO, stream=sys.stderr)", "INFO:linker:step.written connection_id='con_"),
        ("logging.basicConfig(level=logging.WARNING)", None),
        ("", None),
    ],
    ids=["logging", "logging of warnings", "nothing"],
)
def test_a_hosts_stdout_is_its_own(setup: str, seen: str | None) -> None:
    """A host that did not set up structlog finds our events in `logging`, and on its stdout only what it prints."""
    stdout, stderr = host(setup)
    assert json.loads(stdout) == "awaiting_token"
    assert "c4n4ry" not in stderr
    if seen is None:
        assert "step.written" not in stderr
    else:
        assert seen in stderr


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """Nobody has set up structlog, whatever other tests did."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if before is not None:
        structlog.configure(**before)


@pytest.mark.usefixtures("unconfigured")
async def test_a_record_has_the_values_and_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes `logging` as JSON finds the event and its values on the record, and the line that told it."""
    caplog.set_level(logging.INFO, "linker")
    async with linker_in_memory() as linker:
        connection = await linker.create(owner="customer-1")
    [record] = [record for record in caplog.records if record.name == "linker"]
    assert record.__dict__["linker"]["event"] == "step.written"
    assert record.__dict__["linker"]["connection_id"] == connection.id
    assert record.filename == "executor.py"
    assert "\n" not in record.getMessage()


@pytest.mark.usefixtures("unconfigured")
async def test_structlog_that_a_host_sets_up_gets_all(caplog: pytest.LogCaptureFixture) -> None:
    """Also when it is set up after we were imported; `logging` is then not told a second time."""
    caplog.set_level(logging.INFO)
    written = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    async with linker_in_memory() as linker:
        await linker.create(owner="customer-1")
    assert "step.written" in written.getvalue()
    assert not [record for record in caplog.records if record.name == "linker"]
