"""A clock that was wrong leaves times in the rows that nothing can have produced: they count as due, free or past."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from linker import Connection, Linker, Settings, new_key
from linker.errors import Busy
from linker.testing import ScriptedWorkable, SettableClock
from states.verdicts import OverLimit, Unavailable
from tests.integration.storehouse import House
from tests.seams import parts

DAY = timedelta(days=1)
TOKEN = "c4n4ry-c4n4ry-c4n4ry"


class Stage:
    """A linker on a clock that can be wrong."""

    def __init__(self, house: House, linker: Linker, clock: SettableClock, workable: ScriptedWorkable) -> None:
        self.house, self.linker, self.clock, self.workable = house, linker, clock, workable

    async def connection(self, state: str) -> Connection:
        """A connection in a state."""
        made = await self.linker.create(owner=state)
        if state == "awaiting_token":
            return made
        made = await self.linker.submit_token(made.id, subdomain=state.replace("_", "-"), token=TOKEN)
        if state == "linked":
            assert made.recruiter is not None
            self.workable.add_recruiter(made.recruiter.email)
            made = await self.linker.confirm_recruiter(made.id)
        assert made.state == state
        return made

    async def put(self, connection: Connection, **times: datetime | None) -> None:
        """Write times into a row."""
        names = ", ".join(f"{name} = :{name}" for name in times)
        statement = sa.text(f"UPDATE linker_connection SET {names} WHERE id = :id").bindparams(  # noqa: S608 - ours
            *(sa.bindparam(name, type_=sa.DateTime(timezone=True)) for name in times)
        )
        values = {"id": connection.id, **times}
        await self.house.database.write(lambda transaction: transaction.execute(statement, values).rowcount)

    async def asked(self) -> int:
        """How often Workable is asked in one pass."""
        before = len(self.workable.asked)
        await self.linker.attend_due()
        return len(self.workable.asked) - before


@asynccontextmanager
async def staged(house: House, **settings: object) -> AsyncIterator[Stage]:
    """A stage on this database."""
    clock, workable = SettableClock(), ScriptedWorkable()
    given = Settings(database_url=house.url, secret_keys=(new_key(),), **settings)  # type: ignore[arg-type]
    async with Linker(given, clock=clock, workable=workable) as linker:
        yield Stage(house, linker, clock, workable)


AHEAD = [timedelta(hours=30), 20 * DAY, 366 * DAY, 50 * 366 * DAY]


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
async def test_a_clock_that_was_ahead_for_one_pass(shared_house: House, ahead: timedelta) -> None:
    """Afterwards everything is looked after as if it had not been: nothing waits for the day that the clock showed."""
    async with staged(shared_house) as stage:
        made = [await stage.connection(state) for state in ("linked", "awaiting_recruiter")]
        stage.clock.advance(seconds=ahead.total_seconds())
        await stage.linker.attend_due()
        stage.clock.advance(seconds=-ahead.total_seconds())
        await stage.linker.attend_due()
        now = stage.clock.now()
        for connection in made:
            after = await stage.linker.get(connection.id)
            if after.state != "failed":  # by that clock its time was over
                assert after.due_at is not None
                assert after.due_at <= now + timedelta(hours=27)
        stage.clock.advance(hours=28)
        assert await stage.asked() >= 1


@pytest.mark.parametrize("state", ["awaiting_recruiter", "linked", "awaiting_token"])
@pytest.mark.parametrize("due", [datetime(2199, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)], ids=str)
async def test_an_impossible_due_time_is_due(shared_house: House, state: str, due: datetime) -> None:
    """While the linker is open, without any jump that it could see."""
    async with staged(shared_house) as stage:
        connection = await stage.connection(state)
        await stage.linker.attend_due()
        await stage.put(connection, due_at=due)
        swept = await stage.linker.attend_due()
        assert swept.claimed == 1
        after = await stage.linker.get(connection.id)
        assert after.due_at is not None
        assert after.due_at < stage.clock.now() + 31 * DAY


async def test_a_possible_due_time_is_waited_for(shared_house: House) -> None:
    """The longest that the settings allow is not impossible."""
    async with staged(shared_house, health_every=100 * DAY, poll_last=40 * DAY) as stage:
        linked, waiting = await stage.connection("linked"), await stage.connection("awaiting_recruiter")
        await stage.put(linked, due_at=stage.clock.now() + 109 * DAY)
        await stage.put(waiting, due_at=stage.clock.now() + 40 * DAY)
        assert await stage.asked() == 0


@pytest.mark.parametrize("ahead", [timedelta(hours=2), DAY, 366 * DAY], ids=str)
async def test_a_lease_of_the_future_is_free(shared_house: House, ahead: timedelta) -> None:
    """For a person at once and for the next pass; one that can be is not."""
    async with staged(shared_house) as stage:
        connection = await stage.connection("awaiting_recruiter")
        now = stage.clock.now()
        held = "UPDATE linker_connection SET lease_holder = 'dead:1', version = version + 1"
        await stage.house.sql(held)
        await stage.put(connection, lease_until=now + ahead, due_at=now)
        assert await stage.asked() == 1
        await stage.house.sql(held)
        await stage.put(connection, lease_until=now + ahead)
        before = len(stage.workable.asked)
        await stage.linker.confirm_recruiter(connection.id)
        assert len(stage.workable.asked) > before


async def test_a_lease_that_can_be_is_respected(shared_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of other settings may hold it for an hour."""
    monkeypatch.setattr("linker.engine.service.PATIENCE_SECONDS", 0.2)
    async with staged(shared_house) as stage:
        connection = await stage.connection("awaiting_recruiter")
        now = stage.clock.now()
        await stage.house.sql("UPDATE linker_connection SET lease_holder = 'alive:1'")
        await stage.put(connection, lease_until=now + timedelta(minutes=59), due_at=now)
        assert await stage.asked() == 0
        with pytest.raises(Busy):
            await stage.linker.confirm_recruiter(connection.id)


