"""Damage from outside: rows that somebody wrote by hand, and files that were taken away under a running program."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection as Transaction
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from linker import Linker, Settings, new_key
from linker.database.statements import CompiledStatement, Row
from linker.encryption import TokenCipher, key_id_of
from linker.errors import RowUnreadable, StoreUnavailable
from linker.operations.health_checks import run_checks
from linker.persistence import mapping, schema
from linker.persistence.claims import quarantine
from linker.persistence.tables import CONNECTION
from linker.testing import ScriptedWorkable, SettableClock
from states.table import LAW
from states.verdicts import Unavailable
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    House,
    a_connection,
    a_credential,
    a_lease,
    change,
    kept,
    opened,
    opening,
)


@pytest.fixture
def house(sqlite_url: str) -> Iterator[House]:
    """A house on an SQLite file: its types let anything be written."""
    with opened(sqlite_url) as one:
        schema.upgrade(one.database)
        yield one


def by_hand(sqlite_url: str, statement: str, **values: str) -> None:
    """Write as somebody does who opens the file with another program, which watches over no foreign keys."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file, file:
        file.execute(statement, values)


async def test_an_unreadable_row_stops_nobody_else(house: House) -> None:
    """Lists leave it out, a sweep puts it aside for an hour, and both say so in the log; asked for, it is an error."""
    good, bad = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    await house.sql("UPDATE linker_connection SET metadata='{half' WHERE id=:id", id=bad.id)
    with capture_logs() as logs:
        assert [found.id for found in await house.store.find()] == [good.id]
        claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    assert [found.id for found in claimed] == [good.id]
    assert [(line["event"], line["connection_id"]) for line in logs] == [("row.unreadable", bad.id)] * 2
    with pytest.raises(RowUnreadable, match=f"{bad.id}.*backup") as unreadable:
        await house.store.get(bad.id)
    assert unreadable.value.reason == "connection"
    assert unreadable.value.params == {"id": bad.id, "cause": "JSONDecodeError"}
    assert {line["cause"] for line in logs} == {"JSONDecodeError"}
    with pytest.raises(RowUnreadable, match=bad.id):
        await house.store.claim(bad.id, now=NOW, lease=a_lease("me"))
    assert await house.store.claim_due(now=NOW + MINUTE, limit=10, lease=a_lease("me", until=NOW + 2 * MINUTE)) != []
    await house.sql("UPDATE linker_connection SET metadata='{}' WHERE id=:id", id=bad.id)
    later = NOW + timedelta(hours=1, minutes=2)
    mended = await house.store.claim_due(now=later, limit=10, lease=a_lease("me", until=later + MINUTE))
    assert bad.id in {found.id for found in mended}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE linker_connection SET state_since=x'00ff' WHERE id=:id", id="bytes"),
        pytest.param(
            "UPDATE linker_connection SET state_since=CAST(x'61ff62' AS TEXT) WHERE id=:id", id="half a character"
        ),
    ],
)
async def test_what_no_text_can_hold_stops_nobody_else(house: House, damage: str) -> None:
    """It is put aside like any other damage."""
    good, bad = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    await house.sql(damage, id=bad.id)
    with capture_logs() as logs:
        claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    assert [found.id for found in claimed] == [good.id]
    assert [(line["event"], line["connection_id"]) for line in logs] == [("row.unreadable", bad.id)]
    again = await house.store.claim_due(now=NOW + MINUTE, limit=10, lease=a_lease("me", until=NOW + 2 * MINUTE))
    assert bad.id not in {found.id for found in again}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE linker_connection SET due_at='2020-01-01' WHERE id=:id", id="a day"),
        pytest.param(
            "UPDATE linker_connection SET due_at='2020-01-01T00:00:00+02:00' WHERE id=:id", id="another notation"
        ),
        pytest.param("UPDATE linker_connection SET attempts=9e999 WHERE id=:id", id="infinity, which is no JSON"),
        pytest.param("UPDATE linker_connection SET id='con_' || char(0) WHERE id=:id", id="a zero in its id"),
        pytest.param("UPDATE linker_connection SET id=x'00ff' WHERE id=:id", id="an id of bytes"),
    ],
)
async def test_what_a_hand_wrote_otherwise_is_taken_as_it_is(house: House, sqlite_url: str, damage: str) -> None:
    """It makes sense, or is for the law to judge: a claim gives it with the others."""
    good, odd = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    by_hand(sqlite_url, damage, id=odd.id)
    claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    assert good.id in {found.id for found in claimed}
    assert len(claimed) == 2
    for one in claimed:
        assert one.due_at is not None
        assert one.due_at.tzinfo is UTC


