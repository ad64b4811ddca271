"""Telling the host: at least once, in order, and no handler harms another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from linker.encryption import new_key
from linker.errors import BadInput, StoreUnavailable
from linker.linker import Linker
from linker.outbox.administration import OutboxAdministration
from linker.outbox.announcements import Announcement
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.outbox.handlers import announcement_named
from linker.outbox.outbox_store import EXPIRE_AFTER
from linker.persistence.tables import OUTBOX
from linker.settings import Settings
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from states.history import ANNOUNCEMENTS
from tests.seams import parts


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still."""
    return SettableClock()


@pytest.fixture
async def linker(clock: SettableClock) -> AsyncIterator[Linker]:
    """A linker in memory."""
    async with linker_in_memory(clock=clock) as made:
        yield made


class Ears:
    """A handler that remembers what it heard, and raises as long as it is told to."""

    def __init__(self, raises: BaseException | None = None) -> None:
        self.heard: list[Announcement] = []
        self.raises = raises

    async def listen(self, announcement: Announcement) -> None:
        """Remember, then raise."""
        self.heard.append(announcement)
        if self.raises is not None:
            raise self.raises

    @property
    def types(self) -> list[str]:
        """What was heard, in order."""
        return [one.type for one in self.heard]


async def accepted(linker: Linker, owner: str = "customer-1") -> str:
    """A connection with three announcements: opened, token accepted, awaiting the recruiter; gives its id."""
    connection = await linker.create(owner=owner)
    await linker.submit_token(connection.id, subdomain="acme", token=SecretStr("token-0123456789abcdef"))
    return connection.id


STORY = ["connection.opened", "token.accepted", "connection.awaiting_recruiter"]


def hear_all(linker: Linker, ears: Ears) -> None:
    """Let it listen to the whole story."""
    for name in STORY:
        linker.on(name)(ears.listen)


# who is called


async def test_a_handler_hears_each_announcement_once(linker: Linker) -> None:
    """In the order in which it happened, after the commit, and not again at the next delivery."""
    ears = Ears()
    hear_all(linker, ears)
    connection_id = await accepted(linker)
    assert ears.heard == [], "nothing is told from inside a transition"
    assert await linker.deliver() == 3
    assert await linker.deliver() == 0
    assert ears.types == STORY
    assert {one.connection_id for one in ears.heard} == {connection_id}
    assert len({one.message_id for one in ears.heard}) == 3
    assert ears.heard[0].payload["data"]["state"] == "awaiting_token"


def _a_function(heard: list[str]) -> Callable[[Announcement], Any]:
    def handler(announcement: Announcement) -> None:
        heard.append(announcement.type)

    return handler


def _a_coroutine_function(heard: list[str]) -> Callable[[Announcement], Any]:
    async def handler(announcement: Announcement) -> None:
        await asyncio.sleep(0)
        heard.append(announcement.type)

    return handler


def _a_function_that_gives_a_coroutine(heard: list[str]) -> Callable[[Announcement], Any]:
    return lambda announcement: _a_coroutine_function(heard)(announcement)


class _Callable:
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    async def __call__(self, announcement: Announcement) -> None:
        await asyncio.sleep(0)
        self.heard.append(announcement.type)


@pytest.mark.parametrize(
    "kind",
    [_a_function, _a_coroutine_function, _a_function_that_gives_a_coroutine, _Callable],
    ids=lambda k: k.__name__,
)
async def test_any_callable_can_be_a_handler(
    linker: Linker, kind: Callable[[list[str]], Callable[[Announcement], Any]]
) -> None:
    """Functions, coroutine functions, functions that give coroutines, and objects: all are called to their end."""
    heard: list[str] = []
    linker.on("opened")(kind(heard))
    await linker.create(owner="customer-1")
    assert await linker.deliver() == 1
    assert heard == ["connection.opened"]


async def test_handlers_of_the_same_name_are_all_called(linker: Linker) -> None:
    """Functions made in a loop share their name; none takes the place of another."""
    heard: list[str] = []
    for _ in range(3):
        linker.on("opened")(_a_function(heard))
    await linker.create(owner="customer-1")
    await linker.deliver()
    assert len(heard) == 3


async def test_the_same_handler_is_called_once(linker: Linker) -> None:
    """Registering again, as a reload does, changes nothing."""
    ears = Ears()
    for _ in range(3):
        linker.on("opened")(ears.listen)
        linker.on("connection.opened")(ears.listen)
    await linker.create(owner="customer-1")
    await linker.deliver()
    assert len(ears.heard) == 1


