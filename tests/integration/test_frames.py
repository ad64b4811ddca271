"""Reports of errors show the locals of all frames: whoever cancels, times out or wraps our calls finds no token."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from traceback import TracebackException
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from linker import Linker, Settings, blocking, new_key
from linker.errors import LinkerError
from linker.workable.client import Timeouts, WorkableClient
from states.connection import Recruiter

#: In two parts, so that this file's own lines do not hold it.
TOKEN = SecretStr("c4n4ry" + secrets.token_hex(16))
OURS = Recruiter(name="Northwind", email="ats@inbound.example")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def shown(error: BaseException) -> str:
    """What a reporter of errors keeps: the whole chain, with the locals of every frame."""
    told = TracebackException.from_exception(error, capture_locals=True, limit=None)
    return "".join(told.format(chain=True))


def assert_hidden(error: BaseException) -> None:
    """Nothing of the token is shown."""
    assert TOKEN.get_secret_value() not in shown(error)
    assert TOKEN.get_secret_value().encode().hex() not in shown(error)


@asynccontextmanager
async def workable(account: bytes, recruiters: bytes = b"") -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Answers with these bytes and then says nothing more; the event is set when it was asked what it hangs at."""
    hangs = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                answer = recruiters if b"/recruiters" in head.split(b"\r\n")[0] else account
                writer.write(answer)
                await writer.drain()
                if not answer.endswith(b"}"):
                    hangs.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{{subdomain}}", hangs
    finally:
        server.close()


def good(body: bytes) -> bytes:
    """A whole answer."""
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


ACCOUNT = good(b'{"id": "c71fa", "name": "Acme", "subdomain": "acme"}')
#: Where Workable hangs: at the first call or at the second, and how far its answer has come.
HANGS = {
    "before the head": (b"", b""),
    "in the head": (HEAD, b""),
    "in the body": (HEAD + b"Content-Length: 90\r\n\r\n{", b""),
    "between two tries": (b"HTTP/1.1 404 X\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n", b""),
    "at the second call": (ACCOUNT, HEAD + b"Content-Length: 90\r\n\r\n{"),
}


async def timed_out(asking: Awaitable[object], hangs: asyncio.Event) -> None:
    """The host gives a call a time of its own."""
    async with asyncio.timeout(None) as limit:
        waiting = asyncio.ensure_future(hangs.wait())
        waiting.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
        await asking


async def waited_for(asking: Awaitable[object], hangs: asyncio.Event) -> None:
    """The same, as it was done before."""
    await asyncio.wait_for(asking, 0.3)


async def cancelled(asking: Awaitable[object], hangs: asyncio.Event) -> None:
    """Somebody cancels the task."""
    task = asyncio.ensure_future(asking)
    await hangs.wait()
    task.cancel("the customer has gone")
    await task


async def cancelled_and_wrapped(asking: Awaitable[object], hangs: asyncio.Event) -> None:
    """A framework makes an error of its own of it."""
    try:
        await cancelled(asking, hangs)
    except asyncio.CancelledError as error:
        raise RuntimeError("request failed") from error


@pytest.mark.parametrize("way", [timed_out, waited_for, cancelled, cancelled_and_wrapped])
@pytest.mark.parametrize("place", HANGS)
async def test_whoever_ends_a_call_finds_no_token(
    way: Callable[[Awaitable[object], asyncio.Event], Awaitable[None]], place: str
) -> None:
    """However it is ended and wherever it was."""
    async with workable(*HANGS[place]) as (url, hangs):
        linker = Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),), workable_url=url))
        async with linker:
            connection = await linker.create(owner="o")
            asking = linker.submit_token(connection.id, subdomain="acme", token=TOKEN.get_secret_value())
            with pytest.raises((TimeoutError, asyncio.CancelledError, RuntimeError)) as ended:
                await way(asking, hangs)
            assert "service.py" in shown(ended.value) or way is not timed_out, "the frames were looked at"
            assert_hidden(ended.value)
    if isinstance(ended.value, asyncio.CancelledError) and way is cancelled:
        assert ended.value.args == ("the customer has gone",)


class Vanished(BaseException):
    """Not an `Exception`: as what ends a greenlet or a thread of a framework."""


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit, GeneratorExit, Vanished, MemoryError, RuntimeError])
async def test_whatever_is_raised_beneath_leaves_without_the_request(ends: type[BaseException]) -> None:
    """Whatever it is that the transport raises, with a cause and a context of its own."""

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            headers = dict(request.headers)
            assert TOKEN.get_secret_value() in headers["authorization"]
            try:
                raise ValueError(headers["authorization"])
            except ValueError as error:
                raise ends(headers["authorization"] if issubclass(ends, Exception) else "") from error

    client = WorkableClient(Transport(), timeouts=Timeouts(pause=0.0))
    for asking in (client.verify("acme", TOKEN), client.look("acme", TOKEN, OURS)):
        with pytest.raises(BaseException) as raised:  # noqa: PT011 - which one it is, is looked at below
            await asking
        if not issubclass(ends, Exception):
            assert type(raised.value) is ends
        assert_hidden(raised.value)


GIVEN: dict[str, Any] = {
    "text": TOKEN.get_secret_value() + " twice " + TOKEN.get_secret_value(),
    "bytes": TOKEN.get_secret_value().encode() + b" \xff",
    "bytearray": bytearray(TOKEN.get_secret_value().encode() + b" \xff"),
    "memoryview": memoryview(TOKEN.get_secret_value().encode() + b" \xff"),
    "list": [TOKEN.get_secret_value() + " twice"],
    "secret": SecretStr(TOKEN.get_secret_value() + " twice"),
}


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("wrong", ["token", "actor", "connection"])
def test_a_token_of_any_type_is_in_no_frame_of_ours(kind: str, wrong: str) -> None:
    """Whatever is wrong with the call, and whatever the token is given as, with an event loop and without one."""
    linker = Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),)))

    def ours(error: BaseException | None) -> str:
        told = ""
        while error is not None:
            frames = TracebackException.from_exception(error, capture_locals=True).stack
            told += str(error) + "".join(str(frame.locals) for frame in frames if frame.filename != __file__)
            error = error.__cause__ or error.__context__
        return told

    def give(call: Any, connection_id: str) -> BaseException:
        with pytest.raises((LinkerError, TypeError, ValueError)) as refused:
            call(
                linker.submit_token,
                "none" if wrong == "connection" else connection_id,
                subdomain="acme",
                token=GIVEN[kind],
                actor="\n" if wrong == "actor" else "host",
            )
        return refused.value

    with blocking(linker) as call:
        connection = call(linker.create, owner="o")
        assert TOKEN.get_secret_value() not in ours(give(call, connection.id))
    linker = Linker(Settings(database_url="sqlite://", secret_keys=(new_key(),)))

    async def live() -> None:
        async with linker:
            connection = await linker.create(owner="o")
            with pytest.raises((LinkerError, TypeError, ValueError)) as refused:
                await linker.submit_token(
                    "none" if wrong == "connection" else connection.id,
                    subdomain="acme",
                    token=GIVEN[kind],
                    actor="\n" if wrong == "actor" else "host",
                )
            assert TOKEN.get_secret_value() not in ours(refused.value)

    asyncio.run(live())
