"""What every engine's store does alike; each test runs on an SQLite file, in SQLite's memory, and on PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linker.engine.ports import Selection, Settlement
from linker.errors import LinkerError, NotFound, OurFault
from states.connection import Account, Connection, ConnectionState, Credential, Doubt, Problem, Recruiter
from states.events import Paused, Unlinked
from states.history import Step
from states.machine import advance
from states.problems import PROBLEMS, ProblemCode, ProblemOwner
from states.table import LAW
from tests.integration.storehouse import (
    MINUTE,
    NOW,
    SECOND,
    House,
    a_connection,
    a_credential,
    a_lease,
    a_recruiter,
    an_account,
    change,
    fresh_id,
    kept,
    kept_due,
    linked,
    opened,
    opening,
)

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState

# ── anything at all ───────────────────────────────────────────────────────────────────────────────────────────────────

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
#: PostgreSQL keeps no NUL: metadata with one is refused at the door.
details = st.dictionaries(texts, texts, max_size=4)
moments = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365_000)).map(lambda age: EPOCH + age)
days = st.dates(min_value=date(1970, 1, 1), max_value=date(2999, 1, 1))
counts = st.integers(min_value=0, max_value=2**31 - 1)
codes = st.sampled_from(ProblemCode)
states = st.sampled_from(ConnectionState)
evidence = st.dictionaries(texts, st.none() | counts | texts | st.lists(texts, max_size=2), max_size=3)

credentials = st.builds(
    Credential,
    subdomain=texts,
    sealed=texts.map(lambda body: f"v1.key.{body}"),
    fingerprint=texts,
    expires_on=st.none() | days,
)
#: Texts, numbers and lists of texts, by name. An empty one is none at all.
params = st.dictionaries(texts, counts | texts | st.lists(texts, max_size=2), max_size=3)
problems = st.builds(Problem, code=codes, since=moments, params=params)
accounts = st.builds(Account, id=st.builds(lambda: uuid.uuid4().hex), name=texts, subdomain=texts)
recruiters = st.builds(
    Recruiter, name=texts, email=st.builds(lambda: f"{uuid.uuid4().hex}@example.com"), id=st.none() | texts
)
connections = st.builds(
    Connection,
    id=st.builds(fresh_id),
    owner=texts,
    created_at=moments,
    state=states,
    state_since=moments,
    metadata=details,
    subdomain=st.none() | texts,
    account=st.none() | accounts,
    recruiter=st.none() | recruiters,
    token=st.none() | credentials,
    candidate=st.none() | credentials,
    problem=st.none() | problems,
    replacement_problem=st.none() | problems,
    doubt=st.none() | st.builds(Doubt, code=codes, count=counts, since=moments),
    attempts=counts,
    checks=counts,
    due_at=st.none() | moments,
    not_before=st.none() | moments,
    deadline=st.none() | moments,
    linked_at=st.none() | moments,
    last_ok_at=st.none() | moments,
    paused_at=st.none() | moments,
    closed_at=st.none() | moments,
)
steps = st.builds(
    Step,
    event=texts,
    source=st.none() | states,
    target=states,
    at=moments,
    actor=texts,
    reason=st.none() | texts,
    problem=st.none() | codes,
    evidence=evidence,
)
anything = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@anything
@given(connection=connections)
async def test_every_fact_of_a_new_connection_comes_back(house: House, connection: Connection) -> None:
    """What is added is read back field by field, to the microsecond and in UTC."""
    added = await house.store.add(opening(connection))
    assert added == replace(connection, version=1, last_seq=1, updated_at=connection.created_at)
    assert added.metadata == connection.metadata
    assert list(added.metadata) == list(connection.metadata)
    assert {found.tzinfo for found in (added.created_at, added.state_since, added.due_at) if found} == {UTC}


@anything
@given(first=connections, then=connections, step=steps)
async def test_every_changed_fact_comes_back(house: House, first: Connection, then: Connection, step: Step) -> None:
    """A connection can become any other; what is settled is read back, with its step."""
    before = await house.store.add(opening(first))
    after = replace(then, id=first.id, version=before.version, last_seq=before.last_seq)
    assert await house.store.settle([Settlement(before=before, after=after, step=step)], now=NOW, release=True) == [
        True
    ]
    assert await house.store.get(first.id) == replace(after, version=2, last_seq=2, updated_at=NOW)
    assert (await house.store.history(first.id))[1] == replace(step, seq=2)


async def test_a_time_of_another_zone_comes_back_in_utc(house: House) -> None:
    """Whatever zone a time is given in, the moment stays and the zone is UTC."""
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    found = await house.store.get((await kept(house, due_at=NOW.astimezone(kathmandu))).id)
    assert found.due_at == NOW
    assert found.due_at is not None
    assert found.due_at.utcoffset() == timedelta(0)


async def test_a_time_without_a_zone_is_refused(house: House) -> None:
    """A naive time is a fault of ours, and nothing is written."""
    nobody = a_connection(due_at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(OurFault) as refused:
        await house.store.add(opening(nobody))
    assert "time zone" in refused.value.params["driver"]
    with pytest.raises(NotFound):
        await house.store.get(nobody.id)


async def test_absent_values_are_null_and_not_the_text_null(house: House) -> None:
    """An absent fact is SQL's NULL, an empty dictionary is JSON's {}."""
    connection = await kept(house)
    [row] = await house.sql(
        "SELECT account_id IS NULL, token_sealed IS NULL, token_expires_on IS NULL, doubt_count IS NULL, "
        "CAST(metadata AS TEXT) FROM linker_connection WHERE id = :id",
        id=connection.id,
    )
    assert [bool(value) for value in row[:4]] == [True] * 4
    assert row[4] == "{}"


async def test_the_law_is_written_with_each_decision(house: House) -> None:
    """The hash of the law that decided is in the row."""
    connection = await kept(house)
    await house.sql("UPDATE linker_connection SET law = 'an older one' WHERE id = :id", id=connection.id)
    await house.store.settle([change(connection, attempts=1)], now=NOW, release=False)
    assert await house.sql("SELECT law FROM linker_connection WHERE id = :id", id=connection.id) == [(LAW,)]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("connection_id", ["con_nobody", "", "con_'; DROP TABLE linker_connection; --"])
async def test_an_unknown_id_is_not_found(house: House, connection_id: str) -> None:
    """Reading, its history and claiming say that there is no such connection."""
    with pytest.raises(NotFound):
        await house.store.get(connection_id)
    with pytest.raises(NotFound):
        await house.store.history(connection_id)
    with pytest.raises(NotFound):
        await house.store.claim(connection_id, now=NOW, lease=a_lease())


async def test_a_duplicate_id_is_refused_and_changes_nothing(house: House) -> None:
    """A second connection with the same id is a fault of ours; the first one keeps its facts and its history."""
    first = await kept(house, owner="first")
    with pytest.raises(OurFault):
        await house.store.add(opening(a_connection(id=first.id, owner="second")))
    assert await house.store.get(first.id) == first
    assert len(await house.store.history(first.id)) == 1


async def test_connections_are_found_oldest_first(house: House) -> None:
    """The order is the order of opening, then of ids; a limit cuts the end off."""
    late = await kept(house, id="b", created_at=NOW + SECOND)
    twins = [await kept(house, id=name) for name in ("z", "a")]
    early = await kept(house, id="y", created_at=NOW - SECOND)
    expected = [early.id, twins[1].id, twins[0].id, late.id]
    assert [found.id for found in await house.store.find()] == expected
    assert [found.id for found in await house.store.find(Selection(limit=2))] == expected[:2]
    assert await house.store.find(Selection(limit=0)) == []


async def test_connections_are_found_by_state_and_owner(house: House) -> None:
    """Each filter narrows, both together narrow more."""
    for owner in ("acme", "bolt"):
        for state in ConnectionState:
            await kept(house, owner=owner, state=state)
    assert {found.state for found in await house.store.find(Selection(state=LINKED))} == {LINKED}
    assert len(await house.store.find(Selection(state=LINKED))) == 2
    assert {found.owner for found in await house.store.find(Selection(owner="bolt"))} == {"bolt"}
    [one] = await house.store.find(Selection(owner="bolt", state=FAILED))
    assert (one.owner, one.state) == ("bolt", FAILED)
    assert await house.store.find(Selection(owner="Bolt")) == []


def a_problem(code: ProblemCode) -> Problem:
    """A problem since now."""
    return Problem(code=code, since=NOW)


@pytest.mark.parametrize(
    ("facts", "stuck"),
    [
        ({}, False),
        ({"state": FAILED}, True),
        ({"paused_at": NOW}, True),
        ({"replacement_problem": a_problem(ProblemCode.TOKEN_REFUSED)}, True),
        ({"state": FAILED, "closed_at": NOW}, False),
        ({"paused_at": NOW, "closed_at": NOW}, False),
        *(
            ({"problem": a_problem(code)}, advice.owner in {ProblemOwner.CUSTOMER, ProblemOwner.OPERATOR})
            for code, advice in PROBLEMS.items()
        ),
    ],
    ids=str,
)
async def test_stuck_are_those_that_a_person_has_to_act_for(
    memory_house: House, facts: dict[str, Any], stuck: bool
) -> None:
    """Stuck is an open connection that failed, is paused, or has a problem that its owner has to mend by hand."""
    connection = await kept(memory_house, **facts)
    assert [found.id for found in await memory_house.store.find(Selection(stuck=True))] == (
        [connection.id] if stuck else []
    )


async def test_stuck_ones_are_filtered_like_all(house: House) -> None:
    """`stuck` goes together with the other filters."""
    await kept(house, state=FAILED, owner="acme")
    await kept(house, state=LINKED, owner="bolt", paused_at=NOW)
    one = await kept(house, state=FAILED, owner="bolt")
    await kept(house, state=LINKED, owner="bolt")
    assert await house.store.find(Selection(stuck=True, owner="bolt", state=FAILED)) == [one]


async def test_history_is_told_in_order_and_without_gaps(house: House) -> None:
    """Steps count from 1; a look that leaves no step leaves no gap; the last step's target is the state."""
    connection = await kept(house)
    for state in (TOKEN_VALID, AWAITING_RECRUITER, LINKED):
        await house.store.settle([change(connection, state=state)], now=NOW, release=True)
        connection = await house.store.get(connection.id)
        await house.store.settle([change(connection, silent=True, checks=connection.checks + 1)], now=NOW, release=True)
        connection = await house.store.get(connection.id)
    told = await house.store.history(connection.id)
    assert [step.seq for step in told] == [1, 2, 3, 4]
    assert [step.source for step in told] == [None, AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER]
    assert told[-1].target is connection.state is LINKED
    assert connection.last_seq == 4
    assert connection.version == 7


