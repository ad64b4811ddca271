"""`advance`: what is foreseen is what happens, and nothing hinders quietly."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from linker import Linker, Refused, TryAgain
from linker.engine.ports import Settlement
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from states.connection import Account, Connection, ConnectionState, Credential, Doubt, Problem, Recruiter
from states.explanation import Hindrance, Verb, answer_name, foresee, possible_answers, settle_certain
from states.history import Step, problem_told
from states.problems import ProblemCode
from tests.seams import parts

ACCOUNT = Account(id="id-of-acme", name="Acme", subdomain="acme")
DAY = timedelta(days=1)
_numbers = itertools.count(1)


@pytest.fixture
async def stage() -> AsyncIterator[tuple[Linker, ScriptedWorkable, SettableClock]]:
    """A linker in memory whose Workable says what it is told."""
    clock, workable = SettableClock(), ScriptedWorkable()
    async with linker_in_memory(clock=clock, workable=workable) as linker:
        yield linker, workable, clock


def credential(linker: Linker, connection_id: str, **facts: Any) -> Credential:
    """A token that opens."""
    sealed = parts(linker).engine.executor.cipher.seal(SecretStr("a-token-of-acme"), bound_to=connection_id)
    return Credential(**{"subdomain": "acme", "sealed": sealed, "fingerprint": "0badcafe", **facts})


async def keep(linker: Linker, state: ConnectionState, facts: dict[str, Any]) -> Connection:
    """A connection with these facts, in the store; `candidate` and `expires_on` say of its tokens."""
    now, number = linker.clock.now(), next(_numbers)
    connection_id = f"con_{number:020x}"
    held: dict[str, Any] = {}
    if state is not ConnectionState.AWAITING_TOKEN:
        token = credential(linker, connection_id, expires_on=facts.get("expires_on"))
        held = {"token": token, "subdomain": "acme", "account": ACCOUNT, "recruiter": _recruiter(number)}
    given = {name: value for name, value in facts.items() if name not in {"candidate", "expires_on", "no_recruiter"}}
    if facts.get("candidate"):
        held["candidate"] = credential(linker, connection_id)
    if facts.get("no_recruiter"):
        held["recruiter"] = None
    connection = Connection(
        id=connection_id,
        owner=f"customer-{number}",
        created_at=now - 9 * DAY,
        state=state,
        state_since=now - 2 * DAY,
        **{"due_at": now + DAY, **held, **given},
    )
    step = Step(event="opened", source=None, target=state, at=now, actor="test")
    return await parts(linker).store.add(Settlement(before=connection, after=connection, step=step))


def _recruiter(number: int) -> Recruiter:
    return Recruiter(name="Integration", email=f"ats+{number}@example.com")


def rows(now: Any) -> Iterator[tuple[ConnectionState, dict[str, Any]]]:
    """Kinds of rows: every state, with what bends the law's answer in it."""
    doubt = Doubt(code=ProblemCode.TOKEN_REVOKED, count=2, since=now - DAY)
    young = Doubt(code=ProblemCode.RECRUITER_REMOVED, count=1, since=now - timedelta(minutes=1))
    absent = Problem(code=ProblemCode.RECRUITER_ABSENT, since=now - DAY)
    down = Problem(code=ProblemCode.WORKABLE_UNAVAILABLE, since=now - DAY)
    soon = (now + 3 * DAY).date()
    either: list[dict[str, Any]] = [{}, {"candidate": True}, {"candidate": True, "problem": down, "attempts": 6}]
    yield from ((ConnectionState.AWAITING_TOKEN, {**each, "deadline": now + DAY}) for each in either)
    yield ConnectionState.AWAITING_TOKEN, {"deadline": now - DAY}
    working: list[dict[str, Any]] = [*either, {"doubt": doubt}, {"doubt": young}, {"problem": down, "attempts": 3}]
    for facts in (*working, {"no_recruiter": True}):
        yield ConnectionState.TOKEN_VALID, facts
    for facts in (*working, {"problem": absent}, {"expires_on": soon}, {"linked_at": now - 5 * DAY}):
        for deadline in (now + DAY, now - timedelta(hours=1), now - 3 * DAY):
            yield ConnectionState.AWAITING_RECRUITER, {**facts, "deadline": deadline}
    for facts in (*working, {"expires_on": soon}):
        yield ConnectionState.LINKED, {**facts, "linked_at": now - 5 * DAY}
    yield ConnectionState.FAILED, {"problem": Problem(code=ProblemCode.TOKEN_REVOKED, since=now - DAY)}


