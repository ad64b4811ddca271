"""The ground that tests on PostgreSQL stand on."""

import os

import psycopg
import pytest
import sqlalchemy as sa

from tests.postgres import PostgresServer, running_postgres


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection, past SQLAlchemy."""
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_database_is_reached_by_sqlalchemy(database_url: str) -> None:
    """The URL of either engine opens an empty database."""
    engine = sa.create_engine(database_url)
    try:
        assert sa.inspect(engine).get_table_names() == []
    finally:
        engine.dispose()


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_its_own_database(postgres_url: str, turn: int) -> None:
    """What one test writes, the next one does not see."""
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE mine AS SELECT %s::int AS turn", [turn])
        assert connection.execute("SELECT turn FROM mine").fetchall() == [(turn,)]


def test_database_is_copied_from_a_template(postgres_server: PostgresServer) -> None:
    """A database made from a template has all that the template has."""
    with postgres_server.database() as template:
        with connect(template) as connection:
            connection.execute("CREATE TABLE brought AS SELECT 7 AS number")
        with (
            postgres_server.database(template=template.rsplit("/", 1)[1]) as copy,
            connect(copy) as connection,
        ):
            assert connection.execute("SELECT number FROM brought").fetchall() == [(7,)]


def test_database_is_dropped_under_open_connections(postgres_server: PostgresServer) -> None:
    """A test that forgot a connection does not keep its database alive."""
    with postgres_server.database() as url:
        forgotten = connect(url)
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    forgotten.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(url)


@pytest.mark.parametrize("kill", [False, True], ids=["asked", "killed"])
def test_what_is_committed_survives_a_restart(postgres_server: PostgresServer, postgres_url: str, kill: bool) -> None:
    """A restart cuts the connections, keeps the address, and loses nothing that was committed."""
    before = connect(postgres_url)
    before.execute("CREATE TABLE kept AS SELECT 1 AS number")
    postgres_server.restart(kill=kill)
    with pytest.raises(psycopg.OperationalError):
        before.execute("SELECT 1")
    before.close()
    with connect(postgres_url) as after:
        assert after.execute("SELECT number FROM kept").fetchall() == [(1,)]


def test_a_password_is_asked_for(postgres_server: PostgresServer) -> None:
    """Other people on the machine cannot connect."""
    with pytest.raises(psycopg.OperationalError, match=r"password|no password supplied"):
        psycopg.connect(host="127.0.0.1", port=postgres_server.port, user="postgres", dbname="postgres")


def test_a_server_leaves_nothing_behind() -> None:
    """A second server runs beside the first one; afterwards neither its process nor its folder is there."""
    with running_postgres() as server:
        pid, folder = server.pid, server.folder
        os.kill(pid, 0)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
