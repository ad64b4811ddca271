"""The heartbeat: it goes on whatever happens, never overlaps, and ends when it is asked to."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo

import httpx
import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from pydantic import SecretStr

from linker.cli.metrics_server import served
from linker.engine.heartbeat import Heartbeat
from linker.errors import Busy, StoreUnavailable
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from tests.builders import NOW

#: So often that a test need not wait, and so rarely that only the first beat comes.
OFTEN, RARELY = 0.005, 3600.0
#: How long a test waits for what has to come, in seconds.
PATIENCE = 10.0


class Beat:
    """A beat that is counted; it does `work`, and shows when so many have come."""

    def __init__(self, work: Callable[[], Awaitable[object]] | None = None) -> None:
        self.count = 0
        self.at_once = 0
        self.most_at_once = 0
        self.ended = asyncio.Event()
        self._work = work
        self._came = asyncio.Condition()

    async def __call__(self) -> None:
        """Beat once."""
        self.count += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self._came:
            self._came.notify_all()
        try:
            if self._work is not None:
                await self._work()
        finally:
            self.at_once -= 1
            self.ended.set()

    async def came(self, times: int) -> None:
        """Wait until so many beats have begun."""
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: self.count >= times)


async def a_few_turns() -> None:
    """Let the loop do what it was asked to do soon."""
    for _ in range(10):
        await asyncio.sleep(0)


def raising(error: BaseException) -> Callable[[], Awaitable[object]]:
    """Work that raises."""

    async def work() -> None:
        raise error

    return work


@pytest.fixture
async def scheduler() -> AsyncIterator[AsyncIOScheduler]:
    """A host's own scheduler: its jobs are run in threads, and cannot be kept if they are not picklable."""

    class Picky(MemoryJobStore):  # type: ignore[misc]  # apscheduler comes without types
        def add_job(self, job: object) -> None:
            raise TypeError("this host keeps its jobs in a database")

    made = AsyncIOScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)}, jobstores={"default": Picky()})
    made.start()
    yield made
    if made.running:
        made.shutdown(wait=False)


async def test_the_first_beat_comes_at_once() -> None:
    """A worker that starts looks for what is due before it waits."""
    sweep, deliver = Beat(), Beat()
    heartbeat = Heartbeat({"sweep": sweep, "deliver": deliver}, seconds=RARELY)
    heartbeat.start()
    await sweep.came(1)
    await deliver.came(1)
    assert await heartbeat.stop(PATIENCE)
    assert (sweep.count, deliver.count) == (1, 1)


async def test_beats_go_on() -> None:
    """One after the other, every so many seconds."""
    beat = Beat()
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN)
    heartbeat.start()
    await beat.came(5)
    assert await heartbeat.stop(PATIENCE)


async def test_a_beat_never_overlaps_itself() -> None:
    """A pass that takes longer than the interval is not joined by another, not even when woken."""
    others, enough = Beat(), asyncio.Event()

    async def work() -> None:
        if not enough.is_set():
            await others.came(others.count + 3)

    beat = Beat(work)
    heartbeat = Heartbeat({"sweep": beat, "deliver": others}, seconds=OFTEN)
    heartbeat.start()
    for times in range(1, 6):
        await beat.came(times)
        heartbeat.wake("sweep")
    enough.set()
    await others.came(others.count + 4)
    assert beat.most_at_once == 1
    assert others.count > beat.count, "a slow beat does not hold up the other"
    assert await heartbeat.stop(PATIENCE)


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("disk_full"),
        Busy("attended_by_others", connection="con_1"),
        RuntimeError("unexpected"),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_beat_that_raises_is_followed_by_the_next(error: BaseException) -> None:
    """Our own errors and unexpected ones alike: the heart does not stop."""
    beat = Beat(raising(error))
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN)
    heartbeat.start()
    await beat.came(4)
    assert await heartbeat.stop(PATIENCE)


