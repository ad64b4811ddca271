"""The dialog inside a host: under a path of Starlette, FastAPI, beside another ASGI app, under WSGI, behind a proxy."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from linker import BadSettings, Linker, Settings, new_key
from linker.dialog import dialog_app
from linker.sandbox import Limit, World, running
from tests.dialog_server import Customer, serving


def in_starlette(app: ASGIApp) -> ASGIApp:
    """As a host on Starlette mounts it."""
    return Starlette(routes=[Mount("/connect", app)])


def in_fastapi(app: ASGIApp) -> ASGIApp:
    """As a host on FastAPI mounts it."""
    host = FastAPI()
    host.mount("/connect", app)
    return host


def beside_another(app: ASGIApp) -> ASGIApp:
    """As it stands in the `asgi.py` of a host on Django, beside Django's own app."""
    django: ASGIApp = PlainTextResponse("the host's own page")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/connect/"):
            await app({**scope, "root_path": "/connect"}, receive, send)
        else:
            await django(scope, receive, send)

    return application


def behind_a_proxy(app: ASGIApp) -> ASGIApp:
    """As a proxy sends it that hides the path: the app is not told where it is."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/connect")
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


def walk(customer: Customer, add_recruiter: Callable[[], Any]) -> None:
    """The whole flow by forms alone, following each page's own relative addresses."""
    with httpx.Client(follow_redirects=True, timeout=30) as client:

        def send(**fields: str) -> httpx.Response:
            answer = client.post(customer.url, data={"secret": customer.url.rpartition("/")[2], **fields})
            assert answer.status_code == 200, answer.text
            return answer

        page = client.get(customer.url)
        for asset in re.findall(r'(?:href|src)="(\.\./[^"]+)"', page.text):
            assert client.get(page.url.join(asset)).status_code == 200, asset
        send(do="subdomain", subdomain=customer.subdomain)
        assert "Add Northwind as an external recruiter" in send(do="token", token=customer.token).text
        add_recruiter()
        assert "is linked" in send(do="confirm").text
        assert "What we ask and why" in client.get(page.url.join("../../why")).text


@pytest.mark.parametrize("wrap", [in_starlette, in_fastapi, beside_another, behind_a_proxy])
def test_under_a_path_of_a_host(wrap: Callable[[ASGIApp], ASGIApp], tmp_path: Path) -> None:
    """Pages, files and forms are found, wherever the app is mounted."""
    with serving(f"sqlite:///{tmp_path / 'linker.db'}", wrap=wrap, path="/connect") as served:
        customer = served.customer(plain=True)
        assert "/connect/c/" in customer.url
        walk(customer, lambda: served.add_recruiter(customer))


class Quiet(WSGIRequestHandler):
    """A handler that writes nothing to stderr."""

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


@pytest.fixture
def wsgi(tmp_path: Path) -> Iterator[tuple[str, Linker, World]]:
    """A WSGI server with the dialog under `/connect`, which opens its linker by itself, and a linker of the test's."""
    world = World(limit=Limit.off())
    with running(world) as workable_url, make_server("127.0.0.1", 0, lambda *_: [], handler_class=Quiet) as server:
        base = f"http://127.0.0.1:{server.server_port}/connect"
        settings = Settings(
            database_url=f"sqlite:///{tmp_path / 'linker.db'}",
            secret_keys=(new_key(),),
            workable_url=workable_url,
            public_url=base,
            dialog_name="Northwind",
        )
        served = Linker(settings)
        dialog: Any = ASGIMiddleware(dialog_app(served, opens=True))  # type: ignore[arg-type] # its own types

        def host(environ: dict[str, Any], start: Any) -> Any:
            """What a host on Flask does with DispatcherMiddleware."""
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/connect", environ["PATH_INFO"].removeprefix("/connect")
            return dialog(environ, start)

        server.set_app(host)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield base, Linker(settings), world
        server.shutdown()
        thread.join(10)
        asyncio.run_coroutine_threadsafe(served.__aexit__(None, None, None), dialog.loop).result(10)


