"""Handlers that hang, that change what they are handed, and the others that shall not notice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from linker.encryption import new_key
from linker.errors import BadInput
from linker.linker import Linker
from linker.outbox.announcements import Announcement
from linker.outbox.handlers import MOST_LEFT_BEHIND, MOST_THREADS
from linker.settings import Settings
from linker.testing import SettableClock, linker_in_memory


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still."""
    return SettableClock()


@pytest.fixture
async def linker(clock: SettableClock) -> AsyncIterator[Linker]:
    """A linker in memory whose deliveries may take a second."""
    async with linker_in_memory(clock=clock, lease_seconds=2) as made:
        yield made


class Hanging:
    """A handler that hangs until it is let go, plain or `async`; some cannot be cancelled."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls: list[str] = []

    def plain(self, announcement: Announcement) -> None:
        """Hang in a thread."""
        self.calls.append(announcement.message_id)
        self.let_go.wait(60)

    async def patient(self, announcement: Announcement) -> None:
        """Hang in the event loop."""
        self.calls.append(announcement.message_id)
        await asyncio.sleep(60)

    async def stubborn(self, announcement: Announcement) -> None:
        """Hang in the event loop, whoever cancels it."""
        self.calls.append(announcement.message_id)
        while not self.let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @property
    def every(self) -> list[Callable[..., Any]]:
        """All ways to hang."""
        return [self.plain, self.patient, self.stubborn]


async def opened(linker: Linker, count: int) -> None:
    """So many announcements, each of a connection of its own."""
    for number in range(count):
        await linker.create(owner=f"owner-{number}")


@pytest.mark.parametrize("way", ["plain", "stubborn"])
async def test_a_handler_that_hangs_costs_a_bounded_number_of_calls(
    linker: Linker, clock: SettableClock, way: str
) -> None:
    """However many announcements there are and however often they are tried; once it ends it is called again."""
    hanging = Hanging()
    linker.on("opened")(getattr(hanging, way))
    before = threading.active_count()
    await opened(linker, MOST_THREADS + 60)
    try:
        for _ in range(3):
            await linker.deliver()
            clock.advance(hours=2)
        assert len(hanging.calls) <= (MOST_THREADS if way == "plain" else 100)
        assert threading.active_count() - before <= MOST_THREADS + 5
        assert len(asyncio.all_tasks()) <= 100 + MOST_LEFT_BEHIND
    finally:
        hanging.let_go.set()
    await asyncio.sleep(0.1)
    delivered = 0
    for _ in range(4):
        delivered += await linker.deliver()
        clock.advance(hours=2)
    assert delivered == MOST_THREADS + 60


async def test_the_others_are_told_all_the_same(linker: Linker, clock: SettableClock) -> None:
    """A handler that hangs keeps no other from its announcements, and none of another kind."""
    hanging, told = Hanging(), list[str]()
    for handler in hanging.every:
        linker.on("opened")(handler)

    @linker.on("opened")
    def plain(announcement: Announcement) -> None:
        told.append(announcement.connection_id)

    @linker.on("opened")
    async def ours(announcement: Announcement) -> None:
        told.append(announcement.connection_id)

    await opened(linker, 30)
    try:
        await linker.deliver()
        assert len(told) == 60
        assert len(set(told)) == 30
    finally:
        hanging.let_go.set()
        await asyncio.sleep(0.05)


async def test_each_handler_has_a_payload_of_its_own(linker: Linker) -> None:
    """What one does to it no other sees, also deep inside, and not at the next try either."""
    seen: list[Any] = []

    @linker.on("opened")
    async def spoils(announcement: Announcement) -> None:
        payload: Any = announcement.payload
        payload["data"]["metadata"]["spoilt"] = "yes"
        payload["data"].pop("owner")
        payload.clear()

    @linker.on("opened")
    def spoils_in_a_thread(announcement: Announcement) -> None:
        payload: Any = announcement.payload
        payload["data"].clear()
        raise ValueError("and is told again")

    @linker.on("opened")
    async def reads(announcement: Announcement) -> None:
        await asyncio.sleep(0.05)
        seen.append((announcement.payload["data"]["owner"], announcement.payload["data"]["metadata"]))

    await linker.create(owner="customer-1", metadata={"plan": "pro"})
    await linker.deliver()
    assert seen == [("customer-1", {"plan": "pro"})]


@pytest.mark.parametrize("given", [None, 5, "print"], ids=str)
def test_what_cannot_be_called_is_no_handler(given: Any) -> None:
    """It is told where it is registered."""
    with pytest.raises(BadInput) as caught:
        Linker.on(_never_opened(), "opened")(given)
    assert (caught.value.field, caught.value.reason) == ("handler", "not_callable")


@pytest.mark.parametrize("given", [None, 5, ["opened"]], ids=str)
def test_what_is_no_text_is_no_announcement(given: Any) -> None:
    """Its value is not repeated."""
    with pytest.raises(BadInput) as caught:
        Linker.on(_never_opened(), given)(print)
    assert (caught.value.field, caught.value.reason) == ("announcement", "not_text")


def _never_opened() -> Linker:
    return Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),)))
