"""Metrics for Prometheus; needs the extra `metrics`.

    linker = Linker(observer=Metrics())  # into the registry that your own metrics are in

Labels are names that the program knows beforehand: states, problems, verdicts, kinds of work. No metric names a
connection, an owner, an e-mail or an account.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
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

#: The bounds of the histogram: from a claim in memory to a call that ran into its time-out.
BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

QUESTIONS = ("verify", "look")
OUTCOMES = ("delivered", "to_be_tried_again", "given_up")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as Prometheus sees it; the reference lists them all."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    #: What the database says is the same in every process; what a process did adds up.
    across: str = "sum"


WORK_SECONDS = Metric(
    name="linker_work_seconds",
    kind="histogram",
    labels=("work",),
    meaning="How long a piece of work took, in seconds: a claim, a call (one question to Workable), a settle, a "
    "delivery, a whole sweep, or what a person waits for.",
)
WORK_ERRORS = Metric(
    name="linker_work_errors_total",
    kind="counter",
    labels=("work", "error"),
    meaning="Pieces of work that ended in an error, by its code.",
)
CLAIMED = Metric(name="linker_claimed_total", kind="counter", meaning="Connections that were claimed.")
SETTLED = Metric(name="linker_settled_total", kind="counter", meaning="Decisions that were written.")
LEASES_LOST = Metric(
    name="linker_leases_lost_total",
    kind="counter",
    meaning="Answers that were thrown away because the row had changed meanwhile: the lease ran out, or a person was "
    "faster.",
)
VERDICTS = Metric(
    name="linker_verdicts_total",
    kind="counter",
    labels=("question", "verdict"),
    meaning="What Workable's answers meant, by what was asked.",
)
DELIVERIES = Metric(
    name="linker_deliveries_total",
    kind="counter",
    labels=("way", "type", "outcome"),
    meaning="Tries to deliver an announcement to the host.",
)
ACCOUNT_CALLS = Metric(
    name="linker_account_calls_total",
    kind="counter",
    labels=("status",),
    meaning="The host's own calls to linked accounts, by the class of the answer's status (`2xx`); `none`: no answer.",
)
CONNECTIONS = Metric(
    name="linker_connections",
    kind="gauge",
    labels=("state", "problem"),
    across="max",
    meaning="Open connections, by state and problem (`none`: no problem).",
)
OLDEST_WAIT = Metric(
    name="linker_oldest_wait_seconds",
    kind="gauge",
    labels=("state",),
    across="max",
    meaning="How long the connection has been in its state that is there the longest, in seconds; paused ones aside.",
)
TROUBLED = Metric(
    name="linker_troubled",
    kind="gauge",
    labels=("problem",),
    across="max",
    meaning="Open connections that are without an answer for so long that `connection.troubled` was announced, by "
    "problem.",
)
DUE = Metric(name="linker_due", kind="gauge", across="max", meaning="Connections that are due now.")
DUE_LAG = Metric(
    name="linker_due_lag_seconds",
    kind="gauge",
    across="max",
    meaning="How late the connection is that is due the longest, in seconds.",
)
INCIDENT = Metric(
    name="linker_incident",
    kind="gauge",
    across="max",
    meaning="1 while Workable refuses many accounts at once that were good before: no refusal is believed then.",
)
WORKERS = Metric(
    name="linker_workers",
    kind="gauge",
    across="max",
    meaning="Workers that said lately that they are alive.",
)
OUTBOX_WAITING = Metric(
    name="linker_outbox_waiting",
    kind="gauge",
    labels=("way", "type", "tried"),
    across="max",
    meaning="Announcements that are not delivered yet; `tried`: whether one was tried (`yes`, `no`).",
)
OUTBOX_OLDEST = Metric(
    name="linker_outbox_oldest_seconds",
    kind="gauge",
    labels=("way", "type", "tried"),
    across="max",
    meaning="How long the oldest of them has waited, in seconds.",
)
OUTBOX_DEAD = Metric(
    name="linker_outbox_dead",
    kind="gauge",
    labels=("way",),
    across="max",
    meaning="Dead letters: announcements that were given up.",
)
STATISTICS_READ = Metric(
    name="linker_stock_read_timestamp_seconds",
    kind="gauge",
    across="max",
    meaning="When the database was last looked at for the gauges, in Unix time.",
)

#: All metrics, in the order of the reference: those of this process, then those of the database.
METRICS = (
    WORK_SECONDS,
    WORK_ERRORS,
    CLAIMED,
    SETTLED,
    LEASES_LOST,
    VERDICTS,
    DELIVERIES,
    ACCOUNT_CALLS,
    CONNECTIONS,
    OLDEST_WAIT,
    TROUBLED,
    DUE,
    DUE_LAG,
    INCIDENT,
    WORKERS,
    OUTBOX_WAITING,
    OUTBOX_OLDEST,
    OUTBOX_DEAD,
    STATISTICS_READ,
)


class Metrics:
    """An observer that counts for Prometheus. The metrics are in the registry as long as the process runs."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register all metrics. Those that can be known beforehand begin with 0: a rate would not see the first time.

        Args:
            registry: where the host's own metrics are, by default Prometheus' own.
        """
        name, meaning, labels = WORK_SECONDS.name, WORK_SECONDS.meaning, WORK_SECONDS.labels
        seconds = Histogram(name, meaning, labels, registry=registry, buckets=BUCKETS_SECONDS)
        self._work = {work: seconds.labels(work.value) for work in Work}
        self._errors = _counter(WORK_ERRORS, registry)
        self._claimed = _counter(CLAIMED, registry)
        self._settled = _counter(SETTLED, registry)
        self._lost = _counter(LEASES_LOST, registry)
        verdicts = _counter(VERDICTS, registry)
        self._verdicts = {asked: verdicts.labels(*asked) for asked in product(QUESTIONS, verdict_names())}
        self._deliveries = _counter(DELIVERIES, registry)
        calls = _counter(ACCOUNT_CALLS, registry)
        self._account_calls = {first: calls.labels(f"{first}xx") for first in range(1, 6)}
        self._unanswered = calls.labels("none")
        self._statistics = _StatisticsCollector()
        registry.register(self._statistics)
        for work, error in product(Work, (StoreUnavailable, OurFault)):
            self._errors.labels(work.value, error.code)
        for channel, kind, outcome in product(CHANNELS, ANNOUNCEMENTS, OUTCOMES):
            self._deliveries.labels(channel.name, kind, outcome)

    @contextmanager
    def watch(self, work: Work, **facts: Fact) -> Iterator[Note]:
        """Time a piece of work, and count what came of it."""
        began = time.perf_counter()
        try:
            yield facts.update
            match work:
                case Work.CLAIM:
                    self._claimed.inc(float(facts["rows"]))
                case Work.CALL:
                    self._verdicts[str(facts["question"]), str(facts["verdict"])].inc()
                case Work.SETTLE:
                    self._settled.inc(float(facts["rows"]))
                case Work.USE:
                    self._account_calls.get(int(facts["status"]) // 100, self._unanswered).inc()
                case Work.DELIVERY:
                    self._deliveries.labels(facts["way"], facts["type"], facts["outcome"]).inc()
        except Exception as error:
            if work is Work.USE and not isinstance(error, LinkerError):  # the network's: nobody here is at fault
                self._unanswered.inc()
            else:
                self._errors.labels(work.value, error.code if isinstance(error, LinkerError) else OurFault.code).inc()
            raise
        finally:
            self._work[work].observe(time.perf_counter() - began)

    def leases_lost(self, count: int) -> None:
        """Count them."""
        self._lost.inc(count)

    def statistics_read(self, statistics: Statistics) -> None:
        """Keep it for the next scrape."""
        self._statistics.latest = statistics


class _StatisticsCollector(Collector):
    """The gauges: what was seen in the database when it was last looked at, all of one moment."""

    latest: Statistics | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names, so that they cannot be registered twice."""
        return (_gauge(metric) for metric in METRICS if metric.kind == "gauge")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; none before the database was looked at."""
        latest = self.latest
        if latest is None:
            return
        queue, connections = latest.queue, latest.connections
        yield _gauge(CONNECTIONS, connections.by_state.items())
        yield _gauge(OLDEST_WAIT, (((state,), age) for state, age in connections.oldest_wait.items()))
        yield _gauge(TROUBLED, (((problem,), number) for problem, number in connections.troubled.items()))
        yield _gauge(DUE, [((), queue.due)])
        yield _gauge(DUE_LAG, [((), queue.lag_seconds)])
        yield _gauge(INCIDENT, [((), int(queue.incident))])
        yield _gauge(WORKERS, [((), queue.workers)])
        waiting = {(way, kind, "yes" if tried else "no"): found for (way, kind, tried), found in queue.outbox.items()}
        yield _gauge(OUTBOX_WAITING, ((labels, found.number) for labels, found in waiting.items()))
        yield _gauge(OUTBOX_OLDEST, ((labels, found.oldest) for labels, found in waiting.items()))
        yield _gauge(OUTBOX_DEAD, (((way,), number) for way, number in connections.dead.items()))
        yield _gauge(STATISTICS_READ, [((), queue.read_at.timestamp())])


def _gauge(metric: Metric, values: Iterable[tuple[tuple[str, ...], float]] = ()) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values:
        gauge.add_metric(labels, value)
    return gauge


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
