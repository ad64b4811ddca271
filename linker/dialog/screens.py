"""Which screen is shown: a pure function of the connection, the link, the time, and what the person asked to see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from linker.errors import BadInput
from linker.links import Link, LinkStatus, Purpose
from states.connection import Connection, ConnectionState, Problem
from states.problems import TRANSIENT, ProblemCode


class ScreenName(StrEnum):
    """The screens, in the order of the story. Each has a template, or is told by `message.html`."""

    START = "start"
    #: The start of a link that leads to the recruiter alone.
    BEGIN = "begin"
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
    RESTART = "restart"
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
    ScreenName.TOKEN: 2,
    ScreenName.CHECKING: 2,
    ScreenName.RECRUITER: 3,
    ScreenName.LINKED: 4,
}
#: Screens that go on by themselves.
GOES_ON = frozenset(
    {
        *(ScreenName.CHECKING, ScreenName.RECRUITER, ScreenName.STATUS, ScreenName.THANKS, ScreenName.NOT_YET),
        *(ScreenName.PAUSED, ScreenName.USED_UP),
    }
)
#: What is shown first by a link by which nothing was sent yet: the first button of these screens would do something,
#: and scanners of mail press first buttons.
_FIRST = {ScreenName.SUBDOMAIN: ScreenName.START, ScreenName.RECRUITER: ScreenName.BEGIN}
#: Screens that are there for an entry: a link that has no room for one shows them when it has.
_FOR_ENTRIES = frozenset(
    {ScreenName.START, ScreenName.SUBDOMAIN, ScreenName.TOKEN, ScreenName.TAKEN, ScreenName.OVERDUE}
)


class Deed(StrEnum):
    """What a person can do on a screen: the `do` of its forms."""

    SUBDOMAIN = "subdomain"
    TOKEN = "token"
    #: Go on with the token that is kept, for the account that was named.
    HELD = "held"
    CONFIRM = "confirm"
    CHECK = "check"
    RESTART = "restart"
    STOP = "stop"


#: What may be done by a link, by what it is for. All else follows: which screens it shows, and what they offer.
MAY: dict[Purpose, frozenset[Deed]] = {
    Purpose.SETUP: frozenset(Deed),
    Purpose.TOKEN: frozenset({Deed.SUBDOMAIN, Deed.TOKEN, Deed.HELD, Deed.CHECK}),
    Purpose.RECRUITER: frozenset({Deed.CONFIRM, Deed.CHECK, Deed.RESTART}),
    Purpose.RECONNECT: frozenset(Deed) - {Deed.STOP},
    Purpose.STATUS: frozenset(),
}
#: What a person may ask to see, while the screen that is due is one of these; the link must allow what is done there.
_ASKED: dict[str, tuple[ScreenName, set[ScreenName], frozenset[Deed]]] = {
    "start": (ScreenName.START, {ScreenName.SUBDOMAIN}, frozenset({Deed.SUBDOMAIN})),
    "subdomain": (
        ScreenName.SUBDOMAIN,
        {ScreenName.START, ScreenName.TOKEN, ScreenName.TAKEN},
        frozenset({Deed.SUBDOMAIN}),
    ),
    "restart": (ScreenName.RESTART, {ScreenName.OVERDUE}, frozenset({Deed.RESTART})),
    "token": (ScreenName.TOKEN, {ScreenName.CHECKING, ScreenName.SUBDOMAIN}, frozenset({Deed.TOKEN})),
    "colleague": (
        ScreenName.COLLEAGUE,
        {ScreenName.START, ScreenName.SUBDOMAIN, ScreenName.TOKEN, ScreenName.RECRUITER, ScreenName.OVERDUE},
        frozenset(Deed),
    ),
    "stop": (
        ScreenName.STOP,
        {
            *(ScreenName.START, ScreenName.BEGIN, ScreenName.SUBDOMAIN, ScreenName.TOKEN, ScreenName.CHECKING),
            *(ScreenName.RECRUITER, ScreenName.LINKED, ScreenName.TAKEN, ScreenName.OVERDUE, ScreenName.RESTART),
            *(ScreenName.TROUBLE, ScreenName.PAUSED, ScreenName.COLLEAGUE, ScreenName.USED_UP),
        },
        frozenset({Deed.STOP}),
    ),
}


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
    #: True if the person asked for it: its buttons act also where nothing was sent by the link yet.
    is_asked: bool = False

    @property
    def step(self) -> int:
        """Which of the four steps it is; 0: none of them. Whoever gave a token is not sent back to the first one."""
        return STEPS[ScreenName.TOKEN] if self.is_mismatch else STEPS.get(self.name, 0)

    @property
    def is_mismatch(self) -> bool:
        """True if the account is asked for because the token is another account's."""
        code = self.problem.code if self.problem else None
        return self.name is ScreenName.SUBDOMAIN and code is ProblemCode.SUBDOMAIN_MISMATCH

    @property
    def field(self) -> str | None:
        """The field that something is the matter with."""
        if self.refusal is not None:
            return self.refusal.field
        if self.problem is None:
            return None
        return "token" if self.problem.params.get("stays_with") else self.problem.field  # the account is settled

    @property
    def is_error(self) -> bool:
        """True if a person has to mend an entry."""
        mends = self.name in (ScreenName.SUBDOMAIN, ScreenName.TOKEN)
        return mends and (self.refusal is not None or self.field in ("subdomain", "token"))


