import asyncio
import threading

import pytest
from pydantic import SecretStr

from linker import Announcement, Connection, ConnectionState, Linker, NotFound, Settings, blocking, new_key
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory

TOKEN = SecretStr("a-token-of-acme")


async def waiting_for_recruiter(linker: Linker) -> Connection:
    """A connection whose recruiter was issued."""
    connection = await linker.create(owner="customer-1")
    return await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)


async def test_a_handler_does_not_wait_for_the_next_beat() -> None:
    """What a person's press announces is delivered at once by an open heartbeat, however rare its beats are."""
    workable = ScriptedWorkable()
    linked = asyncio.Event()
    async with linker_in_memory(workable=workable, sweep_seconds=3600) as linker:

        @linker.on("linked")
        async def told(announcement: Announcement) -> None:
            linked.set()

        async with linker.heartbeat():
            connection = await waiting_for_recruiter(linker)
            assert connection.recruiter is not None
            workable.add_recruiter(connection.recruiter.email)
            await linker.confirm_recruiter(connection.id)
            async with asyncio.timeout(10):
                await linked.wait()


async def test_a_linker_attends_also_after_its_heartbeat() -> None:
    """A host that ended its heartbeat can still attend what is due from a queue of its own."""
    clock, workable = SettableClock(), ScriptedWorkable()
    async with linker_in_memory(clock=clock, workable=workable) as linker:
        async with linker.heartbeat():
            connection = await waiting_for_recruiter(linker)
        assert connection.recruiter is not None
        workable.add_recruiter(connection.recruiter.email)
        clock.advance(minutes=1)
        assert (await linker.attend_due()).advanced == 1
        assert (await linker.get(connection.id)).state is ConnectionState.LINKED


async def test_more_answers_than_one_commit_takes_are_all_written() -> None:
    """Hundreds come at the same moment: each is decided on and written once, in the same pass."""
    clock, workable = SettableClock(), ScriptedWorkable()
    async with linker_in_memory(clock=clock, workable=workable, concurrency=350, batch_size=350) as linker:
        for number in range(350):
            connection = await linker.create(owner=f"customer-{number}")
            await linker.submit_token(connection.id, subdomain=f"acme{number}", token=TOKEN)
        clock.advance(minutes=2)
        done = await linker.attend_due()
        assert (done.claimed, done.waiting, done.lost) == (350, 350, 0)
        assert {one.checks for one in await linker.find()} == {1}


def test_a_host_without_an_event_loop_has_the_same_linker() -> None:
    """Through the portal a synchronous host calls the same methods, in a thread that is not its own."""
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    linker = Linker(settings, workable=ScriptedWorkable(), clock=SettableClock())
    threads: set[str] = set()

    @linker.on("opened")
    async def told(announcement: Announcement) -> None:
        threads.add(threading.current_thread().name)

    with blocking(linker) as call:
        connection = call(linker.create, owner="customer-1")
        submitted = call(linker.submit_token, connection.id, subdomain="acme", token=TOKEN)
        assert submitted.state is ConnectionState.AWAITING_RECRUITER
        assert call(linker.deliver) == 1
    assert threads
    assert threading.current_thread().name not in threads


def test_errors_come_through_the_portal() -> None:
    """What a method raises, a synchronous host catches."""
    linker = Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),)), workable=ScriptedWorkable())
    with blocking(linker) as call, pytest.raises(NotFound, match="no connection"):
        call(linker.get, "con_unknown")
