"""What is wrong with a token or a subdomain: told at once, on its field; a working link ends only after repeats."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from linker import BadInput, Connection, ConnectionState, Linker, Refused, describe
from linker.sandbox import EVERYWHERE, Fault
from linker.serialization import connection_json, step_json
from states.problems import ProblemCode
from tests.acceptance.stage import (
    WINDOW,
    Gate,
    Stage,
    Theatre,
    awaiting_recruiter,
    awaiting_token,
    events,
    linked,
    open_theatre,
    sweep_when_due,
    until,
)

NOBODYS = SecretStr("a-token-that-nobody-made")


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandboxes of this file are reached at."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre, sqlite_url: str) -> Stage:
    """A stage on an SQLite file."""
    return theatre.stage(sqlite_url)


def told(connection: Connection) -> tuple[str, str, str | None]:
    """What the customer is told: the problem's code, its owner and the field that it stands at."""
    problem = connection_json(connection)["problem"]
    return problem["code"], problem["owner"], problem["field"]


def told_of_replacement(connection: Connection) -> tuple[str, str, str | None]:
    """The same of a replacement."""
    problem = connection_json(connection)["replacement_problem"]
    return problem["code"], problem["owner"], problem["field"]


# “Continue”

REFUSALS = {
    "401 as it was seen": (Fault.UNAUTHORIZED, ("token_refused", "customer", "token")),
    "401 as documented": (Fault.UNAUTHORIZED_DOCUMENTED, ("token_refused", "customer", "token")),
    "403": (Fault.FORBIDDEN, ("scope_missing", "customer", "token")),
    "422": (Fault.MISMATCH, ("subdomain_mismatch", "customer", "subdomain")),
    "404": (Fault.NOT_FOUND, ("subdomain_mismatch", "customer", "subdomain")),
}


@pytest.mark.parametrize(("fault", "verdict"), REFUSALS.values(), ids=REFUSALS)
async def test_refusal_is_told_at_once_on_its_field(
    stage: Stage, fault: Fault, verdict: tuple[str, str, str | None]
) -> None:
    """“Continue” answers with what Workable said; the refused token is wiped, and the next one may be good."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        stage.world.fail(EVERYWHERE, fault)
        refused = await linker.submit_token(opened.id, subdomain="acme", token=stage.token())
        assert told(refused) == verdict
        assert (refused.state, refused.candidate, refused.token) == (ConnectionState.AWAITING_TOKEN, None, None)
        assert events(await linker.history(opened.id))[1:] == ["token_submitted", _event_of(verdict[0])]
        stage.world.heal()
        stage.clock.advance(seconds=WINDOW)
        again = await linker.submit_token(opened.id, subdomain="acme", token=stage.token())
        assert (again.state, again.problem) == (ConnectionState.AWAITING_RECRUITER, None)


def _event_of(code: str) -> str:
    return {"subdomain_mismatch": "subdomain_mismatched"}.get(code, code)


@pytest.mark.parametrize(("fault", "verdict"), REFUSALS.values(), ids=REFUSALS)
async def test_refused_replacement_leaves_a_working_link(
    stage: Stage, fault: Fault, verdict: tuple[str, str, str | None]
) -> None:
    """A replacement that Workable refuses is told as such, while the link goes on with the token that it had."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, fault, times=3)
        after = await linker.submit_token(before.id, subdomain="acme", token=stage.token())
        stage.world.heal()
        assert told_of_replacement(after) == verdict
        assert (after.state, after.token, after.candidate) == (ConnectionState.LINKED, before.token, None)
        healthy = await sweep_when_due(stage, linker, after)
        assert (healthy.state, healthy.problem, healthy.doubt) == (ConnectionState.LINKED, None, None)


async def test_unknown_token_is_refused(stage: Stage) -> None:
    """A token that Workable never made is refused, on the field of the token."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        refused = await linker.submit_token(opened.id, subdomain="acme", token=NOBODYS)
    assert told(refused) == ("token_refused", "customer", "token")


async def test_mismatch_names_the_right_subdomain(stage: Stage) -> None:
    """A good token with another account's subdomain: the customer reads which subdomain it belongs to."""
    async with stage.linker() as linker:
        stage.token("acme")
        opened = await awaiting_token(stage, linker)
        refused = await linker.submit_token(opened.id, subdomain="acme", token=stage.token("globex"))
    assert told(refused) == ("subdomain_mismatch", "customer", "subdomain")
    assert refused.problem is not None
    assert describe(refused.problem).detail == "This token belongs to: globex."


