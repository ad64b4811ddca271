"""Upkeep through the command line: keys, the schema's revision, the doctor."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from linker.cli.main import main
from linker.database.database import Database
from linker.encryption import new_key
from linker.engine.ports import SystemClock
from linker.outbox.webhooks import new_webhook_secret
from linker.persistence.migrations import HEAD
from linker.persistence.schema import upgrade
from linker.persistence.tables import CONNECTION, OUTBOX
from linker.sandbox import Limit, running, seed
from tests.acceptance.commands import Ran, Terminal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a sandbox."""
    world = seed.seeded()
    world.set_limit(Limit.off())
    with running(world) as served:
        yield served


@pytest.fixture
def linker(tmp_path: Path, url: str) -> Terminal:
    """The command with the sandbox and a key that the command made."""
    made = Terminal(tmp_path, {"workable_url": url})
    key = made("keys", "new")
    assert (key.code, key.err, key.out.count("\n")) == (0, "", 1)
    made.settings["secret_keys"] = key.out.strip()
    return made


def checks(ran: Ran) -> dict[str, Any]:
    """What the doctor found, by name."""
    return {check["name"]: check for check in ran.json["checks"]}


def test_keys_are_rotated_without_asking_anybody(linker: Terminal) -> None:
    """After `keys rotate` the new key alone is enough; again it does nothing; what needs a missing key says so."""
    old, new = linker.settings["secret_keys"], linker("keys", "new", "--json").json["key"]
    connection_id = linker.opened()
    assert linker("submit", connection_id, "--subdomain", "acme", stdin=seed.ACME_TOKEN).code == 0
    alone = linker("confirm", connection_id, "--json", secret_keys=new)
    assert (alone.code, alone.json["problem"]["code"]) == (1, "poisoned")
    assert "which is not set" in alone.json["problem"]["detail"]
    both = f"{new},{old}"
    assert checks(linker("doctor", "--json", secret_keys=both))["stored keys"]["status"] == "care"
    assert linker("keys", "rotate", "--json", secret_keys=both).json == {"resealed": 1, "already": 0}
    assert linker("keys", "rotate", "--json", secret_keys=both).json == {"resealed": 0, "already": 1}
    assert linker("confirm", connection_id, secret_keys=new).code == 0
    lacking = linker("keys", "rotate", secret_keys=old)
    assert (lacking.code, connection_id in lacking.err) == (1, True)


def test_the_revision_is_told_before_and_after_an_upgrade(linker: Terminal, tmp_path: Path) -> None:
    """`db current` changes nothing and says how the database stands; `db upgrade` brings it to the head."""
    empty = linker("db", "current", "--json")
    assert (empty.json["revision"], empty.json["state"]) == (None, "empty")
    assert not (tmp_path / "linker.db").exists()
    upgraded = linker("db", "upgrade", "--json")
    assert (upgraded.json["before"], upgraded.json["revision"], upgraded.json["head"]) == (None, HEAD, HEAD)
    assert linker("db", "current", "--json").json["state"] == "head"
    with sqlite3.connect(tmp_path / "linker.db") as database:
        database.execute("UPDATE linker_schema_version SET revision = '9999', oldest_writer = '9999'")
    database.close()
    assert linker("db", "current", "--json").json["state"] == "newer"
    assert linker("list").code == 1
    assert linker("doctor", "--offline").code == 1