def screen_of(
    connection: Connection, link: Link, *, now: datetime, asked: str | None = None, renewed: bool = False
) -> Screen:
    """The screen that is due, or the one that was asked for where that is possible.

    `renewed`: a token was accepted since the link was made; a link for another token does not ask for one again.
    """
    due, used_up = _due(connection, link, now, renewed), link.status(now) is LinkStatus.USED_UP
    if used_up and due.name in _FOR_ENTRIES:
        due = Screen(name=ScreenName.USED_UP)
    if asked == due.name:
        return replace(due, is_asked=True)
    if asked in _ASKED and (asked == Deed.STOP or not used_up):
        wanted, where, deeds = _ASKED[asked]
        settled = wanted is ScreenName.SUBDOMAIN and connection.state is not ConnectionState.AWAITING_TOKEN
        if due.name in where and deeds & MAY[link.purpose] and not settled:
            return Screen(name=wanted, is_asked=True)
    is_untouched = link.attempts == 0 and not used_up
    return Screen(name=_FIRST[due.name]) if is_untouched and due.name in _FIRST else due


def may_do(deed: str, connection: Connection, link: Link, *, now: datetime) -> bool:
    """True if this may be done by the link now. A connection that our side put aside is nobody else's to restart."""
    opens = {LinkStatus.OPEN, LinkStatus.USED_UP} if deed == Deed.STOP else {LinkStatus.OPEN}
    if deed not in MAY[link.purpose] or link.status(now) not in opens:
        return False
    return deed != Deed.RESTART or _due(connection, link, now, renewed=True).name is ScreenName.OVERDUE


def may_stop(screen: Screen, link: Link) -> bool:
    """True if the connection may be stopped from this screen."""
    _, where, deeds = _ASKED["stop"]
    return screen.name in where and bool(deeds & MAY[link.purpose])


def _closed(c: Connection, link: Link, now: datetime) -> ScreenName | None:
    """The screen of a link that opens nothing, or of a connection that is at rest."""
    status = link.status(now)
    if status in (LinkStatus.EXPIRED, LinkStatus.REVOKED):
        return ScreenName(status.value)
    if c.closed_at is not None:
        return ScreenName.STOPPED
    return ScreenName.PAUSED if c.paused_at is not None else None


def _due(c: Connection, link: Link, now: datetime, renewed: bool) -> Screen:
    closed = _closed(c, link, now)
    if closed is not None:
        return Screen(name=closed)
    if link.purpose is Purpose.STATUS:
        return Screen(name=ScreenName.STATUS, problem=c.problem)
    match c.state:
        case ConnectionState.AWAITING_TOKEN:
            return _before_the_token(c, link)
        case ConnectionState.TOKEN_VALID:
            return Screen(name=ScreenName.CHECKING, problem=c.problem)
        case ConnectionState.FAILED:
            return _failed(c, link)
    if link.purpose is Purpose.RECONNECT and c.candidate is not None:
        return Screen(name=ScreenName.CHECKING, problem=c.problem)
    lacks_recruiter = c.state is ConnectionState.AWAITING_RECRUITER and c.linked_at is not None
    wants_token = c.replacement_problem is not None or not (renewed or lacks_recruiter)
    if link.purpose is Purpose.RECONNECT and wants_token:
        return Screen(name=ScreenName.TOKEN, problem=c.replacement_problem or c.problem)
    if c.state is ConnectionState.LINKED:
        return Screen(name=ScreenName.LINKED, problem=c.problem)
    confirms = Deed.CONFIRM in MAY[link.purpose]
    return Screen(name=ScreenName.RECRUITER if confirms else ScreenName.THANKS, problem=c.problem)


def _before_the_token(c: Connection, link: Link) -> Screen:
    if Deed.TOKEN not in MAY[link.purpose]:
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


def _failed(c: Connection, link: Link) -> Screen:
    """A link for a part of the way shows what is due in that part alone."""
    problem, may = c.problem, MAY[link.purpose]
    if c.candidate is not None and Deed.TOKEN in may:
        return Screen(name=ScreenName.CHECKING, problem=c.present_problem)
    if c.heals and c.replacement_problem is not None:  # a new token was no good
        return Screen(name=ScreenName.TOKEN if Deed.TOKEN in may else ScreenName.NOT_YET, problem=c.replacement_problem)
    if problem is not None and (problem.field is not None or problem.code is ProblemCode.ABANDONED):
        if Deed.TOKEN not in may:
            return Screen(name=ScreenName.NOT_YET)
        if problem.field is not None or Deed.RESTART not in may:
            return Screen(name=ScreenName.TOKEN, problem=problem)
        return Screen(name=ScreenName.OVERDUE, problem=problem)
    if problem is not None and problem.code is ProblemCode.RECRUITER_OVERDUE:
        return Screen(name=ScreenName.OVERDUE if Deed.RESTART in may else ScreenName.THANKS, problem=problem)
    return Screen(name=ScreenName.TROUBLE, problem=problem)
