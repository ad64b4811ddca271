import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from linker import Announcement, BadInput, Connection, ConnectionState, Linker, NotFound, Settings, blocking, new_key
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


async def test_the_audit_has_what_operators_did_and_not_what_came_by_itself() -> None:
    """What an operator opened, submitted and confirmed is in it, under whatever name; what a customer did so is not."""
    all_of_it = ["open", "submit", "submit", "submit", "confirm"]
    for actor, by_hand, verbs in (
        ("operator:ann", False, all_of_it),
        ("ann", True, all_of_it),
        ("customer:ann", False, []),
    ):
        workable = ScriptedWorkable()
        async with linker_in_memory(workable=workable) as linker:
            given: dict[str, Any] = {"actor": actor, "by_hand": by_hand}
            connection = await linker.create(owner="customer-1", **given)
            waiting = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN, **given)
            assert (await linker.explain(connection.id)).told is None or not verbs
            assert waiting.recruiter is not None
            workable.add_recruiter(waiting.recruiter.email)
            linked = await linker.confirm_recruiter(connection.id, **given)
            assert linked.state is ConnectionState.LINKED
            assert [entry.verb async for entry in linker.audit()] == verbs


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


async def entered(linker: Linker, connection_id: Any) -> None:
    """Enter a client."""
    async with linker.client(connection_id):
        raise AssertionError("there is no such connection")


@pytest.mark.parametrize(
    "door",
    [
        entered,
        lambda linker, given: linker.reveal_token(given, reason="why"),
        lambda linker, given: linker.links(given),
        lambda linker, given: linker.revoke_link(given),
        lambda linker, given: linker.watch(given),
    ],
)
async def test_an_id_that_can_be_none_is_told(door: Callable[[Linker, Any], Awaitable[object]]) -> None:
    """No text is bad input, and what no id looks like is not found; the database is asked for neither."""
    async with linker_in_memory() as linker:
        for no_text in (123, None, b"con_1"):
            with pytest.raises(BadInput) as bad:
                await door(linker, no_text)
            assert (bad.value.field, bad.value.reason) == ("id", "not_text")
        for given in ("con_\ud800", "con_" + "x" * 100_000, ""):
            with pytest.raises(NotFound):
                await door(linker, given)


ODD: dict[str, list[Any]] = {
    "wait": ["5", None, True, -1, float("nan")],
    "retries": [1.5, "1", None, True],
    "allow": [None, 5, [{}], [None], ["linked", b"failed"], "closed"],
}


@pytest.mark.parametrize(("field", "given"), [(field, one) for field, odd in ODD.items() for one in odd])
async def test_a_client_is_asked_for_in_words_that_it_knows(field: str, given: Any) -> None:
    """What is of another type is bad input of its field."""
    async with linker_in_memory() as linker:
        with pytest.raises(BadInput) as bad:
            linker.client("con_1", **{field: given})
        assert bad.value.field == field
