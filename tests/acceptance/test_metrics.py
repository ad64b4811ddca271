"""The numbers of a real worker, fetched over a real socket, and the files that are made of their names."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from linker.encryption import new_key
from linker.sandbox import EVERYWHERE, Fault, Limit, World, running, seed
from linker.telemetry.metrics import METRICS
from states.history import ANNOUNCEMENTS
from states.problems import TRANSIENT, ProblemCode
from tests.acceptance.commands import PATIENCE, ROOT, Terminal, until
from tests.acceptance.leaks import Secret

pytestmark = pytest.mark.slow

CANARY = "CANARY7f3b0c9d2e8a41556b7cTOKEN"
OWNER = "owner-who-is-nobodys-business"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """What Prometheus would see."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """A sample; None if there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    @property
    def names(self) -> set[str]:
        """The names of all samples that are ours."""
        return {name for name, _ in self.samples if name.startswith("linker_")}


class Watched:
    """A worker with numbers."""

    def __init__(self, process: Any) -> None:
        self.process = process
        started = json.loads(process.stderr.readline())
        assert started["event"] == "worker.started", started
        self.url: str = started["metrics"]

    def scrape(self) -> Scrape:
        """Fetch the numbers now."""
        return Scrape(httpx.get(self.url, trust_env=False).raise_for_status().text)

    def until(self, true: Callable[[Scrape], bool]) -> Scrape:
        """Fetch until something is true of them."""
        seen: list[Scrape] = []

        def happened() -> bool:
            seen[:] = [self.scrape()]
            return true(seen[0])

        until(happened)
        return seen[0]

    def end(self) -> str:
        """End it, and give its log."""
        self.process.send_signal(signal.SIGTERM)
        log: str = self.process.communicate(timeout=PATIENCE)[1]
        assert self.process.returncode == 0, log
        return log


@contextmanager
def watched(linker: Terminal, *options: str) -> Iterator[Watched]:
    """A worker whose numbers are served on a free port."""
    with linker.started("worker", "--metrics-port", "0", *options) as process:
        yield Watched(process)


@contextmanager
def a_place(folder: Path) -> Iterator[tuple[Terminal, World]]:
    """The command with a database of its own, and a Workable that knows the canary as a good token."""
    world = seed.seeded()
    world.set_limit(Limit.off())
    world.add_token("acme", CANARY)
    with running(world) as url:
        key = new_key().get_secret_value()
        settings = {"secret_keys": key, "workable_url": url, "sweep_seconds": "0.1", "poll_first": "0.5"}
        yield Terminal(folder, settings | {"backoff_first": "0.2"}), world


