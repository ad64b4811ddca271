"""The recruiter that the customer adds by hand: absent, almost right, in the wrong place, late, removed."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from linker import Announcement, Connection, ConnectionState, Linker, Refused, describe
from linker.persistence.connection_store import ConnectionStore
from linker.serialization import connection_json, step_json
from states.problems import ProblemCode
from tests.acceptance.stage import (
    WINDOW,
    Gate,
    Stage,
    Theatre,
    awaiting_recruiter,
    awaiting_token,
    events,
    linked,
    open_theatre,
    sweep_when_due,
    until,
)

#: Other people's recruiters and members, of whom nothing may be shown.
STRANGERS = {"Desk of Rival Talent": "desk@rival-talent.example", "Jane Roe-Stranger": "jane.roe@stranger.example"}


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandboxes of this file are reached at."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre, sqlite_url: str) -> Stage:
    """A stage on an SQLite file, on whose account strangers have recruiters and logins."""
    made = theatre.stage(sqlite_url)
    made.token()
    for name, email in STRANGERS.items():
        made.world.add_recruiter("acme", name=name, email=email)
        made.world.add_member("acme", name=f"{name} (member)", email=f"member-{email}")
    return made


async def pressed(stage: Stage, linker: Linker, connection: Connection) -> Connection:
    """The customer presses “Set up integration”, some time after the last look."""
    stage.clock.advance(seconds=WINDOW)
    return await linker.confirm_recruiter(connection.id)


async def everything_shown(linker: Linker, connection_id: str, told: list[Announcement]) -> str:
    """All that leaves the program about a connection, as text."""
    shown: list[Any] = [connection_json(await linker.get(connection_id))]
    shown += [step_json(step) for step in await linker.history(connection_id)]
    return json.dumps([*shown, [dict(each.payload) for each in told]], ensure_ascii=False)


def hint(connection: Connection) -> str:
    """What the customer reads beside the problem."""
    assert connection.problem is not None
    assert connection.problem.code is ProblemCode.RECRUITER_ABSENT
    return describe(connection.problem).detail


def email_of(connection: Connection) -> str:
    """The e-mail that was issued."""
    assert connection.recruiter is not None
    return connection.recruiter.email


# found, or nearly


@pytest.mark.parametrize("typed", [str.upper, str.title, str.swapcase], ids=["upper", "title", "swapped"])
async def test_capitals_do_not_matter(stage: Stage, typed: Any) -> None:
    """The recruiter is found with whichever capitals the customer typed its e-mail."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.add_recruiter(waiting, email=typed(email_of(waiting)))
        found = await pressed(stage, linker, waiting)
    assert (found.state, found.problem) == (ConnectionState.LINKED, None)
    assert found.recruiter is not None
    assert found.recruiter.email == email_of(waiting), "what was issued is never changed"


async def test_absent_recruiter_is_told_and_waited_for(stage: Stage) -> None:
    """Pressed too early: the customer reads that the recruiter is not there; it is found by itself once it is added."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        absent = await pressed(stage, linker, waiting)
        problem = connection_json(absent)["problem"]
        assert (problem["code"], problem["owner"]) == ("recruiter_absent", "customer")
        assert absent.state is ConnectionState.AWAITING_RECRUITER
        stage.add_recruiter(waiting)
        assert (await sweep_when_due(stage, linker, waiting)).state is ConnectionState.LINKED


def swapped(email: str) -> str:
    """The e-mail with two different neighbouring letters of its key swapped."""
    at = next(at for at in range(4, len(email)) if email[at] != email[at + 1])
    return email[:at] + email[at + 1] + email[at] + email[at + 2 :]


NEAR: dict[str, Any] = {
    "a letter missing": lambda email: email[:5] + email[6:],
    "a letter too much": lambda email: email[:5] + "x" + email[5:],
    "two letters swapped": swapped,
    "another ending": lambda email: email[:-1] + "n",
}


@pytest.mark.parametrize("wrong", NEAR.values(), ids=NEAR)
async def test_slip_in_the_email_is_told_without_the_email(stage: Stage, wrong: Any) -> None:
    """An e-mail with a slip is called one, with our own e-mail to put in its place; the other one is not repeated."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        typed = wrong(email_of(waiting))
        stage.world.add_recruiter("acme", name="Somebody Else-Entirely", email=typed)
        near = await pressed(stage, linker, waiting)
        shown = await everything_shown(linker, waiting.id, [])
    assert "almost this e-mail" in hint(near)
    assert email_of(waiting) in hint(near)
    assert typed not in shown
    assert "Somebody Else-Entirely" not in shown


