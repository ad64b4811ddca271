"""The control page at `/_sandbox` and its JSON API at `/_sandbox/api`: look at the world, and change it.

A change is a POST with a JSON object. Another content type is refused with 415: a page of some other site
could send a plain form to a developer's machine, but not JSON. What is wrong with a field ends in 400
`{"error": {"field", "message"}}`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from linker.sandbox import seed, views
from linker.sandbox.fields import Fields, count_in, parsed
from linker.sandbox.limits import Limit
from linker.sandbox.mishaps import ELSEWHERE_PATH
from linker.sandbox.records import WorldError, fingerprint
from linker.sandbox.views import View
from linker.sandbox.world import World

_Endpoint = Callable[[Request], Awaitable[Response]]
_Change = Callable[[dict[str, object]], View]

_LOG_PAGE = 200
_PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes(world: World) -> Starlette:
    """Returns the router of the control page over `world`."""
    panel = _Panel(world)
    changes: dict[str, _Change] = {
        "account": panel.account,
        "token": panel.token,
        "scopes": panel.scopes,
        "revoke": panel.revoke,
        "recruiter": panel.recruiter,
        "recruiter/remove": panel.remove_recruiter,
        "member": panel.member,
        "fault": panel.fault,
        "heal": panel.heal,
        "limit": panel.limit,
        "reset": panel.reset,
    }
    return Starlette(
        routes=[
            Route("/", _to_the_page),
            Route("/_sandbox", _file("page.html", "text/html")),
            Route("/_sandbox/page.css", _file("page.css", "text/css")),
            Route("/_sandbox/page.js", _file("page.js", "text/javascript")),
            Route(ELSEWHERE_PATH, panel.elsewhere),
            Route("/_sandbox/api/world", panel.world_now),
            Route("/_sandbox/api/log", panel.log),
            *(Route(f"/_sandbox/api/{name}", _changing(change), methods=["POST"]) for name, change in changes.items()),
        ],
        exception_handlers={WorldError: _named_error},
    )


class _Panel:
    """What the control API does to one world; each method takes a JSON object and returns one."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def world_now(self, _: Request) -> Response:
        return JSONResponse(views.world_view(self._world))

    async def log(self, request: Request) -> Response:
        """Requests with a number above `after`, the latest `limit` of them, oldest first."""
        after = count_in(request.query_params.get("after"), "after", 0)
        limit = count_in(request.query_params.get("limit"), "limit", _LOG_PAGE)
        entries = [views.entry_view(entry) for entry in self._world.log if entry.number > after]
        return JSONResponse({"entries": entries[-limit:] if limit else [], "last": self._world.last_logged})

    async def elsewhere(self, request: Request) -> Response:
        """The foreign host: writes down who came, and whether a token came along."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        self._world.record(
            at=self._world.clock(),
            started=time.monotonic(),
            method=request.method,
            subdomain="",
            path=ELSEWHERE_PATH,
            query=request.url.query,
            status=200,
            fingerprint=fingerprint(secret or kind) if kind else None,
            user_agent=request.headers.get("user-agent", ""),
            fault=None,
        )
        return Response("<html><body>Another host.</body></html>\n", media_type="text/html")

    def account(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "name", "website_url")
        account = self._world.add_account(
            given.text("subdomain"), name=given.text("name"), website_url=given.optional_text("website_url")
        )
        return views.account_view(self._world, account)

    def token(self, values: dict[str, object]) -> View:
        """Shows a made-up token this once; one that was given is known to whoever gave it."""
        given = Fields(values, "subdomain", "token", "scopes")
        chosen, scopes = given.optional_text("token"), given.texts("scopes")
        made = self._world.add_token(given.text("subdomain"), chosen, scopes=("r_jobs",) if scopes is None else scopes)
        shown: View = {"token": made.secret} if chosen is None else {}
        return views.token_view(made) | shown

    def scopes(self, values: dict[str, object]) -> View:
        given = Fields(values, "fingerprint", "scopes")
        token = self._world.token_named(given.text("fingerprint"))
        return views.token_view(self._world.set_scopes(token.secret, given.texts("scopes") or ()))

    def revoke(self, values: dict[str, object]) -> View:
        token = self._world.token_named(Fields(values, "fingerprint").text("fingerprint"))
        return views.token_view(self._world.revoke_token(token.secret))

    def recruiter(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "name", "email", "shortcodes")
        return views.recruiter_view(
            self._world.add_recruiter(
                given.text("subdomain"),
                name=given.text("name"),
                email=given.text("email"),
                shortcodes=given.texts("shortcodes") or (),
            )
        )

    def remove_recruiter(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "recruiter")
        return views.recruiter_view(self._world.remove_recruiter(given.text("subdomain"), given.text("recruiter")))

    def member(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "name", "email", "role", "active")
        return views.member_view(
            self._world.add_member(
                given.text("subdomain"),
                name=given.text("name"),
                email=given.text("email"),
                role=given.optional_text("role") or "simple",
                active=given.flag("active", otherwise=True),
            )
        )

    def fault(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "fault", "times", "path", "seconds")
        rule = self._world.fail(
            given.text("subdomain"),
            given.fault("fault"),
            times=given.whole_number("times"),
            path=given.optional_text("path"),
            seconds=given.number("seconds"),
        )
        return views.fault_view(rule)

    def heal(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "fault", "number")
        healed = self._world.heal(
            given.optional_text("subdomain"),
            given.optional_fault("fault"),
            number=given.whole_number("number"),
        )
        return {"healed": healed}

    def limit(self, values: dict[str, object]) -> View:
        """A side that is null is switched off; one that is left out stays as it is."""
        given, now = Fields(values, "requests", "partner"), self._world.limit
        self._world.set_limit(
            Limit(
                requests=given.whole_number("requests") if "requests" in values else now.requests,
                partner=given.whole_number("partner") if "partner" in values else now.partner,
            )
        )
        return views.limit_view(self._world)

    def reset(self, values: dict[str, object]) -> View:
        Fields(values)
        self._world.clear()
        seed.fill(self._world)
        return views.world_view(self._world)


def _changing(change: _Change) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return _error("content-type", "must be application/json", status=415)
        return JSONResponse(change(parsed(await request.body())))

    return endpoint


def _file(name: str, media_type: str) -> _Endpoint:
    async def endpoint(_: Request) -> Response:
        text = files("linker.sandbox").joinpath("static", name).read_text(encoding="utf-8")
        return Response(text, media_type=media_type, headers=_PAGE_HEADERS)

    return endpoint


async def _to_the_page(_: Request) -> Response:
    return RedirectResponse("/_sandbox")


async def _named_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, WorldError)
    return _error(error.field, error.message, status=400)


def _error(field: str, message: str, *, status: int) -> Response:
    return JSONResponse({"error": {"field": field, "message": message}}, status_code=status)