async def test_mismatch_without_a_name_is_a_mismatch_all_the_same(stage: Stage) -> None:
    """If the list of accounts cannot be read, the mismatch is told without a name: it is certain by then."""
    stage.world.fail("www", Fault.SERVER_ERROR)
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        refused = await linker.submit_token(opened.id, subdomain="acme", token=stage.token("globex"))
    assert told(refused) == ("subdomain_mismatch", "customer", "subdomain")
    assert refused.problem is not None
    assert describe(refused.problem).detail == ""


async def test_missing_permission_is_told_at_continue(stage: Stage) -> None:
    """A token that reads the account and not the recruiters is refused at “Continue”, and the permission is named."""
    stage.world.fail("acme", Fault.FORBIDDEN, path="recruiters")
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        refused = await linker.submit_token(opened.id, subdomain="acme", token=stage.token())
        last = (await linker.history(opened.id))[-1]
    assert told(refused) == ("scope_missing", "customer", "token")
    assert refused.problem is not None
    assert describe(refused.problem).detail == "Missing permission: r_jobs."
    assert [call["status"] for call in last.evidence["calls"]] == [200, 403]


async def test_token_without_any_use_is_told_by_its_permission(stage: Stage) -> None:
    """A token that was made with other permissions only lacks one; it is not called wrong."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        token = stage.token(scopes=frozenset({"r_candidates"}))
        assert told(await linker.submit_token(opened.id, subdomain="acme", token=token))[0] == "scope_missing"


async def test_last_token_wins_while_the_first_is_being_verified(stage: Stage) -> None:
    """A second token pasted while a first, wrong one is on its way: the refusal of the first is not meant for it."""
    gate = Gate()
    async with stage.linker(transport=gate) as linker, stage.linker() as another:
        opened = await awaiting_token(stage, linker)
        good = stage.token()
        gate.shut()
        first = asyncio.create_task(linker.submit_token(opened.id, subdomain="acme", token=NOBODYS))
        await gate.reached.wait()
        second = asyncio.create_task(another.submit_token(opened.id, subdomain="acme", token=good))
        await until(lambda: _submitted_twice(another, opened.id))
        gate.open()
        for done in await asyncio.gather(first, second):
            assert (done.state, done.problem) == (ConnectionState.AWAITING_RECRUITER, None)
        story = events(await linker.history(opened.id))
    assert story[1:] == ["token_submitted", "token_submitted", "token_accepted", "recruiter_prepared"]


async def _submitted_twice(linker: Linker, connection_id: str) -> bool:
    return events(await linker.history(connection_id)).count("token_submitted") == 2


# bad input


UNUSABLE = {
    "token with blanks": ("acme", "a token with blanks", "token"),
    "token too short": ("acme", "abc", "token"),
    "empty token": ("acme", "   ", "token"),
    "address for a token": ("acme", "https://acme.workable.com", "token"),
    "another host": ("acme.example.com", "a-good-token-0123", "subdomain"),
    "an IP address": ("127.0.0.1", "a-good-token-0123", "subdomain"),
    "an e-mail address": ("me@acme.workable.com", "a-good-token-0123", "subdomain"),
    "a port": ("acme.workable.com:8080", "a-good-token-0123", "subdomain"),
}


@pytest.mark.parametrize(("subdomain", "token", "field"), UNUSABLE.values(), ids=UNUSABLE)
async def test_unusable_input_changes_nothing(stage: Stage, subdomain: str, token: str, field: str) -> None:
    """What cannot be right is refused on its field before anything is written or called."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        with pytest.raises(BadInput) as refused:
            await linker.submit_token(opened.id, subdomain=subdomain, token=SecretStr(token))
        assert refused.value.field == field
        assert await linker.get(opened.id) == opened
        assert stage.calls() == 0


