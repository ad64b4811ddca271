"""What a client does beside sending: repeating, turning pages, reporting, telling the log; without a network."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from linker import BadInput, Connection, Linker, Refused, Settings, TryAgain, new_key
from linker.accounts.paging import PageTurner
from linker.accounts.requests import path_template, pause_before_repeating
from linker.testing import (
    ScriptedAnswers,
    ScriptedWorkable,
    SettableClock,
    Unlimited,
    blocking_scripted_client,
    scripted_client,
)
from states.verdicts import CredentialRefused
from tests.integration.account_hosts import TOKEN, Client, Host, a_scripted_linker, opened
from tests.seams import parts

UNAUTHORIZED = httpx.Response(401, json={"error": "Not authorized"})
FORBIDDEN = httpx.Response(403, json={"error": "Forbidden"})


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still."""
    return SettableClock()


@pytest.fixture
def workable() -> ScriptedWorkable:
    """What the engine asks."""
    return ScriptedWorkable()


@pytest.fixture
def answers() -> ScriptedAnswers:
    """What clients are answered."""
    return ScriptedAnswers()


@pytest.fixture(params=[False, True], ids=["async", "blocking"])
async def host(
    request: pytest.FixtureRequest, workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock
) -> AsyncIterator[Host]:
    """A host of each kind."""
    async with opened(a_scripted_linker(workable, answers, clock), blocks=request.param) as made:
        yield made


async def told(host: Host) -> None:
    """Let what a client reports arrive."""
    for _ in range(200):
        await asyncio.sleep(0.005)
        if not host.linker._reports._tasks:
            return


# ── 5: health from use ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refusals_in_parallel_cost_one_look_and_end_nothing(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock
) -> None:
    """A 401 goes to the caller unchanged; the engine looks itself, once, and its own answer decides."""
    requests = 10_000
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", UNAUTHORIZED)
    asked = len(workable.asked)
    async with host.client(connection) as client:
        got = await asyncio.gather(*(client.get("jobs") for _ in range(requests)))
        assert {(one.status_code, one.json()["error"]) for one in got} == {(401, "Not authorized")}
    await told(host)
    for _ in range(3):
        await host.do(host.linker.attend_due)
    assert len(workable.asked) == asked + 1
    after = await host.do(host.linker.get, connection.id)
    assert (after.state, after.doubt, after.problem) == ("linked", None, None)
    steps = await host.do(host.linker.history, connection.id)
    assert [step.event for step in steps].count("refusal_reported") == 1
    clock.advance(seconds=59)
    async with host.client(connection) as client:
        await client.get("jobs")
        await told(host)
        assert (await host.do(host.linker.attend_due)).claimed == 0
        clock.advance(seconds=2)
        await client.get("jobs")
        await told(host)
        assert (await host.do(host.linker.attend_due)).claimed == 1