async def test_the_owners_open_connection_to_an_account_is_found(house: House) -> None:
    """Only the same owner's, only the same account's, and only an open one."""
    one = await kept(house, owner="acme", account=an_account("workable-1"))
    await kept(house, owner="acme", account=an_account("workable-2"), closed_at=NOW)
    two = await kept(house, owner="bolt", account=an_account("workable-3"))
    wanted = {("acme", "workable-1"), ("bolt", "workable-1"), ("acme", "workable-2"), ("acme", "workable-3")}
    assert await house.store.connections_with_accounts(wanted) == {("acme", "workable-1"): one.id}
    assert await house.store.connections_with_accounts({("bolt", "workable-3")}) == {("bolt", "workable-3"): two.id}


async def test_the_keys_in_use_are_known(house: House) -> None:
    """The ids of all keys that a token or a candidate is sealed with, each once, and none that is not used any more."""
    assert await house.store.key_ids() == frozenset()
    first = await kept(house, token=a_credential("k1"), candidate=a_credential("k2"))
    await kept(house, token=a_credential("k1"))
    await kept(house, candidate=a_credential("k3"))
    assert await house.store.key_ids() == {"k1", "k2", "k3"}
    await house.store.settle([change(first, candidate=None)], now=NOW, release=False)
    assert await house.store.key_ids() == {"k1", "k3"}


