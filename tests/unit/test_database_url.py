"""The URL of a database: what is taken, what it means, and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from linker.database.database import Database
from linker.errors import BadSettings
from linker.persistence.connection_store import ConnectionStore
from linker.wording import describe


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///linker.db", "sqlite"),
        ("sqlite+aiosqlite:///linker.db", "sqlite"),
        ("postgresql://u:p@h/n", "postgresql+psycopg"),
        ("postgres://u:p@h/n", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h/n", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/n", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h/n", "postgresql+psycopg"),
    ],
)
def test_the_url_of_a_hosts_own_driver_means_the_same(given: str, driver: str) -> None:
    """A host may hand over the URL that it uses itself: we reach the database by our driver."""
    database = Database(given)
    assert database.url.drivername == driver
    assert ":p@" not in database.name
    database.close()


@pytest.mark.parametrize(
    "given", ["", "linker.db", "mysql://u:canary@h/n", "postgresql://u:canary@h:port/n", "http://x"]
)
def test_a_url_that_is_none_is_refused_without_showing_it(given: str) -> None:
    """Only SQLite and PostgreSQL; the error names the setting and what it takes."""
    with pytest.raises(BadSettings, match=r"^database_url: .*Use sqlite:///linker\.db or postgresql://") as raised:
        Database(given)
    assert (raised.value.field, raised.value.reason, raised.value.params) == ("database_url", "unknown_engine", {})
    assert "canary" not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///linker.db"])
def test_only_postgresql_has_schemas(given: str) -> None:
    """A schema that would be silently left out is refused."""
    with pytest.raises(BadSettings) as raised:
        Database(given, "integrations")
    assert (raised.value.field, raised.value.reason, raised.value.params) == ("database_schema", "no_schemas", {})
    assert str(raised.value) == "database_schema: Only PostgreSQL has schemas. Leave it out."


@pytest.mark.parametrize("given", ["canary", "-1", "1.5"])
def test_a_threshold_that_is_none_is_refused(given: str) -> None:
    """The setting is named, with what a pooler needs, and nothing of the URL is shown."""
    with pytest.raises(BadSettings) as raised:
        Database(f"postgresql://u:canary@h/n?prepare_threshold={given}")
    assert (raised.value.field, raised.value.reason, raised.value.params) == ("database_url", "not_a_threshold", {})
    assert "prepare_threshold=none" in describe(raised.value).action
    assert "canary" not in str(raised.value)


def test_a_store_opens_nothing_by_itself(tmp_path: Path) -> None:
    """Making a database object touches no file."""
    database = Database(f"sqlite:///{tmp_path / 'linker.db'}")
    ConnectionStore(database)
    database.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["postgresql://u:SEKRET@h/db", "postgresql://h/db?user=u&password=SEKRET"])
def test_no_password_is_shown(url: str) -> None:
    """The name of a database holds no password, wherever in the URL it stands."""
    database = Database(url)
    assert "SEKRET" not in database.name
    database.close()
