"""The threads that a database is reached by: what comes out of them, what cancelling leaves undone, how they end."""

import asyncio
import gc
import os
import random
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from linker.database.database import Database
from linker.errors import StoreUnavailable


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A file: one thread writes it, and others read it."""
    one = Database(f"sqlite:///{tmp_path}/linker.db")
    one.write_here(lambda transaction: transaction.execute(text("CREATE TABLE done (what)")))
    yield one
    one.close()


def write(what: str) -> Callable[[Connection], None]:
    """A unit of work that can be found afterwards."""

    def work(transaction: Connection) -> None:
        transaction.execute(text("INSERT INTO done VALUES (:what)"), {"what": what})

    return work


def written(database: Database) -> list[str]:
    """What was done, in order."""
    query = text("SELECT what FROM done ORDER BY rowid")
    return list(database.read_here(lambda transaction: transaction.execute(query).scalars().all()))


class Gate:
    """A unit of work that is held up until a test opens it."""

    def __init__(self, fails: bool = False) -> None:
        self.begun, self._opened, self._fails = threading.Event(), threading.Event(), fails

    def work(self, _: Connection) -> str:
        """Say that it is begun, and wait."""
        self.begun.set()
        assert self._opened.wait(30)
        if self._fails:
            raise ValueError("no")
        return "done"

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


async def held_up(database: Database, *, fails: bool = False) -> tuple[Gate, "asyncio.Task[str]"]:
    """A database whose writing thread has begun something that it does not end by itself."""
    gate = Gate(fails)
    task = asyncio.create_task(database.write(gate.work))
    assert await asyncio.to_thread(gate.begun.wait, 30)
    return gate, task


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
async def test_what_work_raises_comes_out_and_the_thread_goes_on(
    database: Database, error: type[BaseException]
) -> None:
    """Whatever it is, also what ends other threads; what was written in it is undone."""

    def fail(transaction: Connection) -> None:
        write("half")(transaction)
        raise error("no")

    with pytest.raises(error, match="no"):
        await database.write(fail)
    await database.write(write("after"))
    assert written(database) == ["after"]


async def test_what_was_cancelled_before_it_was_begun_is_not_done(database: Database) -> None:
    """The one before it is, and so is the one behind it."""
    gate, first = await held_up(database)
    cancelled, behind = [asyncio.create_task(database.write(write(name))) for name in ("cancelled", "behind")]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    gate.open()
    await behind
    assert await first == "done"
    assert written(database) == ["behind"]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_cancelled_while_it_was_under_way_ends_in_silence(database: Database, fails: bool) -> None:
    """It is done to its end; what it gives or raises is nobody's."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    gate, task = await held_up(database, fails=fails)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await database.write(write("behind"))
    del task
    gc.collect()
    assert said == []


def test_an_event_loop_that_is_gone_is_nobody_to_tell(database: Database) -> None:
    """The thread goes on with what others ask it."""
    gates: list[Gate] = []

    async def leave() -> None:
        gate, task = await held_up(database)
        gates.append(gate)
        task.cancel()

    asyncio.run(leave())
    gates[0].open()
    asyncio.run(database.write(write("another")))
    assert written(database) == ["another"]


async def let_go(watch: "weakref.ref[Any]") -> None:
    """Wait until nobody has it any more: a thread lets go of its work a moment after it answered."""
    for _ in range(1000):
        if watch() is None:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it is kept")


async def test_nothing_that_was_given_or_came_out_is_kept(database: Database) -> None:
    """Nor is what failed, with all that its traceback holds."""

    class Big:
        def given_back(self, _: Connection) -> "Big":
            return self

        def fail(self, _: Connection) -> None:
            raise ValueError("no")

    gc.disable()
    try:
        given = Big()
        watch = weakref.ref(given)
        assert await database.read(given.given_back) is given
        with pytest.raises(ValueError, match="no") as raised:
            await database.read(given.fail)
        del given, raised
        await let_go(watch)
    finally:
        gc.enable()


async def test_closing_waits_for_all_that_was_given(database: Database) -> None:
    """What was begun, and what waits behind it."""
    gate, first = await held_up(database)
    second = asyncio.create_task(database.write(write("second")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(database.close))
    assert not (await asyncio.wait([closing], timeout=0.05))[0]
    gate.open()
    await closing
    assert await first == "done"
    await second
    assert written(database) == ["second"]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{path}/linker.db"], ids=["memory", "file"])
async def test_after_closing_work_is_refused(tmp_path: Path, url: str, used: bool) -> None:
    """Also where nothing was ever begun; and no thread is left."""
    before = set(threading.enumerate())
    one = Database(url.format(path=tmp_path))
    if used:
        await one.write(write_nothing)
    await asyncio.to_thread(one.close)
    one.close()  # once more: nothing
    with pytest.raises(StoreUnavailable, match="closed"):
        await one.write(write_nothing)
    with pytest.raises(StoreUnavailable, match="closed"):
        await one.read(write_nothing)
    assert not [left for left in set(threading.enumerate()) - before if "database" in left.name]


def write_nothing(_: Connection) -> None:
    """Do nothing in a transaction."""


async def test_what_was_refused_for_want_of_a_thread_is_not_done_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked hears of it, and nobody after it waits in vain."""

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(StoreUnavailable, match="thread"):
            await database.write(write("refused"))
    await database.write(write("taken"))
    assert written(database) == ["taken"]


@pytest.mark.parametrize("seed", range(5))
def test_closing_while_several_event_loops_give_work_leaves_nobody_waiting(database: Database, seed: int) -> None:
    """Each piece of work is done or refused, and is done if it is said to be."""
    chance = random.Random(seed)
    said_done: list[str] = []
    refused: list[str] = []

    async def ask(what: str) -> None:
        try:
            await database.write(write(what))
            said_done.append(what)
        except StoreUnavailable:
            refused.append(what)

    def host(name: int, leaves: bool) -> None:
        async def all_of_them() -> None:
            tasks = [asyncio.create_task(ask(f"{name}-{number}")) for number in range(20)]
            await asyncio.sleep(0)
            if not leaves:
                await asyncio.wait_for(asyncio.gather(*tasks), 30)

        asyncio.run(all_of_them())

    in_turn = [threading.Thread(target=host, args=(name, chance.random() < 0.3)) for name in range(3)]
    in_turn += [threading.Thread(target=database.close) for _ in range(2)]
    chance.shuffle(in_turn)
    for thread in in_turn:
        thread.start()
    for thread in in_turn:
        thread.join(60)
        assert not thread.is_alive()
    done = written(database)
    assert set(said_done) <= set(done)
    assert not set(refused) & set(done)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_instead_of_kept_waiting(database: Database) -> None:
    """Its threads stayed behind."""
    asyncio.run(database.write(write_nothing))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        signal.alarm(30)
        try:
            asyncio.run(database.write(write_nothing))
        except StoreUnavailable as refusal:
            said = str(refusal)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as told:
        assert "before this process was forked" in told.read()
    asyncio.run(database.write(write_nothing))
