"""Disks that are full, files that are no databases, servers that go: a clear error, and nothing lost or half-done."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs

import linker
from linker.database import database as database_module
from linker.encryption import TokenCipher, new_key
from linker.errors import OurFault, StoreUnavailable
from linker.linker import Linker
from linker.persistence import schema
from linker.settings import Settings
from linker.testing import ScriptedWorkable
from states.connection import Connection, ConnectionState
from tests.integration.storehouse import (
    NOW,
    House,
    a_connection,
    a_credential,
    a_lease,
    assert_as_before,
    assert_fit_for_people,
    caught,
    change,
    kept,
    kept_due,
    opened,
    opening,
    raised_by,
)

ROOT = Path(linker.__file__).parent.parent


def file_of(house: House) -> Path:
    """The file of an SQLite house."""
    return Path(str(house.database.url.database))


@contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has got ready; see tests/integration/child.py."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.child", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    """Give a waiting process the word."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def full_disk(house: House) -> Iterator[None]:
    """Let SQLite find the disk full at the size that the database has, as it does at ENOSPC."""

    def limit(raw: Any, _record: object) -> None:
        raw.execute("PRAGMA max_page_count=1").close()  # SQLite makes it the size that the database has

    sa.event.listen(house.database.engine, "connect", limit)
    house.database.disconnect()
    try:
        yield
    finally:
        sa.event.remove(house.database.engine, "connect", limit)
        house.database.disconnect()


async def test_a_full_disk_loses_nothing(sqlite_house: House) -> None:
    """What does not fit is refused whole, what was there can be read, and with room again all goes on."""
    before = [await kept(sqlite_house, due_at=NOW) for _ in range(3)]
    large = "x" * 200_000
    batch = [
        change(before[0], checks=1, announcement="connection.linked"),
        change(before[1], subdomain=large, announcement="connection.linked"),
    ]
    with full_disk(sqlite_house):
        error = await caught(sqlite_house.store.settle(batch, now=NOW, release=True), StoreUnavailable)
        assert_fit_for_people(error, reason="disk_full", location=sqlite_house.database.name, never=(large[:50],))
        assert "full" in str(error)
        assert "Make room" in str(error)
        for connection in before:
            await assert_as_before(sqlite_house, connection)
        await caught(sqlite_house.store.add(opening(a_connection(subdomain=large))), StoreUnavailable)
        assert len(await sqlite_house.store.find()) == 3
    assert await sqlite_house.store.settle(batch, now=NOW, release=True) == [True, True]


def test_files_that_cannot_grow_lose_nothing(sqlite_url: str) -> None:
    """The kernel itself refuses the write: the error is ours, what is stored is whole, and writing goes on."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.integration.child", "fill-up", sqlite_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = said.stdout.splitlines()
    assert lines[0] == "StoreUnavailable", said
    assert "Nothing was half-done" in lines[1]
    assert lines[2:] == ["True True", "[True]"]
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


async def test_a_read_only_database_can_be_read(sqlite_house: House) -> None:
    """Showing, listing and history work; every write is refused, names the cause, and changes nothing."""
    before = await kept(sqlite_house, due_at=NOW)
    path = file_of(sqlite_house)
    with opened(f"sqlite:///file:{path}?mode=ro&uri=true") as house:
        await house.store.open()
        assert await house.store.get(before.id) == before
        assert await house.store.find() == [before]
        assert len(await house.store.history(before.id)) == 1
        assert await house.store.key_ids() == frozenset()
        for writing in (
            house.store.add(opening(a_connection())),
            house.store.claim(before.id, now=NOW, lease=a_lease()),
            house.store.claim_due(now=NOW, limit=1, lease=a_lease()),
            house.store.settle([change(before, attempts=1)], now=NOW, release=True),
        ):
            error = await caught(writing, StoreUnavailable)
            assert_fit_for_people(error, reason="read_only", location=house.database.name)
            assert "read-only" in str(error)
            assert "writable" in str(error)
    await assert_as_before(sqlite_house, before)


async def test_a_read_only_file_without_its_schema_is_refused(tmp_path: Path) -> None:
    """A database that would have to be made and cannot is a clear error."""
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with opened(f"sqlite:///file:{tmp_path / 'empty.db'}?mode=ro&uri=true") as house:
        error = await caught(house.store.open(), StoreUnavailable)
        assert_fit_for_people(error, reason="read_only", location=house.database.name)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="linker-public-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def said_by_nobody(url: str) -> list[str]:
    """What reading and writing come to for a user who owns nothing."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.integration.child", "as-nobody", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return said.stdout.splitlines()


