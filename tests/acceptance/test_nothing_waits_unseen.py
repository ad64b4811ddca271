"""Trouble that lasts, accounts that are renamed or gone, hours in which everybody is refused, and what heals again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from linker import Announcement, Connection, ConnectionState, Linker
from linker.sandbox import EVERYWHERE, Fault
from linker.serialization import connection_json
from states import events as happened
from states.history import ANNOUNCEMENTS
from states.problems import ProblemCode, ProblemOwner
from tests.acceptance.stage import (
    WINDOW,
    Stage,
    Theatre,
    awaiting_recruiter,
    events,
    linked,
    open_theatre,
    sweep_when_due,
)

#: The longest pause between two looks while there is trouble.
SELDOM = timedelta(hours=6)
PREPARED = {"awaiting_recruiter": awaiting_recruiter, "linked": linked}


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """A socket for all tests."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre) -> Stage:
    """A stage with a database in memory: each linker that is opened on it is alone with it."""
    return theatre.stage("sqlite://")


@pytest.fixture
def shared(theatre: Theatre, tmp_path: object) -> Stage:
    """A stage on a file, for several linkers."""
    return theatre.stage(f"sqlite:///{tmp_path}/linker.db")


@asynccontextmanager
async def telling(stage: Stage) -> AsyncIterator[tuple[Linker, list[str]]]:
    """A linker that looks seldom while there is trouble, and the names of what its host was told so far."""
    told: list[str] = []
    stage.jitter = 0.9
    async with stage.linker(backoff_last=SELDOM) as linker:

        def hear(one: Announcement) -> None:
            told.append(one.type)

        for name in ANNOUNCEMENTS:
            linker.on(name)(hear)
        yield linker, told


async def live(stage: Stage, linker: Linker, span: timedelta) -> None:
    """Let time pass: whatever falls due is attended at its time, and the host is told once a day at least."""
    until = stage.clock.now() + span
    await linker.deliver()
    delivered_at = stage.clock.now()
    while True:
        if stage.clock.now() - delivered_at > timedelta(days=1):
            await linker.deliver()
            delivered_at = stage.clock.now()
        due = [one.due_at for one in await linker.find() if one.due_at is not None]
        now = stage.clock.now()
        following = max(min(due, default=until), now + timedelta(seconds=WINDOW))
        if following >= until:
            stage.clock.advance(seconds=(until - now).total_seconds())
            break
        stage.clock.advance(seconds=(following - now).total_seconds())
        await linker.attend_due()
    await linker.attend_due()
    await linker.deliver()


# trouble that lasts

LASTING = {
    "a page that there is none": (Fault.NOT_FOUND_PAGE, ProblemCode.WORKABLE_UNAVAILABLE),
    "a redirect": (Fault.REDIRECT, ProblemCode.WORKABLE_UNAVAILABLE),
    "a proxy": (Fault.BAD_GATEWAY, ProblemCode.WORKABLE_UNAVAILABLE),
    "a limit": (Fault.THROTTLED, ProblemCode.THROTTLED),
    "a limit without a time": (Fault.THROTTLED_BARE, ProblemCode.THROTTLED),
    "nonsense": (Fault.WRONG_SHAPE, ProblemCode.ANSWER_NOT_UNDERSTOOD),
    "nothing": (Fault.CUT, ProblemCode.WORKABLE_UNAVAILABLE),
}


@pytest.mark.parametrize("prepared", PREPARED)
@pytest.mark.parametrize("trouble", LASTING)
async def test_permanent_trouble_is_told(stage: Stage, trouble: str, prepared: str) -> None:
    """After 3 days, or a day while a person waits, an operator has to act: told once, and once that it is over."""
    fault, code = LASTING[trouble]
    within = timedelta(days=3 if prepared == "linked" else 1)
    async with telling(stage) as (linker, told):
        before = await PREPARED[prepared](stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, fault)
        met = await sweep_when_due(stage, linker, before)
        assert met.problem is not None
        began = met.problem.since
        await live(stage, linker, within - timedelta(minutes=5) - (stage.clock.now() - began))
        passing = await linker.get(before.id)
        assert (passing.troubled_since, "connection.troubled" in told) == (None, False)
        await live(stage, linker, timedelta(minutes=10))
        lasting = await linker.get(before.id)
        assert lasting.problem is not None
        assert (lasting.state, lasting.problem.code, lasting.problem.owner) == (before.state, code, "operator")
        shown = connection_json(lasting)
        assert (lasting.troubled_since, shown["problem"]["owner"]) == (began, ProblemOwner.OPERATOR)
        assert shown["troubled_since"] == shown["problem"]["since"]
        assert [one.id for one in await linker.find(stuck=True)] == [before.id]
        await live(stage, linker, timedelta(days=2))
        assert told.count("connection.troubled") == 1
        stage.world.heal()
        await live(stage, linker, SELDOM)
        after = await linker.get(before.id)
        assert (after.state, after.troubled_since) == (before.state, None)
        assert told[-2:] == ["connection.troubled", "connection.recovered"]


