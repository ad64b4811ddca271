"""Workable in trouble: never a credential problem, nothing is lost, and the link goes on by itself."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from linker import Connection, ConnectionState, Linker
from linker.sandbox import EVERYWHERE, Fault
from linker.serialization import connection_json
from linker.workable.client import Timeouts
from tests.acceptance.stage import (
    IMPATIENT,
    PATIENT,
    WINDOW,
    Stage,
    Theatre,
    awaiting_recruiter,
    awaiting_token,
    events,
    linked,
    open_theatre,
    sweep_when_due,
)

Prepare = Callable[[Stage, Linker], Awaitable[Connection]]
Act = Callable[[Stage, Linker, Connection], Awaitable[Connection]]


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandboxes of this file are reached at."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre, sqlite_url: str) -> Stage:
    """A stage on an SQLite file."""
    return theatre.stage(sqlite_url)


# the moments


async def submit(stage: Stage, linker: Linker, connection: Connection) -> Connection:
    """The customer pastes a good token and presses “Continue”."""
    return await linker.submit_token(connection.id, subdomain="acme", token=stage.token())


async def confirm(stage: Stage, linker: Linker, connection: Connection) -> Connection:
    """The customer presses “Set up integration”."""
    return await linker.confirm_recruiter(connection.id)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When Workable gets into trouble: what was before, what is done then, and where the connection gets at last."""

    prepare: Prepare
    act: Act
    arrives: ConnectionState


MOMENTS = {
    "verification": Moment(prepare=awaiting_token, act=submit, arrives=ConnectionState.AWAITING_RECRUITER),
    "look": Moment(prepare=awaiting_recruiter, act=confirm, arrives=ConnectionState.AWAITING_RECRUITER),
    "health": Moment(prepare=linked, act=sweep_when_due, arrives=ConnectionState.LINKED),
    "replacement": Moment(prepare=linked, act=submit, arrives=ConnectionState.LINKED),
}


# the troubles


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong, what it is called, and who has to act."""

    code: str
    owner: str
    fault: Fault | None = None
    seconds: float | None = None
    url: str | None = None
    timeouts: Timeouts = PATIENT

    @asynccontextmanager
    async def striking(self, stage: Stage) -> AsyncIterator[Linker]:
        """A linker of another process, which meets this trouble at every call."""
        if self.fault is not None:
            stage.world.fail(EVERYWHERE, self.fault, seconds=self.seconds)
        async with stage.linker(timeouts=self.timeouts, url=self.url) as linker:
            yield linker
        stage.world.heal()


def down(fault: Fault | None = None, **more: Any) -> Trouble:
    """Workable cannot be asked, which is Workable's own business."""
    return Trouble(code="workable_unavailable", owner="workable", fault=fault, **more)


def throttled(fault: Fault, **more: Any) -> Trouble:
    """Workable's limit is used up."""
    return Trouble(code="throttled", owner="workable", fault=fault, **more)


def odd(fault: Fault) -> Trouble:
    """Workable says something that no rule covers: an operator has to look at it."""
    return Trouble(code="answer_not_understood", owner="operator", fault=fault)


NOBODY_LISTENS = "http://127.0.0.1:1/{subdomain}"
NO_SUCH_NAME = "https://{subdomain}.workable.invalid"

TROUBLES = {
    "500": down(Fault.SERVER_ERROR),
    "502 of a proxy": down(Fault.BAD_GATEWAY),
    "503 in plain text": down(Fault.UNAVAILABLE),
    "no answer in time": down(Fault.SLOW, seconds=60, timeouts=IMPATIENT),
    "an answer that drips": down(Fault.TRICKLE, seconds=60, timeouts=IMPATIENT),
    "cut in the middle": down(Fault.CUT),
    "a web page": down(Fault.HTML),
    "a redirect": down(Fault.REDIRECT),
    "nobody listens": down(url=NOBODY_LISTENS),
    "no such name": down(url=NO_SUCH_NAME),
    "429 with a reset": throttled(Fault.THROTTLED, seconds=90),
    "429 with Retry-After": throttled(Fault.THROTTLED_RETRY_AFTER, seconds=90),
    "429 alone": throttled(Fault.THROTTLED_BARE),
    "a huge answer": odd(Fault.HUGE),
    "broken JSON": odd(Fault.BROKEN_JSON),
    "a list for an object": odd(Fault.WRONG_SHAPE),
    "missing keys": odd(Fault.MISSING_KEYS),
    "no body": odd(Fault.EMPTY),
}