async def test_a_host_that_is_refused_for_long_ends_no_link_by_itself(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock
) -> None:
    """Only what the engine was answered counts: three refusals in a row over an hour."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", UNAUTHORIZED)
    async with host.client(connection) as client:
        for _ in range(30):
            clock.advance(minutes=5)
            await client.get("jobs")
            await told(host)
            await host.do(host.linker.attend_due)
        assert (await host.do(host.linker.get, connection.id)).state == "linked"
        refused = 0
        while (await host.do(host.linker.get, connection.id)).state == "linked":
            clock.advance(minutes=5)
            await client.get("jobs")
            await told(host)
            workable.will_say(CredentialRefused())
            await host.do(host.linker.attend_due)
            refused += 1
        assert refused >= 12, "an hour"


async def test_a_403_elsewhere_is_no_matter_of_the_link(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers
) -> None:
    """Where linking itself calls, the engine looks; anywhere else it does not."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "candidates", FORBIDDEN)
    answers.will_answer("GET", "recruiters", FORBIDDEN)
    async with host.client(connection) as client:
        assert (await client.get("candidates")).status_code == 403
        await told(host)
        assert (await host.do(host.linker.attend_due)).claimed == 0
        assert (await client.get("recruiters")).status_code == 403
        await told(host)
        assert (await host.do(host.linker.attend_due)).claimed == 1
    assert (await host.do(host.linker.get, connection.id)).state == "linked"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"error": "x"}, headers={"WWW-Authenticate": 'Basic realm="proxy"'}),
        httpx.Response(401, json={"error": "x"}, headers={"Proxy-Status": "proxy; error=connection_refused"}),
        httpx.Response(403, html="<h1>Forbidden</h1>"),
        httpx.Response(403, json={"error": "x"}, headers={"CF-Mitigated": "challenge"}),
    ],
    ids=["signs in", "proxy", "page", "edge"],
)
async def test_what_a_proxy_or_the_edge_refuses_is_not_told(
    answer: httpx.Response, host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers
) -> None:
    """It comes to the caller, and says nothing of the token."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", answer)
    async with host.client(connection) as client:
        assert (await client.get("jobs")).status_code == answer.status_code
    await told(host)
    assert (await host.do(host.linker.attend_due)).claimed == 0
    assert "refusal_reported" not in [step.event for step in await host.do(host.linker.history, connection.id)]


async def test_use_that_goes_well_spares_a_look_and_not_a_second_one(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock
) -> None:
    """The day's look is put off once; the one after it is made, because our recruiter may be gone."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", {"jobs": []})
    async with host.client(connection) as client:
        await client.get("jobs")
        await told(host)
        assert (await host.do(host.linker.get, connection.id)).used_at is None, "the look is far"
        clock.advance(hours=20)
        for _ in range(5):
            await client.get("jobs")
        await told(host)
        clock.advance(hours=10)
        assert (await host.do(host.linker.attend_due)).claimed == 0
        for _ in range(10):
            clock.advance(hours=2)
            await client.get("jobs")
            await told(host)
        assert (await host.do(host.linker.attend_due)).claimed == 1
    after = await host.do(host.linker.get, connection.id)
    assert (after.used_at, after.last_ok_at) == (None, clock.now())
    assert "use_confirmed" not in [step.event for step in await host.do(host.linker.history, connection.id)]


# ── 2, 9: what a host cannot choose, and when it is too late ──────────────────────────────────────────────────────────


async def test_who_asks_is_not_a_hosts_to_choose(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers
) -> None:
    """Neither by headers nor by what `httpx` tells its transport beside them."""
    connection = await host.linked(workable)
    seen: list[dict[str, Any]] = []
    answer = answers.handle_async_request

    async def look(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.extensions))
        return await answer(request)

    answers.handle_async_request = look  # type: ignore[method-assign]
    theirs = {"Cookie": "a=b", "Proxy-Authorization": "Basic x", "X-Workable-Client-Id": "them", "Host": "elsewhere"}
    beside = {"sni_hostname": "elsewhere", "target": b"/elsewhere", "trace": print}
    async with host.client(connection) as client:
        await client.get("jobs", headers={**theirs, "X-Mine": "1"}, extensions=beside)
    [request], [extensions] = answers.requests, seen
    assert {name.lower() for name in theirs} & set(request.headers) == {"host"}
    assert (request.headers["host"], request.headers["x-mine"]) == ("acme.workable.com", "1")
    assert set(extensions) <= {"timeout"}


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_a_link_that_ends_while_a_request_waits_for_its_turn_sends_nothing(
    blocks: bool, workable: ScriptedWorkable, answers: ScriptedAnswers, clock: SettableClock
) -> None:
    """What may be used is asked again once there is a turn."""

    class Ends(Unlimited):
        async def take(self, connection: Connection, *, wait: float) -> float:
            await linker.unlink(connection.id)
            return 0.0

    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    linker = Linker(settings, workable=workable, account_transport=answers, clock=clock, budget=Ends())
    async with opened(linker, blocks=blocks) as host:
        connection = await host.linked(workable)
        async with host.client(connection) as client:
            with pytest.raises(Refused) as refused:
                await client.get("jobs")
    assert refused.value.reason == "closed"
    assert answers.requests == []


# ── 8: repeating ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long clients wait before they repeat; nobody waits so long here."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("linker.accounts.use.sleep", sleep)
    return waited