async def test_trouble_counts_on_whatever_it_is_called(stage: Stage) -> None:
    """A limit today and an outage tomorrow are the same trouble to whoever waits."""
    async with telling(stage) as (linker, told):
        before = await awaiting_recruiter(stage, linker)
        for number in range(6):
            stage.world.heal()
            stage.world.fail("acme", Fault.THROTTLED if number % 2 else Fault.UNAVAILABLE)
            await live(stage, linker, SELDOM)
        assert (await linker.get(before.id)).troubled_since is not None
        assert told.count("connection.troubled") == 1


async def test_a_token_that_nobody_can_verify_is_told(stage: Stage) -> None:
    """The customer entered it, and waits: it is kept, and after a day somebody is told."""
    async with telling(stage) as (linker, told):
        opened = await linker.create(owner="customer-1")
        token = stage.token()
        stage.world.fail("acme", Fault.BAD_GATEWAY)
        await linker.submit_token(opened.id, subdomain="acme", token=token)
        await live(stage, linker, timedelta(hours=27))
        assert told[-1] == "connection.troubled"
        stage.world.heal()
        await live(stage, linker, SELDOM)
        after = await linker.get(opened.id)
        assert (after.state, after.troubled_since) == (ConnectionState.AWAITING_RECRUITER, None)


async def test_throttling_counts_towards_the_deadline(stage: Stage) -> None:
    """A customer's other tool that takes all there is does not let a connection wait for ever."""
    async with telling(stage) as (linker, told):
        before = await awaiting_recruiter(stage, linker)
        stage.world.fail("acme", Fault.THROTTLED)
        await live(stage, linker, timedelta(days=16))
        after = await linker.get(before.id)
        assert after.problem is not None
        assert (after.state, after.problem.code) == (ConnectionState.FAILED, ProblemCode.RECRUITER_OVERDUE)
        assert told[-2:] == ["connection.troubled", "connection.failed"]


# renamed, and gone

#: What the old address of a renamed account may answer.
OLD_ADDRESS = {"422": None, "404": Fault.NOT_FOUND, "a page": Fault.NOT_FOUND_PAGE, "a redirect": Fault.REDIRECT}


@pytest.mark.parametrize("prepared", PREPARED)
@pytest.mark.parametrize("answers", OLD_ADDRESS)
async def test_a_renamed_account_is_followed(stage: Stage, answers: str, prepared: str) -> None:
    """At the next look, with the same token, a step, and an announcement; nobody has to do anything."""
    async with telling(stage) as (linker, told):
        before = await PREPARED[prepared](stage, linker)
        stage.world.rename_account("acme", "acme-group")
        if (fault := OLD_ADDRESS[answers]) is not None:
            stage.world.fail("acme", fault)
        await live(stage, linker, timedelta(hours=30))
        after = await linker.get(before.id)
        assert (after.state, after.subdomain) == (before.state, "acme-group")
        assert after.problem is None or after.problem.code is ProblemCode.RECRUITER_ABSENT
        assert before.account is not None
        assert after.account is not None
        assert (after.account.id, after.account.subdomain) == (before.account.id, "acme-group")
        assert after.token is not None
        assert before.token is not None
        assert (after.token.subdomain, after.token.fingerprint) == ("acme-group", before.token.fingerprint)
        assert events(await linker.history(before.id))[-1] == "account_renamed"
        assert told[-1] == "account.renamed"
        assert told.count("account.renamed") == 1
        if prepared == "awaiting_recruiter":
            stage.add_recruiter(before, subdomain="acme-group")
            stage.clock.advance(seconds=WINDOW)
            after = await linker.confirm_recruiter(before.id)
        assert after.state is ConnectionState.LINKED


