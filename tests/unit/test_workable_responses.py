from __future__ import annotations

import gzip
from datetime import timedelta
from email.utils import format_datetime
from json import dumps as encode
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.engine.ports import Answer
from linker.wording import catalogue
from linker.workable.api import MAX_ANSWER_BYTES
from linker.workable.responses import Page, judge_body, judge_head
from states.connection import Account
from states.duties import HINT_CALLS_FOR_A_PERSON
from states.problems import NearMiss, NearMissKind
from states.table import ACCOUNT, RECRUITERS
from states.verdicts import (
    AccountNotThere,
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
from tests.unit.workable_helpers import (
    ACME,
    FORBIDDEN,
    MISMATCH,
    MISSING,
    NOON,
    OURS,
    REFUSED,
    TOKEN,
    FakeWorkable,
    Reply,
    html,
    json,
    recruiter,
    recruiters,
)

READABLE = AccountReadable(Account(id="c71fa", name="Acme Robotics", subdomain="acme"))


async def verify(workable: FakeWorkable) -> Answer:
    """Verify our token for acme."""
    return await workable.client().verify("acme", TOKEN)


async def look(workable: FakeWorkable, *, extra_calls: int = HINT_CALLS_FOR_A_PERSON) -> Answer:
    """Look for our recruiter in acme."""
    return await workable.client().look("acme", TOKEN, OURS, extra_calls=extra_calls)


def after(seconds: float) -> Any:
    """A time that many seconds from noon."""
    return NOON + timedelta(seconds=seconds)


#: Every way of failing, and its verdict on any call of the flow. `NotUnderstood` stands for any reason.
FAILURES: dict[str, tuple[Reply, Verdict | type[Verdict]]] = {
    "401 nested": (json(401, REFUSED), CredentialRefused()),
    "401 text": (json(401, {"error": "Not authorized"}), CredentialRefused()),
    "401 web page": (html(401), Unavailable()),
    "401 empty": (httpx.Response(401), NotUnderstood),
    "401 plain text": (httpx.Response(401, text="Not authorized"), NotUnderstood),
    "401 foreign JSON": (json(401, {"message": "denied by the gateway"}), NotUnderstood),
    "401 problem JSON": (
        httpx.Response(401, content=b'{"error": 1}', headers={"content-type": "application/problem+json"}),
        NotUnderstood,
    ),
    "403": (json(403, FORBIDDEN), Forbidden("r_jobs")),
    "403 web page": (html(403), Unavailable()),
    "403 empty": (httpx.Response(403), NotUnderstood),
    "422 web page": (html(422), Unavailable()),
    "404 web page": (html(404), Unavailable()),
    "400": (json(400, {"error": "Bad request"}), NotUnderstood),
    "402": (json(402, {"error": "Payment required"}), NotUnderstood),
    "408": (httpx.Response(408), Unavailable()),
    "204": (httpx.Response(204), NotUnderstood),
    "201": (json(201, ACME), NotUnderstood),
    "429": (httpx.Response(429), OverLimit(after(10))),
    "429 with Retry-After": (httpx.Response(429, headers={"retry-after": "30"}), OverLimit(after(30))),
    "429 with a date": (
        httpx.Response(429, headers={"retry-after": format_datetime(after(90), usegmt=True)}),
        OverLimit(after(90)),
    ),
    "429 with a past date": (
        httpx.Response(429, headers={"retry-after": format_datetime(after(-90), usegmt=True)}),
        OverLimit(after(1)),
    ),
    "429 without delay": (httpx.Response(429, headers={"retry-after": "0"}), OverLimit(after(1))),
    "429 for ages": (httpx.Response(429, headers={"retry-after": "9999999"}), OverLimit(after(3600))),
    "429 with nonsense": (httpx.Response(429, headers={"retry-after": "soon"}), OverLimit(after(10))),
    "429 with a reset": (
        httpx.Response(429, headers={"x-rate-limit-reset": str(int(after(7).timestamp()))}),
        OverLimit(after(7)),
    ),
    "429 with a past reset": (
        httpx.Response(429, headers={"x-rate-limit-reset": str(int(after(-7).timestamp()))}),
        OverLimit(after(10)),
    ),
    "429 with a far reset": (
        httpx.Response(429, headers={"x-rate-limit-reset": str(int(after(99_999).timestamp()))}),
        OverLimit(after(10)),
    ),
    "429 with a reset by another clock": (
        httpx.Response(
            429,
            headers={
                "date": format_datetime(after(7200), usegmt=True),
                "x-rate-limit-reset": str(int(after(7204).timestamp())),
            },
        ),
        OverLimit(after(4)),
    ),
    "429 with a date by another clock": (
        httpx.Response(
            429,
            headers={
                "date": format_datetime(after(-7200), usegmt=True),
                "retry-after": format_datetime(after(-7140), usegmt=True),
            },
        ),
        OverLimit(after(60)),
    ),
    "429 with a date that is none": (
        httpx.Response(429, headers={"date": "soon", "x-rate-limit-reset": str(int(after(6).timestamp()))}),
        OverLimit(after(6)),
    ),
    "429 with both": (
        httpx.Response(429, headers={"retry-after": "3", "x-rate-limit-reset": str(int(after(7).timestamp()))}),
        OverLimit(after(3)),
    ),
    "429 web page": (httpx.Response(429, html="<p>slow down", headers={"retry-after": "5"}), OverLimit(after(5))),
    "500": (json(500, {"error": "Internal"}), Unavailable()),
    "503 plain text": (httpx.Response(503, text="slow"), Unavailable()),
    "503 with Retry-After": (httpx.Response(503, headers={"retry-after": "60"}), Unavailable(after(60))),
    "503 web page": (html(503), Unavailable()),
    "520": (httpx.Response(520), Unavailable()),
    "302": (httpx.Response(302, headers={"location": "https://evil.example/"}), Unavailable()),
    "301 to itself": (httpx.Response(301, headers={"location": "/login"}), Unavailable()),
    "304": (httpx.Response(304), Unavailable()),
    "200 web page": (html(200), Unavailable()),
    "200 no content type": (httpx.Response(200, content=b"{}"), NotUnderstood),
    "200 plain text": (httpx.Response(200, text="{}"), NotUnderstood),
    "200 empty": (httpx.Response(200, headers={"content-type": "application/json"}), NotUnderstood),
    "200 broken JSON": (
        httpx.Response(200, content=b'{"id": ', headers={"content-type": "application/json"}),
        NotUnderstood,
    ),
    "200 no UTF-8": (
        httpx.Response(200, content=b'{"a":"\xff"}', headers={"content-type": "application/json"}),
        NotUnderstood,
    ),
    "200 deep JSON": (
        httpx.Response(200, content=b"[" * 200_000, headers={"content-type": "application/json"}),
        NotUnderstood,
    ),
    "200 long number": (
        httpx.Response(200, content=b'{"id":' + b"9" * 9000 + b"}", headers={"content-type": "application/json"}),
        NotUnderstood,
    ),
    "200 null": (json(200, None), NotUnderstood),
    "200 list": (json(200, [ACME]), NotUnderstood),
    "200 empty object": (json(200, {}), NotUnderstood),
    "200 huge": (json(200, {"id": "x" * MAX_ANSWER_BYTES}), NotUnderstood),
    "connect time-out": (httpx.ConnectTimeout("t"), Unavailable()),
    "read time-out": (httpx.ReadTimeout("t"), Unavailable()),
    "pool time-out": (httpx.PoolTimeout("t"), Unavailable()),
    "no such host": (httpx.ConnectError("dns"), Unavailable()),
    "cut": (httpx.RemoteProtocolError("cut"), Unavailable()),
    "reset": (httpx.ReadError("reset"), Unavailable()),
    "socket error": (ConnectionResetError("reset"), Unavailable()),
}


def assert_is(verdict: Verdict, expected: Verdict | type[Verdict]) -> None:
    """The verdict is this one, or one of this kind, that holds nothing but codes of ours."""
    if isinstance(expected, Verdict):
        assert verdict == expected
        return
    assert isinstance(verdict, expected)
    if isinstance(verdict, NotUnderstood):
        assert verdict.answer in ANSWERS
        assert verdict.call in {None, ACCOUNT, RECRUITERS}
        assert verdict.status is None or 100 <= verdict.status <= 999
        assert verdict.status or verdict.call
        assert catalogue().text(f"answer.{verdict.answer}", verdict.params)


#: What an answer can be that no rule covers. The texts are stored: they never change.
ANSWERS = {
    *("not_json", "too_large", "not_an_object", "no_rule"),
    *("other_shape", "no_list", "recruiter_without_id", "list_without_end"),
}


#: What the old address of a renamed account may answer: then www is asked which accounts the token reaches.
LEADING_AWAY = {"404 web page", "302", "301 to itself", "304"}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("call", ["account", "recruiters"])
async def test_every_failure_of_a_verification_has_its_verdict(failure: str, call: str) -> None:
    """Whichever of the two calls fails, a verification ends in the verdict of that failure."""
    reply, expected = FAILURES[failure]
    workable = FakeWorkable(**{call: reply})
    answer = await verify(workable)
    assert_is(answer.verdict, expected)
    asked_for_accounts = call == "account" and failure in LEADING_AWAY
    assert len(workable.asked) == (1 if call == "account" else 2) + asked_for_accounts


@pytest.mark.parametrize("failure", FAILURES)
async def test_every_failure_of_a_look_has_its_verdict(failure: str) -> None:
    """A look ends in the verdict of its failure, with the call and what came of it as evidence."""
    reply, expected = FAILURES[failure]
    answer = await look(FakeWorkable(recruiters=reply))
    assert_is(answer.verdict, expected)
    made, *more = answer.evidence["calls"]
    assert made["call"] == "GET /recruiters"
    assert [one["call"] for one in more] == (["GET /accounts"] if failure in LEADING_AWAY else [])
    assert made["ms"] >= 0
    assert made.get("status") == (reply.status_code if isinstance(reply, httpx.Response) else None)
    assert set(made) <= {"call", "status", "ms", "note"}
    if isinstance(answer.verdict, NotUnderstood) and answer.verdict.call is None:
        assert made["note"] == answer.verdict.answer
    if "note" in made:
        said = catalogue().text(f"note.{made['note']}", made)
        assert said if isinstance(reply, httpx.Response) else made["note"] == type(reply).__name__


@pytest.mark.parametrize("failure", FAILURES)
async def test_trouble_with_the_infrastructure_is_never_a_credential_problem(failure: str) -> None:
    """Only Workable's own JSON with status 401 or 403 says anything about the token."""
    verdict = (await verify(FakeWorkable(account=FAILURES[failure][0]))).verdict
    if isinstance(verdict, CredentialRefused | Forbidden | WrongAccount):
        assert failure in ("401 nested", "401 text", "403")


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        ("302", "redirect"),
        ("200 web page", "web_page"),
        ("401 web page", "web_page"),
        ("503 web page", None),
        ("401 empty", "not_json"),
        ("204", "not_json"),
        ("401 problem JSON", "not_json"),
        ("200 huge", "too_large"),
        ("200 broken JSON", "not_an_object"),
        ("200 list", "not_an_object"),
        ("400", "no_rule"),
        ("401 foreign JSON", "no_rule"),
        ("401 nested", None),
        ("connect time-out", "ConnectTimeout"),
    ],
)
async def test_what_the_status_does_not_tell_is_a_code_in_the_evidence(failure: str, note: str | None) -> None:
    """An operator reads what the answer was; a program that reads the history needs no sentence for it."""
    made = (await look(FakeWorkable(recruiters=FAILURES[failure][0]))).evidence["calls"][0]
    assert made.get("note") == note


