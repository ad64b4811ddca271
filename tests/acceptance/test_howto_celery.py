"""docs/howto/celery.md as it stands: a real worker of Celery with processes of its own, and its beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from linker import ConnectionState
from tests.acceptance.hosting import Host, add_recruiter, awaiting_recruiter, hosted

pytestmark = pytest.mark.slow

#: The page's app with a broker in the host's folder: Celery does not take the folders from a variable.
WITH_BROKER = """
from worker import app, call

{closing}

app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={{"data_folder_in": ".", "data_folder_out": ".", "control_folder": "."}},
)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The page's host, with a broker of files."""
    with hosted("celery", tmp_path) as host:
        [closing] = host.page.snippets
        (tmp_path / "with_broker.py").write_text(WITH_BROKER.format(closing=closing), encoding="utf-8")
        yield host


async def test_a_worker_of_celery_links_an_account(host: Host) -> None:
    """Beat sends the sweep, a forked process opens its linker, links the account, and the host's own task is told."""
    upgrading, beating, working = (command.replace("-A worker", "-A with_broker") for command in host.page.commands)
    host.run(upgrading)
    async with host.linker() as linker:
        connection = await awaiting_recruiter(linker)
        assert connection.recruiter is not None
        add_recruiter(host.world, connection.recruiter.email)
        with host.started(f"{working} --loglevel info --concurrency 2") as worker, host.started(beating) as beat:
            worker.until_said("linked: Acme Robotics")
            assert (await linker.get(connection.id)).state is ConnectionState.LINKED
            assert (await linker.history(connection.id))[-1].actor == "heartbeat"
            pool = psutil.Process(worker.process.pid).children()
            assert (beat.stop(), worker.stop()) == (0, 0), beat.said + worker.said
            assert not any(process.is_running() for process in pool)
            assert "Traceback" not in beat.said + worker.said


def test_a_late_sweep_is_dropped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps that beat sends while no worker runs do not pile up: the app gives each a time to expire."""
    for name, value in host.settings.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"__name__": "worker"}
    exec(compile(host.page.programs["worker.py"], "worker.py", "exec"), names)  # noqa: S102 - the page's own code
    entries = names["app"].conf.beat_schedule.values()
    assert {entry["task"] for entry in entries} == {"worker.sweep", "worker.deliver"} & names["app"].tasks.keys()
    assert all(entry["options"]["expires"] <= entry["schedule"] for entry in entries)
