"""Which screen is shown: a pure function of the connection, the link, the time, and what the person asked to see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from linker.errors import BadInput
from linker.links import Link, LinkStatus, Purpose
from states.connection import Connection, ConnectionState, Problem
from states.problems import TRANSIENT, ProblemCode


class ScreenName(StrEnum):
    """The screens, in the order of the story. Each has a template, or is told by `message.html`."""

    START = "start"
    SUBDOMAIN = "subdomain"
    TOKEN = "token"
    #: A token was given, and Workable cannot say now whether it is good.
    CHECKING = "checking"
    RECRUITER = "recruiter"
    LINKED = "linked"
    #: The account belongs to another connection.
    TAKEN = "taken"
    #: The customer has to say that it goes on: the recruiter was not added in time, or nobody gave a token.
    OVERDUE = "overdue"
    #: Our side has to act.
    TROUBLE = "trouble"
    PAUSED = "paused"
    STOPPED = "stopped"
    #: For links to a part of the way: that part is done, or not begun.
    THANKS = "thanks"
    NOT_YET = "not_yet"
    STATUS = "status"
    #: What can be asked for on most screens.
    COLLEAGUE = "colleague"
    STOP = "stop"
    #: Links that open nothing.
    EXPIRED = "expired"
    REVOKED = "revoked"
    USED_UP = "used_up"
    INCOMPLETE = "incomplete"
    #: The database is away, or somebody else is at it: nothing was done.
    BUSY = "busy"
    #: What was sent is not what our pages send.
    REFUSED = "refused"


#: The steps that are counted, and the bars that are filled.
STEPS = {
    ScreenName.SUBDOMAIN: 1,
    ScreenName.TAKEN: 1,
    ScreenName.TOKEN: 2,
    ScreenName.CHECKING: 2,
    ScreenName.RECRUITER: 3,
    ScreenName.LINKED: 4,
}
#: Screens that go on by themselves.
GOES_ON = frozenset({ScreenName.CHECKING, ScreenName.RECRUITER, ScreenName.STATUS, ScreenName.THANKS})
#: What a person may ask to see, while the screen that is due is one of these.
_ASKED = {
    "start": (ScreenName.START, {ScreenName.SUBDOMAIN}),
    "subdomain": (ScreenName.SUBDOMAIN, {ScreenName.START, ScreenName.TOKEN, ScreenName.TAKEN}),
    "token": (ScreenName.TOKEN, {ScreenName.CHECKING}),
    "colleague": (
        ScreenName.COLLEAGUE,
        {ScreenName.START, ScreenName.SUBDOMAIN, ScreenName.TOKEN, ScreenName.RECRUITER, ScreenName.OVERDUE},
    ),
    "stop": (
        ScreenName.STOP,
        {
            *(ScreenName.START, ScreenName.SUBDOMAIN, ScreenName.TOKEN, ScreenName.CHECKING, ScreenName.RECRUITER),
            *(ScreenName.LINKED, ScreenName.TAKEN, ScreenName.OVERDUE, ScreenName.TROUBLE, ScreenName.PAUSED),
        },
    ),
}
#: From these screens a person may stop the connection.
MAY_STOP = _ASKED["stop"][1]


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What is shown, and why."""

    name: ScreenName
    #: What Workable's answer was, if it is told here; the words come from the catalogue.
    problem: Problem | None = None
    #: What cannot be right in what was just entered.
    refusal: BadInput | None = None
    #: What the person typed as the subdomain, as far as it is shown again.
    typed: str | None = None
    #: What the person chose as the token's lifetime.
    lifetime: str | None = None

    @property
    def step(self) -> int:
        """Which of the four steps it is; 0: none of them."""
        return STEPS.get(self.name, 0)

    @property
    def field(self) -> str | None:
        """The field that something is the matter with."""
        if self.refusal is not None:
            return self.refusal.field
        return self.problem.field if self.problem else None

    @property
    def is_error(self) -> bool:
        """True if a person has to mend an entry."""
        mends = self.name in (ScreenName.SUBDOMAIN, ScreenName.TOKEN)
        return mends and (self.refusal is not None or self.field in ("subdomain", "token"))