async def test_a_time_of_another_zone_is_that_time(house: House) -> None:
    """It is not taken for one in UTC."""
    odd = await kept(house, due_at=NOW)
    await house.sql("UPDATE linker_connection SET state_since='2020-01-01T12:00:00+02:00' WHERE id=:id", id=odd.id)
    assert (await house.store.get(odd.id)).state_since == datetime(2020, 1, 1, 10, tzinfo=UTC)


async def test_a_due_time_that_is_none_wakes_nobody(house: House) -> None:
    """When something is due next is not known then; the claim puts the row aside when its text is reached."""
    odd = await kept(house, due_at=NOW)
    await house.sql("UPDATE linker_connection SET due_at='2020-01-01 12:00:5x' WHERE id=:id", id=odd.id)
    assert await house.store.next_due(before=NOW) is None


async def test_a_number_that_the_database_cannot_take_stops_nobody_else(sqlite_url: str) -> None:
    """All others are written, and it is left alone for a while: nobody is asked about it again and again."""
    clock = SettableClock()
    settings = Settings(database_url=sqlite_url, secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable(), clock=clock) as linker:
        made = [await linker.create(owner=f"owner-{number}") for number in range(3)]
        for number, one in enumerate(made):
            await linker.submit_token(one.id, subdomain=f"acme{number}", token=SecretStr(f"a-token-of-acme-{number}"))
        by_hand(sqlite_url, "UPDATE linker_connection SET checks=9223372036854775807 WHERE id=:id", id=made[0].id)
        clock.advance(hours=1)
        done = await linker.attend_due()
        again = await linker.attend_due()
    assert (done.claimed, done.waiting, done.unavailable) == (3, 2, 1)
    assert again.claimed == 0


async def test_a_damaged_id_is_told_of(house: House, sqlite_url: str) -> None:
    """What can be shown of it is in the log, and the others are claimed."""
    good, odd = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    by_hand(sqlite_url, "UPDATE linker_connection SET id=CAST(x'6f6464ff' AS TEXT) WHERE id=:id", id=odd.id)
    with capture_logs() as logs:
        claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
        assert [found.id for found in await house.store.find()] == [good.id]
    assert [found.id for found in claimed] == [good.id]
    assert [(line["event"], line["connection_id"]) for line in logs] == [("row.unreadable", "odd\ufffd")] * 2
    await house.store.release([good.id], a_lease("me"))
    with capture_logs() as logs:
        again = await house.store.claim_due(now=NOW + MINUTE, limit=10, lease=a_lease("me", until=NOW + 2 * MINUTE))
    assert [found.id for found in again] == [good.id]
    assert logs == []  # it was put aside by the id that it has


async def test_a_damaged_row_is_told_of_whoever_reads_it(house: House) -> None:
    """A list leaves it out, whoever asks for it is told; and so is whoever asks for steps that are damaged."""
    good, odd = await kept(house), await kept(house)
    await house.sql("UPDATE linker_connection SET owner=CAST(x'6f6464ff' AS TEXT) WHERE id=:id", id=odd.id)
    await house.sql("UPDATE linker_step SET actor=CAST(x'6f6464ff' AS TEXT) WHERE connection_id=:id", id=odd.id)
    with capture_logs() as logs:
        assert [found.id for found in await house.store.find()] == [good.id]
    assert [(line["event"], line["connection_id"]) for line in logs] == [("row.unreadable", odd.id)]
    with pytest.raises(RowUnreadable, match=f"{odd.id}.*backup"):
        await house.store.get(odd.id)
    with pytest.raises(RowUnreadable, match=f"A step of {odd.id}.*backup"):
        await house.store.history(odd.id)
    for damage in ("actor='me', evidence='{half'", "evidence='{}', source='nowhere'", "source=NULL, target='nowhere'"):
        await house.sql(f"UPDATE linker_step SET {damage} WHERE connection_id=:id", id=odd.id)  # noqa: S608 - our own
        with pytest.raises(RowUnreadable, match=f"A step of {odd.id}.*backup") as unreadable:
            await house.store.history(odd.id)
        assert (unreadable.value.reason, unreadable.value.params["id"]) == ("step", odd.id)


