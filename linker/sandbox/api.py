"""What Workable answers when nothing is wrong: a call goes in, an answer comes out, nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from linker.sandbox import answers
from linker.sandbox.answers import Answer
from linker.sandbox.models import Account
from linker.sandbox.world import World

#: Every path of Workable's API begins with this, after the subdomain.
PREFIX = "/spi/v3"

# A page of members: 50 unless told, 100 at most. Both are how Workable's documentation describes its lists.
_PAGE_MEMBERS = 50
_LONGEST_PAGE_MEMBERS = 100


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
    if account is None or (call.path != "/accounts" and call.subdomain != token.subdomain):
        return answers.MISMATCH
    found = _ACCOUNT_PAGE if call.path == f"/accounts/{call.subdomain}" else _PAGES.get(call.path)
    if found is None:
        return answers.NOT_FOUND
    scope, page = found
    if call.method != "GET":
        return answers.METHOD_NOT_ALLOWED
    if scope not in token.scopes:
        return answers.FORBIDDEN
    return answers.good(page(world, account, call), allowance)


def _recruiters(world: World, account: Account, call: Call) -> dict[str, object]:
    """All recruiters, or those assigned to the job `shortcode`; no paging is documented."""
    shortcode = dict(parse_qsl(call.query)).get("shortcode")
    return {
        "recruiters": [
            answers.recruiter_body(each)
            for each in world.recruiters(account.subdomain)
            if shortcode is None or shortcode in each.shortcodes
        ]
    }


def _members(world: World, account: Account, call: Call) -> dict[str, object]:
    """One page of members from `since_id` on with the asked status; unasked, the active ones (not established).

    The last page has no `paging`, and `since_id` is inclusive (both recorded).
    """
    asked = dict(parse_qsl(call.query))
    status, since = asked.get("status", "active"), _number(asked.get("since_id", ""), 16, 0)
    size = min(max(_number(asked.get("limit", ""), 10, _PAGE_MEMBERS), 1), _LONGEST_PAGE_MEMBERS)
    found = [
        each
        for each in world.members(account.subdomain)
        if (status == "all" or each.active == (status == "active")) and int(each.id, 16) >= since
    ]
    body: dict[str, object] = {"members": [answers.member_body(each) for each in found[:size]]}
    if len(found) > size:
        following = {**asked, "limit": str(size), "since_id": found[size].id}
        body["paging"] = {"next": f"{call.base}/members?{urlencode(following)}"}
    return body


def _number(text: str, base: int, otherwise: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return otherwise


_Page = Callable[[World, Account, Call], dict[str, object]]

#: What is at each path, and the scope that it needs. Candidates and departments are there only to learn whether the
#: token may read them: there are none, and the shape of departments is not established.
_PAGES: dict[str, tuple[str, _Page]] = {
    "/accounts": ("r_jobs", lambda _, account, __: {"accounts": [answers.account_body(account)]}),
    "/recruiters": ("r_jobs", _recruiters),
    "/members": ("r_jobs", _members),
    "/candidates": ("r_candidates", lambda *_: {"candidates": []}),
    "/departments": ("r_account", lambda *_: {"departments": []}),
}
_ACCOUNT_PAGE: tuple[str, _Page] = ("r_jobs", lambda _, account, __: answers.account_body(account))