async def test_a_good_token_reads_account_and_recruiters() -> None:
    """A verification makes two calls and gives the account, with both calls as evidence."""
    workable = FakeWorkable()
    answer = await verify(workable)
    assert answer.verdict == READABLE
    assert workable.paths == [
        "https://acme.workable.com/spi/v3/accounts/acme",
        "https://acme.workable.com/spi/v3/recruiters",
    ]
    assert [(made["call"], made["status"]) for made in answer.evidence["calls"]] == [
        ("GET /accounts/{subdomain}", 200),
        ("GET /recruiters", 200),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ACME | {"id": 7}, AccountReadable(Account(id="7", name="Acme Robotics", subdomain="acme"))),
        (ACME | {"subdomain": "ACME"}, READABLE),
        (ACME | {"name": "A\x00c\ud800me\n"}, AccountReadable(Account(id="c71fa", name="Acme", subdomain="acme"))),
        (ACME | {"name": " "}, AccountReadable(Account(id="c71fa", name="acme", subdomain="acme"))),
        (ACME | {"name": "x" * 900}, AccountReadable(Account(id="c71fa", name="x" * 200, subdomain="acme"))),
        (ACME | {"subdomain": "acme-eu"}, WrongAccount(("acme-eu",))),
        (ACME | {"subdomain": "evil.example"}, NotUnderstood),
        (ACME | {"subdomain": None}, NotUnderstood),
        (ACME | {"id": None}, NotUnderstood),
        (ACME | {"id": ""}, NotUnderstood),
        (ACME | {"id": True}, NotUnderstood),
        (ACME | {"id": "x" * 65}, NotUnderstood),
        (ACME | {"id": "a\x00"}, NotUnderstood),
        (ACME | {"id": ["c71fa"]}, NotUnderstood),
        (ACME | {"name": None}, NotUnderstood),
        ({"id": "c71fa", "name": "Acme"}, NotUnderstood),
        ({"account": ACME}, NotUnderstood),
    ],
)
async def test_the_account_is_read_strictly(body: Any, expected: Verdict | type[Verdict]) -> None:
    """An account of another shape is not understood, and one with another subdomain is another account."""
    content = encode(body).encode()
    reply = httpx.Response(200, content=content, headers={"content-type": "application/json; charset=utf-8"})
    assert_is((await verify(FakeWorkable(account=reply))).verdict, expected)