# ── claiming one ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_leases_the_connection_and_moves_its_version(house: House) -> None:
    """The fencing token grows with the claim, and nothing else that the law sees changes."""
    connection = await kept(house)
    claimed = await house.store.claim(connection.id, now=NOW, lease=a_lease("me", until=NOW + MINUTE))
    assert claimed == replace(connection, version=connection.version + 1)
    assert await house.store.get(connection.id) == claimed
    [(holder,)] = await house.sql("SELECT lease_holder FROM linker_connection")
    assert holder == "me"


async def test_a_held_connection_cannot_be_claimed(house: House) -> None:
    """Until the lease ends a second claim gets nothing, not even the holder's own, and changes nothing."""
    connection = await kept(house)
    held = await house.store.claim(connection.id, now=NOW, lease=a_lease("one"))
    almost = NOW + MINUTE - timedelta(microseconds=1)
    assert await house.store.claim(connection.id, now=NOW, lease=a_lease("two")) is None
    assert await house.store.claim(connection.id, now=almost, lease=a_lease("two")) is None
    assert await house.store.claim(connection.id, now=NOW, lease=a_lease("one")) is None
    assert await house.store.get(connection.id) == held


async def test_a_lease_that_ran_out_is_taken_over(house: House) -> None:
    """From the moment that a lease ends, anybody may claim."""
    connection = await kept(house)
    await house.store.claim(connection.id, now=NOW, lease=a_lease("one"))
    taken = await house.store.claim(connection.id, now=NOW + MINUTE, lease=a_lease("two", until=NOW + 2 * MINUTE))
    assert taken is not None
    assert taken.version == connection.version + 2


