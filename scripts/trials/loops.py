"""Answers of Workable's that take long to read: how long each of them holds the event loop of its reader.

What is measured is the processor's time between two turns of the loop: other programs on the machine are not counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pydantic import SecretStr

from linker.http_client import build_transport
from linker.workable.api import MAX_ANSWER_BYTES
from linker.workable.client import Timeouts, WorkableClient
from scripts.trials.outcome import Outcome
from states.connection import Recruiter
from states.verdicts import NotUnderstood, RecruiterNotSeen, Verdict

TOKEN = SecretStr("c4n4ry-c4n4ry-c4n4ry")
OURS = Recruiter(name="Northwind Integration", email="ats+q7kd2m@inbound.example")
LIMIT = MAX_ANSWER_BYTES
#: What one answer may take, and the answers of many accounts together, in seconds of the processor at a time.
HELD_SECONDS = 0.05


class Held:
    """The longest time that the loop's thread worked between two of its turns."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Held:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        self.longest = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


@asynccontextmanager
async def workable(recruiters: bytes, *headers: bytes) -> AsyncIterator[str]:
    """Answers every list of recruiters with these bytes, which stand in a process of their own."""
    code = (
        "import asyncio, sys\n"
        "body = sys.stdin.buffer.read()\n"
        "async def handle(r, w):\n"
        "    try:\n"
        "        while True:\n"
        "            head = await r.readuntil(b'\\r\\n\\r\\n')\n"
        "            name = head.split(b' ', 2)[1].rpartition(b'/')[2].split(b'?')[0]\n"
        "            small = b'{\"members\": []}' if name == b'members' else "
        'b\'{"id": "i%s", "name": "x", "subdomain": "%s"}\' % (name, name)\n'
        "            good = b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n'\n"
        "            good += b'Content-Length: %d\\r\\n\\r\\n%s'\n"
        "            w.write(body if name == b'recruiters' else good % (len(small), small))\n"
        "            await w.drain()\n"
        "    except (asyncio.IncompleteReadError, ConnectionError):\n"
        "        pass\n"
        "async def main():\n"
        "    s = await asyncio.start_server(handle, '127.0.0.1', 0, backlog=512)\n"
        "    print(s.sockets[0].getsockname()[1], flush=True)\n"
        "    await s.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Type: application/json", *headers])
        length = b"" if any(b"chunked" in one for one in headers) else b"\r\nContent-Length: %d" % len(recruiters)
        server.stdin.write(head + length + b"\r\n\r\n" + recruiters)
        await server.stdin.drain()
        server.stdin.close()
        yield f"http://127.0.0.1:{int(await server.stdout.readline())}/{{subdomain}}"
    finally:
        server.kill()
        await server.wait()


def listed(*entries: object) -> bytes:
    """A list of recruiters."""
    return json.dumps({"recruiters": entries}, ensure_ascii=False).encode()


def filled(entry: bytes, most: int = LIMIT) -> bytes:
    """A list of as many such entries as there is room for."""
    count = (most - 20) // (len(entry) + 1)
    return b'{"recruiters":[' + b",".join([entry] * count) + b"]}"


