"""`linker link`, `links` and `dialog`, as processes."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from linker import new_key
from linker.sandbox import running, seed
from tests.acceptance.commands import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal with a database and a key."""
    settings = {
        "database_url": f"sqlite:///{tmp_path / 'linker.db'}",
        "secret_keys": new_key().get_secret_value(),
        "workable_url": "http://127.0.0.1:9/{subdomain}",
    }
    return Terminal(tmp_path, settings)


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


def test_the_dialog_is_served_until_a_signal(terminal: Terminal) -> None:
    """With links of the command line, from the token to linked; its log shows no secret; it ends as it is asked to."""
    with running(seed.seeded()) as workable_url:
        terminal.settings |= {"workable_url": workable_url, "permissions": "r_jobs,r_candidates"}
        connection = opened(terminal)
        with terminal.started("dialog", "--port", "0", "--json") as process:
            lines: list[str] = []
            while not lines or lines[-1] != "}\n":
                lines.append(process.stdout.readline())
            base = json.loads("".join(lines))["url"]
            made = terminal("link", connection, "--plain", "--json", public_url=base).json

            def send(**fields: str) -> Any:
                data = {"secret": made["url"].rpartition("/")[2], **fields}
                return httpx.post(made["url"], data=data, follow_redirects=True, timeout=30)

            assert "Paste your API token" in send(do="subdomain", subdomain="acme").text
            lacking = send(do="token", token=seed.ACME_TOKEN_WITHOUT_SCOPE)
            assert "This token lacks the permission r_jobs" in lacking.text
            assert "external recruiter" in send(do="token", token=seed.ACME_TOKEN, lifetime="1y").text
            shown = terminal("show", connection)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            log = process.stderr.read()
    assert "needs r_jobs, r_candidates" in shown.out
    assert r"/c/\u2026" in log
    assert made["url"].rpartition("/")[2] not in log
    assert seed.ACME_TOKEN not in log


def test_a_port_that_is_taken_is_named(terminal: Terminal) -> None:
    """With what to do instead."""
    with running(seed.seeded()) as url:
        ran = terminal("dialog", "--port", url.rpartition(":")[2].partition("/")[0], "--json")
    assert (ran.code, ran.error["field"]) == (2, "port")