@pytest.fixture
def _no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server does not know the test's name; no question leaves the machine."""
    real = socket.getaddrinfo

    def asked(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", asked)


async def in_trouble(stage: Stage, moment: Moment, trouble: Trouble) -> tuple[Connection, Connection]:
    """Play the moment with the trouble; gives the connection before and after it."""
    async with stage.linker() as linker:
        before = await moment.prepare(stage, linker)
    stage.clock.advance(seconds=WINDOW)
    async with trouble.striking(stage) as linker:
        return before, await moment.act(stage, linker, before)


@pytest.mark.usefixtures("_no_such_name")
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
async def test_trouble_is_called_by_its_name_and_the_link_goes_on(
    stage: Stage, moment: Moment, trouble: Trouble
) -> None:
    """Trouble is no verdict: it has its own name and owner, blames no field, and takes away neither state nor token."""
    before, troubled = await in_trouble(stage, moment, trouble)
    shown = connection_json(troubled)["problem"]
    assert (shown["code"], shown["owner"], shown["field"]) == (trouble.code, trouble.owner, None)
    assert (troubled.state, troubled.token) == (before.state, before.token)
    assert (troubled.doubt, troubled.replacement_problem) == (None, None)
    assert (troubled.candidate is not None) == (moment.act is submit)
    assert troubled.due_at is not None

    async with stage.linker() as linker:
        arrived = await sweep_when_due(stage, linker, troubled)
    assert (arrived.state, arrived.candidate) == (moment.arrives, None)
    assert arrived.problem is None or arrived.problem.code.value == "recruiter_absent"
    if troubled.candidate is not None:
        assert arrived.token == troubled.candidate
    assert not [entry for entry in stage.world.log if entry.subdomain == ""], "nobody follows a redirect"


@pytest.mark.parametrize("path", ["accounts", "recruiters"])
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.HTML, Fault.THROTTLED_BARE, Fault.CUT])
async def test_half_a_verification_is_none(stage: Stage, fault: Fault, path: str) -> None:
    """If only one of the two calls of a verification fails, the token is neither accepted nor refused, but kept."""
    stage.world.fail("acme", fault, path=path)
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        submitted = await submit(stage, linker, opened)
        assert (submitted.state, submitted.token) == (ConnectionState.AWAITING_TOKEN, None)
        assert submitted.candidate is not None
        stage.world.heal()
        assert (await sweep_when_due(stage, linker, submitted)).token == submitted.candidate


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
async def test_single_404_is_no_verdict(stage: Stage, moment: Moment) -> None:
    """Workable's spurious 404 is asked again at once, and nobody hears of it."""
    async with stage.linker() as linker:
        before = await moment.prepare(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, Fault.SPURIOUS_404)
        after = await moment.act(stage, linker, before)
        assert after.problem is None or after.problem.code.value == "recruiter_absent"
        assert (after.state, after.candidate, after.doubt) == (moment.arrives, None, None)


async def test_list_that_is_not_found_is_not_understood(stage: Stage) -> None:
    """A list of recruiters that stays away with 404 says nothing of the token: it is kept, an operator has to look."""
    stage.world.fail("acme", Fault.NOT_FOUND, path="recruiters")
    async with stage.linker() as linker:
        submitted = await submit(stage, linker, await awaiting_token(stage, linker))
    assert submitted.problem is not None
    assert submitted.problem.code.value == "answer_not_understood"
    assert submitted.candidate is not None


async def test_long_outage_leaves_two_lines_of_history(stage: Stage) -> None:
    """An outage of a day is one line when it begins and none while it goes on, and then the connection is linked."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.add_recruiter(waiting)
        stage.world.fail(EVERYWHERE, Fault.UNAVAILABLE)
        for _ in range(12):
            troubled = await sweep_when_due(stage, linker, waiting)
        assert troubled.attempts == 12
        stage.world.heal()
        assert (await sweep_when_due(stage, linker, waiting)).state is ConnectionState.LINKED
        story = events(await linker.history(waiting.id))
    assert story[story.index("recruiter_prepared") + 1 :] == ["workable_unavailable", "recruiter_found"]


async def test_pauses_grow_and_nothing_is_called_in_between(stage: Stage) -> None:
    """With each try without an answer the next one is twice as far away, up to an hour; until then nobody calls."""
    pauses = []
    async with stage.linker() as linker:
        stage.world.fail(EVERYWHERE, Fault.SERVER_ERROR)
        kept = await submit(stage, linker, await awaiting_token(stage, linker))
        for _ in range(14):
            assert kept.due_at is not None
            pauses.append((kept.due_at - stage.clock.now()).total_seconds())
            before = stage.calls()
            await linker.attend_due()
            assert stage.calls() == before
            stage.clock.advance(seconds=pauses[-1])
            await linker.attend_due()
            assert stage.calls() == before + 1
            kept = await linker.get(kept.id)
    assert pauses[:4] == [2.5, 5, 10, 20]
    assert pauses[-1] == 1800, "half of an hour: the dice fall in the middle"


# the limit of calls


THROTTLINGS = {"reset": (Fault.THROTTLED, 9.0), "Retry-After": (Fault.THROTTLED_RETRY_AFTER, 300.0)}


@pytest.mark.parametrize(("fault", "seconds"), THROTTLINGS.values(), ids=THROTTLINGS)
async def test_nobody_calls_before_the_time_that_workable_names(stage: Stage, fault: Fault, seconds: float) -> None:
    """After a 429 neither a person's button, nor a sweep, nor another process calls before Workable's own time."""
    async with stage.linker() as linker:
        waiting = await awaiting_recruiter(stage, linker)
        stage.add_recruiter(waiting)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail("acme", fault, seconds=seconds, times=1)
        named = stage.clock.now() + timedelta(seconds=seconds)
        throttled = await linker.confirm_recruiter(waiting.id)
        assert throttled.not_before is not None
        assert named <= throttled.not_before <= named + timedelta(seconds=1), "a reset is told in whole seconds"
        before = stage.calls()
        stage.clock.advance(seconds=seconds - 1)
        assert (await linker.confirm_recruiter(waiting.id)).state is ConnectionState.AWAITING_RECRUITER
        assert (await linker.attend_due()).claimed == 0
        async with stage.linker() as another:
            assert (await another.confirm_recruiter(waiting.id)).problem == throttled.problem
            assert (await another.attend_due()).claimed == 0
        assert stage.calls() == before
        stage.clock.advance(seconds=(throttled.not_before - stage.clock.now()).total_seconds())
        assert (await linker.confirm_recruiter(waiting.id)).state is ConnectionState.LINKED


async def test_bare_429_waits_for_a_window(stage: Stage) -> None:
    """A 429 that names no time is waited out for ten seconds: the length of Workable's window."""
    async with stage.linker() as linker:
        stage.world.fail("acme", Fault.THROTTLED_BARE, times=1)
        throttled = await submit(stage, linker, await awaiting_token(stage, linker))
    assert throttled.not_before == stage.clock.now() + timedelta(seconds=10)


