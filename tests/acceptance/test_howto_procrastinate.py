"""docs/howto/procrastinate.md as it stands: a real worker of Procrastinate on a real PostgreSQL."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from linker import ConnectionState
from linker.outbox.webhooks import new_webhook_secret
from tests.acceptance.commands import until
from tests.acceptance.hosting import Host, add_recruiter, awaiting_recruiter, hosted

SECRET = new_webhook_secret().get_secret_value()
pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path, postgres_url: str) -> Iterator[Host]:
    """The page's host, with linker and Procrastinate in one PostgreSQL database, and a receiver that hangs."""
    with hosted("procrastinate", tmp_path) as host:
        url = postgres_url.replace("+psycopg", "")
        with socket.create_server(("127.0.0.1", 0)) as never_answers:
            port = never_answers.getsockname()[1]
            webhook = {"LINKER_WEBHOOK_URL": f"http://127.0.0.1:{port}/", "LINKER_WEBHOOK_SECRET": SECRET}
            host.settings |= {"DATABASE_URL": url, "LINKER_DATABASE_URL": url, **webhook}
            yield host


async def test_a_worker_of_procrastinate_links_an_account(host: Host) -> None:
    """A sweep looks in vain, a later one finds the recruiter, and the host's own job is told."""
    *preparing, working = host.page.commands
    for command in preparing:
        host.run(command)
    async with host.linker() as linker:
        connection = await awaiting_recruiter(linker)
        assert connection.recruiter is not None
        looks = len(host.world.requests(path="/recruiters"))
        with host.started(working) as worker:
            until(lambda: len(host.world.requests(path="/recruiters")) > looks or worker.process.poll() is not None)
            add_recruiter(host.world, connection.recruiter.email)
            worker.until_said("linked: Acme Robotics")
            assert (await linker.get(connection.id)).state is ConnectionState.LINKED
            assert (await linker.history(connection.id))[-1].actor == "heartbeat"
            assert worker.stop() == 0, worker.said
            assert "Traceback" not in worker.said
    with psycopg.connect(host.settings["DATABASE_URL"]) as database:
        sweeps = database.execute("SELECT count(*) FROM procrastinate_periodic_defers").fetchone()
        left = database.execute("SELECT task_name, status FROM procrastinate_jobs WHERE status <> 'todo'").fetchall()
    assert sweeps is not None
    assert sweeps[0] >= 1
    assert left == [], "finished jobs are kept, or some failed"
