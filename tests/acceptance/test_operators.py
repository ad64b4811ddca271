"""What operators run: scripts, each twice, the runbook's commands, and a bulk run that is killed again and again."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
import re
import runpy
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from linker.cli.main import VERBS, main
from linker.encryption import new_key
from tests.acceptance.commands import ROOT, Ran, Terminal

SCRIPTS = ROOT / "scripts" / "operators"
NAMES = sorted(path.stem for path in SCRIPTS.glob("[a-z]*.py"))


class Desk:
    """The commands and the scripts, in this process: starting one costs more than most of them do."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Take a folder for the database."""
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch
        self.settings = {
            "secret_keys": new_key().get_secret_value(),
            "database_url": f"sqlite:///{folder / 'linker.db'}",
            "workable_url": "http://127.0.0.1:9/{subdomain}",
            "recruiter_email": "ats+{key}@inbound.example.test",
            "public_url": "http://127.0.0.1:8080",
        }
        for name, value in self.settings.items():
            monkeypatch.setenv(f"LINKER_{name.upper()}", value)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "120")

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        """Run a command."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        return self._ran(lambda: main(list(arguments)))

    def script(self, name: str, *arguments: str) -> Ran:
        """Run a script of the operators."""
        self._monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
        module = runpy.run_module(f"scripts.operators.{name}")
        return self._ran(module["main"])

    def _ran(self, work: Callable[[], int]) -> Ran:
        self._capsys.readouterr()
        try:
            code = work()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def narrow(self, width: str) -> None:
        """Let the output be so many columns wide."""
        self._monkeypatch.setenv("COLUMNS", width)

    def execute(self, statement: str) -> None:
        """Change the database behind the program's back, as time and other processes do."""
        with closing(sqlite3.connect(self.folder / "linker.db")) as database, database:
            database.execute(statement)

    def opened(self) -> str:
        """A new connection's id."""
        return str(self("open", "--owner", "customer-1", "--json").json["id"])