async def test_only_the_holder_gives_its_lease_back(house: House) -> None:
    """A release by anybody else changes nothing; the holder's frees the connection and leaves its version alone."""
    mine, theirs = await kept(house), await kept(house)
    await house.store.claim(mine.id, now=NOW, lease=a_lease("me"))
    await house.store.claim(theirs.id, now=NOW, lease=a_lease("them"))
    await house.store.release([mine.id, theirs.id, "con_nobody"], a_lease("me"))
    assert await house.store.claim(theirs.id, now=NOW, lease=a_lease("third")) is None
    again = await house.store.claim(mine.id, now=NOW, lease=a_lease("third"))
    assert again is not None
    assert again.version == mine.version + 2
    await house.store.release([], a_lease("me"))


# ── claiming what is due ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_due_longest_is_claimed_first(house: House) -> None:
    """A claim takes the longest due ones, in that order, up to the limit; the next claim takes the rest."""
    due = await kept_due(house, 5)
    first = await house.store.claim_due(now=NOW, limit=3, lease=a_lease("one"))
    rest = await house.store.claim_due(now=NOW, limit=3, lease=a_lease("two"))
    assert [found.id for found in first] == [found.id for found in due[:3]]
    assert [found.id for found in rest] == [found.id for found in due[3:]]
    assert first == [replace(found, version=found.version + 1) for found in due[:3]]
    assert await house.store.claim_due(now=NOW, limit=3, lease=a_lease("three")) == []


async def test_what_is_not_due_is_not_claimed(house: House) -> None:
    """Due is what fell due by now; without a time nothing is owed."""
    await kept(house, due_at=None)
    await kept(house, due_at=NOW + timedelta(microseconds=1))
    now = await kept(house, due_at=NOW)
    claimed = await house.store.claim_due(now=NOW, limit=10, lease=a_lease())
    assert [found.id for found in claimed] == [now.id]