def test_a_file_that_may_only_be_read_can_be_read(public_folder: Path, sqlite_schema: Path) -> None:
    """Without the right to write the file everything can be shown, and a write says whose right is missing."""
    path = Path(shutil.copy(sqlite_schema, public_folder / "linker.db"))
    path.chmod(0o444)
    public_folder.chmod(0o777)
    read, written = said_by_nobody(f"sqlite:///{path}")
    assert read == "found 0"
    assert written == (
        "StoreUnavailable The database is read-only for this user. Make its file and its folder writable."
    )


def test_a_folder_that_may_not_be_written_is_named(public_folder: Path) -> None:
    """A database cannot be made in somebody else's folder, and the error says so."""
    public_folder.chmod(0o555)
    read, written = said_by_nobody(f"sqlite:///{public_folder / 'linker.db'}")
    assert read == (
        "StoreUnavailable The database file cannot be opened. Check that its folder exists and may be written."
    )
    assert written == read


@pytest.mark.parametrize("path", ["missing/linker.db", "."], ids=["no folder", "a folder"])
def test_a_path_that_no_file_can_have_is_named(tmp_path: Path, path: str) -> None:
    """Neither a start nor an upgrade makes folders; both say at once what is wrong."""
    for action in (schema.check, schema.upgrade):
        with opened(f"sqlite:///{tmp_path / path}") as house:
            error = raised_by(lambda: action(house.database), StoreUnavailable)  # noqa: B023 - called at once
            assert_fit_for_people(error, reason="cannot_open", location=house.database.name)
            assert "folder exists" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"not a database, but a letter to my mother. " * 400, b"\0" * 8192, bytes(range(256)) * 32],
    ids=["a letter", "zeros", "noise"],
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """Whatever it is, it is not ours: a clear error, and not a byte changed."""
    path = tmp_path / "linker.db"
    path.write_bytes(content)
    with opened(f"sqlite:///{path}") as house:
        error = raised_by(lambda: schema.check(house.database), OurFault)
        assert_fit_for_people(error, reason="damaged_file", location=house.database.name)
        assert "not a SQLite database" in str(error)
        assert "backup" in str(error)
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
async def test_a_database_that_was_cut_off_is_told(sqlite_house: House, share: float) -> None:
    """Damage is called damage, wherever it is met first."""
    for _ in range(50):
        await kept(sqlite_house, subdomain="x" * 500)
    sqlite_house.close()
    path = file_of(sqlite_house)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with opened(sqlite_house.url) as house:

        async def use() -> None:
            await house.store.open()
            for found in await house.store.find():
                await house.store.history(found.id)
            await house.store.add(opening(a_connection(subdomain="y" * 5_000)))
            raise OurFault("unexpected", error="nobody noticed")

        error = await caught(use(), OurFault)
        assert_fit_for_people(error, reason="damaged_file", location=house.database.name)
        assert "damaged" in str(error)


async def test_tables_that_are_gone_are_our_fault(sqlite_house: House) -> None:
    """A statement that the database does not understand is not called an outage: trying again would not help."""
    await sqlite_house.sql("DROP TABLE linker_step")
    error = await caught(sqlite_house.store.history("con_1"), OurFault)
    assert_fit_for_people(error, reason="refused_statement", location=sqlite_house.database.name)
    assert error.params == {"driver": "no such table: linker_step"}


# ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lock_that_is_held_for_long_is_told(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When patience ends the error says so, nothing was written, and once the lock is gone all goes on."""
    before = await kept(sqlite_house)
    monkeypatch.setattr(database_module, "SQLITE_PATIENCE_SECONDS", 0.2)
    with child("lock", sqlite_house.url) as holder, opened(sqlite_house.url) as house:
        error = await caught(house.store.settle([change(before, attempts=1)], now=NOW, release=True), StoreUnavailable)
        assert_fit_for_people(error, reason="locked", location=house.database.name)
        assert "held the database for too long" in str(error)
        assert await house.store.get(before.id) == before  # readers are not held up
        go(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "unlocked\n"
        assert await house.store.settle([change(before, attempts=1)], now=NOW, release=True) == [True]


async def test_a_lock_that_is_held_for_a_second_is_waited_for(sqlite_house: House) -> None:
    """With its usual patience the store waits, and nobody notices."""
    before = await kept(sqlite_house)
    with child("lock", sqlite_house.url) as holder:
        timer = threading.Timer(1.0, go, [holder])
        timer.start()
        began = time.monotonic()
        assert await sqlite_house.store.settle([change(before, attempts=1)], now=NOW, release=True) == [True]
        assert time.monotonic() - began > 0.5
        timer.join()


# ── a sweep meets a disaster ──────────────────────────────────────────────────────────────────────────────────────────


def a_linker(url: str, key: SecretStr, workable: ScriptedWorkable) -> Linker:
    """A linker on a database, with a scripted Workable."""
    return Linker(Settings(database_url=url, secret_keys=(key,)), workable=workable)


async def verified_later(house: House, key: SecretStr, count: int) -> list[Connection]:
    """Connections whose tokens are about to be verified."""
    found = []
    for number in range(count):
        new = a_connection(due_at=NOW)
        sealed = TokenCipher([key]).seal(SecretStr(f"token-{number}"), bound_to=new.id)
        candidate = a_credential()
        candidate = type(candidate)(subdomain=f"account-{number}", sealed=sealed, fingerprint="0badcafe")
        settlement = change(new, candidate=candidate)
        found.append(await house.store.add(type(settlement)(before=new, after=settlement.after, step=settlement.step)))
    return found


async def test_a_sweep_that_the_database_leaves_in_the_middle_is_made_up_for(
    shared_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass ends with a clear error; the next pass after the leases does all that was owed, once."""
    key = new_key()
    connections = await verified_later(shared_house, key, 10)
    async with a_linker(shared_house.url, key, ScriptedWorkable()) as linker_:

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(
                "linker.persistence.settlements.insert_all", fail
            )  # the connections are written by then, their steps are not
            await caught(linker_.attend_due(), StoreUnavailable)
        for connection in connections:
            found = await shared_house.store.get(connection.id)
            assert (found.state, found.last_seq) == (ConnectionState.AWAITING_TOKEN, 1)
        done = await linker_.attend_due()
        assert done.advanced >= 10
    for connection in connections:
        found = await shared_house.store.get(connection.id)
        assert found.state is ConnectionState.AWAITING_RECRUITER
        assert [step.seq for step in await shared_house.store.history(found.id)] == [1, 2, 3]


async def test_a_missing_key_stops_nobody_and_is_told(sqlite_house: House) -> None:
    """A linker without the key of a stored token starts, and says which key it is."""
    await kept_due(sqlite_house, 1)
    await kept(sqlite_house, token=a_credential("deadbeef"))
    with capture_logs() as logs:
        async with a_linker(sqlite_house.url, new_key(), ScriptedWorkable()) as linker_:
            assert len(await linker_.find()) == 2
    assert [line["keys"] for line in logs if line["event"] == "keys.missing"] == [["deadbeef"]]


# ── the canary ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_in_no_byte_of_the_files(sqlite_house: House) -> None:
    """Neither the database nor its log nor its index ever holds a token in clear text, a replaced one neither."""
    canaries = [f"canary{number}-9f8e7d6c5b4a" for number in range(3)]
    folder = file_of(sqlite_house).parent
    async with a_linker(sqlite_house.url, new_key(), ScriptedWorkable()) as linker_:
        connection = await linker_.create(owner="acme")
        for canary in canaries:
            await linker_.submit_token(connection.id, subdomain="acme", token=SecretStr(canary))
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {"linker.db", "linker.db-wal", "linker.db-shm"} <= set(contents)
        found = await linker_.get(connection.id)
        assert found.token is not None
        assert any(found.token.sealed.encode() in content for content in contents.values())
    contents |= {f"{path.name}, closed": path.read_bytes() for path in folder.iterdir()}
    for name, content in contents.items():
        for canary in canaries:
            for form in (canary, canary[:12], canary.encode().hex()):
                assert form.encode() not in content, name


def test_a_copy_of_the_file_alone_is_whole_once_it_is_closed(sqlite_url: str, tmp_path: Path) -> None:
    """After closing, everything is in the one file: that is what a backup copies."""
    with opened(sqlite_url) as house:
        schema.check(house.database)
        connection = asyncio.run(kept(house))
    copy = shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "backup.db")
    with opened(f"sqlite:///{copy}") as house:
        assert asyncio.run(house.store.get(connection.id)) == connection
