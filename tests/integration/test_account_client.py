"""The client for a host's own calls, over a sandbox on a socket: what is sent, where to, and what shows the token."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr
from sqlalchemy import text

from linker import BadInput, Metrics, Refused, TryAgain, blocking, describe, new_key
from linker.engine.observer import together
from linker.sandbox import Fault, Limit, World
from linker.telemetry.tracing import Tracing
from states.connection import ConnectionState
from states.events import Forced, Paused, Resumed, Unlinked
from tests.integration.account_hosts import OTHER_TOKEN, SCOPES, TOKEN, Host, a_linker, opened
from tests.integration.storehouse import House
from tests.seams import parts

BOTH = pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])


@pytest.fixture
def world(sandbox: tuple[World, str]) -> World:
    """An empty Workable."""
    sandbox[0].clear()
    sandbox[0].set_limit(Limit.off())
    return sandbox[0]


@pytest.fixture
def url(sandbox: tuple[World, str]) -> str:
    """Where it is."""
    return sandbox[1]


# ── what a host came for ──────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_a_host_lists_jobs_and_brings_a_candidate(world: World, url: str, blocks: bool) -> None:
    """The account's API is the base of every URL, and a candidate is brought under our recruiter's name."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        for number in range(7):
            world.add_job("acme", title=f"Job {number}", shortcode=f"JOB{number}")
        async with host.client(connection) as client:
            assert str(client.http.base_url) == f"{url.replace('{subdomain}', 'acme')}/spi/v3/"
            answer = await client.get("jobs", params={"limit": 2})
            assert (answer.status_code, len(answer.json()["jobs"])) == (200, 2)
            listed = await client.listed(client.http.pages("jobs", params={"limit": 2, "state": "published"}))
            assert [job["shortcode"] for job in listed] == [f"JOB{number}" for number in range(7)]
            assert client.http.recruiter.id is not None
            brought = await client.request(
                "POST",
                "jobs/JOB3/candidates",
                json={
                    "candidate": {"name": "Ann Example", "email": "ann@example.com"},
                    "recruiter_key": client.http.recruiter.id,
                },
            )
            assert brought.status_code == 201
            found = await client.listed(client.http.pages("candidates"))
            assert [one["id"] for one in found] == [brought.json()["candidate"]["id"]]
            assert (await client.get("stages")).json()["stages"][0]["slug"] == "sourced"
            assert (await client.get("jobs/JOB3")).json()["title"] == "Job 3"
    [candidate] = world.candidates("acme")
    assert candidate.recruiter == connection.recruiter.id if connection.recruiter else None