async def test_a_claim_beside_damage_costs_what_it_costs_without(house: House) -> None:
    """It does not look at what is not due, however much that is: others wait for the lock."""
    steps: list[int] = []

    async def claim(holder: str) -> int:
        def count(transaction: Transaction) -> None:
            raw: Any = transaction.connection.driver_connection
            raw.set_progress_handler(lambda: steps.append(1), 1000)

        await house.database.write(count)
        steps.clear()
        claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease(holder))
        took = len(steps)
        await house.store.release([one.id for one in claimed], a_lease(holder))
        return took

    first, odd = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    columns = mapping.changed_columns(None, first)
    crowd = [
        columns | {"id": f"con_{number}", "due_at": None, "law": LAW, "version": 1, "last_seq": 1, "updated_at": NOW}
        for number in range(20_000)
    ]
    await house.database.write(lambda transaction: transaction.execute(insert(CONNECTION), crowd))
    undamaged = await claim("before")
    await house.sql("UPDATE linker_connection SET owner=CAST(x'6f6464ff' AS TEXT) WHERE id=:id", id=odd.id)
    assert await claim("after") <= undamaged + 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE linker_connection SET id=x'00ff' WHERE id=:id", id="an id of bytes"),
        pytest.param(
            "UPDATE linker_connection SET id=CAST(x'61ff' AS TEXT) WHERE id=:id", id="an id of half a character"
        ),
        pytest.param(
            "UPDATE linker_connection SET state=CAST(x'61ff' AS TEXT) WHERE id=:id", id="a state of half a character"
        ),
    ],
)
async def test_a_damaged_row_has_no_turn(house: House, sqlite_url: str, damage: str) -> None:
    """Whoever takes turns among owners passes over it, and all others have theirs."""
    good, odd = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    by_hand(sqlite_url, damage, id=odd.id)
    assert [connection_id for connection_id, _ in await house.store.due_round_robin(now=NOW, limit=10)] == [good.id]


