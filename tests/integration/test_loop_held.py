"""How long an answer of Workable's holds a host's event loop: however it is made, within the limits."""

import asyncio
import gc
import gzip
from collections.abc import Iterator
from typing import Any

import pytest

from linker.http_client import build_transport
from linker.workable.client import WorkableClient
from scripts.benchmarks.sweep import HELD_MS, watched_callbacks
from scripts.trials.loops import (
    ANSWERS,
    HELD_SECONDS,
    LIMIT,
    OURS,
    TOKEN,
    Held,
    filled,
    listed,
    looked,
    named,
    read,
    workable,
)
from states.verdicts import NotUnderstood, RecruiterNotSeen, RecruiterSeen


@pytest.fixture(autouse=True)
def _own_garbage() -> Iterator[None]:
    """What the other tests left is not looked through when garbage is collected: it is none of an answer's cost."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("made", ANSWERS)
async def test_no_answer_holds_the_loop(made: str) -> None:
    """One answer, however it is made, is read in short pieces or refused."""
    verdict, held = await read(made)
    assert isinstance(verdict, NotUnderstood | RecruiterNotSeen), verdict
    assert held < HELD_SECONDS, f"{held * 1000:.0f} ms"


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


async def test_usual_answers_do_not_hold_the_loop() -> None:
    """Lists of twenty, for fifty accounts at a time: no callback takes 10 ms."""
    body = listed(*({"id": f"{n}", "name": f"Recruiter {n}", "email": f"r{n}@agency.example"} for n in range(20)))
    async with workable(body) as url, build_transport() as transport:
        client = WorkableClient(transport, url_template=url)
        await client.look("s0", TOKEN, OURS)
        with watched_callbacks() as held:
            for _ in range(4):
                await asyncio.gather(*(client.look(f"s{n}", TOKEN, OURS) for n in range(50)))
    assert 0 < max(computing for computing, _ in held) < HELD_MS


@pytest.mark.parametrize("others", [0, 400, 4_900])
async def test_ours_is_found_in_a_list_of_any_length(others: int) -> None:
    """As the last of the list; with the capitals that it was typed with only if none has ours exactly."""
    crowd: list[Any] = [{"id": f"{n}", "name": "x", "email": f"r{n}@agency.example"} for n in range(others)]
    theirs, ours = {"id": "t", "email": OURS.email.upper()}, {"id": "o", "email": OURS.email}
    for entries, found in ((([*crowd, theirs, ours]), "o"), ([*crowd, theirs], "t")):
        async with workable(listed(*entries)) as url, build_transport() as transport:
            assert await looked(WorkableClient(transport, url_template=url)) == RecruiterSeen(found)
