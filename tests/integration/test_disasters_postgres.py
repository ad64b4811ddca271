"""A PostgreSQL server that goes, comes back, is another one or may not be written: a clear error, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from linker.database.database import Database
from linker.errors import BadSettings, StoreUnavailable
from linker.persistence import schema
from tests.integration.storehouse import (
    NOW,
    House,
    a_step,
    assert_as_before,
    assert_fit_for_people,
    caught,
    change,
    kept,
    linked,
    opened,
    raised_by,
)
from tests.postgres import PostgresServer


@pytest.fixture
def running(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The server, which runs again afterwards whatever the test did with it."""
    yield postgres_server
    try:
        _ = postgres_server.pid
    except RuntimeError:
        postgres_server.start()


async def test_a_server_that_is_down_is_told_and_comes_back(running: PostgresServer, postgres_house: House) -> None:
    """While it is down every unit of work says so at once; when it is up again the next one works by itself."""
    before = await kept(postgres_house)
    running.stop()
    for writing in (
        postgres_house.store.get(before.id),
        postgres_house.store.settle([change(before, attempts=1)], now=NOW, release=True),
        postgres_house.store.open(),
    ):
        error = await caught(writing, StoreUnavailable)
        secret = str(postgres_house.database.url.password)
        assert_fit_for_people(error, reason="unreachable", location=postgres_house.database.name, never=(secret,))
        assert "cannot be reached" in str(error)
    running.start()
    await assert_as_before(postgres_house, before)


@pytest.mark.parametrize("kill", [False, True], ids=["asked", "killed"])
async def test_a_restart_between_two_units_of_work_goes_unnoticed(
    running: PostgresServer, postgres_house: House, kill: bool
) -> None:
    """Connections that the restart cut are found out before they are used, all of the pool."""
    before = await kept(postgres_house)
    await asyncio.gather(*(postgres_house.store.get(before.id) for _ in range(8)))
    running.restart(kill=kill)
    assert await asyncio.gather(*(postgres_house.store.get(before.id) for _ in range(8))) == [before] * 8
    assert await postgres_house.store.settle([linked(before)], now=NOW, release=True) == [True]


def terminate_others(house: House) -> None:
    """Cut all connections to the database but the one that asks."""

    def work(transaction: sa.Connection) -> None:
        transaction.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with opened(house.url) as killer:
        killer.database.write_here(work)