@pytest.mark.parametrize("trouble", [httpx.ConnectError("no"), 502, 503, 504, 429], ids=str)
async def test_what_only_reads_is_repeated_when_it_is_wanted(
    trouble: Any, host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, pauses: list[float]
) -> None:
    """By default nothing is; a POST never is, unless the caller says that it is idempotent."""
    connection = await host.linked(workable)
    failing = isinstance(trouble, Exception)

    async def tried(method: str, *, retries: int, **given: Any) -> tuple[int, int]:
        answers.will_answer(method, "jobs", trouble, trouble, {"jobs": []})
        before = len(answers.requests)
        async with host.client(connection, retries=retries) as client:
            try:
                status = (await client.request(method, "jobs", **given)).status_code
            except httpx.ConnectError:
                status = 0
        answers._script.clear()
        return status, len(answers.requests) - before

    assert await tried("GET", retries=0) == (0 if failing else trouble, 1)
    assert pauses == []
    assert await tried("GET", retries=2) == (200, 3)
    assert len(pauses) == 2
    assert await tried("HEAD", retries=1) == (0 if failing else trouble, 2)
    assert await tried("POST", retries=2) == (0 if failing else trouble, 1)
    assert await tried("POST", retries=2, extensions={"idempotent": True}) == (200, 3)
    assert await tried("DELETE", retries=2) == (0 if failing else trouble, 1)


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_nothing_is_sent_again_behind_ones_back(blocks: bool, workable: ScriptedWorkable) -> None:
    """A server that hangs up on a connection it kept open has perhaps done what it read: the caller decides."""
    read: list[bytes] = []
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        this = ended[-1]
        with suppress(asyncio.IncompleteReadError):  # it is opened once more, and nothing comes
            read.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
            read.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()
        await writer.wait_closed()
        this.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{{subdomain}}"
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),), workable_url=where)
    async with server, opened(Linker(settings, workable=workable, budget=Unlimited()), blocks=blocks) as host:
        connection = await host.linked(workable)
        async with host.client(connection) as client:
            assert (await client.get("jobs")).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("jobs")
        for each in ended:
            await each.wait()
    assert len(read) == 2


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 501])
async def test_other_answers_stand(
    status: int, host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, pauses: list[float]
) -> None:
    """Nothing is repeated that was answered."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", status)
    async with host.client(connection, retries=3) as client:
        assert (await client.get("jobs")).status_code == status
    assert (len(answers.requests), pauses) == (1, [])


@given(st.integers(1, 10), st.floats(0, 1), st.sampled_from([None, 429, 502, 503]), st.integers(1, 600))
def test_a_repetition_never_comes_before_workables_time(attempt: int, jitter: float, status: Any, seconds: int) -> None:
    """The jitter comes on top of it, and stays in its bounds."""
    now = SettableClock().now()
    told = {b"retry-after": str(seconds).encode()} if status else {}
    pause = pause_before_repeating(status, told, attempt, now=now, jitter=jitter)
    soonest = pause_before_repeating(status, told, attempt, now=now, jitter=0)
    latest = pause_before_repeating(status, told, attempt, now=now, jitter=1)
    assert soonest == (seconds if status else 0), "full jitter begins at nothing"
    assert pause is not None
    assert latest is not None
    assert soonest <= pause <= latest <= soonest + 8


async def test_a_time_that_is_too_far_is_not_waited_for(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, pauses: list[float]
) -> None:
    """The 429 goes to the caller, with Workable's time in it."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", httpx.Response(429, headers={"Retry-After": "600"}))
    async with host.client(connection, retries=2) as client:
        assert (await client.get("jobs")).headers["retry-after"] == "600"
    assert (len(answers.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    ("given", "field"), [({"wait": -1}, "wait"), ({"retries": 11}, "retries"), ({"allow": "x"}, "allow")]
)
async def test_what_cannot_be_meant_is_refused(
    given: dict[str, Any], field: str, host: Host, workable: ScriptedWorkable
) -> None:
    """Before anything is opened."""
    connection = await host.linked(workable)
    with pytest.raises(BadInput) as refused:
        async with host.client(connection, **given):
            pass
    assert refused.value.field == field


# ── 3: cancelling ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Open(httpx.AsyncByteStream):
    """The body of an answer, which holds a connection of the network's until it is closed."""

    def __init__(self, holders: set[_Open]) -> None:
        self._holders = holders
        holders.add(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        yield b"{}"

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self._holders.discard(self)


class _Network(httpx.AsyncBaseTransport):
    """Answers with this status, and knows which connections are held."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.held: set[_Open] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(self.status, stream=_Open(self.held))


@pytest.mark.parametrize("swaps", [False, True], ids=["same token", "swapped"])
@pytest.mark.parametrize("status", [200, 401, 403, 503])
async def test_whoever_stops_waiting_at_any_turn_holds_no_connection(
    status: int, swaps: bool, workable: ScriptedWorkable, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a refusal is looked into, while it is sent again with another token, and between repetitions."""
    network = _Network(status)
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    http = httpx.AsyncClient(transport=network)  # of the host's own: whatever is beneath may take its time to close
    async with http, Linker(settings, clock=clock, workable=workable, http=http, budget=Unlimited()) as linker:
        linked = await Host(linker, blocks=False).linked(workable)
        accounts, reads = parts(linker).accounts, 0

        async def turn(_: float) -> None:
            await asyncio.sleep(0)

        async def read(_: str) -> Any:
            nonlocal reads
            for _turn in range(3):
                await turn(0)
            reads += 1
            other = accounts.cipher.seal(SecretStr(f"{TOKEN}-{reads}"), bound_to=linked.id)
            assert linked.token is not None
            return replace(linked, token=replace(linked.token, sealed=other)) if swaps else linked

        monkeypatch.setattr("linker.accounts.use.sleep", turn)
        monkeypatch.setattr(accounts.access, "_read", read)
        async with linker.client(linked.id, retries=1) as client:
            for turns in range(60):
                accounts.access.forget_all()
                asking = asyncio.create_task(client.get("jobs"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert not network.held, f"cancelled at turn {turns}"


# ── 10: pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

BASE = "https://acme.workable.com/spi/v3/jobs"


def owns(url: httpx.URL) -> bool:
    """The account's own."""
    return url.host == "acme.workable.com"


def served(ids: list[int], url: httpx.URL, size: int) -> httpx.Response:
    """A page as Workable gives it: `since_id` is inclusive."""
    since = int(url.params.get("since_id", "0"), 16)
    left = sorted(one for one in ids if one >= since)
    body: dict[str, Any] = {"jobs": [{"id": f"{one:x}"} for one in left[:size]]}
    if len(left) > size:
        body["paging"] = {"next": f"{BASE}?limit={size}&since_id={left[size - 1]:x}"}
    return httpx.Response(200, json=body, request=httpx.Request("GET", url))


@given(
    st.sets(st.integers(1, 2000), max_size=60),
    st.integers(2, 9),
    st.lists(st.sets(st.integers(1, 2000), max_size=6), max_size=40),
)
def test_pages_miss_nothing_and_repeat_nothing_whatever_comes_between(
    ids: set[int], size: int, inserted: list[set[int]]
) -> None:
    """What was there all the time comes exactly once, though others are added between any two pages."""
    turner, now, found = PageTurner(owns, httpx.URL(BASE)), set(ids), []
    for number in range(len(ids) + len(inserted) * 6 + 2):
        if turner.url is None:
            break
        found += turner.turn(served(sorted(now), turner.begin(), size))
        now |= inserted[number] if number < len(inserted) else set()
    counted = Counter(int(entry["id"], 16) for entry in found)
    assert turner.url is None
    assert set(counted.values()) <= {1}
    assert ids <= counted.keys() <= now


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"jobs": [{"id": "1"}], "paging": {"next": BASE}}, "page_repeated"),
        ({"jobs": [{"id": "1"}], "paging": {"next": f"{BASE}?since_id=1"}}, "page_repeated"),
        ({"jobs": [], "paging": {"next": "https://elsewhere.example/spi/v3/jobs"}}, "page_elsewhere"),
        ({"jobs": [], "paging": {"next": 7}}, "page_elsewhere"),
        ({"jobs": [], "paging": {"next": "http://[::1"}}, "page_elsewhere"),
        ({"jobs": [], "others": []}, "not_a_list"),
        ({"job": {}}, "not_a_list"),
        ([], "not_a_list"),
    ],
)
async def test_pages_that_lead_nowhere_end(
    body: Any, reason: str, host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers
) -> None:
    """A page that was read, that is somebody else's, or that is none is an error, and nothing else is asked for."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", httpx.Response(200, json=body))
    async with host.client(connection) as client:
        with pytest.raises(TryAgain) as refused:
            await client.listed(client.http.pages("jobs"))
    assert refused.value.reason == reason
    assert len(answers.requests) <= 2


async def test_pages_are_lazy_and_can_be_taken_up_again(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers
) -> None:
    """A page is asked for when its first entry is; its URL is where another process goes on."""
    connection = await host.linked(workable)
    pages: list[dict[str, Any]] = [
        {"jobs": [{"id": "1"}, {"id": "2"}], "paging": {"next": f"{BASE}?since_id=3"}},
        {"jobs": [{"id": "3"}, {"id": "4"}], "paging": {"next": f"{BASE}?since_id=5"}},
        {"jobs": [{"id": "5"}]},
    ]
    answers.will_answer("GET", "jobs", *pages)
    async with host.client(connection) as client:
        reading = client.http.pages("jobs", params={"state": "published"})
        assert answers.requests == []
        assert [one["id"] for one in await client.listed(reading, 3)] == ["1", "2", "3"]
        assert len(answers.requests) == 2
        assert str(answers.requests[0].url) == f"{BASE}?state=published"
        kept = str(reading.url)
        assert kept == f"{BASE}?since_id=3"
        answers._script.clear()
        answers.will_answer("GET", "jobs", *pages[1:])
        assert [one["id"] for one in await client.listed(client.http.pages(kept))] == ["3", "4", "5"]
        answers._script.clear()
        answers.will_answer("GET", "jobs", 500)
        with pytest.raises(httpx.HTTPStatusError):
            await client.listed(client.http.pages("jobs"))


# ── 11: told ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("jobs", "jobs"),
        ("jobs/ROBOT01", "jobs/{shortcode}"),
        ("jobs/stages", "jobs/stages"),
        ("jobs/ROBOT01/candidates", "jobs/{shortcode}/candidates"),
        ("candidates/ann%40example.com/offer", "candidates/{id}/offer"),
        ("accounts/acme", "accounts/{subdomain}"),
        ("/secret-name/x/", "{id}/{id}"),
        ("", "{id}"),
    ],
)
def test_paths_are_told_without_what_they_name(path: str, template: str) -> None:
    """A path's own words stay, everything else is left out."""
    assert path_template(path) == template


