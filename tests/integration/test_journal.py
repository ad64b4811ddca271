"""The files of SQLite: who may read them, what is wiped, and a journal that is taken away while it is open."""

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from linker import Linker, Settings, new_key
from linker.database.database import Database
from linker.errors import LinkerError, OurFault, StoreUnavailable
from linker.operations.health_checks import run_checks
from linker.persistence import schema
from linker.testing import ScriptedWorkable
from tests.seams import parts

KEY = new_key()


def a_linker(folder: Path) -> Linker:
    """A linker on a file in this folder."""
    settings = Settings(database_url=f"sqlite:///{folder / 'linker.db'}", secret_keys=(KEY,))
    return Linker(settings, workable=ScriptedWorkable())


def written_elsewhere(folder: Path, owner: str) -> str | None:
    """The id of a connection that another process was told is written; None if it was told otherwise."""
    env = os.environ | {
        "LINKER_DATABASE_URL": f"sqlite:///{folder / 'linker.db'}",
        "LINKER_SECRET_KEYS": KEY.get_secret_value(),
    }
    command = [sys.executable, "-m", "linker", "open", "--owner", owner, "--json"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        assert ran.returncode == 5, ran.stderr
        return None
    return str(json.loads(ran.stdout)["id"])


async def stored(folder: Path) -> set[str]:
    """The ids of all that is stored, read anew; the file is sound."""
    with sqlite3.connect(folder / "linker.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    async with a_linker(folder) as linker:
        return {one.id for one in await linker.find()}


TAKEN = {"both": ("-wal", "-shm"), "the journal": ("-wal",), "its index": ("-shm",)}


@pytest.mark.parametrize(
    ("taken", "beats"), [("both", True), ("both", False), ("the journal", False), ("its index", False)]
)
async def test_a_journal_that_is_deleted_loses_nothing(tmp_path: Path, taken: str, beats: bool) -> None:
    """What was written before is kept, and what is written afterwards: by us, and by another process."""
    told: list[str] = []

    async def write(linker: Linker, times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(StoreUnavailable):
                told.append((await linker.create(owner="o")).id)
                continue
            await asyncio.sleep(0.2)

    async with a_linker(tmp_path) as linker:
        beating = linker.heartbeat()
        if beats:
            await beating.__aenter__()
        await write(linker, 5)
        for suffix in TAKEN[taken]:
            (tmp_path / f"linker.db{suffix}").unlink()
        elsewhere = None if beats else await asyncio.to_thread(written_elsewhere, tmp_path, "before we wrote")
        await write(linker, 10)
        if taken == "both":
            elsewhere = await asyncio.to_thread(written_elsewhere, tmp_path, "after we wrote")
            assert elsewhere is not None
        if beats:
            await beating.__aexit__(None, None, None)
    assert len(told) >= 5 + 5
    assert await stored(tmp_path) >= {*told, *([elsewhere] if elsewhere else [])}


async def test_what_is_written_while_the_journal_goes_is_not_acknowledged(tmp_path: Path) -> None:
    """It goes in the middle of a unit of work: whoever waits for it is told, and may find it written or not."""
    async with a_linker(tmp_path) as linker:
        first = await linker.create(owner="o")
        database = parts(linker).database

        def work(transaction: object) -> str:
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"linker.db{suffix}").unlink()
            return "written"

        with pytest.raises(StoreUnavailable) as gone:
            await database.write(work)
        assert gone.value.reason == "journal_gone"
        second = await linker.create(owner="o")
    assert await stored(tmp_path) == {first.id, second.id}


async def test_somebody_elses_journal_is_left_alone(tmp_path: Path) -> None:
    """Where a stranger has written into a new journal there is no way to keep both: nothing more is written."""
    async with a_linker(tmp_path) as linker:
        await linker.create(owner="o")
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"linker.db{suffix}").unlink()
        code = (
            "import sqlite3, sys, os; raw = sqlite3.connect(sys.argv[1]); raw.execute('CREATE TABLE stranger (a)');"
            "raw.commit(); os._exit(0)"
        )
        stranger = [sys.executable, "-c", code, str(tmp_path / "linker.db")]
        await asyncio.to_thread(lambda: subprocess.run(stranger, check=True))
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as gone:
                await linker.create(owner="o")
            assert gone.value.reason == "journal_replaced"


# modes


async def test_files_that_we_make_are_ours_alone(tmp_path: Path) -> None:
    """Whatever the process is set to; those beside the file have the same modes."""
    before = os.umask(0o000)
    try:
        async with a_linker(tmp_path) as linker:
            await linker.create(owner="o")
            names = ("linker.db", "linker.db-wal", "linker.db-shm")
            modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(names, 0o600)


async def test_the_modes_of_a_file_that_is_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator chose them, and doctor says what they mean."""
    (tmp_path / "linker.db").touch()
    (tmp_path / "linker.db").chmod(0o640)
    async with a_linker(tmp_path) as linker:
        await linker.create(owner="o")
    assert stat.S_IMODE((tmp_path / "linker.db").stat().st_mode) == 0o640
    monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
    monkeypatch.setenv("LINKER_SECRET_KEYS", KEY.get_secret_value())
    [found] = [check async for check in run_checks(offline=True) if check.name == "file"]
    assert (found.status, found.found, found.params) == ("care", "open_to_others", {"mode": "0640"})
    (tmp_path / "linker.db").chmod(0o600)
    [found] = [check async for check in run_checks(offline=True) if check.name == "file"]
    assert found.status == "ok"


async def test_what_is_wiped_is_gone_from_the_file(tmp_path: Path) -> None:
    """On every connection, whatever SQLite was built with."""
    async with a_linker(tmp_path) as linker:
        connection = await linker.create(owner="o")
        connection = await linker.submit_token(connection.id, subdomain="acme", token="c4n4ry-c4n4ry-c4n4ry")
        assert connection.token is not None
        sealed = connection.token.sealed.encode()
        for _ in range(4):
            on = await parts(linker).database.read(lambda t: t.exec_driver_sql("PRAGMA secure_delete").scalar())
            assert on == 1
        await linker.unlink(connection.id)
    assert sealed not in (tmp_path / "linker.db").read_bytes()


async def test_a_clock_that_was_ahead_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it wrote, also without asking Workable."""
    async with a_linker(tmp_path) as linker:
        await linker.create(owner="o")
    monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
    monkeypatch.setenv("LINKER_SECRET_KEYS", KEY.get_secret_value())
    assert [check async for check in run_checks(offline=True) if check.name == "stored times"] == []
    with sqlite3.connect(tmp_path / "linker.db") as raw:
        raw.execute("UPDATE linker_connection SET updated_at = '2199-01-01 00:00:00.000000'")
    raw.close()
    [found] = [check async for check in run_checks(offline=True) if check.name == "stored times"]
    assert (found.status, found.params) == ("care", {"count": 1})


def test_errors_of_the_journal_have_words() -> None:
    """They say what to do."""
    for reason in ("journal_gone", "journal_replaced"):
        error: LinkerError = StoreUnavailable(reason)
        assert "journal" in str(error)
        assert "-wal" in str(error)


@pytest.mark.parametrize("end", ["an error closes the connection", "whoever closes the idle ones"])
def test_whoever_has_nothing_open_takes_the_journal_that_there_is(tmp_path: Path, end: str) -> None:
    """SQLite deletes a journal with the last connection, and the next one makes another: nothing was taken away."""
    here, elsewhere = (Database(f"sqlite:///{tmp_path / 'linker.db'}") for _ in range(2))
    schema.upgrade(here)
    if end.startswith("an error"):
        with pytest.raises(OurFault):
            here.read_here(lambda connection: connection.exec_driver_sql("SELECT nonsense"))
    else:
        here.disconnect()
    for number in range(8):  # what was deleted gave its number free: nobody shall get it again
        (tmp_path / f"other-{number}").touch()
    elsewhere.write_here(lambda connection: connection.exec_driver_sql("CREATE TABLE theirs (id INTEGER)"))
    assert (tmp_path / "linker.db-wal").stat().st_size > 0
    for database in (here, elsewhere, here):
        database.write_here(lambda connection: connection.exec_driver_sql("INSERT INTO theirs VALUES (1)"))
    assert here.read_here(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM theirs").scalar()) == 3
    for database in (here, elsewhere):
        database.close()
