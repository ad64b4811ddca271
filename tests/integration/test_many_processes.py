"""Eight processes on one SQLite file: everybody gets through, and nobody meets anybody at a connection."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

import linker
from linker.encryption import TokenCipher
from linker.engine.ports import Settlement
from linker.persistence.connection_store import ConnectionStore
from states.connection import Connection, ConnectionState, Credential
from states.history import Step
from tests.integration.child import KEY
from tests.integration.storehouse import NOW, House, a_connection

ROOT = Path(linker.__file__).parent.parent
PROCESSES, CONNECTIONS = 8, 200

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, _ = ConnectionState


async def given_tokens(store: ConnectionStore) -> list[Connection]:
    """Connections whose tokens are about to be verified; each is its own account, named after its id."""
    found = []
    for number in range(CONNECTIONS):
        new = a_connection(id=f"con_{number}", due_at=NOW)
        sealed = TokenCipher([KEY]).seal(SecretStr(f"token-{number}"), bound_to=new.id)
        credential = Credential(subdomain=new.id, sealed=sealed, fingerprint="0badcafe")
        step = Step(event="opened", source=None, target=new.state, at=NOW, actor="test")
        found.append(await store.add(Settlement(before=new, after=replace(new, candidate=credential), step=step)))
    return found


def swept_by_all(url: str, journal: Path) -> list[str]:
    """Let all processes go at the same moment, and wait for them; gives the lines that they said."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.integration.child", "together", str(PROCESSES), "sweep", url, str(journal)],
        cwd=ROOT,
        input="go\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=True,
    )
    return said.stdout.splitlines()


def assert_nobody_met(lines: list[list[str]]) -> None:
    """No two processes attended a connection at the same time."""
    spans = defaultdict(list)
    for _question, connection_id, process, began, ended in lines:
        spans[connection_id].append((int(began), int(ended), process))
    for attended in spans.values():
        ordered = sorted(attended)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(ordered)), ordered


@pytest.mark.slow
async def test_eight_processes_share_one_file(sqlite_house: House, tmp_path: Path) -> None:
    """All connections arrive; no lock reaches anybody; each is asked about once at a time and once in all."""
    connections = await given_tokens(sqlite_house.store)
    journal = tmp_path / "journal"
    said = swept_by_all(sqlite_house.url, journal)
    assert [line for line in said if line.startswith("ended")] == ["ended 0"] * PROCESSES, said
    assert not [line for line in said if "locked" in line or "[error" in line]

    lines = [line.split() for line in journal.read_text().splitlines()]
    asked = [line for line in lines if line[0] != "told"]
    assert_nobody_met(asked)
    expected = {(question, connection.id): 1 for connection in connections for question in ("verify", "look")}
    assert Counter((line[0], line[1]) for line in asked) == expected
    assert len({line[2] for line in asked}) > 1
    assert Counter(line[1] for line in lines if line[0] == "told") == {connection.id: 1 for connection in connections}

    for connection in connections:
        found = await sqlite_house.store.get(connection.id)
        history = await sqlite_house.store.history(connection.id)
        assert found.state is LINKED
        assert [step.seq for step in history] == [1, 2, 3, 4]
        assert [step.target for step in history] == [AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED]
    announced = await sqlite_house.sql("SELECT connection_id, seq, type, count(*) FROM linker_outbox GROUP BY 1, 2, 3")
    names = {2: "token.accepted", 3: "connection.awaiting_recruiter", 4: "connection.linked"}
    assert sorted(tuple(row) for row in announced) == sorted(
        (connection.id, seq, name, 1) for connection in connections for seq, name in names.items()
    )
    assert await sqlite_house.sql("SELECT count(*) FROM linker_connection WHERE lease_holder IS NOT NULL") == [(0,)]
    assert await sqlite_house.sql("PRAGMA integrity_check") == [("ok",)]
    assert await sqlite_house.sql("PRAGMA foreign_key_check") == []
