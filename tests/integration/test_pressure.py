"""A pass under pressure: what is claimed ahead of a slow Workable, whose leases are kept, and what is given back."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection as Transaction
from sqlalchemy import update

from linker import Connection, Linker
from linker.engine.ports import Answer, Lease
from linker.engine.prefetch import AHEAD_RATIO
from linker.engine.sweep import Sweep
from linker.errors import StoreUnavailable
from linker.persistence.tables import CONNECTION
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from states.connection import Recruiter
from states.verdicts import OverLimit
from tests.seams import parts

TOKEN = SecretStr("a-token-of-acme")


async def waiting(linker: Linker, owner: str = "customer-1") -> Connection:
    """A connection whose recruiter was issued."""
    connection = await linker.create(owner=owner)
    return await linker.submit_token(connection.id, subdomain=f"acme-{owner}", token=TOKEN)


class SlowWorkable(ScriptedWorkable):
    """A Workable whose looks wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_for = ""
        self.asked_once = asyncio.Event()
        self.go = asyncio.Event()
        #: How many are answered before the waiting begins, and whose looks wait.
        self.hold_from = 0
        self.waiting: list[str] = []
        self.began: list[str] = []
        #: How long every answer takes, in seconds.
        self.pause = 0.0

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """Wait, then answer as the script says."""
        self.looked_for = self.looked_for or recruiter.email
        self.asked_once.set()
        self.began.append(subdomain)
        await asyncio.sleep(self.pause)
        if self.hold_from > 0:
            self.hold_from -= 1
        else:
            self.waiting.append(subdomain)
            await self.go.wait()
        return await super().look(subdomain, token, recruiter, extra_calls=extra_calls)


class Later:
    """A clock that is ten minutes on."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        """The other clock's time, and ten minutes."""
        return self._clock.now() + timedelta(minutes=10)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Linker, SlowWorkable, SettableClock]]:
    """A linker whose sweep has five connections to look at, one at a time, behind a slow Workable."""
    clock, workable = SettableClock(), SlowWorkable()
    async with linker_in_memory(clock=clock, workable=workable, concurrency=1) as linker:
        for number in range(5):
            await waiting(linker, f"customer-{number}")
        clock.advance(minutes=1)
        yield linker, workable, clock


async def test_a_person_does_not_wait_for_a_whole_pass(slow: tuple[Linker, SlowWorkable, SettableClock]) -> None:
    """A token for the connection that a pass is looking at is verified as soon as that one look has ended."""
    linker, workable, _ = slow
    sweep = asyncio.create_task(linker.attend_due())
    await workable.asked_once.wait()
    [first] = [one for one in await linker.find() if one.recruiter and one.recruiter.email == workable.looked_for]
    submitting = asyncio.create_task(
        linker.submit_token(first.id, subdomain=str(first.subdomain), token=SecretStr("another-token"))
    )
    async with asyncio.timeout(10):
        while (await linker.get(first.id)).candidate is None:  # noqa: ASYNC110 - the database sets no event
            await asyncio.sleep(0.01)
    workable.go.set()
    async with asyncio.timeout(10):
        submitted = await submitting
    assert submitted.candidate is None
    assert submitted.token is not None
    assert first.token is not None
    assert submitted.token.fingerprint != first.token.fingerprint
    assert (await sweep).lost <= 1


async def test_little_is_claimed_ahead(slow: tuple[Linker, SlowWorkable, SettableClock]) -> None:
    """While a pass waits for Workable, most of what is due is still free for people and for other workers."""
    linker, workable, _ = slow
    sweep = asyncio.create_task(linker.attend_due())
    await workable.asked_once.wait()
    await asyncio.sleep(0.1)
    held = await parts(linker).database.read(_held)
    assert held <= 3
    workable.go.set()
    assert (await sweep).waiting == 5


async def thirty_due(linker: Linker, clock: SettableClock) -> None:
    """Thirty connections that are due."""
    for number in range(30):
        await waiting(linker, f"customer-{number}")
    clock.advance(minutes=1)


