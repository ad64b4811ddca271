"""Odd texts that are stored already are written out by every command, whichever way it prints them.

Metadata belongs to the host and is kept as it was given; other texts are refused at the door, but a database may hold
some of before.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from linker import new_key
from linker.cli.main import main
from linker.database.database import Database
from linker.persistence.tables import CONNECTION, STEP
from linker.validation.text import is_control
from tests.acceptance.commands import Ran
from tests.unit.test_cli_terminal import NASTY

ODD = f"Acme {' '.join(NASTY)} Robotics"
Command = Callable[..., Ran]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command line with a database and a key, in this process."""
    monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
    monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())
    monkeypatch.setenv("LINKER_WORKABLE_URL", "http://127.0.0.1:9/{subdomain}")

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def planted(command: Command, tmp_path: Path) -> str:
    """The id of a connection, all of whose texts are odd."""
    opened = command("open", "--owner", "customer-1", "--metadata", f"company={ODD}", "--json")
    assert opened.code == 0, opened.err
    assert opened.json["metadata"] == {"company": ODD}, "an entry is kept as it was given"
    connection_id = str(opened.json["id"])
    assert command("pause", connection_id, "--reason", "why").code == 0
    odd = {"state": "failed", "problem_code": "token_revoked", "problem_since": CONNECTION.c.created_at}
    odd |= {"account_id": "1", "account_name": ODD, "account_subdomain": ODD, "subdomain": ODD, "owner": ODD}
    odd |= {"recruiter_name": ODD, "recruiter_email": ODD, "problem_params": {"alike": ODD}, "key": ODD}
    database = Database(f"sqlite:///{tmp_path / 'linker.db'}")
    database.write_here(lambda transaction: transaction.execute(sa.update(CONNECTION).values(**odd)))
    texts = {"actor": ODD, "reason": ODD, "evidence": {"reason": ODD}}
    database.write_here(lambda transaction: transaction.execute(sa.update(STEP).values(**texts)))
    database.close()
    return connection_id


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "ID"],
        ["show", "ID", "--json"],
        ["list"],
        ["list", "--json"],
        ["list", "--jsonl"],
        ["list", "--csv"],
        ["list", "--stuck"],
        ["list", "--owner", "nobody"],
        ["history", "ID"],
        ["history", "ID", "--json"],
        ["explain", "ID"],
        ["explain", "ID", "--json"],
        ["audit"],
        ["audit", "--json"],
        ["audit", "--jsonl"],
        ["audit", "--csv", "--with-personal-data"],
        ["resume", "ID", "--dry-run"],
        ["resume", "ID", "--dry-run", "--json"],
        ["force", "ID", "--to", "awaiting_token", "--reason", "why", "--dry-run"],
        ["outbox", "list"],
        ["outbox", "list", "--json"],
        ["doctor", "--json"],
        ["show", "con_\x1b[2J"],
    ],
    ids=" ".join,
)
def test_nothing_that_is_stored_moves_a_terminal(command: Command, planted: str, arguments: list[str]) -> None:
    """Neither in tables nor in JSON, lines or sheets, nor in what is said on stderr."""
    ran = command(*(planted if word == "ID" else word for word in arguments))
    shown = f"{ran.out}{ran.err}"
    assert ran.code != 1, shown
    assert "No such" not in shown
    assert [each for each in shown if is_control(each) and each != "\n"] == []


def test_machines_read_what_was_stored(command: Command, planted: str) -> None:
    """In JSON and in the sheet's cell of JSON: an entry means the same as before."""
    assert command("show", planted, "--json").json["metadata"] == {"company": ODD}
    assert json.loads(command("list", "--jsonl").out)["metadata"] == {"company": ODD}
    [row] = csv.DictReader(io.StringIO(command("list", "--csv").out))
    assert json.loads(row["metadata"]) == {"company": ODD}
