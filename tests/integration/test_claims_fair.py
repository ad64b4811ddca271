"""Claims among many: owners take turns, shared accounts and partners' ids have one ration for all workers."""

from datetime import datetime, timedelta
from itertools import count

import pytest

from linker.engine.fairness import FairClaims
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.rate_limits import SharedRateLimits
from linker.testing import SettableClock
from linker.workable.api import WINDOW_SECONDS
from linker.workable.call_log import LONGEST_AHEAD_SECONDS
from states.connection import Account, Connection, ConnectionState
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    House,
    a_credential,
    a_lease,
    a_recruiter,
    kept,
)

_leases = count(1)


async def due(house: House, owner: str, *, subdomain: str, late: float = 60.0) -> Connection:
    """A connection that waits for its recruiter and is due."""
    return await kept(
        house,
        owner=owner,
        subdomain=subdomain,
        account=Account(id=f"id-of-{subdomain}", name=subdomain, subdomain=subdomain),
        state=ConnectionState.AWAITING_RECRUITER,
        token=a_credential(),
        recruiter=a_recruiter(),
        due_at=NOW - timedelta(seconds=late),
    )


async def claimed(store: ConnectionStore, *, now: datetime = NOW, limit: int = 100) -> list[str]:
    """The ids that one claim gives."""
    lease = a_lease(f"worker:{next(_leases)}", until=now + MINUTE)
    return [one.id for one in await store.claim_due(now=now, limit=limit, lease=lease)]