@pytest.mark.parametrize("moment", ["before a statement", "before the commit"])
async def test_a_connection_that_is_cut_in_a_transaction_leaves_nothing_half_done(
    postgres_house: House, moment: str
) -> None:
    """Facts, step and announcement are written together or not at all; the next unit of work is as if nothing was."""
    before = await kept(postgres_house)
    engine = postgres_house.database.engine
    fired: list[bool] = []

    def cut(*_: Any) -> None:
        if not fired:
            fired.append(True)
            terminate_others(postgres_house)

    def cut_in_time(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO linker_step"):
            cut()

    if moment == "before the commit":
        sa.event.listen(engine, "commit", cut)
    else:
        sa.event.listen(engine, "before_cursor_execute", cut_in_time)
    batch = [linked(before, announcement="connection.linked")]
    error = await caught(postgres_house.store.settle(batch, now=NOW, release=True), StoreUnavailable)
    assert_fit_for_people(error, reason="unreachable", location=postgres_house.database.name)
    assert fired
    await assert_as_before(postgres_house, before)
    assert await postgres_house.store.settle(batch, now=NOW, release=True) == [True]


async def test_a_network_that_is_cut_holds_no_thread_for_hours(postgres_house: House) -> None:
    """The kernel gives up what the server does not acknowledge in time, for each statement and for who listens."""

    def patience(raw: Any) -> int:
        with socket.socket(fileno=os.dup(raw.fileno())) as wire:
            return wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    def pooled(transaction: sa.Connection) -> int:
        return patience(transaction.connection.driver_connection)

    with postgres_house.database.dedicated_connection() as listener:
        milliseconds = [await postgres_house.database.write(pooled), patience(listener)]
    assert all(0 < each <= 60_000 for each in milliseconds), "0 is the kernel's own: a quarter of an hour and more"


async def test_a_wrong_password_is_told_without_showing_it(postgres_house: House) -> None:
    """The error says what the server said, hides the password, and says what to look at."""
    wrong = postgres_house.database.url.set(password="canary-password")
    with opened(wrong.render_as_string(hide_password=False)) as house:
        error = await caught(house.store.open(), StoreUnavailable)
        assert_fit_for_people(error, reason="unreachable", location=house.database.name, never=("canary-password",))
        assert "password authentication failed" in error.params["driver"]
        assert "the database's URL is right" in str(error)
        assert "canary-password" not in repr(house.database) + house.database.name


async def test_a_database_that_does_not_exist_is_told(postgres_house: House) -> None:
    """What the server said is in the error, for logs."""
    missing = postgres_house.database.url.set(database="nowhere_to_be_found")
    with opened(missing.render_as_string(hide_password=False)) as house:
        error = await caught(house.store.open(), StoreUnavailable)
        assert_fit_for_people(error, reason="unreachable", location=house.database.name)
        assert '"nowhere_to_be_found" does not exist' in error.params["driver"]


async def test_a_postgresql_that_may_only_be_read_can_be_read(postgres_house: House) -> None:
    """On a replica, or after a switch-over, reading works and writing says why not."""
    before = await kept(postgres_house)
    with opened(f"{postgres_house.url}?options=-cdefault_transaction_read_only%3Don") as house:
        await house.store.open()
        assert await house.store.find() == [before]
        error = await caught(house.store.settle([change(before, attempts=1)], now=NOW, release=True), StoreUnavailable)
        assert_fit_for_people(error, reason="read_only_server", location=house.database.name)
        assert "read-only" in str(error)
    await assert_as_before(postgres_house, before)


async def test_a_worker_follows_a_switch_over(postgres_house: House) -> None:
    """Who met the server while it was read-only reaches the primary one at the next try, with new connections."""
    before = await kept(postgres_house)
    name = postgres_house.database.url.database
    await postgres_house.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    terminate_others(postgres_house)
    await asyncio.gather(*(postgres_house.store.get(before.id) for _ in range(8)))
    with opened(f"{postgres_house.url}?options=-cdefault_transaction_read_only%3Doff") as operator:
        await operator.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await caught(postgres_house.store.settle([linked(before)], now=NOW, release=True), StoreUnavailable)
    assert await postgres_house.store.settle([linked(before)], now=NOW, release=True) == [True]


@pytest.mark.parametrize(("given", "idle"), [("", 10), ("?keepalives_idle=77", 77)])
async def test_a_server_that_vanished_is_noticed_while_we_wait_for_it(
    postgres_house: House, given: str, idle: int
) -> None:
    """The system asks after a silent server within seconds; a URL that says how is followed."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with opened(postgres_house.url + given) as house, house.database.dedicated_connection() as raw:
        wire = socket.socket(fileno=os.dup(raw.fileno()))
        found = [wire.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        asks = wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        wire.close()
    assert (asks, found) == (1, [idle, 5, 2])


@pytest.mark.parametrize(("given", "threshold"), [("none", None), ("0", 0), ("7", 7)])
async def test_a_pooler_is_served_without_prepared_statements(
    postgres_house: House, given: str, threshold: int | None
) -> None:
    """A pooler in transaction mode gives each transaction another session, which knows no statement of ours."""
    with (
        opened(f"{postgres_house.url}?prepare_threshold={given}") as house,
        house.database.dedicated_connection() as raw,
    ):
        assert raw.prepare_threshold == threshold
        assert await house.store.find() == []
    error = raised_by(lambda: Database(f"{postgres_house.url}?prepare_threshold=often"), BadSettings)
    assert error.reason == "not_a_threshold"
    assert "prepare_threshold=none" in str(error)


async def test_a_database_of_an_older_encoding_takes_what_is_kept_as_json(postgres_house: House) -> None:
    """Whatever alphabet a host's metadata and Workable's answers are in; only columns of text are the encoding's."""
    name = f"latin_{secrets.token_hex(6)}"
    url = postgres_house.database.url.set(database=name).render_as_string(hide_password=False)
    with postgres_house.database.dedicated_connection() as raw:
        raw.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            with opened(url) as house:
                schema.upgrade(house.database)
                before = await kept(house, metadata={"plan": "東京 Škoda"})
                told = change(before, checks=1, announcement="connection.linked")
                said = replace(told, step=replace(told.step or a_step(before, before), evidence={"said": "東京"}))
                assert await house.store.settle([said], now=NOW, release=True) == [True]
                assert (await house.store.history(before.id))[-1].evidence == {"said": "東京"}
                assert (await house.store.get(before.id)).metadata == {"plan": "東京 Škoda"}
        finally:
            raw.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_servers_default_isolation_does_not_matter(postgres_house: House) -> None:
    """Claims count on READ COMMITTED, and ask for it."""
    with opened(f"{postgres_house.url}?options=-cdefault_transaction_isolation%3Dserializable") as house:
        assert await house.sql("SHOW transaction_isolation") == [("read committed",)]


async def test_a_statement_that_takes_too_long_is_tried_again_later(postgres_house: House) -> None:
    """A server that cancels our statement is an outage, not a fault."""
    with opened(f"{postgres_house.url}?options=-cstatement_timeout%3D50") as house:
        error = await caught(house.sql("SELECT pg_sleep(10)"), StoreUnavailable)
        assert_fit_for_people(error, reason="unreachable", location=house.database.name)
