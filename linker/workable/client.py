"""The Workable client: the two questions that linking asks, over a transport that is handed in.

The token leaves its `SecretStr` in one place only, where the request is made. No exception leaves this file with the
frames that hold the request: trouble becomes a verdict, a fault of ours becomes an `OurFault` that is raised afresh,
and what cancels us goes on without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from time import perf_counter
from traceback import extract_tb
from typing import Any

import httpx
from pydantic import SecretStr

from linker.encryption import fingerprint
from linker.engine.concurrency import Turns
from linker.engine.ports import Answer, Clock, SystemClock
from linker.errors import OurFault
from linker.http_client import TRANSPORT_TROUBLE, number, send_with_secrets, trouble_name
from linker.network.resolver import out_of_files
from linker.workable import api, near_misses, responses
from linker.workable.rate_budget import LOOK, PAGES, PERSON, VERIFICATION, Allowance, RateBudget, named_by_workable
from linker.workable.responses import Entry, Judged, ObjectMissing, Page
from linker.workable.urls import AccountUrls
from states.connection import Permissions, Recruiter
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


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long Workable may take, in seconds. `total` is for a whole question, with all of its calls."""

    connect: float = 5.0
    read: float = 10.0
    total: float = 15.0
    #: The pause before a call that was answered with 404 is made again.
    pause: float = 0.25

    @classmethod
    def within(cls, total: float) -> Timeouts:
        """The usual time-outs, shortened so that a whole question takes at most `total` seconds."""
        usual = cls()
        total = min(usual.total, total)
        return cls(connect=min(usual.connect, total), read=min(usual.read, total), total=total, pause=usual.pause)


@dataclass(slots=True)
class _Question:
    """One question under way: whom it is about, what was called so far, and what is certain already."""

    subdomain: str
    token: SecretStr
    allowance: Allowance
    #: Where its calls are counted, and under which name.
    budget: RateBudget
    counted_as: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    #: The verdict that stands if a call that only adds to it does not come back.
    certain: Verdict | None = None