@pytest.mark.parametrize("full", ANNOUNCEMENTS)
def test_every_announcement_has_a_short_name(full: str) -> None:
    """`linked` means `connection.linked`; the full name is good too."""
    assert announcement_named(full) == announcement_named(full.removeprefix("connection.")) == full


@pytest.mark.parametrize("name", ["", "link", "LINKED", "connection", "connection.", "connection.token.accepted"])
async def test_an_unknown_announcement_is_refused(linker: Linker, name: str) -> None:
    """A slip is told when the handler is registered, with the names that exist."""
    with pytest.raises(
        BadInput, match=r"announcement: There is no such one\. There are: .*connection\.linked"
    ) as caught:
        linker.on(name)(Ears().listen)
    assert (caught.value.field, caught.value.reason) == ("announcement", "unknown")
    assert caught.value.params == {"given": name, "known": list(ANNOUNCEMENTS)}


async def test_a_process_without_handlers_leaves_everything(linker: Linker) -> None:
    """The announcements wait for a process that has handlers, however often others deliver."""
    await accepted(linker)
    assert await linker.deliver() == 0
    ears = Ears()
    hear_all(linker, ears)
    await linker.deliver()
    assert ears.types == STORY


async def test_a_process_delivers_only_what_it_has_handlers_for(linker: Linker) -> None:
    """What others listen to is left to them, and does not hold up what we listen to."""
    ears = Ears()
    linker.on("awaiting_recruiter")(ears.listen)
    await accepted(linker)
    await linker.deliver()
    assert ears.types == STORY[2:]
    linker.on("opened")(ears.listen)
    await linker.deliver()
    assert ears.types == [STORY[2], STORY[0]]


# a handler that raises


async def test_a_handler_that_raises_is_called_again_alone(linker: Linker, clock: SettableClock) -> None:
    """The others have heard it and are not bothered again; the message keeps its id."""
    good, bad = Ears(), Ears(RuntimeError("not now"))
    linker.on("opened")(good.listen)
    linker.on("opened")(bad.listen)
    await linker.create(owner="customer-1")
    assert await linker.deliver() == 0
    assert await linker.deliver() == 0, "not before its time"
    bad.raises = None
    clock.advance(hours=1)
    assert await linker.deliver() == 1
    assert (len(good.heard), len(bad.heard)) == (1, 2)
    assert {one.message_id for one in bad.heard} == {good.heard[0].message_id}
    assert [one.attempts for one in bad.heard] == [0, 1]


async def test_a_handler_that_raises_harms_no_other_connection(linker: Linker) -> None:
    """Only the story of its own connection waits."""
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    first = await accepted(linker)
    await linker.deliver()
    ears.raises = None
    second = await accepted(linker, owner="customer-2")
    await linker.deliver()
    assert [one.type for one in ears.heard if one.connection_id == first] == STORY[:1]
    assert [one.type for one in ears.heard if one.connection_id == second] == STORY


async def test_a_story_is_told_in_order(linker: Linker, clock: SettableClock) -> None:
    """What comes later waits until the host has what came before."""
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    await accepted(linker)
    for _ in range(3):
        await linker.deliver()
        clock.advance(hours=1)
    assert ears.types == STORY[:1] * 3
    ears.raises = None
    assert await linker.deliver() == 3
    assert ears.types == STORY[:1] * 3 + STORY


async def test_an_announcement_is_given_up_in_the_end(linker: Linker, clock: SettableClock) -> None:
    """After three days of raising it is put aside, and the story goes on."""
    bad, good = Ears(RuntimeError("never")), Ears()
    linker.on("opened")(bad.listen)
    for name in STORY[1:]:
        linker.on(name)(good.listen)
    await accepted(linker)
    await linker.deliver()
    assert (len(bad.heard), good.types) == (1, [])
    clock.advance(seconds=GIVE_UP_AFTER.total_seconds())
    assert await linker.deliver() == 2
    assert (len(bad.heard), good.types) == (2, STORY[1:])
    clock.advance(days=30)
    assert await linker.deliver() == 0
    assert len(bad.heard) == 2


async def test_whoever_begins_to_listen_is_not_told_of_years_ago(linker: Linker, clock: SettableClock) -> None:
    """What nobody was there to take for a week expires; what is younger is told."""
    await accepted(linker, owner="long-ago")
    clock.advance(seconds=EXPIRE_AFTER.total_seconds())
    younger = await accepted(linker, owner="lately")
    clock.advance(days=6.9)
    ears = Ears()
    hear_all(linker, ears)
    assert await linker.deliver() == 3
    assert ears.types == STORY
    assert {one.connection_id for one in ears.heard} == {younger}