async def test_expiry_in_the_past_is_refused(stage: Stage) -> None:
    """A token whose last day has passed everywhere on Earth is not even tried."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        past = stage.clock.now().date() - timedelta(days=2)
        with pytest.raises(BadInput):
            await linker.submit_token(opened.id, subdomain="acme", token=stage.token(), expires_on=past)
        assert (await linker.get(opened.id), stage.calls()) == (opened, 0)


async def test_closed_connection_takes_no_token(stage: Stage) -> None:
    """A connection that was given up takes nothing any more: no step, no call, no secret."""
    async with stage.linker() as linker:
        closed = await linker.unlink((await linked(stage, linker)).id)
        before = stage.calls()
        with pytest.raises(Refused):
            await linker.submit_token(closed.id, subdomain="acme", token=stage.token())
        with pytest.raises(Refused):
            await linker.confirm_recruiter(closed.id)
        assert await linker.get(closed.id) == closed
        assert (closed.token, closed.candidate, stage.calls()) == (None, None, before)


# one account, one connection


async def test_account_that_the_owner_has_already(stage: Stage) -> None:
    """A second connection of the same owner to the same account is told which one exists; its token is wiped."""
    async with stage.linker() as linker:
        first = await linked(stage, linker)
        second = await linker.create(owner="customer-1")
        stage.clock.advance(seconds=WINDOW)
        refused = await linker.submit_token(second.id, subdomain="acme", token=stage.token())
    assert told(refused) == ("account_taken", "customer", "subdomain")
    assert refused.problem is not None
    assert first.id in describe(refused.problem).detail
    assert (refused.candidate, refused.token, refused.account) == (None, None, None)


async def test_account_of_another_owner_is_free(stage: Stage) -> None:
    """Two customers of the host may connect the same account, each with a recruiter of its own."""
    async with stage.linker() as linker:
        first = await linked(stage, linker, "customer-1")
        stage.clock.advance(seconds=WINDOW)
        second = await linked(stage, linker, "customer-2")
    assert (first.state, second.state) == (ConnectionState.LINKED, ConnectionState.LINKED)
    assert first.recruiter is not None
    assert second.recruiter is not None
    assert first.recruiter.email != second.recruiter.email


async def test_account_is_free_again_after_unlinking(stage: Stage) -> None:
    """An account whose connection was closed may be connected anew by the same owner."""
    async with stage.linker() as linker:
        await linker.unlink((await linked(stage, linker)).id)
        stage.clock.advance(seconds=WINDOW)
        assert (await linked(stage, linker)).state is ConnectionState.LINKED


async def test_two_connections_that_race_for_an_account(stage: Stage) -> None:
    """Of two connections of one owner that are verified at the same time one gets the account, the other is told so."""
    async with stage.linker() as linker, stage.linker() as another:
        one, two = await linker.create(owner="customer-1"), await linker.create(owner="customer-1")
        done = await asyncio.gather(
            linker.submit_token(one.id, subdomain="acme", token=stage.token()),
            another.submit_token(two.id, subdomain="acme", token=stage.token()),
        )
    got, lost = sorted(done, key=lambda each: each.token is None)
    assert (got.state, told(lost)[0]) == (ConnectionState.AWAITING_RECRUITER, "account_taken")
    assert lost.problem is not None
    assert got.id in describe(lost.problem).detail


# another token for a working link


async def test_good_replacement_is_swapped_in(stage: Stage) -> None:
    """A new token of the same account takes the old one's place; state, recruiter and account stay."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        after = await linker.submit_token(before.id, subdomain="acme", token=stage.token())
    assert (after.state, after.account, after.recruiter) == (before.state, before.account, before.recruiter)
    assert after.token is not None
    assert before.token is not None
    assert after.token.fingerprint != before.token.fingerprint