class WorkableClient:
    """Asks Workable over a transport, which stays its owner's to close. No redirect is followed, no cookie is sent.

    `url_template` holds `{subdomain}`. With a partner's `client_id` Workable allows five times as much. `tell` is told
    until when Workable wants no more calls to an account.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        url_template: str = api.URL_TEMPLATE,
        clock: Clock | None = None,
        client_id: SecretStr | str | None = None,
        permissions: Sequence[str] = (api.SCOPE,),
        timeouts: Timeouts | None = None,
        tell: Callable[[str, datetime], object] | None = None,
    ) -> None:
        self._transport = transport
        self._urls = AccountUrls(url_template)
        self._clock = clock or SystemClock()
        self._timeouts = timeouts or Timeouts()
        # none for a connection of the pool that becomes free: whoever asks ends the whole question
        limits = httpx.Timeout(self._timeouts.read, connect=self._timeouts.connect, pool=None)
        self._extensions = {"timeout": limits.as_dict()}
        self._permissions = tuple(permissions)
        self._client_id = SecretStr(client_id) if isinstance(client_id, str) else client_id
        self._turns = Turns()
        self._tell = tell
        self._budget = RateBudget(self._clock, partner=client_id is not None)
        #: Of tokens that are not known to be good: whoever names an account takes nothing of what is its.
        self._attempts = RateBudget(self._clock, partner=client_id is not None)

    # ── the two questions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """Can this token read the account and its recruiters? Two calls, one after the other; at most four.

        One after the other, because the first refusal makes the second call needless. They are counted for the token,
        and for the account too once the token turned out to be good for it.

        Args:
            subdomain: the account, as a person named it.
            token: the token.
            person_waits: whether somebody pressed a button: then only Workable's own word puts the calls off.

        Raises:
            OurFault: a fault of the program; it holds nothing of the request.
        """
        allowance = PERSON if person_waits else VERIFICATION
        question = _Question(subdomain, token, allowance, self._attempts, f"{subdomain} {fingerprint(token)}")
        answer = await self._answer(question, self._verify(question))
        if isinstance(answer.verdict, AccountReadable):
            for _ in question.calls:
                self._budget.spend(subdomain, allowance)
        return answer

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """Is our recruiter in the account? One call, and more for a hint. If not: what comes close?

        `extra_calls`: when nothing in the list comes close, so many pages of the members are asked for too, as long as
        at least half of the account's limit is left. `permission`: one of `api.TRIED_BY` to try beside, if the
        recruiter is there.

        Raises:
            OurFault: a fault of the program; it holds nothing of the request.
        """
        question = _Question(subdomain, token, LOOK, self._budget, subdomain)
        return await self._answer(question, self._look_around(question, recruiter, extra_calls, permission))

    async def _answer(self, question: _Question, asking: Coroutine[Any, Any, Verdict]) -> Answer:
        """The verdict with its evidence, in time, and without anything of the request in what is raised.

        Whoever is cancelled leaves without the frames, cause and context too: reports of errors show their locals.
        """
        left: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeouts.total):
                verdict = await asking
        except TimeoutError:
            for unanswered in question.calls[-1:]:
                unanswered |= {"note": "no_answer_within", "seconds": self._timeouts.total}
            verdict = question.certain or Unavailable()
        except OurFault as error:
            left = OurFault(error.reason, **error.params)
        except Exception as error:  # noqa: BLE001 - whatever it is, its frames hold the request, its message may quote it
            place = extract_tb(error.__traceback__)[-1]
            where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
            left = OurFault("asking_failed", error=type(error).__name__, place=where)
        except BaseException as error:  # noqa: BLE001 - cancelled, or the process ends: it goes on as it is, below
            left = error.with_traceback(None)
            left.__cause__ = left.__context__ = None
        if left is not None:
            try:
                raise left
            finally:
                del left
        return Answer(verdict=verdict, evidence={"calls": question.calls})

    async def _verify(self, question: _Question) -> Verdict:
        """Read the account, then its recruiters. A mismatch is certain; who the token does reach is asked then."""
        found = await self._ask_again(question, ACCOUNT, api.ACCOUNT_PATH)
        if isinstance(found, ObjectMissing):
            found = WrongAccount()  # as good as 422 on this call
        verdict = responses.account_in(found, question.subdomain) if isinstance(found, Page) else found
        leads_away = _leads_away(question, verdict)
        if isinstance(verdict, AccountReadable):
            first = await self._recruiters(question)
            recruiters = responses.recruiters_in(first) if isinstance(first, Page) else first
            verdict = recruiters if isinstance(recruiters, Verdict) else verdict
        if isinstance(verdict, AccountReadable | Forbidden):
            return await self._with_permissions(question, verdict)
        if verdict != WrongAccount() and not leads_away:
            return verdict
        question.certain = verdict
        reached = await self._ask(question, api.ACCOUNTS, self._urls.of(api.NO_ACCOUNT, api.ACCOUNTS_PATH))
        if leads_away and isinstance(reached, CredentialRefused):
            return reached
        elsewhere = responses.subdomains_in(reached, but=question.subdomain) if isinstance(reached, Page) else ()
        return WrongAccount(elsewhere) if elsewhere else verdict

    async def _look_around(
        self, question: _Question, recruiter: Recruiter, extra_calls: int, permission: str | None
    ) -> Verdict:
        """Look for the recruiter; where it is as it should be, try a permission of the host's too."""
        verdict = await self._look_at_its_name(question, recruiter, extra_calls)
        if permission is None or not isinstance(verdict, RecruiterSeen):
            return verdict
        question.certain = verdict
        call, path = api.TRIED_BY[permission]
        found = await self._ask(question, call, self._urls.of(question.subdomain, path))
        if not isinstance(found, Page | Forbidden):
            return verdict
        return RecruiterSeen(verdict.recruiter_id, (permission, isinstance(found, Page)))

    async def _look_at_its_name(self, question: _Question, recruiter: Recruiter, extra_calls: int) -> Verdict:
        """Look for the recruiter; where the account is not under its name any more, ask which the token reaches now.

        What that is may be not there either, or refuse the token: then there is no account left. Anything else is no
        answer, and what was found first stands.
        """
        verdict = await self._look(question, recruiter, extra_calls)
        missing = isinstance(verdict, NotUnderstood) and verdict.answer == "no_list"
        if not (missing or verdict == WrongAccount() or _leads_away(question, verdict)):
            return verdict
        question.certain = verdict
        reached = await self._ask(question, api.ACCOUNTS, self._urls.of(api.NO_ACCOUNT, api.ACCOUNTS_PATH))
        if isinstance(reached, CredentialRefused):
            return AccountNotThere()
        accounts = responses.accounts_in(reached) if isinstance(reached, Page) else None
        if accounts is None:
            return verdict
        if any(one.subdomain == question.subdomain for one in accounts.reached):
            return Unavailable() if verdict == WrongAccount() else verdict
        return accounts

    async def _with_permissions(self, question: _Question, verdict: AccountReadable | Forbidden) -> Verdict:
        """Try each other permission that the host needs and that can be tried, so that all are told at once.

        What is in the way of trying one is no verdict on the token: that permission stays unverified.
        """
        refused = isinstance(verdict, Forbidden)
        verified, missing = ([], [api.SCOPE]) if refused else ([api.SCOPE], [])
        question.certain = verdict
        for name in self._permissions:
            if name in api.TRIED_BY:
                call, path = api.TRIED_BY[name]
                found = await self._ask(question, call, self._urls.of(question.subdomain, path))
                if isinstance(found, CredentialRefused):
                    return found
                if isinstance(found, Page | Forbidden):
                    (verified if isinstance(found, Page) else missing).append(name)
        permissions = Permissions(needed=self._permissions, verified=tuple(verified), missing=tuple(missing))
        if missing:
            return Forbidden(missing[0], permissions)
        assert isinstance(verdict, AccountReadable), "what is refused misses a permission"
        return AccountReadable(verdict.account, permissions)

    async def _look(self, question: _Question, recruiter: Recruiter, extra_calls: int) -> Verdict:
        """Look through the recruiters, then for what comes close, then whether ours was added as a member.

        Only the end of the list says that ours is not in it.
        """
        listed: list[dict[str, Any]] = []
        asked: set[httpx.URL] = set()
        found = await self._recruiters(question)
        while isinstance(found, Page):
            page = responses.recruiters_in(found)
            if isinstance(page, Verdict):
                return page
            ours = await self._find(page, recruiter.email)
            if ours is not None:
                return RecruiterSeen(ours.id) if ours.id else NotUnderstood("recruiter_without_id", call=RECRUITERS)
            listed += page
            given = responses.next_in(found)
            if given is None:
                return await self._come_close(question, recruiter, listed, extra_calls)
            following = self._urls.next_page(question.subdomain, given)
            if following is None or following in asked or len(asked) == api.MOST_FURTHER_PAGES:
                return NotUnderstood("list_without_end", call=RECRUITERS)
            asked.add(following)
            question.allowance = PAGES
            found = await self._ask(question, RECRUITERS, following)
        return NotUnderstood("list_without_end", call=RECRUITERS) if isinstance(found, ObjectMissing) else found

    async def _come_close(
        self, question: _Question, recruiter: Recruiter, listed: list[dict[str, Any]], extra_calls: int
    ) -> Verdict:
        """What comes close to ours, which is not in the whole list; if nothing does, whether it was added as a member.

        The filter by e-mail is second-hand knowledge, and it may be exact: whoever has calls left reads the pages too.
        """
        pairs = lambda: ((one.name, one.email) for one in responses.entries(listed))  # noqa: E731 - read twice, in pieces
        near = await near_misses.close(recruiter, pairs, self._turns)
        if near is not None:
            return RecruiterNotSeen(near)
        question.certain = RecruiterNotSeen(near_misses.not_there(len(listed)))
        if not extra_calls:
            return question.certain
        members_url = self._urls.of(question.subdomain, api.MEMBERS_PATH)
        url: httpx.URL | None = members_url.copy_merge_params({"email": recruiter.email})
        filtered = True
        for _ in range(extra_calls):  # trouble counts as no: this only adds a hint
            if url is None or not self._budget.is_roomy(question.subdomain):
                break
            page = await self._ask(question, api.MEMBERS, url)
            members = page.body.get("members") if isinstance(page, Page) else None
            if not isinstance(page, Page) or not isinstance(members, list):
                break
            if await self._find(members, recruiter.email) is not None:
                return RecruiterNotSeen(NearMiss(kind=NearMissKind.MEMBER))
            if following := responses.next_in(page):
                url = self._urls.next_page(question.subdomain, following)
            elif filtered and not members:
                url, filtered = members_url, False
            else:
                return replace(question.certain, thorough=True)
        return question.certain

    async def _find(self, listed: Iterable[Any], email: str) -> Entry | None:
        """The entry with this e-mail: exactly, or else with other capitals. Workable keeps them as they were typed."""
        wanted, alike = near_misses.same_email(email), list[Entry]()

        def is_it(one: Entry) -> bool:
            if near_misses.same_email(one.email) == wanted:
                alike.append(one)
            return one.email == email

        exactly = await self._turns.first(responses.entries(listed), is_it)
        return exactly or next(iter(alike), None)

    async def _recruiters(self, question: _Question) -> Page | Verdict:
        """The first page of the recruiters."""
        found = await self._ask_again(question, RECRUITERS, api.RECRUITERS_PATH)
        return NotUnderstood("no_list", status=404, call=RECRUITERS) if isinstance(found, ObjectMissing) else found

    # ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_again(self, question: _Question, call: str, path: str) -> Page | Verdict:
        """Ask; after a 404 once more, because a single one is no verdict."""
        url = self._urls.of(question.subdomain, path)
        found = await self._ask(question, call, url)
        if isinstance(found, ObjectMissing):
            await asyncio.sleep(self._timeouts.pause)
            found = await self._ask(question, call, url)
        return found

    async def _ask(self, question: _Question, call: str, url: httpx.URL) -> Page | Verdict:
        """Make one call, if the budget allows it, and write down what came of it."""
        until = self._budget.waits_until(question.subdomain, question.allowance)
        until = until or question.budget.spend(question.counted_as, question.allowance)
        if until is not None:
            question.calls.append({"call": call, "note": "not_made"})
            return OverLimit(until, unasked=len(question.calls) == 1)
        made: dict[str, Any] = {"call": call}
        question.calls.append(made)
        started = perf_counter()
        try:
            judged = await self._exchange(question, url, made)
        except httpx.LocalProtocolError:
            raise  # our own request was wrong
        except TRANSPORT_TROUBLE as error:
            if out_of_files(error):  # of ours: it says nothing of Workable
                raise OurFault("out_of_files") from None
            judged = Judged(Unavailable(), trouble_name(error))
        finally:
            made["ms"] = round((perf_counter() - started) * 1000)
        if judged.note is not None:
            made["note"] = judged.note
        return judged.outcome

    async def _exchange(self, question: _Question, url: httpx.URL, made: dict[str, Any]) -> Judged:
        """Send the request and judge the answer, reading no more of it than is needed."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a packed answer could unpack to anything
            "User-Agent": api.USER_AGENT,
        }
        request = httpx.Request("GET", url, headers=headers, extensions=self._extensions)
        secrets = secret_headers(question.token, self._client_id)
        response = await send_with_secrets(self._transport, request, secrets)
        try:
            made["status"] = status = response.status_code
            given = {key.lower(): value for key, value in response.headers.raw}
            now = self._clock.now()
            question.budget.learn(question.counted_as, given, now)
            until = named_by_workable(status, given, now, limit=self._budget.limit, allowance=LOOK)
            if (
                until is not None and self._tell is not None and question.allowance in (LOOK, PAGES)
            ):  # of a verified account
                self._tell(question.subdomain, until)
            judged = responses.judge_head(status, given, now)
            if judged is None:
                declared = number(given.get(b"content-length")) or 0
                raw = await _body(response) if declared <= api.MAX_ANSWER_BYTES else None
                judging = partial(responses.judge_body, status, given, raw, now)
                is_large = raw is not None and (len(raw) > api.LARGE_ANSWER_BYTES or b"content-encoding" in given)
                judged = await self._turns.do(judging) if is_large else judging()
        finally:
            await response.aclose()
        if isinstance(judged.outcome, OverLimit):
            question.budget.block(question.counted_as, judged.outcome.retry_at)
        elif isinstance(judged.outcome, Page) and question.budget is not self._budget:
            self._budget.learn(question.subdomain, given, now)  # the token is good for something there
        return judged


async def _body(response: httpx.Response) -> bytes | None:
    """The body as it was sent, because unpacking it would have no limit; None as soon as it is longer than we read."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    chunks, size = [], 0
    async for chunk in response.stream:
        size += len(chunk)
        if size > api.MAX_ANSWER_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _leads_away(question: _Question, verdict: Verdict) -> bool:
    """True for a redirect and for a page that there is none: what the address of a renamed account may answer."""
    last = question.calls[-1] if question.calls else {}
    no_page = last.get("note") == "web_page" and last.get("status") == httpx.codes.NOT_FOUND
    return isinstance(verdict, Unavailable) and (no_page or last.get("note") == "redirect")


def secret_headers(token: SecretStr, client_id: SecretStr | None) -> dict[str, SecretStr]:
    """The headers that say who asks: they are added where a request leaves, and nobody sees them before.

    Raises:
        OurFault: a secret is not visible ASCII without blanks, so it was not parsed. Nothing was sent.
    """
    headers = {"Authorization": SecretStr(f"Bearer {token.get_secret_value()}")}
    if client_id is not None:
        headers[api.CLIENT_ID_HEADER] = client_id
    for secret in (token, client_id):
        if secret is not None and not _is_visible(secret.get_secret_value()):
            raise OurFault("secret_not_parsed")
    return headers


def _is_visible(opened: str) -> bool:
    return opened.isascii() and opened.isprintable() and opened.split() == [opened]
