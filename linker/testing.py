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

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from linker import sandbox
from linker.encryption import new_key
from linker.engine.ports import Answer, Workable
from linker.linker import Linker
from linker.sandbox import Fault, Limit, World
from linker.settings import Settings
from states.connection import Account, Recruiter
from states.verdicts import AccountReadable, RecruiterNotSeen, RecruiterSeen, Verdict

if TYPE_CHECKING:
    from linker.sandbox import running

__all__ = ["Fault", "Limit", "ScriptedWorkable", "SettableClock", "World", "linker_in_memory", "running"]


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

    async def verify(self, subdomain: str, token: SecretStr) -> Answer:
        """The next verdict of the script; otherwise the account, named after its subdomain."""
        account = Account(id=f"id-of-{subdomain}", name=subdomain.title(), subdomain=subdomain)
        return self._answer("verify", subdomain, AccountReadable(account))

    async def look(self, subdomain: str, token: SecretStr, recruiter: Recruiter, *, extra_calls: int = 0) -> Answer:
        """The next verdict of the script; otherwise whether the recruiter was added."""
        there = recruiter.email.casefold() in self._recruiters
        return self._answer("look", subdomain, RecruiterSeen("recruiter-1") if there else RecruiterNotSeen())

    def _answer(self, question: str, subdomain: str, otherwise: Verdict) -> Answer:
        self.asked.append((question, subdomain))
        verdict = self._script.popleft() if self._script else otherwise
        return Answer(verdict=verdict, evidence={"calls": [{"call": question, "status": 200, "ms": 0}]})


@asynccontextmanager
async def linker_in_memory(
    *, clock: SettableClock | None = None, workable: Workable | None = None, **settings: Any
) -> AsyncIterator[Linker]:
    """A linker with a database in memory and a fresh key; settings as `Settings` takes them."""
    given: dict[str, Any] = {"database_url": "sqlite://", "secret_keys": (new_key(),), **settings}
    linker = Linker(Settings(**given), clock=clock or SettableClock(), workable=workable or ScriptedWorkable())
    async with linker:
        yield linker


if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """What needs a socket is imported when it is asked for. Raises ExtraMissing."""
        if name != "running":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return sandbox.running
