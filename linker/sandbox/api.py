"""What Workable answers when nothing is wrong: a call goes in, an answer comes out, nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from linker.sandbox import answers
from linker.sandbox.answers import Answer
from linker.sandbox.limits import Allowance
from linker.sandbox.models import Account, Member, Token
from linker.sandbox.world import World

#: Every path of Workable's API begins with this, after the subdomain.
PREFIX = "/spi/v3"

# A page of members: 50 unless told, 100 at most. Both are how Workable's documentation describes its lists.
_PAGE = 50
_LONGEST_PAGE = 100


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Visit:
    """A call that was let in: its account is there and its token is good for it."""

    world: World
    call: Call
    token: Token
    account: Account
    allowance: Allowance | None

    def parameters(self) -> dict[str, str]:
        """The query, the last value of each name."""
        return {name: values[-1] for name, values in parse_qs(self.call.query).items()}


def answer(world: World, call: Call) -> Answer:
    """Returns what Workable would say, and counts the call against the token's limit.

    The order of the refusals (token, limit, account, path, scope) is not established; a wrong token is
    refused first, whatever the subdomain (probed).
    """
    token = world.token(call.token) if call.token else None
    if token is None or token.revoked:
        return answers.UNAUTHORIZED
    allowance = world.spend(token, partner=call.partner)
    if allowance is not None and not allowance.granted:
        return answers.throttled(answers.rate_headers(allowance))
    account = world.account(token.subdomain)
    if account is None or not _may_enter(call, token):
        return answers.MISMATCH
    return _routed(_Visit(world=world, call=call, token=token, account=account, allowance=allowance))


def _may_enter(call: Call, token: Token) -> bool:
    """Which accounts a token reaches may be asked anywhere (recorded for `www`); all else only at home."""
    return call.path == "/accounts" or call.subdomain == token.subdomain


def _routed(visit: _Visit) -> Answer:
    scope_and_page = _PAGES.get(visit.call.path) or _account_page(visit.call)
    if scope_and_page is None:
        return answers.NOT_FOUND
    if visit.call.method != "GET":
        return answers.METHOD_NOT_ALLOWED
    scope, page = scope_and_page
    if scope not in visit.token.scopes:
        return answers.FORBIDDEN
    return answers.good(page(visit), visit.allowance)


def _account_page(call: Call) -> tuple[str, _Page] | None:
    return ("r_jobs", _account) if call.path == f"/accounts/{call.subdomain}" else None


def _account(visit: _Visit) -> dict[str, object]:
    return answers.account_body(visit.account)


def _accounts(visit: _Visit) -> dict[str, object]:
    return {"accounts": [answers.account_body(visit.account)]}


def _recruiters(visit: _Visit) -> dict[str, object]:
    """All recruiters, or those assigned to the job `shortcode`; no paging is documented."""
    shortcode = visit.parameters().get("shortcode")
    return {
        "recruiters": [
            answers.recruiter_body(each)
            for each in visit.world.recruiters(visit.account.subdomain)
            if shortcode is None or shortcode in each.shortcodes
        ]
    }


def _members(visit: _Visit) -> dict[str, object]:
    """One page of members; the last one has no `paging`, and `since_id` is inclusive (both recorded)."""
    asked = visit.parameters()
    found = _members_asked_for(visit, asked)
    size = _page_size(asked.get("limit", ""))
    body: dict[str, object] = {"members": [answers.member_body(each) for each in found[:size]]}
    if len(found) > size:
        following = {**asked, "limit": str(size), "since_id": found[size].id}
        body["paging"] = {"next": f"{visit.call.base}/members?{urlencode(following)}"}
    return body


def _members_asked_for(visit: _Visit, asked: dict[str, str]) -> list[Member]:
    """Members from `since_id` on with the asked status; unasked, the active ones (not established)."""
    status = asked.get("status", "active")
    since = asked.get("since_id", "")
    return [
        each
        for each in visit.world.members(visit.account.subdomain)
        if (status == "all" or each.active == (status == "active")) and int(each.id, 16) >= _number(since, 16, 0)
    ]


def _page_size(text: str) -> int:
    return min(max(_number(text, 10, _PAGE), 1), _LONGEST_PAGE)


def _number(text: str, base: int, otherwise: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return otherwise


def _candidates(_: _Visit) -> dict[str, object]:
    """No candidates: the call is only there to learn whether the token may read them."""
    return {"candidates": []}


def _departments(_: _Visit) -> dict[str, object]:
    """No departments: as with candidates. The shape is not established."""
    return {"departments": []}


_Page = Callable[[_Visit], dict[str, object]]

_PAGES: dict[str, tuple[str, _Page]] = {
    "/accounts": ("r_jobs", _accounts),
    "/recruiters": ("r_jobs", _recruiters),
    "/members": ("r_jobs", _members),
    "/candidates": ("r_candidates", _candidates),
    "/departments": ("r_account", _departments),
}
