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

_PIECE_BYTES = 64 * 1024
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
    seconds = rule.seconds or 0
    match rule.fault:
        case Fault.TRICKLE:  # never silent for long: who only limits the pause between bytes waits to the end
            *drops, last = _pieces(answer.body, -(-len(answer.body) // _MOST_DROPS))
            await _start(answer, send, len(answer.body))
            for drop in drops:
                await send({"type": "http.response.body", "body": drop, "more_body": True})
                await _wait(seconds / len(drops), receive)
            ending()
            await send({"type": "http.response.body", "body": last})
        case Fault.HUGE:  # without content-length: only reading shows how much it is
            await _start(answer, send, None)
            for piece in _pieces(answer.body, _PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            ending()
            await send({"type": "http.response.body", "body": b""})
        case Fault.CUT:  # promises the whole body, sends half of it, and breaks off
            await _start(answer, send, len(answer.body))
            half = answer.body[: len(answer.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            ending()
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        case _:
            if rule.fault is Fault.SLOW:
                await _wait(seconds, receive)
            await whole(answer, send, ending)


async def _start(answer: Answer, send: Send, length: int | None) -> None:
    headers = [*answer.headers]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})


def _pieces(body: bytes, size: int) -> list[bytes]:
    step = max(size, 1)
    return [body[start : start + step] for start in range(0, len(body), step)] or [b""]


async def _wait(seconds: float, receive: Receive) -> None:
    """Waits, but no longer than the client does: one that hung up must not keep the server from stopping."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
