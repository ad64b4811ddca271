"""The composition root: settings go in, parts that are wired to one another come out. Nothing is opened here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import httpx

from linker.accounts.access import Access
from linker.accounts.budget import HostBudget
from linker.accounts.use import Accounts, Budget
from linker.database.database import Database
from linker.encryption import TokenCipher
from linker.engine.executor import DutyExecutor
from linker.engine.impossible_times import ImpossibleTimes
from linker.engine.leases import QUESTION_RATIO, LeaseIssuer
from linker.engine.observer import Observer, together
from linker.engine.ports import Clock, Randomness, SystemClock, Workable
from linker.engine.prefetch import ClaimPacing
from linker.engine.service import Engine
from linker.engine.sweep import Sweeper
from linker.http_client import ClientTransport, build_transport
from linker.operations.workers_alive import alive_workers
from linker.outbox.channels import WEBHOOK
from linker.outbox.deliverer import Deliverer, Receiver
from linker.outbox.handlers import Handlers
from linker.outbox.outbox_store import OutboxStore
from linker.outbox.webhooks import NullReceiver, Webhook, build_webhook
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.link_store import LinkStore
from linker.persistence.operation_store import OperationStore
from linker.persistence.rate_limits import HostCalls, SharedRateLimits
from linker.persistence.server_clock import DatabaseClock
from linker.settings import Settings
from linker.telemetry.statistics import StatisticsReader
from linker.workable import api
from linker.workable.client import Timeouts, WorkableClient
from linker.workable.urls import AccountUrls

#: Connections to Workable beside those of the sweep, for what people do.
SPARE_CONNECTIONS = 20
#: Connections for the host's own calls: apart from the others, because a host may read an answer for minutes.
HOSTS_CONNECTIONS = 100


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All parts of one linker. What was closed is of no use any more: whoever opens it again builds new ones."""

    database: Database
    store: ConnectionStore
    operations: OperationStore
    links: LinkStore
    engine: Engine
    #: What the host's own calls to linked accounts stand on.
    accounts: Accounts
    budget: HostBudget
    clock: Clock
    #: The server's clock, where that is everybody's.
    server_clock: DatabaseClock | None
    #: Brings announcements to the handlers of this process, and to the webhook.
    calling: Deliverer
    posting: Deliverer
    webhook: Webhook | None
    statistics: StatisticsReader
    #: The transports that were made here, and are to be closed with the linker.
    own_transports: tuple[httpx.AsyncBaseTransport, ...]
    #: Once set, nothing more is claimed; what is in flight is finished.
    stopping: asyncio.Event


def build(
    settings: Settings,
    handlers: Handlers,
    *,
    http: httpx.AsyncClient | None = None,
    workable: Workable | None = None,
    clock: Clock | None = None,
    randomness: Randomness | None = None,
    observer: Observer | None = None,
    account_transport: httpx.AsyncBaseTransport | None = None,
    budget: Budget | None = None,
) -> Parts:
    """Build all parts; see `Linker` for what is taken in the place of ours.

    Raises:
        BadSettings: a setting or a key is missing or unusable.
    """
    cipher = TokenCipher(settings.secret_keys)
    database = Database(settings.database_url, settings.database_schema, opened=False)
    server_clock = None if clock or database.is_sqlite else DatabaseClock(database)
    clock = clock or server_clock or SystemClock()
    randomness = randomness or Randomness()
    webhook = build_webhook(settings, clock)
    own_transports = [webhook.transport] if webhook else []
    rate_limits = SharedRateLimits(settings.workable_client_id)
    is_partner = settings.workable_client_id is not None
    host_budget = HostBudget(HostCalls(database, rate_limits, server_clock), clock, partner=is_partner)
    transport: httpx.AsyncBaseTransport
    hosts_transport: httpx.AsyncBaseTransport
    if account_transport is not None and workable is not None:
        transport = hosts_transport = account_transport  # a test without a network
    elif http is None:
        given: dict[str, Any] = {"proxy": settings.proxy_url, "verify": httpx.create_ssl_context()}
        transport = build_transport(connections=settings.concurrency + SPARE_CONNECTIONS, **given)
        hosts_transport = build_transport(connections=HOSTS_CONNECTIONS, **given)
        own_transports += [transport, hosts_transport]
    else:
        transport = hosts_transport = ClientTransport(http)
    if workable is None:
        workable = WorkableClient(
            transport,
            url_template=settings.workable_url,
            clock=clock,
            client_id=settings.workable_client_id,
            permissions=settings.permissions,
            timeouts=Timeouts.within(settings.lease_seconds * QUESTION_RATIO),
            tell=host_budget.learnt,
        )
    watching = together(observer, _tracing())
    stopping = asyncio.Event()
    lease_issuer = LeaseIssuer(clock, timedelta(seconds=settings.lease_seconds))
    store = ConnectionStore(database, rate_limits, watching)
    access = Access(store.get, database)
    store.tell_of_writes(access.forget)
    accounts = Accounts(
        access=access,
        transport=account_transport or hosts_transport,
        urls=AccountUrls(settings.workable_url),
        cipher=cipher,
        clock=clock,
        budget=budget or host_budget,
        client_id=settings.workable_client_id,
        randomness=randomness,
        observer=watching,
    )
    executor = DutyExecutor(
        store=store,
        workable=workable,
        cipher=cipher,
        clock=clock,
        timing=settings.timing,
        recruiter_name=settings.recruiter_name,
        recruiter_email=settings.recruiter_email,
        permissions=settings.permissions,
        readable_permissions=tuple(name for name in settings.permissions if name in api.TRIED_BY),
        randomness=randomness,
        observer=watching,
    )
    sweeper = Sweeper(
        store=store,
        executor=executor,
        lease_issuer=lease_issuer,
        clock=clock,
        pacing=ClaimPacing(settings.concurrency, settings.batch_size),
        impossible_times=ImpossibleTimes(store, clock, settings.timing),
        observer=watching,
        scarce=settings.workable_client_id is not None,
        stopping=stopping,
    )

    def deliverer(outbox: OutboxStore, receiver: Receiver) -> Deliverer:
        return Deliverer(
            outbox=outbox,
            receiver=receiver,
            lease_issuer=lease_issuer,
            clock=clock,
            randomness=randomness,
            observer=watching,
            stopping=stopping,
        )

    return Parts(
        database=database,
        store=store,
        operations=OperationStore(database, store),
        links=LinkStore(database, store),
        engine=Engine(
            store=store,
            executor=executor,
            sweeper=sweeper,
            lease_issuer=lease_issuer,
            clock=clock,
            observer=watching,
        ),
        accounts=accounts,
        budget=host_budget,
        clock=clock,
        server_clock=server_clock,
        calling=deliverer(OutboxStore(database), handlers),
        posting=deliverer(OutboxStore(database, WEBHOOK), webhook or NullReceiver()),
        webhook=webhook,
        statistics=StatisticsReader(database, clock.now, posts=webhook is not None, alive=alive_workers),
        own_transports=tuple(own_transports),
        stopping=stopping,
    )


def _tracing() -> Observer | None:
    """Spans, where OpenTelemetry's API is installed."""
    try:
        tracing: Observer = import_module("linker.telemetry.tracing").Tracing()
    except ModuleNotFoundError:
        return None
    return tracing
