"""Wake-ups: a worker whose heartbeat comes once in an hour hears of what others write, and does it at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import Update, text

from linker import Linker, Settings, new_key
from linker.database.database import Database
from linker.persistence import schema
from linker.persistence.server_clock import DatabaseClock
from linker.persistence.tables import CONNECTION
from linker.testing import ScriptedWorkable, SettableClock
from states import events as happened
from states.connection import Connection, ConnectionState
from states.verdicts import Unavailable
from tests.seams import parts

KEY = new_key()
#: How long a test waits before it gives up, in seconds: far less than a heartbeat.
SOON = 20.0


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A database with the schema in it."""
    given: str = request.getfixturevalue(f"{request.param}_url")
    database = Database(given)
    schema.upgrade(database)
    if not database.is_sqlite:
        database.write_here(
            lambda transaction: transaction.execute(text("TRUNCATE linker_connection, linker_rate_limit CASCADE"))
        )
    database.close()
    return given


def a_linker(url: str, workable: ScriptedWorkable) -> Linker:
    """A linker whose heartbeat comes once in an hour, and who looks for a recruiter long after a test gave up."""
    settings = Settings(
        database_url=url,
        secret_keys=(KEY,),
        sweep_seconds=3600,
        poll_first=timedelta(minutes=30),
        backoff_first=timedelta(seconds=1),
    )
    return Linker(settings, workable=workable)