async def test_another_token_does_not_get_around_the_limit(stage: Stage) -> None:
    """A token that is pasted while Workable's time has not come is kept without a call, and verified at that time."""
    async with stage.linker() as linker:
        opened = await awaiting_token(stage, linker)
        stage.world.fail("acme", Fault.THROTTLED_RETRY_AFTER, seconds=60, times=1)
        await submit(stage, linker, opened)
        before = stage.calls()
        again = await submit(stage, linker, opened)
        assert stage.calls() == before
        assert again.candidate is not None
        arrived = await sweep_when_due(stage, linker, again)
        assert (arrived.state, arrived.token) == (ConnectionState.AWAITING_RECRUITER, again.candidate)


# a replacement in the middle of trouble


async def test_replacement_that_is_never_understood_is_turned_down(stage: Stage) -> None:
    """A replacement is not tried for ever: after five odd answers it is told as unusable, and the link works on."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail("acme", Fault.BROKEN_JSON, path="accounts")
        now = await submit(stage, linker, before)
        for _ in range(4):
            assert now.candidate is not None
            now = await sweep_when_due(stage, linker, now)
        assert (now.state, now.token, now.candidate) == (ConnectionState.LINKED, before.token, None)
        assert now.replacement_problem is not None
        assert now.replacement_problem.code.value == "answer_not_understood"


async def test_replacement_never_tried_for_an_outage_of_any_length(stage: Stage) -> None:
    """An outage turns no replacement down, however many tries it takes."""
    async with stage.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, Fault.BAD_GATEWAY)
        now = await submit(stage, linker, before)
        for _ in range(8):
            now = await sweep_when_due(stage, linker, now)
        assert (now.replacement_problem, now.token) == (None, before.token)
        stage.world.heal()
        given = now.candidate
        assert (await sweep_when_due(stage, linker, now)).token == given


async def test_candidate_outlives_the_process(stage: Stage) -> None:
    """What was pasted while Workable was down is verified by another process, in which nobody pasted anything."""
    stage.world.fail(EVERYWHERE, Fault.SERVER_ERROR)
    async with stage.linker() as linker:
        kept = await submit(stage, linker, await awaiting_token(stage, linker))
    stage.world.heal()
    async with stage.linker() as another:
        assert (await sweep_when_due(stage, another, kept)).state is ConnectionState.AWAITING_RECRUITER


async def test_wrong_token_is_told_once_workable_is_back(stage: Stage) -> None:
    """A wrong token that was pasted during an outage is called wrong when Workable says so, and not before."""
    async with stage.linker() as linker:
        stage.token()
        opened = await awaiting_token(stage, linker)
        stage.world.fail(EVERYWHERE, Fault.UNAVAILABLE, times=2)
        kept = await linker.submit_token(opened.id, subdomain="acme", token=SecretStr("a-token-nobody-made"))
        codes = []
        for _ in range(2):
            assert kept.problem is not None
            codes.append(kept.problem.code.value)
            kept = await sweep_when_due(stage, linker, kept)
        assert codes == ["workable_unavailable"] * 2
        assert kept.problem is not None
        assert (kept.problem.code.value, kept.candidate) == ("token_refused", None)
