"""When many accounts are refused at once: seen over the whole database, by the latest answer of each account."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from structlog.testing import capture_logs

from linker import new_key
from linker.cli.commands.doctor import in_words
from linker.operations.health_checks import run_checks
from linker.telemetry.statistics import StatisticsReader
from states.connection import Connection, ConnectionState
from tests.integration.storehouse import MINUTE, NOW, House, a_recruiter, an_account, kept

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def account(
    house: House,
    number: int,
    *,
    owner: str | None = None,
    ok: timedelta | None = DAY,
    refused: timedelta | None = None,
    **facts: object,
) -> Connection:
    """A linked connection of an account that answered well, and was refused, so long ago."""
    given = {
        "owner": owner or f"owner-{number}",
        "account": an_account(f"account-{number}"),
        "recruiter": a_recruiter(),
        "state": ConnectionState.LINKED,
        "last_ok_at": None if ok is None else NOW - ok,
        "refused_at": None if refused is None else NOW - refused,
        **facts,
    }
    return await kept(house, **given)


async def accounts(house: House, numbers: Iterable[int], **how: object) -> list[Connection]:
    """Several, each of an owner of its own."""
    return [await account(house, number, **how) for number in numbers]  # type: ignore[arg-type]  # as `account` takes it


async def test_five_accounts_of_three_owners_are_one(house: House) -> None:
    """It begins when the fifth is refused, whichever process asks, and is told to the log once."""
    await accounts(house, range(4), refused=MINUTE)
    assert not await house.store.review_incident(now=NOW)
    await accounts(house, [4], refused=MINUTE)
    with capture_logs() as logs:
        assert await house.store.review_incident(now=NOW)
        assert await house.another().review_incident(now=NOW)
    assert [one["event"] for one in logs] == ["incident.began"]


async def test_two_owners_are_none(house: House) -> None:
    """A vendor with many accounts can have revoked its tokens."""
    for number in range(12):
        await account(house, number, owner=f"owner-{number % 2}", refused=MINUTE)
    assert not await house.store.review_incident(now=NOW)


async def test_several_connections_of_an_account_are_one_account(house: House) -> None:
    """Accounts are counted, not rows."""
    for number in range(12):
        await account(house, number, account=an_account(f"account-{number % 4}"), refused=MINUTE)
    assert not await house.store.review_incident(now=NOW)


@pytest.mark.parametrize(
    ("odd", "counts"),
    [
        ({"refused": 3 * HOUR}, False),
        ({"ok": None}, False),
        ({"ok": timedelta(0)}, False),
        ({"closed_at": NOW}, False),
        ({"state": ConnectionState.FAILED}, True),
    ],
)
async def test_only_what_was_good_and_is_refused_now_counts(house: House, odd: dict[str, object], counts: bool) -> None:
    """Not what was refused long ago, never good, good again since, or given up; but what ended by refusals just now."""
    await accounts(house, range(4), refused=MINUTE)
    await accounts(house, [4], **({"refused": MINUTE} | odd))
    assert await house.store.review_incident(now=NOW) == counts


@pytest.mark.parametrize(("good", "begins"), [(6, True), (7, False)])
async def test_at_least_half_are_refused(house: House, good: int, begins: bool) -> None:
    """Of the accounts that were asked lately: six of twelve are, six of thirteen are not; old answers do not count."""
    await accounts(house, range(6), refused=MINUTE)
    await accounts(house, range(10, 10 + good), ok=MINUTE)
    await accounts(house, range(30, 36), ok=3 * HOUR)
    assert await house.store.review_incident(now=NOW) == begins


async def test_two_that_answer_well_end_it(house: House) -> None:
    """One may be chance. What was refused before its end begins no other one; what is refused after it does."""
    made = await accounts(house, range(10), refused=MINUTE)
    assert await house.store.review_incident(now=NOW)

    async def answers(ids: list[str], column: str, at: datetime) -> None:
        for each in ids:
            statement = f"UPDATE linker_connection SET {column} = :at WHERE id = :id"  # noqa: S608 - ours
            await house.sql(statement, at=at if house.database.dialect.name == "postgresql" else _text(at), id=each)

    later = NOW + 5 * MINUTE
    await answers([made[0].id], "last_ok_at", later)
    assert await house.store.review_incident(now=later)
    await answers([made[1].id], "last_ok_at", later)
    with capture_logs() as logs:
        assert not await house.store.review_incident(now=later)
        assert not await house.another().review_incident(now=later + MINUTE)
    assert [one["event"] for one in logs] == ["incident.ended"]
    again = later + 10 * MINUTE
    await answers([each.id for each in made[2:6]], "refused_at", again)
    assert not await house.store.review_incident(now=again)
    await answers([made[6].id], "refused_at", again)
    assert await house.store.review_incident(now=again)


async def test_an_incident_ends_when_more_others_answer_well(house: House) -> None:
    """Since it began: what answered well before says nothing about it."""
    await accounts(house, range(5), refused=MINUTE)
    await accounts(house, range(10, 15), ok=2 * MINUTE)
    assert await house.store.review_incident(now=NOW)
    await accounts(house, range(20, 25), ok=-MINUTE)
    assert await house.store.review_incident(now=NOW + 9 * HOUR)
    await accounts(house, [25], ok=-8 * HOUR)
    assert not await house.store.review_incident(now=NOW + 9 * HOUR)
    assert not await house.store.review_incident(now=NOW + 9 * HOUR), "the same refusals begin no other one"


async def test_an_incident_ends_after_a_day(house: House) -> None:
    """Nobody waits for accounts that are gone to answer well; nor does a clock that was ahead keep it."""
    await accounts(house, range(5), refused=MINUTE)
    assert await house.store.review_incident(now=NOW)
    assert await house.store.review_incident(now=NOW + DAY)
    assert not await house.store.review_incident(now=NOW + DAY + MINUTE)
    await accounts(house, range(10, 15), ok=-DAY, refused=-2 * DAY)
    assert await house.store.review_incident(now=NOW + 2 * DAY)
    assert not await house.store.review_incident(now=NOW)


async def test_times_ahead_of_now_do_not_count(house: House) -> None:
    """A clock that was a year ahead refused nobody yet, and nobody answered it well yet."""
    await accounts(house, range(5), ok=MINUTE, refused=-365 * DAY)
    assert not await house.store.review_incident(now=NOW)
    await accounts(house, range(10, 15), refused=MINUTE)
    await accounts(house, range(20, 29), ok=-365 * DAY)
    assert await house.store.review_incident(now=NOW)


async def test_processes_agree_that_it_began(shared_house: House) -> None:
    """Whoever sees it first writes it; there is one, and one line in the log."""
    await accounts(shared_house, range(6), refused=MINUTE)
    stores = [shared_house.another() for _ in range(4)]
    with capture_logs() as logs:
        seen = await asyncio.gather(*(each.review_incident(now=NOW) for each in stores))
    assert seen == [True] * 4
    assert [one["event"] for one in logs] == ["incident.began"]


async def test_asking_is_cheap(shared_house: House) -> None:
    """Its questions go by indexes of their own: what was refused ever, and what answered well lately."""
    is_sqlite = shared_house.database.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    refused = "refused_at IS NOT NULL AND closed_at IS NULL AND refused_at > '2026-01-01' AND last_ok_at < refused_at"
    well = "last_ok_at IS NOT NULL AND account_id IS NOT NULL AND closed_at IS NULL AND last_ok_at > '2026-01-01'"
    lately = f"{well} ORDER BY last_ok_at DESC LIMIT 20"  # an empty table has other indexes that are as good without it
    for where, index in ((refused, "linker_connection_refused"), (lately, "linker_connection_well")):

        def plan(connection: sa.Connection, where: str = where) -> str:
            if not is_sqlite:  # so few rows would be read whole
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            query = f"{explain} SELECT account_id FROM linker_connection WHERE {where}"  # noqa: S608 - made here
            return str(connection.exec_driver_sql(query).fetchall())

        assert index in shared_house.database.read_here(plan)


# a model

LATELY = st.integers(0, 150)
#: The owner's number, and how many minutes ago the account answered well and was refused.
Row = tuple[int, int | None, int | None]
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.one_of(LATELY, LATELY, st.just(600), st.none()), st.one_of(LATELY, st.none())),
    min_size=4,
    max_size=14,
)


def expected(rows: list[Row]) -> bool:
    """The rule in words of its own, for rows of one account each."""
    asked, refused, owners = 0, 0, set()
    for owner, ok, no in rows:
        if ok is None:
            continue
        if no is not None and no < 120 and no < ok:
            asked, refused = asked + 1, refused + 1
            owners.add(owner)
        elif ok < 120 and (no is None or ok < no):
            asked += 1
    return refused >= 5 and len(owners) >= 3 and refused * 2 >= asked


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
async def test_it_is_what_the_rule_says(memory_house: House, rows: list[Row]) -> None:
    """Whatever was answered when."""
    for table in ("step", "connection", "incident"):
        await memory_house.sql(f"DELETE FROM linker_{table}")  # noqa: S608 - ours
    for number, (owner, ok, no) in enumerate(rows):
        ago = {"ok": None if ok is None else ok * MINUTE, "refused": None if no is None else no * MINUTE}
        await account(memory_house, number, owner=f"owner-{owner}", **ago)
    assert await memory_house.store.review_incident(now=NOW) == expected(rows)


def _text(at: datetime) -> str:
    """A time as SQLite keeps it."""
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


async def test_it_is_told_by_doctor_and_by_a_metric(shared_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told that it lasts, and since when; and afterwards that there is none."""
    monkeypatch.setenv("LINKER_DATABASE_URL", shared_house.url)
    monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())

    async def told() -> tuple[str, dict[str, object], bool]:
        [check] = [each async for each in run_checks(offline=True) if each.name == "incident"]
        statistics = await StatisticsReader(shared_house.database, lambda: NOW).read()
        assert statistics is not None
        words, _ = in_words(check)
        assert "{" not in words
        return check.found, check.params, statistics.queue.incident

    assert await told() == ("none", {}, False)
    await accounts(shared_house, range(5), refused=MINUTE)
    await shared_house.store.review_incident(now=NOW)
    assert await told() == ("lasts", {"began_at": NOW.isoformat(timespec="seconds")}, True)
    await shared_house.store.review_incident(now=NOW + 25 * HOUR)
    assert await told() == ("none", {}, False)
