"""The program of docs/howto/use-the-link.md, as it is printed, and what the page says of the sandbox's control API."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linker import Connection, Linker, load_settings, new_key
from linker.sandbox import World, running, seed
from linker.sandbox.app import Sandbox
from tests.acceptance.hosting import page

MOST_LINES = 40


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A sandbox on a socket, and settings in the environment that lead to it."""
    world = seed.seeded()
    with running(world) as url:
        monkeypatch.setenv("LINKER_WORKABLE_URL", url)
        monkeypatch.setenv("LINKER_DATABASE_URL", f"sqlite:///{tmp_path / 'linker.db'}")
        monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())
        yield world


async def linked(world: World) -> Connection:
    """A connection to the sandbox's Acme."""
    async with Linker(load_settings()) as linker:
        connection = await linker.create(owner="customer-42")
        connection = await linker.submit_token(connection.id, subdomain=seed.ACME, token=seed.ACME_TOKEN)
        assert connection.recruiter is not None
        world.add_recruiter(seed.ACME, name=connection.recruiter.name, email=connection.recruiter.email)
        return await linker.confirm_recruiter(connection.id)


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program of the page."""
    return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=60)


def test_the_program_lists_jobs_and_brings_a_candidate(world: World, tmp_path: Path) -> None:
    """Under our recruiter's name; what goes wrong is told."""
    code = page("use-the-link").programs["bring.py"]
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    program = tmp_path / "bring.py"
    program.write_text(code, encoding="utf-8")
    connection = asyncio.run(linked(world))
    assert connection.recruiter is not None
    world.forget_requests()
    said = run(program, connection.id, "ROBOT01", "Ann Example", "ann@example.com")
    [candidate] = world.candidates(seed.ACME)
    assert said.stdout.splitlines() == ["ROBOT01 Robot Wrangler", "NIGHT02 Night Watch", f"brought: {candidate.id}"]
    assert (candidate.name, candidate.recruiter) == ("Ann Example", connection.recruiter.id)
    assert [entry.status for entry in world.log] == [200, 201]
    again = run(program, connection.id, "NOWHERE", "Ann Example", "ann@example.com")
    assert again.returncode == 1
    assert "Workable: 422" in again.stderr
    assert seed.ACME_TOKEN not in said.stdout + said.stderr + again.stderr


def test_the_test_of_the_page_is_one(tmp_path: Path) -> None:
    """What the page shows for a host's own tests passes."""
    [shown] = [code for code in page("use-the-link").snippets if "scripted_client" in code]
    names: dict[str, object] = {}
    exec(compile(shown, "use-the-link.md", "exec"), names)  # noqa: S102 - the docs' own code
    test = names["test_a_candidate_is_brought"]
    assert callable(test)
    asyncio.run(test())


def test_the_page_names_every_change_that_the_control_api_makes() -> None:
    """And no other."""
    told = set(re.findall(r"^\| ((?:`[a-z/]+`(?: · )?)+) \|", page("use-the-link").text, re.MULTILINE))
    named = {name for cell in told for name in re.findall(r"`([a-z/]+)`", cell)}
    routes = {route.path for route in Sandbox(World())._control.routes}  # type: ignore[attr-defined]
    assert named == {path.removeprefix("/_sandbox/api/") for path in routes if "/api/" in path} - {"world", "log"}