def screen_of(connection: Connection, link: Link, *, now: datetime, asked: str | None = None) -> Screen:
    """The screen that is due, or the one that was asked for where that is possible."""
    due = _due(connection, link, now)
    if asked in _ASKED and link.purpose is not Purpose.STATUS:
        wanted, where = _ASKED[asked]
        settled = wanted is ScreenName.SUBDOMAIN and connection.state is not ConnectionState.AWAITING_TOKEN
        if due.name in where and not settled:
            return Screen(name=wanted)
    return due


def _closed(c: Connection, link: Link, now: datetime) -> ScreenName | None:
    """The screen of a link that opens nothing, or of a connection that is at rest."""
    status = link.status(now)
    if status is LinkStatus.USED_UP and c.state is not ConnectionState.LINKED:
        return ScreenName.USED_UP
    if status in (LinkStatus.EXPIRED, LinkStatus.REVOKED):
        return ScreenName(status.value)
    if c.closed_at is not None:
        return ScreenName.STOPPED
    return ScreenName.PAUSED if c.paused_at is not None else None


def _due(c: Connection, link: Link, now: datetime) -> Screen:
    closed = _closed(c, link, now)
    if closed is not None:
        return Screen(name=closed)
    if link.purpose is Purpose.STATUS:
        return Screen(name=ScreenName.STATUS, problem=c.problem)
    if link.purpose is Purpose.RECONNECT and c.candidate is None and _wants_a_token(c, link):
        return Screen(name=ScreenName.TOKEN, problem=c.replacement_problem or c.problem)
    match c.state:
        case ConnectionState.AWAITING_TOKEN:
            return _before_the_token(c, link)
        case ConnectionState.TOKEN_VALID:
            return Screen(name=ScreenName.CHECKING, problem=c.problem)
        case ConnectionState.AWAITING_RECRUITER:
            done = link.purpose is Purpose.TOKEN
            return Screen(name=ScreenName.THANKS if done else ScreenName.RECRUITER, problem=c.problem)
        case ConnectionState.LINKED:
            return Screen(name=ScreenName.LINKED, problem=c.problem)
    return _failed(c)


def _wants_a_token(c: Connection, link: Link) -> bool:
    """A link for another token asks for it once, and again while the one that was given is no good."""
    holds = c.state in (ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED)
    return holds and (link.attempts == 0 or c.replacement_problem is not None)


def _before_the_token(c: Connection, link: Link) -> Screen:
    if link.purpose is Purpose.RECRUITER:
        return Screen(name=ScreenName.NOT_YET)
    problem = c.problem
    if c.candidate is not None:
        return Screen(name=ScreenName.CHECKING, problem=problem)
    if problem is not None and problem.code is ProblemCode.ACCOUNT_TAKEN:
        return Screen(name=ScreenName.TAKEN, problem=problem)
    if problem is not None and problem.field == "subdomain":
        return Screen(name=ScreenName.SUBDOMAIN, problem=problem)
    if problem is not None and problem.code not in TRANSIENT:
        return Screen(name=ScreenName.TOKEN, problem=problem)
    return Screen(name=ScreenName.TOKEN if c.subdomain else ScreenName.START)


def _failed(c: Connection) -> Screen:
    problem = c.problem
    if problem is not None and problem.field is not None:
        return Screen(name=ScreenName.TOKEN, problem=problem)
    if problem is not None and problem.code in (ProblemCode.RECRUITER_OVERDUE, ProblemCode.ABANDONED):
        return Screen(name=ScreenName.OVERDUE, problem=problem)
    return Screen(name=ScreenName.TROUBLE, problem=problem)
