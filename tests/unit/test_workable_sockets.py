from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import struct
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import get_args

import httpx
import pytest
from pydantic import SecretStr

from linker.errors import OurFault
from linker.http_client import ClientTransport, Kind, build_transport
from linker.workable.api import ACCOUNTS
from linker.workable.client import Timeouts, WorkableClient
from states.connection import Recruiter
from states.table import ACCOUNT
from states.verdicts import (
    NotUnderstood,
    OverLimit,
    RecruiterNotSeen,
    RecruiterSeen,
    Unavailable,
    Verdict,
    WrongAccount,
)
from tests.unit.workable_helpers import NOON, OURS, TOKEN, FakeWorkable, SettableClock

CANARY = TOKEN.get_secret_value()
QUICK = Timeouts(connect=0.4, read=0.4, total=1.0, pause=0.0)
Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]
KINDS: tuple[Kind, ...] = get_args(Kind)
CLIENTS = [*KINDS, "a host's own"]


def good(body: bytes, *more: bytes) -> bytes:
    """A whole answer with this JSON."""
    head = (b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: %d" % len(body), *more)
    return b"\r\n".join((*head, b"", body))


@asynccontextmanager
async def speaking(speak: Speak) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on the loopback that reads each request and then speaks; gives its URL template and what it read."""
    heard: list[bytes] = []
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                await speak(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/{{subdomain}}", heard
    finally:
        server.close()
        for task in tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


async def look_at(template: str, kind: Kind, *, timeouts: Timeouts = QUICK, times: int = 1) -> list[Verdict]:
    """Look for our recruiter with a real client of this kind."""
    async with build_transport(kind) as transport:
        client = WorkableClient(transport, url_template=template, clock=SettableClock(), timeouts=timeouts)
        return [(await client.look("acme", TOKEN, OURS, extra_calls=0)).verdict for _ in range(times)]


async def say(writer: asyncio.StreamWriter, *parts: bytes, pause: float = 0.0) -> None:
    """Send the parts, with a pause after each."""
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause)


async def silent(writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.sleep(30)


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, always in time for the read time-out."""
    await say(writer, good(b" " * 1000)[:-1000], *[b" "] * 1000, pause=0.05)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    raise ConnectionError


async def cut_the_head(writer: asyncio.StreamWriter) -> None:
    """Close in the middle of the head."""
    await say(writer, b"HTTP/1.1 200 OK\r\nContent-Ty")
    raise ConnectionError


async def cut_the_body(writer: asyncio.StreamWriter) -> None:
    """Close in the middle of the body."""
    await say(writer, good(b'{"recruiters": []}')[:-9])
    raise ConnectionError


async def cut_the_chunk(writer: asyncio.StreamWriter) -> None:
    """Close in the middle of a chunk."""
    await say(writer, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")
    raise ConnectionError


async def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection in the middle of the body."""
    await say(writer, good(b'{"recruiters": []}')[:-9])
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionError


async def gibberish(writer: asyncio.StreamWriter) -> None:
    """Say what is no HTTP."""
    await say(writer, b"220 mail.example ESMTP ready\r\n\r\n")


async def endless(writer: asyncio.StreamWriter) -> None:
    """Send a body that never ends."""
    await say(writer, good(b"")[:-1].replace(b"Content-Length: 0\r\n", b"Content-Length: 999999999999\r\n") + b"\n")
    while True:
        await say(writer, b" " * 65536)


async def bomb(writer: asyncio.StreamWriter) -> None:
    """Send 64 KiB that unpack to 64 MiB."""
    await say(writer, good(gzip.compress(b'{"recruiters": [' + b" " * (4 << 20) + b"]}"), b"Content-Encoding: gzip"))


async def packed(writer: asyncio.StreamWriter) -> None:
    """Send a packed answer although none was asked for."""
    await say(writer, good(gzip.compress(b'{"recruiters": []}'), b"Content-Encoding: gzip"))


async def throttle(writer: asyncio.StreamWriter) -> None:
    """Refuse with a time and an endless body."""
    await say(writer, b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 99999999\r\n\r\n")
    await asyncio.sleep(30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("speak", "expected"),
    [
        (silent, Unavailable),
        (trickle, Unavailable),
        (hang_up, Unavailable),
        (cut_the_head, Unavailable),
        (cut_the_body, Unavailable),
        (cut_the_chunk, Unavailable),
        (reset, Unavailable),
        (gibberish, Unavailable),
        (endless, NotUnderstood),
        (bomb, NotUnderstood),
        (packed, RecruiterNotSeen),
        (throttle, OverLimit),
    ],
)
async def test_trouble_on_the_wire_is_a_verdict_in_time(kind: Kind, speak: Speak, expected: type[Verdict]) -> None:
    """Whatever a server does with the connection, there is a verdict soon after the total time-out at the latest."""
    async with speaking(speak) as (template, _):
        started = time.monotonic()
        (verdict,) = await look_at(template, kind)
        assert isinstance(verdict, expected)
        assert time.monotonic() - started < QUICK.total + 1
    if isinstance(verdict, OverLimit):
        assert verdict.retry_at == NOON + timedelta(seconds=30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("root", ["http://127.0.0.1:1", "https://{subdomain}.invalid"])
async def test_no_server_at_all_is_a_verdict(kind: Kind, root: str) -> None:
    """A refused connection and a name that does not exist mean that Workable is unavailable."""
    (verdict,) = await look_at(root + "/{subdomain}", kind, timeouts=Timeouts(total=5))
    assert verdict == Unavailable()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_without_tls_is_a_verdict(kind: Kind) -> None:
    """A failed TLS handshake means that Workable is unavailable."""
    async with speaking(gibberish) as (template, heard):
        assert await look_at(template.replace("http://", "https://"), kind) == [Unavailable()]
        assert not [said for said in heard if CANARY.encode() in said]


@pytest.mark.parametrize("kind", KINDS)
async def test_redirects_and_cookies_are_left_alone(kind: Kind) -> None:
    """The token follows no redirect, and a cookie is never sent back."""
    body = b'{"recruiters": [{"id": "1", "email": "ats+q7kd2m@inbound.example"}]}'
    async with speaking(lambda writer: say(writer, good(body))) as (elsewhere, stolen):
        head = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\nLocation: "
        target = elsewhere.replace("{subdomain}", "acme").encode()
        async with speaking(lambda writer: say(writer, head + target + b"\r\n\r\n")) as (template, heard):
            assert await look_at(template, kind, times=2) == [Unavailable()] * 2
        assert not stolen
        assert len(heard) == 4, "once to the account, once for which accounts there are, twice"
        assert not [said for said in heard if b"cookie" in said.lower()]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_sent(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request says who asks, demands unpacked JSON, carries the token, and uses no proxy of the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    body = b'{"recruiters": [{"id": "1", "email": "ats+q7kd2m@inbound.example"}]}'
    async with speaking(lambda writer: say(writer, good(body))) as (template, heard):
        assert await look_at(template, kind, times=3) == [RecruiterSeen("1")] * 3
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /acme/spi/v3/recruiters HTTP/1.1"
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    assert sent.pop("host").startswith("127.0.0.1:")
    sent.pop("connection", None)
    assert sent == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {CANARY}",
        "user-agent": "workable-linker",
    }


async def test_a_partner_says_so() -> None:
    """With a client id the partner's header is sent, and it is in no `repr`."""
    workable = FakeWorkable()
    client = workable.client(client_id="partner-7")
    await client.look("acme", TOKEN, OURS, extra_calls=0)
    assert workable.asked[0].headers["X-WORKABLE-CLIENT-ID"] == "partner-7"
    assert "partner-7" not in repr(client) + repr(vars(client))


async def test_a_clients_own_habits_do_not_matter() -> None:
    """A client that was handed over with redirects, cookies, credentials and parameters is asked as any other."""
    workable = FakeWorkable()
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(workable),
        follow_redirects=True,
        cookies={"a": "b"},
        auth=("user", "password"),
        params={"x": "y"},
        headers={"X-Own": "1"},
        base_url="https://evil.example",
    )
    client = WorkableClient(ClientTransport(http), clock=SettableClock())
    workable.answers["recruiters"] = httpx.Response(302, headers={"location": "https://evil.example/"})
    assert (await client.look("acme", TOKEN, OURS)).verdict == Unavailable()
    request = workable.asked[0]
    assert {each.url.host for each in workable.asked} == {"acme.workable.com", "www.workable.com"}
    assert str(request.url) == "https://acme.workable.com/spi/v3/recruiters"
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert "cookie" not in request.headers
    assert "x-own" not in request.headers


async def test_a_call_leaves_no_line_in_a_hosts_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of the clients that we make: a host that hands over its own has asked for httpx's lines."""
    caplog.set_level(logging.INFO)

    async def speak(writer: asyncio.StreamWriter) -> None:
        await say(writer, good(b'{"recruiters": []}'))

    async with speaking(speak) as (url, heard), build_transport() as transport:
        await WorkableClient(transport, url_template=url, clock=SettableClock()).look("acme", TOKEN, OURS)
    assert heard != []
    assert caplog.records == []


async def test_hooks_of_a_hosts_are_called() -> None:
    """A host that watches the calls of the client that it hands over sees them."""
    seen: list[str] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request.url.path)

    http = httpx.AsyncClient(transport=httpx.MockTransport(FakeWorkable()), event_hooks={"request": [hook]})
    client = WorkableClient(ClientTransport(http), clock=SettableClock())
    await client.look("acme", TOKEN, OURS)
    assert seen == ["/spi/v3/recruiters"]


