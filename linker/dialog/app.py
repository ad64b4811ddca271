"""The ASGI app: pages and forms of the connection dialog. It loads, asks the linker, shows, and remembers nothing.

    /c/<link>#<secret>     a page whose script sends the secret; a browser keeps the fragment to itself
    /c/<link>/<secret>     the same without JavaScript
    /c/<link>/state        whether there is news, for the script
    /why                   what is asked and why, for anybody

Every address in a page is relative, so the app may be mounted under any path, and a proxy may hide it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from linker.dialog import guard
from linker.dialog.look import Look
from linker.dialog.open_pages import OpenPages, poll_seconds
from linker.dialog.rendering import Place, Renderer, expires_on, is_held, tag_of
from linker.dialog.screens import Deed, Screen, ScreenName, may_do, screen_of
from linker.errors import BadInput, NotFound, Refused, TryAgain
from linker.event_log import log
from linker.linker import Linker
from linker.links import Link, Purpose, url_of
from linker.settings import dialog_url
from linker.validation.subdomain import has_secret, parse_subdomain
from linker.validation.token import parse_token
from states.connection import Connection, ConnectionState

#: Said by our script, which wants the next screen in the answer instead of a redirect.
SCRIPT = "x-dialog"
SECRET = "x-link-secret"
#: What carries an entry; for the rest Workable is asked, or nobody.
ENTRIES = frozenset({Deed.SUBDOMAIN, Deed.TOKEN, Deed.HELD})
#: The states in which a token is in use, and the steps by which one came to be.
HOLDING = (ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED)
FOR_EVER = "public, max-age=31536000, immutable"


def dialog_app(linker: Linker, *, opens: bool = False) -> ASGIApp:
    """The connection dialog as an ASGI app, for any path of a host's.

    Args:
        linker: whose connections are linked; the host keeps it open.
        opens: the linker is opened with the app: at the start of the server, or else by the first request.

    Raises:
        BadSettings: it is not said where customers reach the dialog, or the logo or the words of the host cannot be
            used.
    """
    return Dialog(linker, opens=opens)


class Dialog:
    """The app. One for each linker."""

    def __init__(self, linker: Linker, *, opens: bool) -> None:
        """Take the linker; see `dialog_app`."""
        dialog_url(linker.settings)  # a page that needs it is no place to find out
        self._linker = linker
        self._look = Look(linker.settings)
        self._pages = Renderer(linker.settings, self._look)
        self._open_pages = OpenPages(linker)
        self._opens = opens
        self._opening = asyncio.Lock()
        self._is_open = False
        paths = [("/c/{link}/state", self._state, ["GET"]), ("/c/{link}", self._page, ["GET", "POST"])]
        paths += [("/c/{link}/{secret}", self._page, ["GET", "POST"]), ("/why", self._why, ["GET"])]
        paths += [("/assets/{name}", self._asset, ["GET"])]
        self._app = Starlette(
            routes=[Route(path, self._guarded(work), methods=methods) for path, work, methods in paths],
            lifespan=self._lifespan,
            exception_handlers={404: self._nowhere, 405: self._nowhere},
        )
        self._app.router.redirect_slashes = False  # it would send the secret of a plain link to wherever `Host` says

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    async def _open(self) -> None:
        if not self._opens or self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._linker.__aenter__()
                self._is_open = True

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> Any:
        await self._open()
        try:
            yield
        finally:
            await self._open_pages.close()
            if self._opens and self._is_open:
                self._is_open = False
                await self._linker.__aexit__(None, None, None)

    async def _nowhere(self, request: Request, error: Exception) -> Response:
        """An address that is none of ours, perhaps a link that was cut off."""
        page = self._pages.message(ScreenName.INCOMPLETE, self._place(request), None)
        return self._html(page, getattr(error, "status_code", 404))

    # ── around every request ──────────────────────────────────────────────────────────────────────────────────────────

    def _guarded(self, work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """A handler with its headers, and with every trouble told on a page: no request ends in a traceback."""

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            name = ScreenName.BUSY
            try:
                await self._open()
                response = await work(request)
            except guard.NotOurs as error:
                name, status = ScreenName.REFUSED, error.status
            except NotFound:
                name, status = ScreenName.INCOMPLETE, 404
            except TryAgain as error:
                log.warning("dialog.unavailable", code=error.code, reason=error.reason)
                status = 503
            except Exception as error:  # noqa: BLE001 - its frames may hold a token: only its name is told
                log.error("dialog.failed", error=type(error).__name__, reason=getattr(error, "reason", None))
                status = 500
            else:
                status = 0
            if status:
                page = self._pages.message(name, self._place(request), None)
                # who may show it in a frame is told only to somebody who has proven to know the link
                response = self._html(page, status, getattr(request.state, "embed_origin", None))
            if "content-security-policy" not in response.headers:
                for header, value in guard.headers(None).items():
                    response.headers.setdefault(header, value)
            _log_answer(request, response, time.perf_counter() - began, is_poll=work == self._state)
            return response

        return handle

    def _html(self, page: str, status: int = 200, embed_origin: str | None = None) -> Response:
        return Response(page, status, guard.headers(embed_origin), media_type="text/html; charset=utf-8")

    def _place(self, request: Request, secret: str | None = None) -> Place:
        """Where a page stands. The link that is shared leads where this page was asked for."""
        plain = request.path_params.get("secret")
        inside = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        root = "../" * (inside.count("/") - 1) or "./"
        if secret is None:
            return Place(root=root)
        base = self._linker.settings.public_url or self._own_address(request)
        url = url_of(base, request.path_params["link"], secret, plain=plain is not None)
        return Place(root=root, secret=secret if plain is not None else None, url=url)

    def _own_address(self, request: Request) -> str:
        """Where this app is reached, as the request says; asked only where no setting says so: on this machine."""
        if request.url.hostname in ("localhost", "127.0.0.1", "::1", "testserver"):
            return str(request.base_url).rstrip("/")
        return dialog_url(self._linker.settings)

    # ── what is open to anybody ───────────────────────────────────────────────────────────────────────────────────────

    async def _why(self, request: Request) -> Response:
        return self._html(self._pages.why(self._place(request), None))

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        asset = self._look.assets.get(name) or self._look.current(name)
        if asset is None:
            raise NotFound(name, what="link")
        told = {"cache-control": FOR_EVER, "vary": "accept-encoding", "cross-origin-resource-policy": "same-origin"}
        if name != asset.name:  # a page from before or after an upgrade: what this process has goes with it well enough
            told["cache-control"] = "no-store"
        if "gzip" in request.headers.get("accept-encoding", "") and not asset.media_type.startswith("image/p"):
            return Response(asset.packed, headers=told | {"content-encoding": "gzip"}, media_type=asset.media_type)
        return Response(asset.body, headers=told, media_type=asset.media_type)

    # ── what a link opens ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _page(self, request: Request) -> Response:
        """A page of a link: what is due for its connection. A POST may carry an entry."""
        link_id, plain = request.path_params["link"], request.path_params.get("secret")
        if request.method != "POST" and plain is None:
            embed_origin = await self._linker.embed_origin_of(link_id)
            return self._html(self._pages.shell(self._place(request), None), embed_origin=embed_origin)
        form: dict[str, str] = {}
        if request.method == "POST":
            guard.refuse_strangers(request, self._linker.settings.public_url)
            form = await guard.form_of(request)
            secret = form.pop("secret", "")
        else:
            secret = plain or ""
        link, connection = await self._linker.find_link(link_id, secret)
        request.state.embed_origin = link.embed_origin
        asked = form.get("at") or request.query_params.get("at")
        refused: Screen | None = None
        acted, has_acted = form.get("do"), False
        if acted and may_do(acted, connection, link, now=self._linker.clock.now()):
            try:
                connection = await self._do(acted, form, connection, link)
                link, _ = await self._linker.find_link(link_id, secret)
                asked, has_acted = None, True
            except BadInput as error:
                connection = await self._linker.get(connection.id)
                refused = _refused(acted, error, form)
            except Refused:  # somebody else was faster: what is due now is shown
                connection = await self._linker.get(connection.id)
        now = self._linker.clock.now()
        screen = refused or screen_of(
            connection, link, now=now, asked=asked, renewed=await self._is_renewed(connection, link)
        )
        if has_acted and screen.is_error:  # what was chosen beside the entry stays chosen
            screen = replace(screen, lifetime=form.get("lifetime"))
        elif has_acted and plain is not None and request.headers.get(SCRIPT) is None:
            return RedirectResponse("?", 303)  # to the same page, whose path is not said again
        page = self._pages.screen(screen, connection, link, self._place(request, secret), now=now)
        return self._html(page, 422 if refused else 200, link.embed_origin)

    async def _do(self, acted: str, form: dict[str, str], connection: Connection, link: Link) -> Connection:
        """What a person did: one of the forms was sent. Raises BadInput, Refused."""
        linker, actor = self._linker, link.actor
        if acted in ENTRIES:
            return await self._enter(acted, form, connection, link)
        if acted == Deed.STOP:
            return await linker.unlink(connection.id, actor=actor)
        if not await linker.count_entry(link):  # the page shows that, or goes on by itself
            return connection
        if acted == Deed.CONFIRM:
            return await linker.confirm_recruiter(connection.id, actor=actor)
        if acted == Deed.RESTART:
            return await linker.restart(connection.id, actor=actor)
        return await linker.check(connection.id, actor=actor)

    async def _enter(self, acted: str, form: dict[str, str], connection: Connection, link: Link) -> Connection:
        """What a person entered. What cannot be an entry is told, and counts for nothing. Raises BadInput, Refused."""
        linker, actor, token = self._linker, link.actor, form.pop("token", "")
        subdomain = form.get("subdomain") or (connection.subdomain if acted == Deed.TOKEN else None) or ""
        named = parse_subdomain(subdomain)
        if acted == Deed.TOKEN:
            parse_token(token)
        if not await linker.count_entry(link):
            return connection
        if acted == Deed.TOKEN:
            lifetime = expires_on(form.get("lifetime", ""), linker.clock.now().date())
            return await linker.submit_token(
                connection.id, subdomain=subdomain, token=token, expires_on=lifetime, actor=actor
            )
        insists = named == connection.subdomain  # it is known that the token that is kept is not of this account
        if acted == Deed.SUBDOMAIN and (insists or not is_held(connection, linker.clock.now())):
            return await linker.give_subdomain(connection.id, subdomain, actor=actor)
        try:  # the token is kept: nobody pastes it twice
            return await linker.submit_token(connection.id, subdomain=subdomain, token=None, actor=actor)
        except BadInput as error:
            if error.reason == "not_held":  # the token has to be pasted again, the account need not be named again
                await linker.give_subdomain(connection.id, subdomain, actor=actor)
            raise

    async def _is_renewed(self, connection: Connection, link: Link) -> bool:
        """True if a token was accepted since a link for another token was made."""
        asked = link.purpose is Purpose.RECONNECT and connection.state in HOLDING
        return asked and await self._linker.is_renewed(link)

    async def _state(self, request: Request) -> Response:
        """What is new since the page was made, for its script: makes no call, and says when to ask again."""
        guard.refuse_strangers(request, self._linker.settings.public_url)
        link, connection = await self._linker.find_link(request.path_params["link"], request.headers.get(SECRET, ""))
        now = self._linker.clock.now()
        asked, renewed = request.query_params.get("at"), await self._is_renewed(connection, link)
        screen = screen_of(connection, link, now=now, asked=asked, renewed=renewed)
        if screen.name not in (ScreenName.EXPIRED, ScreenName.REVOKED):  # for whoever has such a link nothing is done
            await self._open_pages.seen(connection, now)
        live = self._pages.live(screen, connection, link)
        tag = tag_of(screen, live)
        told = {"etag": tag, "x-poll-seconds": f"{poll_seconds(connection, now):.0f}"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=told)
        return JSONResponse({"screen": screen.name.value, "live": live}, headers=told)


def _log_answer(request: Request, response: Response, took_seconds: float, *, is_poll: bool) -> None:
    if is_poll and response.status_code in (200, 304):  # an open page asks many times a minute
        return
    path = "/c/…" if request.path_params.get("link") else request.url.path
    took = round(took_seconds * 1000, 1)
    log.info("dialog.request", method=request.method, path=path, status=response.status_code, ms=took)


def _refused(acted: str, error: BadInput, form: dict[str, str]) -> Screen:
    """The form that was sent, with what cannot be right in it. A token is not shown again."""
    typed = None if has_secret(form.get("subdomain", "")) else form.get("subdomain")
    if error.field == "subdomain" and error.reason in ("looks_like_token", "same_as_token"):
        typed = None
    of_subdomain = acted in (Deed.SUBDOMAIN, Deed.HELD) and error.field != "token"
    name = ScreenName.SUBDOMAIN if of_subdomain else ScreenName.TOKEN
    return Screen(name=name, refusal=error, typed=typed, lifetime=form.get("lifetime"))
