"""Answers as Workable gives them: status, headers and body, with the source of each shape.

Recorded from the real service: the flat account, the lists, the nested 401, the 404 and the 422, and that
error answers carry no rate-limit headers. From Workable's documentation: the short 401, the 403, the keys of
a recruiter, X-Rate-Limit-Reset on a 429. Not established: the bodies of 405, 429 and 5xx; those here are
plausible, and nothing should depend on them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from linker.sandbox.limits import Allowance
from linker.sandbox.models import Account, Candidate, Job, Member, Recruiter

#: Headers as ASGI wants them: lower-case names, bytes.
Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Headers = ((b"content-type", b"application/json; charset=utf-8"), (b"vary", b"User-Agent"))
_HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"),)
_TEXT: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole answer; `headers` leave out content-length, which whoever sends it adds."""

    status: int
    headers: Headers = _JSON
    body: bytes = b""


def encoded(value: object) -> bytes:
    """Returns JSON without needless blanks, as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def good(value: object, allowance: Allowance | None, *, status: int = 200) -> Answer:
    """Returns a 200 with the rate-limit headers that only good answers carry; none when no limit applies."""
    return Answer(status=status, headers=(*_JSON, *rate_headers(allowance)), body=encoded(value))


def rate_headers(allowance: Allowance | None) -> Headers:
    """Returns X-Rate-Limit-Limit, -Remaining and -Reset (Unix seconds), or nothing when no limit applies."""
    if allowance is None:
        return ()
    return (
        (b"x-rate-limit-limit", b"%d" % allowance.limit),
        (b"x-rate-limit-remaining", b"%d" % allowance.remaining),
        (b"x-rate-limit-reset", b"%d" % allowance.reset),
    )


def throttled(headers: Headers = ()) -> Answer:
    """Returns a 429 with the given headers on top."""
    return Answer(status=429, headers=(*_JSON, *headers), body=encoded({"error": "Rate limit exceeded"}))


def account_body(account: Account) -> dict[str, object]:
    """Returns an account as recorded: flat, with `description` and `summary` often null."""
    return {
        "id": account.id,
        "name": account.name,
        "subdomain": account.subdomain,
        "description": account.description,
        "summary": account.summary,
        "website_url": account.website_url,
    }


def recruiter_body(recruiter: Recruiter) -> dict[str, object]:
    """Returns a recruiter with the keys of Workable's documentation; a filled list was never recorded."""
    return {"id": recruiter.id, "name": recruiter.name, "email": recruiter.email}


def member_body(member: Member) -> dict[str, object]:
    """Returns a member with the recorded keys; what the sandbox does not know has its most common value."""
    admin = member.role == "admin"
    return {
        "id": member.id,
        "name": member.name,
        "headline": None,
        "email": member.email,
        "role": member.role,
        "type": "Member",
        "hris_role": "hris_admin" if admin else None,
        "roles": ["ats.admin", "hris.admin", "workable.superadmin"] if admin else [f"ats.{member.role}"],
        "active": member.active,
        "collaboration_rules": [],
        "hris_member_scope": None,
    }


def job_body(job: Job, base: str) -> dict[str, object]:
    """Returns a job with the keys of Workable's documentation that hosts read."""
    return {
        "id": job.id,
        "title": job.title,
        "full_title": job.title,
        "shortcode": job.shortcode,
        "code": None,
        "state": job.state.value,
        "department": None,
        "url": f"{base}/jobs/{job.shortcode}",
        "created_at": _moment(job.created_at),
    }