@asynccontextmanager
async def held_ahead(
    workable: SlowWorkable, clock: SettableClock, *, soon: float = 60.0
) -> AsyncIterator[tuple[Linker, asyncio.Task[Sweep]]]:
    """A pass that asks for five connections of thirty, ten were answered, and the next five are held and not begun.

    `soon`: for how many seconds they may be held so.
    """
    given: dict[str, Any] = {"concurrency": 5, "batch_size": 5, "lease_seconds": 2}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("linker.engine.prefetch.BEGIN_WITHIN_SECONDS", soon)
        async with linker_in_memory(clock=clock, workable=workable, **given) as linker:
            await thirty_due(linker, clock)
            workable.hold_from = 10
            sweep = asyncio.create_task(linker.attend_due())
            async with asyncio.timeout(10):
                while len(workable.waiting) < 5 or await parts(linker).database.read(_held) != 10:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            yield linker, sweep


async def test_the_next_batch_is_claimed_a_little_early_while_answers_come_quickly() -> None:
    """Five are asked for, and the next five are held already: nobody waits for a claim. No more than those are."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock()) as (linker, sweep):
        await asyncio.sleep(0.2)
        assert await parts(linker).database.read(_held) == 5 + 5
        workable.go.set()
        assert (await sweep).waiting == 30


async def test_how_quickly_answers_come_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's first pass claims only what it begins at once; the next one begins with a whole batch."""
    clock, claimed = SettableClock(), list[int]()
    async with linker_in_memory(clock=clock, workable=ScriptedWorkable(), concurrency=5, batch_size=20) as linker:
        await thirty_due(linker, clock)
        claim_due = parts(linker).store.claim_due

        async def seen(*, now: datetime, limit: int, lease: Lease) -> list[Connection]:
            claimed.append(limit)
            return await claim_due(now=now, limit=limit, lease=lease)

        monkeypatch.setattr(parts(linker).store, "claim_due", seen)
        await linker.attend_due()
        await linker.attend_due()
        clock.advance(hours=1)
        await linker.attend_due()
    assert claimed == [5, 20, 20]


async def test_what_asks_nothing_says_nothing_of_the_pace() -> None:
    """Refusals of the budget are quick, and Workable is slow all the same: what is claimed is begun at once."""
    workable, clock = SlowWorkable(), SettableClock()
    async with linker_in_memory(clock=clock, workable=workable, concurrency=5) as linker:
        await thirty_due(linker, clock)
        pacing = parts(linker).engine.sweeper.pacing
        pacing.latency = 2.0
        workable.hold_from = 1_000
        workable.will_say(*[OverLimit(clock.now() + timedelta(minutes=1), unasked=True)] * 30)
        assert (await linker.attend_due()).unavailable == 30
        assert pacing.latency == 2.0
        clock.advance(hours=1)
        await linker.attend_due()
        assert pacing.latency < 2.0, "but answers do"


async def test_a_quick_answer_is_written_while_a_slow_one_is_waited_for() -> None:
    """Answers are gathered for a moment only."""
    workable, clock = SlowWorkable(), SettableClock()
    workable.hold_from = 1
    async with linker_in_memory(clock=clock, workable=workable, concurrency=2) as linker:
        await waiting(linker, "customer-1")
        await waiting(linker, "customer-2")
        clock.advance(minutes=1)
        sweep = asyncio.create_task(linker.attend_due())
        async with asyncio.timeout(2):
            while not workable.waiting or await parts(linker).database.read(_held) != 1:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        workable.go.set()
        assert (await sweep).waiting == 2


