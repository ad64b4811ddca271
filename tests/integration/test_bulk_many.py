"""Very many connections selected at once: a plan and its run cost in proportion, and hold up nobody meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import sqlalchemy as sa

from linker import Connection, Linker, Outcome, Plan, Verb, plan_from_json, plan_json
from linker.database.database import Database
from linker.persistence import schema
from linker.persistence.tables import CONNECTION
from tests.integration.test_bulk import FAST, Desk

FEW, MANY = 400, 4_000
#: How many outcomes are waited for before somebody stops the run.
ENOUGH = 20
#: How long the event loop may be held, in seconds of the processor: the collector of garbage has room in it.
HELD = 0.5
#: What each has of its own, and what the database makes.
OWN = {"id", "owner", "recruiter_email", "searched"}
#: A plan's bytes for each connection: what is foreseen of all is told once.
PLANNED_BYTES = 400


def multiply(url: str, known: Connection, most: int) -> None:
    """Let there be so many connections like one that there is."""
    with closing(Database(url)) as database:
        random = "lower(hex(randomblob(10)))" if database.is_sqlite else "substr(md5(random()::text), 1, 20)"
        columns = [column.name for column in CONNECTION.columns if column.name not in OWN]
        values = ", ".join(columns)
        statement = sa.text(
            f"WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < :rows) "  # noqa: S608 - our own names
            f"INSERT INTO linker_connection (id, owner, recruiter_email, {values}) "
            f"SELECT 'con_' || {random}, 'customer-' || n, n || recruiter_email, {values} "
            f"FROM linker_connection, g WHERE id = :known"
        )
        database.write_here(lambda writing: writing.execute(statement, {"rows": most - 1, "known": known.id}))


@asynccontextmanager
async def longest_held() -> AsyncIterator[list[float]]:
    """Measures what held the event loop the longest while the block lasted, in seconds of its thread's processor."""
    held = [0.0]

    async def tick() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            held[0] = max(held[0], time.thread_time() - before)

    ticking = asyncio.create_task(tick())
    try:
        yield held
    finally:
        ticking.cancel()


async def planned(desk: Desk, linker: Linker, verb: Verb, **words: Any) -> tuple[Plan, float]:
    """A plan, and the seconds of the processor that it took."""
    began = time.process_time()
    plan = await desk.plan(linker, verb, **words)
    return plan, time.process_time() - began


async def test_very_many_are_planned_begun_stopped_and_resumed(database_url: str) -> None:
    """Ten times as many take ten times as long; each is done once, over three runs; others write meanwhile."""
    with closing(Database(database_url)) as database:
        schema.upgrade(database)
    desk = Desk(database_url)
    async with desk.linker() as linker, desk.linker() as another:
        [known] = await desk.waiting(linker, 1)
        multiply(database_url, known, MANY)
        async with longest_held() as held:
            _, few = await planned(desk, linker, Verb.ADVANCE, limit=FEW)
            advancing, many = await planned(desk, linker, Verb.ADVANCE)
            ids = [item.id for item in advancing.items]
            _, by_ids = await planned(desk, linker, Verb.PAUSE, ids=ids)
        assert len(set(ids)) == MANY
        assert max(many, by_ids) < 3 * MANY / FEW * few
        plan, _ = await planned(desk, linker, Verb.SET_METADATA, texts={"seen": "yes"})
        for each in (advancing, plan):
            told = json.dumps(plan_json(each))
            assert len(told) < PLANNED_BYTES * MANY
            assert plan_from_json(json.loads(told)) == each
        done: list[str] = []
        enough = asyncio.Event()

        def tell(outcome: Outcome) -> None:
            done.append(outcome.id)
            if len(done) % ENOUGH == 0:
                enough.set()

        async with longest_held() as held_by_run:
            applying = asyncio.create_task(linker.apply(plan, rate=FAST, tell=tell))
            while not enough.is_set():
                await another.create(owner="somebody")
                await asyncio.sleep(0.05)
            applying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await applying
        enough.clear()
        resuming = asyncio.create_task(another.resume_operation(plan.id, tell=tell))
        await enough.wait()
        await linker.stop_operation(plan.id)
        await resuming
        operation, _ = await linker.operation(plan.id)
        assert operation.status == "stopped"
        assert dict(operation.counts) == {"done": len(done), "left": MANY - len(done)}
        assert len(done) == len(set(done))
        assert max(*held, *held_by_run) < HELD
