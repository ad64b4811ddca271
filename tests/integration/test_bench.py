"""The bench itself, with as little to measure as it takes to see that every part of it works."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import structlog

from scripts.benchmarks import local, page, persisted, run, scale, stored
from scripts.benchmarks.figures import Figures
from scripts.benchmarks.peers import contract, environment, part
from scripts.benchmarks.plot import plot
from tests.postgres import PostgresServer

CONNECTIONS = 7


def some_figures() -> Figures:
    """Ratios that reach their goal, that do not, with a most, without a goal, to a number, and one that is missing."""
    figures = Figures(facts={"CPU": "a fast one"})
    for name, rounds in {"ours, 1/s": (30.0, 60.0, 45.0), "theirs, 1/s": (10.0, 10.0, 10.0)}.items():
        for rate in rounds:
            figures.add(name, rate)
    figures.ratio("far_over", "ours, 1/s", "theirs, 1/s", goal=1)
    figures.ratio("not_over", "ours, 1/s", "theirs, 1/s", goal=9)
    figures.ratio("at_most", "theirs, 1/s", "ours, 1/s", goal=1.5, at_most=True)
    figures.ratio("to_a_number", "theirs, 1/s", 8)
    figures.ratio("without_goal", "theirs, 1/s", "ours, 1/s")
    figures.miss("over_a_peer", "a peer is not installed: no network")
    return figures


def said(part_of_the_page: str, name: str) -> list[str]:
    """The cells of the row of a ratio."""
    [row] = [line for line in part_of_the_page.splitlines() if line.startswith(f"| `{name}`")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_page_says_what_was_measured() -> None:
    """Each ratio has its median, spread, goal and verdict; what is missing says why; the parts say how."""
    text = page.page(some_figures(), {"sweep": "A sweep.\n"}, rounds=3, on=datetime(2026, 3, 2, tzinfo=UTC))
    assert said(text, "far_over")[2:] == ["4.50", "3.00 to 6.00", "≥ 1", "reached"]
    assert said(text, "not_over")[2:] == ["4.50", "3.00 to 6.00", "≥ 9", "**not reached**"]
    assert said(text, "at_most")[2:] == ["0.22", "0.17 to 0.33", "≤ 1.5", "reached"]
    assert said(text, "to_a_number")[1:4] == ["theirs, 1/s / 8", "1.25", "1.25 to 1.25"]
    assert said(text, "without_goal")[4:] == ["", ""]
    assert said(text, "over_a_peer")[1:] == ["a peer is not installed: no network", "", "", "", "**not measured**"]
    assert "`./scripts/bench --write --rounds 3` on 2026-03-02" in text
    assert "| CPU | a fast one |" in text
    assert "**sweep.** A sweep." in text


def test_the_plot_shows_each_ratio_with_a_goal() -> None:
    """The plot is well-formed, for light and dark grounds, and has a bar for each ratio with a goal."""
    drawn = plot(some_figures().ratios)
    bars = [each.get("class") for each in ET.fromstring(drawn) if each.tag.endswith("rect")]  # noqa: S314 - our own
    assert bars == ["ground", "reached", "short", "reached"]
    assert "prefers-color-scheme: dark" in drawn


def test_the_page_is_written_with_its_plot(tmp_path: Path) -> None:
    """The page and the plot lie where the page links to."""
    page.write(tmp_path, some_figures(), {}, rounds=1)
    assert (tmp_path / "docs" / "images" / "benchmarks.svg").exists()
    assert "(images/benchmarks.svg)" in (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_a_page_of_some_parts_is_refused() -> None:
    """A page with some of the parts would hide that the others are missing."""
    with pytest.raises(SystemExit) as refused:
        run.arguments(["peers", "--write"])
    assert refused.value.code == 2


def test_the_result_is_alone_on_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the library logs while it is measured is not mixed into the JSON, nor into the table."""

    class Part:
        @staticmethod
        def measure(figures: Figures, folder: Path, rounds: int) -> None:
            structlog.get_logger("linker").info("step.written")
            structlog.get_logger("linker").warning("lease.not_renewed")
            figures.add("a rate, 1/s", 1.0)

    monkeypatch.setattr(run, "PARTS", {"sweep": Part})
    with configured_as_before():
        assert run.main(["--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "lease.not_renewed" in err
    assert "step.written" not in err


@contextmanager
def configured_as_before() -> Iterator[None]:
    """Put structlog's configuration back."""
    try:
        yield
    finally:
        structlog.reset_defaults()


@pytest.mark.parametrize("name", run.PARTS)
def test_every_part_says_what_it_measures(name: str) -> None:
    """The page describes each part with the part's own words."""
    assert run.PARTS[name].__doc__


def measured(url: str, module: str, *given: str) -> dict[str, Any]:
    """What a program of the comparison prints for a few connections."""
    command = [sys.executable, "-m", f"scripts.benchmarks.peers.{module}", url.replace("+psycopg", "")]
    numbers = [f"--connections={CONNECTIONS}", *given]
    done = subprocess.run([*command, *numbers], cwd=environment.ROOT, capture_output=True, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout)
    return line


def test_ours_takes_every_connection_through_its_steps(postgres_url: str) -> None:
    """Three transitions of each connection are in the database, and the size of the batches is told."""
    found = measured(postgres_url, "ours")
    assert (found["name"], found["transitions"]) == ("workable-linker", CONNECTIONS * contract.STEPS)
    assert found["rate"] > 0
    assert found["batch"] > 1


def test_sql_by_hand_writes_the_same_in_the_batches_asked_for(postgres_url: str) -> None:
    """Seven connections in batches of three are three commits for each of the steps."""
    found = measured(postgres_url, "by_hand", "--batch=3")
    assert found["transitions"] == CONNECTIONS * contract.STEPS
    assert found["batch"] == pytest.approx(CONNECTIONS / 3)


#: What was told of each step, without what differs between connections: which facts there were, and which were empty.
TOLD = """
    SELECT type, key, value::text = 'null', count(*) FROM linker_outbox, json_each(payload->'data')
    GROUP BY type, key, value::text = 'null' ORDER BY type, key"""
STEPS = "SELECT seq, event, source, target, actor, count(*) FROM linker_step GROUP BY 1, 2, 3, 4, 5 ORDER BY 1"
#: What the rows are in the end: which columns hold something.
FACTS = """
    SELECT fact.key, count(*) FROM linker_connection, json_each(row_to_json(linker_connection)) AS fact
    WHERE fact.value::text <> 'null' GROUP BY fact.key"""
TOLD_FACTS = FACTS.replace("linker_connection", "linker_outbox")


def test_sql_by_hand_leaves_the_rows_that_ours_leaves(postgres_server: PostgresServer) -> None:
    """Histories, announcements and connections hold the same facts, whoever wrote them."""
    left = []
    for module in ("ours", "by_hand"):
        with postgres_server.database() as url:
            measured(url, module)
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                queries: tuple[LiteralString, ...] = (TOLD, STEPS, FACTS, TOLD_FACTS)
                left.append([sorted(map(repr, connection.execute(query).fetchall())) for query in queries])
    assert left[0] == left[1]


#: What a transition writes.
WRITTEN = {
    "connection": "SELECT * FROM linker_connection",
    "step": "SELECT * FROM linker_step",
    "outbox": "SELECT * FROM linker_outbox",
    "payload": "SELECT o.id, key, value FROM linker_outbox AS o, json_each(payload, '$.data') WHERE value IS NOT NULL",
}


def filled(path: Path) -> dict[str, list[list[str]]]:
    """Of each row of an SQLite file, the columns that hold something; of each payload, the facts that do."""
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        rows = {name: [dict(row) for row in raw.execute(query)] for name, query in WRITTEN.items()}
    facts = rows.pop("payload")
    held_leases = {
        name: [[key for key in row if row[key] is not None] for row in found] for name, found in rows.items()
    }
    return held_leases | {"payload": [[str(fact["id"]), fact["key"]] for fact in facts]}


@pytest.mark.parametrize("batch", persisted.COUNTS)
def test_sql_by_hand_leaves_the_rows_that_ours_leaves_on_sqlite(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on SQLite: a statement that writes less would be no match."""
    monkeypatch.setitem(persisted.COUNTS, batch, CONNECTIONS)
    monkeypatch.setattr(persisted, "TURN", CONNECTIONS)
    ours, by_hand = tmp_path / "ours.db", tmp_path / "by_hand.db"
    assert min(asyncio.run(persisted.in_turns(ours, by_hand, batch))) > 0
    assert filled(ours) == filled(by_hand)
    assert len(filled(ours)["outbox"]) == CONNECTIONS


def the_server(monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
    """Let the part use the server of the tests."""

    class Running:
        def __enter__(self) -> PostgresServer:
            return server

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(part, "running_postgres", lambda _settings: Running())


def test_without_the_peers_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """If the peers cannot be installed, their ratios are missing with the reason, and the others are there."""

    def no_network() -> Path:
        raise environment.NotInstalled("no network")

    the_server(monkeypatch, postgres_server)
    monkeypatch.setattr(environment, "python", no_network)
    figures = Figures()
    part.measure(figures, tmp_path, 1, ours=CONNECTIONS, theirs=1)
    assert list(figures.ratios) == [part.RATIO_BY_HAND]
    assert list(figures.missing) == [peer.ratio for peer in part.PEERS]
    assert "no network" in figures.as_json()["missing"]["transitions_over_dbos"]


def test_a_peer_that_fails_is_missing(
    monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """A peer's program that ends badly leaves its ratio out, with the last line of what it said."""
    the_server(monkeypatch, postgres_server)
    monkeypatch.setattr(environment, "python", lambda: Path(sys.executable))
    nobody = part.Peer(
        name="Nobody", module="with_nobody", rate="nothing, 1/s", ratio="transitions_over_nobody", goal=1
    )
    monkeypatch.setattr(part, "PEERS", (nobody,))
    figures = Figures()
    part.measure(figures, tmp_path, 1, ours=CONNECTIONS, theirs=1)
    assert "No module named" in figures.missing["transitions_over_nobody"]
    assert list(figures.ratios) == [part.RATIO_BY_HAND]


def test_an_environment_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever stops the making of the environment comes out as one line, and the next run tries again."""
    monkeypatch.setattr(environment, "PIP", ("-c", "import sys; sys.exit('no route to host')"))
    folder = tmp_path / ".venv-peers"
    with pytest.raises(environment.NotInstalled, match="no route to host"):
        environment.python(folder)
    assert not environment.is_installed(folder)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_claims_are_measured_in_databases_of_two_sizes(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sizes are filled with the same number of due connections, which are all claimed, again and again."""
    monkeypatch.setattr(scale, "SIZES", {scale.FEW: 400, scale.MANY: 4_000})
    monkeypatch.setattr(stored, "DUE", 100)
    of = local.settings("sqlite://", "http://127.0.0.1:9/{subdomain}")
    urls = {size: f"sqlite:///{tmp_path / size}" for size in scale.SIZES}
    if engine == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        urls = {size: server.url(server.create_database()) for size in scale.SIZES}
    figures = Figures(facts={})
    with scale.filled(urls, of) as databases:
        scale.measure_claims(figures, "ratio", engine, databases, 1)
        if engine == "sqlite":
            scale.settle_down(databases[scale.MANY])
    assert figures.ratios["ratio"].wanted == "≤ 1.2"
