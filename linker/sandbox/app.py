"""The ASGI app: Workable's API under `/{subdomain}/spi/v3`, the control page and its API under `/_sandbox`.

Calls to Workable's API are told apart here by a plain look at the path and never reach a router: the sandbox
also serves as the other side of a benchmark.
"""

from __future__ import annotations

import time
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from linker.sandbox import api, control, delivery, fault_effects
from linker.sandbox.api import Call
from linker.sandbox.faults import SPOILING
from linker.sandbox.models import fingerprint
from linker.sandbox.world import World

_CONTROL = "_sandbox"
#: No more of a request is read.
LONGEST_BODY_BYTES = 1024 * 1024


class Sandbox:
    """A Workable to develop against, as an ASGI app over a world."""

    def __init__(self, world: World) -> None:
        """Answers from `world`."""
        self.world = world
        self._control: ASGIApp = control.routes(world)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; all that is not Workable's API goes to the control page's router."""
        call = _call(scope) if scope["type"] == "http" else None
        if call is None:
            await self._control(scope, receive, send)
            return
        if call.method == "POST":
            call = replace(call, body=await _body(receive))
        at, started = self.world.clock(), time.monotonic()
        rule = self.world.take_fault(call.subdomain, call.path)
        if rule is None:
            answer = api.answer(self.world, call)
        elif rule.fault in SPOILING:
            answer = fault_effects.spoilt(rule, call, api.answer(self.world, call))
        else:
            answer = fault_effects.replacement(rule, call, at)

        def record() -> None:
            known = self.world.token(call.token) if call.token else None  # spares the hashing
            self.world.record(
                at=at,
                started=started,
                method=call.method,
                subdomain=call.subdomain,
                path=call.path,
                query=call.query,
                status=answer.status,
                fingerprint=known.fingerprint if known else fingerprint(call.token) if call.token else None,
                user_agent=call.user_agent,
                fault=None if rule is None else rule.fault,
            )

        if rule is None:
            await delivery.whole(answer, send, record)
        else:
            await delivery.faulty(answer, rule, receive, send, record)


async def _body(receive: Receive) -> bytes:
    """Returns what was sent, no more of it than an answer could be worth."""
    body = b""
    while len(body) <= LONGEST_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:LONGEST_BODY_BYTES]


def _call(scope: Scope) -> Call | None:
    """Returns the call of Workable's API that a request is, or None when its path is not `/{subdomain}/spi/v3`."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    subdomain, found, rest = path.removeprefix(root)[1:].partition(api.PREFIX)
    if not found or subdomain in ("", _CONTROL) or "/" in subdomain or (rest and rest[0] != "/"):
        return None
    headers: dict[bytes, bytes] = dict(scope["headers"])
    host = headers.get(b"host", b"localhost").decode("latin-1")
    kind, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return Call(
        method=scope["method"],
        subdomain=subdomain,
        path=rest,
        query=scope["query_string"].decode("latin-1"),
        base=f"{scope['scheme']}://{host}{root}/{subdomain}{api.PREFIX}",
        token=secret.strip() or None if kind.lower() == "bearer" else None,
        partner=b"x-workable-client-id" in headers,
        user_agent=headers.get(b"user-agent", b"").decode("latin-1"),
    )
