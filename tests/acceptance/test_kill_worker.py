"""kill -9 of a worker at every commit, every call and every handler: everything arrives, and nothing comes twice."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from linker.database.database import Database
from linker.persistence import schema
from tests.acceptance.killing import BEGAN, LEASE, Nursery, Scene, gather_cast, nursery
from tests.acceptance.stage import Theatre, open_theatre

pytestmark = pytest.mark.slow

#: The points are shared out over so many tests, so that several processes of pytest can take part.
SHARES = 4

#: State and problem of each one of the cast at the end.
ARRIVALS = {
    "abandoned": ("failed", "abandoned"),
    "overdue": ("failed", "recruiter_overdue"),
    "healthy": ("linked", None),
    "removed": ("awaiting_recruiter", "recruiter_removed"),
    "revoked": ("failed", "token_revoked"),
    "replacing": ("linked", None),
    "badly-replacing": ("linked", None),
    "reviving": ("linked", None),
    "found": ("linked", None),
    "absent": ("awaiting_recruiter", "recruiter_absent"),
    "valid": ("linked", None),
    "candidate": ("awaiting_recruiter", "recruiter_absent"),
    "bad-candidate": ("awaiting_token", "token_refused"),
}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """The processes of this file."""
    with nursery(tmp_path_factory.mktemp("nursery")) as started:
        yield started


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandbox of the cast is reached at."""
    with open_theatre() as opened:
        yield opened


def cast_in(database_url: str, theatre: Theatre, processes: Nursery) -> Scene:
    """The cast in a database."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    stage = theatre.stage(database_url, now=datetime.now(UTC) - BEGAN)
    return Scene(stage=stage, nursery=processes, told=asyncio.run(gather_cast(stage)))


@pytest.fixture(scope="module")
def cast(theatre: Theatre, processes: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The cast in an SQLite file, which is only copied."""
    return cast_in(f"sqlite:///{tmp_path_factory.mktemp('cast') / 'cast.db'}", theatre, processes)


@pytest.fixture(scope="module")
def undisturbed(cast: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What becomes of the cast when nobody is killed."""
    return cast.copy(tmp_path_factory.mktemp("undisturbed")).afterwards().summaries()


def test_everybody_arrives_when_nobody_is_killed(undisturbed: dict[str, dict[str, Any]]) -> None:
    """The cast owes everything that can be owed, and each one gets to where it should."""
    assert {owner: (became["state"], became["problem_code"]) for owner, became in undisturbed.items()} == ARRIVALS
    assert undisturbed["badly-replacing"]["replacement_problem_code"] == "token_refused"
    assert [owner for owner, became in undisturbed.items() if became["candidate_fingerprint"]] == []


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_once(cast: Scene, undisturbed: dict[str, dict[str, Any]], tmp_path: Path, share: int) -> None:
    """Wherever a worker dies, the next one brings everything to where it would have come, by the very same steps."""
    killed, die_at = True, 1 + share
    while killed:
        scene = cast.copy(tmp_path)
        ended = scene.play("work", die_at=die_at)
        issued = scene.left().emails()
        found = scene.afterwards()
        assert found.summaries() == undisturbed, (die_at, ended.points[-1])
        assert issued.items() <= found.emails().items(), "what was issued is never changed"
        killed, die_at = ended.killed, die_at + SHARES
    kinds = {point.split()[-1] for point in ended.points}
    assert kinds >= {"write", "commit", "call", "handler"}, "the shares together died at each of them"


def test_killed_again_and_again(cast: Scene, undisturbed: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A worker that dies a little later at each start gets everything done in the end."""
    assert_gets_there(cast.copy(tmp_path), undisturbed)


def test_command_killed_again_and_again(cast: Scene, undisturbed: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """The same with the command `linker worker` itself; it has no handlers, so what it did is announced later."""
    assert_gets_there(cast.copy(tmp_path), undisturbed, do="command")


def test_killed_again_and_again_on_postgres(
    processes: Nursery, undisturbed: dict[str, dict[str, Any]], postgres_url: str
) -> None:
    """The same on PostgreSQL."""
    with open_theatre() as theatre:
        assert_gets_there(cast_in(postgres_url, theatre, processes), undisturbed)


def assert_gets_there(scene: Scene, undisturbed: dict[str, dict[str, Any]], do: str = "work") -> None:
    """Kill at the first point, then at the second one, and so on; each worker begins when the dead one's leases end."""
    deaths, issued, killed = 0, scene.left().emails(), True
    while killed:
        killed = scene.play(do, die_at=deaths + 1, offsets=(deaths * (LEASE + 1),)).killed
        now = scene.left().emails()
        assert issued.items() <= now.items()
        deaths, issued = deaths + 1, now
    assert deaths > 5
    assert scene.afterwards(since=deaths * (LEASE + 1)).summaries() == undisturbed


def test_leases_of_the_dead_are_respected(cast: Scene, tmp_path: Path) -> None:
    """What a dead worker held is left alone until its lease has run out: the worker might only have been slow."""
    points = cast.copy(tmp_path).play("sweep").points
    scene = cast.copy(tmp_path)
    assert scene.play("sweep", die_at=points.index("before a call") + 1).killed
    held = {owner for owner, row in scene.left().connections.items() if row["lease_holder"]}
    assert held
    assert not called_by(scene, "sweep", offset=LEASE / 2) & held
    assert called_by(scene, "sweep", offset=LEASE + 1) & held
    assert not [owner for owner, row in scene.left().connections.items() if row["lease_holder"]]


def called_by(scene: Scene, do: str, *, offset: float) -> set[str]:
    """The accounts that a process calls."""
    before = scene.stage.calls()
    assert not scene.play(do, offsets=(offset,)).killed
    return {entry.subdomain for entry in scene.stage.world.log if entry.number > before}
