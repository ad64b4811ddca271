"""Many connections at once: a plan changes nothing, what it foresees is what happens, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from linker import BadInput, Connection, ConnectionState, Linker, Refused, Verb, new_key
from linker.database.database import Database
from linker.operations.plan import Plan, outcome_of_skipped, plan_from_json, plan_json
from linker.operations.selectors import MOST_IDS, selection
from linker.persistence import schema
from linker.persistence.tables import CONNECTION
from linker.settings import Settings
from linker.testing import ScriptedWorkable, SettableClock
from states.verdicts import OverLimit, Unavailable
from tests.seams import parts

FAST = 100.0


class Desk:
    """A database with connections that wait for their recruiters, and linkers on it."""

    def __init__(self, url: str) -> None:
        """Take the database's URL."""
        self.clock, self.workable, self.key = SettableClock(), ScriptedWorkable(), new_key()
        self.url = url

    @asynccontextmanager
    async def linker(self) -> AsyncIterator[Linker]:
        """A linker as another process has it."""
        settings = Settings(database_url=self.url, secret_keys=(self.key,))
        async with Linker(settings, clock=self.clock, workable=self.workable) as linker:
            yield linker

    async def waiting(self, linker: Linker, count: int) -> list[Connection]:
        """So many connections that wait for their recruiters, each of an account of its own."""
        found = []
        for number in range(count):
            opened = await linker.create(owner=f"customer-{number}", metadata={"plan": f"p{number % 2}"})
            found.append(
                await linker.submit_token(opened.id, subdomain=f"acme{number}", token=f"token-of-acme-{number}")
            )
        return found

    async def plan(self, linker: Linker, verb: Verb = Verb.ADVANCE, **words: Any) -> Plan:
        """A plan for what these words mean; by default for all."""
        given = {name: words.pop(name) for name in ("to", "texts") if name in words}
        wanted = selection(self.clock.now(), **words)
        return await linker.plan(verb, wanted, actor="ann", reason="a test", **given)


@pytest.fixture
def desk(database_url: str) -> Desk:
    """A desk on each engine."""
    database = Database(database_url)
    try:
        schema.upgrade(database)
    finally:
        database.close()
    return Desk(database_url)


@pytest.fixture
def quick_desk(sqlite_url: str) -> Desk:
    """A desk on SQLite, for what does not depend on the engine."""
    return Desk(sqlite_url)


async def test_forty_are_advanced_with_a_plan(desk: Desk) -> None:
    """The plan says what would be done to each, nothing changes; then it is done, once, with who, why and in what."""
    async with desk.linker() as linker:
        for each in (waiting := await desk.waiting(linker, 12))[:5]:
            assert each.recruiter is not None
            desk.workable.add_recruiter(each.recruiter.email)
        await linker.pause(waiting[-1].id, actor="bob")
        before = await linker.find()
        plan = await desk.plan(linker)
        assert await linker.find() == before
        assert await linker.operations() == []
        assert {item.skipped for item in plan.items} == {None, "paused"}
        assert {(item.source, item.to, item.calls) for item in plan.acting} == {
            (ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED, 1)
        }
        told: list[Any] = []
        outcomes = await linker.apply(plan, rate=FAST, tell=told.append)
        assert sorted(told, key=lambda each: each.id) == sorted(outcomes, key=lambda each: each.id)
        by_id = {outcome.id: outcome.outcome for outcome in outcomes}
        assert {by_id[item.id] for item in plan.items if item.skipped} == {outcome_of_skipped("paused")}
        assert [by_id[each.id] for each in waiting] == ["done"] * 5 + ["waiting"] * 6 + ["refused"]
        step = (await linker.history(waiting[0].id))[-1]
        assert (step.actor, step.reason, step.verb, step.operation) == ("ann", "a test", "advance", plan.id)
        [operation] = await linker.operations()
        assert (operation.status, operation.counts) == ("finished", {"done": 5, "waiting": 6, "refused": 1})


async def test_a_plan_does_its_work_once(quick_desk: Desk) -> None:
    """Applied a second time it changes nothing, by whoever."""
    async with quick_desk.linker() as linker, quick_desk.linker() as another:
        await quick_desk.waiting(linker, 3)
        plan = await quick_desk.plan(linker)
        await linker.apply(plan, rate=FAST)
        after = await linker.find()
        asked = len(quick_desk.workable.asked)
        for each in (linker, another):
            assert {outcome.outcome for outcome in await each.apply(plan, rate=FAST)} == {"changed"}
        assert (await linker.find(), len(quick_desk.workable.asked)) == (after, asked)


