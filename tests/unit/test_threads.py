"""The threads beside the event loop: what comes out of them, what cancelling leaves undone, and how they end."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from linker.database.threads import Threads
from linker.errors import StoreUnavailable


@pytest.fixture
def one() -> Iterator[Threads]:
    """One thread."""
    threads = Threads(1, "a database")
    yield threads
    threads.close()


class Gate:
    """Work that a thread is held up in until a test opens it."""

    def __init__(self) -> None:
        self.begun, self._opened = threading.Event(), threading.Event()

    def work(self) -> str:
        """Say that it is begun, and wait."""
        self.begun.set()
        assert self._opened.wait(30)
        return "done"

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


async def held_up(threads: Threads) -> tuple[Gate, "asyncio.Task[str]"]:
    """Threads of which one has begun something that it does not end by itself."""
    gate = Gate()
    task = asyncio.create_task(threads.do(gate.work))
    assert await asyncio.to_thread(gate.begun.wait, 30)
    return gate, task


async def test_what_work_gives_comes_out(one: Threads) -> None:
    """Of work with and without arguments, done in a thread that is not the event loop's."""
    assert await one.do(divmod, 7, 2) == (3, 1)
    assert await one.do(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
async def test_what_work_raises_comes_out_and_the_thread_goes_on(one: Threads, error: type[BaseException]) -> None:
    """Whatever it is, also what ends other threads."""

    def fail() -> None:
        raise error("no")

    with pytest.raises(error, match="no"):
        await one.do(fail)
    assert await one.do(abs, -1) == 1


async def test_one_thread_does_everything_in_its_order(one: Threads) -> None:
    """And nothing beside anything else."""
    done: list[int] = []
    await asyncio.gather(*[one.do(done.append, number) for number in range(100)])
    assert done == list(range(100))


async def test_several_work_beside_each_other() -> None:
    """As many as were asked for, at the same time."""
    threads = Threads(3, "a database")
    barrier = threading.Barrier(3)
    await asyncio.gather(*[threads.do(barrier.wait, 30) for _ in range(3)])
    threads.close()


async def test_what_was_cancelled_before_it_was_begun_is_not_done(one: Threads) -> None:
    """The one before it is, and so is the one behind it."""
    gate, first = await held_up(one)
    done: list[str] = []
    cancelled, behind = [asyncio.create_task(one.do(done.append, name)) for name in ("cancelled", "behind")]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    gate.open()
    await behind
    assert (await first, done) == ("done", ["behind"])


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_cancelled_while_it_was_under_way_ends_in_silence(one: Threads, fails: bool) -> None:
    """It is done to its end; what it gives or raises is nobody's."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    gate, ended = Gate(), threading.Event()

    def work() -> None:
        gate.work()
        ended.set()
        if fails:
            raise ValueError("no")

    task = asyncio.create_task(one.do(work))
    assert await asyncio.to_thread(gate.begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    assert await one.do(abs, -1) == 1  # behind it
    del task
    gc.collect()
    assert ended.is_set()
    assert said == []


def test_an_event_loop_that_is_gone_is_nobody_to_tell(one: Threads) -> None:
    """The thread goes on with what others ask it."""
    gate = Gate()

    async def leave() -> None:
        task = asyncio.create_task(one.do(gate.work))
        await asyncio.to_thread(gate.begun.wait, 30)
        task.cancel()

    asyncio.run(leave())
    gate.open()
    assert asyncio.run(one.do(abs, -1)) == 1


async def let_go(watch: "weakref.ref[Any]") -> None:
    """Wait until nobody has it any more: a thread lets go of its work a moment after it answered."""
    for _ in range(1000):
        if watch() is None:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it is kept")


async def test_nothing_that_was_given_or_came_out_is_kept(one: Threads) -> None:
    """Nor is what failed, with all that its traceback holds."""

    class Big:
        pass

    def fail(_: Big) -> None:
        raise ValueError("no")

    gc.disable()
    try:
        given = Big()
        watch = weakref.ref(given)
        assert await one.do(lambda big: big, given) is given
        with pytest.raises(ValueError, match="no") as raised:
            await one.do(fail, given)
        del given, raised
        await let_go(watch)
    finally:
        gc.enable()


async def test_closing_waits_for_all_that_was_given(one: Threads) -> None:
    """What is last comes after it, in the thread itself."""
    gate, first = await held_up(one)
    done: list[Any] = []
    second = asyncio.create_task(one.do(done.append, "second"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(one.close, lambda: done.append(threading.current_thread().daemon)))
    assert not (await asyncio.wait([closing], timeout=0.05))[0]
    gate.open()
    await closing
    assert done == ["second", True]
    assert await first == "done"
    await second
    one.close()


async def test_after_closing_work_is_refused(one: Threads) -> None:
    """Also where nothing was ever begun."""
    one.close()
    with pytest.raises(StoreUnavailable, match="a database: it was closed here"):
        await one.do(abs, -1)


async def test_a_thread_that_could_not_begin_is_tried_again(one: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked hears of it, what was refused is not done later, and nobody after it waits in vain."""
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: _raise(RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError, match="can't start"):
            await one.do(done.append, "refused")
    await one.do(done.append, "taken")
    assert done == ["taken"]


async def test_where_no_more_threads_can_be_had_those_that_are_there_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than refuse what one of them could do."""
    threads = Threads(2, "a database")
    await threads.do(abs, -1)
    monkeypatch.setattr(threading.Thread, "start", lambda _: _raise(RuntimeError("can't start new thread")))
    assert await threads.do(abs, -2) == 2
    threads.close()


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_closing_while_several_event_loops_give_work_leaves_nobody_waiting(count: int, seed: int) -> None:
    """Each piece of work is done or refused, and is done if it is said to be; what is last is done once."""
    threads, randomness = Threads(count, "a database"), random.Random(seed)
    done: list[int | str] = []
    outcomes: list[int | None] = []

    async def ask(number: int) -> None:
        try:
            await threads.do(done.append, number)
            outcomes.append(number)
        except StoreUnavailable:
            outcomes.append(None)

    def host(first: int, leaves: bool) -> None:
        async def all_of_them() -> None:
            tasks = [asyncio.create_task(ask(number)) for number in range(first, first + 50)]
            await asyncio.sleep(0)
            if not leaves:
                await asyncio.wait_for(asyncio.gather(*tasks), 30)

        asyncio.run(all_of_them())

    hosts = [threading.Thread(target=host, args=(100 * number, randomness.random() < 0.3)) for number in range(3)]
    closers = [threading.Thread(target=threads.close, args=(lambda: done.append("last"),)) for _ in range(2)]
    in_turn = [*hosts, *closers]
    randomness.shuffle(in_turn)
    for thread in in_turn:
        thread.start()
    for thread in in_turn:
        thread.join(60)
        assert not thread.is_alive()
    assert set(outcomes) - {None} <= set(done)
    assert done.count("last") == (1 if threads._begun else 0)
    assert count > 1 or "last" in done[-1:] or not done
    assert not any(thread.is_alive() for thread in threads._begun)


AT_EXIT = """
import asyncio, atexit

def last():
    for threads in (old, Threads(1, "begun at the exit")):
        try:
            print(asyncio.run(threads.do(abs, -1)), flush=True)
        except RuntimeError:
            print("refused", flush=True)
        threads.close(lambda: print("closed", flush=True))

atexit.register(last)
from linker.database.threads import Threads
old = Threads(1, "begun before")
asyncio.run(old.do(abs, -1))
"""


def test_who_is_called_at_the_exit_is_not_kept_waiting() -> None:
    """Python 3.12 begins no more threads then, and says so; everything else goes on as before."""
    ran = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    said = ran.stdout.split()
    assert said[:2] == ["1", "closed"]
    assert said[2:] in (["1", "closed"], ["refused"])


async def test_threads_end_where_closing_is_forgotten() -> None:
    """They do not outlive who has them."""
    threads = Threads(2, "a database")
    await threads.do(abs, -1)
    begun = threads._begun
    del threads
    for thread in begun:
        thread.join(30)
    assert not any(thread.is_alive() for thread in begun)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_instead_of_kept_waiting(one: Threads) -> None:
    """Its threads stayed behind."""
    asyncio.run(one.do(abs, -1))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        signal.alarm(30)
        try:
            asyncio.run(one.do(abs, -1))
        except StoreUnavailable as refused:
            said = str(refused)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as told:
        assert told.read() == "a database: it was opened before this process was forked. Open it in each process."
    assert asyncio.run(one.do(abs, -1)) == 1
