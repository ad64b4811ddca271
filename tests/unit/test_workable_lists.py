"""Lists to their end, names as they are, e-mails as ASCII, and what comes from the edge and not from Workable."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.engine.ports import Answer
from linker.workable.api import MOST_FURTHER_PAGES
from states.problems import NearMiss, NearMissKind
from states.table import RECRUITERS
from states.verdicts import (
    AccountReadable,
    CredentialRefused,
    Forbidden,
    NotUnderstood,
    OverLimit,
    RecruiterNotSeen,
    RecruiterSeen,
    Unavailable,
    Verdict,
    WrongAccount,
)
from tests.unit.workable_helpers import ACME, NOON, OURS, TOKEN, FakeWorkable, json, recruiter, recruiters

HERE = "https://acme.workable.com/spi/v3/recruiters"
WITHOUT_END = NotUnderstood("list_without_end", call=RECRUITERS)


def page(number: int, *listed: Any, following: object = None) -> httpx.Response:
    """A page of external recruiters; strangers if none are given."""
    body: dict[str, Any] = {"recruiters": list(listed) or [recruiter(f"r{number}@agency.example", id=str(number))]}
    return json(200, body if following is None else body | {"paging": {"next": following}})


async def look(*pages: Any) -> Verdict:
    """Look for ours in a list of these pages."""
    return (await FakeWorkable(recruiters=list(pages)).client().look("acme", TOKEN, OURS)).verdict


@pytest.mark.parametrize("at", range(1, MOST_FURTHER_PAGES + 2))
async def test_ours_is_found_on_any_page(at: int) -> None:
    """Whatever the documentation says of paging: `paging.next` is followed."""
    pages = [page(n, following=f"{HERE}?since_id={n}") for n in range(1, at)]
    assert await look(*pages, page(at, recruiter(OURS.email), following=f"{HERE}?since_id=z")) == RecruiterSeen(
        "2b81ff"
    )


async def test_the_end_of_the_list_says_that_ours_is_not_in_it() -> None:
    """And how many others there are, over all pages."""
    verdict = await look(page(1, following=f"{HERE}?since_id=1"), page(2, following=f"{HERE}?since_id=2"), page(3))
    assert verdict == RecruiterNotSeen(NearMiss(kind=NearMissKind.OTHERS, others=3))


@pytest.mark.parametrize("following", [None, "", False, {}])
async def test_no_next_page_is_the_end(following: object) -> None:
    """However that is said."""
    reply = json(200, {"recruiters": [], "paging": {"next": following} if following != {} else {}})
    assert await look(reply) == RecruiterNotSeen(NearMiss(kind=NearMissKind.NONE))


@pytest.mark.parametrize(
    "following",
    [
        *("https://evil.example/spi/v3/recruiters", "https://other.workable.com/spi/v3/recruiters"),
        *("http://acme.workable.com/spi/v3/recruiters", "https://acme.workable.com:444/spi/v3/recruiters"),
        *("https://acme.workable.com@evil.example/spi/v3/x", "https://u:p@acme.workable.com/spi/v3/recruiters"),
        *("https://acme.workable.com/spi/v3/../../admin", "/spi/v3/recruiters?since_id=2", "?since_id=2", "next"),
        *(7, True, ["x"], {"url": HERE}, "https://[", "x" * 3000),
    ],
    ids=str,
)
async def test_a_page_that_cannot_be_followed_makes_the_list_incomplete(following: object) -> None:
    """No token goes elsewhere, and an incomplete list never says that ours is not in it."""
    workable = FakeWorkable(recruiters=page(1, following=following))
    assert (await workable.client().look("acme", TOKEN, OURS)).verdict == WITHOUT_END
    assert len(workable.asked) == 1


async def test_paging_of_another_shape_makes_the_list_incomplete() -> None:
    """It says that there is more, and not where."""
    assert await look(json(200, {"recruiters": [], "paging": f"{HERE}?since_id=2"})) == WITHOUT_END


async def test_a_list_that_leads_back_is_not_followed_for_ever() -> None:
    """A page that was asked for already is not asked for again."""
    assert await look(page(1, following=f"{HERE}?since_id=abc")) == WITHOUT_END


async def test_a_list_without_end_is_not_followed_for_ever() -> None:
    """The most pages that are followed end it; all are counted, so that the next look waits."""
    workable = FakeWorkable(recruiters=[page(n, following=f"{HERE}?since_id={n}") for n in range(1, 50)])
    client = workable.client()
    assert (await client.look("acme", TOKEN, OURS)).verdict == WITHOUT_END
    assert len(workable.asked) == MOST_FURTHER_PAGES + 1
    assert (await client.look("acme", TOKEN, OURS)).verdict == OverLimit(NOON + timedelta(seconds=10), unasked=True)
    workable.clock.go_on(10)
    assert (await client.look("acme", TOKEN, OURS)).verdict == WITHOUT_END


async def test_workables_own_word_stops_a_list() -> None:
    """That is an answer of Workable's, and no limit of ours that was known before."""
    told = {"x-rate-limit-limit": "10", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "9"}
    first = page(1, following=f"{HERE}?since_id=1")
    first.headers.update(told)
    verdict = await look(first, page(2))
    assert isinstance(verdict, OverLimit)
    assert not verdict.unasked


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (json(401, {"error": "Not authorized"}), CredentialRefused()),
        (httpx.Response(503), Unavailable()),
        (httpx.ReadTimeout("t"), Unavailable()),
        (json(404, {"error": "Not found"}), WITHOUT_END),
        (json(200, {"members": []}), NotUnderstood("other_shape", call=RECRUITERS)),
    ],
)
async def test_trouble_on_a_further_page_is_no_absence(reply: Any, expected: Verdict) -> None:
    """What the page said counts, and not that ours was not on the pages before."""
    assert await look(page(1, following=f"{HERE}?since_id=2"), reply) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.booleans())