@pytest.mark.parametrize("metadata", ["{half", "[" * 100_000], ids=["half", "endlessly deep"])
async def test_what_cannot_be_put_aside_stops_nobody_else(
    house: House, metadata: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim stands; what cannot be read is met again when its lease has ended."""
    good, bad = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    await house.sql("UPDATE linker_connection SET metadata=:metadata WHERE id=:id", metadata=metadata, id=bad.id)

    def away(*_: object) -> None:
        raise StoreUnavailable("unreachable")

    monkeypatch.setattr("linker.persistence.connection_store.quarantine", away)
    with capture_logs() as logs:
        claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    assert [found.id for found in claimed] == [good.id]
    assert [line["event"] for line in logs] == ["row.unreadable", "row.not_put_aside"]
    assert (logs[1]["code"], logs[1]["reason"]) == ("store_unavailable", "unreachable")


async def test_what_somebody_else_holds_by_now_is_not_put_aside(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was mended and claimed by another worker in the meantime is that worker's."""
    bad = await kept(house, due_at=NOW)
    await house.sql("UPDATE linker_connection SET metadata='{half' WHERE id=:id", id=bad.id)

    def late(transaction: Transaction, *given: Any) -> None:
        transaction.exec_driver_sql("UPDATE linker_connection SET lease_holder='another'")
        quarantine(transaction, *given)

    monkeypatch.setattr("linker.persistence.connection_store.quarantine", late)
    await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    holders = await house.database.read(
        lambda transaction: transaction.execute(select(CONNECTION.c.lease_holder, CONNECTION.c.due_at)).all()
    )
    assert [tuple(each) for each in holders] == [("another", NOW)]


async def test_a_broken_disk_is_no_damaged_row(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fails once a lease is taken, nothing is leased, and nobody is told to restore a row."""
    await kept(house, due_at=NOW)
    returned = CompiledStatement.returned

    def broken(self: CompiledStatement, transaction: Transaction, row: Row) -> list[tuple[Any, ...]]:
        if "UPDATE linker_connection" in self._sql:
            raise OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error"))
        return returned(self, transaction, row)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledStatement, "returned", broken)
        with pytest.raises(StoreUnavailable):
            await house.store.claim_due(now=NOW, limit=10, lease=a_lease("me"))
    assert len(await house.store.claim_due(now=NOW, limit=10, lease=a_lease("you"))) == 1


@pytest.mark.parametrize("damage", ["garbage", "", "k1."])
async def test_a_damaged_token_is_replaced_by_a_new_one(house: House, damage: str) -> None:
    """It stops nobody else, and its row is whole again."""
    good, bad = await kept(house, token=a_credential()), await kept(house, token=a_credential())
    await house.sql(
        "UPDATE linker_connection SET token_sealed=:damage, token_key_id='lost' WHERE id=:id", damage=damage, id=bad.id
    )
    found = await house.store.get(bad.id)
    fresh = a_credential()
    batch = [change(found, token=fresh), change(good, checks=1)]
    assert await house.store.settle(batch, now=NOW, release=True) == [True, True]
    assert (await house.store.get(bad.id)).token == fresh
    assert await house.store.key_ids() == {key_id_of(fresh.sealed)}
    [written] = await house.store.settle([change(await house.store.get(bad.id), token=None)], now=NOW, release=True)
    assert written


async def test_a_deleted_file_is_not_written_on(house: House, sqlite_url: str) -> None:
    """Nothing is written into a file without a name, and no empty one takes its place."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    first = await kept(house)
    house.database.outside_here("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, path.with_suffix(".away"))
    _delete(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="is gone") as gone:
            await house.store.add(opening(a_connection()))
        assert gone.value.reason == "file_gone"
    assert not _is_there(path)
    _move(path.with_suffix(".away"), path)
    second = await kept(house)
    assert {found.id for found in await house.store.find()} == {first.id, second.id}


async def test_a_file_that_was_restored_is_taken_up(house: House, sqlite_url: str, tmp_path: Path) -> None:
    """Who puts a backup in the place of the file finds the program working on it."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    first = await kept(house)
    house.database.outside_here("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "backup.db")
    lost = await kept(house)
    _delete(path)
    _move(tmp_path / "backup.db", path)
    second = await kept(house)
    found = {found.id for found in await house.store.find()}
    assert found == {first.id, second.id}
    assert lost.id not in found


def _delete(path: Path) -> None:
    """Delete a database with all its files."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _move(path: Path, to: Path) -> None:
    path.rename(to)


def _is_there(path: Path) -> bool:
    return path.exists()


async def test_a_key_that_is_not_everywhere_yet_costs_no_replacement(sqlite_url: str) -> None:
    """While a new key is rolled out, workers without it try in vain; the replacement waits for one that has it."""
    clock, workable, old, new = SettableClock(), ScriptedWorkable(), new_key(), new_key()

    def worker(*keys: SecretStr) -> Linker:
        return Linker(Settings(database_url=sqlite_url, secret_keys=keys), clock=clock, workable=workable)

    async with worker(old) as behind, worker(new, old) as ahead:
        connection = await behind.create(owner="acme")
        linked = await behind.submit_token(connection.id, subdomain="acme", token="the-first-token")
        workable.will_say(Unavailable())
        await ahead.submit_token(connection.id, subdomain="acme", token="the-second-token")
        for _ in range(8):
            clock.advance(hours=2)
            await behind.attend_due()
        waiting = await behind.get(connection.id)
        assert waiting.problem is not None
        missing = TokenCipher([new]).newest
        assert waiting.problem.params == {"fault": "key_missing.not_set", "connection": connection.id, "key": missing}
        clock.advance(hours=2)
        await ahead.attend_due()
        replaced = await ahead.get(connection.id)
    assert replaced.candidate is None
    assert replaced.replacement_problem is None
    assert linked.token is not None
    assert replaced.token is not None
    assert replaced.token.fingerprint != linked.token.fingerprint


# ── tokens whose key is lost, or that are damaged ─────────────────────────────────────────────────────────────────────

LOST = {
    "its key is lost": "v1.deadbeef.AAAA",
    "it was changed": "v1.{key}.AAAA",
    "it is no sealed token": "what somebody wrote",
    "it is of another version": "v9.{key}.AAAA",
}


@pytest.mark.parametrize("sealed", LOST.values(), ids=LOST)
async def test_a_token_that_does_not_open_stops_nobody(shared_house: House, sealed: str) -> None:
    """All others are attended; the one is told of, takes a new token, and can be given up, without the old key."""
    key, clock, workable = new_key(), SettableClock(NOW), ScriptedWorkable()
    newest = TokenCipher([key]).newest
    settings = Settings(database_url=shared_house.url, secret_keys=(key,))
    async with Linker(settings, clock=clock, workable=workable) as linker:
        ids = [(await linker.create(owner=f"owner-{number}")).id for number in range(4)]
        for number, each in enumerate(ids):
            await linker.submit_token(each, subdomain=f"acme-{number}", token="a-good-token")
    lost = {"token_sealed": sealed.format(key=newest), "token_key_id": "deadbeef"}
    these = CONNECTION.update().where(CONNECTION.c.id.in_(ids[:2])).values(lost)
    await shared_house.database.write(lambda transaction: transaction.execute(these))
    clock.advance(hours=1)
    async with Linker(settings, clock=clock, workable=workable) as linker:
        swept = await linker.attend_due()
        assert (swept.unavailable, swept.waiting) == (2, 2)
        poisoned = await linker.get(ids[0])
        assert poisoned.problem is not None
        assert (poisoned.problem.code.value, poisoned.problem.owner.value) == ("poisoned", "operator")
        assert {each.id for each in await linker.find(stuck=True)} >= set(ids[:2])
        assert len(await linker.find()) == 4
        assert (await linker.confirm_recruiter(ids[2])).problem is not None
        renewed = await linker.submit_token(ids[0], subdomain="acme-0", token="a-new-good-token")
        assert (renewed.state.value, renewed.token is not None and key_id_of(renewed.token.sealed)) == (
            "awaiting_recruiter",
            newest,
        )
        assert renewed.problem is None or renewed.problem.code.value == "recruiter_absent"
        assert (await linker.unlink(ids[1])).closed_at is not None


async def test_the_doctor_opens_tokens(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was damaged under the right key is found, and the connections are named."""
    key = new_key()
    settings = Settings(database_url=sqlite_url, secret_keys=(key,))
    async with Linker(settings, clock=SettableClock(NOW), workable=ScriptedWorkable()) as linker:
        ids = [(await linker.create(owner=f"owner-{number}")).id for number in range(3)]
        for number, each in enumerate(ids):
            await linker.submit_token(each, subdomain=f"acme-{number}", token="a-good-token")
    monkeypatch.setenv("LINKER_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("LINKER_SECRET_KEYS", key.get_secret_value())

    async def found() -> tuple[str, dict[str, Any]]:
        [check] = [each async for each in run_checks(offline=True) if each.name == "tokens"]
        return check.status, check.params

    assert await found() == ("ok", {"sample": 3})
    # as damage does: nothing of the row says so
    statement = "UPDATE linker_connection SET token_sealed = substr(token_sealed, 1, 30) WHERE id = :id"
    by_hand(sqlite_url, statement, id=ids[1])
    assert await found() == ("failed", {"count": 1, "sample": 3, "connections": [ids[1]]})