async def test_what_is_held_is_passed_over(house: House) -> None:
    """A connection that somebody attends is not claimed, however long it is due, until the lease ran out."""
    held, free = await kept_due(house, 2)
    await house.store.claim(held.id, now=NOW, lease=a_lease("somebody"))
    first = await house.store.claim_due(now=NOW, limit=1, lease=a_lease("me"))
    assert [found.id for found in first] == [free.id]
    later = NOW + MINUTE
    second = await house.store.claim_due(now=later, limit=10, lease=a_lease("me again", until=later + MINUTE))
    assert [found.id for found in second] == [held.id, free.id]


@pytest.mark.parametrize("event", [Paused(), Unlinked()], ids=["paused", "closed"])
async def test_a_connection_at_rest_is_never_claimed(house: House, event: Paused | Unlinked) -> None:
    """Once the law has paused or closed a due connection, no claim of what is due finds it."""
    [due] = await kept_due(house, 1)
    after = advance(due, event, now=NOW, jitter=0.5)
    assert await house.store.settle([Settlement(before=due, after=after)], now=NOW, release=False) == [True]
    assert await house.store.claim_due(now=NOW + timedelta(days=999), limit=10, lease=a_lease()) == []


# ── settling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def count(house: House, table: str, connection_id: str) -> int:
    """How many rows of a table belong to a connection."""
    [(found,)] = await house.sql(f"SELECT count(*) FROM {table} WHERE connection_id = :id", id=connection_id)  # noqa: S608
    return int(found)


async def test_a_batch_is_written_whole(house: House) -> None:
    """All facts, steps and announcements of a batch are written, whatever mix of columns changes."""
    before = [await kept(house) for _ in range(6)]
    batch = [
        linked(before[0], announcement="connection.linked"),
        change(before[1], silent=True, checks=7),
        change(before[2], problem=a_problem(ProblemCode.THROTTLED), attempts=3, not_before=NOW + MINUTE),
        linked(before[3], announcement="connection.linked"),
        change(before[4], recruiter=a_recruiter(), account=an_account(), token=a_credential()),
        change(before[5], silent=True, metadata={"a": "b"}),
    ]
    assert await house.store.settle(batch, now=NOW + SECOND, release=True) == [True] * 6
    for settlement in batch:
        found = await house.store.get(settlement.after.id)
        told = 1 if settlement.step else 0
        expected = replace(settlement.after, version=2, last_seq=1 + told, updated_at=NOW + SECOND)
        assert found == expected
        assert await count(house, "linker_step", found.id) == 1 + told
        assert await count(house, "linker_outbox", found.id) == (1 if settlement.announcement else 0)


async def test_an_empty_batch_is_written_at_once(house: House) -> None:
    """Nothing to settle is no trouble."""
    assert await house.store.settle([], now=NOW, release=True) == []


async def test_one_lost_race_does_not_cost_the_others_theirs(house: House) -> None:
    """Who lost is told so and left no trace, neither step nor announcement; all others of the batch are written."""
    before = [await kept(house) for _ in range(5)]
    await house.store.claim(before[2].id, now=NOW, lease=a_lease("faster"))
    others = await house.store.get(before[2].id)
    batch = [linked(one, announcement="connection.linked") for one in before]
    assert await house.store.settle(batch, now=NOW, release=True) == [True, True, False, True, True]
    assert await house.store.get(before[2].id) == others
    assert await count(house, "linker_step", others.id) == 1
    assert await count(house, "linker_outbox", others.id) == 0
    for index in (0, 1, 3, 4):
        assert (await house.store.get(before[index].id)).state is LINKED
        assert await count(house, "linker_step", before[index].id) == 2
        assert await count(house, "linker_outbox", before[index].id) == 1