@pytest.mark.parametrize("reply", [json(422, MISMATCH), json(404, MISSING)])
async def test_a_mismatch_names_the_accounts_that_the_token_reaches(reply: httpx.Response) -> None:
    """After 422, or 404 twice, www is asked which accounts the token reaches; only plain labels are named."""
    listed = [{"subdomain": name} for name in ("acme-eu", "Globex", "acme", "evil.example", None, 7, "acme-eu")]
    workable = FakeWorkable(account=reply, accounts=json(200, {"accounts": [*listed, None, "x"]}))
    answer = await verify(workable)
    assert answer.verdict == WrongAccount(("acme-eu", "globex"))
    assert workable.paths[-1] == "https://www.workable.com/spi/v3/accounts"
    assert answer.evidence["calls"][-1]["call"] == "GET /accounts"


@pytest.mark.parametrize(
    "reply", [json(401, REFUSED), html(503), httpx.ReadTimeout("t"), json(200, {}), json(200, {"accounts": 7})]
)
async def test_a_mismatch_stands_without_the_names(reply: Reply) -> None:
    """If the question for the accounts fails, the mismatch stands without names."""
    workable = FakeWorkable(account=json(422, MISMATCH), accounts=reply)
    assert (await verify(workable)).verdict == WrongAccount()