def candidate_body(candidate: Candidate, job: Job, account: Account) -> dict[str, object]:
    """Returns a candidate with the keys of Workable's documentation that hosts read."""
    first, _, last = candidate.name.partition(" ")
    return {
        "id": candidate.id,
        "name": candidate.name,
        "firstname": first,
        "lastname": last,
        "headline": None,
        "account": {"subdomain": account.subdomain, "name": account.name},
        "job": {"shortcode": job.shortcode, "title": job.title},
        "stage": candidate.stage,
        "disqualified": False,
        "disqualification_reason": None,
        "sourced": True,
        "email": candidate.email,
        "recruiter_key": candidate.recruiter,
        "created_at": _moment(candidate.created_at),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


#: The stages of a pipeline as a new account has them (Workable's documentation).
STAGES: tuple[dict[str, object], ...] = tuple(
    {"slug": slug, "name": name, "kind": slug.replace("-", "_"), "position": position}
    for position, (slug, name) in enumerate(
        [
            ("sourced", "Sourced"),
            ("applied", "Applied"),
            ("interview", "Interview"),
            ("offer", "Offer"),
            ("hired", "Hired"),
        ]
    )
)


def unprocessable(message: str) -> Answer:
    """Returns a 422 for a body that cannot be taken; the wording is not established."""
    return Answer(status=422, body=encoded({"error": message}))


#: 401 as the real service was seen to answer, three objects deep.
UNAUTHORIZED = Answer(
    status=401,
    body=encoded(
        {
            "error": {
                "error": {
                    "error": {"name": "invalid_token", "state": "unauthorized"},
                    "reason": "unknown",
                    "description": "The access token is invalid",
                }
            }
        }
    ),
)
#: 401 as Workable's documentation shows it.
UNAUTHORIZED_DOCUMENTED = Answer(status=401, body=encoded({"error": "Not authorized"}))
#: 403 for a token that lacks the scope; Workable's documentation, never recorded.
FORBIDDEN = Answer(status=403, body=encoded({"error": "Forbidden"}))
#: 404 as recorded.
NOT_FOUND = Answer(status=404, body=encoded({"error": "Not found"}))
#: 404 in HTML, as Workable's pages answer for an account that is not there.
NOT_FOUND_PAGE = Answer(
    status=404,
    headers=_HTML,
    body=b"<!DOCTYPE html>\n<html><head><title>Workable</title></head>"
    b"<body><h1>This page does not exist</h1></body></html>\n",
)
#: 405; not established. Only candidates are written.
METHOD_NOT_ALLOWED = Answer(
    status=405, headers=(*_JSON, (b"allow", b"GET")), body=encoded({"error": "Method not allowed"})
)
#: 422 as recorded: a good token, and a subdomain that is not its account's.
MISMATCH = Answer(
    status=422,
    headers=(*_JSON, (b"server", b"cloudflare")),
    body=encoded({"error": "Request subdomain does not match account subdomain"}),
)
#: 500; body not established.
SERVER_ERROR = Answer(status=500, body=encoded({"error": "Internal server error"}))
#: 502 of the proxy in front of Workable.
BAD_GATEWAY = Answer(
    status=502,
    headers=(*_HTML, (b"server", b"cloudflare")),
    body=b"<!DOCTYPE html>\n<html><head><title>workable.com | 502: Bad gateway</title></head>"
    b"<body><h1>Bad gateway</h1><p>Error code 502</p></body></html>\n",
)
#: 503 in plain text, an old report of integrators.
UNAVAILABLE = Answer(status=503, headers=_TEXT, body=b"Service Unavailable\n")
#: An HTML page where JSON belongs.
HTML_PAGE = Answer(
    status=200,
    headers=_HTML,
    body=b"<!DOCTYPE html>\n<html><head><title>Workable</title></head>"
    b"<body><h1>Scheduled maintenance</h1></body></html>\n",
)
#: A body that breaks off in the middle of a string.
BROKEN_JSON = Answer(status=200, body=b'{"id": "c71fa", "name": "Acme Rob')
#: A list where an object belongs.
WRONG_SHAPE = Answer(status=200, body=b"[]")
#: An object without any of the expected keys.
MISSING_KEYS = Answer(status=200, body=b'{"unexpected":true}')
#: Nothing at all.
EMPTY = Answer(status=200)


def redirect(location: str) -> Answer:
    """Returns a 302 with an HTML body, as recorded for one wrong host."""
    return Answer(
        status=302,
        headers=(*_HTML, (b"location", location.encode("ascii", "ignore"))),
        body=b"<html><body>You are being redirected.</body></html>\n",
    )
