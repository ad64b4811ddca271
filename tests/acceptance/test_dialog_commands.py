"""`linker dialog` as a process, with a link of `linker link`."""

from __future__ import annotations

import json
import signal
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