async def test_replacement_of_another_account_is_refused(stage: Stage) -> None:
    """A good token of another account does not move a link there, with whichever subdomain it is given."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        for subdomain in ("globex", "acme"):
            stage.clock.advance(seconds=WINDOW)
            after = await linker.submit_token(before.id, subdomain=subdomain, token=stage.token("globex"))
            assert told_of_replacement(after) == ("subdomain_mismatch", "customer", "subdomain")
            assert after.replacement_problem is not None
            assert "globex" in describe(after.replacement_problem).detail
            assert (after.state, after.token, after.account) == (before.state, before.token, before.account)
            assert after.subdomain == "acme"


# a token that worked

LOST = {
    "401": (Fault.UNAUTHORIZED, ("token_revoked", "customer", "token"), "token_revoked"),
    "401 as documented": (Fault.UNAUTHORIZED_DOCUMENTED, ("token_revoked", "customer", "token"), "token_revoked"),
    "403": (Fault.FORBIDDEN, ("scope_lost", "customer", "token"), "scope_lost"),
    "422": (Fault.MISMATCH, ("subdomain_mismatch", "customer", "subdomain"), "account_moved"),
}
Prepare = Callable[[Stage, Linker], Awaitable[Connection]]
WORKING: dict[str, Prepare] = {"awaiting_recruiter": awaiting_recruiter, "linked": linked}


@pytest.mark.parametrize("prepare", WORKING.values(), ids=WORKING)
@pytest.mark.parametrize(("fault", "verdict", "event"), LOST.values(), ids=LOST)
async def test_only_refusals_over_an_hour_are_believed(
    stage: Stage, prepare: Prepare, fault: Fault, verdict: tuple[str, str, str | None], event: str
) -> None:
    """Refusals end a token that worked when there are three in a row at least, over an hour at least."""
    async with stage.linker() as linker:
        before = await prepare(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, fault)
        now, times = await sweep_when_due(stage, linker, before), 1
        began = stage.clock.now()
        while now.state is before.state:
            assert (now.problem, now.token) == (None, before.token)
            assert now.doubt is not None
            assert (now.doubt.count, now.doubt.since) == (times, began)
            assert times < 3 or stage.clock.now() - began < timedelta(hours=1)
            now, times = await sweep_when_due(stage, linker, before), times + 1
        assert stage.clock.now() - began >= timedelta(hours=1)
        assert times >= 3
        assert times == 3 or prepare is awaiting_recruiter, "a linked account is not asked more often than it takes"
        assert (now.state, told(now)) == (ConnectionState.FAILED, verdict)
        assert now.due_at is not None
        assert timedelta(hours=1) <= now.due_at - now.state_since <= timedelta(hours=1.1), "it may be taken back"
        assert events(await linker.history(before.id))[-2:] == ["refusal_doubted", event]


async def test_a_failed_connection_is_looked_at_seldom(stage: Stage) -> None:
    """Once a link has failed Workable is asked about 26 times in 90 days, and then left alone until a person acts."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.world.fail("acme", Fault.UNAUTHORIZED)
        for _ in range(3):
            now = await sweep_when_due(stage, linker, before)
        assert now.state is ConnectionState.FAILED
        calls = stage.calls()
        for _ in range(100):
            if (now := await linker.get(now.id)).due_at is None:
                break
            stage.clock.advance(seconds=(now.due_at - stage.clock.now()).total_seconds())
            swept = await linker.attend_due()
            assert (swept.failed, swept.waiting) == (0, 1), "it is not told as a failure again"
        assert 20 <= stage.calls() - calls <= 30
        assert events(await linker.history(now.id))[-1] == "token_revoked", "what stays as it is leaves no step"
        assert now.state_since + timedelta(days=80) < stage.clock.now() < now.state_since + timedelta(days=90)
        calls = stage.calls()
        stage.clock.advance(days=30)
        assert (await linker.attend_due()).claimed == 0
        assert stage.calls() == calls


