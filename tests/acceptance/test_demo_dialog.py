"""`linker demo --dialog`, as a process: a product, the dialog and a sandbox, until a signal."""

import json
import signal
from pathlib import Path

import httpx

from linker.sandbox import seed
from tests.acceptance.commands import Terminal


def test_the_demonstration_serves_all_three_until_a_signal(tmp_path: Path) -> None:
    """Pressing “Connect” on the host's page leads to a link of the dialog; after a signal nothing is left."""
    with Terminal(tmp_path).started("demo", "--dialog", "--json") as process:
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
        at = json.loads("".join(lines))
        assert "Connect Workable" in httpx.get(at["url"]).text
        link = httpx.post(f"{at['url']}/connect").headers["location"]
        assert link.startswith(f"{at['dialog']}/c/lnk_")
        assert httpx.get(link).status_code == 200
        page, _, secret = link.partition("#")
        entry = {"secret": secret, "do": "token", "subdomain": "acme", "token": seed.ACME_TOKEN_REVOKED}
        stands = [(httpx.post(page, data=entry), httpx.get(f"{at['url']}/told").json()["stands"])[1] for _ in range(2)]
        assert stands == [
            "A token was given, but it cannot be used. Workable does not accept this API token.",
            "2 tokens were given, but the last one cannot be used. Workable does not accept this API token.",
        ]
        assert "acme" in httpx.get(at["sandbox"].replace("/_sandbox", "/_sandbox/api/world")).text
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not list(tmp_path.glob("linker-demo-*"))
