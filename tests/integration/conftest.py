"""Databases with the schema in them, for the tests of this folder."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from linker.database.database import Database
from linker.persistence import schema
from linker.persistence.tables import Table
from linker.sandbox import Limit, World, running
from tests.integration.storehouse import House, opened
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_schema(postgres_server: PostgresServer) -> str:
    """The URL of a PostgreSQL database with the schema in it."""
    url = postgres_server.url(postgres_server.create_database())
    _upgrade(url)
    return url


@pytest.fixture
def postgres_house(postgres_schema: str) -> Iterator[House]:
    """An empty house on PostgreSQL."""
    with opened(postgres_schema) as house:
        house.database.write_here(
            lambda transaction: transaction.execute(
                text("TRUNCATE linker_connection, linker_rate_limit, linker_incident CASCADE")
            )
        )
        yield house


@pytest.fixture(scope="session")
def sqlite_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema and nothing else, to be copied."""
    path = tmp_path_factory.mktemp("schema") / "linker.db"
    _upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_house(sqlite_schema: Path, tmp_path: Path) -> Iterator[House]:
    """An empty house in an SQLite file."""
    path = shutil.copy(sqlite_schema, tmp_path / "linker.db")
    with opened(f"sqlite:///{path}") as house:
        yield house


@pytest.fixture
async def memory_house() -> AsyncIterator[House]:
    """An empty house in SQLite's memory; another thread than the database's own would see another one."""
    with opened("sqlite://") as house:
        await house.database.write(Table.metadata.create_all)
        yield house


def _upgrade(url: str) -> None:
    database = Database(url)
    try:
        schema.upgrade(database)
    finally:
        database.close()


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest) -> House:
    """A house of each kind: the test runs once for each."""
    found: House = request.getfixturevalue(f"{request.param}_house")
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def shared_house(request: pytest.FixtureRequest) -> House:
    """A house of each kind that several processes can share."""
    found: House = request.getfixturevalue(f"{request.param}_house")
    return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[World, str]]:
    """A Workable without a limit, on a socket, and the template of its URLs."""
    world = World(limit=Limit.off(), log_length=100_000)
    with running(world) as url:
        yield world, url
