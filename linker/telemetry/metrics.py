"""Numbers to watch, for Prometheus; needs the extra `metrics`.

    linker = Linker(observer=Metrics())  # into the registry that your own numbers are in

Labels are names that the program knows beforehand: states, problems, verdicts, kinds of work. No number names a
connection, an owner, an e-mail or an account.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from linker.engine.observer import Fact, Note, Statistics, Work, verdict_names
from linker.errors import LinkerError, OurFault, StoreUnavailable
from linker.outbox.channels import CHANNELS
from states.history import ANNOUNCEMENTS

#: The bounds of the histogram, in seconds: from a claim in memory to a call that ran into its time-out.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

QUESTIONS = ("verify", "look")
OUTCOMES = ("delivered", "to_be_tried_again", "given_up")


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as Prometheus sees it; the reference lists them all."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    #: What the database says is the same in every process; what a process did adds up.
    across: str = "sum"


WORK_SECONDS = Number(
    name="linker_work_seconds",
    kind="histogram",
    labels=("work",),
    meaning="How long a piece of work took, in seconds: a claim, a call (one question to Workable), a settle, a "
    "delivery, a whole sweep, or what a person waits for.",
)
WORK_ERRORS = Number(
    name="linker_work_errors_total",
    kind="counter",
    labels=("work", "error"),
    meaning="Pieces of work that ended in an error, by its code.",
)
CLAIMED = Number(name="linker_claimed_total", kind="counter", meaning="Connections that were claimed.")
SETTLED = Number(name="linker_settled_total", kind="counter", meaning="Decisions that were written.")
LEASES_LOST = Number(
    name="linker_leases_lost_total",
    kind="counter",
    meaning="Answers that were thrown away because the row had changed meanwhile: the lease ran out, or a person was "
    "faster.",
)
VERDICTS = Number(
    name="linker_verdicts_total",
    kind="counter",
    labels=("question", "verdict"),
    meaning="What Workable's answers meant, by what was asked.",
)
DELIVERIES = Number(
    name="linker_deliveries_total",
    kind="counter",
    labels=("way", "type", "outcome"),
    meaning="Tries to deliver an announcement to the host.",
)
CONNECTIONS = Number(
    name="linker_connections",
    kind="gauge",
    labels=("state", "problem"),
    across="max",
    meaning="Open connections, by state and problem (`none`: no problem).",
)
OLDEST_WAIT = Number(
    name="linker_oldest_wait_seconds",
    kind="gauge",
    labels=("state",),
    across="max",
    meaning="How long the connection has been in its state that is there the longest, in seconds; paused ones aside.",
)
DUE = Number(name="linker_due", kind="gauge", across="max", meaning="Connections that are due now.")
DUE_LAG = Number(
    name="linker_due_lag_seconds",
    kind="gauge",
    across="max",
    meaning="How late the connection is that is due the longest, in seconds.",
)
OUTBOX_WAITING = Number(
    name="linker_outbox_waiting",
    kind="gauge",
    labels=("way", "type", "tried"),
    across="max",
    meaning="Announcements that are not delivered yet; `tried`: whether one was tried (`yes`, `no`).",
)
OUTBOX_OLDEST = Number(
    name="linker_outbox_oldest_seconds",
    kind="gauge",
    labels=("way", "type", "tried"),
    across="max",
    meaning="How long the oldest of them has waited, in seconds.",
)
OUTBOX_DEAD = Number(
    name="linker_outbox_dead",
    kind="gauge",
    labels=("way",),
    across="max",
    meaning="Announcements that were given up.",
)
STOCK_READ = Number(
    name="linker_stock_read_timestamp_seconds",
    kind="gauge",
    across="max",
    meaning="When the database was last looked at for the gauges, in Unix time.",
)

#: All numbers, in the order of the reference: those of this process, then those of the database.
NUMBERS = (
    WORK_SECONDS,
    WORK_ERRORS,
    CLAIMED,
    SETTLED,
    LEASES_LOST,
    VERDICTS,
    DELIVERIES,
    CONNECTIONS,
    OLDEST_WAIT,
    DUE,
    DUE_LAG,
    OUTBOX_WAITING,
    OUTBOX_OLDEST,
    OUTBOX_DEAD,
    STOCK_READ,
)


class Metrics:
    """An observer that counts. The numbers are in the registry as long as the process runs."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register all numbers. Those that can be known beforehand begin with 0: a rate would not see the first time.

        Args:
            registry: where the host's own numbers are, by default Prometheus' own.
        """
        seconds = _histogram(WORK_SECONDS, registry)
        self._work = {work: seconds.labels(work.value) for work in Work}
        self._errors = _counter(WORK_ERRORS, registry)
        self._claimed = _counter(CLAIMED, registry)
        self._settled = _counter(SETTLED, registry)
        self._lost = _counter(LEASES_LOST, registry)
        verdicts = _counter(VERDICTS, registry)
        self._verdicts = {asked: verdicts.labels(*asked) for asked in product(QUESTIONS, verdict_names())}
        self._deliveries = _counter(DELIVERIES, registry)
        self._stock = _StockCollector()
        registry.register(self._stock)
        for work, error in product(Work, (StoreUnavailable, OurFault)):
            self._errors.labels(work.value, error.code)
        for way, kind, outcome in product(CHANNELS, ANNOUNCEMENTS, OUTCOMES):
            self._deliveries.labels(way.name, kind, outcome)

    @contextmanager
    def watch(self, work: Work, **facts: Fact) -> Iterator[Note]:
        """Time a piece of work, and count what came of it."""
        began = time.perf_counter()
        try:
            yield facts.update
            self._count(work, facts)
        except Exception as error:
            self._errors.labels(work.value, error.code if isinstance(error, LinkerError) else OurFault.code).inc()
            raise
        finally:
            self._work[work].observe(time.perf_counter() - began)

    def _count(self, work: Work, facts: Mapping[str, Fact]) -> None:
        match work:
            case Work.CLAIM:
                self._claimed.inc(float(facts["rows"]))
            case Work.CALL:
                self._verdicts[str(facts["question"]), str(facts["verdict"])].inc()
            case Work.SETTLE:
                self._settled.inc(float(facts["rows"]))
            case Work.DELIVERY:
                self._deliveries.labels(facts["way"], facts["type"], facts["outcome"]).inc()

    def leases_lost(self, count: int) -> None:
        """Count them."""
        self._lost.inc(count)

    def statistics_read(self, stock: Statistics) -> None:
        """Keep it for the next scrape."""
        self._stock.latest = stock


class _StockCollector(Collector):
    """The gauges: what was seen in the database when it was last looked at, all of one moment."""

    latest: Statistics | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names, so that they cannot be registered twice."""
        return (_gauge(number) for number in NUMBERS if number.kind == "gauge")

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges; none before the database was looked at."""
        stock = self.latest
        return [] if stock is None else list(_gauges(stock))


def _gauges(stock: Statistics) -> Iterator[GaugeMetricFamily]:
    queue, census = stock.queue, stock.census
    yield _gauge(CONNECTIONS, census.connections.items())
    yield _gauge(OLDEST_WAIT, (((state,), age) for state, age in census.oldest_wait.items()))
    yield _gauge(DUE, [((), queue.due)])
    yield _gauge(DUE_LAG, [((), queue.lag)])
    waiting = {(way, kind, "yes" if tried else "no"): found for (way, kind, tried), found in queue.outbox.items()}
    yield _gauge(OUTBOX_WAITING, ((labels, found.number) for labels, found in waiting.items()))
    yield _gauge(OUTBOX_OLDEST, ((labels, found.oldest) for labels, found in waiting.items()))
    yield _gauge(OUTBOX_DEAD, (((way,), number) for way, number in census.dead.items()))
    yield _gauge(STOCK_READ, [((), queue.read_at.timestamp())])


def _gauge(number: Number, values: Iterable[tuple[tuple[str, ...], float]] = ()) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(number.name, number.meaning, labels=number.labels)
    for labels, value in values:
        gauge.add_metric(labels, value)
    return gauge


def _histogram(number: Number, registry: CollectorRegistry) -> Histogram:
    return Histogram(number.name, number.meaning, number.labels, registry=registry, buckets=BUCKETS)


def _counter(number: Number, registry: CollectorRegistry) -> Counter:
    return Counter(number.name, number.meaning, number.labels, registry=registry)
