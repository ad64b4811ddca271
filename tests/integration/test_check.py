"""A look that a person asks for: in which states, what it leads to, and what it writes into the history."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from linker import Linker, Refused
from linker.serialization import connection_json
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from states import events as happened
from states.connection import Connection, ConnectionState
from states.verdicts import CredentialRefused, NotUnderstood, RecruiterSeen, Unavailable

TOKEN = "canary-0123456789abcdef"


@pytest.fixture
def workable() -> ScriptedWorkable:
    """A Workable that says what it is told."""
    return ScriptedWorkable()


@pytest.fixture
def clock() -> SettableClock:
    """The time."""
    return SettableClock()


@pytest.fixture
async def linker(workable: ScriptedWorkable, clock: SettableClock) -> AsyncIterator[Linker]:
    """A linker over both."""
    async with linker_in_memory(workable=workable, clock=clock) as opened:
        yield opened


async def waiting(linker: Linker, owner: str = "customer-1", subdomain: str = "acme") -> Connection:
    """A connection that waits for its recruiter."""
    opened = await linker.create(owner=owner)
    return await linker.submit_token(opened.id, subdomain=subdomain, token=TOKEN)


async def linked(linker: Linker, workable: ScriptedWorkable) -> Connection:
    """A linked connection."""
    found = await waiting(linker)
    assert found.recruiter is not None
    workable.add_recruiter(found.recruiter.email)
    return await linker.confirm_recruiter(found.id)


async def revoked(linker: Linker, workable: ScriptedWorkable, clock: SettableClock) -> Connection:
    """A connection whose token was refused again and again."""
    now = await linked(linker, workable)
    for _ in range(3):
        clock.advance(minutes=40)
        workable.will_say(CredentialRefused())
        now = await linker.check(now.id)
    assert now.state is ConnectionState.FAILED
    return now


async def told(linker: Linker, connection: Connection, actor: str = "ann") -> list[str]:
    """The events that somebody brought about."""
    return [step.event for step in await linker.history(connection.id) if step.actor == actor]


async def test_a_linked_connection_is_looked_at(linker: Linker, workable: ScriptedWorkable) -> None:
    """What was found is in the history though nothing changed, with who asked and why."""
    before = await linked(linker, workable)
    after = await linker.check(before.id, actor="ann", reason="the customer called")
    assert (after.state, after.problem) == (ConnectionState.LINKED, None)
    assert await told(linker, after) == ["check_requested", "health_confirmed"]
    [asked] = [step for step in await linker.history(after.id) if step.event == "check_requested"]
    assert asked.reason == "the customer called"
    assert workable.asked[-1] == ("look", "acme")


async def test_a_check_says_when_workable_was_last_asked(linker: Linker, clock: SettableClock) -> None:
    """`last_look` is null before the first call; then it tells of the latest, whoever asked."""
    opened = await linker.create(owner="customer-1")
    assert connection_json(opened)["last_look"] is None
    found = await linker.submit_token(opened.id, subdomain="acme", token=TOKEN, actor="customer")
    assert connection_json(found)["last_look"] == {
        "at": "2026-01-05T09:00:00Z",
        "call": "verify",
        "status": 200,
        "ms": 0,
        "by": "customer",
    }
    clock.advance(minutes=1)
    await linker.attend_due()
    look = connection_json(await linker.get(found.id))["last_look"]
    assert (look["at"], look["call"], look["by"]) == ("2026-01-05T09:01:00Z", "look", "heartbeat")
    assert set(look) == {"at", "call", "status", "ms", "by"}


async def test_a_failed_connection_is_looked_at(
    linker: Linker, workable: ScriptedWorkable, clock: SettableClock
) -> None:
    """Refused again it stays as it is, and says so; a token that is good again links it."""
    failed = await revoked(linker, workable, clock)
    workable.will_say(CredentialRefused())
    after = await linker.check(failed.id, actor="ann")
    assert (after.state, after.problem) == (failed.state, failed.problem)
    assert await told(linker, after) == ["check_requested", "still_failed"]
    assert (await linker.check(failed.id, actor="ann")).state is ConnectionState.LINKED
    assert (await told(linker, after))[-1] == "recovered"


async def test_what_an_operator_ended_stays_so(linker: Linker, workable: ScriptedWorkable) -> None:
    """A look tells how it is; only a restart leads back."""
    before = await linked(linker, workable)
    await linker.record(before.id, lambda _: happened.Forced(ConnectionState.FAILED), actor="ann")
    after = await linker.check(before.id, actor="ann")
    assert (after.state, after.due_at) == (ConnectionState.FAILED, None)
    assert (await told(linker, after))[-1] == "still_failed"


@pytest.mark.parametrize("rest", ["no token", "refused token", "paused", "closed"])
async def test_a_check_is_refused_with_its_reason(linker: Linker, workable: ScriptedWorkable, rest: str) -> None:
    """Where there is nothing to ask with, or nobody is to be asked, nothing is changed."""
    opened = await linker.create(owner="customer-2")
    if rest == "refused token":
        workable.will_say(CredentialRefused())
        await linker.submit_token(opened.id, subdomain="acme", token=TOKEN)
    if rest == "paused":
        opened = await linked(linker, workable)
        await linker.record(opened.id, lambda _: happened.Paused(), actor="ann")
    if rest == "closed":
        await linker.unlink(opened.id)
    before, asked = await linker.get(opened.id), list(workable.asked)
    with pytest.raises(Refused) as refused:
        await linker.check(opened.id)
    assert refused.value.reason == (rest if rest in {"paused", "closed"} else "no_token")
    assert (await linker.get(opened.id), workable.asked) == (before, asked)


async def test_a_token_that_is_kept_is_verified(linker: Linker, workable: ScriptedWorkable) -> None:
    """After an outage nobody needs to wait for the heartbeat."""
    workable.will_say(Unavailable())
    kept = await waiting(linker)
    assert kept.candidate is not None
    assert (await linker.check(kept.id)).state is ConnectionState.AWAITING_RECRUITER


async def test_the_same_answer_is_told_once_a_minute(
    linker: Linker, workable: ScriptedWorkable, clock: SettableClock
) -> None:
    """Whoever presses again and again fills no history; the heartbeat writes nothing of what it expected."""
    found = await waiting(linker)
    for _ in range(7):
        await linker.confirm_recruiter(found.id, actor="ann")
        clock.advance(seconds=20)
        await linker.attend_due()
    assert await told(linker, found) == ["recruiter_absent"] * 3
    workable.will_say(NotUnderstood("no_rule", status=418))
    await linker.confirm_recruiter(found.id, actor="ann")
    assert (await told(linker, found))[-1] == "answer_not_understood"
    assert "recruiter_absent" not in await told(linker, found, actor="heartbeat")


async def test_a_second_press_is_told_again_if_the_answer_differs(linker: Linker, workable: ScriptedWorkable) -> None:
    """Also within the minute."""
    found = await waiting(linker)
    await linker.confirm_recruiter(found.id, actor="ann")
    workable.will_say(Unavailable(), RecruiterSeen("2b81c0"))
    await linker.confirm_recruiter(found.id, actor="ann")
    await linker.confirm_recruiter(found.id, actor="ann")
    assert await told(linker, found) == ["recruiter_absent", "workable_unavailable", "recruiter_found"]


async def test_confirm_looks_at_what_is_linked(
    linker: Linker, workable: ScriptedWorkable, clock: SettableClock
) -> None:
    """“Set up integration” once more: a recruiter that is missing is noticed."""
    before = await linked(linker, workable)
    asked = len(workable.asked)
    clock.advance(hours=1)
    after = await linker.confirm_recruiter(before.id, actor="ann")
    assert len(workable.asked) == asked + 1
    assert after.last_ok_at == clock.now()
    assert after.due_at is not None
    assert after.due_at > clock.now() + timedelta(hours=20)