def test_under_wsgi(wsgi: tuple[str, Linker, World]) -> None:
    """As under Flask, by a2wsgi: the first request opens the linker."""
    _, linker, world = wsgi
    world.add_account("acme", name="Acme")
    world.add_token("acme", "a-token-of-acme", scopes={"r_jobs"})

    async def made() -> Customer:
        async with linker:
            connection = await linker.create(owner="customer")
            link = await linker.create_link(connection.id, plain=True)
            return Customer("acme", "a-token-of-acme", connection.id, link.id, link.url)

    customer = asyncio.run(made())

    def add_recruiter() -> None:
        async def email() -> str:
            async with linker:
                recruiter = (await linker.get(customer.connection_id)).recruiter
                assert recruiter is not None
                return recruiter.email

        world.add_recruiter("acme", name="N", email=asyncio.run(email()))

    walk(customer, add_recruiter)


def test_it_opens_its_linker_with_the_server(tmp_path: Path) -> None:
    """With `opens`, by the server's own lifespan, as under uvicorn; and closes it in the end."""
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'linker.db'}", secret_keys=(new_key(),), public_url="https://c.example"
    )

    @asynccontextmanager
    async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
        received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        sent: asyncio.Queue[Any] = asyncio.Queue()
        task = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, received.get, sent.put))
        await received.put({"type": "lifespan.startup"})
        assert (await sent.get())["type"] == "lifespan.startup.complete"
        yield
        await received.put({"type": "lifespan.shutdown"})
        assert (await sent.get())["type"] == "lifespan.shutdown.complete"
        await task

    async def work() -> None:
        linker = Linker(settings)
        app = dialog_app(linker, opens=True)
        async with lifespan(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                assert (await client.post("/c/lnk_1", data={"secret": "x"})).status_code == 404

    asyncio.run(work())


async def test_what_goes_wrong_is_told_on_a_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database is away, the program has a fault, an address is none of ours: a page with strict headers each."""
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'linker.db'}", secret_keys=(new_key(),), public_url="https://c.example"
    )
    linker = Linker(settings)  # which nobody opened
    app = dialog_app(linker)
    transport = httpx.ASGITransport(app=app)
    form = {"secret": "CANARY-secret", "do": "token", "token": "CANARY-token"}
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        away = await client.post("/c/lnk_1", data=form)
        framed = await client.get("/c/lnk_1")
        nowhere = await client.get("/nothing/of/ours")
        odd = await client.put("/c/lnk_1", content=b"x")

        async def broken(link_id: str, secret: str) -> Any:
            raise RuntimeError(f"{secret} must not be told")

        linker.find_link = broken  # type: ignore[method-assign] # a fault of the program
        fault = await client.post("/c/lnk_1", data=form)
    answers = (away, framed, nowhere, odd, fault)
    assert [answer.status_code for answer in answers] == [503, 503, 404, 405, 500]
    assert all("frame-ancestors 'none'" in answer.headers["content-security-policy"] for answer in answers)
    assert "That did not work just now" in away.text
    assert "This link is incomplete" in nowhere.text
    assert "CANARY" not in "".join(answer.text for answer in answers) + caplog.text


# ── trouble before there is a page ────────────────────────────────────────────────────────────────────────────────────


def test_a_database_that_is_away_is_told_on_a_page(tmp_path: Path) -> None:
    """Where the first request opens the linker, it gets a page, and a later request opens it."""
    folder = tmp_path / "away"
    settings = Settings(
        database_url=f"sqlite:///{folder / 'linker.db'}", secret_keys=(new_key(),), public_url="https://c.example"
    )

    async def work() -> None:
        linker = Linker(settings)
        transport = httpx.ASGITransport(app=dialog_app(linker, opens=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            for request in (client.get("/why"), client.post("/c/lnk_1", data={"secret": "x"})):
                answer = await request
                assert answer.status_code == 503
                assert 'data-screen="busy"' in answer.text
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            folder.mkdir()
            assert (await client.get("/why")).status_code == 200
        await linker.__aexit__(None, None, None)

    asyncio.run(work())


def test_a_dialog_that_nobody_can_reach_is_refused_when_it_is_made() -> None:
    """Not at the first page that needs its address, after what a customer did was done."""
    with pytest.raises(BadSettings) as refused:
        dialog_app(Linker(Settings(secret_keys=(new_key(),))))
    assert (refused.value.field, refused.value.reason) == ("public_url", "not_set")
