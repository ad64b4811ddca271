"""A dialog on a real socket, over a linker and a sandbox of its own, for tests in a browser and over sockets."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection as PipeEnd
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp

from linker import Connection, Linker, Settings, new_key
from linker.dialog import dialog_app
from linker.dialog.serve import serve_app
from linker.network.serving import listen, url_of
from linker.sandbox import Limit, World, running

T = TypeVar("T")

#: A token that is nowhere but in the field of the page, if all is well.
CANARY = "CANARY0token0that0nobody0ever0sees0"
NAMES = itertools.count(1)

#: What the tests' host has set.
SETTINGS: dict[str, Any] = {
    "recruiter_name": "Northwind Integration",
    "recruiter_email": "ats+{key}@inbound.northwind.example",
    "dialog_name": "Northwind",
    "dialog_support_url": "https://help.northwind.example/workable",
    "dialog_privacy_url": "https://northwind.example/privacy",
    "backoff_first": "PT1S",
    "backoff_last": "PT2S",
}


@dataclass
class Customer:
    """A customer with a Workable account, a token and a link."""

    subdomain: str
    token: str
    connection_id: str
    link_id: str
    url: str


@dataclass
class DialogServer:
    """The parts, and what tests do with them from their own thread."""

    linker: Linker
    world: World
    loop: asyncio.AbstractEventLoop
    base: str
    opened: list[Customer] = field(default_factory=list)

    def __call__(self, work: Awaitable[T]) -> T:
        """Await something where the linker lives."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(30)

    def customer(self, **link: Any) -> Customer:
        """A customer who has done nothing yet. What a link takes is taken here too."""
        number = next(NAMES)
        subdomain, token = f"acme{number}", f"{CANARY}{number:04d}"
        self.world.add_account(subdomain, name=f"Acme Robotics {number}")
        self.world.add_token(subdomain, token, scopes={"r_jobs", "r_candidates"})
        connection = self(self.linker.create(owner=f"customer-{number}"))
        made = self(self.linker.create_link(connection.id, **link))
        customer = Customer(subdomain, token, connection.id, made.id, made.url)
        self.opened.append(customer)
        return customer

    def link(self, customer: Customer, **link: Any) -> str:
        """Another link for a customer."""
        return self(self.linker.create_link(customer.connection_id, **link)).url

    def connection(self, customer: Customer) -> Connection:
        """The connection as it is now."""
        return self(self.linker.get(customer.connection_id))

    def submitted(self, **link: Any) -> Customer:
        """A customer whose token was accepted, as if it was sent by the link."""
        customer = self.customer(**link)
        [made] = self(self.linker.links(customer.connection_id))
        assert self(self.linker.count_entry(made))
        self(self.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
        return customer

    def add_recruiter(self, customer: Customer, email: str | None = None) -> None:
        """What the customer does by hand in Workable."""
        recruiter = self.connection(customer).recruiter
        assert recruiter is not None
        self.world.add_recruiter(customer.subdomain, name=recruiter.name, email=email or recruiter.email)

    def linked(self, **link: Any) -> Customer:
        """A customer whose account is linked."""
        customer = self.submitted(**link)
        self.add_recruiter(customer)
        self(self.linker.confirm_recruiter(customer.connection_id))
        return customer


@contextmanager
def serving(
    database_url: str,
    *,
    wrap: Callable[[ASGIApp, Linker], ASGIApp] | None = None,
    path: str = "",
    port: int = 0,
    world: World | None = None,
    **settings: Any,
) -> Iterator[DialogServer]:
    """Serve a dialog for one block. `wrap` puts the app into a host's, whose `path` leads to it."""
    world = world or World(limit=Limit.off())
    listener = listen("127.0.0.1", port)
    base = url_of(listener) + path
    started: dict[str, Any] = {}
    ready, stop = threading.Event(), asyncio.Event()

    with running(world) as workable_url:
        given = {"secret_keys": (new_key(),), **SETTINGS, "public_url": base, **settings}
        linker = Linker(Settings(database_url=database_url, workable_url=workable_url, **given))

        async def serve() -> None:
            started["loop"] = asyncio.get_running_loop()
            async with linker:
                app = dialog_app(linker)
                await serve_app(wrap(app, linker) if wrap else app, listener, stop, on_ready=lambda _: ready.set())

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="dialog", daemon=True)
        thread.start()
        assert ready.wait(20), "the dialog did not start"
        try:
            yield DialogServer(linker, world, started["loop"], base)
        finally:
            started["loop"].call_soon_threadsafe(stop.set)
            thread.join(20)
            listener.close()


@dataclass
class Visitor:
    """Somebody with a link, as a browser with our script sends it."""

    link: str
    secret: str
    client: httpx.Client

    def post(self, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        """Send a form."""
        sent = {"sec-fetch-site": "same-origin", "x-dialog": "1"} if headers is None else headers
        data = {"secret": self.secret, **fields}
        return self.client.post(self.link, data=data, headers=sent)

    def state(self, **headers: str) -> httpx.Response:
        """What a page that is open asks every few seconds."""
        sent = {"x-link-secret": self.secret, "sec-fetch-site": "same-origin", **headers}
        return self.client.get(f"{self.link}/state", headers=sent)

    def screen(self, **fields: str) -> str:
        """The name of the screen that is shown upon a form."""
        return name_of(self.post(None, **fields))


def name_of(response: httpx.Response) -> str:
    """The name of the screen on a page."""
    found = re.search(r'<body data-screen="(\w+)"', response.text)
    assert found is not None, response.text[:300]
    return found[1]


def visitor(customer: Customer, client: httpx.Client, url: str | None = None) -> Visitor:
    """Somebody who has the customer's link."""
    link, _, secret = (url or customer.url).partition("#")
    return Visitor(link, secret, client)


def row_of(dialog: DialogServer, customer: Customer) -> tuple[Any, ...]:
    """All that opening must not change."""
    connection = dialog.connection(customer)
    links = dialog(dialog.linker.links(customer.connection_id))
    return connection, links, dialog(dialog.linker.history(customer.connection_id))


def walk(url: str, customer: Customer, add_recruiter: Callable[[], Any]) -> None:
    """The whole flow of a plain link by forms alone, following each page's own relative addresses."""
    with httpx.Client(follow_redirects=True, timeout=30) as client:

        def send(**fields: str) -> httpx.Response:
            answer = client.post(url, data={"secret": url.rpartition("/")[2], **fields})
            assert answer.status_code == 200, answer.text
            return answer

        page = client.get(url)
        for asset in re.findall(r'(?:href|src)="(\.\./[^"]+)"', page.text):
            assert client.get(page.url.join(asset)).status_code == 200, asset
        send(do="subdomain", subdomain=customer.subdomain)
        assert "Add Northwind as an external recruiter" in send(do="token", token=customer.token).text
        add_recruiter()
        assert "is linked" in send(do="confirm").text
        assert "What we ask and why" in client.get(page.url.join("../../why")).text


def serve_until_killed(database_url: str, workable_url: str, key: SecretStr, port: int, told: PipeEnd) -> None:
    """Serve a dialog in a process of its own, which has no chance to tidy up; tells its address once it answers."""
    listener = listen("127.0.0.1", port)
    base = url_of(listener)
    given = {"secret_keys": (key,), **SETTINGS, "public_url": base}
    linker = Linker(Settings(database_url=database_url, workable_url=workable_url, **given))

    async def serve() -> None:
        async with linker:
            await serve_app(dialog_app(linker), listener, asyncio.Event(), on_ready=lambda _: told.send(base))

    asyncio.run(serve())


HOUR = timedelta(hours=1)
