"""The Workable client: the two questions that linking asks, over a client that is handed in.

The token leaves its `SecretStr` in one place only, where the request is made. No exception of the HTTP library
leaves this file, because its frames hold the request: trouble becomes a verdict, and a fault of ours becomes an
`OurFault` that is raised afresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from traceback import extract_tb
from typing import Any

import httpx
import yarl
from pydantic import SecretStr

from linker.engine.ports import Answer, Clock, SystemClock
from linker.errors import OurFault
from linker.http_client import TRANSPORT_TROUBLE, trouble_name
from linker.workable import api, near_misses, responses
from linker.workable.rate_budget import LOOK, VERIFICATION, Allowance, RateBudget
from linker.workable.responses import Entry, Judged, ObjectMissing, Page
from linker.workable.sending import Headers, Reply, Sender
from linker.workable.urls import AccountUrls
from states.connection import Recruiter
from states.table import ACCOUNT, RECRUITERS
from states.verdicts import (
    AccountReadable,
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
    calls: list[dict[str, Any]] = field(default_factory=list)
    #: The verdict that stands if a call that only adds to it does not come back.
    certain: Verdict | None = None


class WorkableClient:
    """Asks Workable over `http`, which stays its owner's to close. Redirects and cookies are never followed or sent.

    `url_template` holds `{subdomain}`. With a partner's `client_id` Workable allows five times as much.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        url_template: str = api.URL_TEMPLATE,
        clock: Clock | None = None,
        client_id: SecretStr | str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._addresses = AccountUrls(url_template)
        self._clock = clock or SystemClock()
        self._timeouts = timeouts or Timeouts()
        self._sender = Sender(http, connect=self._timeouts.connect, read=self._timeouts.read)
        self._client_id = SecretStr(client_id) if isinstance(client_id, str) else client_id
        self._budget = RateBudget(self._clock, partner=client_id is not None)

    # ── the two questions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def verify(self, subdomain: str, token: SecretStr) -> Answer:
        """Can this token read the account and its recruiters? Two calls, one after the other; at most four.

        One after the other, because the first refusal makes the second call needless.

        Raises:
            OurFault: a fault of the program; it holds nothing of the request.
        """
        question = _Question(subdomain, token, VERIFICATION)
        return await self._answer(question, self._verify(question))

    async def look(self, subdomain: str, token: SecretStr, recruiter: Recruiter, *, extra_calls: int = 0) -> Answer:
        """Is our recruiter in the account? One call, and more for a hint. If not: what comes close?

        `extra_calls`: when nothing in the list comes close, so many pages of the members are asked for too, as long as
        at least half of the account's limit is left.

        Raises:
            OurFault: a fault of the program; it holds nothing of the request.
        """
        question = _Question(subdomain, token, LOOK)
        return await self._answer(question, self._look(question, recruiter, extra_calls))

    async def _answer(self, question: _Question, verdict: Coroutine[Any, Any, Verdict]) -> Answer:
        fault = None
        try:
            async with asyncio.timeout(self._timeouts.total):
                found = await verdict
        except TimeoutError:
            for unanswered in question.calls[-1:]:
                unanswered["note"] = f"no whole answer within {self._timeouts.total:g} s"
            found = question.certain or Unavailable()
        except OurFault as error:
            fault = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, its frames hold the request
            fault = f"Asking Workable went wrong on our side: {_place(error)}."
        if fault is not None:
            raise OurFault(fault)
        return Answer(verdict=found, evidence={"calls": question.calls})

    # ── verification ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _verify(self, question: _Question) -> Verdict:
        found = await self._ask_again(question, ACCOUNT, api.ACCOUNT_PATH)
        if isinstance(found, ObjectMissing):
            found = WrongAccount()  # as good as 422 on this call
        verdict = responses.account_in(found, question.subdomain) if isinstance(found, Page) else found
        if isinstance(verdict, AccountReadable):
            recruiters = await self._recruiters(question)
            verdict = recruiters if isinstance(recruiters, Verdict) else verdict
        return await self._named(question, verdict) if verdict == WrongAccount() else verdict

    async def _named(self, question: _Question, verdict: Verdict) -> Verdict:
        """The mismatch with the subdomains that the token does reach, if Workable tells; it is certain without them."""
        question.certain = verdict
        found = await self._ask(question, api.ACCOUNTS, self._addresses.of(api.NO_ACCOUNT, api.ACCOUNTS_PATH))
        if not isinstance(found, Page):
            return verdict
        return WrongAccount(responses.subdomains_in(found, but=question.subdomain))

    # ── looking for the recruiter ─────────────────────────────────────────────────────────────────────────────────────

    async def _look(self, question: _Question, recruiter: Recruiter, extra_calls: int) -> Verdict:
        listed = await self._recruiters(question)
        if isinstance(listed, Verdict):
            return listed
        ours = _find(listed, recruiter.email)
        if ours is not None:
            return RecruiterSeen(ours.id) if ours.id else NotUnderstood("Our recruiter is in the list without an id.")
        near = near_misses.close(recruiter, [(one.name, one.email) for one in listed])
        if near is not None:
            return RecruiterNotSeen(near)
        question.certain = RecruiterNotSeen(near_misses.not_there(len(listed)))
        if extra_calls and await self._is_member(question, recruiter.email, extra_calls):
            return RecruiterNotSeen(near_misses.as_member(recruiter))
        return question.certain

    async def _recruiters(self, question: _Question) -> list[Entry] | Verdict:
        found = await self._ask_again(question, RECRUITERS, api.RECRUITERS_PATH)
        if isinstance(found, ObjectMissing):
            return NotUnderstood("Workable says twice that there is no list of recruiters (404).")
        return responses.recruiters_in(found) if isinstance(found, Page) else found

    async def _is_member(self, question: _Question, email: str, pages: int) -> bool:
        """True if the members hold this e-mail. Trouble counts as no: this only adds a hint."""
        url: yarl.URL | None = self._addresses.of(question.subdomain, api.MEMBERS_PATH)
        for _ in range(pages):
            if url is None or not self._budget.is_roomy(question.subdomain):
                return False
            page = await self._ask(question, api.MEMBERS, url)
            members = page.body.get("members") if isinstance(page, Page) else None
            if not isinstance(page, Page) or not isinstance(members, list):
                return False
            if _find(responses.entries(members), email) is not None:
                return True
            url = self._addresses.next_page(question.subdomain, responses.next_in(page))
        return False

    # ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_again(self, question: _Question, call: str, path: str) -> Page | Verdict:
        """Ask; after a 404 once more, because a single one is no verdict."""
        url = self._addresses.of(question.subdomain, path)
        found = await self._ask(question, call, url)
        if isinstance(found, ObjectMissing):
            await asyncio.sleep(self._timeouts.pause)
            found = await self._ask(question, call, url)
        return found

    async def _ask(self, question: _Question, call: str, url: yarl.URL) -> Page | Verdict:
        """Make one call, if the budget allows it, and write down what came of it."""
        until = self._budget.spend(question.subdomain, question.allowance)
        if until is not None:
            question.calls.append({"call": call, "note": "not made: the budget of calls is used up"})
            return OverLimit(until, unasked=True)
        made: dict[str, Any] = {"call": call}
        question.calls.append(made)
        started = perf_counter()
        try:
            judged = await self._exchange(question, url, made)
        except httpx.LocalProtocolError:
            raise  # our own request was wrong
        except TRANSPORT_TROUBLE as error:
            judged = Judged(Unavailable(), trouble_name(error))
        finally:
            made["ms"] = round((perf_counter() - started) * 1000)
        if judged.note is not None:
            made["note"] = judged.note
        return judged.outcome

    async def _exchange(self, question: _Question, url: yarl.URL, made: dict[str, Any]) -> Judged:
        """Send the request and judge the answer, reading no more of it than is needed."""
        reply = await self._sender.get(url, self._headers(question.token))
        try:
            made["status"] = reply.status
            headers = {key.lower(): value for key, value in reply.headers}
            now = self._clock.now()
            self._budget.learn(question.subdomain, headers, now)
            judged = responses.judge_head(reply.status, headers, now)
            if judged is None:
                judged = responses.judge_body(reply.status, headers, await _body(reply))
        finally:
            await reply.close()
        if isinstance(judged.outcome, OverLimit):
            self._budget.block(question.subdomain, judged.outcome.retry_at)
        return judged

    def _headers(self, token: SecretStr) -> Headers:
        """All headers of a request. Raises OurFault for a secret that could not have been parsed."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a packed answer could unpack to anything
            "User-Agent": api.USER_AGENT,
            "Authorization": "Bearer " + _visible(token),
        }
        if self._client_id:
            headers[api.CLIENT_ID_HEADER] = _visible(self._client_id)
        return headers


async def _body(reply: Reply) -> bytes | None:
    """The body as it was sent; None as soon as it is longer than we read."""
    chunks, size = [], 0
    async for chunk in reply.body:
        size += len(chunk)
        if size > api.MAX_ANSWER:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _visible(secret: SecretStr) -> str:
    """The secret, if it is visible ASCII without blanks."""
    opened = secret.get_secret_value()
    if not (opened.isascii() and opened.isprintable() and opened.split() == [opened]):
        raise OurFault("A secret reached the Workable client without having been parsed. Nothing was sent.")
    return opened


def _find(listed: list[Entry], email: str) -> Entry | None:
    """The entry with this e-mail: exactly, or else with other capitals. Workable keeps capitals as they were typed."""
    wanted = near_misses.same_text(email)
    alike = [one for one in listed if near_misses.same_text(one.email) == wanted]
    return next((one for one in alike if one.email == email), alike[0] if alike else None)


def _place(error: Exception) -> str:
    """What went wrong and where, without the message: it may quote the request."""
    frames = extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}"
