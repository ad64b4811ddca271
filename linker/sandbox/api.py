"""What Workable answers when nothing is wrong: a call goes in, an answer comes out, nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

from linker.sandbox import answers
from linker.sandbox.answers import Answer
from linker.sandbox.models import Account, Candidate, Job, Member, WorldError
from linker.sandbox.world import World

#: Every path of Workable's API begins with this, after the subdomain.
PREFIX = "/spi/v3"

# A page of a list: 50 unless told, 100 at most. Both are how Workable's documentation describes its lists.
_PAGE_ENTRIES = 50
_LONGEST_PAGE_ENTRIES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request to Workable's API.

    `path` is what follows `/spi/v3`, with its slash and without the query. `base` is the URL up to and
    including `/spi/v3`, from which `paging.next` is made. `token` is None when the request brought none.
    """

    method: str
    subdomain: str
    path: str
    query: str
    base: str
    token: str | None
    partner: bool
    user_agent: str
    body: bytes = b""


def answer(world: World, call: Call) -> Answer:
    """Returns what Workable would say, and counts the call against the token's limit.

    The order of the refusals (token, limit, account, path, scope) is not established; a wrong token is
    refused first, whatever the subdomain (probed). Which accounts a token reaches may be asked anywhere
    (recorded for `www`), all else only at home.
    """
    token = world.token(call.token) if call.token else None
    if token is None or token.revoked:
        return answers.UNAUTHORIZED
    allowance = world.spend(token, partner=call.partner)
    if allowance is not None and not allowance.granted:
        return answers.throttled(answers.rate_headers(allowance))
    account = world.account(token.subdomain)
    found = _ACCOUNT_PAGE if call.path == f"/accounts/{call.subdomain}" else _PAGES.get(call.path) or _of_a_job(call)
    if account is not None and call.path != "/accounts" and call.subdomain != token.subdomain:
        return answers.MISMATCH
    if account is None or found is None:  # no account: it was closed
        closed = account is None and call.path == "/accounts"
        return answers.good({"accounts": []}, allowance) if closed else answers.NOT_FOUND
    if call.method == "GET":
        if found.scope not in token.scopes:
            return answers.FORBIDDEN
        body = found.page(world, account, call)
        return answers.NOT_FOUND if body is None else answers.good(body, allowance)
    if call.method != "POST" or found.created is None:
        return answers.METHOD_NOT_ALLOWED
    if found.scope.replace("r_", "w_") not in token.scopes:
        return answers.FORBIDDEN
    try:
        return answers.good(found.created(world, account, call), allowance, status=201)
    except WorldError as error:
        return answers.unprocessable(str(error))


Body = dict[str, object]
_Listed = TypeVar("_Listed", Member, Job, Candidate)


class _Endpoint(NamedTuple):
    """What is at a path: the scope that reading it needs, the answer, and what a POST creates there."""

    scope: str
    page: Callable[[World, Account, Call], Body | None]
    created: Callable[[World, Account, Call], Body] | None = None


def _recruiters(world: World, account: Account, call: Call) -> Body:
    """All recruiters, or those assigned to the job `shortcode`; no paging is documented."""
    shortcode = dict(parse_qsl(call.query)).get("shortcode")
    return {
        "recruiters": [
            answers.recruiter_body(each)
            for each in world.recruiters(account.subdomain)
            if shortcode is None or shortcode in each.shortcodes
        ]
    }


def _members(world: World, account: Account, call: Call) -> Body:
    """One page of members with the asked status; unasked, the active ones (not established). `email` is exact."""
    asked = dict(parse_qsl(call.query))
    status = asked.get("status", "active")
    found = [
        each
        for each in world.members(account.subdomain)
        if (status == "all" or each.active == (status == "active")) and asked.get("email") in (None, each.email)
    ]
    return _page(call, "members", found, answers.member_body)


def _jobs(world: World, account: Account, call: Call) -> Body:
    """One page of jobs, of one `state` if it is asked for."""
    state = dict(parse_qsl(call.query)).get("state")
    found = [each for each in world.jobs(account.subdomain) if state in (None, each.state)]
    return _page(call, "jobs", found, lambda job: answers.job_body(job, call.base))


def _job(world: World, account: Account, call: Call) -> Body | None:
    job = world.job(account.subdomain, call.path.split("/")[2])
    return None if job is None else answers.job_body(job, call.base)