@pytest.mark.parametrize("answers", [Fault.NOT_FOUND, Fault.NOT_FOUND_PAGE, Fault.REDIRECT])
async def test_an_account_that_is_gone_is_told(stage: Stage, answers: Fault) -> None:
    """The token reaches none any more: believed after three times over an hour, as any refusal."""
    async with telling(stage) as (linker, told):
        before = await linked(stage, linker)
        stage.world.close_account("acme")
        stage.world.fail("acme", answers)
        await live(stage, linker, timedelta(hours=30))
        after = await linker.get(before.id)
        assert after.problem is not None
        assert (after.state, after.problem.code) == (ConnectionState.FAILED, ProblemCode.ACCOUNT_GONE)
        assert after.token is not None, "it may come back"
        assert told[-1] == "connection.failed"


async def test_an_account_under_another_id_is_not_followed(stage: Stage) -> None:
    """The token of a connection never leads it into another account."""
    async with telling(stage) as (linker, told):
        before = await linked(stage, linker)
        stage.world.close_account("acme")
        stage.world.add_account("acme", name="Another Acme")
        stage.world.rename_account("acme", "acme-group")
        await live(stage, linker, timedelta(hours=30))
        assert "account.renamed" not in told
        assert (await linker.get(before.id)).subdomain == "acme"