async def test_right_name_with_another_email_is_told_without_it(stage: Stage) -> None:
    """Our name with another e-mail is called a near miss; whose e-mail it is stays in Workable."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.world.add_recruiter("acme", name="integration", email="somebody@private.example")
        near = await pressed(stage, linker, waiting)
        shown = await everything_shown(linker, waiting.id, [])
    assert "with another e-mail" in hint(near)
    assert "somebody@private.example" not in shown
    assert "private.example" not in shown


async def test_recruiter_added_as_a_member_is_told(stage: Stage) -> None:
    """The recruiter among the account members: the customer reads where it belongs instead."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.world.add_member("acme", name="Integration", email=email_of(waiting).upper())
        near = await pressed(stage, linker, waiting)
    assert "as an account member, not as an external recruiter" in hint(near)
    assert near.state is ConnectionState.AWAITING_RECRUITER


async def test_nothing_of_strangers_is_shown(stage: Stage) -> None:
    """Other recruiters and members are counted at most: no name and no e-mail of theirs leaves the program."""
    told: list[Announcement] = []
    async with stage.linker() as linker:
        for name in ("opened", "token.accepted", "awaiting_recruiter", "linked"):
            linker.on(name)(told.append)
        with structlog.testing.capture_logs() as logged:
            waiting = await awaiting_recruiter(stage, linker)
            near = await pressed(stage, linker, waiting)
            stage.add_recruiter(waiting)
            await pressed(stage, linker, waiting)
            await linker.deliver()
        shown = await everything_shown(linker, waiting.id, told) + repr(near) + repr(logged)
    assert hint(near) == "Workable lists 2 other external recruiters; none of them is this one."
    assert [each.type for each in told] == [
        "connection.opened",
        "token.accepted",
        "connection.awaiting_recruiter",
        "connection.linked",
    ]
    for name, email in STRANGERS.items():
        assert name not in shown
        assert email not in shown


# in time


async def test_overdue_recruiter_ends_the_waiting(stage: Stage) -> None:
    """When the deadline passes without the recruiter the connection fails, after a last look, and says who must act."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.clock.advance(days=14)
        await linker.attend_due()
        overdue = await linker.get(waiting.id)
        problem = connection_json(overdue)["problem"]
        assert (overdue.state, problem["code"], problem["owner"]) == (
            ConnectionState.FAILED,
            "recruiter_overdue",
            "customer",
        )
        restarted = await linker.restart(waiting.id)
        assert (restarted.state, restarted.recruiter) == (ConnectionState.AWAITING_RECRUITER, waiting.recruiter)


async def test_recruiter_added_at_the_last_moment_is_in_time(stage: Stage) -> None:
    """The look at the deadline still finds a recruiter that was added just before."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.clock.advance(days=15)
        stage.add_recruiter(waiting)
        await linker.attend_due()
        assert (await linker.get(waiting.id)).state is ConnectionState.LINKED


async def test_removed_recruiter_is_believed_when_repeated(stage: Stage) -> None:
    """A linked account without our recruiter is doubted twice and believed the third time; added again, it recovers."""
    told: list[str] = []
    async with stage.linker() as linker:
        for name in ("linked", "recruiter.removed", "recovered"):
            linker.on(name)(lambda each: told.append(each.type))
        before = await linked(stage, linker)
        stage.world.remove_recruiter("acme", email_of(before))
        for count in (1, 2):
            now = await sweep_when_due(stage, linker, before)
            assert (now.state, now.problem) == (ConnectionState.LINKED, None)
            assert now.doubt is not None
            assert now.doubt.count == count
        removed = await sweep_when_due(stage, linker, before)
        problem = connection_json(removed)["problem"]
        assert (removed.state, problem["code"], problem["owner"]) == (
            ConnectionState.AWAITING_RECRUITER,
            "recruiter_removed",
            "customer",
        )
        stage.add_recruiter(before)
        again = await sweep_when_due(stage, linker, before)
        await linker.deliver()
    assert (again.state, again.problem, again.linked_at) == (ConnectionState.LINKED, None, before.linked_at)
    assert told == ["connection.linked", "recruiter.removed", "connection.recovered"]