async def test_what_waits_behind_a_failure_does_not_expire(linker: Linker, clock: SettableClock) -> None:
    """It was not forgotten: its turn comes when the one before is given up, however long that took."""
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    await accepted(linker)
    for _ in range(9):
        await linker.deliver()
        clock.advance(days=1.5)
    assert ears.types == [name for name in STORY for _ in range(3)], "each had its three days"


@pytest.mark.parametrize("what", ["drop", "retry"])
async def test_an_operator_lets_what_waits_go_on_at_once(linker: Linker, clock: SettableClock, what: str) -> None:
    """Dropped, or tried again with success: what waited behind it does not wait for the time of the next try."""
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    await accepted(linker)
    for _ in range(9):
        await linker.deliver()
        clock.advance(hours=1)
    await linker.deliver()
    ears.raises, [message_id, *_] = None, [one.message_id for one in ears.heard]
    ears.heard, administration, now = [], OutboxAdministration(parts(linker).database), clock.now()
    if what == "drop":
        await administration.drop([message_id], now=now, reason="a bad one")
    else:
        await administration.retry([message_id], now=now, until=now + GIVE_UP_AFTER)
    await linker.deliver()
    assert ears.types == (STORY[1:] if what == "drop" else STORY)


async def test_a_failing_handler_keeps_nothing_from_another_process(sqlite_url: str) -> None:
    """Each process waits for what its own handlers failed with, and not for what it has no handlers for."""
    clock, bad, good = SettableClock(), Ears(RuntimeError("never")), Ears()
    settings = Settings(database_url=sqlite_url, secret_keys=(new_key(),))
    async with (
        Linker(settings, clock=clock, workable=ScriptedWorkable()) as one,
        Linker(settings, clock=clock, workable=ScriptedWorkable()) as other,
    ):
        one.on("opened")(bad.listen)
        other.on("token.accepted")(good.listen)
        await accepted(one)
        for _ in range(3):
            await one.deliver()
            clock.advance(seconds=1)
        await other.deliver()
    assert (bad.types[:1], good.types) == (STORY[:1], STORY[1:2])


@pytest.mark.parametrize("ended_by", ["drop", "success"])
async def test_what_waited_behind_a_failure_that_ended_is_told(
    linker: Linker, clock: SettableClock, ended_by: str
) -> None:
    """Though it is older than a week by then: it waited for its turn, and not for somebody to take it."""
    await accepted(linker)
    clock.advance(days=5)  # nobody delivers
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    for _ in range(53):
        await linker.deliver()
        clock.advance(hours=1)
    ears.raises = None
    if ended_by == "drop":
        message_id, ears.heard = ears.heard[0].message_id, []
        await OutboxAdministration(parts(linker).database).drop([message_id], now=clock.now(), reason="a bad one")
    else:
        ears.heard = []
        clock.advance(hours=1)
    await linker.deliver()
    assert ears.types == (STORY[1:] if ended_by == "drop" else STORY)


async def test_what_waits_behind_a_failure_is_due_with_it(linker: Linker, clock: SettableClock) -> None:
    """So a claim never walks over what cannot be delivered yet, however much waits."""
    ears = Ears(RuntimeError("not now"))
    hear_all(linker, ears)
    await accepted(linker)
    await linker.deliver()
    due = await parts(linker).database.read(
        lambda transaction: transaction.execute(select(OUTBOX.c.due_at).distinct()).scalars().all()
    )
    assert len(due) == 1
    assert due[0] > clock.now()


@pytest.mark.parametrize(("days", "told"), [(6.9, STORY[1:]), (7, [])])
async def test_what_waited_behind_a_dead_letter_has_a_week_of_its_own(
    linker: Linker, clock: SettableClock, days: float, told: list[str]
) -> None:
    """Until then it could not be told, whoever was there: the time in which it waited is not counted."""
    bad, good = Ears(RuntimeError("never")), Ears()
    linker.on("opened")(bad.listen)
    await accepted(linker)
    await linker.deliver()
    clock.advance(seconds=GIVE_UP_AFTER.total_seconds())
    await linker.deliver()
    clock.advance(days=days)
    for name in STORY[1:]:
        linker.on(name)(good.listen)
    await linker.deliver()
    assert good.types == told