async def until(fulfilled: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that other tasks do."""
    async with asyncio.timeout(SOON):
        while not await fulfilled():  # noqa: ASYNC110 - the database sets no event
            await asyncio.sleep(0.02)


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set whenever a worker heard a word; a listener that begins to listen takes that for one."""
    heard, wake = asyncio.Event(), Linker._wake

    def hear(linker: Linker, *beats: str, after: float = 0.0) -> None:
        wake(linker, *beats, after=after)
        if len(beats) == len(("sweep", "call", "post")):
            heard.set()

    monkeypatch.setattr(Linker, "_wake", hear)
    return heard


async def until_idle(worker: Linker, woken: asyncio.Event) -> None:
    """Wait until the worker listens, does nothing and plans nothing for as long as a test waits.

    Nothing was written since it began to listen: only the next word can wake it.
    """
    [heartbeat] = worker._heartbeats
    async with asyncio.timeout(SOON):
        await woken.wait()

    async def idle() -> bool:
        for _ in range(10):
            await asyncio.sleep(0)  # a beat that is planned for now begins
        far = datetime.now(UTC) + timedelta(seconds=2 * SOON)
        planned = all(job.next_run_time > far for job in heartbeat._jobs.values())
        return planned and not any(lock.locked() for lock in heartbeat._beating.values())

    await until(idle)


async def waiting(linker: Linker, subdomain: str = "acme") -> Connection:
    """A connection whose recruiter is not there yet."""
    connection = await linker.create(owner="acme")
    return await linker.submit_token(connection.id, subdomain=subdomain, token="a-token-of-acme")


async def paused(linker: Linker, workable: ScriptedWorkable) -> str:
    """The id of a connection that is linked as soon as somebody looks, once it is resumed."""
    connection = await waiting(linker)
    assert connection.recruiter is not None
    await linker.record(connection.id, lambda _: happened.Paused(), actor="operator")
    workable.add_recruiter(connection.recruiter.email)
    return connection.id


async def resumed_and_linked(linker: Linker, connection_id: str) -> None:
    """Resume it; then it has to be linked soon."""
    await linker.record(connection_id, lambda _: happened.Resumed(), actor="operator")

    async def linked() -> bool:
        return (await linker.get(connection_id)).state is ConnectionState.LINKED

    await until(linked)


async def test_an_operators_word_wakes_an_idle_worker(url: str, woken: asyncio.Event) -> None:
    """What is due at once by somebody's doing elsewhere is attended long before the next heartbeat."""
    workable = ScriptedWorkable()
    async with a_linker(url, workable) as web, a_linker(url, workable) as worker:
        connection_id = await paused(web, workable)
        async with worker.heartbeat():
            await until_idle(worker, woken)
            await resumed_and_linked(web, connection_id)


async def test_what_falls_due_soon_is_planned(url: str, woken: asyncio.Event) -> None:
    """A person meets a Workable that is down: the worker tries again when its second is over, not in an hour."""
    workable = ScriptedWorkable()
    workable.will_say(Unavailable())
    async with a_linker(url, workable) as web, a_linker(url, workable) as worker:
        connection = await web.create(owner="acme")
        async with worker.heartbeat():
            await until_idle(worker, woken)
            await web.submit_token(connection.id, subdomain="acme", token="a-token-of-acme")

            async def accepted() -> bool:
                return (await web.get(connection.id)).account is not None

            await until(accepted)


@pytest.mark.parametrize("name", ["opened", "token.accepted"])
async def test_an_announcement_wakes_who_delivers_it(url: str, woken: asyncio.Event, name: str) -> None:
    """The process that has the handlers hears of what another one wrote, from the first announcement on."""
    told = asyncio.Event()
    workable = ScriptedWorkable()
    async with a_linker(url, workable) as web, a_linker(url, workable) as worker:
        connection = await web.create(owner="acme")
        submit = partial(web.submit_token, connection.id, subdomain="acme", token="a-token-of-acme")

        @worker.on(name)
        async def tell(announcement: object) -> None:
            told.set()

        async with worker.heartbeat():
            await until_idle(worker, woken)
            told.clear()
            await (web.create(owner="globex") if name == "opened" else submit())
            async with asyncio.timeout(SOON):
                await told.wait()


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_listener_that_lost_its_server_listens_again(url: str, woken: asyncio.Event) -> None:
    """A cut connection costs the words that were said meanwhile; the next ones are heard."""
    workable = ScriptedWorkable()
    cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    async with a_linker(url, workable) as web, a_linker(url, workable) as worker:
        connection_id = await paused(web, workable)
        async with worker.heartbeat():
            await until_idle(worker, woken)
            woken.clear()
            assert await parts(web).database.write(lambda transaction: transaction.execute(cut).all())
            await until_idle(worker, woken)
            await resumed_and_linked(web, connection_id)


async def test_the_servers_time_is_everybodys(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is five minutes off tells the server's time once it was read, and keeps pace with it."""
    off = time.time() + 300
    monkeypatch.setattr("linker.persistence.server_clock.time.time", lambda: off)
    database = Database(postgres_url)
    clock = DatabaseClock(database)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds() - 300) < 60
    await clock.read()
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 60
    database.close()


async def written(linker: Linker, statement: Update) -> None:
    """Execute a statement past the linker."""
    await parts(linker).database.write(lambda transaction: transaction.execute(statement))


@pytest.mark.parametrize("jump", [-3600.0, 3600.0], ids=["back", "ahead"])
async def test_a_machine_whose_clock_jumps_attends_what_is_due_by_the_servers(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """The server's time is read before each pass: neither is anybody forgotten, nor asked for before their time."""
    schema.upgrade(database := Database(postgres_url))
    database.close()
    workable = ScriptedWorkable()
    async with a_linker(postgres_url, workable) as linker:
        for subdomain, due_in in (("due", timedelta(minutes=-1)), ("not-due", timedelta(minutes=30))):
            connection = await waiting(linker, subdomain)
            this = CONNECTION.update().where(CONNECTION.c.id == connection.id)
            await written(linker, this.values(due_at=datetime.now(UTC) + due_in))
        machine = SimpleNamespace(time=lambda: time.time() + jump, monotonic=lambda: time.monotonic() + jump)
        monkeypatch.setattr("linker.persistence.server_clock.time", machine)
        workable.asked.clear()
        await linker.attend_due()
        assert workable.asked == [("look", "due")]


async def test_a_given_clock_is_the_time_also_on_postgres(postgres_url: str) -> None:
    """Hosts' tests set the time themselves."""
    clock = SettableClock()
    settings = Settings(database_url=postgres_url, secret_keys=(KEY,))
    assert Linker(settings, clock=clock, workable=ScriptedWorkable()).clock is clock
