"""The composition root: `Linker` puts the parts together from settings and gives them back at the end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import Self, TypeVar

import httpx
import structlog
from anyio import to_thread
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from linker.database.database import Database
from linker.database.notifier import CommitListener
from linker.encryption import TokenCipher
from linker.engine.executor import DutyExecutor, Randomness
from linker.engine.heartbeat import Beat, Heartbeat
from linker.engine.leases import FOR_A_QUESTION, LeaseIssuer
from linker.engine.observer import Observer, together
from linker.engine.ports import Clock, SystemClock, Workable
from linker.engine.prefetch import ClaimPacing
from linker.engine.service import Service
from linker.engine.sweep import Sweeper
from linker.errors import BadSettings, StoreUnavailable
from linker.http_client import build_http
from linker.operations.retention import Pruned, Pruning
from linker.outbox.channels import WEBHOOK
from linker.outbox.deliverer import Deliverer, Receiver
from linker.outbox.handlers import Handler, Handlers
from linker.outbox.outbox_store import OutboxStore
from linker.outbox.webhooks import NullReceiver, webhook_of
from linker.persistence.rate_limits import SharedRateLimits
from linker.persistence.server_clock import DatabaseClock
from linker.settings import Settings, load_settings
from linker.telemetry.instrumentation import watched_store, watched_workable
from linker.telemetry.statistics import StatisticsReader
from linker.workable import Timeouts, WorkableClient

log = structlog.get_logger("linker")

H = TypeVar("H", bound=Handler)

#: Connections to Workable beside those of the sweep, for what people do.
SPARE = 20
#: Between two passes there is at least so much time, in seconds, whatever is due: somebody else may be at it.
SHORTEST_PAUSE = 1.0
#: How long a heartbeat and its linker that stop wait for what is under way, in seconds, in all.
DRAIN = 7.0
#: How long a linker waits at least: for what was cut off, which gives its leases back.
GIVING_BACK = 1.0
#: A linker that closes so soon after its heartbeat stopped is closed with it, in seconds.
AT_ONCE = 1.0
#: How long a call of `deliver` begins deliveries, in seconds.
BEGIN_FOR = 5.0


class Linker(Service):
    """Links Workable accounts. An async context manager that a host keeps open as long as it runs.

    `async with Linker() as linker:` reads the settings from the environment. It starts nothing by itself: call
    `attend_due()` and `deliver()` from a queue of yours, or keep a `heartbeat()` open.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        http: httpx.AsyncClient | None = None,
        workable: Workable | None = None,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Put the parts together; nothing is opened before `async with`.

        Args:
            settings: by default read from the environment.
            http: a client of the host's own; it is not closed here. By default one is made for the process.
            workable: takes the place of Workable altogether.
            clock: takes the place of the machine's clock.
            randomness: takes the place of the dice.
            observer: is told how it goes, as `linker.telemetry.metrics.Metrics()` does for Prometheus.

        Raises:
            BadSettings: a setting or a key is missing or unusable.
        """
        self.settings = settings or load_settings()
        self._handlers = Handlers()
        self._heartbeats: list[Heartbeat] = []
        self._is_closed = False
        self._put_together = partial(
            self._make_parts, http=http, workable=workable, clock=clock, randomness=randomness, observer=observer
        )
        self._put_together()

    def _make_parts(
        self,
        *,
        http: httpx.AsyncClient | None,
        workable: Workable | None,
        clock: Clock | None,
        randomness: Randomness | None,
        observer: Observer | None,
    ) -> None:
        """Make all parts: those that were closed are of no use any more."""
        sealer = TokenCipher(self.settings.secret_keys)
        self._database = Database(self.settings.database_url)
        self._servers_clock = None if clock or self._database.is_sqlite else DatabaseClock(self._database)
        self.clock = clock or self._servers_clock or SystemClock()
        self._webhook = webhook_of(self.settings, self.clock.now)
        self._http = None if http or workable else build_http(connections=self.settings.concurrency + SPARE)
        lease_issuer = LeaseIssuer(self.clock, timedelta(seconds=self.settings.lease_seconds))
        watching = together(observer, _tracing())
        self._counts = observer is not None
        self._stock = StatisticsReader(self._database, self.clock.now, posts=self.settings.webhook_url is not None)
        self._sql = store = watched_store(self._database, SharedRateLimits(self.settings.workable_client_id), watching)
        randomness = randomness or Randomness()
        executor = DutyExecutor(
            store=store,
            workable=watched_workable(workable or self._client(http or self._http), watching),
            sealer=sealer,
            clock=self.clock,
            timing=self.settings.timing,
            recruiter_name=self.settings.recruiter_name,
            recruiter_email=self.settings.recruiter_email,
            randomness=randomness,
        )
        sweeper = Sweeper(
            store=store,
            executor=executor,
            lease_issuer=lease_issuer,
            clock=self.clock,
            pacing=ClaimPacing(self.settings.concurrency, self.settings.batch_size),
            observer=watching,
            scarce=self.settings.workable_client_id is not None,
        )
        super().__init__(store=store, executor=executor, sweeper=sweeper, lease_issuer=lease_issuer, observer=watching)
        #: When the last heartbeat stopped, and what it left of the time to wait.
        self._drained = (-math.inf, DRAIN)
        self._calling = self._deliverer(OutboxStore(self._database), self._handlers, randomness)
        self._posting = self._deliverer(
            OutboxStore(self._database, WEBHOOK), self._webhook or NullReceiver(), randomness
        )
        self._stoppable = (self._sweeper.stopping, self._calling.stopping, self._posting.stopping)

    def _deliverer(self, outbox: OutboxStore, receiver: Receiver, randomness: Randomness) -> Deliverer:
        return Deliverer(
            outbox=outbox,
            receiver=receiver,
            lease_issuer=self._lease_issuer,
            jitter=randomness.jitter,
            now=self.clock.now,
            observer=self._observer,
        )

    def _client(self, http: httpx.AsyncClient | None) -> WorkableClient:
        assert http is not None, "a client is made unless one is handed over"
        return WorkableClient(
            http,
            url_template=self.settings.workable_url,
            clock=self.clock,
            client_id=self.settings.workable_client_id,
            timeouts=Timeouts.within(self.settings.lease_seconds * FOR_A_QUESTION),
        )

    async def __aenter__(self) -> Self:
        """Open the database and make sure that our keys open what is in it. A linker may be opened again.

        Raises:
            StoreUnavailable: the database cannot be reached or written; the same linker can be opened later.
            SchemaMismatch: it is not of this version.
            BadSettings: tokens in it are sealed with a key that is not set.
        """
        if self._is_closed:
            self._put_together()
        self._is_closed = False
        try:
            await self._sql.open()
            await self._agree_on_the_time()
            await self._refuse_missing_keys()
        except StoreUnavailable:
            await self._database.run_in_thread(Database.disconnect)
            raise
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened here."""
        await self._close()

    async def _close(self) -> None:
        """Wait for what is under way, then close: a call that is cut off would leave its lease behind.

        Comes to its end also when nobody waits for it any more.
        """
        self._is_closed = True
        await asyncio.shield(asyncio.create_task(self._close_all()))

    async def _close_all(self) -> None:
        for each in self._stoppable:
            each.set()
        try:
            await self._in_flight.ended(self._patience)
        finally:
            if self._http is not None:
                await self._http.aclose()
            if self._webhook is not None:
                await self._webhook.http.aclose()
            await to_thread.run_sync(self._database.close)

    @property
    def _patience(self) -> float:
        """How long to wait for what is under way, in seconds: what a heartbeat that has just stopped left of it."""
        stopped_at, left = self._drained
        return left if time.monotonic() - stopped_at < AT_ONCE else DRAIN

    async def _refuse_missing_keys(self) -> None:
        missing = await self._sql.key_ids() - self._executor.sealer.key_ids
        if missing:
            raise BadSettings(
                "LINKER_SECRET_KEYS",
                f"stored tokens are sealed with the key {', '.join(sorted(missing))}, which is not set.",
                "Add that key again, after the newest one; nothing is lost. `linker keys rotate` makes it needless.",
            )

    async def _agree_on_the_time(self) -> None:
        """On PostgreSQL the server's clock is everybody's."""
        if self._servers_clock is not None:
            await self._servers_clock.read()

    # telling the host

    def on(self, name: str) -> Callable[[H], H]:
        """Call the decorated function for every announcement of this name, at least once, after the commit.

        Args:
            name: `linked`, `failed`, `recruiter.removed`, …: see `states.history.ANNOUNCEMENTS`.

        Raises:
            BadInput: there is no such announcement.
        """

        def register(handler: H) -> H:
            self._handlers.on(name, handler)
            return handler

        return register

    @property
    def posts_to(self) -> str | None:
        """Where announcements are posted to, without its path; None if no webhook is set."""
        return self._webhook.origin if self._webhook else None

    async def deliver(self) -> int:
        """Deliver announcements that are due to the handlers of this process, and to the webhook if one is set.

        Begins for five seconds only, and ends what it began: a receiver that hangs must not keep the caller from going
        on. What is left is for the next call. Gives how many deliveries there were.
        """
        with self._in_flight:
            delivering = (each.deliver(begin_for=BEGIN_FOR) for each in (self._calling, self._posting))
            return sum(await asyncio.gather(*delivering))

    # numbers to watch

    async def report_statistics(self) -> None:
        """Tell the observer what is in the database. Call it as often as you sweep: it looks only when it is time.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        stock = await self._stock.take()
        if stock is not None:
            self._observer.statistics_read(stock)

    # housekeeping

    async def prune(self, *, dry_run: bool = False) -> Pruned:
        """Take away what is older than the settings keep; call it once a day. Nobody has to wait for it.

        Args:
            dry_run: only count what would go.

        Raises:
            StoreUnavailable: the database went away; the next call goes on.
        """
        pruning = Pruning(self._database, self.settings, self.clock)
        return await (pruning.foresee() if dry_run else pruning.run())

    # the heartbeat

    @asynccontextmanager
    async def heartbeat(self, scheduler: AsyncIOScheduler | None = None) -> AsyncIterator[Heartbeat]:
        """Attend what is due and deliver announcements every few seconds, as long as the context is open.

        Sweeping, calling handlers and posting to the webhook do not wait for one another.

        Args:
            scheduler: the host's own, already running; by default one is made and stopped here.
        """
        beats: dict[str, Beat] = {
            "sweep": self._sweep,
            "call": self._calling.deliver,
            "post": self._posting.deliver,
        }
        beats |= {"take stock": self.report_statistics} if self._counts else {}
        heartbeat = Heartbeat(beats, seconds=self.settings.sweep_seconds, scheduler=scheduler)
        heartbeat.start()
        self._heartbeats.append(heartbeat)
        loop = asyncio.get_running_loop()
        wakeups = CommitListener(self._database, partial(loop.call_soon_threadsafe, self._woken))
        wakeups.start()
        try:
            yield heartbeat
        finally:
            self._heartbeats.remove(heartbeat)
            await asyncio.shield(asyncio.create_task(self._end(heartbeat, wakeups)))

    async def _end(self, heartbeat: Heartbeat, wakeups: CommitListener) -> None:
        """End a heartbeat: nothing more is begun, what is under way is waited for. Also if nobody waits for that."""
        for each in self._stoppable:
            each.set()
        self._stock.interrupt()
        began = time.monotonic()
        drained = await heartbeat.stop(DRAIN)
        self._drained = (time.monotonic(), max(GIVING_BACK, DRAIN - (time.monotonic() - began)))
        await to_thread.run_sync(wakeups.stop)
        if not self._is_closed:
            for each in self._stoppable:
                each.clear()
        log.info("heartbeat.stopped", drained=drained)

    async def _sweep(self) -> None:
        """A pass over what is due; its announcements do not wait for the next beat, nor what falls due before it."""
        swept = await self.attend_due()
        if swept.advanced or swept.failed:
            self._wake_delivery()
        now = self.clock.now()
        next_due = await self._sql.next_due(before=now + timedelta(seconds=self.settings.sweep_seconds))
        if next_due is not None:
            pause = max((next_due - now).total_seconds(), SHORTEST_PAUSE)
            for heartbeat in self._heartbeats:
                heartbeat.wake("sweep", after=pause)

    def _woken(self) -> None:
        """Somebody wrote something that may be ours to do."""
        for heartbeat in self._heartbeats:
            for beat in ("sweep", "call", "post"):
                heartbeat.wake(beat)

    def _wake_delivery(self) -> None:
        for heartbeat in self._heartbeats:
            heartbeat.wake("call")
            heartbeat.wake("post")


def _tracing() -> Observer | None:
    """Spans, where OpenTelemetry's API is installed."""
    try:
        tracing: Observer = import_module("linker.telemetry.tracing").Tracing()
    except ModuleNotFoundError:
        return None
    return tracing
