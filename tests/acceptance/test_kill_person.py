"""kill -9 of a process in the middle of what a person asked for: a worker finishes it, and nobody pastes twice."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from states.history import ANNOUNCEMENTS
from tests.acceptance.killing import NOBODYS, Nursery, Scene, nursery, one_of, waiting
from tests.acceptance.stage import Stage, Theatre, linked, open_theatre

pytestmark = pytest.mark.slow

EXPIRES_ON = (datetime.now(UTC) + timedelta(days=90)).date().isoformat()


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What a person does, with which connection, and what comes of it at last: state, problem, replacement problem."""

    do: str
    owner: str
    arrives: tuple[str, str | None, str | None]
    token: Callable[[Stage], str] | None = None

    def given(self, scene: Scene) -> dict[str, Any]:
        """What the process is given."""
        given = {"connection": scene.left().connections[self.owner]["id"]}
        if self.token is None:
            return given
        return given | {"token": self.token(scene.stage), "subdomain": self.owner, "expires_on": EXPIRES_ON}


def good(owner: str) -> Callable[[Stage], str]:
    """The newest token of an account."""
    return lambda stage: [each.secret for each in stage.world.tokens if each.subdomain == owner][-1]


def wrong(_: Stage) -> str:
    """A token of no account."""
    return NOBODYS.get_secret_value()


DEEDS = {
    "a good token": Deed(
        do="submit", owner="opened", token=good("opened"), arrives=("awaiting_recruiter", "recruiter_absent", None)
    ),
    "a wrong token": Deed(do="submit", owner="opened", token=wrong, arrives=("awaiting_token", "token_refused", None)),
    "a replacement": Deed(do="submit", owner="linked", token=good("linked"), arrives=("linked", None, None)),
    "a wrong replacement": Deed(do="submit", owner="linked", token=wrong, arrives=("linked", None, "token_refused")),
    "the button": Deed(do="confirm", owner="found", arrives=("linked", None, None)),
    "the button, too early": Deed(
        do="confirm", owner="absent", arrives=("awaiting_recruiter", "recruiter_absent", None)
    ),
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Connections that people have to do with, in an SQLite file that is only copied."""
    database_url = f"sqlite:///{tmp_path_factory.mktemp('people') / 'people.db'}"
    with open_theatre() as theatre, nursery(tmp_path_factory.mktemp("nursery")) as processes:
        yield people_in(database_url, theatre, processes)


def people_in(database_url: str, theatre: Theatre, processes: Nursery) -> Scene:
    """The connections, as they came to be within the last hour."""
    stage = theatre.stage(database_url, now=datetime.now(UTC) - timedelta(hours=1))
    return Scene(stage=stage, nursery=processes, told=asyncio.run(gather_people(stage)))


async def gather_people(stage: Stage) -> list[dict[str, str]]:
    """One connection that was just opened, one that is linked, and two that wait for their recruiter."""
    told: list[dict[str, str]] = []
    async with stage.linker() as linker:
        for name in ANNOUNCEMENTS:
            linker.on(name)(lambda each: told.append({"type": each.type, "message_id": each.message_id}))
        await linker.create(owner="opened")
        stage.token("opened")
        await linked(stage, linker, "linked", "linked")
        stage.token("linked")
        for owner in ("found", "absent"):
            await waiting(stage, linker, owner)
        stage.add_recruiter(await one_of(linker, "found"), subdomain="found")
        await linker.deliver()
    return told


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_killed_at_any_point(people: Scene, tmp_path: Path, deed: Deed) -> None:
    """Wherever the process dies, the outcome is the same once it was recorded, and nothing at all if it was not."""
    untouched = people.copy(tmp_path).afterwards().summary(deed.owner)
    done = outcome(people, tmp_path, deed, die_at=None)
    assert (done["state"], done["problem_code"], done["replacement_problem_code"]) == deed.arrives
    died, die_at = True, 1
    while died:
        scene = people.copy(tmp_path)
        ended = scene.play(deed.do, die_at=die_at, **deed.given(scene))
        recorded = "after a commit" in ended.points
        found = scene.afterwards().summary(deed.owner)
        assert found in ([done, without_answers(done)] if recorded else [untouched]), (die_at, ended.points)
        died, die_at = ended.killed, die_at + 1
    assert die_at > 6


#: Answers that change nothing are written for the person who asked. One who died saw none, and a sweep writes none.
ANSWERS = {"recruiter_absent", "health_confirmed"}


def without_answers(summary: dict[str, Any]) -> dict[str, Any]:
    """What a connection came to, without the steps that only tell a person what was found."""
    told = [step for step in summary["history"] if step[0] not in ANSWERS or step[1] != step[2]]
    return {**summary, "history": told}


def outcome(people: Scene, folder: Path, deed: Deed, *, die_at: int | None) -> dict[str, Any]:
    """What becomes of the connection after the deed."""
    scene = people.copy(folder)
    scene.play(deed.do, die_at=die_at, **deed.given(scene))
    return scene.afterwards().summary(deed.owner)


def test_same_deed_again_after_a_death(people: Scene, tmp_path: Path) -> None:
    """A person who presses again because nothing came back does no harm: the second press gets the same end."""
    deed = DEEDS["the button"]
    scene = people.copy(tmp_path)
    points = scene.play(deed.do, **deed.given(scene)).points
    for die_at in range(1, len(points) + 1):
        scene = people.copy(tmp_path)
        assert scene.play(deed.do, die_at=die_at, **deed.given(scene)).killed
        assert not scene.play(deed.do, offsets=(21.0,), **deed.given(scene)).killed
        found = scene.afterwards().summary(deed.owner)
        assert found["state"] == "linked"
        assert [event for event, *_ in found["history"]].count("recruiter_found") == 1
        assert found["announced"].count("connection.linked") == 1