async def test_a_drain_begins_nothing_of_what_is_held_ahead() -> None:
    """Who is asked to stop finishes what is under way, and gives the rest back."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock()) as (linker, sweep):
        parts(linker).engine.sweeper.stopping.set()
        workable.go.set()
        assert (await sweep).waiting == 15
        assert await parts(linker).database.read(_held) == 0


async def test_nothing_is_begun_on_a_lease_that_ran_out() -> None:
    """A worker that stood still asks for nothing that somebody else may be asking for by now."""
    workable, clock = SlowWorkable(), SettableClock()
    async with held_ahead(workable, clock) as (linker, sweep):
        unbegun = set(await parts(linker).database.read(_held_subdomains)) - set(workable.waiting)
        parts(linker).engine.sweeper.lease_issuer._clock = Later(clock)
        workable.go.set()
        assert (await sweep).lost == len(unbegun) == 5
        assert unbegun.isdisjoint(workable.began)


class Failing:
    """A method of the store that fails from now on, while renewals are written down once it is well again."""

    def __init__(self, linker: Linker, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self._renew, self._renewals = parts(linker).store.renew, asyncio.Queue[list[str]]()
        self._failed = asyncio.Event()
        self._patch = partial(monkeypatch.setattr, parts(linker).store)
        self._patch(method, self._away)

    async def _away(self, *_: object) -> list[str]:
        self._failed.set()
        raise StoreUnavailable("unreachable")

    async def _noted(self, ids: list[str], lease: Lease) -> list[str]:
        self._renewals.put_nowait(ids)
        return await self._renew(ids, lease)

    async def failed(self) -> None:
        """Wait until it has failed; from then on renewals work."""
        async with asyncio.timeout(10):
            await self._failed.wait()
        self._patch("renew", self._noted)

    async def renewed_later(self) -> set[str]:
        """What the next two renewals renew, but for one that may have begun before it failed."""
        async with asyncio.timeout(10):
            _, *later = [await self._renewals.get() for _ in range(3)]
        return set().union(*later)


async def test_a_failed_renewal_drops_what_is_held_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be somebody else's before it is begun."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock()) as (linker, sweep):
        await Failing(linker, monkeypatch, "renew").failed()
        workable.go.set()
        assert (await sweep).waiting == 15


async def test_what_is_held_ahead_is_given_back_when_answers_become_slow() -> None:
    """A person is not kept waiting for a connection that nobody has begun."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock(), soon=2.0) as (linker, sweep):
        async with asyncio.timeout(10):
            while await parts(linker).database.read(_held) != 5:  # noqa: ASYNC110 - the database sets no event
                await asyncio.sleep(0.01)
        workable.go.set()
        assert (await sweep).lost == 5


async def test_what_was_given_back_is_attended_in_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who calls it once has everything that is due attended, also when Workable turns slow in between."""
    monkeypatch.setattr("linker.engine.prefetch.BEGIN_WITHIN_SECONDS", 0.2)
    workable, clock = SlowWorkable(), SettableClock()
    workable.hold_from = 1_000
    async with linker_in_memory(clock=clock, workable=workable, concurrency=2, batch_size=10) as linker:
        await thirty_due(linker, clock)
        assert (await linker.attend_due()).waiting == 30
        clock.advance(hours=1)
        workable.pause = 0.3
        done = await linker.attend_due()
    assert done.waiting == 30
    assert done.claimed == 30 + done.lost
    assert 0 < done.lost < 2 * AHEAD_RATIO + 10, "only what was claimed before it was known"


async def test_one_that_nothing_is_owed_to_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made due by hand, and the database is slow to take it back: the others are attended meanwhile."""
    monkeypatch.setattr("linker.engine.prefetch.BEGIN_WITHIN_SECONDS", 0.2)
    workable, clock = ScriptedWorkable(), SettableClock()
    async with linker_in_memory(clock=clock, workable=workable, concurrency=5) as linker:
        await thirty_due(linker, clock)
        idle = await linker.create(owner="idle")
        due = update(CONNECTION).where(CONNECTION.c.id == idle.id).values(due_at=clock.now())
        await parts(linker).database.write(lambda transaction: transaction.execute(due))
        release = parts(linker).store.release

        async def slow(ids: list[str], lease: Lease) -> None:
            await asyncio.sleep(0.5)
            await release(ids, lease)

        monkeypatch.setattr(parts(linker).store, "release", slow)
        async with asyncio.timeout(20):
            done = await linker.attend_due()
    assert (done.waiting, done.lost) == (30, 1)


async def test_what_could_not_be_given_back_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease ends by itself while the pass goes on: nobody waits for what nothing comes of."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock(), soon=2.0) as (linker, sweep):
        giving_back = Failing(linker, monkeypatch, "release")
        await giving_back.failed()
        assert len(await giving_back.renewed_later()) == len(workable.waiting) == 5
        workable.go.set()
        assert (await sweep).lost == 5


async def test_what_is_not_begun_any_more_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that failed ends the pass for what it has not begun: that is somebody else's as soon as can be."""
    workable = SlowWorkable()
    async with held_ahead(workable, SettableClock(), soon=60.0) as (linker, sweep):
        renewing = Failing(linker, monkeypatch, "renew")
        await renewing.failed()
        assert len(await renewing.renewed_later()) == len(workable.waiting) == 5
        assert await parts(linker).database.read(_held) == 5
        workable.go.set()
        assert (await sweep).lost == 5


