"""Rotation of keys over a real store, beside workers that hold connections."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from linker import Busy, Linker, SealBroken, Settings, new_key
from linker.database.database import Database
from linker.engine.ports import Lease, SystemClock
from linker.operations import key_rotation
from linker.operations.key_rotation import Rotated, rotate_keys
from linker.persistence.schema import upgrade
from linker.persistence.tables import CONNECTION
from linker.testing import ScriptedWorkable, SettableClock
from tests.seams import parts

OLD, NEW = new_key(), new_key()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and little patience with workers."""
    monkeypatch.setattr(key_rotation, "BATCH_ROWS", 2)
    monkeypatch.setattr(key_rotation, "ROUNDS", 2)
    monkeypatch.setattr(key_rotation, "PAUSE_SECONDS", 0)


def settings(url: str, *keys: SecretStr) -> Settings:
    """Settings with these keys, newest first."""
    return Settings(database_url=url, secret_keys=keys)


def linker(url: str, clock: SettableClock, *keys: SecretStr) -> Linker:
    """A linker with these keys, and a Workable that accepts every token."""
    return Linker(settings(url, *keys), clock=clock, workable=ScriptedWorkable())


async def waiting(open_linker: Linker, count: int) -> list[str]:
    """So many connections that hold a token; their ids, in order."""
    ids = []
    for number in range(count):
        created = await open_linker.create(owner=f"customer-{number}")
        await open_linker.submit_token(created.id, subdomain=f"acme-{number}", token=SecretStr("a-good-token"))
        ids.append(created.id)
    return sorted(ids)


async def test_every_token_is_sealed_again_in_batches(database_url: str) -> None:
    """After rotating, all tokens open with the new key alone, and nothing else of the rows has changed."""
    clock = SettableClock()
    upgrade(database := Database(database_url))
    database.close()
    async with linker(database_url, clock, OLD) as before:
        ids = await waiting(before, 5)
        states = [(await before.get(each)).state for each in ids]
    told: list[tuple[int, int]] = []
    rotated = await rotate_keys(settings(database_url, NEW, OLD), lambda done, total: told.append((done, total)), clock)
    assert rotated == Rotated(resealed=5, already=0)
    assert told[-1] == (5, 5)
    assert len(told) > 2
    async with linker(database_url, clock, NEW) as after:
        looked = [await after.confirm_recruiter(each) for each in ids]
        assert [connection.state for connection in looked] == states
    assert await rotate_keys(settings(database_url, NEW), clock=clock) == Rotated(resealed=0, already=5)


async def test_what_a_worker_holds_is_left_to_it(database_url: str) -> None:
    """A leased connection is not written, so that its worker's answer is not lost; it is named as busy."""
    clock = SettableClock()
    upgrade(database := Database(database_url))
    database.close()
    async with linker(database_url, clock, OLD) as before:
        held, free = await waiting(before, 2)
        until = clock.now() + timedelta(hours=1)
        claimed = await parts(before).store.claim(held, now=clock.now(), lease=Lease(holder="a-worker", until=until))
        assert claimed is not None
        with pytest.raises(Busy):
            await rotate_keys(settings(database_url, NEW, OLD), clock=clock)
        assert (await before.get(held)).version == claimed.version
        assert (await before.get(free)).version > 0
        await parts(before).store.release([held], Lease(holder="a-worker", until=until))
        assert await rotate_keys(settings(database_url, NEW, OLD), clock=clock) == Rotated(resealed=1, already=1)


async def test_leases_are_judged_by_the_clock_that_all_share(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL, a machine whose clock is five minutes ahead leaves to a worker what the worker holds."""
    upgrade(database := Database(postgres_url))
    database.close()
    async with Linker(settings(postgres_url, OLD), workable=ScriptedWorkable()) as before:
        [held] = await waiting(before, 1)
        until = before.clock.now() + timedelta(minutes=1)
        claimed = await parts(before).store.claim(
            held, now=before.clock.now(), lease=Lease(holder="a-worker", until=until)
        )
        assert claimed is not None
        ahead = timedelta(minutes=5)
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + ahead)
        monkeypatch.setattr(
            "linker.persistence.server_clock.time.time", lambda now=time.time: now() + ahead.total_seconds()
        )
        with pytest.raises(Busy):
            await rotate_keys(settings(postgres_url, NEW, OLD))
        assert (await before.get(held)).version == claimed.version


async def test_tokens_that_do_not_open_harm_no_other(sqlite_url: str) -> None:
    """Damaged tokens end the rotation with an error that names them all, what was done, and what to do."""
    clock = SettableClock()
    async with linker(sqlite_url, clock, OLD) as before:
        *broken, _ = await waiting(before, 3)
    database = Database(sqlite_url)
    swap = CONNECTION.update().where(CONNECTION.c.id.in_(broken)).values(token_sealed=f"v1.{'0' * 8}.x")
    database.write_here(lambda transaction: transaction.execute(swap))
    database.close()
    for resealed, already in ((1, 0), (0, 1)):
        with pytest.raises(SealBroken) as told:
            await rotate_keys(settings(sqlite_url, NEW, OLD), clock=clock)
        assert f"sealed again: {resealed}; sealed with the newest key before: {already}." in str(told.value)
        assert ", ".join(broken) in str(told.value)
        assert "Keep the old key" in str(told.value)