def marks(count: int) -> str:
    """A letter with so many marks on it, in the order that takes the longest to put right."""
    return "a" + "\u0315" * (count // 2) + "\u0327" * (count // 2)


def named(name: object = "x", email: object = "x@agency.example") -> bytes:
    """An entry."""
    return json.dumps({"id": "1", "name": name, "email": email}, ensure_ascii=False).encode()


ALMOST = "zts+q7kd2m@inbound.exampqq"
ANSWERS: dict[str, Callable[[], bytes]] = {
    "marks in a name": lambda: listed({"id": "1", "name": marks(LIMIT // 2 - 1_000), "email": "b@x.example"}),
    "marks in an e-mail": lambda: listed({"id": "1", "name": "b", "email": marks(LIMIT // 2 - 1_000) + "@x"}),
    "marks in every name": lambda: filled(named(name=marks(310))),
    "marks in every name, short": lambda: filled(named(name=marks(60))),
    "marks in an id": lambda: listed({"id": marks(LIMIT // 2 - 1_000), "name": "b", "email": "b@x.example"}),
    "marks in a key": lambda: listed({marks(LIMIT // 2 - 1_000): 1}),
    "marks in what an edge says": lambda: json.dumps({"title": marks(LIMIT // 2 - 1_000), "recruiters": []}).encode(),
    "capitals of Greek": lambda: listed({"id": "1", "name": "Σ" * (LIMIT // 4), "email": "ΰ" * 10_000}),
    "empty entries": lambda: filled(b"{}"),
    "empty entries, few enough to be read": lambda: filled(b"{}", 29_000),
    "numbers for entries": lambda: filled(b"1"),
    "small entries": lambda: filled(b'{"id":1}', 85_000),
    "entries that are almost ours": lambda: filled(named(email=ALMOST)),
    "entries of the usual shape": lambda: filled(
        named(name="Recruiter", email="recruiter@agency.example.com"), 350_000
    ),
    "too many entries of the usual shape": lambda: filled(named(name="Recruiter", email="r@agency.example.com")),
    "lists within lists": lambda: b"[" * (LIMIT - 10),
    "objects within objects": lambda: b'{"recruiters":' * (LIMIT // 13 - 10),
    "deep, and good": lambda: b'{"recruiters":[' + b"[" * 150 + b"]" * 150 + b"]}",
    "many keys": lambda: json.dumps({f"k{n}": n for n in range(19_000)}).encode(),
    "a long number": lambda: b'{"recruiters":[' + b"9" * (LIMIT - 100) + b"]}",
    "a long fraction": lambda: b'{"recruiters":[0.' + b"1" * (LIMIT - 100) + b"]}",
    "an id that is a long number": lambda: b'{"recruiters":[{"id":' + b"9" * 4_000 + b',"name":"x","email":"y"}]}',
    "half characters": lambda: b'{"recruiters":[{"name":"' + b"\\ud800" * (LIMIT // 6 - 20) + b'"}]}',
    "escapes": lambda: b'{"recruiters":[{"name":"' + b"\\u00e9" * (LIMIT // 6 - 20) + b'"}]}',
    "bytes that are no text": lambda: b'{"recruiters":["' + b"\xff" * (LIMIT - 100) + b'"]}',
    "blanks": lambda: b'{"recruiters":[' + b" " * (LIMIT - 100) + b"]}",
    "control characters in a name": lambda: listed({"id": "1", "name": "\x01\n\t" * (LIMIT // 13), "email": "x"}),
    "longer than the limit": lambda: b" " * (4 * LIMIT),
}


async def looked(client: WorkableClient) -> Verdict:
    """One look."""
    return (await client.look("acme", TOKEN, OURS, extra_calls=1)).verdict


async def read(made: str) -> tuple[Verdict, float]:
    """Read one of the answers: what it was taken for, and the seconds for which it held the loop at most."""
    async with workable(ANSWERS[made]()) as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url, timeouts=Timeouts(pause=0.0))
        async with Held() as held:
            return await looked(client), held.longest


async def run(most: int) -> Outcome:
    """Read each of so many of the answers."""
    outcome, longest = Outcome(), 0.0
    gc.collect()
    gc.freeze()  # what was tried before is none of an answer's cost
    try:
        for made in list(ANSWERS)[:most]:
            verdict, held = await read(made)
            outcome.tried += 1
            longest = max(longest, held)
            if not isinstance(verdict, NotUnderstood | RecruiterNotSeen):
                outcome.wrong.append(f"{made}: {verdict}")
            if held >= HELD_SECONDS:
                outcome.wrong.append(f"{made}: {held * 1000:.0f} ms")
    finally:
        gc.unfreeze()
    outcome.most = f"{longest * 1000:.0f} ms"
    return outcome
