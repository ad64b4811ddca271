"""What one part of a pass hands on to the next."""

import asyncio
from collections.abc import Mapping

import pytest

from linker.engine.concurrency import AskedTogether, BatchQueue, in_parts
from linker.errors import StoreUnavailable

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


async def test_who_asks_at_the_same_time_is_answered_together() -> None:
    """Those who come while a question is under way are in the next one; each has an answer of its own, or none."""
    asked: list[set[str]] = []

    async def ask(given: Mapping[str, int]) -> Mapping[str, int]:
        asked.append(set(given))
        await asyncio.sleep(0.01)
        return {name: 10 * number for name, number in given.items() if number}

    together = AskedTogether(ask)
    first = [asyncio.create_task(together(f"first-{number}", number)) for number in range(20)]
    await asyncio.sleep(0.001)
    later = [asyncio.create_task(together(f"later-{number}", number)) for number in range(20)]
    expected = [None, *range(10, 200, 10)]
    assert await asyncio.gather(*first) == expected
    assert await asyncio.gather(*later) == expected
    assert [len(names) for names in asked] == [20, 20]
    assert await together("alone", 1) == 10


async def test_a_question_that_fails_fails_for_all_who_asked_it_and_no_other() -> None:
    """And whoever goes away takes the answer from nobody."""
    is_down = True

    async def ask(given: Mapping[str, int]) -> Mapping[str, int]:
        await asyncio.sleep(0)
        if is_down:
            raise StoreUnavailable("lost")
        return given

    together = AskedTogether(ask)
    failed = await asyncio.gather(*(together(name, 1) for name in "abc"), return_exceptions=True)
    assert [type(each) for each in failed] == [StoreUnavailable] * 3
    is_down = False
    left, kept = (asyncio.create_task(together(name, 1)) for name in "de")
    await asyncio.sleep(0)
    left.cancel()
    assert await kept == 1


def test_a_question_is_asked_in_the_loop_of_who_asks() -> None:
    """A linker may be opened again in another event loop, after the first one was torn down in the middle of it."""

    async def ask(given: Mapping[str, int]) -> Mapping[str, int]:
        if "stuck" in given:
            await asyncio.Event().wait()
        return given

    together = AskedTogether(ask)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(together("stuck", 1), 0.01)

    asyncio.run(give_up())
    assert asyncio.run(together("again", 2)) == 2