async def test_a_mismatch_on_the_second_call_is_one() -> None:
    """The list of recruiters can tell of a mismatch too."""
    workable = FakeWorkable(recruiters=json(422, MISMATCH), accounts=json(200, {"accounts": [{"subdomain": "x"}]}))
    assert (await verify(workable)).verdict == WrongAccount(("x",))


async def test_a_single_404_is_no_verdict() -> None:
    """A call that is answered with 404 is made once more, and the second answer counts."""
    workable = FakeWorkable(
        account=[json(404, MISSING), json(200, ACME)], recruiters=[json(404, MISSING), recruiters()]
    )
    answer = await verify(workable)
    assert answer.verdict == READABLE
    assert [made["status"] for made in answer.evidence["calls"]] == [404, 200, 404, 200]


async def test_no_list_of_recruiters_is_not_understood() -> None:
    """Two 404s for the list of recruiters say nothing about the account, which is still under its name."""
    workable = FakeWorkable(recruiters=json(404, MISSING))
    assert (await look(workable)).verdict == NotUnderstood("no_list", status=404, call=RECRUITERS)
    assert workable.paths[2:] == ["https://www.workable.com/spi/v3/accounts"]


#: What the old address of an account can answer to a look, and what that is if the token names no other account.
NOT_THERE: dict[str, tuple[Reply, Verdict]] = {
    "422": (json(422, MISMATCH), WrongAccount()),
    "404 twice": (json(404, MISSING), NotUnderstood("no_list", status=404, call=RECRUITERS)),
    "404 page": (html(404), Unavailable()),
    "redirect": (httpx.Response(301, headers={"location": "https://acme-group.workable.com/"}), Unavailable()),
}
GROUP = ACME | {"subdomain": "Acme-Group", "name": "Acme Group"}
RENAMED = Account(id="c71fa", name="Acme Group", subdomain="acme-group")


