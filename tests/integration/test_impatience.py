"""People and hosts who press again, hang, and leave at the wrong time."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from pydantic import SecretStr

from linker import Announcement, ConnectionState, Linker, Settings, new_key
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from states.problems import ProblemCode
from states.verdicts import OverLimit, Unavailable

TOKEN = SecretStr("a-token-of-acme")


async def test_a_handler_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain function that does not come back stops neither other handlers nor the event loop, nor is it doubled."""
    monkeypatch.setattr("linker.engine.leases.DELIVERY_SECONDS", 0.2)
    clock, let_go, calls, told = SettableClock(), threading.Event(), list[str](), list[str]()
    async with linker_in_memory(clock=clock) as linker:

        @linker.on("opened")
        def hangs(announcement: Announcement) -> None:
            calls.append(announcement.message_id)
            let_go.wait(30)

        @linker.on("opened")
        async def listens(announcement: Announcement) -> None:
            told.append(announcement.message_id)

        await linker.create(owner="customer-1")
        for _ in range(3):
            await linker.deliver()
            clock.advance(hours=2)
        assert len(told) == 1
        assert len(calls) == 1
        let_go.set()


async def test_confirming_while_the_token_waits_asks_again() -> None:
    """Who presses while the token could not be verified yet is not told to paste it again: it is verified now."""
    workable, clock = ScriptedWorkable(), SettableClock()
    async with linker_in_memory(workable=workable, clock=clock) as linker:
        connection = await linker.create(owner="customer-1")
        workable.will_say(Unavailable())
        await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        confirmed = await linker.confirm_recruiter(connection.id)
        assert confirmed.state is ConnectionState.AWAITING_RECRUITER


async def test_pressing_too_often_changes_nothing() -> None:
    """A press that our own politeness forbids leaves what the last look found."""
    workable, clock = ScriptedWorkable(), SettableClock()
    async with linker_in_memory(workable=workable, clock=clock) as linker:
        connection = await linker.create(owner="customer-1")
        await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        looked = await linker.confirm_recruiter(connection.id)
        workable.will_say(OverLimit(clock.now() + timedelta(seconds=9), unasked=True))
        pressed = await linker.confirm_recruiter(connection.id)
        assert looked.problem is not None
        assert looked.problem.code is ProblemCode.RECRUITER_ABSENT
        assert (pressed.problem, pressed.checks, pressed.due_at) == (looked.problem, looked.checks, looked.due_at)


async def test_an_ended_scheduler_of_the_host_hurts_nobody() -> None:
    """A host that ends its own scheduler first can still open connections and leave the heartbeat."""
    scheduler = AsyncIOScheduler()
    scheduler.start()
    async with linker_in_memory() as linker, linker.heartbeat(scheduler):
        scheduler.shutdown(wait=False)
        connection = await linker.create(owner="customer-1")
    assert connection.state is ConnectionState.AWAITING_TOKEN


async def test_closing_does_not_wait_for_another_process_s_lock(tmp_path: Path) -> None:
    """A linker that is closed while somebody else holds the database is gone within seconds."""
    path = tmp_path / "linker.db"
    settings = Settings(database_url=f"sqlite:///{path}", secret_keys=(new_key(),))
    linker = Linker(settings, workable=ScriptedWorkable())
    async with linker:
        await linker.create(owner="customer-1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            blocked = asyncio.create_task(linker.create(owner="customer-2"))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await linker._close()
            assert time.monotonic() - began < 5
            with pytest.raises(Exception, match="Another process held the database"):
                await blocked
