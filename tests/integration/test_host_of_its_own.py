"""A host with dependencies, sessions, tables and migrations of its own: with us in one process and one database.

It runs with the newest versions of what we need and with the lowest ones (`scripts/test --lowest`).
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, SecretStr
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from linker import Linker, LinkerError, NotFound, Settings, connection_json, describe, new_key
from linker.database.database import Database
from linker.database.urls import parse_url
from linker.persistence import schema
from linker.persistence.tables import Table
from linker.testing import ScriptedWorkable


class Base(DeclarativeBase):
    """The host's own metadata."""


class HostConnection(Base):
    """A table of the host's that has a name which ours had once."""

    __tablename__ = "connection"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    linker_id: Mapped[str | None]


ENV = '''
from alembic import context
from sqlalchemy import NullPool, create_engine
from tests.integration.test_host_of_its_own import Base

def include_name(name, kind, parents):
    """What docs/howto/database.md tells hosts to write."""
    return not (kind == "table" and name.startswith("linker_"))

with create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
'''


@pytest.fixture
def alembic(tmp_path: Path, database_url: str) -> Config:
    """The host's own Alembic: no revision yet."""
    folder = tmp_path / "hosts_migrations"
    config = Config(tmp_path / "alembic.ini", stdout=io.StringIO())
    command.init(config, str(folder))
    config.set_main_option("script_location", str(folder))
    url = parse_url(database_url).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    (folder / "env.py").write_text(ENV)
    return config


class Given(BaseModel):
    """What the host's page posts."""

    subdomain: str
    token: SecretStr


def application(linker: Linker, engine: sa.Engine) -> FastAPI:
    """The host: its own session and our linker in one request."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with linker, linker.heartbeat():
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/customers/{customer}/workable")
    async def link(customer: str, given: Given) -> dict[str, Any]:
        made = await linker.create(owner=customer, key="workable")
        with Session(engine) as session:
            session.add(HostConnection(customer=customer, linker_id=made.id))
            session.commit()
        try:
            return connection_json(await linker.submit_token(made.id, subdomain=given.subdomain, token=given.token))
        except LinkerError as error:
            raise HTTPException(400, describe(error).message) from error

    @app.get("/workable/{connection_id}")
    async def look(connection_id: str) -> dict[str, Any]:
        try:
            return connection_json(await linker.get(connection_id))
        except NotFound as error:
            raise HTTPException(404, describe(error).message) from None

    return app


def migrate_both(database_url: str, alembic: Config, *, ours_first: bool) -> None:
    """Bring the host's tables and ours up, by its Alembic and ours; its next revision would touch none of ours."""
    ours = Database(database_url)
    if ours_first:
        schema.upgrade(ours)
    command.revision(alembic, "the first", autogenerate=True)
    command.upgrade(alembic, "head")
    schema.upgrade(ours)
    again = command.revision(alembic, "nothing changed", autogenerate=True)
    assert "linker_" not in Path(again.path).read_text()  # type: ignore[union-attr]
    command.upgrade(alembic, "head")
    ours.close()


@pytest.mark.parametrize("order", ["the host first", "we first"])
async def test_a_host_and_we_share_a_process_and_a_database(database_url: str, alembic: Config, order: str) -> None:
    """Its migrations and ours, its sessions and ours, its table `connection` and ours: none knows of the other."""
    migrate_both(database_url, alembic, ours_first=order == "we first")
    engine = sa.create_engine(parse_url(database_url))
    linker = Linker(Settings(database_url=database_url, secret_keys=(new_key(),)), workable=ScriptedWorkable())
    app = application(linker, engine)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as browser,
    ):
        refused = await browser.post("/customers/a/workable", json={"subdomain": "a b", "token": "a-token-of-acme"})
        assert refused.status_code == 400
        assert refused.json() == {"detail": "It holds blanks, line breaks or control characters."}
        linked = await browser.post("/customers/a/workable", json={"subdomain": "acme", "token": "a-token-of-acme"})
        assert linked.json()["state"] == "awaiting_recruiter"
        looked = await browser.get(f"/workable/{linked.json()['id']}")
        assert looked.json()["recruiter"] == linked.json()["recruiter"]
        assert (await browser.get("/workable/con_nobody")).json() == {"detail": "There is no connection 'con_nobody'."}
    with Session(engine) as session:
        rows = session.scalars(sa.select(HostConnection)).all()
        assert [row.linker_id for row in rows] == [linked.json()["id"]] * 2
    there = set(sa.inspect(engine).get_table_names())
    assert there == {"alembic_version", "connection", *Table.metadata.tables}
    command.downgrade(alembic, "base")
    assert sa.inspect(engine).has_table("linker_connection")
    engine.dispose()


def test_our_tables_are_in_no_metadata_of_the_hosts() -> None:
    """A host that makes all of its tables does not make ours."""
    assert list(Base.metadata.tables) == ["connection"]