async def test_no_owner_waits_for_anothers_crowd(house: House) -> None:
    """Ten connections of a small owner are claimed after one batch, though a hundred others are longer due."""
    for number in range(100):
        await due(house, "crowd", subdomain=f"crowd{number}", late=3600 - number)
    few = {(await due(house, "few", subdomain=f"few{number}")).id for number in range(10)}
    turns = FairClaims(house.store, SettableClock(NOW))
    batches = []
    while not turns.over:
        batches.append([one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}"), 20)])
    assert few <= set(batches[1])
    ids = [one for batch in batches for one in batch]
    assert len(ids) == len(set(ids)) == 110


async def test_who_falls_due_during_a_crowd_does_not_wait_for_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turns are worked out anew now and then: for others' few, and for whom the pass brought a state further."""
    monkeypatch.setattr("linker.engine.fairness.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("linker.engine.fairness.FRESH_PER_SECOND_RATIO", 0)
    for number in range(100):
        await due(house, "crowd", subdomain=f"crowd{number}", late=3600 - number)
    goes_on = await due(house, "goes-on", subdomain="goes-on", late=7200)
    turns, batches = FairClaims(house.store, SettableClock(NOW)), []
    for _ in range(2):
        batches.append([one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}"), 10)])
    assert goes_on.id in batches[0]
    await house.sql(
        "UPDATE linker_connection SET state = 'linked', lease_holder = NULL, lease_until = NULL WHERE id = :id",
        id=goes_on.id,
    )
    few = {(await due(house, "few", subdomain=f"few{number}")).id for number in range(3)}
    batches.append([one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}"), 10)])
    assert {goes_on.id, *few} <= set(batches[2])


async def test_no_owner_waits_for_anothers_crowd_at_a_partners_ration(house: House) -> None:
    """All calls come out of one ration: a crowd that is longer due does not eat it up, second after second."""
    for number in range(200):
        await due(house, "crowd", subdomain=f"crowd{number}", late=3600 - number)
    few = {(await due(house, "few", subdomain=f"few{number}")).id for number in range(10)}
    store, clock, made = ConnectionStore(house.database, SharedRateLimits("client")), SettableClock(NOW), []
    for _ in range(10):
        turns = FairClaims(store, clock, scarce=True)
        while not turns.over:
            until = clock.now() + MINUTE
            made += [one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}", until=until), 50)]
        clock.advance(seconds=1)
    assert few <= set(made)
    [(versions,)] = await house.sql("SELECT sum(version) FROM linker_connection")
    assert versions < 210 * 2 + 10 * 100, "a spent ration must not be asked for everybody in every pass"


async def test_a_partners_pass_is_over_when_its_ration_is_spent(house: House) -> None:
    """After a batch of which nobody got a call nothing more is claimed in the same pass."""
    for number in range(100):
        await due(house, f"owner-{number}", subdomain=f"sub{number}")
    turns = FairClaims(ConnectionStore(house.database, SharedRateLimits("client")), SettableClock(NOW), scarce=True)
    batches = []
    while not turns.over:
        batches.append(len(await turns.claim(a_lease(f"worker:{next(_leases)}"), 10)))
    assert batches == [5, 0]
    assert await house.sql("SELECT count(*) FROM linker_connection WHERE version > 1") == [(20,)]


async def test_a_first_batch_that_is_put_off_does_not_end_the_pass(house: House) -> None:
    """The longest due wait for their ration; all others come in the same pass."""
    crowd = [await due(house, f"shared-{number}", subdomain="shared", late=3600) for number in range(20)]
    others = {(await due(house, f"alone-{number}", subdomain=f"alone{number}")).id for number in range(5)}
    for _ in range(10):
        assert await house.store.claim(crowd[0].id, now=NOW, lease=a_lease("person"))
        await house.store.release([crowd[0].id], a_lease("person"))
    turns, ids = FairClaims(house.store, SettableClock(NOW)), set()
    while not turns.over:
        ids |= {one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}"), 10)}
    assert ids == others


async def test_turns_pass_over_what_others_hold(house: House) -> None:
    """A batch that another worker was faster with is empty, and not the end."""
    for number in range(30):
        await due(house, "crowd", subdomain=f"crowd{number}")
    mine, theirs = FairClaims(house.store, SettableClock(NOW)), FairClaims(house.another(), SettableClock(NOW))
    first = {one.id for one in await mine.claim(a_lease("mine:1"), 10)}
    second = {one.id for one in await theirs.claim(a_lease("theirs:1"), 10)}
    third = {one.id for one in await mine.claim(a_lease("mine:2"), 10)}
    fourth = {one.id for one in await theirs.claim(a_lease("theirs:2"), 10)}
    assert not mine.over
    assert first.isdisjoint(second)
    assert (first | second).isdisjoint(third | fourth)
    assert third.isdisjoint(fourth)


async def test_a_shared_account_has_one_ration(house: House) -> None:
    """Of seven connections to one account four are claimed, whichever workers ask; the others are put off, apart."""
    ids = {(await due(house, f"owner-{number}", subdomain="shared")).id for number in range(7)}
    alone = await due(house, "alone", subdomain="alone")
    first = await claimed(house.store, limit=3)
    second = await claimed(house.another())
    assert alone.id in {*first, *second}
    assert len({*first, *second} - {alone.id}) == 4
    waiting = ids - {*first, *second}
    put_off = sorted([(await house.store.get(one)).due_at or NOW for one in waiting])
    assert put_off == [NOW + timedelta(seconds=after) for after in (10, 12.5, 15)]
    assert set(await claimed(house.store, now=NOW + timedelta(seconds=15))) == waiting


async def test_a_closed_connection_shares_nothing(house: House) -> None:
    """An account with one open connection needs no ration."""
    await kept(house, subdomain="shared", closed_at=NOW)
    await due(house, "open", subdomain="shared")
    assert len(await claimed(house.store)) == 1
    assert await house.sql("SELECT name FROM linker_rate_limit") == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_partner_has_one_ration_over_all(house: House, workers: int) -> None:
    """In any ten seconds sweeps make at most 44 of the 50 calls that Workable allows to a client id."""
    for number in range(120):
        await due(house, f"owner-{number}", subdomain=f"sub{number}")
    stores = [
        ConnectionStore(house.database, SharedRateLimits("client")),
        ConnectionStore(house.database, SharedRateLimits("client")),
    ][:workers]
    made = []
    for second in range(10):
        for store in stores:
            made += await claimed(store, now=NOW + timedelta(seconds=second))
    assert 36 <= len(made) <= 44
    assert len(made) == len(set(made))
    [(name,)] = await house.sql("SELECT name FROM linker_rate_limit")
    assert name.startswith("partner:")
    assert "client" not in name


async def test_what_people_ask_for_is_counted_and_not_put_off(house: House) -> None:
    """A person is served at once, and the sweep makes room for that."""
    one, other = await due(house, "one", subdomain="shared"), await due(house, "other", subdomain="shared")
    for _ in range(6):
        assert await house.store.claim(one.id, now=NOW, lease=a_lease("person"))
        await house.store.release([one.id], a_lease("person"))
    assert await claimed(house.store) == []
    late = NOW + timedelta(seconds=12.5)
    assert set(await claimed(house.store, now=late)) == {one.id, other.id}


async def test_a_clock_that_went_wrong_stops_nobody_for_long(house: House) -> None:
    """A ration that a wrong clock wrote far ahead is worth a minute, from when it is first seen."""
    one = await due(house, "one", subdomain="shared")
    await due(house, "other", subdomain="shared")
    await house.store.claim(one.id, now=NOW, lease=a_lease("person", until=NOW))
    far = f"{NOW.timestamp() + 1e9:.3f}"
    await house.sql(
        "UPDATE linker_rate_limit SET spread_until = spread_until + 1e9, blocked_until = :far", far=float(far)
    )
    log = f'[["look", 4, {far}, null]]'
    await house.sql(f"UPDATE linker_rate_limit SET calls = '{log}'")  # noqa: S608 - ours
    seen = NOW + timedelta(seconds=LONGEST_AHEAD_SECONDS)
    assert len(await claimed(house.store, now=seen)) == 0
    assert (
        len(await claimed(house.store, now=seen + timedelta(seconds=LONGEST_AHEAD_SECONDS + 2 * WINDOW_SECONDS))) == 2
    )


async def test_a_lease_is_renewed_by_its_holder_only(house: House) -> None:
    """A renewed lease lasts longer; what somebody else holds by now is not given."""
    mine, theirs = await kept(house, due_at=NOW), await kept(house, due_at=NOW)
    await house.store.claim(mine.id, now=NOW, lease=a_lease("me"))
    await house.store.claim(theirs.id, now=NOW, lease=a_lease("them"))
    later = a_lease("me", until=NOW + 3 * MINUTE)
    assert await house.store.renew([mine.id, theirs.id], later) == [mine.id]
    assert await house.store.claim(mine.id, now=NOW + 2 * MINUTE, lease=a_lease("them")) is None
    assert await house.store.claim(theirs.id, now=NOW + 2 * MINUTE, lease=a_lease("third")) is not None


async def test_who_is_put_off_does_not_end_the_pass(house: House) -> None:
    """Connections that wait for their ration make a batch smaller; the others that are due come all the same."""
    for number in range(5):
        await due(house, f"shared-{number}", subdomain="shared", late=3600)
    others = {(await due(house, f"alone-{number}", subdomain=f"alone{number}")).id for number in range(25)}
    turns, ids = FairClaims(house.store, SettableClock(NOW)), []
    while not turns.over:
        ids += [one.id for one in await turns.claim(a_lease(f"worker:{next(_leases)}"), 10)]
    assert others <= set(ids)
    assert len(ids) == len(set(ids)) == 29


async def test_a_pass_meets_each_connection_once(house: House) -> None:
    """What is given back unwritten is still due: the next pass takes it, and not the same one again and again."""
    stubborn = await due(house, "stubborn", subdomain="stubborn")
    turns, ids = FairClaims(house.store, SettableClock(NOW)), []
    while not turns.over:
        lease = a_lease(f"worker:{next(_leases)}")
        ids += [one.id for one in await turns.claim(lease, 10)]
        await house.store.release([stubborn.id], lease)
    assert ids == [stubborn.id]
