"""What one customer types never costs another: whose calls are counted where, over all processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linker import Connection, ConnectionState, Linker, ProblemCode, Settings, describe, new_key
from linker.database.database import Database
from linker.persistence.rate_limits import (
    REFUSED_AHEAD_SECONDS,
    REFUSED_PAUSE_SECONDS,
    count_refused_attempts,
)
from linker.testing import Limit, SettableClock, World, linker_in_memory, running
from tests.integration.storehouse import NOW, House
from tests.seams import parts

KEYS = (new_key(),)
GOOD = "a-good-token-of-the-victim-1"
#: So many slips cost nobody anything.
FREE = int(REFUSED_AHEAD_SECONDS / REFUSED_PAUSE_SECONDS)


@asynccontextmanager
async def scene(house: House) -> AsyncIterator[tuple[World, Linker, SettableClock]]:
    """A Workable with the victim's account in it, and a linker on it whose clock stands still."""
    world, clock = World(limit=Limit.off()), SettableClock()
    world.add_account("victim", name="Victim")
    world.add_token("victim", GOOD)
    with running(world) as url:
        given = Settings(database_url=house.url, secret_keys=KEYS, workable_url=url)
        async with Linker(given, clock=clock) as linker:
            yield world, linker, clock


async def gives(linker: Linker, owner: str, token: str = GOOD, subdomain: str = "victim") -> Connection:
    """A customer opens a connection and gives a token."""
    connection = await linker.create(owner=owner)
    return await linker.submit_token(connection.id, subdomain=subdomain, token=token)


async def guesses(linker: Linker, times: int, owner: str = "mallory", subdomain: str = "victim") -> list[Connection]:
    """A customer gives tokens that are no good, one after another, for somebody's subdomain."""
    connection = await linker.create(owner=owner)
    junk = (f"junk-token-number-{number:04}" for number in range(times))
    return [await linker.submit_token(connection.id, subdomain=subdomain, token=each) for each in junk]


def code(connection: Connection) -> ProblemCode | None:
    """What is the matter."""
    return connection.problem.code if connection.problem else None


@pytest.mark.parametrize("crowd", [1, 3])
async def test_a_stranger_who_names_an_account_does_not_starve_it(shared_house: House, crowd: int) -> None:
    """However many strangers give junk for the victim's subdomain, its looks and its people are served at once."""
    async with scene(shared_house) as (world, linker, clock):
        victim = await gives(linker, "victim-co")
        assert victim.state is ConnectionState.AWAITING_RECRUITER
        assert victim.recruiter is not None
        for number in range(crowd):
            await guesses(linker, FREE, owner=f"mallory-{number}")
        world.add_recruiter("victim", name=victim.recruiter.name, email=victim.recruiter.email)
        clock.advance(minutes=1)
        await guesses(linker, 5, owner="mallory-at-the-same-time")
        await linker.attend_due()
        assert (await linker.get(victim.id)).state is ConnectionState.LINKED
        again = await gives(linker, "victim-department")
        assert again.state is ConnectionState.AWAITING_RECRUITER
        assert (await linker.confirm_recruiter(again.id)).state is ConnectionState.AWAITING_RECRUITER


async def test_a_person_with_a_good_token_is_never_put_off(shared_house: House) -> None:
    """Also when many give good tokens of one account within a moment: that is Workable's to limit."""
    async with scene(shared_house) as (_, linker, _clock):
        states = [(await gives(linker, f"department-{number}")).state for number in range(12)]
    assert states == [ConnectionState.AWAITING_RECRUITER] * 12


