"""What one part of a pass hands on to the next."""

import asyncio

import pytest

from linker.engine.concurrency import BatchQueue, in_parts

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


async def test_no_more_than_asked_for_are_taken_and_the_rest_stays_in_its_order() -> None:
    """Also once nothing more comes: what is left is given before the end is."""
    things = BatchQueue[int](enough=2, gather_seconds=LONG)
    things.put([1, 2, 3, 4, 5])
    assert await asyncio.wait_for(things.take(2), 5) == [1, 2]
    things.put([6])
    things.end()
    taken = [await asyncio.wait_for(things.take(3), 5) for _ in range(3)]
    assert taken == [[3, 4, 5], [6], []]


async def test_what_is_left_over_is_taken_at_once() -> None:
    """Whoever comes for the rest does not wait for more, though it is less than enough."""
    things = BatchQueue[int](enough=3, gather_seconds=LONG)
    things.put([1, 2, 3, 4])
    assert await asyncio.wait_for(things.take(3), 5) == [1, 2, 3]
    assert await asyncio.wait_for(things.take(3), 5) == [4]


@pytest.mark.parametrize(("number", "most"), [(0, 3), (3, 3), (7, 3)])
async def test_parts_hold_everything_once_and_others_have_their_turns_between(number: int, most: int) -> None:
    """Whatever else runs in the loop runs between any two parts."""
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(another())
    parts, turns_at = [], []
    async for part in in_parts(list(range(number)), most):
        parts.append(list(part))
        turns_at.append(turns)
    beside.cancel()
    assert [each for part in parts for each in part] == list(range(number))
    assert all(len(part) <= most for part in parts)
    assert len(set(turns_at)) == len(parts)