async def test_each_call_is_one_log_event(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, caplog: pytest.LogCaptureFixture
) -> None:
    """With what was called and how it went, and nothing of what was said."""
    caplog.set_level(logging.INFO, logger="linker")
    connection = await host.linked(workable)
    answers.will_answer("POST", "jobs/ROBOT01/candidates", 201)
    async with host.client(connection) as client:
        await client.request(
            "POST",
            "jobs/ROBOT01/candidates?secret=query",
            json={"secret": "body"},
            headers={"X-Secret": "header"},
        )
    [event] = [vars(record)["linker"] for record in caplog.records if record.msg.startswith("account.called")]
    assert event.keys() == {"event", "connection_id", "method", "path", "status", "ms", "waited", "attempt"}
    assert (event["method"], event["path"], event["status"]) == ("POST", "jobs/{shortcode}/candidates", 201)
    assert "secret" not in " ".join(record.getMessage() for record in caplog.records if record.name == "linker").lower()


# ── 12: cheap ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_thousand_clients_make_no_pool_and_read_once(
    host: Host, workable: ScriptedWorkable, answers: ScriptedAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client stands on is shared: nothing is built, the row is read once a minute, and memory stays flat."""
    connection = await host.linked(workable)
    answers.will_answer("GET", "jobs", {"jobs": []})
    built: list[str] = []
    for kind in (httpx.HTTPTransport, httpx.AsyncHTTPTransport):
        monkeypatch.setattr(kind, "__init__", lambda *_, **__: built.append("a pool"))
    monkeypatch.setattr(httpx, "create_ssl_context", lambda *_, **__: built.append("a context"))
    reads: list[str] = []
    access = parts(host.linker).accounts.access
    read = access._read

    async def counted(connection_id: str) -> Any:
        reads.append(connection_id)
        return await read(connection_id)

    monkeypatch.setattr(access, "_read", counted)

    def many(times: int) -> None:
        assert host.call is not None
        for _ in range(times):
            with host.call.client(connection.id) as client:
                client.get("jobs")

    async def used(times: int) -> None:
        if host.call is not None:
            await asyncio.to_thread(many, times)
            return
        for _ in range(times):
            async with host.linker.client(connection.id) as client:
                await client.get("jobs")

    access.forget_all()
    await used(100)
    answers.requests.clear()
    gc.collect()
    before = len(gc.get_objects())
    await used(1000)
    answers.requests.clear()
    gc.collect()
    assert (built, len(reads)) == ([], 1)
    assert len(gc.get_objects()) - before < 500, "something is kept of each"
    monkeypatch.setattr("linker.accounts.access.FRESH_SECONDS", 0.0)
    await used(1)
    assert len(reads) >= 2


# ── 14, 15 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def scripted(answers: ScriptedAnswers, *, blocks: bool) -> AsyncIterator[Client]:
    """The kit's client of either kind."""
    if not blocks:
        async with scripted_client(answers) as client:
            yield Client(client)
        return
    opening = blocking_scripted_client(answers)
    yield Client(await asyncio.to_thread(opening.__enter__))
    await asyncio.to_thread(opening.__exit__, None, None, None)


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_the_kit_gives_a_client_with_scripted_answers(blocks: bool) -> None:
    """What was scripted is answered, and what was asked can be looked at."""
    answers = ScriptedAnswers()
    answers.will_answer("GET", "jobs", {"jobs": [{"id": "1"}], "paging": {"next": f"{BASE}?since_id=2"}}, {"jobs": []})
    answers.will_answer("POST", "jobs/ROBOT01/candidates", 201)
    answers.will_answer("GET", "members", httpx.ConnectError("no network"))
    async with scripted(answers, blocks=blocks) as workable:
        recruiter = workable.http.recruiter
        assert await workable.listed(workable.http.pages("jobs")) == [{"id": "1"}]
        sent = await workable.request("POST", "jobs/ROBOT01/candidates", json={"recruiter_key": recruiter.id})
        assert sent.status_code == 201
        assert (await workable.get("stages")).status_code == 404
        with pytest.raises(httpx.ConnectError):
            await workable.get("members")
    assert [request.method for request in answers.requests] == ["GET", "GET", "POST", "GET", "GET"]
    assert "authorization" not in answers.requests[0].headers
    assert recruiter.id.encode() in answers.requests[2].content


