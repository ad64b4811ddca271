"""How an answer travels: in one go, late, dripping, in pieces, or only half of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx
from starlette.types import Receive, Send

from linker.sandbox.answers import Answer
from linker.sandbox.faults import Fault, FaultRule

#: Called once, just before the last byte leaves, so that whoever got the whole answer finds it in the log.
Ending = Callable[[], object]

_PIECE = 64 * 1024
_MOST_DROPS = 50


async def whole(answer: Answer, send: Send, ending: Ending) -> None:
    """Sends the answer in one go."""
    ending()
    await _start(answer, send, len(answer.body))
    await send({"type": "http.response.body", "body": answer.body})


async def faulty(answer: Answer, rule: FaultRule, receive: Receive, send: Send, ending: Ending) -> None:
    """Sends the answer the way the fault wants it.

    Raises `httpx.RemoteProtocolError` for `CUT`: a server drops the connection then, and a client without a
    network in between (`httpx.ASGITransport`) sees what it would have seen with one.
    """
    if rule.fault is Fault.SLOW:
        await _wait(rule.seconds or 0, receive)
        await whole(answer, send, ending)
    elif rule.fault is Fault.TRICKLE:
        await _trickle(answer, rule.seconds or 0, receive, send, ending)
    elif rule.fault is Fault.HUGE:
        await _stream(answer, send, ending)
    elif rule.fault is Fault.CUT:
        await _cut(answer, send, ending)
    else:
        await whole(answer, send, ending)


async def _start(answer: Answer, send: Send, length: int | None) -> None:
    headers = [*answer.headers]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})


async def _trickle(answer: Answer, seconds: float, receive: Receive, send: Send, ending: Ending) -> None:
    """Never silent for long: a client that only limits the pause between bytes waits to the end."""
    *drops, last = _pieces(answer.body, -(-len(answer.body) // _MOST_DROPS))
    await _start(answer, send, len(answer.body))
    for drop in drops:
        await send({"type": "http.response.body", "body": drop, "more_body": True})
        await _wait(seconds / len(drops), receive)
    ending()
    await send({"type": "http.response.body", "body": last})


async def _stream(answer: Answer, send: Send, ending: Ending) -> None:
    """Without content-length: only reading shows how much it is."""
    await _start(answer, send, None)
    for piece in _pieces(answer.body, _PIECE):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    ending()
    await send({"type": "http.response.body", "body": b""})


async def _cut(answer: Answer, send: Send, ending: Ending) -> None:
    """Promises the whole body, sends half of it, and breaks off."""
    await _start(answer, send, len(answer.body))
    await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
    ending()
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _pieces(body: bytes, size: int) -> list[bytes]:
    step = max(size, 1)
    return [body[start : start + step] for start in range(0, len(body), step)] or [b""]


async def _wait(seconds: float, receive: Receive) -> None:
    """Waits, but no longer than the client does: one that hung up must not keep the server from stopping."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
