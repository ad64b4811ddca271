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

from linker.sandbox import seed
from linker.sandbox.fault_effects import ELSEWHERE_PATH
from linker.sandbox.faults import DEFAULT_SECONDS, SUMMARIES, TIMED, Fault, FaultRule
from linker.sandbox.limits import WINDOW_SECONDS, Limit
from linker.sandbox.models import (
    SCOPES,
    Account,
    Candidate,
    Fields,
    Job,
    JobState,
    Member,
    Recruiter,
    Token,
    WorldError,
    count_in,
    fingerprint,
    parsed,
)
from linker.sandbox.request_log import LogEntry
from linker.sandbox.seed import DEMO_TOKENS
from linker.sandbox.world import World

View = dict[str, object]

_Endpoint = Callable[[Request], Awaitable[Response]]
_Change = Callable[[dict[str, object]], View]

_LOG_PAGE_ENTRIES = 200
_PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes(world: World) -> Starlette:
    """Returns the router of the control page over `world`."""
    control = _ControlApi(world)
    changes: dict[str, _Change] = {
        "account": control.account,
        "account/rename": control.rename_account,
        "account/close": control.close_account,
        "token": control.token,
        "scopes": control.scopes,
        "revoke": control.revoke,
        "recruiter": control.recruiter,
        "recruiter/remove": control.remove_recruiter,
        "member": control.member,
        "job": control.job,
        "candidate": control.candidate,
        "fault": control.fault,
        "heal": control.heal,
        "limit": control.limit,
        "reset": control.reset,
    }
    return Starlette(
        routes=[
            Route("/", control.home),
            Route("/{subdomain}/backend/{rest:path}", control.home),  # where Workable has its own pages
            Route("/_sandbox", _file("page.html", "text/html")),
            Route("/_sandbox/page.css", _file("page.css", "text/css")),
            Route("/_sandbox/page.js", _file("page.js", "text/javascript")),
            Route(ELSEWHERE_PATH, control.elsewhere),
            Route("/_sandbox/api/world", control.world_now),
            Route("/_sandbox/api/log", control.log),
            *(
                Route(f"/_sandbox/api/{name}", _endpoint_of(change), methods=["POST"])
                for name, change in changes.items()
            ),
        ],
        exception_handlers={WorldError: _world_error},
    )