class Story:
    """What happened while a worker was watched, and what was to be seen of it."""

    connection: Any
    worked: Scrape
    after: Scrape
    log: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A token is given while Workable is down, the recruiter comes late, and an answer comes too late."""
    told = Story()
    with a_place(tmp_path_factory.mktemp("story")) as (linker, world):
        connection_id = linker("open", "--owner", OWNER, "--json").json["id"]
        world.fail(EVERYWHERE, Fault.UNAVAILABLE)
        assert linker("submit", connection_id, "--subdomain", "acme", stdin=CANARY).code == 5
        with watched(linker) as worker:
            worker.until(lambda seen: bool(seen("linker_verdicts_total", question="verify", verdict="unavailable")))
            world.heal()
            worker.until(
                lambda seen: bool(seen("linker_verdicts_total", question="look", verdict="recruiter_not_seen"))
            )
            told.connection = linker("show", connection_id, "--json").json
            world.fail("acme", Fault.SLOW, seconds=6)
            until(lambda: any(rule.struck for rule in world.faults))
            assert linker("pause", connection_id).code == 0
            worker.until(lambda seen: bool(seen("linker_leases_lost_total")))
            world.heal()
            world.add_recruiter("acme", name="Integration", email=told.connection["recruiter"]["email"])
            assert linker("resume", connection_id).code == 0
            told.worked = worker.until(
                lambda seen: bool(seen("linker_verdicts_total", question="look", verdict="recruiter_seen"))
            )
            until(lambda: linker("show", connection_id, "--json").json["state"] == "linked")
            told.log = worker.end()
        linker("open", "--owner", OWNER)
        with watched(linker) as worker:
            told.after = worker.until(lambda seen: seen("linker_stock_read_timestamp_seconds") is not None)
            told.log += worker.end()
        yield told


def test_every_number_is_there(story: Story) -> None:
    """A scrape has all the numbers of the reference, under these names and with these labels, and no other of ours."""
    families = {family.name: family for family in text_string_to_metric_families(story.after.text)}
    ours = {name: family for name, family in families.items() if name.startswith("linker_")}
    assert ours.keys() == {number.name.removesuffix("_total") for number in METRICS}
    for number in METRICS:
        family = ours[number.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (number.kind, number.meaning)
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels <= {frozenset(number.labels)}, number.name
    assert "process_resident_memory_bytes" in families


def test_the_story_is_to_be_seen(story: Story) -> None:
    """What happened is in the numbers: verdicts, claims, calls, settles, the answer that came too late."""
    seen = story.worked
    assert seen("linker_verdicts_total", question="verify", verdict="account_readable") == 1
    assert seen("linker_leases_lost_total") == 1
    claimed, settled = seen("linker_claimed_total"), seen("linker_settled_total")
    assert claimed is not None
    assert settled is not None
    assert claimed >= settled >= 4
    for work in ("sweep", "claim", "call", "settle"):
        count, total = seen("linker_work_seconds_count", work=work), seen("linker_work_seconds_sum", work=work)
        assert count, work
        assert total, work
        assert total < PATIENCE
    calls = sum(value for (name, _), value in seen.samples.items() if name == "linker_verdicts_total")
    assert seen("linker_work_seconds_count", work="call") == calls
    assert not any(value for (name, _), value in seen.samples.items() if name == "linker_work_errors_total")


def test_the_database_is_to_be_seen(story: Story) -> None:
    """What is in the database is in the gauges, whoever put it there."""
    seen = story.after
    assert seen("linker_connections", state="linked", problem="none") == 1
    assert seen("linker_connections", state="awaiting_token", problem="none") == 1
    assert seen("linker_connections", state="failed", problem="none") == 0
    waited = seen("linker_oldest_wait_seconds", state="awaiting_token")
    assert waited is not None
    assert 0 < waited < PATIENCE
    assert [seen("linker_troubled", problem=code.value) for code in TRANSIENT] == [0] * len(TRANSIENT)
    assert seen("linker_incident") == 0
    assert seen("linker_due") == 0
    assert seen("linker_due_lag_seconds") == 0
    waiting = {"way": "handlers", "type": "connection.linked", "tried": "no"}
    assert seen("linker_outbox_waiting", **waiting) == 1, "a worker has no handlers"
    assert 0 < (seen("linker_outbox_oldest_seconds", **waiting) or 0) < PATIENCE
    assert seen("linker_outbox_dead", way="handlers") == 0


def test_nothing_private_is_to_be_seen(story: Story) -> None:
    """No token, owner, id, e-mail or account is in a scrape, and no token in the log."""
    shown = f"{story.worked.text}{story.after.text}"
    assert not Secret(CANARY).is_in((shown + story.log).encode())
    private = (OWNER, story.connection["id"], story.connection["recruiter"]["email"], "acme", "Acme")
    assert [word for word in private if word in shown] == []


def test_there_are_few_series(story: Story) -> None:
    """However many connections there are, a worker has some hundred series."""
    assert len(story.after.samples) < 600
    known = {code.value for code in ProblemCode} | {"none"}
    problems = {dict(labels)["problem"] for name, labels in story.after.samples if name == "linker_connections"}
    assert problems <= known


# the port


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port that somebody else listens on is said at once, with 2, and nothing was begun."""
    linker = Terminal(tmp_path, {"secret_keys": new_key().get_secret_value()})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = linker("worker", "--metrics-port", str(port))
    assert ran.code == 2
    assert f"127.0.0.1:{port} cannot be listened on" in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []
    assert linker("worker", "--metrics-port", "70000").code == 2
    assert linker("worker", "--metrics-port", "0", "--metrics-host", "no.such.host.invalid").code == 2