async def test_whatever_the_pages_ours_is_absent_only_from_a_whole_list(has_ours: list[bool], is_whole: bool) -> None:
    """Seen if it is on a page; else absent if the list came to its end; else neither."""
    pages = []
    for number, ours in enumerate(has_ours):
        last = number == len(has_ours) - 1
        following = (None if is_whole else "https://evil.example/") if last else f"{HERE}?since_id={number}"
        pages.append(page(number, *([recruiter(OURS.email)] if ours else []), following=following))
    verdict = await look(*pages)
    assert isinstance(verdict, RecruiterSeen) is any(has_ours)
    assert isinstance(verdict, RecruiterNotSeen) is (is_whole and not any(has_ours))


# e-mails and names


LOCAL, DOMAIN = OURS.email.split("@")


@pytest.mark.parametrize("theirs", [OURS.email.upper(), f" {OURS.email}\n", OURS.email.title()])
async def test_capitals_and_blanks_make_no_difference(theirs: str) -> None:
    """Workable keeps an e-mail as it was typed."""
    assert await look(page(1, recruiter(theirs))) == RecruiterSeen("2b81ff")


@pytest.mark.parametrize(
    "theirs",
    [
        OURS.email.replace("k", "\u212a"),  # the Kelvin sign is a plain k when it is lowered
        OURS.email.replace("s", "\u017f", 1),  # the long s is a plain s when its case is folded
        OURS.email.replace("a", "\u0430", 1),
        OURS.email.replace("i", "\u0131", 1),
        OURS.email + "\u200b",
        "\ufeff" + OURS.email,
        OURS.email.replace("@", "\uff20"),
        OURS.email.replace(".", "\u3002"),
        f"{LOCAL}@{DOMAIN}.",
        f"{LOCAL}@{DOMAIN}\u00a0",
    ],
    ids=ascii,
)
async def test_what_only_looks_alike_is_not_ours(theirs: str) -> None:
    """E-mails are compared as ASCII; the customer is told of the slip."""
    verdict = await look(page(1, recruiter(theirs)))
    assert isinstance(verdict, RecruiterNotSeen)
    assert verdict.near_miss is not None
    assert verdict.near_miss.kind in {NearMissKind.SLIP, NearMissKind.SLIP_AT_START}


@given(st.text(max_size=60))
async def test_no_other_text_is_our_email(theirs: str) -> None:
    """Only ours with other capitals of ASCII, with blanks of ASCII around it."""
    seen = isinstance(await look(page(1, recruiter(theirs))), RecruiterSeen)
    assert seen == (theirs.isascii() and theirs.strip().lower() == OURS.email)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, name) for name in ("株式会社\u3000東京", "Dupont\u00a0&\u00a0Fils", "می\u200cخواهم")),
        *((name, name) for name in ("👨\u200d👩\u200d👧 Care", "10\u202f000 Talents", "Zoë")),
        *((f"Acme{blank}Robotics", "Acme Robotics") for blank in "\n\t\r\v\f\x85\u2028\u2029"),
        *((f"Acme{odd} Robotics", "Acme Robotics") for odd in ("\x1b", "\x00", "\x9b", "\x7f", "\u202e", "\u2066")),
        (" \u3000Acme\n", "Acme"),
    ],
)
async def test_an_accounts_name_keeps_its_blanks(name: str, kept: str) -> None:
    """As Workable writes it: only what is no part of a name is left out, and no words run together."""
    verdict = (await FakeWorkable(account=json(200, ACME | {"name": name})).client().verify("acme", TOKEN)).verdict
    assert isinstance(verdict, AccountReadable)
    assert verdict.account.name == kept