async def test_a_hosts_log_is_not_filled(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a line for each beat, nor a warning when one is woken or comes due while it is under way."""
    caplog.set_level(logging.INFO)
    go = asyncio.Event()
    slow = Beat(go.wait)
    heartbeat = Heartbeat({"sweep": slow}, seconds=OFTEN)
    heartbeat.start()
    await slow.came(1)
    for _ in range(50):
        heartbeat.wake("sweep", after=OFTEN)
        await asyncio.sleep(OFTEN)
    go.set()
    await slow.came(5)
    assert await heartbeat.stop(PATIENCE)
    assert slow.most_at_once == 1
    of_beats = [r for r in caplog.records if "executors" in r.name or r.levelno >= logging.WARNING]
    assert not of_beats, of_beats[0].getMessage()


async def test_waking() -> None:
    """What is woken beats now instead of at its time; what is unknown does no harm."""
    beat = Beat()
    heartbeat = Heartbeat({"sweep": beat}, seconds=RARELY)
    heartbeat.wake("sweep")
    heartbeat.start()
    await beat.came(1)
    for times in (2, 3):
        await beat.ended.wait()
        await a_few_turns()
        heartbeat.wake("sweep")
        await beat.came(times)
    heartbeat.wake("nothing")
    assert await heartbeat.stop(PATIENCE)
    heartbeat.wake("sweep")


async def test_what_is_woken_while_it_beats_comes_again() -> None:
    """It may have looked already when something was written; however often it was woken, it comes once more."""
    go_on = asyncio.Event()
    beat = Beat(go_on.wait)
    heartbeat = Heartbeat({"sweep": beat}, seconds=RARELY)
    heartbeat.start()
    await beat.came(1)
    for _ in range(3):
        heartbeat.wake("sweep")
    await a_few_turns()
    assert beat.count == 1
    go_on.set()
    await beat.came(2)
    await asyncio.sleep(0.2)
    assert beat.count == 2
    assert await heartbeat.stop(PATIENCE)


# stopping


async def test_stopping_waits_for_what_is_under_way() -> None:
    """The beat that has begun comes to its end, and no other begins."""
    go_on, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        done.set()

    beat = Beat(work)
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN)
    heartbeat.start()
    await beat.came(1)
    stopping = asyncio.create_task(heartbeat.stop(PATIENCE))
    await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    assert await stopping
    assert done.is_set()
    assert beat.count == 1


async def test_stopping_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """What does not come to its end in time is given up, and the caller is told: not the log of a job that failed."""
    never = asyncio.Event()
    beat = Beat(never.wait)
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN)
    heartbeat.start()
    await beat.came(1)
    async with asyncio.timeout(PATIENCE):
        assert not await heartbeat.stop(0.01)
        await a_few_turns()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_stopping_at_once() -> None:
    """A heartbeat that was never started, or only just, can be stopped; nothing is left in the loop."""
    before = asyncio.all_tasks()
    assert await Heartbeat({"sweep": Beat()}, seconds=OFTEN).stop(PATIENCE)
    beat = Beat()
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN)
    heartbeat.start()
    assert await heartbeat.stop(PATIENCE)
    await a_few_turns()
    assert beat.count == 0
    assert asyncio.all_tasks() == before


# on the host's scheduler


async def test_a_hosts_scheduler_stays_the_hosts(scheduler: AsyncIOScheduler) -> None:
    """It beats wherever the host keeps and runs its own jobs, and leaves nothing behind but a running scheduler."""
    beat = Beat()
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN, scheduler=scheduler)
    heartbeat.start()
    await beat.came(3)
    assert await heartbeat.stop(PATIENCE)
    assert scheduler.running
    assert scheduler.get_jobs() == []
    assert (set(scheduler._jobstores), set(scheduler._executors)) == ({"default"}, {"default"})


async def test_two_linkers_on_one_scheduler(scheduler: AsyncIOScheduler) -> None:
    """Neither takes the place of the other, and each is stopped alone."""
    first, second = Beat(), Beat()
    one, other = (Heartbeat({"sweep": beat}, seconds=OFTEN, scheduler=scheduler) for beat in (first, second))
    one.start()
    other.start()
    await first.came(2)
    await second.came(2)
    assert await one.stop(PATIENCE)
    await second.came(second.count + 2)
    assert await other.stop(PATIENCE)


async def test_a_host_may_stop_its_scheduler_first(scheduler: AsyncIOScheduler) -> None:
    """Then there is nothing left to stop, and that is no error."""
    beat = Beat()
    heartbeat = Heartbeat({"sweep": beat}, seconds=OFTEN, scheduler=scheduler)
    heartbeat.start()
    await beat.came(1)
    scheduler.shutdown(wait=False)
    await a_few_turns()
    assert not scheduler.running
    assert await heartbeat.stop(PATIENCE)


# with a linker


async def test_a_linker_with_a_heartbeat_links_by_itself() -> None:
    """What is due is attended and the host is told, without anybody asking; the next heartbeat begins anew."""
    clock, workable, linked = SettableClock(NOW), ScriptedWorkable(), asyncio.Event()
    async with linker_in_memory(clock=clock, workable=workable, sweep_seconds=OFTEN) as linker:

        @linker.on("linked")
        async def on_linked(_: object) -> None:
            linked.set()

        token = SecretStr("token-0123456789abcdef")
        for owner in ("customer-1", "customer-2"):
            linked.clear()
            connection = await linker.create(owner=owner)
            connection = await linker.submit_token(connection.id, subdomain="acme", token=token)
            assert connection.recruiter is not None
            workable.add_recruiter(connection.recruiter.email)
            clock.advance(minutes=1)
            async with linker.heartbeat(), asyncio.timeout(PATIENCE):
                await linked.wait()
            assert (await linker.get(connection.id)).state == "linked"


class Machine:
    """The machine's clocks, as the heartbeat and its scheduler see them: the one for the day, and the monotonic one."""

    def __init__(self) -> None:
        self.set_by = timedelta(0)
        self.slept_seconds = 0.0
        self._monotonic = time.monotonic

    def now(self, tz: tzinfo | None = None) -> datetime:
        """The time of day."""
        return datetime.now(tz) + self.set_by + timedelta(seconds=self.slept_seconds)

    def monotonic(self) -> float:
        """Seconds that passed."""
        return self._monotonic() + self.slept_seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose clock can be set."""
    machine = Machine()
    for module in ("linker.engine.heartbeat", "apscheduler.schedulers.base"):
        monkeypatch.setattr(f"{module}.datetime", machine)
    monkeypatch.setattr("linker.engine.heartbeat.time", machine)
    return machine


@pytest.mark.parametrize("whose", ["its own scheduler", "the host's scheduler"])
@pytest.mark.parametrize(
    "jump",
    [-timedelta(days=366), -timedelta(days=1), -timedelta(hours=1), timedelta(hours=1), timedelta(days=366 * 50)],
    ids=str,
)
async def test_beats_go_on_when_the_machines_clock_is_set(
    jump: timedelta, whose: str, scheduler: AsyncIOScheduler, machine: Machine
) -> None:
    """Beats are as far apart as before; those that a clock set ahead left out are neither made up for nor listed."""
    beat = Beat()
    theirs = scheduler if whose == "the host's scheduler" else None
    heartbeat = Heartbeat({"beat": beat}, seconds=0.06, scheduler=theirs)
    heartbeat.start()
    await beat.came(2)
    machine.set_by, before, began = jump, beat.count, time.monotonic()
    await beat.came(before + 3)
    took, longest_hold = time.monotonic() - began, 0.0
    heartbeat.wake("beat", after=0.01)
    await beat.came(before + 4)
    for _ in range(5):
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest_hold = max(longest_hold, time.monotonic() - began)
    await heartbeat.stop(within=PATIENCE)
    assert 0.1 < took < 2.0, f"three beats of 0.06 s came within {took:.2f} s"
    assert beat.count <= before + 8
    assert longest_hold < 0.3


async def test_what_a_machine_that_slept_missed_is_not_made_up_for(machine: Machine) -> None:
    """A machine that slept for a day beats once, and then at its intervals."""
    beat = Beat()
    heartbeat = Heartbeat({"beat": beat}, seconds=0.1)
    heartbeat.start()
    await beat.came(1)
    machine.slept_seconds = 24 * 3600.0
    await asyncio.sleep(0.25)
    await heartbeat.stop(within=PATIENCE)
    assert 2 <= beat.count <= 4


async def test_a_worker_says_that_it_is_alive_and_leaves_nothing_behind() -> None:
    """While a heartbeat is open there is a row for it, which `explain` reads; one that ends as it should has none."""
    async with linker_in_memory(clock=SettableClock(NOW), workable=ScriptedWorkable()) as linker:
        connection = await linker.create(owner="customer-1")
        before = (await linker.explain(connection.id)).workers
        assert (before.alive, before.last_beat_at, linker.is_alive) == (0, None, False)
        async with linker.heartbeat(), asyncio.timeout(PATIENCE):
            while not linker.is_alive:  # noqa: ASYNC110 - nothing tells of it: a probe asks now and then
                await asyncio.sleep(0.01)
            during = (await linker.explain(connection.id)).workers
            assert (during.alive, during.last_beat_at) == (1, NOW)
        after = (await linker.explain(connection.id)).workers
        assert (after.alive, after.last_beat_at, linker.is_alive) == (0, None, False)


def test_probes_hear_whether_it_is_live_and_ready() -> None:
    """Beside the numbers: 200 while it is ready, 503 while it is not, live in both."""
    ready = [False]
    with served("127.0.0.1", 0, lambda: ready[0]) as numbers:
        url = numbers.url.replace("/metrics", "/healthz")
        told = httpx.get(url)
        assert (told.status_code, told.json()) == (503, {"live": True, "ready": False})
        ready[0] = True
        told = httpx.get(url)
        assert (told.status_code, told.json()) == (200, {"live": True, "ready": True})
        assert httpx.get(numbers.url).status_code == 200