async def test_nothing_is_claimed_ahead_while_answers_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes longer than anybody may be kept waiting: only what is begun at once is held."""
    monkeypatch.setattr("linker.engine.prefetch.BEGIN_WITHIN_SECONDS", 0.05)
    workable = SlowWorkable()
    workable.pause = 0.02
    async with linker_in_memory(clock=(clock := SettableClock()), workable=workable, concurrency=5) as linker:
        await thirty_due(linker, clock)
        workable.hold_from = 10
        sweep = asyncio.create_task(linker.attend_due())
        async with asyncio.timeout(10):
            while len(workable.waiting) < 5:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert await parts(linker).database.read(_held) == 5
        workable.go.set()
        assert (await sweep).waiting == 30


async def test_a_pass_that_fails_leaves_no_lease_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not of a claim whose thread was still at it when another part of the pass failed."""
    workable, claiming = SlowWorkable(), threading.Event()
    async with held_ahead(workable, SettableClock()) as (linker, sweep):
        claim, settle = parts(linker).store.claims.these, parts(linker).store.settle

        def slowly(*given: Any) -> Any:
            claimed = claim(*given)
            claiming.set()
            time.sleep(0.5)
            return claimed

        async def fails(*given: Any, **named: Any) -> list[bool]:
            if claiming.is_set():
                raise StoreUnavailable("disk_full")
            return await settle(*given, **named)

        monkeypatch.setattr(parts(linker).store.claims, "these", slowly)
        monkeypatch.setattr(parts(linker).store, "settle", fails)
        workable.go.set()
        with pytest.raises(StoreUnavailable):
            await sweep
        assert claiming.is_set()
        assert await parts(linker).database.read(_held) == 0


def _held_subdomains(transaction: Transaction) -> list[str]:
    statement = "SELECT subdomain FROM linker_connection WHERE lease_holder IS NOT NULL"
    return list(transaction.exec_driver_sql(statement).scalars())


def _held(transaction: Transaction) -> int:
    statement = "SELECT count(*) FROM linker_connection WHERE lease_holder IS NOT NULL"
    return int(transaction.exec_driver_sql(statement).scalar_one())


async def test_a_long_pass_keeps_its_leases() -> None:
    """What is held is renewed in time, so that nobody else takes it while Workable thinks."""
    clock, workable = SettableClock(), SlowWorkable()
    async with linker_in_memory(clock=clock, workable=workable, lease_seconds=2) as linker:
        await waiting(linker)
        clock.advance(minutes=1)
        sweep = asyncio.create_task(linker.attend_due())
        await workable.asked_once.wait()
        first = await parts(linker).database.read(_lease_end)
        clock.advance(seconds=1)
        async with asyncio.timeout(10):
            while await parts(linker).database.read(_lease_end) == first:  # noqa: ASYNC110 - the database sets no event
                await asyncio.sleep(0.05)
        workable.go.set()
        assert (await sweep).waiting == 1


async def test_a_worker_that_cannot_renew_begins_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """It claims no more and asks no more; what it asked already is still written, if the row is as it was."""
    clock, workable = SettableClock(), SlowWorkable()
    async with linker_in_memory(clock=clock, workable=workable, lease_seconds=2, concurrency=2) as linker:
        for number in range(6):
            await waiting(linker, f"customer-{number}")
        clock.advance(minutes=1)
        failed = asyncio.Event()

        async def away(*_: object) -> list[str]:
            failed.set()
            raise StoreUnavailable("unreachable")

        monkeypatch.setattr(parts(linker).store, "renew", away)
        asked = len(workable.asked)
        sweep = asyncio.create_task(linker.attend_due())
        async with asyncio.timeout(10):
            await failed.wait()
        workable.go.set()
        done = await sweep
    assert len(workable.asked) - asked == 2
    assert (done.claimed, done.waiting) == (2, 2)


def _lease_end(transaction: Transaction) -> str:
    return str(transaction.exec_driver_sql("SELECT max(lease_until) FROM linker_connection").scalar_one())
