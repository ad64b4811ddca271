import asyncio

import pytest

from linker.engine import concurrency
from linker.engine.concurrency import BatchQueue


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in these tests may wait until gathering is given up, but the one that says so."""
    monkeypatch.setattr(concurrency, "GATHER", 60.0)


async def test_enough_things_are_taken_at_once() -> None:
    """Whoever takes waits until there are enough, and then no longer."""
    things = BatchQueue[int](gathering=2)
    taking = asyncio.create_task(things.take())
    things.put([1])
    await asyncio.sleep(0.01)
    assert not taking.done()
    things.put([2, 3])
    assert await asyncio.wait_for(taking, 5) == [1, 2, 3]


async def test_the_last_things_are_not_waited_for() -> None:
    """Once nothing more comes a few are enough, and then there are none."""
    things = BatchQueue[int](gathering=2)
    things.put([1])
    taking = asyncio.create_task(things.take())
    await asyncio.sleep(0.01)
    things.end()
    assert await asyncio.wait_for(taking, 5) == [1]
    assert await things.take() == []


async def test_a_few_things_are_taken_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few do not wait for ever for more."""
    monkeypatch.setattr(concurrency, "GATHER", 0.01)
    things = BatchQueue[int](gathering=2)
    things.put([1])
    assert await asyncio.wait_for(things.take(), 5) == [1]


async def test_who_does_not_gather_takes_what_there_is() -> None:
    """Without gathering one thing is enough, each time anew."""
    things = BatchQueue[int]()
    for number in range(2):
        things.put([number])
        assert await asyncio.wait_for(things.take(), 5) == [number]