@BOTH
async def test_bodies_come_and_go_as_with_any_client(world: World, url: str, blocks: bool) -> None:
    """What is sent bit by bit arrives, and what is read bit by bit is whole."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        world.add_job("acme", title="Job", shortcode="JOB")
        body = b'{"candidate": {"name": "Ann", "email": "ann@example.com"}}'
        async with host.client(connection) as client:
            if blocks:
                sent = await client.request("POST", "jobs/JOB/candidates", content=iter([body[:9], body[9:]]))

                def streamed() -> bytes:
                    with client.http.stream("GET", "jobs") as answer:
                        return b"".join(answer.iter_bytes(7))

                assert (await asyncio.to_thread(streamed)).startswith(b'{"jobs":')
                world.fail("acme", Fault.HUGE, times=1)
                assert len((await client.get("jobs")).content) > 2**21
            else:

                async def pieces() -> Any:
                    yield body[:9]
                    yield body[9:]

                sent = await client.request("POST", "jobs/JOB/candidates", content=pieces())
                async with client.http.stream("GET", "jobs") as answer:
                    assert (await answer.aread()).startswith(b'{"jobs":')
            assert sent.status_code == 201


# ── 1: the token is nowhere ───────────────────────────────────────────────────────────────────────────────────────────


def everything(*roots: Any) -> Iterator[str]:  # noqa: C901 - a case for each kind of thing
    """Every text that can be reached from something, through attributes and containers, as far as it is its own."""
    seen: set[int] = set()
    left = list(roots)
    others = (type, type(gc), asyncio.AbstractEventLoop, threading.Thread, World, Host, logging.Logger)
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, others):
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            yield thing
        elif isinstance(thing, bytes | bytearray):
            yield bytes(thing).decode("latin-1")
        elif isinstance(thing, BaseException):
            yield "".join(traceback.format_exception(thing))
            left += [*thing.args, thing.__cause__, thing.__context__, vars(thing)]
            frame = thing.__traceback__
            while frame is not None:
                if frame.tb_frame.f_globals["__name__"].partition(".")[0] in {"linker", "httpx"}:
                    yield repr(frame.tb_frame.f_locals)
                    left += [value for name, value in frame.tb_frame.f_locals.items() if name != "self"]
                frame = frame.tb_next
        elif isinstance(thing, dict):
            left += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            left += thing
        elif type(thing).__module__.split(".")[0] in {"httpx", "httpx_aiohttp", "aiohttp", "multidict", "yarl"}:
            left.append(repr(thing))
            for name in dir(thing):
                with suppress(Exception):
                    left.append(None if name.startswith("__") else getattr(thing, name))


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What recorders of traffic see: VCR and its like replace `ClientSession._request`."""
    tape: list[Any] = []
    original = aiohttp.ClientSession._request

    async def record(self: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> Any:
        answer = await original(self, *args, **kwargs)
        tape.append((args, {**kwargs, "headers": dict(kwargs["headers"])}, answer.request_info, answer.headers))
        return answer

    monkeypatch.setattr(aiohttp.ClientSession, "_request", record)
    yield tape


@BOTH
async def test_the_token_is_in_nothing_that_a_tracer_sees(
    world: World, url: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracers hand every new `ClientSession` a `TraceConfig`: one that sees the headers as they are written."""
    seen: list[Any] = []

    async def see(*given: Any) -> None:
        seen.append([str(one) for one in given])  # as it is at this moment

    tracer = aiohttp.TraceConfig()
    for event in ("request_start", "request_end", "request_headers_sent", "request_chunk_sent", "request_exception"):
        getattr(tracer, f"on_{event}").append(see)
    original = aiohttp.ClientSession.__init__

    def traced(self: aiohttp.ClientSession, **given: Any) -> None:
        original(self, **given, trace_configs=[tracer])

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced)
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        async with host.client(connection) as client:
            await client.get("jobs")
    assert [one[:200] for one in everything(seen) if "CANARY" in one] == []


@BOTH
async def test_the_token_is_in_nothing_that_a_host_sees(
    world: World, url: str, blocks: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in requests, answers, hooks, errors, logs of any library, spans, metrics or cassettes."""
    exporter, registry = InMemorySpanExporter(), CollectorRegistry()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: list[Any] = []
    caplog.set_level(logging.DEBUG)
    observer = together(Metrics(registry), Tracing(provider))
    with recorded(monkeypatch) as tape:
        async with opened(a_linker(url, observer=observer), blocks=blocks) as host:
            connection = await host.linked(world)
            async with host.client(connection, timeout=0.3) as client:

                def hook(thing: Any) -> None:
                    seen.append(thing)

                async def ahook(thing: Any) -> None:
                    seen.append(thing)

                hooks = [hook] if blocks else [ahook]
                client.http.event_hooks = {"request": hooks, "response": hooks}
                tape.clear()
                seen.append(await client.get("jobs"))
                seen.append(await client.request("POST", "jobs/X/candidates", json={"candidate": {}}))
                seen.append(await client.get("recruiters", headers={"X-Mine": "1", "Authorization": "Bearer mine"}))
                for fault in (Fault.UNAUTHORIZED, Fault.SERVER_ERROR):
                    world.fail("acme", fault, times=1)
                    seen.append(await client.get("jobs"))
                for fault in (Fault.SLOW, Fault.CUT):
                    world.fail("acme", fault, times=1)
                    with pytest.raises(httpx.TransportError) as failed:
                        await client.get("jobs")
                    assert failed.value.request.url.path.endswith("jobs")
                    seen.append(failed.value)
                with pytest.raises(httpx.LocalProtocolError) as illegal:
                    await client.get("jobs", headers={"X-Bad": "line\nfeed"})
                seen += [illegal.value, client.http]
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/{{subdomain}}"
        async with opened(a_linker(url), blocks=blocks) as host:
            connection = await host.linked(world, owner="another")
            object.__setattr__(parts(host.linker).accounts, "urls", type(parts(host.linker).accounts.urls)(nowhere))
            async with host.client(connection) as client:
                with pytest.raises(httpx.ConnectError) as refused:
                    await client.get("jobs")
                seen.append(refused.value)
        closed.close()
    spans = [(span.name, dict(span.attributes or {}), span.events) for span in exporter.get_finished_spans()]
    assert "linker.use" in {name for name, *_ in spans}
    assert len(tape) >= 8
    assert "account.called" in caplog.text
    assert registry.get_sample_value("linker_account_calls_total", {"status": "2xx"})
    texts = [*everything(seen, tape), *map(str, spans), caplog.text, *(str(vars(one)) for one in caplog.records)]
    texts.append(generate_latest(registry).decode())
    assert [one[:200] for one in texts if "CANARY" in one] == []
    provider.shutdown()


@BOTH
async def test_a_token_that_is_no_header_is_not_shown(world: World, url: str, blocks: bool) -> None:
    """A damaged one, with a line feed in it, ends in an error of ours that does not quote it."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        inside = parts(host.linker)
        sealed = inside.accounts.cipher.seal(SecretStr(f"{TOKEN}\nX: y"), bound_to=connection.id)

        async def damage() -> None:
            told = text("UPDATE linker_connection SET token_sealed = :s")
            await inside.database.write(lambda transaction: transaction.execute(told, {"s": sealed}))
            inside.accounts.access.forget_all()

        await host.do(damage)
        async with host.client(connection) as client:
            with pytest.raises(Exception, match="without having been parsed") as raised:
                await client.get("jobs")
    assert "CANARY" not in "".join(everything(raised.value))


# ── 11: each call is told ─────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_each_call_is_one_span_and_counts_once(world: World, url: str, blocks: bool) -> None:
    """With what was called, by its template, and the status; not with what was asked, said or sent."""
    exporter, registry = InMemorySpanExporter(), CollectorRegistry()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer = together(Metrics(registry), Tracing(provider))
    async with opened(a_linker(url, observer=observer), blocks=blocks) as host:
        connection = await host.linked(world)
        world.add_job("acme", title="Job", shortcode="SECRET01")
        async with host.client(connection, timeout=0.3) as client:
            exporter.clear()
            await client.get("jobs/SECRET01", params={"secret": "query"}, headers={"X-Secret": "header"})
            await client.request("POST", "jobs/SECRET01/candidates", json={"secret": "body"})
            world.fail("acme", Fault.SLOW, path="jobs", times=1, seconds=2)
            with pytest.raises(httpx.ReadTimeout):
                await client.get("jobs")
    spans = [span for span in exporter.get_finished_spans() if span.name == "linker.use"]
    told = [dict(span.attributes or {}) for span in spans]
    assert [(one["linker.method"], one["linker.path"], one.get("linker.status")) for one in told] == [
        ("GET", "jobs/{shortcode}", 200),
        ("POST", "jobs/{shortcode}/candidates", 422),
        ("GET", "jobs", None),
    ]
    assert told[2]["error.type"] == "ReadTimeout"
    assert "secret" not in str(told).lower()
    for status in ("2xx", "4xx", "none"):
        assert registry.get_sample_value("linker_account_calls_total", {"status": status}) == 1
    fault = {"work": "use", "error": "our_fault"}
    assert registry.get_sample_value("linker_work_errors_total", fault) == 0, "nobody is woken for a slow Workable"
    assert "secret" not in generate_latest(registry).decode().lower()
    provider.shutdown()


# ── 2: the account, and nowhere else ──────────────────────────────────────────────────────────────────────────────────

ELSEWHERE = [
    "https://elsewhere.example/",
    "http://127.0.0.1:{port}/acme/spi/v3/jobs",
    "http://localhost:{own}/acme/spi/v3/jobs",
    "http://127.0.0.1:{own}/globex/spi/v3/jobs",
    "http://127.0.0.1:{own}/acme/spi/v2/jobs",
    "https://127.0.0.1:{own}/acme/spi/v3/jobs",
    "http://user:pass@127.0.0.1:{own}/acme/spi/v3/jobs",
    "http://127.0.0.1:{own}@127.0.0.1:{port}/acme/spi/v3/jobs",
    "//127.0.0.1:{port}/acme/spi/v3/jobs",
    "//jobs",
    "../../../globex/spi/v3/jobs",
    "jobs/../candidates",
    "jobs/%2e%2e/%2e%2e/x",
    "jobs/%252e%252e/x",
    "jobs/%25252525252e%25252525252e/x",
    "jobs/%252e%252e;/x",
    "jobs/..;/x",
    "..\\..\\x",
    "\\\\127.0.0.1:{port}\\x",
]


@contextmanager
def a_listener() -> Iterator[tuple[int, list[bytes]]]:
    """A socket that writes down what it gets."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                got.append(connection.recv(65536))
                connection.close()

    threading.Thread(target=listen, daemon=True).start()
    yield listener.getsockname()[1], got
    listener.close()


@BOTH
async def test_nothing_is_sent_elsewhere(world: World, url: str, blocks: bool) -> None:
    """Other hosts, ports, schemes, accounts and paths are refused before a byte is sent, however they are written."""
    own = httpx.URL(url.replace("{subdomain}", "acme")).port
    with a_listener() as (port, got):
        async with opened(a_linker(url), blocks=blocks) as host:
            connection = await host.linked(world)
            world.forget_requests()
            async with host.client(connection) as client:
                for written in ELSEWHERE:
                    with pytest.raises(BadInput) as refused:
                        await client.get(written.format(port=port, own=own))
                    assert (refused.value.field, refused.value.reason) == ("url", "leads_away"), written
                whole = httpx.Request("GET", f"http://127.0.0.1:{port}/acme/spi/v3/jobs")
                sending = asyncio.to_thread(client.http.send, whole) if blocks else client.http.send(whole)
                with pytest.raises(BadInput):
                    await sending
                for path in ("%252e%252e/%252e%252e/x", "%252e%252e;/x", "jobs/..;/x", "%25255c..%25255cx"):
                    # as a redirect on the same host would be followed, past `build_request`
                    whole = httpx.Request("GET", f"{url.replace('{subdomain}', 'acme')}/spi/v3/{path}")
                    with pytest.raises(BadInput):
                        await (asyncio.to_thread(client.http.send, whole) if blocks else client.http.send(whole))
                for method in ("TRACE", "connect"):
                    with pytest.raises(BadInput) as never:
                        await client.request(method, "jobs")
                    assert (never.value.field, never.value.reason) == ("method", "never_sent")
                assert world.requests() == ()
                mine = await client.get("jobs", headers={"Host": "elsewhere.example"})
                assert mine.status_code == 200
        assert got == []


@BOTH
async def test_redirects_and_next_pages_that_lead_away_are_not_followed(world: World, url: str, blocks: bool) -> None:
    """Also if a host lets its client follow redirects: nothing goes to the other host."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        for number in range(3):
            world.add_job("acme", title=f"Job {number}")
        async with host.client(connection) as client:
            world.fail("acme", Fault.REDIRECT, times=2)
            assert (await client.get("jobs")).status_code == 302
            with pytest.raises(BadInput):
                await client.get("jobs", follow_redirects=True)
            world.fail("acme", Fault.FOREIGN_NEXT, times=1)
            with pytest.raises(TryAgain) as refused:
                await client.listed(client.http.pages("jobs"))
            assert refused.value.reason == "page_elsewhere"
    assert [one for one in world.log if "elsewhere" in one.path] == []


# ── 3: cancelling ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancelling_anywhere_leaves_the_next_request_working(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every turn of the event loop, with several requests at once, on a transport with no more connections."""
    monkeypatch.setattr("linker.composition.HOSTS_CONNECTIONS", 3)
    async with opened(a_linker(url, concurrency=1), blocks=False) as host:
        connection = await host.linked(world)
        async with host.client(connection) as client:
            for turns in range(45):
                parts(host.linker).accounts.access.forget_all()
                asking = [asyncio.create_task(client.get("jobs")) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in asking:
                    task.cancel()
                ended = await asyncio.gather(*asking, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError | httpx.Response) for one in ended)
            for _ in range(30):
                assert (await client.get("jobs")).status_code == 200


async def test_a_host_that_gives_up_waiting_leaves_the_next_request_working(world: World, url: str) -> None:
    """Without an event loop the same is done by time-outs, in many threads."""
    async with opened(a_linker(url, concurrency=1), blocks=True) as host:
        connection = await host.linked(world)
        async with host.client(connection, timeout=0.05) as client:
            world.fail("acme", Fault.SLOW, times=40, seconds=0.3)
            asking = (client.get("jobs") for _ in range(40))
            ended = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(one) for one in ended} <= {httpx.ReadTimeout, httpx.Response}
        async with host.client(connection) as client:
            assert (await client.get("jobs")).status_code == 200


def test_ctrl_c_in_a_blocking_call_leaves_the_next_one_working(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is interrupted at any moment stops what it asked for: no connection stays taken, of three."""
    monkeypatch.setattr("linker.composition.HOSTS_CONNECTIONS", 3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    linker = a_linker(url)
    with blocking(linker) as call:
        connection = call(Host(linker, blocks=False).linked, world)
        world.fail("acme", Fault.SLOW, path="jobs", seconds=10)
        with call.client(connection.id, wait=2) as client:

            def ask(seconds: float) -> None:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                client.get("jobs")

            for tried in range(40):
                with pytest.raises(KeyboardInterrupt):
                    ask(0.001 * tried)
            world.heal("acme")
            assert [client.get("jobs").status_code for _ in range(5)] == [200] * 5
    signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_while_a_call_is_handed_over_stops_it_too(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The linker's thread has the call already, and whoever made it has nothing yet to stop it by."""
    monkeypatch.setattr("linker.composition.HOSTS_CONNECTIONS", 3)
    linker, hand_over = a_linker(url), asyncio.run_coroutine_threadsafe

    def interrupted(what: Any, loop: asyncio.AbstractEventLoop) -> Any:
        hand_over(what, loop)
        raise KeyboardInterrupt

    with blocking(linker) as call:
        connection = call(Host(linker, blocks=False).linked, world)
        world.fail("acme", Fault.SLOW, path="jobs", seconds=10)
        with call.client(connection.id, wait=2) as client:
            with monkeypatch.context() as at_once:
                at_once.setattr("asyncio.run_coroutine_threadsafe", interrupted)
                for _ in range(3):
                    with pytest.raises(KeyboardInterrupt):
                        client.get("jobs")
            assert client.get("stages").status_code == 200, "the calls that were left still have all connections"


@BOTH
async def test_a_host_that_reads_for_long_takes_nobodys_connections(
    world: World, url: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine goes on asking beside it; a host's own next request waits as long as it was told to."""
    monkeypatch.setattr("linker.composition.HOSTS_CONNECTIONS", 21)
    monkeypatch.setattr("linker.accounts.client.WHOLE_BYTES", 0)  # no answer crosses to the thread in one go
    async with opened(a_linker(url, concurrency=1), blocks=blocks) as host:
        connection = await host.linked(world)
        async with host.client(connection, wait=0.2) as client:

            async def streamed() -> httpx.Response:
                request = client.http.build_request("GET", "jobs")
                send = client.http.send
                response: httpx.Response = await (
                    asyncio.to_thread(send, request, stream=True) if blocks else send(request, stream=True)
                )
                return response

            world.fail("acme", Fault.TRICKLE, times=21, seconds=20)
            reading = await asyncio.gather(*(streamed() for _ in range(21)))
            began = time.monotonic()
            looked = await host.do(host.linker.check, connection.id)
            assert (looked.state, looked.problem) == ("linked", None)
            with pytest.raises(httpx.PoolTimeout):
                await client.get("jobs")
            assert time.monotonic() - began < 5
            for response in reading:
                await (asyncio.to_thread(response.close) if blocks else response.aclose())
            assert (await client.get("jobs")).status_code == 200


# ── 6: the budget ─────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_a_host_that_waits_for_no_turn_is_told_when_there_is_one(world: World, url: str, blocks: bool) -> None:
    """What linking asked counts too; nothing is sent beyond what hosts may."""
    async with opened(a_linker(url, budgeted=True), blocks=blocks) as host:
        connection = await host.linked(world)
        world.forget_requests()
        async with host.client(connection, wait=0) as client:
            asking = (client.get("jobs") for _ in range(10))
            ended = await asyncio.gather(*asking, return_exceptions=True)
            refused = [one for one in ended if isinstance(one, TryAgain)]
            answered = [one for one in ended if isinstance(one, httpx.Response)]
            assert len(refused) + len(answered) == 10
            assert len(answered) == len(world.requests()) <= 4
            assert all(one.retry_after and 0 < one.retry_after <= 15 for one in refused)


# ── 4: another token ──────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_a_swap_of_the_token_is_not_noticed(world: World, url: str, blocks: bool) -> None:
    """200 requests are in flight while the token is swapped and the old one revoked: none fails, nothing is doubted."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        world.add_token("acme", OTHER_TOKEN, scopes=SCOPES)
        world.add_job("acme", title="Job", shortcode="JOB")
        async with host.client(connection) as client:
            world.fail("acme", Fault.SLOW, path="jobs", times=100, seconds=0.2)

            async def one(number: int) -> int:
                if number % 10:
                    return (await client.get("jobs")).status_code
                person = {"name": f"P {number}", "email": f"p{number}@example.com"}
                sent = await client.request("POST", "jobs/JOB/candidates", json={"candidate": person})
                return sent.status_code

            asking = [asyncio.create_task(one(number)) for number in range(200)]
            await asyncio.sleep(0.05)
            await host.do(host.linker.submit_token, connection.id, subdomain="acme", token=OTHER_TOKEN)
            world.revoke_token(TOKEN)
            statuses = await asyncio.gather(*asking)
            assert set(statuses) == {200, 201}
            assert (await client.get("jobs")).status_code == 200
        assert len(world.candidates("acme")) == 20, "none was made twice"
        after = await host.do(host.linker.get, connection.id)
        assert (after.state, after.doubt, after.problem) == ("linked", None, None)
        assert "refusal_reported" not in [step.event for step in await host.do(host.linker.history, connection.id)]


@BOTH
async def test_a_body_that_is_gone_is_not_sent_again(world: World, url: str, blocks: bool) -> None:
    """The 401 of the old token goes to the caller, who has the body, and raises no doubt."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        world.add_token("acme", OTHER_TOKEN, scopes=SCOPES)
        world.add_job("acme", title="Job", shortcode="JOB")
        async with host.client(connection) as client:
            world.fail("acme", Fault.UNAUTHORIZED, path="candidates", times=1)
            access, before = parts(host.linker).accounts.access, await host.do(host.linker.get, connection.id)
            await host.do(host.linker.submit_token, connection.id, subdomain="acme", token=OTHER_TOKEN)
            access._known[connection.id] = (before, time.monotonic())  # as a process that was not told yet has it
            body = iter([b"{}"]) if blocks else _pieces(b"{}")
            sent = await client.request("POST", "jobs/JOB/candidates", content=body)
            assert sent.status_code == 401
        assert "refusal_reported" not in [step.event for step in await host.do(host.linker.history, connection.id)]


async def _pieces(body: bytes) -> Any:
    yield body


@BOTH
async def test_an_account_that_is_renamed_is_found_under_its_new_name(world: World, url: str, blocks: bool) -> None:
    """Once a look has followed it, an open client goes on, with URLs of before too."""
    async with opened(a_linker(url), blocks=blocks) as host:
        connection = await host.linked(world)
        for number in range(3):
            world.add_job("acme", title=f"Job {number}")
        async with host.client(connection) as client:
            first = await client.get("jobs", params={"limit": 1})
            world.rename_account("acme", "acme-robotics")
            assert (await client.get("jobs")).status_code == 422
            await host.do(host.linker.check, connection.id)
            assert (await client.get("jobs")).status_code == 200
            assert (await client.get(first.json()["paging"]["next"])).status_code == 200
            assert len(await client.listed(client.http.pages("jobs", params={"limit": 1}))) == 3
            assert {entry.subdomain for entry in world.log[-4:]} == {"acme-robotics"}


# ── 9: who may use it ─────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_what_is_not_linked_is_refused_at_entering(
    world: World, url: str, blocks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With its problem and who has to act; `allow` loosens it; what becomes unusable while it is open sends nothing."""
    caplog.set_level(logging.DEBUG)
    async with opened(a_linker(url), blocks=blocks) as host:
        fresh = await host.do(host.linker.create, owner="customer-2")
        with pytest.raises(Refused) as refused:
            async with host.client(fresh, allow={"awaiting_recruiter", "failed", "paused"}):
                pass
        assert (refused.value.reason, refused.value.params["state"]) == ("not_linked", "awaiting_token")
        with pytest.raises(BadInput) as unknown:
            async with host.client(fresh, allow="closed"):
                pass
        assert (unknown.value.field, unknown.value.reason) == ("allow", "unknown")
        world.add_account("globex", name="Globex")
        world.add_token("globex", "globex-token")
        waiting = await host.do(host.linker.submit_token, fresh.id, subdomain="globex", token="globex-token")
        await host.do(host.linker.confirm_recruiter, fresh.id)
        with pytest.raises(Refused) as refused:
            async with host.client(waiting):
                pass
        assert refused.value.params["problem"] == "recruiter_absent"
        assert refused.value.params["owner"] == "customer"
        link = refused.value.reconnect_link
        assert link is not None
        with pytest.raises(Refused) as again:
            async with host.client(waiting):
                pass
        assert again.value.reconnect_link == link, "a host that tries again makes no second one"
        told = traceback.TracebackException.from_exception(again.value, capture_locals=True)
        path, _, secret = link.get_secret_value().partition("#")
        assert "/c/lnk_" in path
        assert len(secret) == 43
        shown = [str(again.value), repr(again.value), repr(again.value.args), repr(vars(again.value)), *told.format()]
        shown += [pickle.dumps(again.value).decode("latin-1"), str(describe(again.value)), caplog.text]
        assert [one for one in shown if secret in one] == [], "whoever reads an error acts for nobody"
        async with host.client(waiting, allow="awaiting_recruiter") as client:
            assert (await client.get("jobs")).status_code == 200
        connection = await host.linked(world)
        async with host.client(connection) as client, host.client(connection, allow="paused") as patient:
            await host.do(host.linker.record, connection.id, lambda _: Paused(), actor="ann")
            with pytest.raises(Refused) as paused:
                await client.get("jobs")
            assert paused.value.reason == "paused"
            assert (await patient.get("jobs")).status_code == 200
            await host.do(host.linker.record, connection.id, lambda _: Resumed(), actor="ann")
            assert (await client.get("jobs")).status_code == 200
            await host.do(host.linker.unlink, connection.id)
            world.forget_requests()
            for one in (client, patient):
                with pytest.raises(Refused) as closed:
                    await one.get("jobs")
                assert closed.value.reason == "closed"
            assert world.requests() == ()


TAKEN_AWAY = {"pause": Paused(), "force": Forced(to=ConnectionState.FAILED), "unlink": Unlinked()}


@BOTH
@pytest.mark.parametrize("done", [*TAKEN_AWAY, "replace"])
async def test_another_process_that_takes_a_token_away_is_heard_of(
    world: World, url: str, done: str, blocks: bool, shared_house: House
) -> None:
    """No heartbeat is needed for it: whoever has a client open listens to what others commit."""
    shared: dict[str, Any] = {"database_url": shared_house.url, "secret_keys": (new_key(),)}
    async with opened(a_linker(url, **shared), blocks=blocks) as mine, a_linker(url, **shared) as theirs:
        connection = await mine.linked(world)
        async with mine.client(connection) as client:
            assert (await client.get("jobs")).status_code == 200
            await asyncio.sleep(0.5)  # what was committed before is heard of
            assert (await client.get("jobs")).status_code == 200
            if done == "replace":
                world.add_token("acme", OTHER_TOKEN, scopes=SCOPES)
                await theirs.submit_token(connection.id, subdomain="acme", token=OTHER_TOKEN)
                world.revoke_token(TOKEN)
            else:
                await theirs.record(connection.id, lambda _: TAKEN_AWAY[done], actor="ann")
            await asyncio.sleep(0.5)
            world.forget_requests()
            if done == "replace":
                assert (await client.get("jobs")).status_code == 200
                assert [one.status for one in world.log] == [200], "not first with the token of before"
                return
            with pytest.raises(Refused):
                await client.get("jobs")
            assert world.requests() == ()