@pytest.mark.parametrize("answered", NOT_THERE)
async def test_an_account_that_is_not_there_is_asked_for(answered: str) -> None:
    """Which accounts the token reaches now: all that can be read, and whether that is all of them."""
    reply, otherwise = NOT_THERE[answered]

    async def seen(accounts: Reply) -> Verdict:
        workable = FakeWorkable(recruiters=reply, accounts=accounts)
        found = await look(workable)
        assert found.evidence["calls"][-1]["call"] == "GET /accounts"
        assert workable.asked[-1].url.host == "www.workable.com"
        return found.verdict

    listed: list[Any] = [GROUP, {"subdomain": "evil.example", "id": "1", "name": "E"}, None]
    assert await seen(json(200, {"accounts": [GROUP]})) == AccountNotThere((RENAMED,))
    assert await seen(json(200, {"accounts": listed})) == AccountNotThere((RENAMED,), complete=False)
    more = {"accounts": [], "paging": {"next": "https://www.workable.com/spi/v3/accounts?since_id=1"}}
    assert await seen(json(200, more)) == AccountNotThere((), complete=False)
    assert await seen(json(200, {"accounts": []})) == AccountNotThere()
    assert await seen(json(401, REFUSED)) == AccountNotThere()
    for trouble in (html(404), json(403, FORBIDDEN), json(200, {}), httpx.ReadTimeout("t"), httpx.Response(429)):
        assert await seen(trouble) == otherwise
    still_there = await seen(json(200, {"accounts": [ACME]}))
    assert still_there == (Unavailable() if otherwise == WrongAccount() else otherwise), "Workable contradicts itself"


@pytest.mark.parametrize("answered", ["404 page", "redirect"])
async def test_a_name_that_leads_away_is_a_mismatch_if_the_token_has_another(answered: str) -> None:
    """Whoever gives the old name of a renamed account is told the new one; a token that is no good is refused."""
    reply, otherwise = NOT_THERE[answered]
    for accounts, expected in (
        (json(200, {"accounts": [GROUP]}), WrongAccount(("acme-group",))),
        (json(200, {"accounts": [ACME]}), otherwise),
        (json(200, {"accounts": []}), otherwise),
        (json(401, REFUSED), CredentialRefused()),
        (html(404), otherwise),
    ):
        assert (await verify(FakeWorkable(account=reply, accounts=accounts))).verdict == expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([recruiter(OURS.email)], RecruiterSeen("2b81ff")),
        ([recruiter(" ATS+Q7KD2M@Inbound.Example ")], RecruiterSeen("2b81ff")),
        ([recruiter(OURS.email.upper(), id="1"), recruiter(OURS.email, id="2")], RecruiterSeen("2")),
        ([{"id": 77, "email": OURS.email}], RecruiterSeen("77")),
        ([None, 7, "x", [], {}, {"email": None}, {"id": "x"}, recruiter(OURS.email)], RecruiterSeen("2b81ff")),
        ([{"email": OURS.email}], NotUnderstood("recruiter_without_id", call=RECRUITERS)),
        ([{"email": OURS.email, "id": None}], NotUnderstood("recruiter_without_id", call=RECRUITERS)),
        (
            [{"email": [OURS.email], "id": "1"}],
            RecruiterNotSeen(NearMiss(kind=NearMissKind.OTHERS, others=1), thorough=True),
        ),
        (
            [recruiter("desk@northwind.example")],
            RecruiterNotSeen(NearMiss(kind=NearMissKind.OTHERS, others=1), thorough=True),
        ),
        ([], RecruiterNotSeen(NearMiss(kind=NearMissKind.NONE), thorough=True)),
    ],
)
async def test_our_recruiter_is_found_by_its_email(listed: list[Any], expected: Verdict | type[Verdict]) -> None:
    """Capitals and blanks do not matter, odd entries are passed over, an exact e-mail is preferred."""
    assert_is((await look(FakeWorkable(recruiters=recruiters(*listed)))).verdict, expected)


