"""kill -9 of a bulk run at each of its commits: resumed, it does each connection once and forgets none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from linker.database.database import Database
from linker.database.urls import parse_url
from linker.persistence import schema
from tests.acceptance.killing import AFTERWARDS, Scene, nursery
from tests.acceptance.stage import open_theatre
from tests.acceptance.test_kill_person import people_in
from tests.postgres import PostgresServer

pytestmark = pytest.mark.slow

#: The verb, whom it is done to, the event of each, and how each ends.
RUNS = {
    "pause": (("opened", "linked", "absent"), "paused", "done"),
    "unlink": (("opened", "linked", "absent"), "unlinked", "done"),
    "advance": (("found",), "recruiter_found", "done"),
}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def copied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Scene]]:
    """Gives connections that an operator has to do with, as they were, in a database that nobody else has open."""
    folder = tmp_path_factory.mktemp("people")
    with open_theatre() as theatre, nursery(tmp_path_factory.mktemp("nursery")) as processes, ExitStack() as databases:
        if request.param == "sqlite":
            people = people_in(f"sqlite:///{folder / 'people.db'}", theatre, processes)
            yield lambda: people.copy(folder)
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = databases.enter_context(server.database())
        with closing(Database(url)) as database:
            schema.upgrade(database)
        people = people_in(url, theatre, processes)
        copies = databases.enter_context(ExitStack())

        def copy() -> Scene:
            copies.close()
            its_url = copies.enter_context(server.database(template=str(parse_url(url).database)))
            return replace(people, stage=replace(people.stage, database_url=its_url))

        yield copy


@pytest.mark.parametrize("verb", RUNS)
def test_a_run_that_is_killed_at_any_commit_is_finished_once(copied: Callable[[], Scene], verb: str) -> None:
    """Before and after each commit of the run; what was killed before its first one was never begun."""
    owners, event, outcome = RUNS[verb]
    whole = played(copied(), verb, owners, die_at=None)
    commits = [number for number, point in enumerate(whole, start=1) if point.endswith("a commit")]
    assert len(commits) >= 2 * (len(owners) + 2)
    for die_at in commits:
        scene = copied()
        played(scene, verb, owners, die_at=die_at)
        later = scene.play("operate", offsets=AFTERWARDS[:1], **given(scene, verb, owners))
        assert not later.killed
        assert asyncio.run(became(scene, owners)) == ("finished", {outcome: len(owners)}, [event] * len(owners)), die_at


def given(scene: Scene, verb: str, owners: tuple[str, ...]) -> dict[str, Any]:
    """What the process is given."""
    connections = scene.left().connections
    return {"verb": verb, "ids": [connections[owner]["id"] for owner in owners]}


def played(scene: Scene, verb: str, owners: tuple[str, ...], *, die_at: int | None) -> list[str]:
    """Let an operator begin a run, and maybe die; gives the points that it came to."""
    ended = scene.play("operate", die_at=die_at, **given(scene, verb, owners))
    assert ended.killed == (die_at is not None)
    return ended.points


async def became(scene: Scene, owners: tuple[str, ...]) -> tuple[str, dict[str, int], list[str]]:
    """How the one operation stands, and what it did to each."""
    connections = scene.left().connections
    async with scene.stage.linker() as linker:
        [operation] = await linker.operations()
        steps = [step for owner in owners for step in await linker.history(connections[owner]["id"])]
    return operation.status, dict(operation.counts), [step.event for step in steps if step.operation == operation.id]
