"""How many are claimed ahead, at each pace of Workable's, and what becomes of those that are not begun soon."""

import asyncio
from datetime import timedelta
from itertools import count

import pytest

from linker.engine import prefetch
from linker.engine.executor import PlannedDuty
from linker.engine.fairness import FairClaims
from linker.engine.leases import HeldLeases, LeaseIssuer
from linker.engine.ports import Lease, SystemClock
from linker.engine.prefetch import AHEAD_RATIO, ClaimPacing, Prefetch
from states.connection import Connection
from tests.builders import a_connection

CONCURRENCY, BATCH = 5, 40


class EndlessTurns(FairClaims):
    """There is always more that is due."""

    def __init__(self) -> None:
        self.claims: list[int] = []
        self.over = False
        self._numbers = count()

    async def claim(self, lease: Lease, most: int) -> list[Connection]:
        """A whole batch."""
        self.claims.append(most)
        await asyncio.sleep(0)
        return [a_connection(id=f"con_{next(self._numbers)}") for _ in range(most)]


class Leases(HeldLeases):
    """Leases that are held, and nothing else."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def took(self, batch: object, lease: Lease) -> None:
        """Hold a batch."""
        assert isinstance(batch, list)
        self.held += [one.id for one in batch]


def plan(held: Connection) -> PlannedDuty:
    """Nothing is done."""
    return PlannedDuty(held)


class Scene:
    """A prefetch that takes from endless turns."""

    def __init__(self, *, latency: float | None) -> None:
        self.turns, self.leases = EndlessTurns(), Leases()
        self.pacing = ClaimPacing(CONCURRENCY, BATCH, latency)
        lease_issuer = LeaseIssuer(SystemClock(), timedelta(minutes=1))
        stopping = asyncio.Event()
        self.prefetch = Prefetch(
            self.turns, lease_issuer, self.leases, plan=plan, pacing=self.pacing, stopping=stopping
        )

    async def begin(self, number: int) -> None:
        """Begin so many, one after another, while claims go on."""
        for _ in range(number):
            assert await self.prefetch.next() is not None
            await asyncio.sleep(0)
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("latency", "first", "then"),
    [
        pytest.param(None, CONCURRENCY, 1, id="not known yet"),
        pytest.param(0.001, CONCURRENCY * AHEAD_RATIO, BATCH, id="quick: a whole batch"),
        pytest.param(0.1, CONCURRENCY, 25, id="those that are begun within half a second"),
        pytest.param(0.25, CONCURRENCY, 10, id="less quick"),
        pytest.param(0.6, CONCURRENCY, 1, id="slow: as many as are free"),
    ],
)
async def test_as_many_are_claimed_as_are_begun_soon(latency: float | None, first: int, then: int) -> None:
    """At the start of a pass all are free, and are not kept waiting for a whole batch."""
    scene = Scene(latency=latency)
    await asyncio.gather(*(scene.prefetch.next() for _ in range(CONCURRENCY)))
    await scene.begin(first - CONCURRENCY + 1)
    assert scene.turns.claims[:2] == [first, then]


async def test_a_slow_workable_gets_one_after_another() -> None:
    """Whoever is free again claims for himself, when even the next one would wait for too long."""
    scene = Scene(latency=30.0)
    await scene.begin(3)
    assert scene.turns.claims == [1, 1, 1]


async def test_little_more_is_held_than_is_begun_while_a_claim_takes() -> None:
    """At each begin the next batch may be claimed, but no more than a few are ever held and not begun."""
    scene, most = Scene(latency=0.001), 0
    for begun in range(1, 200):
        await scene.begin(1)
        most = max(most, len(scene.leases.held) - begun)
    assert most <= CONCURRENCY * AHEAD_RATIO + BATCH
    assert most > CONCURRENCY * AHEAD_RATIO, "but nobody waits for a claim either"


async def test_what_is_claimed_while_it_is_stopped_is_not_begun() -> None:
    """A pass that cannot renew its leases begins nothing more, whatever is still on its way."""
    scene = Scene(latency=None)
    waiting = asyncio.create_task(scene.prefetch.next())
    await asyncio.sleep(0)
    assert scene.prefetch.stop() == []
    assert await waiting is None
    assert scene.leases.held, "it was claimed all the same, and goes back at the end of the pass"


@pytest.mark.parametrize(("latency", "few"), [(0.0, 200), (0.025, 200), (0.05, 100), (0.5, 10), (0.6, 0), (None, 0)])
def test_the_next_batch_is_claimed_when_few_are_left(latency: float | None, few: int) -> None:
    """As many as are begun within a tenth of a second, and never more than four times those that are attended."""
    pacing = ClaimPacing(50, 500, latency)
    assert not few or pacing.is_early_enough(few - 1)
    assert not pacing.is_early_enough(few)
    assert pacing.next_batch(free=50) == max(few, 50)


async def test_what_is_not_begun_soon_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while others are begun; and from then on no more is claimed than is begun at once."""
    monkeypatch.setattr(prefetch, "BEGIN_WITHIN_SECONDS", 0.2)
    scene = Scene(latency=0.001)
    await scene.begin(1)
    giving_back = asyncio.create_task(scene.prefetch.overdue())
    async with asyncio.timeout(10):
        while not giving_back.done():
            assert await scene.prefetch.next() is not None
            await asyncio.sleep(0.05)
    overdue = await giving_back
    assert 0 < len(overdue) < len(scene.leases.held) - 1, "those that were just claimed are kept"
    assert scene.pacing.next_batch(free=1) == 1
    assert not scene.pacing.is_early_enough(0)


def test_a_few_slow_answers_do_not_make_a_slow_workable() -> None:
    """The pace follows the answers, one tenth at a time."""
    pacing = ClaimPacing(CONCURRENCY, BATCH)
    for _ in range(50):
        pacing.took(0.01)
    pacing.took(1.0)
    assert pacing.next_batch(free=1) > CONCURRENCY
    for _ in range(50):
        pacing.took(10.0)
    assert pacing.next_batch(free=1) == 1