# the edge


CLOUDFLARE = {
    "type": "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/",
    "title": "Error 1015: You are being rate limited",
    "status": 429,
    "error_code": 1015,
    "ray_id": "8f0000000000abcd",
    "cloudflare_error": True,
}
REFUSED = {"error": "Not authorized"}
AT_EDGE: dict[str, tuple[dict[str, str], Any]] = {
    "Cloudflare's JSON": ({}, CLOUDFLARE),
    "Cloudflare's JSON with an error": ({}, {"error": "Forbidden", "ray_id": "8f0000000000abcd"}),
    "Cloudflare's problem": ({"content-type": "application/problem+json; charset=utf-8"}, CLOUDFLARE),
    "Cloudflare's API": ({}, {"success": False, "errors": [{"code": 1020, "message": "denied"}]}),
    "a number of Cloudflare's": ({}, {"error": "denied", "error_code": 1020}),
    "a challenge": ({"cf-mitigated": "challenge"}, REFUSED),
    "Basic": ({"www-authenticate": 'Basic realm="staging"'}, REFUSED),
    "basic": ({"www-authenticate": "basic"}, REFUSED),
    "NTLM": ({"www-authenticate": "NTLM"}, REFUSED),
    "a proxy's sign-in": ({"proxy-authenticate": "Basic"}, REFUSED),
    "a proxy that failed": ({"proxy-status": "egress; error=http_request_denied"}, REFUSED),
    "Squid": ({"x-squid-error": "ERR_ACCESS_DENIED 0"}, REFUSED),
}


async def both(reply: httpx.Response) -> tuple[Answer, Answer]:
    """What a verification and a look make of an answer."""
    return (
        await FakeWorkable(account=reply).client().verify("acme", TOKEN),
        await FakeWorkable(recruiters=reply).client().look("acme", TOKEN, OURS),
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 409, 422])
@pytest.mark.parametrize("where", AT_EDGE)
async def test_an_answer_of_the_edge_is_no_verdict_on_a_token(where: str, status: int) -> None:
    """Whatever its status is, and whatever error it holds; the evidence says where it comes from."""
    headers, body = AT_EDGE[where]
    for answer in await both(json(status, body, **headers)):
        assert answer.verdict == Unavailable()
        assert answer.evidence["calls"][0]["note"] == "edge"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 407, 409, 422, 500, 503, 530])
@pytest.mark.parametrize("where", [None, *AT_EDGE])
async def test_a_time_that_is_named_is_heeded_whatever_the_status(where: str | None, status: int) -> None:
    """Who names one says that this passes."""
    headers, body = AT_EDGE[where] if where else ({}, REFUSED)
    for answer in await both(json(status, body, **headers, **{"retry-after": "120"})):
        assert answer.verdict == Unavailable(NOON + timedelta(seconds=120))


async def test_the_time_in_cloudflares_own_json_is_heeded() -> None:
    """Where no header says it."""
    for answer in await both(json(403, CLOUDFLARE | {"retry_after": 30})):
        assert answer.verdict == Unavailable(NOON + timedelta(seconds=30))


@pytest.mark.parametrize("where", AT_EDGE)
async def test_a_limit_of_the_edge_is_a_limit(where: str) -> None:
    """429 is one, whoever says it."""
    headers, body = AT_EDGE[where]
    for answer in await both(json(429, body, **headers, **{"retry-after": "60"})):
        assert answer.verdict == OverLimit(NOON + timedelta(seconds=60))


@pytest.mark.parametrize(
    ("status", "expected"), [(401, CredentialRefused()), (403, Forbidden("r_jobs")), (422, WrongAccount(("acme-eu",)))]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"www-authenticate": "Bearer"},
        {"www-authenticate": 'Token realm="Application"'},
        {"server": "cloudflare", "cf-ray": "8f0000000000abcd-FRA", "cf-cache-status": "DYNAMIC"},
        {"proxy-status": "ExampleCDN; fwd=miss"},
        {"retry-after": "soon"},
    ],
    ids=str,
)
async def test_workables_own_refusal_is_one_though_an_edge_passed_it_on(
    headers: dict[str, str], status: int, expected: Verdict
) -> None:
    """All of Workable's answers come through Cloudflare."""
    workable = FakeWorkable(
        account=json(status, {"error": "Forbidden"}, **headers),
        accounts=json(200, {"accounts": [{"subdomain": "acme-eu"}]}),
    )
    assert (await workable.client().verify("acme", TOKEN)).verdict == expected


async def test_a_list_of_nobody_is_a_list() -> None:
    """The one that was recorded."""
    assert await look(recruiters()) == RecruiterNotSeen(NearMiss(kind=NearMissKind.NONE))