async def test_what_moved_meanwhile_is_left_alone(desk: Desk) -> None:
    """A connection that somebody else changed after the plan was made is not touched; the others are."""
    async with desk.linker() as linker:
        moved, other, _ = await desk.waiting(linker, 3)
        for verb, to in ((Verb.PAUSE, None), (Verb.ADVANCE, None), (Verb.FORCE, ConnectionState.FAILED)):
            plan = await desk.plan(linker, verb, to=to, ids=[moved.id, other.id])
            before = await linker.set_metadata(moved.id, {"moved": verb.value}, actor="bob")
            outcomes = {outcome.id: outcome.outcome for outcome in await linker.apply(plan, rate=FAST)}
            assert outcomes[moved.id] == "changed"
            assert outcomes[other.id] in {"done", "waiting"}
            assert await linker.get(moved.id) == before
            if verb is Verb.PAUSE:
                await linker.resume(other.id)


async def test_two_operators_with_overlapping_plans(desk: Desk) -> None:
    """Each connection is changed by one of them, and the other is told that it moved."""
    async with desk.linker() as linker, desk.linker() as another:
        waiting = await desk.waiting(linker, 6)
        one = await desk.plan(linker, Verb.FORCE, to=ConnectionState.FAILED, ids=[each.id for each in waiting[:4]])
        two = await desk.plan(another, Verb.FORCE, to=ConnectionState.FAILED, ids=[each.id for each in waiting[2:]])
        outcomes = await asyncio.gather(linker.apply(one, rate=FAST), another.apply(two, rate=FAST))
        said = [(each.id, each.outcome) for of_one in outcomes for each in of_one]
        for each in waiting:
            forced = [step for step in await linker.history(each.id) if step.event == "forced"]
            assert len(forced) == 1
            assert [outcome for connection_id, outcome in said if connection_id == each.id].count("done") == 1


async def test_a_plan_is_of_one_law_and_of_one_hour(quick_desk: Desk) -> None:
    """What was foreseen by another law, or too long ago, is refused, and nothing is changed."""
    async with quick_desk.linker() as linker:
        await quick_desk.waiting(linker, 1)
        plan = await quick_desk.plan(linker)
        other = plan_from_json({**plan_json(plan), "law": "another"})
        with pytest.raises(Refused) as refused:
            await linker.apply(other)
        assert refused.value.reason == "plan_of_another_law"
        quick_desk.clock.advance(minutes=61)
        with pytest.raises(Refused) as refused:
            await linker.apply(plan)
        assert refused.value.reason == "plan_too_old"
        assert await linker.operations() == []


async def test_a_plan_is_a_file(quick_desk: Desk) -> None:
    """It is the same after it was written and read; what is none is refused."""
    async with quick_desk.linker() as linker:
        await quick_desk.waiting(linker, 2)
        for plan in (
            await quick_desk.plan(linker),
            await quick_desk.plan(linker, Verb.FORCE, to=ConnectionState.FAILED),
            await quick_desk.plan(linker, Verb.SET_METADATA, texts={"plan": None, "tier": "gold"}),
        ):
            assert plan_from_json(json.loads(json.dumps(plan_json(plan)))) == plan
    nothing: list[Any] = [
        {},
        [],
        None,
        "plan",
        {**plan_json(plan), "items": [{}]},
        {**plan_json(plan), "verb": "explode"},
    ]
    for none in nothing:
        with pytest.raises(BadInput):
            plan_from_json(none)


async def test_one_that_is_damaged_or_gone_stops_no_other(desk: Desk) -> None:
    """A row that cannot be read is an error, an id that there is not is not found; the rest is done."""
    async with desk.linker() as linker:
        waiting = await desk.waiting(linker, 3)
        damage = CONNECTION.update().where(CONNECTION.c.id == waiting[0].id).values(doubt_code="nonsense")
        await parts(linker).database.write(lambda transaction: transaction.execute(damage))
        plan = await desk.plan(linker, Verb.PAUSE, ids=[*(each.id for each in waiting), "con_none"])
        outcomes = {outcome.id: outcome.outcome for outcome in await linker.apply(plan, rate=FAST)}
        assert [outcomes[each.id] for each in waiting] == ["error", "done", "done"]
        assert outcomes["con_none"] == "not_found"
        impossible = CONNECTION.update().where(CONNECTION.c.id == waiting[1].id).values(recruiter_email=None)
        await parts(linker).database.write(lambda transaction: transaction.execute(impossible))
        await linker.resume(waiting[1].id)
        await linker.resume(waiting[2].id)
        plan = await desk.plan(linker, ids=[each.id for each in waiting])
        skipped = {item.id: item.skipped for item in plan.items}
        assert [skipped[each.id] for each in waiting] == ["damaged", "damaged", None]