def _candidates(world: World, account: Account, call: Call) -> Body | None:
    """One page of candidates: of the job in the path or in `shortcode`, or of all jobs; `email` is exact."""
    asked, parts = dict(parse_qsl(call.query)), call.path.split("/")
    shortcode = parts[2] if len(parts) > 2 else asked.get("shortcode")
    if len(parts) > 2 and world.job(account.subdomain, parts[2]) is None:
        return None
    found = [
        each
        for each in world.candidates(account.subdomain)
        if shortcode in (None, each.shortcode) and asked.get("email") in (None, each.email)
    ]
    return _page(call, "candidates", found, lambda one: _candidate_body(world, account, one))


def _candidate_body(world: World, account: Account, candidate: Candidate) -> Body:
    job = world.job(account.subdomain, candidate.shortcode)
    assert job is not None, "no job is ever taken away"
    return answers.candidate_body(candidate, job, account)


def _create_candidate(world: World, account: Account, call: Call) -> Body:
    """Take `{"candidate": {"name", "email"}, "recruiter_key"}`, the name in two parts if need be (documented).

    Raises `WorldError` for what cannot be taken.
    """
    try:
        given = json.loads(call.body)
        person = given["candidate"]
        name = person.get("name") or f"{person.get('firstname', '')} {person.get('lastname', '')}".strip()
        email, recruiter = person["email"], given.get("recruiter_key")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WorldError("candidate", "must be an object with a name and an email") from None
    if not all(isinstance(each, str) for each in (name, email, recruiter or "")):
        raise WorldError("candidate", "name, email and recruiter_key must be texts")
    shortcode = call.path.split("/")[2]
    made = world.add_candidate(account.subdomain, shortcode, name=name, email=email, recruiter=recruiter)
    return {"status": "created", "candidate": _candidate_body(world, account, made)}


def _page(call: Call, name: str, found: Sequence[_Listed], body: Callable[[_Listed], Body]) -> Body:
    """One page of a list from `since_id` on, which is inclusive; the last page has no `paging` (both recorded)."""
    asked = dict(parse_qsl(call.query))
    since = _number(asked.get("since_id", ""), 16, 0)
    size = min(max(_number(asked.get("limit", ""), 10, _PAGE_ENTRIES), 1), _LONGEST_PAGE_ENTRIES)
    left = [each for each in found if int(each.id, 16) >= since]
    page: Body = {name: [body(each) for each in left[:size]]}
    if len(left) > size:
        following = {**asked, "limit": str(size), "since_id": left[size].id}
        page["paging"] = {"next": f"{call.base}{call.path}?{urlencode(following)}"}
    return page


def _number(text: str, base: int, otherwise: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return otherwise


def _of_a_job(call: Call) -> _Endpoint | None:
    """What is at `/jobs/{shortcode}` and below."""
    _, first, *rest = call.path.split("/") if call.path else ("", "")
    if first != "jobs" or not rest or not rest[0]:
        return None
    return _OF_A_JOB.get("/".join(rest[1:]))


#: What is at each path, and the scope that it needs. Departments, employees and time off are there only to learn
#: whether the token may read them: there are none.
_PAGES: dict[str, _Endpoint] = {
    "/accounts": _Endpoint("r_jobs", lambda _, account, __: {"accounts": [answers.account_body(account)]}),
    "/recruiters": _Endpoint("r_jobs", _recruiters),
    "/members": _Endpoint("r_jobs", _members),
    "/jobs": _Endpoint("r_jobs", _jobs),
    "/stages": _Endpoint("r_jobs", lambda *_: {"stages": list(answers.STAGES)}),
    "/candidates": _Endpoint("r_candidates", _candidates),
    "/departments": _Endpoint("r_account", lambda *_: {"departments": []}),
    "/employees": _Endpoint("r_employees", lambda *_: {"totalCount": 0, "employees": []}),
    "/timeoff/categories": _Endpoint("r_timeoff", lambda *_: {"categories": []}),
}
_OF_A_JOB: dict[str, _Endpoint] = {
    "": _Endpoint("r_jobs", _job),
    "candidates": _Endpoint("r_candidates", _candidates, _create_candidate),
    "stages": _Endpoint("r_jobs", lambda *_: {"stages": list(answers.STAGES)}),
}
_ACCOUNT_PAGE = _Endpoint("r_jobs", lambda _, account, __: answers.account_body(account))
