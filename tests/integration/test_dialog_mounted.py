"""The dialog inside a host: under a path of Starlette and FastAPI, behind a proxy; and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from linker import BadSettings, Linker, Settings, new_key
from linker.dialog import dialog_app
from tests.dialog_server import serving, walk


def mounted(host: Any, linker: Linker) -> ASGIApp:
    """A host's app, with the dialog in it as docs/howto/dialog.md mounts it."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "dialog.md").read_text(encoding="utf-8")
    [snippet] = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "app.mount(" in each]
    exec(snippet, {"app": host, "linker": linker})  # noqa: S102 - the page is ours
    app: ASGIApp = host
    return app


def in_starlette(_: ASGIApp, linker: Linker) -> ASGIApp:
    """In a host on Starlette."""
    return mounted(Starlette(), linker)


def in_fastapi(_: ASGIApp, linker: Linker) -> ASGIApp:
    """In a host on FastAPI."""
    return mounted(FastAPI(), linker)


def behind_a_proxy(app: ASGIApp, _: Linker) -> ASGIApp:
    """As a proxy sends it that hides the path: the app is not told where it is."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/connect")
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


@pytest.mark.parametrize("wrap", [in_starlette, in_fastapi, behind_a_proxy])
def test_under_a_path_of_a_host(wrap: Callable[[ASGIApp, Linker], ASGIApp], tmp_path: Path) -> None:
    """Pages, files and forms are found, wherever the app is mounted."""
    with serving(f"sqlite:///{tmp_path / 'linker.db'}", wrap=wrap, path="/connect") as served:
        customer = served.customer(plain=True)
        assert "/connect/c/" in customer.url
        walk(customer.url, customer, lambda: served.add_recruiter(customer))


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