async def test_a_slow_handler_holds_up_its_own_connection_only(linker: Linker) -> None:
    """While one is being called, the others are told, written down, and their next announcements told too."""
    go_on, ears = asyncio.Event(), Ears()

    async def slow(announcement: Announcement) -> None:
        if announcement.payload["data"]["owner"] == "slow":
            await go_on.wait()

    linker.on("opened")(slow)
    hear_all(linker, ears)
    await accepted(linker, owner="slow")
    delivering = asyncio.create_task(linker.deliver())
    await asyncio.sleep(0)
    await accepted(linker, owner="quick")
    async with asyncio.timeout(10):
        while len(ears.heard) < 4:  # noqa: ASYNC110 - handlers that are called tell nobody else
            await asyncio.sleep(0.01)
    assert [one.payload["data"]["owner"] for one in ears.heard] == ["slow", "quick", "quick", "quick"]
    go_on.set()
    assert await delivering == 6


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_that_exits_does_not_end_the_host(linker: Linker, clock: SettableClock, plain: bool) -> None:
    """A library that calls `sys.exit()` in a handler is a failure as any other: it is counted, and tried again."""
    ears = Ears(raises=SystemExit(3))

    def exits(announcement: Announcement) -> None:
        ears.heard.append(announcement)
        raise SystemExit(3)

    linker.on("opened")(exits if plain else ears.listen)
    await linker.create(owner="customer-1")
    for _ in range(2):
        assert await linker.deliver() == 0
        clock.advance(hours=1)
    assert ears.types == ["connection.opened"] * 2


async def test_a_call_that_delivers_comes_to_an_end(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much falls due meanwhile, the caller goes on: what is left is for the next call."""
    monkeypatch.setattr("linker.linker.BEGIN_FOR_SECONDS", 0.1)

    @linker.on("opened")
    async def opens_another(announcement: Announcement) -> None:
        await linker.create(owner="customer-1")

    await linker.create(owner="customer-1")
    async with asyncio.timeout(20):
        assert await linker.deliver() > 1


async def test_a_handler_may_raise_cancelled_error(linker: Linker, clock: SettableClock) -> None:
    """Something that the handler waited for was cancelled: that is its trouble, and stops nobody else."""
    good, bad = Ears(), Ears(asyncio.CancelledError())
    linker.on("opened")(bad.listen)
    linker.on("opened")(good.listen)
    await linker.create(owner="customer-1")
    await linker.deliver()
    clock.advance(hours=1)
    await linker.deliver()
    assert (len(good.heard), len(bad.heard)) == (1, 2)


async def test_delivering_can_be_cancelled(linker: Linker, clock: SettableClock) -> None:
    """Whoever stops the process need not wait for a handler; what it did not finish is told again."""
    begun = asyncio.Event()
    heard: list[str] = []

    async def slow(announcement: Announcement) -> None:
        heard.append(announcement.type)
        begun.set()
        if len(heard) == 1:
            await asyncio.Event().wait()

    linker.on("opened")(slow)
    await linker.create(owner="customer-1")
    task = asyncio.create_task(linker.deliver())
    await begun.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    clock.advance(hours=1)
    assert await linker.deliver() == 1
    assert len(heard) == 2


async def test_what_was_not_written_down_is_told_again(
    linker: Linker, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: a crash after the handler and before the commit repeats the announcement, with the same id."""
    ears = Ears()
    linker.on("opened")(ears.listen)
    await linker.create(owner="customer-1")

    async def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk_full")

    with monkeypatch.context() as broken:
        broken.setattr(type(parts(linker).calling.outbox), "settle_deliveries", full)
        with pytest.raises(StoreUnavailable):
            await linker.deliver()
    assert await linker.deliver() == 0, "the lease of the one that crashed still runs"
    clock.advance(seconds=61)
    assert await linker.deliver() == 1
    assert len({one.message_id for one in ears.heard}) == 1
    assert len(ears.heard) == 2


async def test_two_processes_share_the_work(sqlite_url: str) -> None:
    """Several deliver at the same time, and each announcement is told by one of them."""
    settings = Settings(database_url=sqlite_url, secret_keys=(new_key(),))
    ears, clock = Ears(), SettableClock()
    one, other = (Linker(settings, workable=ScriptedWorkable(), clock=clock) for _ in range(2))
    async with one, other:
        for each in (one, other):
            hear_all(each, ears)
        for number in range(20):
            await one.create(owner=f"customer-{number}")
        delivered = await asyncio.gather(*(each.deliver() for each in (one, other) * 3))
    assert sum(delivered) == 20
    assert len({each.message_id for each in ears.heard}) == len(ears.heard) == 20
