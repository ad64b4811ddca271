"""A sweep over 2,000 customers, each of whom has a host of its own, as with `https://{subdomain}.workable.com`.

The other parts ask one host. Here no connection is used twice in a pass: each look finds a name, opens a connection
and leaves it idle. Counted are the files that are open in the worker's process at most, and the memory by which it grew
in a pass. Names are given by a stand-in for the system's resolver, in the threads in which ours asks it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scripts.benchmarks.figures import Figures
from scripts.benchmarks.sweep import DUE, Worker

DOMAIN = ".bench.localhost"
#: What a pass may have open at most: what is in flight, what is kept idle, the database, what was open before.
MOST_FILES = 200
#: By how much a process may grow over its passes.
MOST_MIB = 64
REAL = socket.getaddrinfo


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BODY = json.dumps({"recruiters": []}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


async def nobody_was_added(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer that no recruiter was added."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
            await writer.drain()
    writer.close()


def serve(ready: Pipe, handle: Handler) -> None:
    """Answer for every host, until the other end hangs up."""

    async def serve_all() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(ready.recv)

    asyncio.run(serve_all())


@contextmanager
def hosts(handle: Handler = nobody_was_added) -> Iterator[str]:
    """The template of the URLs, for as many hosts as are asked for; `handle` is a function of a module."""

    def look_up(host: Any, *given: Any, **more: Any) -> Any:
        return REAL("127.0.0.1" if str(host).endswith(DOMAIN) else host, *given, **more)

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, handle), daemon=True)
    process.start()
    try:
        with patch.object(socket, "getaddrinfo", look_up):
            yield f"http://{{subdomain}}{DOMAIN}:{here.recv()}"
    finally:
        here.send("done")
        process.join(10)


def open_files() -> int:
    """How many files are open in this process."""
    return len(os.listdir("/proc/self/fd"))


async def most_files(during: asyncio.Task[Any]) -> int:
    """The most files that are open in this process, as long as a task goes on."""
    most = 0
    while not during.done():
        most = max(most, open_files())
        await asyncio.sleep(0.005)
    return most


def grown_mib() -> float:
    """The most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure_hosts(figures: Figures, url: str, folder: Path, rounds: int) -> None:
    """Passes of a worker."""
    worker = Worker(url, f"sqlite:///{folder}/hosts.db")
    async with worker.linker:
        await worker.rate()
        for _ in range(rounds):
            before = grown_mib()
            passing = asyncio.create_task(worker.rate())
            figures.add("files open in a sweep over 2,000 hosts, at most", await most_files(passing))
            figures.add("sweep over 2,000 hosts, connections/s", await passing)
            figures.add("memory grown in a sweep over 2,000 hosts, MiB", grown_mib() - before)


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """Add the figures of many hosts."""
    assert DUE == 2_000, "the rows are named after it"
    if not Path("/proc/self/fd").is_dir():
        figures.miss("hosts_open_files", "this system does not tell which files a process has open")
        return
    with hosts() as url:
        asyncio.run(measure_hosts(figures, url, folder, rounds))
    files, memory = "files open in a sweep over 2,000 hosts, at most", "memory grown in a sweep over 2,000 hosts, MiB"
    figures.ratio("hosts_open_files", files, MOST_FILES, goal=1.0, at_most=True)
    figures.ratio("hosts_memory", memory, MOST_MIB, goal=1.0, at_most=True)