async def test_ids_that_other_selectors_leave_out_are_not_missing(desk: Desk) -> None:
    """An id whose connection is there, and not meant, is no part of the plan; one that there is not is told."""
    async with desk.linker() as linker:
        waiting = await desk.waiting(linker, 2)
        await linker.pause(waiting[0].id)
        plan = await desk.plan(linker, Verb.RESUME, ids=[*(each.id for each in waiting), "con_none"], paused=True)
        assert [(item.id, item.skipped) for item in plan.items] == [(waiting[0].id, None), ("con_none", "not_found")]


async def test_one_that_went_after_the_plan_was_made_is_not_found(desk: Desk) -> None:
    """Whatever would have been done to it, and the others are done."""
    async with desk.linker() as linker:
        waiting = await desk.waiting(linker, 3)
        for verb, gone in ((Verb.ADVANCE, waiting[0]), (Verb.PAUSE, waiting[1])):
            plan = await desk.plan(linker, verb, ids=[gone.id, waiting[2].id])
            delete = CONNECTION.delete().where(CONNECTION.c.id == gone.id)
            await parts(linker).database.write(methodcaller("execute", delete))
            outcomes = {outcome.id: outcome for outcome in await linker.apply(plan, rate=FAST)}
            assert (outcomes[gone.id].outcome, outcomes[gone.id].why) == ("not_found", None)
            assert outcomes[waiting[2].id].outcome in {"done", "waiting"}


async def test_trouble_at_workable_is_told_and_nothing_ends(quick_desk: Desk) -> None:
    """Where Workable gives no answer the outcome is to try again, and each is tried again by itself."""
    async with quick_desk.linker() as linker:
        await quick_desk.waiting(linker, 2)
        quick_desk.workable.will_say(Unavailable(), Unavailable())
        outcomes = await linker.apply(await quick_desk.plan(linker), rate=FAST)
        assert {outcome.outcome for outcome in outcomes} == {"try_again"}
        assert {each.state for each in await linker.find()} == {ConnectionState.AWAITING_RECRUITER}


async def test_an_operation_that_is_stopped_can_be_resumed(desk: Desk) -> None:
    """Whoever stops it lets nothing more begin; what was done is not done again."""
    async with desk.linker() as linker:
        await desk.waiting(linker, 5)
        plan = await desk.plan(linker, Verb.PAUSE)
        applying = asyncio.create_task(linker.apply(plan, rate=1.0))
        while not [each for each in await linker.operations() if each.counts.get("done")]:  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.05)
        stopped = await linker.stop_operation(plan.id)
        assert stopped.status == "stopped"
        done = {outcome.id for outcome in await applying}
        assert 0 < len(done) < 5
        rest = {outcome.id for outcome in await linker.resume_operation(plan.id)}
        assert done | rest == {item.id for item in plan.items}
        assert not done & rest
        assert {len([s for s in await linker.history(i) if s.event == "paused"]) for i in done | rest} == {1}


async def test_who_is_cancelled_loses_nothing(quick_desk: Desk) -> None:
    """Ctrl-C in the middle: leases are given back, and the operation goes on where it was."""
    async with quick_desk.linker() as linker:
        await quick_desk.waiting(linker, 4)
        plan = await quick_desk.plan(linker)
        applying = asyncio.create_task(linker.apply(plan, rate=2.0))
        async with asyncio.timeout(10):
            while len(quick_desk.workable.asked) == 4:  # noqa: ASYNC110 - the first of them is asked for
                await asyncio.sleep(0.01)
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
        assert 4 < len(quick_desk.workable.asked) < 4 + 4
        await linker.resume_operation(plan.id)
        [operation] = await linker.operations()
        assert (operation.status, operation.counts) == ("finished", {"waiting": 4})
        assert len(quick_desk.workable.asked) == 4 + 4


@pytest.mark.parametrize("words", [{"state": "linkd"}, {"older_than": "3x"}, {"limit": 0}, {"problem": "none"}])
def test_a_selector_never_means_more_than_it_says(words: dict[str, Any]) -> None:
    """What cannot be understood selects nothing: it is refused."""
    with pytest.raises(BadInput):
        selection(SettableClock().now(), **words)


def test_a_word_that_is_no_selector_is_refused() -> None:
    """A word that is misspelt does not mean all of them."""
    misspelt: dict[str, Any] = {"sate": "linked"}
    with pytest.raises(TypeError, match="sate"):
        selection(SettableClock().now(), **misspelt)


