"""The kit for hosts' tests: a clock that stands still, a Workable that says what it is told, a linker in memory.

    async with linker_in_memory(clock=clock, workable=workable) as linker:
        connection = await linker.create(owner="customer-1")
        workable.will_say(Unavailable())
        ...
        clock.advance(minutes=10)
        await linker.attend_due()

To test over real sockets, put a `World` of the sandbox on one: `with running(World()) as url:`, and give the `url` as
`workable_url`.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from linker import sandbox
from linker.accounts.client import AccountClient, BlockingAccountClient
from linker.accounts.use import Budget
from linker.blocking_linker import blocking
from linker.encryption import new_key
from linker.engine.ports import Answer, Workable
from linker.http_client import Headers
from linker.linker import Linker
from linker.sandbox import Fault, Limit, World
from linker.settings import Settings
from states.connection import Account, Connection, Recruiter
from states.verdicts import AccountReadable, RecruiterNotSeen, RecruiterSeen, Verdict

if TYPE_CHECKING:
    from linker.sandbox import running

__all__ = [
    "Fault",
    "Limit",
    "ScriptedAnswers",
    "ScriptedWorkable",
    "SettableClock",
    "Unlimited",
    "World",
    "blocking_scripted_client",
    "linker_in_memory",
    "running",
    "scripted_client",
]


class SettableClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> None:
        """Take the time to begin with: aware."""
        self._now = now

    def now(self) -> datetime:
        """The time that was set."""
        return self._now

    def advance(self, **span: float) -> datetime:
        """Move on by a span, as `timedelta` takes it: `clock.advance(hours=2)`; gives the new time."""
        self._now += timedelta(**span)
        return self._now


class ScriptedWorkable:
    """Workable as a test needs it: says what it was told to say, and otherwise that all is well.

    `asked` are the questions so far: ("verify" or "look", subdomain).
    """

    def __init__(self) -> None:
        """Begin with a Workable in which every token is good and no recruiter was added."""
        self._script: deque[Verdict] = deque()
        self._recruiters: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def will_say(self, *verdicts: Verdict) -> None:
        """Answer the next questions with these verdicts of `states.verdicts`, one each, as with `Unavailable()`."""
        self._script.extend(verdicts)

    def add_recruiter(self, email: str) -> None:
        """Let a recruiter be in every account from now on."""
        self._recruiters.add(email.casefold())

    def remove_recruiter(self, email: str) -> None:
        """Let a recruiter be in no account any more."""
        self._recruiters.discard(email.casefold())

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """The next verdict of the script; otherwise the account, named after its subdomain."""
        account = Account(id=f"id-of-{subdomain}", name=subdomain.title(), subdomain=subdomain)
        return self._answer("verify", subdomain, AccountReadable(account))

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """The next verdict of the script; otherwise whether the recruiter was added."""
        there = recruiter.email.casefold() in self._recruiters
        return self._answer("look", subdomain, RecruiterSeen("recruiter-1") if there else RecruiterNotSeen())

    def _answer(self, question: str, subdomain: str, otherwise: Verdict) -> Answer:
        self.asked.append((question, subdomain))
        verdict = self._script.popleft() if self._script else otherwise
        return Answer(verdict=verdict, evidence={"calls": [{"call": question, "status": 200, "ms": 0}]})


class ScriptedAnswers(httpx.AsyncBaseTransport):
    """Answers the requests of `Linker.client` as a test needs it, without a network.

    What nothing was scripted for is answered with 404. `requests` are those so far, without the token.
    """

    def __init__(self) -> None:
        """Begin with nothing scripted."""
        self._script: dict[tuple[str, str], deque[httpx.Response | Exception]] = {}
        self.requests: list[httpx.Request] = []

    def will_answer(
        self,
        method: str,
        path: str,
        *answers: httpx.Response | Exception | dict[str, Any] | int,
    ) -> None:
        """Answer requests to a path, as in `jobs`, with these: one each, and the last one from then on.

        Args:
            method: as in `GET`.
            path: the part behind `/spi/v3/`, without a query.
            answers: a body for 200, a status alone, a whole response, or what is raised, as `httpx.ConnectError("")`.
        """
        script = self._script.setdefault((method, path.strip("/")), deque())
        for answer in answers:
            if isinstance(answer, int):
                script.append(httpx.Response(answer, json={} if answer < 400 else {"error": "scripted"}))
            else:
                script.append(httpx.Response(200, json=answer) if isinstance(answer, dict) else answer)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        await request.aread()
        seen = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        seen.headers.pop("Authorization", None)
        self.requests.append(seen)
        script = self._script.get((request.method, request.url.path.rpartition("/spi/v3/")[2].strip("/")))
        if not script:
            return httpx.Response(404, json={"error": "Not found"})
        answer = script.popleft() if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Unlimited:
    """No budget: for tests that count something else."""

    async def take(self, connection: Connection, *, wait: float) -> float:
        """Take one call."""
        return 0.0

    def learn(self, connection: Connection, status: int, headers: Headers) -> None:
        """Pass it over."""


def _in_memory(
    *,
    clock: SettableClock | None = None,
    workable: Workable | None = None,
    answers: ScriptedAnswers | None = None,
    budget: Budget | None = None,
    **settings: Any,
) -> Linker:
    given: dict[str, Any] = {"database_url": "sqlite://", "secret_keys": (new_key(),), **settings}
    return Linker(
        Settings(**given),
        clock=clock or SettableClock(),
        workable=workable or ScriptedWorkable(),
        account_transport=answers or ScriptedAnswers(),
        budget=budget or Unlimited(),
    )


@asynccontextmanager
async def linker_in_memory(
    *,
    clock: SettableClock | None = None,
    workable: Workable | None = None,
    answers: ScriptedAnswers | None = None,
    budget: Budget | None = None,
    **settings: Any,
) -> AsyncIterator[Linker]:
    """A linker with a database in memory and a fresh key; settings as `Settings` takes them.

    Its clients are answered by `answers`, and may make as many calls as they like, unless a `budget` is given.
    """
    async with _in_memory(clock=clock, workable=workable, answers=answers, budget=budget, **settings) as linker:
        yield linker


async def _linked(linker: Linker, workable: ScriptedWorkable) -> Connection:
    connection = await linker.create(owner="customer-1")
    connection = await linker.submit_token(connection.id, subdomain="acme", token=f"scripted-{secrets.token_hex(8)}")
    assert connection.recruiter is not None, "every token is good"
    workable.add_recruiter(connection.recruiter.email)
    return await linker.confirm_recruiter(connection.id)


@asynccontextmanager
async def scripted_client(answers: ScriptedAnswers) -> AsyncIterator[AccountClient]:
    """A client of a linked account, for tests of what a host does with one: everything is scripted."""
    workable = ScriptedWorkable()
    async with _in_memory(workable=workable, answers=answers) as linker:
        connection = await _linked(linker, workable)
        async with linker.client(connection.id) as client:
            yield client


@contextmanager
def blocking_scripted_client(answers: ScriptedAnswers) -> Iterator[BlockingAccountClient]:
    """The same for hosts without an event loop: an `httpx.Client`."""
    workable = ScriptedWorkable()
    linker = _in_memory(workable=workable, answers=answers)
    with blocking(linker) as call:
        connection = call(_linked, linker, workable)
        with call.client(connection.id) as client:
            yield client


if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """What needs a socket is imported when it is asked for. Raises ExtraMissing."""
        if name != "running":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return sandbox.running
