import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linker import Linker, new_key
from linker.sandbox import World, running, seed

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)

MOST_LINES = 25


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A sandbox on a real socket, and settings in the environment that lead to it."""
    world = seed.seeded()
    with running(world) as url:
        monkeypatch.setenv("LINKER_WORKABLE_URL", url)
        monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
        monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())
        monkeypatch.setenv("LINKER_SWEEP_SECONDS", "0.2")
        monkeypatch.setenv("LINKER_POLL_FIRST", "0.2")
        yield world


def embedding() -> str:
    """The code that the README gives to hosts."""
    [code] = PYTHON.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return str(code)


def test_the_embedding_of_the_readme_links_an_account(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's code, run as it stands against the sandbox, links an account and calls its handler."""
    code = embedding()
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    told: list[str] = []

    class Done(Exception):
        """Ends the host's endless waiting."""

    class Waiting:
        """What the host waits for: the customer adds the recruiter, and the handler is called."""

        async def wait(self) -> None:
            [email] = re.findall(r"Add in Workable: .* (\S+@\S+)", capsys.readouterr().out)
            world.add_recruiter(seed.ACME, name="Integration", email=email.upper())
            for _ in range(200):
                await asyncio.sleep(0.05)
                told.append(capsys.readouterr().out)
                if "linked: Acme Robotics" in "".join(told) and "['Robot Wrangler', 'Night Watch']" in "".join(told):
                    raise Done

    monkeypatch.setattr("getpass.getpass", lambda _: seed.ACME_TOKEN)
    names: dict[str, Any] = {"__name__": "host"}
    code = code.replace("asyncio.Event()", "Waiting()")
    names["Waiting"] = Waiting
    with pytest.raises(Done):
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the README's own code
    assert isinstance(names["linker"], Linker)


def test_the_embedding_of_the_readme_says_what_is_wrong_with_a_token(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code with a token that nobody has: it ends, with the words for the customer."""
    assert not world.requests()
    monkeypatch.setattr("getpass.getpass", lambda _: "a-token-that-nobody-has")
    exec(compile(embedding(), "README.md", "exec"), {"__name__": "host"})  # noqa: S102 - the README's own code
    said = capsys.readouterr().out
    assert "Workable does not accept this API token. Copy the whole token again" in said


async def test_the_test_of_the_tutorial_passes() -> None:
    """The test that the tutorial shows to hosts passes as it stands."""
    codes = PYTHON.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(compile(codes[-1], "tutorial.md", "exec"), names)  # noqa: S102 - the tutorial's own code
    await names["test_a_customer_is_linked"]()