def test_our_tables_are_taken_away_and_nothing_else(linker: Terminal, tmp_path: Path) -> None:
    """Not without a word for it; also without their version; and where there are none, nothing is made."""
    assert linker("db", "drop", "--yes", "--json").json["dropped"] == []
    assert not (tmp_path / "linker.db").exists()
    linker.opened()
    with sqlite3.connect(tmp_path / "linker.db") as database:
        database.execute("CREATE TABLE connection (id INTEGER PRIMARY KEY, peer TEXT)")
        database.execute("DELETE FROM linker_schema_version")
    database.close()
    unasked = linker("db", "drop", "--json")
    assert (unasked.code, unasked.error["field"]) == (2, "yes")
    assert linker("list").code == 1
    dropped = linker("db", "drop", "--yes", "--json")
    assert (dropped.code, "linker_connection" in dropped.json["dropped"]) == (0, True)
    with sqlite3.connect(tmp_path / "linker.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()
    assert names - {"sqlite_sequence"} == {"connection"}


def test_a_worker_waits_for_its_version_of_the_database(linker: Terminal, tmp_path: Path) -> None:
    """It says what it waits for, and begins once somebody has done it; SIGTERM ends it while it waits, too."""

    def says(revision: str, oldest_writer: str) -> None:
        with sqlite3.connect(tmp_path / "linker.db") as database:
            put = "UPDATE linker_schema_version SET revision = ?, oldest_writer = ?"
            database.execute(put, (revision, oldest_writer))
        database.close()

    linker.opened()
    says("9999", "9998")
    with linker.started("worker") as worker:
        waiting = json.loads(worker.stderr.readline())
        assert (waiting["event"], waiting["reason"]) == ("worker.waiting", "newer")
        assert "9998" in waiting["said"]
        says("9999", HEAD)
        while (event := json.loads(worker.stderr.readline())["event"]) == "worker.waiting":
            pass
        assert event == "worker.started"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    says("9999", "9998")
    with linker.started("worker") as worker:
        assert "worker.waiting" in worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


def test_the_doctor_finds_all_well(linker: Terminal) -> None:
    """On a sound system the doctor ends with 0, whether or not a database exists already."""
    fresh = linker("doctor", "--json")
    assert (fresh.code, fresh.json["ok"]) == (0, True)
    linker.opened()
    found = checks(linker("doctor", "--json"))
    expected = {
        "settings",
        "keys",
        "database",
        "disk",
        "integrity",
        "journal",
        "due",
        "connections",
        "workable",
        "clock",
    }
    assert found.keys() >= expected
    assert {found[name]["status"] for name in expected} == {"ok"}


def test_the_doctor_names_a_permission_that_nobody_knows(linker: Terminal) -> None:
    """It may be new, or a slip: customers are asked to tick it."""
    found = checks(linker("doctor", "--offline", "--json", permissions="r_jobs,r_assessments"))["permissions"]
    assert (found["status"], "r_assessments" in found["said"], "w_candidates" in found["advice"]) == (
        "care",
        True,
        True,
    )


def test_a_server_is_upgraded_by_hand(linker: Terminal, postgres_url: str) -> None:
    """On PostgreSQL nothing is upgraded by itself: the doctor says what to do, and then finds all well."""
    linker.settings["database_url"] = postgres_url
    empty = linker("doctor", "--offline")
    assert (empty.code, "linker db upgrade" in empty.out) == (1, True)
    assert linker("open", "--owner", "a").code == 1
    assert linker("db", "upgrade").code == 0
    connection_id = linker.opened()
    assert linker("submit", connection_id, "--subdomain", "acme", stdin=seed.ACME_TOKEN).code == 0
    assert linker("doctor", "--offline").code == 0
    assert [step["seq"] for step in linker("history", connection_id, "--json").json] == [1, 2, 3, 4]


def test_age_is_judged_by_the_server_s_clock(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On PostgreSQL, what `db prune` takes for too old does not depend on the machine's clock."""
    upgrade(database := Database(postgres_url))
    database.close()
    monkeypatch.setenv("LINKER_DATABASE_URL", postgres_url)
    monkeypatch.setenv("LINKER_KEEP_HISTORY", "P1D")
    monkeypatch.setattr("linker.cli.logging_setup.follow", lambda _: None)
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime(2100, 1, 1, tzinfo=UTC))
    assert main(["db", "prune", "--dry-run", "--json"]) == 0
    before = datetime.fromisoformat(json.loads(capsys.readouterr().out)["before"]["steps"])
    assert abs(datetime.now(UTC) - timedelta(days=1) - before) < timedelta(minutes=1)


def test_the_doctor_judges_by_the_clock_that_all_share(
    postgres_url: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine two hours behind finds what is an hour late at the server; its own clock is held against Workable's."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(hours=2)

    upgrade(database := Database(postgres_url))
    for name, value in {
        "DATABASE_URL": postgres_url,
        "SECRET_KEYS": new_key().get_secret_value(),
        "WORKABLE_URL": url,
        "WEBHOOK_URL": "https://receiver.example/",
        "WEBHOOK_SECRET": new_webhook_secret().get_secret_value(),
    }.items():
        monkeypatch.setenv(f"LINKER_{name}", value)
    monkeypatch.setattr("linker.cli.logging_setup.configure", lambda _: None)
    assert main(["open", "--owner", "a"]) == 0
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    overdue = [CONNECTION.update().values(due_at=an_hour_ago), OUTBOX.update().values(hook_due_at=an_hour_ago)]
    database.write_here(lambda transaction: [transaction.execute(each) for each in overdue])
    database.close()
    monkeypatch.setattr("linker.operations.health_checks.datetime", Behind)
    monkeypatch.setattr(SystemClock, "now", lambda _: Behind.now(UTC))
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 5
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert [found[name]["status"] for name in ("due", "outbox", "clock")] == ["failed"] * 3
    assert "1 due, the oldest since 1 h" in found["due"]["said"]
    assert "2 h behind" in found["clock"]["said"]


def greet(mail: socket.socket) -> None:
    """Greet whoever comes as a mail server does."""
    came, _ = mail.accept()
    with came:
        came.recv(4096)
        came.sendall(b"220 mail.example ESMTP ready\r\n\r\n")


def test_the_doctor_names_what_is_wrong_and_what_to_do(linker: Terminal, tmp_path: Path) -> None:
    """Each thing that is wrong has a line of advice, and the first one decides the exit code."""
    no_key = linker("doctor", "--offline", "--json", secret_keys="")
    assert (no_key.code, checks(no_key)["keys"]["status"]) == (2, "failed")
    assert "linker keys new" in checks(no_key)["keys"]["advice"]
    no_folder = linker("doctor", "--offline", "--json", database_url="sqlite:////nowhere/at/all.db")
    assert no_folder.code == 5
    with socket.create_server(("127.0.0.1", 0)) as mail:
        threading.Thread(target=greet, args=(mail,), daemon=True).start()
        no_http = linker("doctor", "--json", workable_url=f"http://127.0.0.1:{mail.getsockname()[1]}/{{subdomain}}")
    assert (no_http.code, checks(no_http)["workable"]["status"]) == (5, "failed")
    unreachable = linker("doctor", "--json", workable_url="http://127.0.0.1:9/{subdomain}")
    assert (unreachable.code, checks(unreachable)["workable"]["status"]) == (5, "failed")
    no_template = linker("doctor", "--offline", "--json", workable_url="https://{subdomain}.workable.com/?a")
    assert (no_template.code, checks(no_template)["workable"]["status"]) == (2, "failed")
    assert "LINKER_WORKABLE_URL" in checks(no_template)["workable"]["said"]
    assert linker("doctor", "--json", sweep_seconds="often").code == 2
    connection_id = linker.opened()
    with sqlite3.connect(tmp_path / "linker.db") as database:
        database.execute(
            "UPDATE linker_connection SET due_at = '2020-01-01 00:00:00.000000' WHERE id = ?", [connection_id]
        )
    database.close()
    neglected = linker("doctor", "--offline")
    assert neglected.code == 5
    assert "linker worker" in neglected.out
