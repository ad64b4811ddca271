"""docs/howto/fastapi.md as it stands: a real server, reached over a real socket."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from linker.sandbox import seed
from tests.acceptance.commands import until
from tests.acceptance.hosting import Host, Running, add_recruiter, hosted

pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The page's host, with a heartbeat that does not let the test wait."""
    with hosted("fastapi", tmp_path) as host:
        host.settings["LINKER_SWEEP_SECONDS"] = "0.2"
        yield host


def address(server: Running) -> str:
    """Where the server listens, once it does."""
    server.until_said("Uvicorn running on ")
    found = re.search(r"Uvicorn running on (\S+)", server.said)
    assert found is not None
    return found[1]


def test_the_heartbeat_in_a_lifespan_links_an_account(host: Host) -> None:
    """Through the host's routes a customer opens, submits and confirms too early; then the heartbeat links it."""
    serving = host.page.commands[-1]
    with host.started(f"{serving} --port 0") as server, httpx.Client(base_url=address(server), timeout=30) as browser:
        opened = browser.post("/connections").json()
        assert (opened["state"], opened["problem"]) == ("awaiting_token", None)
        here = f"/connections/{opened['id']}"

        submitted = browser.post(f"{here}/token", json={"subdomain": seed.ACME, "token": seed.ACME_TOKEN}).json()
        assert submitted["state"] == "awaiting_recruiter"
        confirmed = browser.post(f"{here}/confirm").json()
        assert (confirmed["state"], confirmed["problem"]) == ("awaiting_recruiter", "recruiter_absent")
        assert "not in Workable yet" in confirmed["message"]

        add_recruiter(host.world, submitted["recruiter"]["email"])
        until(lambda: browser.get(here).json()["state"] == "linked")
        server.until_said("linked: Acme Robotics")
        assert server.stop() in {0, -signal.SIGTERM}, server.said  # uvicorn passes the signal on to itself
        assert "Traceback" not in server.said
        assert seed.ACME_TOKEN not in server.said


@pytest.mark.parametrize(
    ("given", "field"), [({"subdomain": "acme"}, "token"), ({"token": "canary-token"}, "subdomain")]
)
def test_errors_become_answers(host: Host, given: dict[str, str], field: str) -> None:
    """What is missing is named and the token is not repeated; what is not there is 404."""
    with (
        host.started(f"{host.page.commands[-1]} --port 0") as server,
        httpx.Client(base_url=address(server), timeout=30) as browser,
    ):
        connection_id = browser.post("/connections").json()["id"]
        answer = browser.post(f"/connections/{connection_id}/token", json=given)
        assert answer.status_code == 422
        assert answer.json()["code"] == "bad_input"
        assert answer.json()["field"] == field
        assert answer.json()["action"]
        assert "canary" not in answer.text
        assert browser.get("/connections/con_unknown").status_code == 404
        assert browser.post(f"/connections/{connection_id}/confirm").status_code == 409


def test_a_browser_is_told_nothing_of_our_side(host: Host, tmp_path: Path) -> None:
    """Neither of a lost key, which is a problem of the connection, nor of a database that is gone."""
    with (
        host.started(f"{host.page.commands[-1]} --port 0") as server,
        httpx.Client(base_url=address(server), timeout=30) as browser,
    ):
        opened = browser.post("/connections").json()
        here = f"/connections/{opened['id']}"
        database = Path(host.settings["LINKER_DATABASE_URL"].removeprefix("sqlite:///"))
        with sqlite3.connect(database) as raw:
            params = json.dumps({"fault": "key_missing.not_set", "connection": opened["id"], "key": "canary99"})
            put = "problem_code = 'poisoned', problem_since = created_at, problem_params = ?"
            raw.execute(f"UPDATE linker_connection SET {put}", [params])  # noqa: S608 - made here
        raw.close()
        shown = browser.get(here)
        assert (shown.status_code, shown.json()["problem"]) == (200, "poisoned")
        assert "canary99" not in shown.text
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
        gone = browser.get(here)
        assert gone.status_code in {500, 503}
        assert gone.json() == {"code": "our_side", "message": "This does not work at the moment. Nothing is lost."}
        server.until_said("linker: ")
