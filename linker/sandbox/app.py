"""The ASGI app: Workable's API under `/{subdomain}/spi/v3`, the control page and its API under `/_sandbox`.

Calls to Workable's API are told apart here by a plain look at the path and never reach a router: the sandbox
also serves as the other side of a benchmark.
"""

from __future__ import annotations

import time
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from linker.sandbox import api, control, delivery, fault_effects
from linker.sandbox.api import Call
from linker.sandbox.faults import SPOILING, FaultRule
from linker.sandbox.models import fingerprint
from linker.sandbox.world import World

_CONTROL = "_sandbox"


class Sandbox:
    """A Workable to develop against, as an ASGI app over a world."""

    def __init__(self, world: World) -> None:
        """Answers from `world`."""
        self.world = world
        self._control: ASGIApp = control.routes(world)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; all that is not Workable's API goes to the control page's router."""
        place = _place(scope) if scope["type"] == "http" else None
        if place is None:
            await self._control(scope, receive, send)
        else:
            await self._workable(scope, place, receive, send)

    async def _workable(self, scope: Scope, place: tuple[str, str], receive: Receive, send: Send) -> None:
        at, started = self.world.clock(), time.monotonic()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        call = _call(scope, place, headers)
        rule = self.world.take_fault(call.subdomain, call.path)
        if rule is not None and rule.fault not in SPOILING:
            answer = fault_effects.replacement(rule, call, at)
        else:
            answer = api.answer(self.world, call)
        if rule is not None and rule.fault in SPOILING:
            answer = fault_effects.spoilt(rule, call, answer)
        record = partial(self._record, call, headers, rule, at, started, answer.status)
        if rule is None:
            await delivery.whole(answer, send, record)
        else:
            await delivery.faulty(answer, rule, receive, send, record)

    def _record(
        self,
        call: Call,
        headers: dict[bytes, bytes],
        rule: FaultRule | None,
        at: float,
        started: float,
        status: int,
    ) -> None:
        self.world.record(
            at=at,
            started=started,
            method=call.method,
            subdomain=call.subdomain,
            path=call.path,
            query=call.query,
            status=status,
            fingerprint=self._named(call.token),
            user_agent=headers.get(b"user-agent", b"").decode("latin-1"),
            fault=None if rule is None else rule.fault,
        )

    def _named(self, secret: str | None) -> str | None:
        """Spares the hashing for tokens that the world knows."""
        if not secret:
            return None
        known = self.world.token(secret)
        return fingerprint(secret) if known is None else known.fingerprint


def _place(scope: Scope) -> tuple[str, str] | None:
    """Returns the subdomain and what follows `/spi/v3`, or None when the path is not Workable's API."""
    path: str = scope["path"]
    subdomain, found, rest = path.removeprefix(scope.get("root_path", ""))[1:].partition(api.PREFIX)
    ours = found and subdomain not in ("", _CONTROL) and "/" not in subdomain
    return (subdomain, rest) if ours and (not rest or rest[0] == "/") else None


def _call(scope: Scope, place: tuple[str, str], headers: dict[bytes, bytes]) -> Call:
    subdomain, path = place
    host = headers.get(b"host", b"localhost").decode("latin-1")
    return Call(
        method=scope["method"],
        subdomain=subdomain,
        path=path,
        query=scope["query_string"].decode("latin-1"),
        base=f"{scope['scheme']}://{host}{scope.get('root_path', '')}/{subdomain}{api.PREFIX}",
        token=bearer(headers.get(b"authorization", b"")),
        partner=b"x-workable-client-id" in headers,
    )


def bearer(header: bytes) -> str | None:
    """Returns the token of an Authorization header, or None when it holds no bearer token."""
    kind, _, secret = header.decode("latin-1").partition(" ")
    return secret.strip() or None if kind.lower() == "bearer" else None