def test_the_numbers_are_for_this_machine_unless_asked_otherwise(tmp_path: Path) -> None:
    """They are served on 127.0.0.1; an address that is given is used instead."""
    linker = Terminal(tmp_path, {"secret_keys": new_key().get_secret_value()})
    with watched(linker) as worker:
        assert worker.url.startswith("http://127.0.0.1:")
        worker.end()
    with watched(linker, "--metrics-host", "127.0.0.2") as worker:
        assert worker.url.startswith("http://127.0.0.2:")
        assert worker.scrape().names
        worker.end()


# what is made of the names


#: Labels of the outbox that no short story shows all of.
RARE = {"type": set(ANNOUNCEMENTS), "tried": {"yes", "no"}}


def selectors(expression: str) -> list[Any]:
    """The selectors of an expression, which has to be one that Prometheus takes."""
    found: list[Any] = []
    _walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), found)
    return found


def _walk(node: Any, found: list[Any]) -> None:
    if isinstance(node, promql_parser.VectorSelector):
        found.append(node)
    parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector", "args")]
    for part in parts:
        for each in part if isinstance(part, list) else [part]:
            if each is not None:
                _walk(each, found)


def rules() -> list[Any]:
    """The alert rules."""
    [group] = yaml.safe_load((ROOT / "config" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def dashboard_expressions() -> list[str]:
    """Every expression of the dashboard."""
    board = json.loads((ROOT / "config" / "dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def expressions() -> list[str]:
    """Every expression of both files."""
    return [rule["expr"] for rule in rules()] + dashboard_expressions()


def test_alerts_and_dashboard_use_names_that_are_scraped(story: Story) -> None:
    """An expression names what a scrape prints, label by label, and values that can be; nothing is left unwatched."""
    number_of = {name: number for number in METRICS for name in story.after.names if name.startswith(number.name)}
    of_outbox = ("linker_outbox_oldest_seconds", "linker_outbox_waiting")
    known = {f"{name} {label}": set(values) for name in of_outbox for label, values in RARE.items()}
    known["linker_connections problem"] = {code.value for code in ProblemCode} | {"none"}
    for name, labels in story.after.samples:
        for label, value in labels:
            known.setdefault(f"{name} {label}", set()).add(value)
    used = set()
    for expression in expressions():
        for selector in selectors(expression):
            assert selector.name in story.after.names, expression
            used.add(number_of[selector.name].name)
            for matcher in selector.matchers.matchers:
                assert matcher.name in number_of[selector.name].labels, expression
                possible = known[f"{selector.name} {matcher.name}"]
                assert set(matcher.value.split("|")) <= possible, (expression, possible)
    assert used == {number.name for number in METRICS}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: Any) -> None:
    """Each alert has a severity, a summary, and a section of the docs that says what it means and what to do."""
    assert rule["alert"].startswith("Linker")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (\S+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_gauges_are_put_together_with_max_and_counters_with_sum() -> None:
    """What each worker reads from the same database is never added up over them; a counter never stands alone."""
    across = {number.name: number.across for number in METRICS}
    for expression in expressions():
        for selector in selectors(expression):
            before = expression[: expression.index(selector.name)]
            if across.get(selector.name) == "max":
                innermost = re.findall(r"(max|sum|absent)(?: by \([^)]*\))? ?\((?:delta\()?$", before)
                assert innermost in (["max"], ["absent"]), expression
            else:
                assert re.search(r"sum(?: by \([^)]*\))? ?\((?:rate|increase)\($", before), expression
