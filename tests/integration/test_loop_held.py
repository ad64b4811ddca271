"""How long an answer of Workable's holds a host's event loop: however it is made, within the limits.

What is measured is the processor's time between two turns of the loop: other programs on the machine are not counted.
"""

import asyncio
import gc
import gzip
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from linker.http_client import build_transport
from linker.workable.api import MAX_ANSWER_BYTES
from linker.workable.client import Timeouts, WorkableClient
from states.connection import Recruiter
from states.verdicts import NotUnderstood, RecruiterNotSeen, RecruiterSeen, Verdict

TOKEN = SecretStr("c4n4ry-c4n4ry-c4n4ry")
OURS = Recruiter(name="Northwind Integration", email="ats+q7kd2m@inbound.example")
LIMIT = MAX_ANSWER_BYTES
#: What one answer may take, and the answers of many accounts together, in seconds of the processor at a time.
HELD_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _own_garbage() -> Iterator[None]:
    """What the other tests left is not looked through when garbage is collected: it is none of an answer's cost."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Held:
    """The longest time that the loop's thread worked between two of its turns."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> "Held":
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


@pytest.mark.parametrize("made", ANSWERS)
async def test_no_answer_holds_the_loop(made: str) -> None:
    """One answer, however it is made, is read in short pieces or refused."""
    async with workable(ANSWERS[made]()) as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url, timeouts=Timeouts(pause=0.0))
        async with Held() as held:
            verdict = await looked(client)
    assert isinstance(verdict, NotUnderstood | RecruiterNotSeen), verdict
    assert held.longest < HELD_SECONDS, f"{held.longest * 1000:.0f} ms"


async def test_no_packed_answer_holds_the_loop() -> None:
    """What a proxy packed is not unpacked beyond the limit."""
    for body in (filled(b"{}"), b" " * 40 * LIMIT, ANSWERS["many keys"]()):
        packed = gzip.compress(body, 9)
        async with workable(packed, b"Content-Encoding: gzip") as url, build_transport() as transport:
            client = WorkableClient(transport, url_template=url)
            async with Held() as held:
                await looked(client)
        assert held.longest < HELD_SECONDS, f"{held.longest * 1000:.0f} ms"


async def test_an_answer_in_small_chunks_does_not_hold_the_loop() -> None:
    """A byte in each chunk: every one of them is handled by itself."""
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in filled(named(), 200_000)) + b"0\r\n\r\n"
    async with workable(body, b"Transfer-Encoding: chunked") as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url)
        async with Held() as held:
            assert isinstance(await looked(client), RecruiterNotSeen)
    assert held.longest < HELD_SECONDS, f"{held.longest * 1000:.0f} ms"


@pytest.mark.parametrize(
    "made", ["empty entries, few enough to be read", "entries of the usual shape", "small entries"]
)
async def test_fifty_large_answers_do_not_hold_the_loop(made: str) -> None:
    """Those of fifty accounts at a time: in each turn of the loop there is one piece of one of them."""
    async with workable(ANSWERS[made]()) as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url)
        async with Held() as held:
            verdicts = await asyncio.gather(
                *(client.look(f"s{number}", TOKEN, OURS, extra_calls=0) for number in range(50))
            )
    assert {type(one.verdict) for one in verdicts} == {RecruiterNotSeen}
    assert held.longest < HELD_SECONDS, f"{held.longest * 1000:.0f} ms"


async def test_usual_answers_do_not_hold_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of twenty, for fifty accounts at a time: no callback takes 10 ms."""
    run, longest = asyncio.Handle._run, 0.0

    def watched(handle: asyncio.Handle) -> None:
        nonlocal longest
        began = time.thread_time()
        run(handle)
        longest = max(longest, time.thread_time() - began)

    body = listed(*({"id": f"{n}", "name": f"Recruiter {n}", "email": f"r{n}@agency.example"} for n in range(20)))
    async with workable(body) as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url)
        await client.look("s0", TOKEN, OURS)
        monkeypatch.setattr(asyncio.Handle, "_run", watched)
        for _ in range(4):
            await asyncio.gather(*(client.look(f"s{n}", TOKEN, OURS) for n in range(50)))
        monkeypatch.undo()
    assert longest < 0.01, f"{longest * 1000:.0f} ms"


@pytest.mark.parametrize("others", [0, 400, 4_900])
async def test_ours_is_found_in_a_list_of_any_length(others: int) -> None:
    """As the last of the list; with the capitals that it was typed with only if none has ours exactly."""
    crowd: list[Any] = [{"id": f"{n}", "name": "x", "email": f"r{n}@agency.example"} for n in range(others)]
    theirs, ours = {"id": "t", "email": OURS.email.upper()}, {"id": "o", "email": OURS.email}
    for entries, found in ((([*crowd, theirs, ours]), "o"), ([*crowd, theirs], "t")):
        async with workable(listed(*entries)) as url, build_transport() as transport:
            assert await looked(WorkableClient(transport, url_template=url)) == RecruiterSeen(found)