async def test_every_selector_narrows(desk: Desk) -> None:
    """Each word by itself, all of them together, and pages that are one whole."""
    async with desk.linker() as linker:
        first = (await desk.waiting(linker, 1))[0]
        desk.clock.advance(hours=2)
        for number in range(5):
            await linker.create(owner=f"Größe-{number}", metadata={"plan": "pro", "note": "x" * 490 + str(number)})
        closed = await linker.unlink((await linker.create(owner="gone")).id)
        await linker.pause((await linker.find(owner="Größe-1"))[0].id)

        async def ids(**words: Any) -> set[str]:
            return {each.owner for each in await linker.find(**words)}

        assert await ids(state="awaiting_recruiter") == {first.owner}
        assert await ids(account="acme0") == await ids(subdomain="acme0") == {first.owner}
        assert await ids(account="id-of-acme0") == {first.owner}
        assert await ids(text="GRÖSSE-3") == {"Größe-3"}
        assert await ids(text=first.id[4:12]) == {first.owner}
        assert await ids(metadata={"plan": "pro", "note": "x" * 490 + "2"}) == {"Größe-2"}
        assert await ids(metadata={"plan": "PRO"}) == set()
        assert await ids(older_than="1h") == {first.owner}
        assert len(await ids(newer_than="1h")) == 5
        assert await ids(paused=True) == {"Größe-1"}
        assert await ids(closed=True) == {"gone"}
        assert closed.id not in {each.id for each in await linker.find()}
        assert await ids(due_before="1h") == {first.owner}
        assert await ids(ids=[first.id], state="linked") == set()
        assert await ids(state="awaiting_token", older_than=timedelta(0), text="größe", metadata={"plan": "pro"}) == {
            f"Größe-{number}" for number in range(5)
        }
        pages: list[str] = []
        for words in ({}, {"newer_than": "1h"}, {"metadata": {"plan": "pro"}}):
            whole = [each.id for each in await linker.find(**words)]
            pages, after = [], None
            while True:
                page = await linker.page(selection(desk.clock.now(), limit=2, after=after, **words))
                pages += [each.id for each in page.found]
                if (after := page.after) is None:
                    break
            assert pages == whole
        with pytest.raises(BadInput):
            await linker.find(after="con_none")


async def test_as_many_ids_as_a_selection_takes(desk: Desk) -> None:
    """A hundred thousand ids are one question, which each database takes."""
    async with desk.linker() as linker:
        known = (await desk.waiting(linker, 1))[0].id
        ids = [*(f"con_{number:020x}" for number in range(MOST_IDS - 1)), known]
        assert [each.id for each in await linker.find(ids=ids)] == [known]
        with pytest.raises(BadInput):
            await linker.find(ids=[*ids, "con_more"])


def files(folder: Path) -> dict[str, bytes]:
    """What is in the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_dry_run_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    """Byte for byte: no row, no lease, no audit."""
    desk = Desk(f"sqlite:///{tmp_path / 'linker.db'}")
    async with desk.linker() as linker:
        await desk.waiting(linker, 3)
    kept = files(tmp_path)
    async with desk.linker() as linker:
        for verb, to in ((Verb.ADVANCE, None), (Verb.UNLINK, None), (Verb.FORCE, ConnectionState.FAILED)):
            await desk.plan(linker, verb, to=to)
        await linker.explain((await linker.find())[0].id)
    assert files(tmp_path) == kept


async def test_texts_of_any_alphabet_are_found(database_url: str) -> None:
    """Without regard to capitals, in part, and a backslash is only itself."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    settings = Settings(database_url=database_url, secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        tokyo = await linker.create(owner="東京 Škoda", metadata={"plan": "a\\xe9b"})
        other = await linker.create(owner="customer-2", metadata={"plan": "aéb"})
        for text, found in (("東", tokyo), ("ŠKO", tokyo), ("\\xe9", tokyo), ("AÉ", other)):
            assert [each.id for each in await linker.find(text=text)] == [found.id], text


async def test_what_had_no_call_left_is_come_back_to(desk: Desk) -> None:
    """Nobody moved it meanwhile but we: it is asked at its second try, and not told as changed."""
    async with desk.linker() as linker:
        [waiting] = await desk.waiting(linker, 1)
        desk.clock.advance(minutes=5)
        desk.workable.will_say(OverLimit(desk.clock.now() + timedelta(seconds=1), unasked=True))
        [outcome] = await linker.apply(await desk.plan(linker, ids=[waiting.id]))
        assert (outcome.outcome, outcome.why) == ("waiting", "recruiter_absent")


async def test_a_check_that_had_no_call_left_is_not_done(desk: Desk) -> None:
    """It is due: whoever attends connections asks, and the operator may try again."""
    async with desk.linker() as linker:
        [waiting] = await desk.waiting(linker, 1)
        desk.clock.advance(minutes=5)
        desk.workable.will_say(OverLimit(desk.clock.now() + timedelta(seconds=1), unasked=True))
        [outcome] = await linker.apply(await desk.plan(linker, Verb.CHECK, ids=[waiting.id]))
        assert (outcome.outcome, outcome.why) == ("try_again", "budget_used_up")
        now = await linker.get(waiting.id)
        assert now.due_at is not None
        assert now.due_at <= desk.clock.now()