async def test_the_first_of_two_for_the_same_connection_wins(house: House) -> None:
    """A batch that holds a connection twice writes the first one."""
    connection = await kept(house)
    batch = [change(connection, attempts=1), change(connection, attempts=2)]
    assert await house.store.settle(batch, now=NOW, release=True) == [True, False]
    assert (await house.store.get(connection.id)).attempts == 1
    assert [step.seq for step in await house.store.history(connection.id)] == [1, 2]


async def test_a_connection_that_is_gone_is_a_lost_race(house: House) -> None:
    """A row that was erased in the meantime is not written again, and has no step."""
    connection, other = await kept(house), await kept(house)
    await house.sql("DELETE FROM linker_connection WHERE id = :id", id=connection.id)
    batch = [change(connection, attempts=1), change(other, attempts=1)]
    assert await house.store.settle(batch, now=NOW, release=True) == [False, True]
    assert await count(house, "linker_step", connection.id) == 0


async def test_a_worker_that_lost_its_lease_cannot_write(house: House) -> None:
    """The answer of a worker whose lease ran out and was taken over is refused; the new holder's is written."""
    connection = await kept(house, due_at=NOW)
    [late] = await house.store.claim_due(now=NOW, limit=1, lease=a_lease("late"))
    after_lease = NOW + 2 * MINUTE
    [fresh] = await house.store.claim_due(now=after_lease, limit=1, lease=a_lease("fresh", until=after_lease + MINUTE))
    assert await house.store.settle([linked(late)], now=after_lease, release=True) == [False]
    assert await house.store.claim(connection.id, now=after_lease, lease=a_lease("third")) is None
    assert await house.store.settle([linked(fresh)], now=after_lease, release=True) == [True]
    assert await house.store.settle([linked(late)], now=after_lease, release=True) == [False]
    assert [step.seq for step in await house.store.history(connection.id)] == [1, 2]


async def test_what_a_person_did_fences_off_the_answer_under_way(house: House) -> None:
    """A write without a lease moves the version: the holder's answer to the row as it was before is refused."""
    [due] = await kept_due(house, 1)
    [held] = await house.store.claim_due(now=NOW, limit=1, lease=a_lease("worker"))
    assert await house.store.settle([change(held, subdomain="new")], now=NOW, release=False) == [True]
    assert await house.store.settle([linked(held)], now=NOW, release=True) == [False]
    found = await house.store.get(due.id)
    assert (found.subdomain, found.state) == ("new", AWAITING_TOKEN)


@pytest.mark.parametrize("release", [True, False])
async def test_a_lease_is_given_back_with_the_write_only_if_asked(house: House, release: bool) -> None:
    """`release` frees the connection in the same commit; without it the lease stays."""
    connection = await kept(house)
    held = await house.store.claim(connection.id, now=NOW, lease=a_lease("me"))
    assert held is not None
    await house.store.settle([change(held, attempts=1)], now=NOW, release=release)
    again = await house.store.claim(connection.id, now=NOW, lease=a_lease("other"))
    assert (again is not None) is release


async def test_an_owner_has_one_open_connection_to_an_account(house: House) -> None:
    """A second one is told that it lost; the rest of its batch is written; a closed one makes room."""
    first, second, other = [await kept(house, owner="acme") for _ in range(3)]
    account = an_account()
    assert await house.store.settle([change(first, account=account)], now=NOW, release=True) == [True]
    batch = [change(second, account=account), change(other, attempts=1)]
    assert await house.store.settle(batch, now=NOW, release=True) == [False, True]
    assert (await house.store.get(second.id)).account is None
    assert await count(house, "linker_step", second.id) == 1
    first = await house.store.get(first.id)
    await house.store.settle([change(first, closed_at=NOW)], now=NOW, release=True)
    assert await house.store.settle([change(second, account=account)], now=NOW, release=True) == [True]
    another_owner = await kept(house, owner="bolt")
    assert await house.store.settle([change(another_owner, account=account)], now=NOW, release=True) == [True]


