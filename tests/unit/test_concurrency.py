"""What one part of a pass hands on to the next."""

import asyncio

from linker.engine.concurrency import BatchQueue

#: Nobody in these tests may wait until gathering is given up, but the one that says so.
LONG = 60.0


async def test_enough_things_are_taken_at_once() -> None:
    """Whoever takes waits until there are enough, and then no longer."""
    things = BatchQueue[int](enough=2, gather_seconds=LONG)
    taking = asyncio.create_task(things.take(10))
    things.put([1])
    await asyncio.sleep(0.01)
    assert not taking.done()
    things.put([2, 3])
    assert await asyncio.wait_for(taking, 5) == [1, 2, 3]


async def test_the_last_things_are_not_waited_for() -> None:
    """Once nothing more comes a few are enough, and then there are none."""
    things = BatchQueue[int](enough=2, gather_seconds=LONG)
    things.put([1])
    taking = asyncio.create_task(things.take(10))
    await asyncio.sleep(0.01)
    things.end()
    assert await asyncio.wait_for(taking, 5) == [1]
    assert await things.take(10) == []


async def test_a_few_things_are_taken_after_a_while() -> None:
    """A few do not wait for ever for more."""
    things = BatchQueue[int](enough=2, gather_seconds=0.01)
    things.put([1])
    assert await asyncio.wait_for(things.take(10), 5) == [1]


async def test_who_does_not_gather_takes_what_there_is() -> None:
    """Without gathering one thing is enough, each time anew."""
    things = BatchQueue[int]()
    for number in range(2):
        things.put([number])
        assert await asyncio.wait_for(things.take(10), 5) == [number]
