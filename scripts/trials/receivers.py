"""Hostile receivers of webhooks: each in a way of its own, mended later."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from linker import new_webhook_secret
from linker.testing import SettableClock, linker_in_memory
from scripts.trials.outcome import Outcome

OK = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
#: What a receiver says instead, and whether it then closes, resets, or stays silent.
WAYS: dict[str, tuple[bytes, str]] = {
    "closes": (b"", "close"),
    "resets": (b"", "reset"),
    "is silent": (b"", "hang"),
    "says nothing more after the status": (b"HTTP/1.1 200 OK\r\n", "hang"),
    "breaks off in the status": (b"HTTP/1.1 2", "close"),
    "breaks off in the headers": (b"HTTP/1.1 200 OK\r\nContent-Le", "reset"),
    "speaks no HTTP": (b"220 mail.example ESMTP\r\n", "close"),
    "speaks noise": (secrets.token_bytes(4096), "close"),
    "has a status that is none": (b"HTTP/1.1 99999 What\r\nContent-Length: 0\r\n\r\n", "close"),
    "redirects": (b"HTTP/1.1 308 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "close"),
    "redirects to itself": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "close"),
    "wants a sign-in": (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "close"),
    "does not know us": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "close"),
    "is too busy": (b"HTTP/1.1 429 Too Many\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", "close"),
    "is too busy for ever": (b"HTTP/1.1 503 No\r\nRetry-After: 99999999999\r\nContent-Length: 0\r\n\r\n", "close"),
    "is too busy since long ago": (b"HTTP/1.1 503 No\r\nRetry-After: -5\r\nContent-Length: 0\r\n\r\n", "close"),
    "fails": (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "close"),
    "floods headers": (b"HTTP/1.1 500 No\r\n" + b"X-Flood: " + b"x" * 200_000 + b"\r\n\r\n", "close"),
    "floods a body": (b"HTTP/1.1 500 No\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 500_000, "hang"),
    "lies about a length": (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nx", "close"),
}


class Receiver:
    """A receiver on a socket of its own."""

    def __init__(self, way: tuple[bytes, str]) -> None:
        self.way = way
        self.is_mended = False
        self.got: list[tuple[str, str]] = []
        #: Those that hang are still open when the test is over.
        self.writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        self.writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
            body = json.loads(await reader.readexactly(int(length.partition(":")[2])))
            if self.is_mended:
                self.got.append((body["data"]["id"], body["type"]))
                writer.write(OK)
                await writer.drain()
            else:
                await say(writer, self.way)
        writer.close()


async def say(writer: asyncio.StreamWriter, way: tuple[bytes, str]) -> None:
    """Answer in a way, all but the closing."""
    said, then = way
    writer.write(said)
    await writer.drain()
    if then == "hang":
        await asyncio.sleep(3)
    elif then == "reset":
        writer.transport.abort()


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    """The receiver's URL."""
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
        for writer in receiver.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def run(most: int) -> Outcome:
    """Post to so many receivers, each with a database of its own."""
    outcome, ways = Outcome(), list(WAYS.items())
    secret = (new_webhook_secret(),)
    for number in range(most):
        name, way = ways[number % len(ways)]
        outcome.tried += 1
        receiver, clock = Receiver(way), SettableClock()
        async with (
            listening(receiver) as url,
            linker_in_memory(clock=clock, webhook_url=url, webhook_secret=secret, lease_seconds=2) as linker,
        ):
            connection = await linker.create(owner="customer-1")
            await linker.submit_token(connection.id, subdomain="acme", token="a-good-token-of-acme")
            await linker.deliver()
            clock.advance(hours=7)
            await linker.unlink(connection.id)
            await linker.deliver()
            receiver.is_mended = True
            for _ in range(6):
                clock.advance(hours=7)
                await linker.deliver()
        expected = ["connection.opened", "token.accepted", "connection.awaiting_recruiter", "connection.unlinked"]
        got = list(dict.fromkeys(kind for _, kind in receiver.got))
        outcome.lost += len(set(expected) - set(got))
        if got != expected:
            outcome.wrong.append(f"a receiver that {name}: {got}")
    return outcome