@pytest.mark.parametrize(
    ("speak", "name"),
    [
        (None, "ClientConnectorError"),
        (silent, "SocketTimeoutError"),
        (hang_up, "ServerDisconnectedError"),
        (reset, "ClientPayloadError"),
        (cut_the_body, "ClientPayloadError"),
    ],
)
async def test_trouble_has_one_name_in_whichever_way_a_client_is_asked(speak: Speak | None, name: str) -> None:
    """The evidence says the same whether our transport is asked or a host's client over it."""
    url = "http://127.0.0.1:1/{subdomain}"
    async with speaking(speak or silent) as (template, _), build_transport() as transport:
        http = httpx.AsyncClient(transport=transport)
        named = []
        for asked in (transport, ClientTransport(http)):
            client = WorkableClient(asked, url_template=template if speak else url, timeouts=QUICK)
            answer = await client.look("acme", TOKEN, OURS)
            named += [call["note"] for call in answer.evidence["calls"]]
    assert named == [name, name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_transport_sends_nothing(kind: Kind, used: bool) -> None:
    """Once the transport is closed, asking is a fault of ours: no connection is opened behind its owner's back."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(good(b'{"recruiters": []}'))

    async with speaking(speak) as (url, heard):
        transport = build_transport(kind)
        client = WorkableClient(transport, url_template=url, clock=SettableClock())
        if used:
            await client.look("acme", TOKEN, OURS)
        await transport.aclose()
        with pytest.raises(OurFault, match="RuntimeError"):
            await client.look("acme", TOKEN, OURS)
    assert len(heard) == used


# ── cancelled, broken, and still silent about the token ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_question_is_cancelled(kind: Kind) -> None:
    """Cancelling passes through, and leaves a client that can be used."""
    async with speaking(silent) as (template, _), build_transport(kind) as transport:
        client = WorkableClient(transport, url_template=template)
        asking = asyncio.create_task(client.verify("acme", TOKEN))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


def shown(error: BaseException) -> str:
    """Everything that a careless log would show of an error: causes, frames and their locals."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(whole.format()) + repr(error) + repr(vars(error))


def explode(request: httpx.Request) -> httpx.Response:
    """Fail in a way that nobody expects, with the secret in hand and in the message."""
    secret = request.headers["authorization"]
    raise KeyError(secret)


@pytest.mark.parametrize("ask", ["verify", "look"])
async def test_a_fault_of_ours_holds_nothing_of_the_request(ask: str) -> None:
    """An unexpected exception becomes OurFault with kind and place, and without cause, frames or message."""
    workable = FakeWorkable(account=explode, recruiters=explode)
    client = workable.client()
    with pytest.raises(OurFault) as caught:
        await (client.verify("acme", TOKEN) if ask == "verify" else client.look("acme", TOKEN, OURS))
    assert "KeyError at test_workable_sockets.py:" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CANARY not in shown(caught.value)


UNPARSED = [SecretStr(text) for text in (f"{CANARY}é", f"{CANARY}\r\nX-Evil: 1", f"{CANARY} x", f"\t{CANARY}", "")]


@pytest.mark.parametrize("token", UNPARSED)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_that_can_be_no_header_is_our_fault(kind: Kind, token: SecretStr) -> None:
    """A token that was not parsed is neither sent nor shown, and is not called an outage."""
    async with speaking(silent) as (template, heard), build_transport(kind) as transport:
        client = WorkableClient(transport, url_template=template)
        with pytest.raises(OurFault, match="without having been parsed") as caught:
            await client.verify("acme", token)
        assert not heard
    assert CANARY not in shown(caught.value)


async def test_a_subdomain_that_was_not_parsed_is_our_fault() -> None:
    """What is no strict label gets no request."""
    workable = FakeWorkable()
    for bad in ("evil.example/", "ACME", "a@b", ""):
        with pytest.raises(OurFault):
            await workable.client().look(bad, TOKEN, OURS)
    assert not workable.asked


class OfAHost(ClientTransport):
    """Over a host's own client, which the host closes."""

    def __init__(self) -> None:
        self.http = httpx.AsyncClient()
        super().__init__(self.http)

    async def aclose(self) -> None:
        """Close it."""
        await self.http.aclose()


@pytest.mark.parametrize("build", [*(partial(build_transport, kind) for kind in KINDS), OfAHost], ids=CLIENTS)
@pytest.mark.parametrize("speak", [silent, cut_the_body, gibberish, bomb, packed])
async def test_the_token_is_nowhere(
    build: Callable[[], httpx.AsyncBaseTransport], speak: Speak, caplog: pytest.LogCaptureFixture
) -> None:
    """With every library at DEBUG, no log, evidence or verdict shows the token, whatever happens on the wire."""
    for name in ("", "httpx", "httpcore", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with speaking(speak) as (template, heard), build() as transport:
        client = WorkableClient(transport, url_template=template, timeouts=QUICK)
        answers = [await client.verify("acme", TOKEN), await client.look("acme", TOKEN, OURS)]
        assert CANARY.encode() in heard[0]
    assert CANARY not in repr(answers) + repr(client) + repr(vars(client)) + caplog.text
    assert CANARY not in "".join(repr(vars(record)) for record in caplog.records)


async def test_a_slow_extra_does_not_undo_a_verdict() -> None:
    """If the time runs out while the members are asked, the look stands as it is."""

    async def only_recruiters(writer: asyncio.StreamWriter) -> None:
        await say(writer, good(b'{"recruiters": []}'))
        await asyncio.sleep(0.05)
        heard.append(b"") if not heard else await asyncio.sleep(30)

    heard: list[bytes] = []
    async with speaking(only_recruiters) as (template, _), build_transport() as transport:
        client = WorkableClient(transport, url_template=template, timeouts=Timeouts(read=30, total=0.5))
        answer = await client.look("acme", TOKEN, Recruiter(name="N", email="n@x.example"))
    assert isinstance(answer.verdict, RecruiterNotSeen)


async def test_names_that_do_not_come_do_not_undo_a_mismatch() -> None:
    """If the time runs out while the token's accounts are asked for, the account stays the wrong one."""
    mismatch = good(b'{"error": "Request subdomain does not match account subdomain"}').replace(b"200 OK", b"422 No")

    async def only_the_account(writer: asyncio.StreamWriter) -> None:
        await (say(writer, mismatch) if len(heard) == 1 else silent(writer))

    async with speaking(only_the_account) as (template, heard), build_transport() as transport:
        client = WorkableClient(transport, url_template=template, timeouts=Timeouts(read=30, total=0.5))
        answer = await client.verify("acme", TOKEN)
    assert answer.verdict == WrongAccount()
    assert [made["call"] for made in answer.evidence["calls"]] == [ACCOUNT, ACCOUNTS]
