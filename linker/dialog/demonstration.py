"""A demonstration on this machine: a sandbox Workable, the dialog, and a small page that plays the host's product."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from linker.dialog.app import dialog_app
from linker.dialog.serve import serve_app
from linker.linker import Linker
from linker.network.serving import listen, set_by_signals, url_of
from linker.outbox.announcements import Announcement
from linker.sandbox import running, seed
from linker.settings import DIALOG_PORT, Settings
from linker.wording import describe
from states.connection import ConnectionState
from states.events import TokenSubmitted
from states.problems import REFUSALS

HOST = "127.0.0.1"
#: The ports that are tried first, so that addresses are the same each time: the sandbox's and the host's.
SANDBOX_PORT, HOST_PORT = 8787, 8789
#: What the page of the host says, in plain words, for each announcement.
SAID = {
    "connection.opened": "A customer pressed “Connect”.",
    "token.accepted": "Workable accepted the token.",
    "connection.awaiting_recruiter": "The customer is asked to add the external recruiter.",
    "connection.linked": "The account is linked. Your product can start.",
    "connection.recovered": "The link works again.",
    "connection.failed": "The connection ended: a person has to act.",
    "recruiter.removed": "The external recruiter was removed in Workable.",
    "permission.lost": "The token lost a permission that linking does not need.",
    "connection.unlinked": "The customer stopped the connection.",
}
#: Where the connection stands, in plain words.
STANDS = {
    ConnectionState.AWAITING_TOKEN: "Begun: the customer has not given a token yet.",
    ConnectionState.TOKEN_VALID: "The token works.",
    ConnectionState.AWAITING_RECRUITER: "The customer has to add the external recruiter.",
    ConnectionState.FAILED: "In trouble: a person has to act.",
}


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the parts of the demonstration are."""

    host: str
    dialog: str
    sandbox: str


@dataclass
class _Product:
    """A small product that its customers connect to Workable: one customer, one page."""

    linker: Linker
    sandbox: str
    told: list[dict[str, Any]] = field(default_factory=list)
    connection_id: str | None = None

    def routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/connect", self.connect, methods=["POST"]),
                Route("/told", self.news),
            ]
        )

    async def page(self, _: Request) -> Response:
        page = files("linker.dialog").joinpath("assets", "demonstration.html").read_text(encoding="utf-8")
        tokens = "".join(f"<li><code>{token}</code> {said}</li>" for token, said in seed.DEMO_TOKENS.items())
        return HTMLResponse(page.replace("{sandbox}", f"{self.sandbox}/_sandbox").replace("{tokens}", tokens))

    async def connect(self, _: Request) -> Response:
        """What a host does when its customer presses “Connect”: a connection, a link, and off they go."""
        open_one = self.connection_id and (await self.linker.get(self.connection_id)).closed_at is None
        if not open_one:
            self.connection_id = (await self.linker.create(owner="customer-42", actor="host")).id
        assert self.connection_id is not None
        link = await self.linker.create_link(self.connection_id, contact="the customer")
        return RedirectResponse(link.url, 303)

    async def news(self, _: Request) -> Response:
        connection = await self.linker.get(self.connection_id) if self.connection_id else None
        if connection is None or connection.closed_at is not None:
            return JSONResponse({"state": None, "stands": "Not connected.", "told": self.told})
        stands, problem = STANDS.get(connection.state, ""), connection.present_problem
        if connection.state is ConnectionState.LINKED and connection.account is not None:
            stands = f"Linked with {connection.account.name}."
        elif problem is not None and problem.code in REFUSALS:
            steps = await self.linker.history(connection.id)
            given = sum(step.event == TokenSubmitted.name for step in steps)
            tokens = "A token was given, but it" if given == 1 else f"{given} tokens were given, but the last one"
            stands = f"{tokens} cannot be used."
        if problem is not None:
            stands = f"{stands} {describe(problem).message}"
        return JSONResponse({"state": connection.state.value, "stands": stands, "told": self.told})

    async def announced(self, announcement: Announcement) -> None:
        data = announcement.payload
        at = str(data["timestamp"])[11:19]
        self.told.append({"type": announcement.type, "said": SAID.get(announcement.type, ""), "at": at})


async def demonstrate(settings: dict[str, Any], folder: Path, on_ready: Callable[[Addresses], None]) -> None:
    """Serve all three until SIGTERM or SIGINT.

    Args:
        settings: of the linker, beside those that follow from where the parts are.
        folder: where the database is.
        on_ready: is told where everything is, once it can be opened.
    """
    stop, ready = asyncio.Event(), asyncio.Event()
    with ExitStack() as parts:
        parts.enter_context(set_by_signals(stop))
        workable_url = _sandbox(parts)
        page, product_page = (parts.enter_context(_listen(port)) for port in (DIALOG_PORT, HOST_PORT))
        addresses = Addresses(
            host=url_of(product_page),
            dialog=url_of(page),
            sandbox=workable_url.removesuffix("/{subdomain}"),
        )
        database_url = f"sqlite:///{folder / 'linker.db'}"
        given = {"database_url": database_url, "workable_url": workable_url, "public_url": addresses.dialog, **settings}
        linker = Linker(Settings(**given))
        product = _Product(linker, addresses.sandbox)
        for name in SAID:
            linker.on(name)(product.announced)
        async with linker, linker.heartbeat():
            both = [
                serve_app(dialog_app(linker), page, stop, on_ready=lambda _: None),
                serve_app(product.routes(), product_page, stop, on_ready=lambda _: ready.set()),
            ]
            serving = asyncio.gather(*both)
            await ready.wait()
            on_ready(addresses)
            await serving


def _sandbox(parts: ExitStack) -> str:
    try:
        return parts.enter_context(running(seed.seeded(), SANDBOX_PORT))
    except OSError:  # the port is taken: any other will do
        return parts.enter_context(running(seed.seeded()))


def _listen(port: int) -> socket.socket:
    try:
        return listen(HOST, port)
    except OSError:
        return listen(HOST, 0)