async def test_the_token_in_clear_text_leaves_a_step(host: Host, workable: ScriptedWorkable) -> None:
    """Who was given it, when and why is in the history, before it is given; without a reason it is not."""
    connection = await host.linked(workable)
    token = await host.do(host.linker.reveal_token, connection.id, reason="a migration", actor="ann")
    assert isinstance(token, SecretStr)
    assert token.get_secret_value() == TOKEN
    step = (await host.do(host.linker.history, connection.id))[-1]
    assert (step.event, step.actor, step.reason) == ("token_revealed", "ann", "a migration")
    assert TOKEN not in str(step)
    for reason in ("", "  ", "two\nlines"):
        with pytest.raises(BadInput):
            await host.do(host.linker.reveal_token, connection.id, reason=reason)
    fresh = await host.do(host.linker.create, owner="customer-2")
    with pytest.raises(Refused) as refused:
        await host.do(host.linker.reveal_token, fresh.id, reason="none is there")
    assert refused.value.reason == "no_token"
    assert len(await host.do(host.linker.history, connection.id)) == step.seq


async def test_a_client_outside_of_its_block_is_of_no_use(host: Host, workable: ScriptedWorkable) -> None:
    """It says so, before anything is sent."""
    connection = await host.linked(workable)
    client = Client(host.linker.client(connection.id) if host.call is None else host.call.client(connection.id))
    with pytest.raises(Exception, match=r"before it was entered"):
        await client.get("jobs")
