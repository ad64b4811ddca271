"""Two hundred people who have the page open and wait for their recruiter, for ten minutes already.

Each page asks for news every half minute, and no worker runs: the dialog's process also makes the looks that are due
for them. Counted is that process's share of a core, and that of a server of the same kind which knows nothing and
answers the same polls with 304: what asking so seldom costs on a machine whatever is answered.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linker import Linker, Settings, new_key
from linker.encryption import TokenCipher
from scripts.benchmarks import local
from scripts.benchmarks.figures import Figures
from states.connection import Connection

PAGES = 200
#: The most of a core that all pages may cost, in hundredths.
MOST_PER_CENT = 5
#: A page that is open for so long asks every half minute; measured is one such time, after another.
OPEN_FOR = timedelta(minutes=10)
SECONDS = 30.0
OURS, BARE = "200 open pages, % of a core", "the same polls answered by a bare server, % of a core"


def waiting(number: int, sealer: TokenCipher) -> Connection:
    """A connection whose page is open; what is due for all of them is spread over half a minute."""
    now = datetime.now(UTC)
    return replace(
        local.waiting(number, sealer, now - OPEN_FOR),
        due_at=now + timedelta(seconds=number / PAGES * SECONDS),
        watched_since=now - OPEN_FOR,
        watched_until=now + timedelta(minutes=2),
    )


async def open_links(settings: Settings, folder: Path) -> list[str]:
    """Due connections with a page each; gives the links."""
    ids = local.fill(settings.database_url, settings, PAGES, waiting)
    async with Linker(settings) as linker:
        return [(await linker.create_link(each)).url for each in ids]


async def not_modified(request: Request) -> Response:
    """Nothing is new."""
    return Response(status_code=304, headers={"x-poll-seconds": str(int(SECONDS) - 1)})


def serve_bare(port: int) -> None:
    """Answer every poll in the same way, until it is killed."""
    app = Starlette(routes=[Route("/{path:path}", not_modified)])
    uvicorn.run(app, port=port, log_level="error", access_log=False)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def bare(port: int) -> Iterator[int]:
    """The server that knows nothing; gives its process."""
    process = multiprocessing.get_context("spawn").Process(target=serve_bare, args=(port,), daemon=True)
    process.start()
    assert process.pid is not None
    yield process.pid
    process.kill()
    process.join()


@contextmanager
def dialog(port: int, settings: Settings) -> Iterator[int]:
    """`linker dialog`; gives its process."""
    environment = {
        **os.environ,
        "LINKER_DATABASE_URL": settings.database_url,
        "LINKER_SECRET_KEYS": settings.secret_keys[0].get_secret_value(),
        "LINKER_WORKABLE_URL": settings.workable_url,
        "LINKER_PUBLIC_URL": str(settings.public_url),
        "LINKER_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "linker", "dialog", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield process.pid
        process.kill()


def processor_seconds(pid: int) -> float:
    """What a process has had of the processor."""
    used = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


async def share(pid: int, links: list[str]) -> float:
    """The share of a core that a process takes while all pages are open, in hundredths."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=PAGES), timeout=30.0) as http:

        async def page(number: int, link: str) -> None:
            at, _, secret = link.partition("#")
            sent = {"x-link-secret": secret, "sec-fetch-site": "same-origin"}
            await asyncio.sleep(number / PAGES * SECONDS)
            while True:
                answer = await http.get(f"{at}/state", headers=sent)
                assert answer.status_code in (200, 304), answer.status_code
                sent["if-none-match"] = answer.headers.get("etag", "")
                await asyncio.sleep(float(answer.headers["x-poll-seconds"]))

        await listening(http, links[0])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(page(number, link)) for number, link in enumerate(links)]
            await asyncio.sleep(SECONDS)  # all have asked once
            before, began = processor_seconds(pid), time.monotonic()
            await asyncio.sleep(SECONDS)
            used = (processor_seconds(pid) - before) / (time.monotonic() - began)
            for task in tasks:
                task.cancel()
    return used * 100


async def listening(http: httpx.AsyncClient, link: str) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        try:
            await http.get(link.partition("#")[0])
        except httpx.TransportError:
            await asyncio.sleep(0.1)
        else:
            return
    raise TimeoutError("the server does not answer")


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of open pages."""
    if not Path("/proc/self/stat").exists():
        figures.miss("open_pages", "this system does not tell what a process has had of the processor")
        return
    with local.workable(PAGES) as workable_url:
        for number in range(rounds):
            port = free_port()
            settings = Settings(
                database_url=f"sqlite:///{folder}/pages{number}.db",
                workable_url=workable_url,
                secret_keys=(new_key(),),
                public_url=f"http://127.0.0.1:{port}",
            )
            links = asyncio.run(open_links(settings, folder))
            with dialog(port, settings) as pid:
                figures.add(OURS, asyncio.run(share(pid, links)))
            with bare(port) as pid:
                figures.add(BARE, asyncio.run(share(pid, links)))
    figures.ratio("open_pages_over_goal", OURS, MOST_PER_CENT, goal=1.0, at_most=True)
    figures.ratio("open_pages", OURS, BARE)
