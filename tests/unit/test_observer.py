import subprocess
import sys
import timeit

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from linker.engine.observer import UNOBSERVED, Observer, Work, together, verdict_name, verdict_names
from linker.errors import Refused, StoreUnavailable
from linker.telemetry.metrics import METRICS, Metrics
from states.verdicts import CredentialRefused, RecruiterNotSeen, Unavailable


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with nothing in it."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """The numbers, in this registry."""
    return Metrics(registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """A number, as it would be scraped now."""
    return registry.get_sample_value(name, labels)


def test_verdicts_are_called_after_themselves() -> None:
    """A verdict's name is its own, in lower case, and all names are known beforehand."""
    assert verdict_name(RecruiterNotSeen()) == "recruiter_not_seen"
    assert {verdict_name(CredentialRefused()), verdict_name(Unavailable())} < set(verdict_names())
    assert "object_missing" not in verdict_names(), "what the client says to itself is no verdict of the law"


def test_work_is_timed_and_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    """What was noted about a piece of work is counted once, when it has ended."""
    with metrics.watch(Work.CALL, question="look") as note:
        note(verdict="recruiter_seen")
        assert value(registry, "linker_verdicts_total", question="look", verdict="recruiter_seen") == 0
    with metrics.watch(Work.CLAIM) as note:
        note(rows=7)
    with metrics.watch(Work.SETTLE) as note:
        note(rows=6)
    with metrics.watch(Work.DELIVERY, way="handlers", type="connection.linked") as note:
        note(outcome="given_up")
    metrics.leases_lost(1)
    assert value(registry, "linker_work_seconds_count", work="call") == 1
    assert value(registry, "linker_verdicts_total", question="look", verdict="recruiter_seen") == 1
    assert value(registry, "linker_claimed_total") == 7
    assert value(registry, "linker_settled_total") == 6
    assert value(registry, "linker_leases_lost_total") == 1
    given_up = {"way": "handlers", "type": "connection.linked", "outcome": "given_up"}
    assert value(registry, "linker_deliveries_total", **given_up) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("unreachable"), "store_unavailable"),
        (Refused("closed"), "refused"),
        (KeyError("x"), "our_fault"),
    ],
)
def test_errors_are_counted_by_their_code(
    registry: CollectorRegistry, metrics: Metrics, error: Exception, code: str
) -> None:
    """An error goes on its way, is timed, and is counted under its code; whatever is not ours is a fault of ours."""
    with pytest.raises(type(error)), metrics.watch(Work.CLAIM):
        raise error
    assert value(registry, "linker_work_errors_total", work="claim", error=code) == 1
    assert value(registry, "linker_work_seconds_count", work="claim") == 1
    assert value(registry, "linker_claimed_total") == 0


def test_gauges_are_silent_before_the_database_was_seen(registry: CollectorRegistry, metrics: Metrics) -> None:
    """A gauge that nobody read yet is absent rather than 0: nobody may take it for an empty database."""
    shown = generate_latest(registry).decode()
    for number in METRICS:
        sample = f"\n{number.name}_count" if number.kind == "histogram" else f"\n{number.name}"
        assert (sample in shown) == (number.kind != "gauge"), number.name


def test_numbers_cannot_be_registered_twice(registry: CollectorRegistry, metrics: Metrics) -> None:
    """A second `Metrics` in the same registry is refused, gauges too, instead of printing everything twice."""
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_several_observers_are_one(registry: CollectorRegistry, metrics: Metrics) -> None:
    """Each of several observers hears everything; one alone is not wrapped, and none costs nothing."""
    other = CollectorRegistry()
    both: Observer = together(metrics, None, Metrics(other))
    with both.watch(Work.CLAIM) as note:
        note(rows=2)
    both.leases_lost(3)
    for each in (registry, other):
        assert value(each, "linker_claimed_total") == 2
        assert value(each, "linker_leases_lost_total") == 3
    assert together(None, metrics) is metrics
    assert together(None, None) is UNOBSERVED


def test_watching_costs_nothing_where_nobody_listens() -> None:
    """A piece of work that nobody observes is watched in less than a microsecond, with room for a busy machine."""

    def watched() -> None:
        with UNOBSERVED.watch(Work.CALL, question="look") as note:
            note(verdict="recruiter_seen")

    best = min(timeit.repeat(watched, number=2_000, repeat=20)) / 2_000
    assert best < 1e-6 * 5


BARE = """
import sys
sys.modules["opentelemetry"] = sys.modules["prometheus_client"] = None
from linker.composition import _tracing
from linker import Linker, Settings, new_key
from linker.persistence.connection_store import ConnectionStore
linker = Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),)))
assert _tracing() is None
assert type(linker._parts.store) is ConnectionStore, "nothing is wrapped where nobody listens"
from linker.cli.main import main
sys.exit(main(["worker", "--metrics-port", "0"]))
"""


def test_without_the_libraries_nothing_fails_but_the_port() -> None:
    """Neither library is needed; only `--metrics-port` ends with 2 and names the extra."""
    ran = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2, ran.stderr
    assert "prometheus_client is not installed. Install workable-linker with the extra metrics." in ran.stderr