async def test_a_recruiters_email_belongs_to_one_connection(house: House) -> None:
    """The e-mail is unique over all connections, closed ones too; within one batch the first one has it."""
    before = [await kept(house) for _ in range(3)]
    taken = a_recruiter()
    batch = [change(one, recruiter=taken) for one in before[:2]]
    assert await house.store.settle(batch, now=NOW, release=True) == [True, False]
    first = await house.store.get(before[0].id)
    await house.store.settle([change(first, closed_at=NOW)], now=NOW, release=True)
    assert await house.store.settle([change(before[2], recruiter=taken)], now=NOW, release=True) == [False]
    assert await house.store.settle([change(before[2], recruiter=a_recruiter())], now=NOW, release=True) == [True]


async def test_a_row_that_the_database_refuses_does_not_stop_the_others(house: House) -> None:
    """A history that does not fit its row is nobody's race: its connection is left alone, the batch goes on."""
    bad, good = await kept(house), await kept(house)
    await house.sql(
        "INSERT INTO linker_step (connection_id, seq, event, target, at, actor, evidence) "
        "VALUES (:id, 2, 'planted', 'failed', CURRENT_TIMESTAMP, 'test', '{}')",
        id=bad.id,
    )
    batch = [change(bad, attempts=1), change(good, attempts=1)]
    assert await house.store.settle(batch, now=NOW, release=True) == [False, True]
    assert await house.store.get(bad.id) == bad
    with pytest.raises(OurFault):
        await house.store.settle([change(bad, attempts=1)], now=NOW, release=True)
    assert await house.store.get(bad.id) == bad


async def test_an_environment_with_an_old_encoding_changes_no_text(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libpq obeys PGCLIENTENCODING; what we write is in UTF-8 whatever it says."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with opened(postgres_schema) as house:
        before = await kept(house)
        named = replace(an_account(), name="Łódź 株式会社")
        assert await house.store.settle([change(before, account=named)], now=NOW, release=True) == [True]
        assert (await house.store.get(before.id)).account == named


async def test_half_a_character_does_not_stop_the_others(house: House) -> None:
    """As of an emoji that was cut in two: no engine holds it, and only its own connection is not written."""
    bad, good = await kept(house), await kept(house)
    batch = [change(bad, subdomain="half \ud83d"), change(good, subdomain="fine")]
    assert await house.store.settle(batch, now=NOW, release=True) == [False, True]
    assert await house.store.get(bad.id) == bad
    with pytest.raises(OurFault, match="refused our statement"):
        await house.store.settle(batch[:1], now=NOW, release=True)


async def test_a_text_that_postgresql_cannot_hold_does_not_stop_the_others(postgres_house: House) -> None:
    """A NUL that found its way into a text costs its own connection the write, and nobody else."""
    bad, good = await kept(postgres_house), await kept(postgres_house)
    batch = [change(bad, subdomain="nul\0"), change(good, subdomain="fine")]
    assert await postgres_house.store.settle(batch, now=NOW, release=True) == [False, True]
    with pytest.raises(OurFault, match="refused our statement"):
        await postgres_house.store.settle(batch[:1], now=NOW, release=True)


async def test_a_large_batch_is_settled_at_once(house: House) -> None:
    """Two hundred connections with two kinds of change go in one commit."""
    await asyncio.gather(*(kept(house, due_at=NOW) for _ in range(200)))
    claimed = await house.store.claim_due(now=NOW, limit=1_000, lease=a_lease())
    assert len(claimed) == 200
    batch = [linked(one) if number % 2 else change(one, attempts=1) for number, one in enumerate(claimed)]
    assert all(await house.store.settle(batch, now=NOW, release=True))
    assert len(await house.store.find(Selection(state=LINKED))) == 100


async def test_errors_of_the_store_are_the_librarys_own(house: House) -> None:
    """Whatever the database refuses comes out as an error of this library."""
    with pytest.raises(LinkerError):
        await house.sql("SELECT * FROM no_such_table")