async def test_an_announcement_put_off_by_a_wrong_clock_is_delivered(shared_house: House) -> None:
    """Its lease and the time of its next try are of the future."""
    async with staged(shared_house) as stage:
        told: list[object] = []
        stage.linker.on("opened")(told.append)
        await stage.connection("awaiting_token")
        await stage.house.sql("UPDATE linker_outbox SET lease_holder = 'dead:1'")
        statement = sa.text("UPDATE linker_outbox SET due_at = :at, lease_until = :at").bindparams(
            sa.bindparam("at", stage.clock.now() + 366 * DAY, sa.DateTime(timezone=True))
        )
        await stage.house.database.write(lambda transaction: transaction.execute(statement).rowcount)
        stage.clock.advance(hours=2)
        await stage.linker.deliver()
        assert len(told) == 1


@pytest.mark.parametrize("ahead", [DAY, 366 * DAY], ids=str)
@pytest.mark.parametrize("verdict", ["throttled", "unavailable"])
async def test_a_time_that_workable_named_to_a_wrong_clock_is_past(
    shared_house: House, ahead: timedelta, verdict: str
) -> None:
    """A person who presses the button is not put off until the clock's day."""
    async with staged(shared_house) as stage:
        connection = await stage.connection("awaiting_recruiter")
        stage.clock.advance(seconds=ahead.total_seconds())
        until = stage.clock.now() + timedelta(minutes=30)
        await stage.put(connection, due_at=stage.clock.now(), deadline=until + 365 * DAY)
        stage.workable.will_say(OverLimit(until) if verdict == "throttled" else Unavailable(until))
        await stage.linker.attend_due()
        assert (await stage.linker.get(connection.id)).not_before == until
        stage.clock.advance(seconds=-ahead.total_seconds())
        before = len(stage.workable.asked)
        after = await stage.linker.confirm_recruiter(connection.id)
        assert len(stage.workable.asked) == before + 1
        assert after.problem is None or after.problem.code == "recruiter_absent"


@pytest.mark.parametrize("state", ["awaiting_token", "awaiting_recruiter"])
async def test_an_impossible_deadline_is_past(shared_house: House, state: str) -> None:
    """One beyond all settings, and one of a state that began in the future; not one that settings had allowed."""
    for deadline, began, fails in (
        (datetime(2199, 1, 1, tzinfo=UTC), None, True),
        (366 * DAY, 365 * DAY, True),
        (366 * DAY, -DAY, False),
        (29 * DAY, timedelta(minutes=5), False),
    ):
        async with staged(shared_house) as stage:
            connection = await stage.connection(state)
            now = stage.clock.now()
            ends = deadline if isinstance(deadline, datetime) else now + deadline
            since = connection.state_since if began is None else now + began
            await stage.put(connection, deadline=ends, state_since=since, due_at=now)
            await stage.linker.attend_due()
            after = await stage.linker.get(connection.id)
            assert (after.state == "failed") is fails, (deadline, began)
            with contextlib.suppress(Exception):
                await stage.linker.unlink(connection.id)


async def test_many_rows_are_brought_back_in_portions(shared_house: House) -> None:
    """What was put off by a wrong clock is not all due at once."""
    async with staged(shared_house) as stage:
        connection = await stage.connection("linked")
        ids = [f"con_copy{number}" for number in range(3)]
        for each in ids:
            await stage.linker.create(owner=each)
        far = sa.text("UPDATE linker_connection SET due_at = :at").bindparams(
            sa.bindparam("at", stage.clock.now() + 366 * DAY, sa.DateTime(timezone=True))
        )
        await stage.house.database.write(lambda transaction: transaction.execute(far).rowcount)
        store = parts(stage.linker).store
        furthest = {connection.state.value: DAY}
        moved = [await store.bring_back(now=stage.clock.now(), furthest=furthest, limit=3) for _ in range(3)]
        assert moved == [3, 1, 0]