class _ControlApi:
    """What the control API does to one world; each method takes a JSON object and returns one."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def home(self, _: Request) -> Response:
        return RedirectResponse("/_sandbox")

    async def world_now(self, _: Request) -> Response:
        return JSONResponse(world_view(self._world))

    async def log(self, request: Request) -> Response:
        """Requests with a number above `after`, the latest `limit` of them, oldest first."""
        after = count_in(request.query_params.get("after"), "after", 0)
        limit = count_in(request.query_params.get("limit"), "limit", _LOG_PAGE_ENTRIES)
        entries = [entry_view(entry) for entry in self._world.log if entry.number > after]
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
        return account_view(self._world, account)

    def rename_account(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "new")
        return account_view(self._world, self._world.rename_account(given.text("subdomain"), given.text("new")))

    def close_account(self, values: dict[str, object]) -> View:
        return {"closed": self._world.close_account(Fields(values, "subdomain").text("subdomain")).subdomain}

    def token(self, values: dict[str, object]) -> View:
        """Shows a made-up token this once; one that was given is known to whoever gave it."""
        given = Fields(values, "subdomain", "token", "scopes")
        chosen, scopes = given.optional_text("token"), given.texts("scopes")
        made = self._world.add_token(given.text("subdomain"), chosen, scopes=("r_jobs",) if scopes is None else scopes)
        shown: View = {"token": made.secret} if chosen is None else {}
        return token_view(made) | shown

    def scopes(self, values: dict[str, object]) -> View:
        given = Fields(values, "fingerprint", "scopes")
        token = self._world.token_named(given.text("fingerprint"))
        return token_view(self._world.set_scopes(token.secret, given.texts("scopes") or ()))

    def revoke(self, values: dict[str, object]) -> View:
        token = self._world.token_named(Fields(values, "fingerprint").text("fingerprint"))
        return token_view(self._world.revoke_token(token.secret))

    def recruiter(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "name", "email", "shortcodes")
        return recruiter_view(
            self._world.add_recruiter(
                given.text("subdomain"),
                name=given.text("name"),
                email=given.text("email"),
                shortcodes=given.texts("shortcodes") or (),
            )
        )

    def remove_recruiter(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "recruiter")
        return recruiter_view(self._world.remove_recruiter(given.text("subdomain"), given.text("recruiter")))

    def member(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "name", "email", "role", "active")
        return member_view(
            self._world.add_member(
                given.text("subdomain"),
                name=given.text("name"),
                email=given.text("email"),
                role=given.optional_text("role") or "simple",
                active=given.flag("active", otherwise=True),
            )
        )

    def job(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "title", "shortcode", "state")
        made = self._world.add_job(
            given.text("subdomain"),
            title=given.text("title"),
            shortcode=given.optional_text("shortcode"),
            state=given.optional_choice("state", JobState) or JobState.PUBLISHED,
        )
        return job_view(made)

    def candidate(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "shortcode", "name", "email", "recruiter")
        made = self._world.add_candidate(
            given.text("subdomain"),
            given.text("shortcode"),
            name=given.text("name"),
            email=given.text("email"),
            recruiter=given.optional_text("recruiter"),
        )
        return candidate_view(made)

    def fault(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "fault", "times", "path", "seconds")
        rule = self._world.fail(
            given.text("subdomain"),
            given.choice("fault", Fault),
            times=given.whole_number("times"),
            path=given.optional_text("path"),
            seconds=given.number("seconds"),
        )
        return fault_view(rule)

    def heal(self, values: dict[str, object]) -> View:
        given = Fields(values, "subdomain", "fault", "number")
        healed = self._world.heal(
            given.optional_text("subdomain"),
            given.optional_choice("fault", Fault),
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
        return limit_view(self._world)

    def reset(self, values: dict[str, object]) -> View:
        Fields(values)
        self._world.clear()
        seed.fill(self._world)
        return world_view(self._world)


def _endpoint_of(change: _Change) -> _Endpoint:
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


async def _world_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, WorldError)
    return _error(error.field, error.message, status=400)


def _error(field: str, message: str, *, status: int) -> Response:
    return JSONResponse({"error": {"field": field, "message": message}}, status_code=status)


def world_view(world: World) -> View:
    """Returns the whole world but the log."""
    return {
        "now": world.clock(),
        "limit": limit_view(world),
        "accounts": [account_view(world, each) for each in world.accounts],
        "faults": [fault_view(each) for each in world.faults],
        "fault_kinds": [
            {
                "fault": fault.value,
                "summary": summary,
                "timed": fault in TIMED,
                "seconds": DEFAULT_SECONDS.get(fault),
            }
            for fault, summary in SUMMARIES.items()
        ],
        "scopes": sorted(SCOPES),
    }


def limit_view(world: World) -> View:
    """Returns the limit in force, null for a side that is switched off."""
    limit = world.limit
    return {"requests": limit.requests, "partner": limit.partner, "window_seconds": WINDOW_SECONDS}


def account_view(world: World, account: Account) -> View:
    """Returns an account with all that belongs to it."""
    return {
        "subdomain": account.subdomain,
        "id": account.id,
        "name": account.name,
        "website_url": account.website_url,
        "tokens": [token_view(each) for each in world.tokens if each.subdomain == account.subdomain],
        "recruiters": [recruiter_view(each) for each in world.recruiters(account.subdomain)],
        "members": [member_view(each) for each in world.members(account.subdomain)],
        "jobs": [job_view(each) for each in world.jobs(account.subdomain)],
        "candidates": [candidate_view(each) for each in world.candidates(account.subdomain)],
    }


def token_view(token: Token) -> View:
    """Returns a token by its fingerprint; the demonstration's own tokens, which are no secret, are shown."""
    view: View = {
        "fingerprint": token.fingerprint,
        "subdomain": token.subdomain,
        "scopes": sorted(token.scopes),
        "revoked": token.revoked,
    }
    if token.secret in DEMO_TOKENS:
        view |= {"demo_token": token.secret, "note": DEMO_TOKENS[token.secret]}
    return view


def recruiter_view(recruiter: Recruiter) -> View:
    """Returns a recruiter."""
    return {
        "id": recruiter.id,
        "name": recruiter.name,
        "email": recruiter.email,
        "shortcodes": sorted(recruiter.shortcodes),
    }


def member_view(member: Member) -> View:
    """Returns a member."""
    return {
        "id": member.id,
        "name": member.name,
        "email": member.email,
        "role": member.role,
        "active": member.active,
    }


def job_view(job: Job) -> View:
    """Returns a job."""
    return {"id": job.id, "shortcode": job.shortcode, "title": job.title, "state": job.state.value}


def candidate_view(candidate: Candidate) -> View:
    """Returns a candidate, with the id of the external recruiter who is named as its source."""
    return {
        "id": candidate.id,
        "shortcode": candidate.shortcode,
        "name": candidate.name,
        "email": candidate.email,
        "recruiter": candidate.recruiter,
    }


def fault_view(rule: FaultRule) -> View:
    """Returns a fault in force; `remaining` null means until healed."""
    return {
        "number": rule.number,
        "fault": rule.fault.value,
        "summary": SUMMARIES[rule.fault],
        "subdomain": rule.subdomain,
        "path": rule.path,
        "seconds": rule.seconds,
        "remaining": rule.remaining,
        "struck": rule.struck,
    }


def entry_view(entry: LogEntry) -> View:
    """Returns a request of the log."""
    return {
        "number": entry.number,
        "at": entry.at,
        "method": entry.method,
        "subdomain": entry.subdomain,
        "path": entry.path,
        "query": entry.query,
        "status": entry.status,
        "started": entry.started,
        "ended": entry.ended,
        "milliseconds": round(entry.milliseconds, 3),
        "fingerprint": entry.fingerprint,
        "user_agent": entry.user_agent,
        "fault": entry.fault,
    }
