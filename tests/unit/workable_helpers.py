"""A Workable made of functions, for tests of the client that need no server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from linker.workable.client import Timeouts, WorkableClient
from states.connection import Recruiter

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TOKEN = SecretStr("canary-4f1c9a7e2b8d")
OURS = Recruiter(name="Northwind ATS", email="ats+q7kd2m@inbound.example")
ACME = {"id": "c71fa", "name": "Acme Robotics", "subdomain": "acme", "website_url": None}
REFUSED = {"error": {"error": {"error": {"name": "invalid_token", "state": "unauthorized"}, "reason": "unknown"}}}
MISMATCH = {"error": "Request subdomain does not match account subdomain"}
FORBIDDEN = {"error": "Forbidden"}
MISSING = {"error": "Not found"}
PAGE = "<!doctype html><title>Down for maintenance</title>"

Reply = httpx.Response | Exception


class SettableClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime:
        """The time that was set."""
        return self.at

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


def json(status: int, body: Any, **headers: str) -> httpx.Response:
    """An answer as Workable gives it."""
    return httpx.Response(status, json=body, headers=headers)


def html(status: int) -> httpx.Response:
    """A web page where an answer should be."""
    return httpx.Response(status, html=PAGE)


def recruiters(*listed: Any) -> httpx.Response:
    """The list of external recruiters."""
    return json(200, {"recruiters": list(listed)})


def recruiter(email: str, name: str = "Somebody", id: str = "2b81ff") -> dict[str, str]:
    """One entry of such a list."""
    return {"id": id, "name": name, "email": email}


class FakeWorkable:
    """Answers each path with what was put there; keeps what was asked.

    An answer is a response, an exception, a function of the request, or a list of these, whose last one stays.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "account": json(200, ACME),
            "recruiters": recruiters(),
            "members": json(200, {"members": []}),
        }
        self.answers |= {"accounts": json(200, {"accounts": [ACME]})}
        self.answers |= answers
        self.asked: list[httpx.Request] = []
        self.clock = SettableClock()

    @property
    def paths(self) -> list[str]:
        """The URLs that were asked, in order."""
        return [str(request.url) for request in self.asked]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.asked.append(request)
        host, last = request.url.host, request.url.path.rpartition("/")[2]
        key = last if last in ("recruiters", "members") else "accounts" if host.startswith("www.") else "account"
        answer: Any = self.answers[key]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self, **given: Any) -> WorkableClient:
        """A client that asks this Workable."""
        given = {"clock": self.clock, "timeouts": Timeouts(pause=0.0), **given}
        return WorkableClient(httpx.MockTransport(self), **given)