@pytest.mark.parametrize("failed", [False, True])
async def test_a_new_subdomain_needs_no_new_token(stage: Stage, failed: bool) -> None:
    """Whoever knows it gives it: the token that is held is verified there, also after the link has failed."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        if failed:
            await linker.record(before.id, lambda _: happened.Forced(ConnectionState.FAILED), actor="ann")
        stage.world.rename_account("acme", "acme-group")
        after = await linker.submit_token(before.id, subdomain="acme-group.workable.com")
        assert (after.state, after.subdomain) == (ConnectionState.LINKED, "acme-group")
        assert before.token is not None
        assert after.token is not None
        assert after.token.fingerprint == before.token.fingerprint
        wrong = await linker.submit_token(before.id, subdomain="globex")
        assert (wrong.state, wrong.subdomain) == (ConnectionState.LINKED, "acme-group")
        assert wrong.replacement_problem is not None
        assert wrong.replacement_problem.params["belongs_to"] == ["acme-group"]


# healing


@pytest.mark.parametrize("prepared", PREPARED)
@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.FORBIDDEN])
async def test_what_refusals_ended_heals(stage: Stage, fault: Fault, prepared: str) -> None:
    """Workable takes it back some days later: the connection goes on by itself, and the host is told."""
    async with telling(stage) as (linker, told):
        before = await PREPARED[prepared](stage, linker)
        stage.world.fail("acme", fault)
        await live(stage, linker, timedelta(days=3))
        assert (await linker.get(before.id)).state is ConnectionState.FAILED
        assert told[-1] == "connection.failed"
        calls = stage.calls()
        await live(stage, linker, timedelta(days=2))
        assert stage.calls() - calls <= 3, "seldom"
        stage.world.heal()
        await live(stage, linker, timedelta(days=1, hours=3))
        after = await linker.get(before.id)
        assert (after.state, "recovered" in events(await linker.history(before.id))) == (before.state, True)
        assert told[-2:] == ["connection.failed", "connection.recovered"]


@pytest.mark.parametrize("wrong", ["refused", "other account", "unverified"])
async def test_a_wrong_paste_does_not_end_healing(stage: Stage, wrong: str) -> None:
    """A person pastes a token that is no good: the one that is held is looked at as before, and is never wiped."""
    async with telling(stage) as (linker, told):
        before = await linked(stage, linker)
        stage.world.fail("acme", Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=30))
        ended = await linker.get(before.id)
        assert ended.state is ConnectionState.FAILED
        if wrong == "unverified":
            stage.world.heal()
            stage.world.fail("acme", Fault.UNAVAILABLE)
        elsewhere = wrong == "other account"
        token = stage.token("globex") if elsewhere else SecretStr("wrong-" + 30 * "0")
        after = await linker.submit_token(before.id, subdomain="globex" if elsewhere else "acme", token=token)
        assert (after.state, after.problem, after.token) == (ended.state, ended.problem, ended.token)
        assert (after.subdomain, after.replacement_problem is None) == (ended.subdomain, False)
        if wrong != "unverified":
            assert (after.candidate, after.state_since) == (None, ended.state_since)
            assert after.due_at is not None
        await live(stage, linker, timedelta(days=40))
        assert (await linker.get(before.id)).token == ended.token
        assert told[-1] == "connection.failed"
        stage.world.heal()
        await live(stage, linker, timedelta(days=9))
        healed = await linker.get(before.id)
        assert (healed.state, healed.problem, healed.replacement_problem) == (ConnectionState.LINKED, None, None)
        assert told[-1] == "connection.recovered"


async def test_a_good_token_revives_once_the_outage_is_over(stage: Stage) -> None:
    """Given while Workable is down: it is kept, and the connection that had failed goes on with it by itself."""
    async with telling(stage) as (linker, told):
        before = await linked(stage, linker)
        stage.world.fail("acme", Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=30))
        stage.world.heal()
        stage.world.fail("acme", Fault.UNAVAILABLE)
        given = await linker.submit_token(before.id, subdomain="acme", token=stage.token())
        assert (given.state, given.candidate is None) == (ConnectionState.FAILED, False)
        await live(stage, linker, timedelta(days=1))
        stage.world.heal()
        await live(stage, linker, timedelta(hours=6))  # tries are so far apart by now
        after = await linker.get(before.id)
        assert (after.state, after.problem) == (ConnectionState.LINKED, None)
        assert given.candidate is not None
        assert after.token == given.candidate
        assert told[-2:] == ["token.accepted", "connection.recovered"]


async def test_what_is_forced_does_not_heal(stage: Stage) -> None:
    """An operator ended it: nobody asks Workable until somebody wants it."""
    async with telling(stage) as (linker, told):
        before = await linked(stage, linker)
        await linker.record(before.id, lambda _: happened.Forced(ConnectionState.FAILED), actor="ann")
        calls = stage.calls()
        await live(stage, linker, timedelta(days=100))
        assert stage.calls() == calls
        assert told[-1] == "connection.failed"


# an hour in which everybody is refused


async def crowd(stage: Stage, linker: Linker, number: int, owners: int = 9) -> list[Connection]:
    """Connections to as many accounts, all waiting for their recruiters since half a day."""
    made = [
        await awaiting_recruiter(stage, linker, f"customer-{each % owners}", f"account-{each}")
        for each in range(number)
    ]
    stage.clock.advance(hours=12)
    await live(stage, linker, timedelta(hours=1))
    return made


async def codes(linker: Linker, made: list[Connection]) -> list[str | None]:
    """The problem of each."""
    now = [await linker.get(each.id) for each in made]
    return [each.problem.code.value if each.problem else None for each in now]


async def test_an_hour_of_refusals_is_nobodys_fault(stage: Stage) -> None:
    """Nobody fails, the host is not told of a revoked token, and it is over when two accounts answer well."""
    with capture_logs() as logs:
        async with telling(stage) as (linker, told):
            made = await crowd(stage, linker, 8)
            stage.world.fail(EVERYWHERE, Fault.UNAUTHORIZED)
            await live(stage, linker, timedelta(hours=6))
            assert await codes(linker, made) == ["workable_unavailable"] * 8
            assert "connection.failed" not in told
            [shown] = {connection_json(await linker.get(each.id))["problem"]["message"] for each in made}
            assert shown.endswith("It refuses many accounts at the same time, so this says nothing about the token.")
            stage.world.heal()
            await live(stage, linker, timedelta(hours=3))
            assert await codes(linker, made) == ["recruiter_absent"] * 8
    assert [one["event"] for one in logs if one["event"].startswith("incident.")] == [
        "incident.began",
        "incident.ended",
    ]


async def test_at_continue_a_token_is_kept_meanwhile(stage: Stage) -> None:
    """Whoever enters a good token in that hour is told of the outage; afterwards the connection goes on by itself."""
    async with stage.linker() as linker:
        await crowd(stage, linker, 6)
        token = stage.token("newcomer")
        stage.world.fail(EVERYWHERE, Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=2))
        opened = await linker.create(owner="newcomer")
        kept = await linker.submit_token(opened.id, subdomain="newcomer", token=token)
        assert kept.problem is not None
        assert (kept.problem.code, kept.candidate is not None) == (ProblemCode.WORKABLE_UNAVAILABLE, True)
        stage.world.heal()
        await live(stage, linker, timedelta(hours=3))
        assert (await linker.get(opened.id)).state is ConnectionState.AWAITING_RECRUITER


@pytest.mark.parametrize(("accounts", "owners"), [(4, 4), (8, 2)])
async def test_few_accounts_are_no_incident(stage: Stage, accounts: int, owners: int) -> None:
    """Four accounts, or those of two owners, can have been revoked; where they were not, they heal."""
    async with stage.linker() as linker:
        made = await crowd(stage, linker, accounts, owners)
        stage.world.fail(EVERYWHERE, Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=4))
        assert await codes(linker, made) == ["token_revoked"] * accounts
        stage.world.heal()
        await live(stage, linker, timedelta(days=1))
        assert [(await linker.get(each.id)).state for each in made] == ["awaiting_recruiter"] * accounts


async def test_most_accounts_answer_well(stage: Stage) -> None:
    """Five customers of twelve who revoke their tokens on the same day have revoked them."""
    async with stage.linker() as linker:
        made = await crowd(stage, linker, 12)
        for each in made[:5]:
            stage.world.fail(str(each.subdomain), Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=4))
        assert await codes(linker, made) == ["token_revoked"] * 5 + ["recruiter_absent"] * 7


async def test_five_that_revoke_in_a_calm_fleet_hide_nobody_for_long(stage: Stage) -> None:
    """Thirty linked accounts are asked once a day, so five refusals look like many: within a day they are believed."""
    with capture_logs() as logs:
        async with telling(stage) as (linker, _):
            made = []
            for number in range(30):
                made.append(await linked(stage, linker, f"customer-{number % 10}", f"account-{number}"))
                stage.clock.advance(minutes=48)
            for each in made[:5]:
                stage.world.fail(str(each.subdomain), Fault.UNAUTHORIZED)
                await linker.report_refusal(each.id)
            await live(stage, linker, timedelta(days=1))
            assert await codes(linker, made) == ["token_revoked"] * 5 + [None] * 25
            opened = await linker.create(owner="newcomer")
            stage.token("newcomer")
            wrong = await linker.submit_token(opened.id, subdomain="newcomer", token="wrong-" + 30 * "0")
            assert wrong.problem is not None
            assert wrong.problem.code is ProblemCode.TOKEN_REFUSED
    told = [one["event"] for one in logs if one["event"].startswith("incident.")]
    assert told == ["incident.began", "incident.ended"], "the same accounts begin no other one"


async def test_an_outage_of_days_is_believed_after_one(stage: Stage) -> None:
    """Nothing answers well: after a day each account is judged by its own refusals, and all heal."""
    async with stage.linker() as linker:
        made = await crowd(stage, linker, 6)
        stage.world.fail(EVERYWHERE, Fault.UNAUTHORIZED)
        await live(stage, linker, timedelta(hours=23))
        assert await codes(linker, made) == ["workable_unavailable"] * 6
        await live(stage, linker, timedelta(hours=5))
        assert await codes(linker, made) == ["token_revoked"] * 6
        stage.world.heal()
        await live(stage, linker, timedelta(days=1))
        assert [(await linker.get(each.id)).state for each in made] == ["awaiting_recruiter"] * 6


async def test_an_incident_is_seen_by_all_processes(shared: Stage) -> None:
    """One asked the accounts; another one, that asked none of them, knows what a refusal is worth."""
    async with shared.linker() as one:
        await crowd(shared, one, 6)
        token = shared.token("newcomer")
        shared.world.fail(EVERYWHERE, Fault.UNAUTHORIZED)
        await live(shared, one, timedelta(hours=2))
        async with shared.linker() as other:
            opened = await other.create(owner="newcomer")
            kept = await other.submit_token(opened.id, subdomain="newcomer", token=token)
            assert kept.candidate is not None


async def test_wrong_tokens_of_strangers_are_no_incident(stage: Stage) -> None:
    """What people type is not counted: a crowd with wrong tokens cannot excuse a refusal of a token in use."""
    async with stage.linker() as linker:
        [victim, *_] = await crowd(stage, linker, 5)
        stage.world.fail(str(victim.subdomain), Fault.UNAUTHORIZED)
        for number in range(12):
            opened = await linker.create(owner=f"stranger-{number}")
            refused = await linker.submit_token(
                opened.id, subdomain=f"account-{number % 5}", token=f"wrong-{number:030}"
            )
            assert refused.candidate is None
        await live(stage, linker, timedelta(hours=4))
        assert await codes(linker, [victim]) == ["token_revoked"]