# the button


class Claims:
    """Counts the tries to get hold of a connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0
        claim = ConnectionStore.claim

        async def counted(store: ConnectionStore, connection_id: str, **given: Any) -> Connection | None:
            self.tries += 1
            return await claim(store, connection_id, **given)

        monkeypatch.setattr(ConnectionStore, "claim", counted)

    async def more(self, tries: int) -> None:
        """Wait until somebody has tried so many more times."""
        enough = self.tries + tries

        async def tried() -> bool:
            return self.tries >= enough

        await until(tried)


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Claims:
    """The tries of this test."""
    return Claims(monkeypatch)


async def test_second_press_makes_no_second_call(stage: Stage, claims: Claims) -> None:
    """“Set up integration”, pressed again while a look is under way, waits for that look and tells what it found."""
    gate = Gate()
    async with stage.linker(transport=gate) as linker, stage.linker() as another:
        waiting = await awaiting_recruiter(stage, linker)
        stage.add_recruiter(waiting)
        before = stage.calls()
        gate.shut()
        first = asyncio.create_task(linker.confirm_recruiter(waiting.id))
        await gate.reached.wait()
        presses = [asyncio.create_task(each.confirm_recruiter(waiting.id)) for each in (linker, another, another)]
        await claims.more(9)
        assert not any(press.done() for press in presses)
        assert stage.calls() == before
        gate.open()
        found = await asyncio.gather(first, *presses)
        story = events(await linker.history(waiting.id))
    assert {each.state for each in found} == {ConnectionState.LINKED}
    assert stage.calls() == before + 1
    assert story.count("recruiter_found") == 1


async def test_press_during_a_sweep_looks_after_it(stage: Stage, claims: Claims) -> None:
    """The button pressed while the heartbeat is looking waits for that look, then makes its own."""
    gate = Gate()
    async with stage.linker(transport=gate) as linker, stage.linker() as another:
        waiting = await awaiting_recruiter(stage, linker)
        stage.wait_until_due(waiting)
        before = stage.calls()
        gate.shut()
        sweep = asyncio.create_task(linker.attend_due())
        await gate.reached.wait()
        press = asyncio.create_task(another.confirm_recruiter(waiting.id))
        await claims.more(3)
        assert not press.done()
        assert stage.calls() == before
        assert (await another.attend_due()).claimed == 0
        gate.open()
        absent = await press
        assert (await sweep).claimed == 1
    assert absent.problem is not None
    assert absent.problem.code is ProblemCode.RECRUITER_ABSENT
    assert before + 1 < stage.calls() <= before + 4, "the list and the members, for each of the two"


async def test_press_on_a_linked_connection_looks(stage: Stage) -> None:
    """Pressed once more after it worked: Workable is asked, and linked is what it says, in the history too."""
    async with stage.linker() as linker:
        done = await linked(stage, linker)
        before = stage.calls()
        stage.clock.advance(seconds=30)
        again = await linker.confirm_recruiter(done.id)
        assert (again.state, again.problem) == (done.state, None)
        assert (await linker.history(done.id))[-1].event == "health_confirmed"
    assert stage.calls() == before + 1


async def test_press_without_a_token_is_refused(stage: Stage) -> None:
    """There is nothing to set up before a token was accepted."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        with pytest.raises(Refused):
            await linker.confirm_recruiter(opened.id)
        assert await linker.get(opened.id) == opened


async def test_impatient_presses_stay_within_the_budget(stage: Stage) -> None:
    """Somebody who keeps pressing leaves the greater part of Workable's limit to the customer's own tools."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        before = stage.calls()
        for _ in range(20):
            await linker.confirm_recruiter(waiting.id)
        assert stage.calls() - before <= 4
        now = await linker.get(waiting.id)
        assert now.state is ConnectionState.AWAITING_RECRUITER
        stage.add_recruiter(waiting)
        assert (await sweep_when_due(stage, linker, now)).state is ConnectionState.LINKED
