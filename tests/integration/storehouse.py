"""What the tests of the store build with: connections, leases, settlements, and houses to keep them in."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from linker.cli.exit_codes import in_command_line_words
from linker.database.database import Database
from linker.engine.ports import Lease, Settlement
from linker.errors import LinkerError
from linker.outbox.outbox_store import OutboxStore
from linker.persistence.connection_store import ConnectionStore
from linker.wording import describe
from states.connection import Account, Connection, ConnectionState, Credential, Recruiter
from states.history import Step

#: A moment that every test of the store can take for now; it keeps its microseconds.
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

_numbers = itertools.count(1)


class House:
    """A database with the schema in it, and as many workers' stores on it as a test likes."""

    def __init__(self, url: str) -> None:
        """Take the URL; nothing is opened yet."""
        self.url = url
        self.database = Database(url)
        self._open = [self.database]

    @property
    def store(self) -> ConnectionStore:
        """The store."""
        return ConnectionStore(self.database)

    @property
    def outbox(self) -> OutboxStore:
        """The announcements."""
        return OutboxStore(self.database)

    def another(self) -> ConnectionStore:
        """The store as another worker has it: with connections of its own, as far as the database can have them."""
        if self.url == "sqlite://":
            return self.store
        self._open.append(Database(self.url))
        return ConnectionStore(self._open[-1])

    def close(self) -> None:
        """Close all databases; a second time does nothing."""
        while self._open:
            self._open.pop().close()

    async def sql(self, statement: str, **values: Any) -> list[Any]:
        """Execute a statement past the store; gives the rows, if there are any."""

        def work(transaction: sa.Connection) -> list[Any]:
            result = transaction.execute(sa.text(statement), values)
            return list(result) if result.returns_rows else []

        return await self.database.write(work)


@contextmanager
def opened(url: str) -> Iterator[House]:
    """The house at a URL, for one block."""
    house = House(url)
    try:
        yield house
    finally:
        house.close()


def fresh_id() -> str:
    """An id that no other connection has."""
    return f"con_{next(_numbers)}_{secrets.token_hex(6)}"


def a_connection(**facts: Any) -> Connection:
    """A connection as it is when it was just opened, with these facts instead."""
    given: dict[str, Any] = {"id": fresh_id(), "owner": "acme", "created_at": NOW, "state_since": NOW, **facts}
    return Connection(**given)


def a_credential(key_id: str = "k1") -> Credential:
    """A credential whose token is sealed with a key of this id; it does not open."""
    return Credential(subdomain="acme", sealed=f"v1.{key_id}.{secrets.token_hex(8)}", fingerprint="0badcafe")


def an_account(account_id: str | None = None) -> Account:
    """An account of Workable's."""
    return Account(id=account_id or secrets.token_hex(8), name="Acme", subdomain="acme")


def a_recruiter(email: str | None = None) -> Recruiter:
    """A recruiter with an e-mail that nobody else has."""
    return Recruiter(name="Integration", email=email or f"ats+{secrets.token_hex(8)}@example.com")


def a_step(before: Connection, after: Connection, *, event: str = "something_happened", at: datetime = NOW) -> Step:
    """The step from one to the other."""
    return Step(event=event, source=before.state, target=after.state, at=at, actor="test")


def opening(connection: Connection) -> Settlement:
    """What `ConnectionStore.add` takes."""
    step = Step(event="opened", source=None, target=connection.state, at=connection.created_at, actor="test")
    return Settlement(before=connection, after=connection, step=step)


def change(before: Connection, *, announcement: str | None = None, silent: bool = False, **facts: Any) -> Settlement:
    """What `ConnectionStore.settle` takes: these facts are new. `silent`: without a step."""
    after = replace(before, **facts)
    step = None if silent else a_step(before, after)
    return Settlement(before=before, after=after, step=step, announcement=announcement)


def a_lease(holder: str = "worker-1", *, until: datetime = NOW + MINUTE) -> Lease:
    """A lease; by default for a minute from `NOW`."""
    return Lease(holder=holder, until=until)


async def kept(house: House, **facts: Any) -> Connection:
    """A connection with these facts, as it is read back from the store."""
    return await house.store.add(opening(a_connection(**facts)))


async def kept_due(house: House, count: int) -> list[Connection]:
    """Connections that fell due one second after the other, the last one just now."""
    first = NOW - count * SECOND
    return [await kept(house, due_at=first + number * SECOND) for number in range(1, count + 1)]


async def locks_waited_for(house: House) -> int:
    """How many statements wait for somebody else's lock, as PostgreSQL says."""
    [(waiting,)] = await house.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return int(waiting)


async def until_a_lock_is_waited_for(house: House) -> None:
    """Return once a statement waits for somebody else's lock."""
    for _ in range(1_000):
        if await locks_waited_for(house):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


def linked(before: Connection, **options: Any) -> Settlement:
    """The settlement that links a connection."""
    return change(before, state=ConnectionState.LINKED, state_since=NOW, linked_at=NOW, due_at=None, **options)


#: Words that only a statement has, or SQLAlchemy's remarks about one.
STATEMENT_WORDS = (
    "[SQL",
    "[parameters",
    "INSERT INTO",
    "UPDATE linker_connection",
    "SELECT ",
    "sqlalche.me",
    "RETURNING",
)


#: Which error is expected.
Raised = TypeVar("Raised", bound=LinkerError)


def assert_fit_for_people(error: LinkerError, *, reason: str, location: str, never: tuple[str, ...] = ()) -> None:
    """The error says what and what next; where, says who knows the readers; there is no statement and no secret in it.

    Nor is there in what is chained to it.
    """
    words, hint = in_command_line_words(error)
    assert error.reason == reason
    assert str(error).startswith(str(describe(error)))
    assert describe(error).message.endswith(".")
    assert f"{words.action}{hint or ''}".endswith(".")
    for text in (str(error), str(error.params), str(words)):
        for word in (*STATEMENT_WORDS, *never, location):
            assert word not in text
    assert error.__cause__ is None
    assert error.__context__ is None


def raised_by(action: Callable[[], object], kind: type[Raised]) -> Raised:
    """The error that an action raises, which has to be of this kind."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


async def caught(awaitable: Any, kind: type[LinkerError]) -> LinkerError:
    """The error that something awaited raises, which has to be exactly of this kind."""
    with pytest.raises(LinkerError) as raised:
        await awaitable
    assert type(raised.value) is kind, raised.value
    return raised.value


async def assert_as_before(house: House, before: Connection) -> None:
    """The connection is as it was, its history too, and nothing is announced."""
    assert await house.store.get(before.id) == before
    assert [step.seq for step in await house.store.history(before.id)] == list(range(1, before.last_seq + 1))
    assert await house.sql("SELECT count(*) FROM linker_outbox") == [(0,)]
