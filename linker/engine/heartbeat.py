"""The heartbeat: APScheduler calls, at intervals, what is due. Nothing is decided here.

The schedule itself is `due_at` in the rows. So there is a job for each beat, kept in memory, and none for a connection:
a process that dies takes no schedule with it.

APScheduler plans by the machine's clock, which can be set while we run. So the times of our jobs move with it: between
two beats as much time passes as the monotonic clock says, and a beat that was missed is not made up for.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from linker.errors import LinkerError
from linker.event_log import log

Beat = Callable[[], Awaitable[object]]

#: Beats of many workers shall not fall together: each comes up to this share of the interval earlier.
JITTER_RATIO = 0.1
#: How soon a beat comes again that was woken while it was under way.
AGAIN_SECONDS = 0.05
#: How many runs of a beat APScheduler may begin: those that find one under way end at once. With one only it would warn
#: of each of them.
MOST_INSTANCES = 10
#: The machine's clock was set if it is so far from where the monotonic clock would have it; less is its usual slewing.
CLOCK_SET_SECONDS = 0.5


class FromNow(BaseTrigger):  # type: ignore[misc]  # apscheduler comes without types
    """Each run comes so long after the one before was begun, whenever that was to be: missed runs are never counted."""

    def __init__(self, seconds: float) -> None:
        """Take the interval."""
        self._seconds = seconds

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """A whole interval from now, or a little less."""
        return now + timedelta(seconds=self._seconds * random.uniform(1.0 - JITTER_RATIO, 1.0))  # noqa: S311 - no secret


class MonotonicJobStore(MemoryJobStore):  # type: ignore[misc]  # apscheduler comes without types
    """Jobs whose times move with the machine's clock when that is set: what is due in 5 s stays due in 5 s."""

    def __init__(self) -> None:
        """Begin at the time that the machine's clock has now."""
        super().__init__()
        self._wall, self._monotonic = datetime.now(UTC), time.monotonic()

    def get_due_jobs(self, now: datetime) -> list[Any]:
        """The jobs that are due."""
        self.follow(now)
        due: list[Any] = super().get_due_jobs(now)
        return due

    def get_next_run_time(self) -> datetime | None:
        """When the next job is due."""
        self.follow(datetime.now(UTC))
        found: datetime | None = super().get_next_run_time()
        return found

    def follow(self, now: datetime) -> None:
        """Move the times of all jobs as far as the machine's clock was set since the last look."""
        monotonic = time.monotonic()
        moved = now - self._wall - timedelta(seconds=monotonic - self._monotonic)
        self._wall, self._monotonic = now, monotonic
        if abs(moved.total_seconds()) > CLOCK_SET_SECONDS:
            for job in self.get_all_jobs():
                job.next_run_time += moved
                self.update_job(job)


class Heartbeat:
    """Calls each of its beats every few seconds; never twice at the same time."""

    def __init__(self, beats: Mapping[str, Beat], *, seconds: float, scheduler: AsyncIOScheduler | None = None) -> None:
        """Take named beats. A scheduler that is handed over stays the host's: it is neither started nor stopped."""
        self._beats = beats
        self._seconds = seconds
        self._own = scheduler is None
        self._scheduler = scheduler or AsyncIOScheduler(timezone=UTC)
        self._beating = {name: asyncio.Lock() for name in beats}
        self._jobs: dict[str, Any] = {}
        self._jobstore = MonotonicJobStore()
        #: The beats that were woken while they were under way: they may have looked already.
        self._wanted_again: set[str] = set()
        self._alias = f"linker-{id(self):x}"

    def start(self) -> None:
        """Begin; the first beat comes at once.

        The jobs get a store and an executor of their own: a host's scheduler may keep its jobs in a database and run
        them in threads, and may serve several linkers.
        """
        self._scheduler.add_jobstore(self._jobstore, self._alias)
        self._scheduler.add_executor(AsyncIOExecutor(), self._alias)
        # of our executor alone: it would tell a host's log of every beat twice
        logging.getLogger(f"apscheduler.executors.{self._alias}").setLevel(logging.WARNING)
        for name in self._beats:
            self._jobs[name] = self._scheduler.add_job(
                self._beat,
                FromNow(self._seconds),
                args=[name],
                id=f"linker.{name}",
                jobstore=self._alias,
                executor=self._alias,
                coalesce=True,
                max_instances=MOST_INSTANCES,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )
        if self._own:
            self._scheduler.start()

    def wake(self, name: str, after: float = 0.0) -> None:
        """Let a beat come so many seconds from now, if its time is later. After one that is under way comes another."""
        if name not in self._jobs:
            return
        now = datetime.now(UTC)
        self._jobstore.follow(now)
        at = now + timedelta(seconds=after)
        if self._beating[name].locked() and not after:
            self._wanted_again.add(name)
        else:
            with suppress(JobLookupError):  # the host has ended its scheduler already
                planned = self._jobs[name].next_run_time
                if planned is None or planned > at:
                    self._jobs[name].modify(next_run_time=at)

    async def stop(self, within: float) -> bool:
        """End: no new beat begins, what is under way gets `within` seconds. True if everything came to its end."""
        started = bool(self._jobs)
        self._jobs.clear()
        if started:
            with suppress(KeyError):  # the host has ended its scheduler already
                self._scheduler.remove_jobstore(self._alias)
        try:
            async with asyncio.timeout(within):
                for lock in self._beating.values():
                    await lock.acquire()
            drained = True
        except TimeoutError:
            drained = False
        if started and not self._own:
            with suppress(KeyError):
                self._scheduler.remove_executor(self._alias)
        elif self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        return drained

    async def _beat(self, name: str) -> None:
        if name not in self._jobs or self._beating[name].locked():
            return
        async with self._beating[name]:
            try:
                await self._beats[name]()
            except asyncio.CancelledError:
                if self._jobs:
                    raise
                # cut off by `stop`, which tells of it; APScheduler would tell a host's log of a job that failed
            except LinkerError as error:
                log.warning("heartbeat.failed", beat=name, code=error.code, reason=error.reason)
            except Exception as error:  # noqa: BLE001 - a fault in one beat must not end the heartbeat
                log.error("heartbeat.failed", beat=name, code="our_fault", reason=type(error).__name__)
        if name in self._wanted_again:
            self._wanted_again.discard(name)
            self.wake(name, after=AGAIN_SECONDS)
