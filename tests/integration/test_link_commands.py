"""`linker link` and `linker links`: what they print, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from linker import new_key
from linker.cli.main import main
from linker.sandbox import running, seed
from tests.acceptance.commands import Ran

Terminal = Callable[..., Ran]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A command line with a database and a key, in this process."""
    monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
    monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())
    monkeypatch.setenv("LINKER_WORKABLE_URL", "http://127.0.0.1:9/{subdomain}")

    def run(*arguments: str, public_url: str | None = None) -> Ran:
        if public_url:
            monkeypatch.setenv("LINKER_PUBLIC_URL", public_url)
        code = main(arguments)
        return Ran(code, *capsys.readouterr())

    return run


def opened(terminal: Terminal) -> str:
    """The id of a new connection."""
    return str(terminal("open", "--owner", "customer-1", "--json").json["id"])


def test_a_link_is_made_listed_and_taken_back(terminal: Terminal) -> None:
    """Its URL is told once; the list has no secret; who takes it back is told of it."""
    connection = opened(terminal)
    given = ("--for", "recruiter", "--expires", "12h", "--contact", "Ann", "--embed-origin", "https://app.example.com")
    made = terminal("link", connection, *given, "--json").json
    assert set(made) == {"id", "url", "expires_at"}
    address, _, secret = made["url"].partition("#")
    assert address == f"http://127.0.0.1:8788/c/{made['id']}"
    hours = (datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)).total_seconds() / 3600
    assert 11.9 < hours <= 12
    plain = terminal("link", connection, "--plain", public_url="https://connect.example.com").out
    assert plain.startswith("https://connect.example.com/c/lnk_")
    assert "#" not in plain.splitlines()[0]
    listed = terminal("links", connection, "--json")
    assert [each["status"] for each in listed.json] == ["open", "open"]
    assert secret not in listed.out
    assert {each["contact"] for each in listed.json} == {"Ann", None}
    again = terminal("links", connection, "--revoke", made["id"])
    assert again.code == 0
    assert "revoked" in again.out


def test_what_cannot_be_is_told_with_its_field(terminal: Terminal) -> None:
    """And no link is made."""
    connection = opened(terminal)
    for arguments, field in (
        (("--for", "everything"), "for"),
        (("--expires", "soon"), "expires"),
        (("--embed-origin", "app.example.com"), "embed_origin"),
    ):
        ran = terminal("link", connection, *arguments, "--json")
        assert (ran.code, ran.error["field"]) == (2, field)
    assert terminal("links", connection, "--json").json == []


def test_there_is_no_link_of_nothing(terminal: Terminal) -> None:
    """Neither of a connection that is not there, nor a link that is not there."""
    connection = opened(terminal)
    assert terminal("link", "con_none").code == 3
    assert terminal("links", "con_none").code == 3
    assert terminal("links", connection, "--revoke", "lnk_none").code == 3


def test_a_port_that_is_taken_is_named(terminal: Terminal) -> None:
    """With what to do instead."""
    with running(seed.seeded()) as url:
        ran = terminal("dialog", "--port", url.rpartition(":")[2].partition("/")[0], "--json")
    assert (ran.code, ran.error["field"]) == (2, "port")


def test_a_link_is_taken_back_from_its_own_connection_alone(terminal: Terminal) -> None:
    """The link of another connection is not found there, and stays open."""
    mine, other = opened(terminal), opened(terminal)
    made = terminal("link", other, "--json").json["id"]
    assert terminal("links", mine, "--revoke", made, "--json").error["code"] == "not_found"
    assert terminal("links", other, "--json").json[0]["status"] == "open"