async def test_who_guesses_is_slowed_down_over_all_processes(shared_house: House) -> None:
    """After some slips the next attempts wait, whichever process is asked; what was given is kept and is tried then."""
    async with scene(shared_house) as (world, linker, clock):
        told = await guesses(linker, FREE)
        assert {code(each) for each in told} == {ProblemCode.TOKEN_REFUSED}
        await guesses(linker, 1)
        asked = len(world.requests())
        async with Linker(linker.settings, clock=clock) as other:
            slowed = await gives(other, "mallory", "junk-token-once-more")
        assert code(slowed) is ProblemCode.THROTTLED
        assert slowed.problem is not None
        assert describe(slowed.problem).detail.startswith("Many tokens that were no good were given before")
        assert slowed.candidate is not None
        assert slowed.not_before is not None
        assert timedelta(0) < slowed.not_before - clock.now() <= timedelta(seconds=REFUSED_AHEAD_SECONDS)
        assert len(world.requests()) == asked
        assert (await gives(linker, "somebody-else")).state is ConnectionState.AWAITING_RECRUITER
        clock.advance(minutes=1)
        await linker.attend_due()
        assert code(await linker.get(slowed.id)) is ProblemCode.TOKEN_REFUSED


async def test_who_was_slowed_down_gives_a_good_token(shared_house: House) -> None:
    """It is kept, and the connection goes on by itself; a good token costs nothing."""
    async with scene(shared_house) as (_, linker, clock):
        await guesses(linker, FREE + 1)
        slowed = await gives(linker, "mallory")
        assert code(slowed) is ProblemCode.THROTTLED
        clock.advance(minutes=1)
        await linker.attend_due()
        assert (await linker.get(slowed.id)).state is ConnectionState.AWAITING_RECRUITER


async def test_a_mismatch_is_an_attempt_too(shared_house: House) -> None:
    """A good token of one's own does not open the way to try the subdomains of others."""
    async with scene(shared_house) as (world, linker, _):
        world.add_account("mallory", name="Mallory")
        world.add_token("mallory", "a-good-token-of-mallory")
        found = [await gives(linker, "mallory", "a-good-token-of-mallory") for _ in range(FREE + 2)]
        assert [code(each) for each in found[:FREE]] == [ProblemCode.SUBDOMAIN_MISMATCH] * FREE
        assert code(found[-1]) is ProblemCode.THROTTLED


async def test_what_is_counted_for_an_account_is_what_its_own_tokens_cost(shared_house: House) -> None:
    """Who only names it adds nothing to the row of its calls."""
    async with scene(shared_house) as (_, linker, _clock):
        await gives(linker, "victim-co")
        before = await limits(linker.settings)
        await guesses(linker, 3)
        after = await limits(linker.settings)
    assert set(after) - set(before) == {name for name in after if name.startswith("attempts:")} != set()
    assert {name: after[name] for name in before} == before


async def limits(given: Settings) -> dict[str, tuple[object, ...]]:
    """The rows of limits, by their names."""
    database = Database(given.database_url)
    query = "SELECT name, spread_until, blocked_until, calls FROM linker_rate_limit"
    try:
        rows = await database.read(lambda transaction: transaction.exec_driver_sql(query).all())
        return {name: tuple(map(str, counted)) for name, *counted in rows}
    finally:
        database.close()


@settings(max_examples=20)
@given(gaps=st.lists(st.floats(0, 30), min_size=15, max_size=40))
async def test_no_more_attempts_than_the_rate_get_through(gaps: list[float]) -> None:
    """In any time, however attempts are spread: the free ones and one for each pause. The wait is bounded."""
    clock = SettableClock(NOW)
    async with linker_in_memory(clock=clock) as linker:
        began, through = clock.now(), 0
        for gap in gaps:
            clock.advance(seconds=gap)
            now = clock.now()
            until = await parts(linker).store.attempts_wait_until("mallory", now=now)
            if until is None:
                through += 1
                await parts(linker).database.write(
                    lambda transaction, now=now: count_refused_attempts(transaction, ["mallory"], now)  # type: ignore[misc]
                )
            else:
                assert now < until <= now + timedelta(seconds=REFUSED_AHEAD_SECONDS)
            assert through <= FREE + 1 + (now - began).total_seconds() / REFUSED_PAUSE_SECONDS
            other = await parts(linker).store.attempts_wait_until("other", now=clock.now())
            assert other is None
