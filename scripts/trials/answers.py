"""Odd answers: every status with every kind of body and header, to a candidate and to a linked connection."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import httpx

from linker import ConnectionState, Linker, Settings, new_key
from linker.testing import SettableClock
from scripts.trials.outcome import Outcome

STATUSES = [
    *(200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409),
    *(410, 413, 418, 421, 422, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 520, 522, 525, 530, 599),
]
ERROR = {"error": "Not authorized"}
CLOUDFLARE = {"title": "Error 1015", "status": 429, "error_code": 1015, "ray_id": "8f00", "cloudflare_error": True}
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "an error": json.dumps(ERROR).encode(),
    "a nested error": json.dumps({"error": {"error": {"name": "invalid_token"}}}).encode(),
    "Cloudflare's error": json.dumps(CLOUDFLARE).encode(),
    "a message": b'{"message": "denied"}',
    "a page": b"<!doctype html><title>Maintenance</title>",
    "text": b"Service Unavailable",
    "a list": b"[]",
    "null": b"null",
    "half of it": b'{"recruiters": [{"id": "1", "na',
    "a mark before it": b"\xef\xbb\xbf{}",
    "bytes": b"\x00\xff\xfe\x80",
    "very deep": b"[" * 5000,
    "another shape": b'{"recruiters": {"id": 1}, "id": [], "subdomain": 7}',
    "paging elsewhere": b'{"recruiters": [], "paging": {"next": "https://evil.example/"}}',
}
HEADERS: dict[str, dict[str, str]] = {
    "JSON": {"content-type": "application/json"},
    "HTML": {"content-type": "text/html; charset=utf-8"},
    "no type": {},
    "a time": {"content-type": "application/json", "retry-after": "60"},
    "an odd time": {"content-type": "application/json", "retry-after": "-1"},
    "a challenge": {"content-type": "application/json", "cf-mitigated": "challenge"},
    "a sign-in": {"content-type": "application/json", "www-authenticate": "Basic realm=x"},
    "packed": {"content-type": "application/json", "content-encoding": "gzip"},
    "a limit": {"content-type": "application/json", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "99"},
}
#: Workable's own refusals: an error in JSON, and nothing that says that it comes from elsewhere or passes.
REFUSALS = {401, 403, 404, 422}


class Odd(httpx.AsyncBaseTransport):
    """A Workable that is as it should be until it is told otherwise."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self.recruiters: list[dict[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        if self.answer is not None:
            status, headers, raw = self.answer
            return httpx.Response(status, headers=headers, stream=httpx.ByteStream(raw), request=request)
        subdomain = request.url.host.partition(".")[0]
        account = {"id": f"id{subdomain}", "name": "Acme", "subdomain": subdomain}
        body: dict[str, Any] = {"recruiters": self.recruiters} if "recruiters" in request.url.path else account
        return httpx.Response(200, json=body, request=request)


async def run(most: int) -> Outcome:
    """Give at most so many answers."""
    every = list(itertools.product(STATUSES, BODIES, HEADERS))
    chosen = random.Random(14).sample(every, min(most, len(every)))
    outcome, clock, odd = Outcome(), SettableClock(), Odd()
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    async with httpx.AsyncClient(transport=odd) as http, Linker(settings, http=http, clock=clock) as linker:
        linked = await linker.create(owner="linked")
        linked = await linker.submit_token(linked.id, subdomain="acme", token="a-good-token-of-acme")
        assert linked.recruiter is not None
        odd.recruiters = [{"id": "1", "name": linked.recruiter.name, "email": linked.recruiter.email}]
        linked = await linker.confirm_recruiter(linked.id)
        for number, (status, body, headers) in enumerate(chosen):
            outcome.tried += 1
            named = f"{status}, {body}, {headers}"
            odd.answer = (status, HEADERS[headers], BODIES[body])
            is_refusal = status in REFUSALS and body in {"an error", "a nested error"} and headers in OWN
            waiting = await linker.create(owner=f"waiting-{number}")
            waiting = await linker.submit_token(waiting.id, subdomain=f"s{number}", token="a-good-token-of-somebody")
            if waiting.candidate is None and not is_refusal:
                outcome.lost += 1
                outcome.wrong.append(f"{named}: the token is gone, {waiting.state}, {waiting.problem}")
            if waiting.problem is not None and waiting.problem.code == "poisoned":
                outcome.wrong.append(f"{named}: {waiting.problem}")
            looked = await linker.confirm_recruiter(linked.id)
            if looked.state is not ConnectionState.LINKED or looked.token is None:
                outcome.wrong.append(f"{named}: the link has ended, {looked.state}, {looked.problem}")
            if looked.problem is not None and looked.problem.code == "poisoned":
                outcome.wrong.append(f"{named}: {looked.problem}")
            await linker.unlink(waiting.id)
            odd.answer = None
            clock.advance(hours=2)
            linked = await linker.confirm_recruiter(linked.id)
            if linked.problem is not None:
                outcome.wrong.append(f"{named}: not well again afterwards, {linked.problem}")
    return outcome


#: Headers with which an answer is Workable's own.
OWN = {"JSON", "an odd time", "a limit"}