@pytest.mark.parametrize("body", [{}, {"recruiters": None}, {"recruiters": {}}, {"recruiters": "x"}, {"error": "x"}])
async def test_a_list_of_another_shape_is_not_understood(body: Any) -> None:
    """What holds no list of recruiters is not an empty list."""
    verdict = (await look(FakeWorkable(recruiters=json(200, body)))).verdict
    assert verdict == NotUnderstood("other_shape", call=RECRUITERS)


async def hint(workable: FakeWorkable, *, extra_calls: int = HINT_CALLS_FOR_A_PERSON) -> NearMiss:
    """What is told when our recruiter is not seen."""
    verdict = (await look(workable, extra_calls=extra_calls)).verdict
    assert isinstance(verdict, RecruiterNotSeen)
    assert verdict.near_miss is not None
    return verdict.near_miss


async def test_a_near_miss_in_the_list_needs_no_second_call() -> None:
    """A slip in the list of recruiters is told without asking for the members."""
    workable = FakeWorkable(recruiters=recruiters(recruiter("ats+q7kd2n@inbound.example")))
    assert await hint(workable) == NearMiss(kind=NearMissKind.SLIP, alike="ats+q7kd2")
    assert len(workable.asked) == 1


async def test_our_recruiter_added_as_a_member_is_noticed() -> None:
    """When nothing in the list comes close, the members are asked for our e-mail; a list that goes on is followed."""
    pages = [
        json(200, {"members": [recruiter("a@b.example")], "paging": {"next": f"{MEMBERS}&since_id=2"}}),
        json(200, {"members": [recruiter(OURS.email.upper())]}),
    ]
    workable = FakeWorkable(members=pages)
    assert await hint(workable) == NearMiss(kind=NearMissKind.MEMBER)
    assert workable.paths[1:] == [f"{MEMBERS}&email=ats%2Bq7kd2m%40inbound.example", f"{MEMBERS}&since_id=2"]


MEMBERS = "https://acme.workable.com/spi/v3/members?status=all&limit=100"


async def test_members_are_read_for_three_pages_at_most() -> None:
    """A list of members without an end is left after three pages."""
    workable = FakeWorkable(members=json(200, {"members": [], "paging": {"next": MEMBERS}}))
    assert await hint(workable) == NearMiss(kind=NearMissKind.NONE)
    assert len(workable.asked) == 4


@pytest.mark.parametrize("next_page", ["https://evil.example/spi/v3/members", "https://globex.workable.com/x", 7, None])
async def test_the_token_follows_no_page_elsewhere(next_page: object) -> None:
    """A next URL that leaves the account is not asked."""
    workable = FakeWorkable(members=json(200, {"members": [], "paging": {"next": next_page}}))
    assert await hint(workable) == NearMiss(kind=NearMissKind.NONE)
    assert {request.url.host for request in workable.asked} == {"acme.workable.com"}


@pytest.mark.parametrize("reply", [json(403, FORBIDDEN), httpx.ReadTimeout("t"), json(200, {"members": 7}), html(200)])
async def test_the_hint_about_members_is_not_needed(reply: Reply) -> None:
    """If the members cannot be read, the look stands as it is."""
    workable = FakeWorkable(recruiters=recruiters(recruiter("x@y.example")), members=reply)
    assert await hint(workable) == NearMiss(kind=NearMissKind.OTHERS, others=1)


async def test_members_are_asked_only_where_it_is_wanted_and_there_is_room() -> None:
    """A sweep leaves the members out, and so does any look while less than half of the limit is left."""
    workable = FakeWorkable()
    await hint(workable, extra_calls=0)
    assert len(workable.asked) == 1
    reset = str(int(after(8).timestamp()))
    tight = {"x-rate-limit-remaining": "4", "x-rate-limit-limit": "10", "x-rate-limit-reset": reset}
    workable = FakeWorkable(recruiters=json(200, {"recruiters": []}, **tight))
    await hint(workable)
    assert len(workable.asked) == 1