async def test_what_is_foreseen_is_what_happens(stage: tuple[Linker, ScriptedWorkable, SettableClock]) -> None:
    """For each kind of row and each answer of Workable's, `advance` does what the explanation said for that answer."""
    linker, workable, clock = stage
    timing, tried = linker.settings.timing, 0
    for state, facts in rows(clock.now()):
        settled = settle_certain(await keep(linker, state, facts), clock.now(), timing)
        verdicts = list(possible_answers(settled, clock.now()))
        for verdict in verdicts:
            connection = await keep(linker, state, facts)
            foreseen = (await linker.explain(connection.id)).advance
            assert foreseen == foresee(Verb.ADVANCE, connection, clock.now(), timing)
            if foreseen.hindrance is not None:
                asked = len(workable.asked)
                with pytest.raises((Refused, TryAgain)):
                    await linker.advance(connection.id, actor="ann")
                assert len(workable.asked) == asked
                assert (await linker.get(connection.id)).version == connection.version
                break
            by_answer = {each.answer: each for each in foreseen.answers}
            expected = by_answer.get(answer_name(verdict, settled)) or by_answer[None]
            asks = None not in by_answer
            if asks:
                workable.will_say(verdict)
            after = await linker.advance(connection.id, actor="ann", reason="a test")
            steps = (await linker.history(connection.id))[1:]
            assert expected.event in [step.event for step in steps], (state, facts, verdict)
            assert {(step.actor, step.reason, step.verb) for step in steps} == {("ann", "a test", "advance")}
            problem = problem_told(settled, after)
            assert (after.state, problem.code if problem else None) == (expected.to, expected.problem)
            assert (after.doubt is not None and expected.event == "refusal_doubted") == expected.doubted
            tried += 1
    assert tried > 200


async def test_explaining_writes_nothing(stage: tuple[Linker, ScriptedWorkable, SettableClock]) -> None:
    """The row is the same afterwards, and Workable was not asked."""
    linker, workable, clock = stage
    for state, facts in rows(clock.now()):
        connection = await keep(linker, state, facts)
        await linker.explain(connection.id)
        assert await linker.get(connection.id) == connection
    assert workable.asked == []


@pytest.mark.parametrize(
    ("deed", "hindrance"),
    [("pause", Hindrance.PAUSED), ("unlink", Hindrance.CLOSED)],
)
async def test_a_connection_at_rest_is_left_alone(
    deed: str, hindrance: Hindrance, stage: tuple[Linker, ScriptedWorkable, SettableClock]
) -> None:
    """Whoever advances what is paused or closed is told so, and nothing is asked."""
    linker, workable, _ = stage
    connection = await keep(linker, ConnectionState.AWAITING_RECRUITER, {})
    await getattr(linker, deed)(connection.id, actor="ann")
    with pytest.raises(Refused) as refused:
        await linker.advance(connection.id)
    assert refused.value.reason == hindrance.value
    assert workable.asked == []


async def test_workables_own_time_holds_for_operators_too(
    stage: tuple[Linker, ScriptedWorkable, SettableClock],
) -> None:
    """Before the time that Workable named nobody calls, and the error says when."""
    linker, workable, clock = stage
    connection = await keep(
        linker, ConnectionState.AWAITING_RECRUITER, {"not_before": clock.now() + timedelta(minutes=5)}
    )
    with pytest.raises(TryAgain) as put_off:
        await linker.advance(connection.id)
    assert (put_off.value.reason, put_off.value.retry_after) == ("not_before", 300.0)
    assert workable.asked == []


async def test_forcing_keeps_to_the_facts(stage: tuple[Linker, ScriptedWorkable, SettableClock]) -> None:
    """A state whose facts are missing cannot be forced; what is forced says who, why and by which verb."""
    linker, _, _ = stage
    connection = await linker.create(owner="customer-1")
    with pytest.raises(Refused) as refused:
        await linker.force(connection.id, to=ConnectionState.LINKED, reason="they say so")
    assert (refused.value.reason, refused.value.params["to"]) == ("lacks_facts", "linked")
    with pytest.raises(Refused, match="already"):
        await linker.force(connection.id, to=ConnectionState.AWAITING_TOKEN)
    forced = await linker.force(connection.id, to=ConnectionState.FAILED, actor="ann", reason="they left")
    assert forced.state is ConnectionState.FAILED
    step = (await linker.history(connection.id))[-1]
    assert (step.event, step.actor, step.reason, step.verb) == ("forced", "ann", "they left", "force")
