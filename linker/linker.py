"""`Linker`, what a host holds: the service with its world, opened and closed, and kept going by a heartbeat."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import httpx
from anyio import to_thread
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from linker.accounts.access import checked_allowances
from linker.accounts.client import AccountClient
from linker.accounts.reports import UseReports
from linker.accounts.use import Budget, LinkUse
from linker.composition import build
from linker.database.database import Database
from linker.database.notifier import CommitListener
from linker.engine.heartbeat import Beat, Heartbeat
from linker.engine.observer import Observer
from linker.engine.ports import Clock, Randomness, Workable
from linker.errors import BadInput, StoreUnavailable
from linker.event_log import log
from linker.http_client import LONGEST_WAIT_SECONDS
from linker.operations.audit import AuditEntry, read_audit
from linker.operations.bulk import BulkVerbs
from linker.operations.explain import Explanation, explain
from linker.operations.link_verbs import LinkVerbs
from linker.operations.retention import Pruned, Pruning
from linker.operations.selectors import span
from linker.operations.workers_alive import SignOfLife
from linker.outbox.administration import DeliveryState, OutboxAdministration, QueuedDelivery
from linker.outbox.channels import CHANNELS
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.outbox.handlers import Handler, Handlers
from linker.persistence.link_store import LinkStore
from linker.persistence.operation_store import OperationStore
from linker.settings import Settings, load_settings, unknown_permissions
from linker.validation import text

H = TypeVar("H", bound=Handler)

#: How often an open linker asks whether its database still has a schema that it may write.
SCHEMA_LOOK_SECONDS = 30.0
#: Between two passes there is at least so much time, whatever is due: somebody else may be at it.
SHORTEST_PAUSE_SECONDS = 1.0
#: How long a heartbeat and its linker that stop wait for what is in flight, in all.
DRAIN_SECONDS = 7.0
#: How long a linker waits at least: for what was cut off, which gives its leases back.
RELEASE_SECONDS = 1.0
#: A linker that closes so soon after its heartbeat stopped is closed with it.
AT_ONCE_SECONDS = 1.0
#: The most repetitions that a client may be told to make.
MOST_RETRIES = 10
#: How long a call of `deliver` begins deliveries.
BEGIN_FOR_SECONDS = 5.0


class Linker(BulkVerbs, LinkVerbs):
    """Links Workable accounts. An async context manager that a host keeps open as long as it runs.

    `async with Linker() as linker:` reads the settings from the environment. It starts nothing by itself: call
    `attend_due()` and `deliver()` from a queue of yours, or keep a `heartbeat()` open.
    """

    #: What its heartbeat is to those who look for workers.
    kind: ClassVar[str] = "host"

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        http: httpx.AsyncClient | None = None,
        workable: Workable | None = None,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
        observer: Observer | None = None,
        account_transport: httpx.AsyncBaseTransport | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Build the parts; nothing is opened before `async with`.

        Args:
            settings: by default read from the environment.
            http: a client of the host's own, asked with its hooks and transports; it is not closed here. By default one
                is made for this linker.
            workable: for tests: takes the place of Workable altogether, as `linker.testing.ScriptedWorkable`.
            clock: for tests: takes the place of the clock, as `linker.testing.SettableClock`.
            randomness: for tests: where jitter and recruiters' keys come from, see `linker.engine.ports.Randomness`.
            observer: is told how it goes, as `linker.telemetry.metrics.Metrics()` for Prometheus.
            account_transport: for tests: answers the requests of `client`, as `linker.testing.ScriptedAnswers`.
            budget: for tests: says how many calls `client` may make, as `linker.testing.Unlimited`.

        Raises:
            BadSettings: a setting or a key is missing or unusable.
        """
        self.settings = settings or load_settings()
        self._handlers = Handlers()
        self._observer = observer
        self._build = partial(
            build,
            self.settings,
            self._handlers,
            http=http,
            workable=workable,
            clock=clock,
            randomness=randomness,
            observer=observer,
            account_transport=account_transport,
            budget=budget,
        )
        self._parts = self._build()
        self._is_closed = False
        self._heartbeats: dict[Heartbeat, SignOfLife] = {}
        #: Until when a heartbeat that stopped, and the linker that closes with it, wait for what is in flight.
        self._drain_until = 0.0
        self._heartbeat_stopped_at = -math.inf
        #: By the monotonic clock: until when it is not asked again whether the schema still fits.
        self._fits_until = -math.inf
        super().__init__(self._parts.engine)
        self._reports = UseReports(self)

    @property
    def clock(self) -> Clock:
        """The clock that counts: on PostgreSQL the server's, the same for all workers."""
        return self._parts.clock

    @property
    def health_every(self) -> timedelta:
        """How often a linked account is looked at."""
        return self.settings.health_every

    @property
    def worker_id(self) -> str:
        """The name under which this process leases connections."""
        return self._engine.lease_issuer.worker_id

    @property
    def _operation_store(self) -> OperationStore:
        return self._parts.operations

    @property
    def _link_store(self) -> LinkStore:
        return self._parts.links

    async def __aenter__(self) -> Self:
        """Open the database. A linker may be opened again.

        A token whose key is not set stops nobody: the log and `linker doctor` tell of it, and all others are attended.

        Raises:
            StoreUnavailable: the database cannot be reached or written; the same linker can be opened later.
            SchemaMismatch: it is not of this version.
            TryAgain: it is to be upgraded, and a program of the version before is still at work on it.
        """
        if self._is_closed:
            self._parts = self._build()
            self._engine = self._parts.engine
            self._heartbeat_stopped_at = -math.inf
        self._is_closed = False
        self._parts.database.open()
        try:
            await self._parts.store.open()
            self._fits_until = time.monotonic() + SCHEMA_LOOK_SECONDS
            await self._agree_on_the_time()
            if unknown := unknown_permissions(self.settings.permissions):
                log.warning("permissions.unknown", names=unknown)
            if missing := self._engine.executor.cipher.missing(await self._parts.store.key_ids()):
                log.info("keys.missing", keys=missing)  # what needs one of them says so itself
        except StoreUnavailable:
            await self._parts.database.run_in_thread(Database.disconnect)
            raise
        except BaseException:
            await self._close()
            raise
        return self

    async def check_schema(self) -> None:
        """Make sure that the database is still one that this program may write, as it was when it was opened.

        An open linker does so by itself before it writes, every half minute.

        Raises:
            StoreUnavailable: the database cannot be reached.
            SchemaMismatch: a newer program has upgraded it beyond this one, or its tables are gone.
        """
        await self._parts.store.check_schema()
        self._fits_until = time.monotonic() + SCHEMA_LOOK_SECONDS

    async def _make_sure_that_it_fits(self) -> None:
        """Before something is written."""
        if time.monotonic() >= self._fits_until:
            await self.check_schema()
            await self._agree_on_the_time()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened here."""
        await self._close()

    async def _close(self) -> None:
        """Wait for what is in flight, then close: a call that is cut off would leave its lease behind.

        Comes to its end also when nobody waits for it any more.
        """
        parts, in_flight = self._parts, self._in_flight  # whoever opens it again meanwhile has parts of its own

        async def close_all() -> None:
            now = time.monotonic()
            with_the_heartbeat = now - self._heartbeat_stopped_at < AT_ONCE_SECONDS
            patience = self._drain_until - now if with_the_heartbeat else DRAIN_SECONDS
            parts.stopping.set()
            try:
                await parts.accounts.access.close()
                await parts.budget.close()
                await in_flight.ended(max(patience, RELEASE_SECONDS))
            finally:
                for transport in parts.own_transports:
                    await transport.aclose()
                await to_thread.run_sync(parts.database.close)

        self._is_closed = True
        await asyncio.shield(asyncio.create_task(close_all()))

    async def _agree_on_the_time(self) -> None:
        """On PostgreSQL the server's clock is everybody's."""
        if self._parts.server_clock is not None:
            await self._parts.server_clock.read()

    # using a link

    def client(
        self,
        connection_id: str,
        *,
        wait: float = 10.0,
        retries: int = 0,
        allow: str | Collection[str] = (),
        timeout: httpx.Timeout | float | None = None,
    ) -> AccountClient:
        """A client for calls of your own to the account that a connection is linked to: an `httpx.AsyncClient`.

        `async with linker.client(id) as workable:` has the account's API as its `base_url`, so that
        `await workable.get("jobs")` is all. The token is added beneath it, read anew for each request, and goes to this
        account only. Entering raises what is named below; so does each request, and nothing is sent then.

        Args:
            connection_id: the connection.
            wait: how many seconds a request waits at most for its turn in the account's budget of calls, and for one
                of the linker's connections to be free; 0: never.
            retries: how often a request that only reads is made again after a failed connection, 429 and 502 to 504;
                others only with `extensions={"idempotent": True}`.
            allow: what may be used beside a connection that is linked: `token_valid`, `awaiting_recruiter`, `failed`,
                `paused`.
            timeout: as `httpx` takes it; by default 5 seconds for connecting and 30 for each part of an answer.

        Raises:
            BadInput: something given is unusable, or a request's URL leads away from the account.
            NotFound: no such connection.
            Refused: it is not linked, paused or closed; `params` name its state, its problem and who has to act.
                `reconnect_link` of what entering raises is a link for the customer, and a secret.
            TryAgain: a request found no turn in time.
            httpx.PoolTimeout: all connections for calls of yours were in use, for as long as it waits.
            StoreUnavailable: the database cannot be reached.
        """
        return AccountClient(self.use(connection_id, wait=wait, retries=retries, allow=allow), timeout)

    def use(self, connection_id: str, *, wait: float, retries: int, allow: str | Collection[str]) -> LinkUse:
        """What a client of either kind does for its requests. Raises BadInput."""
        numbers = (("wait", wait, LONGEST_WAIT_SECONDS, (int, float)), ("retries", retries, MOST_RETRIES, (int,)))
        for field, value, most, kinds in numbers:
            if type(value) not in kinds or not 0 <= value <= most:
                raise BadInput(field, "out_of_range", most=most)
        allowed = checked_allowances(allow)
        accounts = self._parts.accounts
        return LinkUse(
            accounts,
            self._reports,
            text.known_id(connection_id),
            wait=wait,
            retries=retries,
            allowed=allowed,
            reconnect_link=self._reconnect_link,
        )

    # telling the host

    def on(self, name: str) -> Callable[[H], H]:
        """Call the decorated function, plain or `async`, for every announcement of this name, at least once.

        Args:
            name: `linked`, `failed`, `recruiter.removed`, …: the reference lists all announcements.

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
        return self._parts.webhook.origin if self._parts.webhook else None

    async def deliver(self) -> int:
        """Deliver announcements that are due to the handlers of this process, and to the webhook if one is set.

        Begins deliveries for five seconds and waits for their end, at most 15 seconds each; what is left is for the
        next call. Gives how many succeeded.
        """
        with self._in_flight:
            both = (self._parts.calling, self._parts.posting)
            return sum(await asyncio.gather(*(each.deliver(begin_for=BEGIN_FOR_SECONDS) for each in both)))

    # looking closer

    async def explain(self, connection_id: str) -> Explanation:
        """Where a connection is and why, who must act, what comes by itself, and what `advance` would do now.

        Nothing is written, and Workable is not asked.

        Raises:
            NotFound: no such connection.
            RowUnreadable: its row is damaged.
        """
        connection = await self.get(connection_id)
        return await explain(connection, self._parts.database, self.clock.now(), self.settings.timing)

    async def audit(self, *, since: timedelta | str = "30d", actor: str | None = None) -> AsyncIterator[AuditEntry]:
        """Every change by hand: who, when, what, why, and in which operation; oldest first.

        Args:
            since: how far back: a span, or as in `30d`.
            actor: only by this one.

        Raises:
            BadInput: that is no span.
        """
        begins, last = self.clock.now() - span("since", since), None
        while found := await read_audit(self._parts.database, since=begins, actor=actor, after=last):
            for last in found:
                yield last

    async def dead_letters(self, *, limit: int = 1000) -> list[QueuedDelivery]:
        """Announcements that were given up, newest first, on each channel by itself."""
        wanted = {channel: {DeliveryState.DEAD} for channel in CHANNELS}
        return await OutboxAdministration(self._parts.database).find(wanted, limit=limit)

    async def retry_dead_letters(self) -> int:
        """Let every announcement that was given up be tried again, for three days; gives how many."""
        now = self.clock.now()
        count = 0
        async for some in OutboxAdministration(self._parts.database).retry_dead(now=now, until=now + GIVE_UP_AFTER):
            count += len(some)
            self._wake_delivery()
        return count

    # numbers to watch

    async def report_statistics(self) -> None:
        """Tell the observer what is in the database. Call it as often as you sweep: it reads only when it is time.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        statistics = await self._parts.statistics.read()
        if statistics is not None:
            self._engine.observer.statistics_read(statistics)

    # housekeeping

    async def prune(self, *, dry_run: bool = False) -> Pruned:
        """Retention: take away what is older than the settings keep. Call it once a day; no claim waits for it.

        Args:
            dry_run: only count what would go.

        Raises:
            StoreUnavailable: the database went away; the next call goes on.
        """
        pruning = Pruning(self._parts.database, self.settings, self.clock)
        return await (pruning.foresee() if dry_run else pruning.run())

    # the heartbeat

    @asynccontextmanager
    async def heartbeat(self, scheduler: AsyncIOScheduler | None = None) -> AsyncIterator[Heartbeat]:
        """Attend what is due and deliver announcements every few seconds, as long as the context is open.

        Sweeping, calling handlers and posting to the webhook do not wait for one another. At the end what is in flight
        is waited for, seven seconds at most.

        Args:
            scheduler: the host's own, already running; by default one is made and stopped here.
        """
        beats: dict[str, Beat] = {
            "sweep": self._sweep,
            "call": self._parts.calling.deliver,
            "post": self._parts.posting.deliver,
        }
        if self._observer is not None:
            beats["statistics"] = self.report_statistics
        heartbeat = Heartbeat(beats, seconds=self.settings.sweep_seconds, scheduler=scheduler)
        heartbeat.start()
        sign = SignOfLife(self._parts.database, self.clock, self.worker_id, self.kind)
        self._heartbeats[heartbeat] = sign
        loop = asyncio.get_running_loop()
        listener = CommitListener(
            self._parts.database, partial(loop.call_soon_threadsafe, self._wake, "sweep", "call", "post")
        )
        listener.start()
        alive = asyncio.create_task(sign.keep_fresh())
        try:
            yield heartbeat
        finally:
            alive.cancel()
            del self._heartbeats[heartbeat]
            await asyncio.shield(asyncio.create_task(self._end(heartbeat, listener, sign)))

    async def _end(self, heartbeat: Heartbeat, listener: CommitListener, sign: SignOfLife) -> None:
        """End a heartbeat: nothing more is begun, what is in flight is waited for. Also if nobody waits for that."""
        self._drain_until = time.monotonic() + DRAIN_SECONDS
        self._parts.stopping.set()
        self._parts.statistics.interrupt()
        drained = await heartbeat.stop(DRAIN_SECONDS)
        self._heartbeat_stopped_at = time.monotonic()
        await to_thread.run_sync(listener.stop)
        await sign.take_away()
        if not self._is_closed:
            self._parts.stopping.clear()
        log.info("heartbeat.stopped", drained=drained)

    @property
    def is_alive(self) -> bool:
        """True while a heartbeat is open and has reached the database lately: what a probe of its process asks."""
        return any(sign.is_fresh for sign in self._heartbeats.values())

    async def _sweep(self) -> None:
        """A pass over what is due; its announcements do not wait for the next beat, nor what falls due before it."""
        swept = await self.attend_due()
        if swept.advanced or swept.failed:
            self._wake_delivery()
        now = self.clock.now()
        next_due = await self._parts.store.next_due(before=now + timedelta(seconds=self.settings.sweep_seconds))
        if next_due is not None:
            pause = max((next_due - now).total_seconds(), SHORTEST_PAUSE_SECONDS)
            self._wake("sweep", after=pause)

    def _wake_delivery(self) -> None:
        self._wake("call", "post")

    def _wake(self, *beats: str, after: float = 0.0) -> None:
        """Let these beats come so many seconds from now: there may be something to do for them."""
        for heartbeat in self._heartbeats:
            for beat in beats:
                heartbeat.wake(beat, after=after)