@pytest.fixture
def linker(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The command, with a Workable that is not reached; logging is put back as it was."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield Desk(tmp_path, capsys, monkeypatch)
    root.handlers[:], root.level, logging.raiseExceptions = handlers, level, raising
    for name in ("linker", "apscheduler"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_scripts_are_short_and_say_what_they_are() -> None:
    """At most 60 lines, over the front door alone, with what, when, exit codes and a cron line."""
    assert NAMES == ["advance_stuck", "expiring", "export_audit", "outbox_dead", "retry_after_outage", "stuck"]
    for name in NAMES:
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60
        for word in ("When: ", "Exit codes: 0", "Cron: "):
            assert word in text
        assert set(re.findall(r"^(?:from|import) (linker[\w.]*)", text, re.MULTILINE)) <= {"linker"}
        assert (SCRIPTS / name).stat().st_mode & 0o111


@pytest.mark.parametrize("name", NAMES)
def test_each_script_twice(linker: Desk, name: str) -> None:
    """Quiet and 0 where there is nothing; acting a second time in a row changes nothing."""
    empty = linker.script(name)
    assert (empty.code, empty.out, empty.err) == (0, "", "")
    one = linker.opened()
    linker("submit", one, "--subdomain", "acme", stdin="a-token-of-acme-0123456789")
    linker("pause", linker.opened(), "--reason", "a test")
    acting = [] if name in {"stuck", "export_audit"} else ["--do"]
    linker.script(name, *acting)
    before = {each["id"]: each["version"] for each in linker("list", "--json").json}
    again = linker.script(name, *acting)
    assert again.code in {0, 4, 5}, again.err
    after = {each["id"]: each["version"] for each in linker("list", "--json").json}
    assert after == before
    assert "Traceback" not in again.err


#: What somebody may call himself who wants more than to be shown.
NASTY = "=1+1\x1b[2J\x1b]0;owned\x07\nsecond line\t<script>alert(1)</script> | [link](javascript:1) \u202e `x`"


@pytest.mark.parametrize("line", ["stuck", "stuck --markdown", "stuck --html", "expiring", "export_audit"])
def test_what_somebody_is_called_does_nothing_in_a_script(linker: Desk, line: str) -> None:
    """No name moves the cursor, breaks a row, or becomes markup or a formula: not in a terminal, a mail, a table."""
    name, *form = line.split()
    one = linker.opened()
    linker("submit", one, "--subdomain", "acme", stdin="a-token-of-acme-0123456789")
    linker("pause", one)
    literal = "||".join(f"char({ord(each)})" for each in NASTY)
    linker.execute(
        f"UPDATE linker_connection SET owner = {literal}, account_name = {literal}, account_id = 'a',"  # noqa: S608
        " account_subdomain = 'acme', token_expires_on = date('now', '+3 days'), token_subdomain = 'acme',"
        " token_sealed = 'v1.x.x', token_key_id = 'x', token_fingerprint = 'x'"
    )
    ran = linker.script(name, *form)
    assert ran.code in {0, 4}, ran.err
    assert not [each for each in ran.out + ran.err if not each.isprintable() and each not in "\n\t"]
    assert r"\x1b[2J" in ran.out.replace("\\[", "[").replace("\\\\", "\\")
    if name == "export_audit":
        assert all(row["owner"].startswith("'=") for row in csv.DictReader(io.StringIO(ran.out)))
    elif form == ["--html"]:
        assert "<script" not in ran.out
        assert len(re.findall("<tr>", ran.out)) == 2
    else:
        [row] = ran.out.splitlines()[2 * len(form) :]
        unescaped = re.sub(r"\\[\\[\]`*<>|&]", "", row)
        assert unescaped.count("|") == (8 if form else row.count("|"))
        assert not form or not set("<[`") & set(unescaped)


def test_what_an_outage_left_behind_is_looked_at_once(linker: Desk) -> None:
    """What nobody looked at for a while is looked at; doing it again at once asks and changes nothing."""
    one = linker.opened()
    linker("submit", one, "--subdomain", "acme", stdin="a-token-of-acme-0123456789")
    lately = linker.script("retry_after_outage", "--do")
    assert (lately.code, lately.out, lately.err) == (0, "", "")
    linker.execute("UPDATE linker_connection SET last_look_at = datetime(last_look_at, '-1 hour') || '.000000'")
    shown = linker.script("retry_after_outage")
    assert shown.out.split() == [one, "workable_unavailable"]
    done = linker.script("retry_after_outage", "--do")
    assert (done.code, done.out.split()) == (5, [one, "try_again"])
    before = linker("show", one, "--json").out
    again = linker.script("retry_after_outage", "--do")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert linker("show", one, "--json").out == before


def test_doctor_sees_what_is_due_while_no_worker_is_alive(linker: Desk) -> None:
    """Due for longer than a minute: nobody attends it, unless a worker beats."""
    one = linker.opened()
    linker("submit", one, "--subdomain", "acme", stdin="a-token-of-acme-0123456789")
    linker.execute("UPDATE linker_connection SET due_at = datetime('now', '-2 minutes') || '.000000'")

    def checks() -> dict[str, tuple[str, str]]:
        found = linker("doctor", "--offline", "--json").json["checks"]
        return {each["name"]: (each["status"], each.get("found", each.get("said", ""))) for each in found}

    assert checks()["due"][0] == "failed"
    assert checks()["workers"][0] == "ok"
    linker.execute(
        "INSERT INTO linker_worker (id, host, pid, kind, version, started_at, last_beat_at) VALUES "
        "('w:1', 'w', 1, 'worker', '1.0', datetime('now', '-1 hour') || '.000000',"
        " datetime('now', '-1 hour') || '.000000')"
    )
    silent = checks()
    assert (silent["workers"][0], silent["due"][0]) == ("care", "failed")
    linker.execute("UPDATE linker_worker SET last_beat_at = datetime('now') || '.000000'")
    alive = checks()
    assert (alive["workers"][0], alive["due"][0]) == ("ok", "ok")


def runbook() -> list[str]:
    """The commands of the runbook."""
    text = (SCRIPTS / "README.md").read_text(encoding="utf-8").partition("## Runbook")[2]
    return [found for found in re.findall(r"`((?:linker|\./scripts/operators/)[^`]+)`", text) if " resume" not in found]


def test_each_command_of_the_runbook(linker: Desk) -> None:
    """Each is one that the program takes, and ends as told; every problem has its line."""
    text = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    problems = json.loads(linker("states", "--json").out)["problems"]
    assert [each["code"] for each in problems if f"`{each['code']}`" not in text] == []
    linker.opened()
    for command in dict.fromkeys(runbook()):
        words = [linker.opened() if word == "ID" else word for word in shlex.split(command)]
        if words[0] != "linker":
            ran = linker.script(Path(words[0]).name, *words[1:])
        elif words[1] in {"worker", "apply"}:  # the one does not end, the other needs its plan
            continue
        else:
            ran = linker(*words[1:])
        assert ran.code in {0, 4, 5}, (command, ran.err)


def test_a_bulk_run_that_is_killed_again_and_again(linker: Desk) -> None:
    """Killed at any moment and resumed it does each connection once, and none is forgotten."""
    ids = [linker.opened() for _ in range(12)]
    terminal = Terminal(linker.folder, linker.settings)
    plan = linker.folder / "plan.json"
    assert linker("pause", *ids, "--reason", "INC-7", "--dry-run", "--out", str(plan)).code == 0
    operation = json.loads(plan.read_text(encoding="utf-8"))["id"]
    arguments: tuple[str, ...] = ("apply", str(plan), "--yes", "--rate", "8")
    for told in (1, 2):
        with terminal.started(*arguments) as process:
            for _ in range(told):  # so many are done, and then it is killed
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait()
        arguments = ("operations", "resume", operation)
    assert linker("operations", "resume", operation).code == 0
    shown: dict[str, Any] = linker("operations", "show", operation, "--json").json
    assert (shown["status"], shown["counts"]) == ("finished", {"done": 12})
    for connection_id in ids:
        steps = linker("history", connection_id, "--json").json
        assert [step["operation"] for step in steps if step["event"] == "paused"] == [operation]


def test_what_has_to_be_agreed_to(linker: Desk) -> None:
    """Nobody at a terminal: without --yes nothing is done; many, and grave ones, by their number."""
    ids = [linker.opened() for _ in range(2)]
    for arguments, reason in (
        (("pause", *ids, "--reason", "x"), "not_agreed"),
        (("unlink", ids[0], "--reason", "x"), "not_agreed"),
        (("force", *ids, "--to", "failed", "--reason", "x", "--yes"), "number_needed"),
        (("force", *ids, "--to", "failed", "--reason", "x", "--yes=3"), "other_number"),
        (("pause", *ids, "--yes"), "empty"),
        (("unlink", ids[0], "--yes"), "empty"),
        (("pause", "--yes", "--reason", "x"), "nothing_selected"),
    ):
        ran = linker(*arguments, "--json")
        assert (ran.code, ran.error["reason"], ran.out) == (2, reason, "")
    assert {each["status"] for each in linker("list", "--json").json} == {"open"}
    done = linker("force", *ids, "--to", "failed", "--reason", "x", "--yes=2", "--json")
    assert [each["outcome"] for each in done.json] == ["done", "done"]
    failed = linker("advance", *ids, "con_none", "--reason", "x", "--yes", "--failed-ids")
    assert (failed.code, failed.out.split()) == (4, [*ids, "con_none"])
    again = linker("restart", "-", "--reason", "x", "--yes", "--json", stdin="\n".join(ids))
    assert [each["outcome"] for each in again.json] == ["done", "done"]


def test_force_says_before_it_acts(linker: Desk) -> None:
    """Which row of the law it is, what is kept and wiped, who is told, and what leads back; nothing is written."""
    one = linker.opened()
    linker("submit", one, "--subdomain", "acme", stdin="a-token-of-acme-0123456789")
    forcing = ("force", one, "--to", "failed", "--reason", "they left")
    before = (linker.folder / "linker.db").read_bytes(), linker("show", one, "--json").out
    plan = linker(*forcing, "--dry-run", "--json").json
    change = plan["foreseen"][plan["items"][0]["foreseen"]]["change"]
    assert change == {
        "event": "forced",
        "from": "awaiting_token",
        "to": "failed",
        "if": "to_failed",
        "kept": [],
        "wiped": ["candidate", "problem"],
        "announced": "connection.failed",
        "then": "nothing",
        "back": "restart",
        "back_to": None,
    }
    shown = linker(*forcing, "--dry-run").out
    assert ((linker.folder / "linker.db").read_bytes(), linker("show", one, "--json").out) == before
    said = linker(*forcing)
    for told in (shown, said.err):
        for line in (
            "row of the law   forced: awaiting_token → failed",
            "kept             nothing",
            "wiped            the token that is not verified yet, the problem",
            "told             the host: connection.failed",
            "then             nothing at once",
            f"leads back       linker restart {one}",
        ):
            assert line in told
    assert said.code == 0
    back = linker("force", one, "--to", "awaiting_token", "--reason", "they are back", "--dry-run").out
    assert f"leads back       linker force {one} --to failed --reason" in back
    gone = linker("unlink", one, "--reason", "they left", "--yes").err
    assert "leads back       nothing leads back" in gone
    assert linker("force", one, "--to", "failed", "--reason", "late", "--json").error["reason"] == "closed"


def test_what_people_look_at_is_80_wide_and_can_do_without_colour(linker: Desk) -> None:
    """At 80 columns ids stay whole and no line is longer; NO_COLOR is heeded at a terminal, and a closed pipe stood."""
    one = linker.opened()
    [ended] = linker("pause", "--all", "--reason", "a long reason " * 9, "--yes", "--json").json
    operation = ended["operation"]
    for width, command in itertools.product(
        (80, 120),
        (("list",), ("explain", one), ("audit",), ("operations", "list"), ("operations", "show", operation)),
    ):
        linker.narrow(str(width))
        shown = linker(*command).out
        assert (one if command != ("operations", "list") else operation) in shown
        assert [line for line in shown.splitlines() if len(line) > width and "linker " not in line] == []
    assert linker("operations", "show", "op_").code == 0
    linker("resume", "--all", "--reason", "back", "--yes")
    assert linker("operations", "show", "op_", "--json").error["reason"] == "ambiguous"
    terminal = Terminal(linker.folder, linker.settings)
    for arguments in (("list",), ("explain", one)):
        for variables, coloured in (({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
            ran = subprocess.run(
                [sys.executable, "-m", "linker.cli", *arguments],
                env={**terminal.environment(), **variables},
                cwd=linker.folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            assert (re.search(r"\x1b\[[\d;]*3\d", ran.stdout) is not None) == coloured
        reading, writing = os.pipe()
        os.close(reading)
        with terminal.started(*arguments, stdout=writing) as process:
            os.close(writing)
            assert process.wait(timeout=120) == 141


def test_a_bulk_run_whose_reader_goes_says_how_it_goes_on(linker: Desk) -> None:
    """`linker pause … | head` ends early, and loses nothing: what is left is done by the command that it names."""
    for _ in range(3):
        linker.opened()
    reading, writing = os.pipe()
    os.close(reading)
    begin = ("pause", "--all", "--reason", "x", "--yes", "--rate", "5")
    with Terminal(linker.folder, linker.settings).started(*begin, stdout=writing) as process:
        os.close(writing)
        assert process.wait(timeout=120) == 141
        [resume] = re.findall("`linker (operations resume op_[0-9a-f]+)`", process.stderr.read())
    assert linker(*resume.split()).code == 0
    assert linker("operations", "list", "--json").json[0]["counts"] == {"done": 3}
    assert "nothing is left to do" in linker(*resume.split()).err


def test_the_help_fits_a_screen(linker: Desk) -> None:
    """Every command in 50 lines of 80 columns."""
    ran = linker("--help")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 50
    assert max(map(len, ran.out.splitlines())) <= 80
    assert [name for name in VERBS if f"\n  {name} " not in ran.out] == []


def test_ids_by_their_beginnings_and_lists(linker: Desk) -> None:
    """A prefix that is unique is enough; one that is not is refused, and named."""
    ids = sorted(linker.opened() for _ in range(3))
    assert linker("show", ids[0][:14], "--json").json["id"] == ids[0]
    refused = linker("show", "con_", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "ambiguous")
    page = linker("list", "--limit", "2", "--json")
    [cursor] = re.findall(r"--after (\S+)", page.err)
    rest = linker("list", "--after", cursor, "--json").json
    assert sorted(each["id"] for each in [*page.json, *rest]) == ids
    assert len(linker("list", "--jsonl").out.splitlines()) == 3
    assert linker("list", "--csv").out.splitlines()[0].startswith("id,owner,status,state")
    for width in ("80", "120"):
        linker.narrow(width)
        listed = linker("list").out
        assert all(len(line) <= int(width) for line in listed.splitlines())
        assert all(each in listed for each in ids)


def test_what_only_looks_needs_no_key(linker: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has lost the key can still see where everything is, and stop what is under way."""
    one, _ = linker.opened(), linker.opened()
    [operation] = {each["operation"] for each in linker("pause", "--all", "--reason", "x", "--yes", "--json").json}
    monkeypatch.delenv("LINKER_SECRET_KEYS")
    assert linker("explain", one, "--json").json["where"] == "awaiting_token"
    assert linker("operations", "list", "--json").json[0]["id"] == operation
    assert linker("operations", "show", operation).code == 0
    assert linker("operations", "stop", operation, "--json").json["status"] == "finished"
    for command in ("list", "history", "show"):
        assert linker(command, *([one] if command != "list" else [])).code == 0
    assert linker("resume", one).code == 2


def test_waiting_watching_and_the_audit(linker: Desk) -> None:
    """`wait` ends by the state, `watch` with plain lines where there is no terminal, `audit` without e-mails."""
    one = linker.opened()
    assert linker("wait", one, "--for", "state=awaiting_token", "--timeout", "5s").code == 0
    assert linker("wait", one, "--for", "state=linked", "--timeout", "1s").code == 5
    assert linker("force", one, "--to", "failed", "--reason", "asked by eve@example.com").code == 0
    assert linker("wait", one, "--for", "state=linked", "--timeout", "5s").code == 4
    assert linker("wait", one, "--for", "linked").code == 2
    watched = linker("watch", "--times", "1").out
    assert "failed=1" in watched
    assert "workers=0" in watched
    opened, entry = linker("audit", "--json").json
    assert (opened["verb"], opened["event"], opened["from"]) == ("open", "opened", None)
    assert (entry["verb"], entry["to"], entry["reason"]) == ("force", "failed", "asked by …@…")
    assert "eve@" in linker("audit", "--csv", "--with-personal-data").out
    assert linker("audit", "--actor", "nobody", "--json").json == []
    ann = linker("open", "--owner", "customer-9", "--actor", "ann", "--json").json["id"]
    linker("submit", ann, "--subdomain", "acme", "--actor", "ann", stdin="a-token-of-acme-0123456789")
    by_ann = linker("audit", "--actor", "ann", "--json").json
    assert {each["id"] for each in by_ann} == {ann}
    assert {each["verb"] for each in by_ann} == {"open", "submit"}
    assert linker("health", "--json").json["ready"] is True


def test_an_explanation_has_what_an_operator_needs(linker: Desk) -> None:
    """The keys of the contract, and commands that the program takes."""
    told = linker("explain", linker.opened(), "--json").json
    assert told.keys() >= {"where", "since", "problem", "owner", "last_look", "told", "next", "advance", "commands"}
    assert (told["where"], told["owner"], told["advance"]["skipped"]) == ("awaiting_token", "customer", "no_token")
    for command in told["commands"]:
        assert linker(*shlex.split(command)[1:2], "--help").code == 0
