"""Prometheus itself takes what `config/` has for it: the rules fire when they should, on what a worker serves."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from linker.encryption import new_key
from linker.sandbox import running, seed
from tests.acceptance.commands import PATIENCE, ROOT, Terminal, until

pytestmark = pytest.mark.slow

RULES = ROOT / "config" / "alerts.yaml"
CASES = Path(__file__).with_name("alerts.test.yaml")
TOKEN = "a-token-of-acme-that-works"
#: Expressions of the dashboard that have nothing to show where nothing goes wrong and no person was served.
SILENT = ("submit_token|confirm_recruiter|restart",)


def test_each_alert_fires_when_it_should_and_only_then(prometheus: Path) -> None:
    """Prometheus' own tool plays the cases; each alert has one in which it fires, and one in which it does not."""
    ran = subprocess.run([prometheus / "promtool", "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    alerts = {rule["alert"] for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]}
    cases = [case for each in yaml.safe_load(CASES.read_text("utf-8"))["tests"] for case in each["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


class Prometheus:
    """A server that scrapes one target every second."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, path: str, **query: str) -> Any:
        """What the API answers."""
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=query, trust_env=False)
        told = answer.json()
        assert told["status"] == "success", told
        return told["data"]

    def is_up(self) -> bool:
        """True once it answers, and has scraped its target without trouble."""
        try:
            ready = httpx.get(f"{self._url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False
        return ready and [target["health"] for target in self("targets")["activeTargets"]] == ["up"]


@contextmanager
def scraping(binaries: Path, folder: Path, target: str) -> Iterator[Prometheus]:
    """Run a server with the rules of `config/`."""
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "linker", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"config.file": folder / "prometheus.yaml", "storage.tsdb.path": folder, "web.listen-address": address}
    command = [str(binaries / "prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_a_server_scrapes_a_worker(prometheus: Path, tmp_path: Path) -> None:
    """Every rule is reckoned without an error and none fires; every panel of the dashboard has something to show."""
    world = seed.seeded()
    world.add_token("acme", TOKEN)
    with running(world) as workable:
        settings = {"secret_keys": new_key().get_secret_value(), "workable_url": workable, "sweep_seconds": "0.2"}
        linker = Terminal(tmp_path, settings | {"poll_first": "0.5"})
        connection = linker("open", "--owner", "customer-1", "--json").json["id"]
        assert linker("submit", connection, "--subdomain", "acme", stdin=TOKEN).code == 0
        assert linker("confirm", connection, "--json").json["problem"]["code"] == "recruiter_absent"
        with linker.started("worker", "--metrics-port", "0") as worker:
            target = httpx.URL(json.loads(worker.stderr.readline())["metrics"]).netloc.decode()
            with scraping(prometheus, tmp_path, target) as server:
                until(server.is_up)
                until(lambda: all(rule["health"] != "unknown" for rule in rules(server)))
                assert [(rule["name"], rule["lastError"]) for rule in rules(server) if rule["health"] != "ok"] == []
                shown = [panel for panel in panels() if not any(sign in panel for sign in SILENT)]
                until(lambda: all(server("query", query=panel)["result"] for panel in shown))
                assert [rule["name"] for rule in rules(server) if rule["state"] == "firing"] == []


def rules(server: Prometheus) -> list[Any]:
    """The rules, as the server sees them."""
    [group] = server("rules")["groups"]
    return list(group["rules"])


def panels() -> list[str]:
    """The expressions of the dashboard, over as long as a rate needs here."""
    board = json.loads((ROOT / "config" / "dashboard.json").read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [expression.replace("$__rate_interval", "10s") for expression in shown]