@pytest.mark.parametrize("between", ["a good answer", "an outage"])
async def test_refusals_in_a_row_only(stage: Stage, between: str) -> None:
    """What comes between two refusals and says otherwise lets the count begin anew."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        for fault in (Fault.UNAUTHORIZED, Fault.UNAUTHORIZED, _between(between), Fault.UNAUTHORIZED):
            if fault is not None:
                stage.world.fail("acme", fault, times=1)
            now = await sweep_when_due(stage, linker, before)
        assert (now.state, now.token) == (ConnectionState.LINKED, before.token)
        assert now.doubt is not None
        assert (now.doubt.code, now.doubt.count) == (ProblemCode.TOKEN_REVOKED, 1)


def _between(what: str) -> Fault | None:
    return {"a good answer": None, "an outage": Fault.UNAVAILABLE}[what]


async def test_impatient_customer_does_not_end_the_link(stage: Stage) -> None:
    """Refusals that come within minutes, because somebody presses the button, are no proof however many they are."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.world.fail("acme", Fault.UNAUTHORIZED)
        for _ in range(8):
            stage.clock.advance(seconds=WINDOW)
            now = await linker.confirm_recruiter(waiting.id)
        assert (now.state, now.problem) == (ConnectionState.AWAITING_RECRUITER, None)
        assert now.doubt is not None
        assert now.doubt.count == 8
        stage.world.heal()
        assert (await sweep_when_due(stage, linker, now)).doubt is None


async def test_new_token_revives_a_revoked_link(stage: Stage) -> None:
    """After a revocation one new token is enough: the recruiter is there still, and the account is linked again."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.world.revoke_token(stage.world.tokens[0].secret)
        for _ in range(3):
            now = await sweep_when_due(stage, linker, before)
        assert told(now) == ("token_revoked", "customer", "token")
        stage.clock.advance(seconds=WINDOW)
        revived = await linker.submit_token(before.id, subdomain="acme", token=stage.token())
        assert (revived.state, revived.problem) == (ConnectionState.LINKED, None)
        assert revived.recruiter == before.recruiter


async def test_new_token_of_another_account_does_not_revive_it(stage: Stage) -> None:
    """A link that has failed stays with its account: a good token of another one is refused, and its name is told."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.world.revoke_token(stage.world.tokens[0].secret)
        for _ in range(3):
            await sweep_when_due(stage, linker, before)
        now = await linker.submit_token(before.id, subdomain="globex", token=stage.token("globex"))
        assert (now.state, told(now)) == (ConnectionState.FAILED, ("token_revoked", "customer", "token"))
        assert now.replacement_problem is not None
        assert now.replacement_problem.code is ProblemCode.SUBDOMAIN_MISMATCH
        assert (await linker.history(before.id))[-1].problem is ProblemCode.SUBDOMAIN_MISMATCH
        assert now.account == before.account


@pytest.mark.parametrize(("days", "code"), [(20, "token_expired"), (60, "token_revoked")])
async def test_refusals_after_the_expiry_date_mean_expired(stage: Stage, days: int, code: str) -> None:
    """The same 401s are an expiry if the date that the person gave has passed, and a revocation before it."""
    async with stage.linker() as linker:
        opened = await linker.create(owner="customer-1")
        expires_on = stage.clock.now().date() + timedelta(days=days)
        waiting = await linker.submit_token(opened.id, subdomain="acme", token=stage.token(), expires_on=expires_on)
        stage.add_recruiter(waiting)
        stage.clock.advance(seconds=WINDOW)
        now = await linker.confirm_recruiter(waiting.id)
        assert connection_json(now)["token"]["expires_on"] == expires_on.isoformat()
        stage.clock.advance(days=30)
        stage.world.revoke_token(stage.world.tokens[0].secret)
        while now.state is ConnectionState.LINKED:
            now = await sweep_when_due(stage, linker, now)
        assert (now.state, told(now)) == (ConnectionState.FAILED, (code, "customer", "token"))
        expired = ["token_expiring"] if days == 20 else []
        refused = ["refusal_doubted", "token_revoked"]
        assert events(await linker.history(opened.id))[-len(expired + refused) :] == expired + refused


async def test_no_token_in_what_is_told(stage: Stage) -> None:
    """Whatever was refused, neither the connection nor its history repeats it."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        after = await linker.submit_token(before.id, subdomain="acme", token=NOBODYS)
        steps = [step_json(step) for step in await linker.history(before.id)]
    everything = json.dumps([connection_json(after), steps])
    assert NOBODYS.get_secret_value() not in everything
    assert stage.world.tokens[0].secret not in everything