async def test_over_budget_no_call_is_made() -> None:
    """When our share is used up, the verdict names the time without a call, and the evidence says so."""
    workable = FakeWorkable(recruiters=recruiters(recruiter(OURS.email)))
    client = workable.client()
    for _ in range(4):
        assert isinstance((await client.look("acme", TOKEN, OURS)).verdict, RecruiterSeen)
    answer = await client.look("acme", TOKEN, OURS)
    assert answer.verdict == OverLimit(after(10), unasked=True)
    assert answer.evidence["calls"] == [{"call": RECRUITERS, "note": "not_made"}]
    assert len(workable.asked) == 4
    workable.clock.go_on(10)
    assert isinstance((await client.look("acme", TOKEN, OURS)).verdict, RecruiterSeen)


async def test_after_a_429_nothing_is_asked_before_its_time() -> None:
    """Workable's own time holds for every question about the account, and for no other account."""
    workable = FakeWorkable(recruiters=httpx.Response(429, headers={"retry-after": "30"}))
    client = workable.client()
    assert (await client.look("acme", TOKEN, OURS)).verdict == OverLimit(after(30))
    assert (await client.verify("acme", TOKEN)).verdict == OverLimit(after(30), unasked=True)
    assert len(workable.asked) == 1
    assert (await client.look("globex", TOKEN, OURS)).verdict == OverLimit(after(30))
    assert len(workable.asked) == 2


@pytest.mark.parametrize(
    ("encoding", "content", "understood"),
    [
        ("gzip", gzip.compress(b'{"recruiters": []}', mtime=0), True),
        ("identity", b'{"recruiters": []}', True),
        ("gzip", gzip.compress(b'{"recruiters": [' + b" " * 50_000_000 + b"]}", mtime=0), False),
        ("gzip", gzip.compress(b'{"recruiters": []}', mtime=0)[:-12], False),
        ("gzip", b'{"recruiters": []}', False),
        ("br", b'{"recruiters": []}', False),
    ],
)
def test_a_packed_body_is_unpacked_within_the_limit(encoding: str, content: bytes, understood: bool) -> None:
    """We ask for no packing; gzip is unpacked all the same, never beyond 1 MiB, and nothing else is."""
    headers = {b"content-type": b"application/json", b"content-encoding": encoding.encode()}
    outcome = judge_body(200, headers, content, NOON).outcome
    assert isinstance(outcome, NotUnderstood) is not understood
    assert understood or outcome in {NotUnderstood("too_large", status=200), NotUnderstood("not_an_object", status=200)}


@pytest.mark.parametrize(
    ("content", "understood"),
    [
        pytest.param(b'{"recruiters": [{"name": "\\ud83d"}]}', True, id="half a character in a stranger's name"),
        pytest.param('{"recruiters": [{"name": "Zoë"}]}'.encode("utf-16"), True, id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"recruiters": []}', True, id="a byte order mark"),
        pytest.param(b'{"recruiters": [' + b"9" * 5_000 + b"]}", False, id="an endless number"),
        pytest.param(b'{"recruiters": ' + b"[" * 100_000, False, id="endless brackets"),
        pytest.param(b'{"recruiters": []} and more', False, id="more behind it"),
    ],
)
def test_json_is_read_as_python_reads_it(content: bytes, understood: bool) -> None:
    """The quick reader is stricter in some things; nobody waits because of a stranger's odd entry."""
    headers = {b"content-type": b"application/json"}
    assert isinstance(judge_body(200, headers, content, NOON).outcome, Page) is understood


@given(
    st.integers(100, 999),
    st.dictionaries(
        st.sampled_from([b"content-type", b"retry-after", b"x-rate-limit-reset", b"content-encoding"]),
        st.sampled_from([b"application/json", b"text/html", b"gzip", b"Mon, 99 Foo 2026"]) | st.binary(max_size=9),
    ),
    st.binary(max_size=50) | st.sampled_from([b'{"error":"x"}', b"{}", b"null"]),
)
def test_any_answer_whatever_is_judged(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """No answer brings the judge down, and none without an error object in JSON is a refusal."""
    judged = judge_head(status, headers, NOON) or judge_body(status, headers, body, NOON)
    if isinstance(judged.outcome, CredentialRefused | Forbidden | WrongAccount):
        assert status in (401, 403, 422)
        assert b"error" in body
