"""The heartbeat: APScheduler calls, at intervals, what is due. Nothing is decided here.

The schedule itself is `due_at` in the rows. So there is a job for each beat, kept in memory, and none for a connection:
a process that dies takes no schedule with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from linker.errors import LinkerError

log = structlog.get_logger("linker")

Beat = Callable[[], Awaitable[object]]

#: Beats of many workers shall not fall together: each comes up to this share of the interval earlier or later.
JITTER_RATIO = 0.1
#: How soon a beat comes again that was woken while it was under way.
AGAIN_SECONDS = 0.05
#: How many runs of a beat APScheduler may begin: those that find one under way end at once. With one only it would warn
#: of each of them.
MOST_INSTANCES = 10


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
        #: The beats that were woken while they were under way: they may have looked already.
        self._wanted_again: set[str] = set()
        self._alias = f"linker-{id(self):x}"

    def start(self) -> None:
        """Begin; the first beat comes at once.

        The jobs get a store and an executor of their own: a host's scheduler may keep its jobs in a database and run
        them in threads, and may serve several linkers.
        """
        self._scheduler.add_jobstore(MemoryJobStore(), self._alias)
        self._scheduler.add_executor(AsyncIOExecutor(), self._alias)
        # of our executor alone: it would tell a host's log of every beat twice
        logging.getLogger(f"apscheduler.executors.{self._alias}").setLevel(logging.WARNING)
        for name in self._beats:
            self._jobs[name] = self._scheduler.add_job(
                self._beat,
                IntervalTrigger(seconds=self._seconds, jitter=self._seconds * JITTER_RATIO, timezone=UTC),
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
        at = datetime.now(UTC) + timedelta(seconds=after)
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
