"""Connections to an SQLite file stay open between units of work, and none outlives its file, its trouble or its use."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from linker.errors import OurFault
from tests.integration.storehouse import NOW, House, a_lease, change, kept


@contextmanager
def watched(house: House) -> Iterator[list[Any]]:
    """Those connections that are opened within a block and not closed again."""
    engine, opened = house.database.engine, list[Any]()
    house.database.disconnect()
    sa.event.listen(engine, "connect", lambda raw, _: opened.append(raw))
    sa.event.listen(engine, "close", lambda raw, _: opened.remove(raw))
    yield opened


def connection_of(transaction: sa.Connection) -> Any:
    """The driver's connection, of which the test keeps hold: nothing else can take its place in memory."""
    return transaction.connection.driver_connection


async def test_a_connection_stays_open_for_the_next(sqlite_house: House) -> None:
    """Whoever reads or writes one after the other has the same one."""
    with watched(sqlite_house) as opened:
        connection = await kept(sqlite_house)
        for number in range(20):
            [written] = await sqlite_house.store.settle([change(connection, checks=number)], now=NOW, release=False)
            assert written
            connection = await sqlite_house.store.get(connection.id)
        assert len(opened) == 1


async def test_those_at_the_same_time_have_one_each(sqlite_house: House) -> None:
    """Nobody meets the transaction of somebody else."""
    together = threading.Barrier(3)

    def work(transaction: sa.Connection) -> Any:
        together.wait(30)
        return connection_of(transaction)

    database = sqlite_house.database
    with watched(sqlite_house) as opened:
        for _ in range(3):
            found = await asyncio.gather(database.read(work), database.read(work), database.write(work))
            assert len({id(each) for each in found}) == 3
        assert len(opened) == 3
        database.disconnect()
        assert opened == []


async def test_one_that_met_trouble_is_not_kept(sqlite_house: House) -> None:
    """Whatever state its connection is in after an error: the next unit of work has another one."""
    database = sqlite_house.database
    with watched(sqlite_house) as opened:
        before = await database.write(connection_of)
        with pytest.raises(OurFault):
            await database.write(lambda transaction: transaction.exec_driver_sql("SELECT nothing"))
        assert opened == []
        assert await database.write(connection_of) is not before


async def test_one_whose_thread_is_ended_is_not_kept(sqlite_house: House) -> None:
    """What ends a program in the middle of a commit leaves a connection in an unknown state."""
    database = sqlite_house.database

    def end(*_: object) -> None:
        raise SystemExit

    with watched(sqlite_house) as opened:
        for moment in ("before_cursor_execute", "commit"):
            sa.event.listen(database.engine, moment, end)
            with pytest.raises(SystemExit):
                database.write_here(lambda transaction: transaction.exec_driver_sql("SELECT 1"))
            sa.event.remove(database.engine, moment, end)
            assert opened == []
            assert await sqlite_house.store.find() == []
            database.disconnect()


async def test_a_lost_race_costs_no_connection(sqlite_house: House) -> None:
    """Whoever finds another version than the one that was read meets no trouble of the database."""
    connection = await kept(sqlite_house)
    with watched(sqlite_house) as opened:
        lost = change(replace(connection, version=connection.version + 7), checks=1)
        assert await sqlite_house.store.settle([lost], now=NOW, release=False) == [False]
        assert len(opened) == 1
        assert await sqlite_house.store.settle([change(connection, checks=1)], now=NOW, release=False) == [True]
        assert len(opened) == 1


async def test_the_file_that_is_opened_is_the_one_that_was_seen(sqlite_house: House) -> None:
    """Where it is moved away in the moment before it is opened, what SQLite makes in its place is not taken for it."""
    await kept(sqlite_house)
    path = Path(sqlite_house.url.removeprefix("sqlite:///"))
    house = House(sqlite_house.url)
    sqlite_house.close()
    moments = iter([lambda: path.rename(path.with_suffix(".away")), lambda: path.with_suffix(".away").replace(path)])

    @sa.event.listens_for(house.database.engine, "do_connect")
    def at_once(*_: object) -> None:
        next(moments, lambda: None)()

    assert len(await house.store.find()) == 1
    house.close()


@pytest.mark.parametrize("mode", ["read", "write"])
async def test_one_that_was_in_use_while_the_file_was_replaced_is_not_kept(sqlite_house: House, mode: str) -> None:
    """It ends on the file that it began on, and nobody after it reads or writes there."""
    await kept(sqlite_house)
    database, path = sqlite_house.database, Path(sqlite_house.url.removeprefix("sqlite:///"))
    database.outside_here("PRAGMA wal_checkpoint(TRUNCATE)")
    begun, go_on = threading.Event(), threading.Event()

    def slow(transaction: sa.Connection) -> Any:
        begun.set()
        go_on.wait(30)
        return connection_of(transaction)

    with watched(sqlite_house) as opened:
        slowly = asyncio.create_task(getattr(database, mode)(slow))
        await asyncio.to_thread(begun.wait, 30)
        shutil.copy(path, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        if mode == "read":  # who writes has one thread
            await sqlite_house.store.find()
        go_on.set()
        stale = await slowly
        connection = await kept(sqlite_house)
        assert stale not in opened
        assert connection in await sqlite_house.store.find()


async def test_only_a_lease_may_be_undone_by_a_power_cut(sqlite_house: House) -> None:
    """On the same connection a lease does not wait for the disk, and what was decided does."""

    def synchronous(transaction: sa.Connection) -> tuple[int, int]:
        return id(connection_of(transaction)), transaction.exec_driver_sql("PRAGMA synchronous").scalar_one()

    database = sqlite_house.database
    seen = [await write(synchronous) for write in (database.write, database.write_without_fsync) * 2]
    assert len({connection for connection, _ in seen}) == 1
    assert [how for _, how in seen] == [2, 1, 2, 1]  # FULL and NORMAL


async def test_the_store_claims_in_passing_and_settles_for_good(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two a method of the store takes."""
    connection = await kept(sqlite_house, due_at=NOW)
    seen: list[str] = []

    def told(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(sqlite_house.database, name)

        async def tell(work: Any) -> Any:
            seen.append(name)
            return await method(work)

        return tell

    for name in ("write", "write_without_fsync"):
        monkeypatch.setattr(sqlite_house.database, name, told(name))
    lease = a_lease("me")
    [held] = await sqlite_house.store.claim_due(now=NOW, limit=1, lease=lease)
    await sqlite_house.store.renew([held.id], lease)
    assert await sqlite_house.store.settle([change(held, checks=1)], now=NOW, release=True) == [True]
    await sqlite_house.store.claim(connection.id, now=NOW, lease=lease)
    await sqlite_house.store.release([connection.id], lease)
    assert seen == ["write_without_fsync", "write_without_fsync", "write", "write_without_fsync", "write_without_fsync"]
