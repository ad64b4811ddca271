"""Why a connection is where it is, what may happen next, and what an answer or an operator's deed would make of it.

Pure: nothing is written and nobody is asked. What is foreseen here comes from the same `advance` and `judge` that
decide when it happens, so that a plan and the deed cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from states import events as happened
from states import verdicts
from states.connection import Account, Connection, ConnectionState, Problem, Recruiter
from states.duties import Duty, calls_needed, next_duty, owes_expiry_notice, owes_trouble_notice
from states.history import announcement, problem_told
from states.machine import IllegalTransition, advance
from states.problems import ProblemCode, ProblemOwner
from states.table import TRANSITIONS
from states.timing import Timing
from states.verdicts import Verdict, judge


class Verb(StrEnum):
    """What an operator can do to a connection, in the imperative."""

    #: Do now what is owed; the law decides what that is.
    ADVANCE = "advance"
    #: Look now, in any state that holds a token.
    CHECK = "check"
    #: Put it into another state, as far as the row holds what that state needs.
    FORCE = "force"
    #: Stop attending it until it is resumed.
    PAUSE = "pause"
    #: Let a paused one go on.
    RESUME = "resume"
    #: Let a failed connection go on.
    RESTART = "restart"
    #: Give it up for good.
    UNLINK = "unlink"
    #: Set or take away texts of its metadata.
    SET_METADATA = "set_metadata"


class Hindrance(StrEnum):
    """Why a verb would do nothing to a connection."""

    CLOSED = "closed"
    PAUSED = "paused"
    NOT_PAUSED = "not_paused"
    HAS_FAILED = "has_failed"
    NOT_FAILED = "not_failed"
    #: Nothing usable was given yet, so there is nothing to ask Workable with.
    NO_TOKEN = "no_token"
    #: Workable asked not to be called before a time.
    NOT_BEFORE = "not_before"
    #: It is in that state already.
    ALREADY_THERE = "already_there"
    #: The row does not hold what the state needs.
    LACKS_FACTS = "lacks_facts"
    #: Its row cannot be read.
    DAMAGED = "damaged"


class WaitsFor(StrEnum):
    """Who has the next turn."""

    CUSTOMER = "customer"
    WORKABLE = "workable"
    OPERATOR = "operator"
    US = "us"
    #: A worker, for whom it is due.
    WORKER = "worker"
    #: Nobody: it is linked, or closed.
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What one answer of Workable's would make of a connection."""

    #: The verdict's name, as in `recruiter_seen`; None: nobody has to be asked.
    answer: str | None
    #: The event that it is, and the state that the connection is in afterwards.
    event: str
    to: ConnectionState
    problem: ProblemCode | None = None
    #: True if it is a refusal that is not believed yet.
    doubted: bool = False


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """What a verb would do to a connection now."""

    verb: Verb
    #: Why it would do nothing; None: it would do something.
    hindrance: Hindrance | None = None
    #: What is owed, as far as the verb does that.
    duty: Duty = Duty.NOTHING
    #: How many calls it makes to Workable, as a rule.
    calls: int = 0
    #: What each answer would make of it; of what is certain there is one only.
    answers: tuple[Foreseen, ...] = ()
    #: What it keeps and wipes, who is told and what leads back; None if an answer decides that, or nothing is done.
    change: Change | None = None

    @property
    def to(self) -> ConnectionState | None:
        """The state that it leads to if all goes well; None if it does nothing."""
        return self.answers[0].to if self.answers else None


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """What comes by itself, as long as a worker is alive."""

    #: What is owed next, and when; None: nothing is owed before somebody acts.
    duty: Duty
    at: datetime | None
    #: When waiting ends, in which state, and with which problem.
    gives_up_at: datetime | None = None
    gives_up_in: ConnectionState | None = None
    gives_up_as: ProblemCode | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a deed would change: the row of the law that it is, what is kept and wiped, who is told, what leads back."""

    event: str
    source: ConnectionState
    target: ConnectionState
    #: The condition of the law's row; None: there is none.
    guard: str | None
    #: The facts that stay and those that go, by their names in `Connection`.
    kept: tuple[str, ...]
    wiped: tuple[str, ...]
    #: The announcement to the host, if there is one.
    announced: str | None
    #: What is done for it next, at once.
    then: Duty
    #: The verb that leads back, with the state that `force` takes; None: nothing does.
    back: Verb | None
    back_to: ConnectionState | None = None


def waits_for(c: Connection) -> WaitsFor:
    """Who has the next turn with a connection."""
    owner = who_must_act(c)
    if owner is not None:
        return WaitsFor(owner.value)
    at_its_goal = c.closed_at is not None or c.state is ConnectionState.LINKED
    return WaitsFor.NOBODY if at_its_goal else WaitsFor.WORKER


def who_must_act(c: Connection) -> ProblemOwner | None:
    """Who has to do something for the connection to go on; None: nobody has to, it goes on by itself or is closed."""
    if c.closed_at is not None:
        return None
    if c.paused_at is not None:
        return ProblemOwner.OPERATOR
    problem: Problem | None = c.present_problem or c.replacement_problem
    if problem is not None:
        cure_is_tried = c.candidate is not None and problem.field == "token"
        return None if cure_is_tried else problem.owner
    if c.state is ConnectionState.FAILED:  # by hand: whoever did it has to undo it, unless a new token is verified
        return None if c.candidate is not None else ProblemOwner.OPERATOR
    lacks_token = c.state is ConnectionState.AWAITING_TOKEN and c.candidate is None
    waits = lacks_token or c.state is ConnectionState.AWAITING_RECRUITER  # a new token makes no recruiter
    return ProblemOwner.CUSTOMER if waits else None


def upcoming(c: Connection) -> Upcoming:
    """What comes by itself."""
    if c.at_rest or c.due_at is None:
        return Upcoming(duty=Duty.NOTHING, at=None)
    ends: dict[ConnectionState, ProblemCode] = {
        ConnectionState.AWAITING_TOKEN: ProblemCode.ABANDONED,
        ConnectionState.AWAITING_RECRUITER: ProblemCode.RECRUITER_OVERDUE,
    }
    gives_up = ends.get(c.state) if c.deadline is not None else None
    return Upcoming(
        duty=next_duty(c),
        at=c.due_at,
        gives_up_at=c.deadline if gives_up else None,
        gives_up_in=ConnectionState.FAILED if gives_up else None,
        gives_up_as=gives_up,
    )


# what an answer would do


def certain_event(
    c: Connection, now: datetime, timing: Timing, recruiter: Callable[[], Recruiter]
) -> happened.Event | None:
    """The event that a connection's duty is without asking anybody; None: Workable has to be asked, or nothing is owed.

    Args:
        c: the connection.
        now: the time.
        timing: how patient we are.
        recruiter: makes the recruiter that is issued, where that is what is owed.
    """
    duty = next_duty(c)
    if duty is not Duty.NOTHING and owes_trouble_notice(c, now, timing):
        return happened.TroubleLasted()
    match duty:
        case Duty.PREPARE_RECRUITER if c.recruiter is None:
            return happened.RecruiterPrepared(recruiter())
        case Duty.FIND_RECRUITER | Duty.CHECK_HEALTH if owes_expiry_notice(c, now, timing):
            return happened.TokenExpiring()
        case Duty.PUT_ASIDE if c.deadline is not None and c.deadline <= now:
            return happened.Abandoned()
    return None


def _some_recruiter() -> Recruiter:
    """Whatever is issued, the law takes it the same way."""
    return Recruiter(name="", email="")


#: Which jitter a foresight is made with: it decides about times only.
_JITTER = 0.5


def is_due(c: Connection, now: datetime) -> bool:
    """True if what is owed to a connection is owed now."""
    return c.due_at is not None and c.due_at <= now


def settle_certain(c: Connection, now: datetime, timing: Timing) -> Connection:
    """The connection after everything that is certain without asking anybody."""
    while (event := certain_event(c, now, timing, _some_recruiter)) is not None:
        c = advance(c, event, now=now, jitter=_JITTER, timing=timing)
    return c


def possible_answers(c: Connection, now: datetime) -> Iterator[Verdict]:
    """An example of each answer that Workable may give to what a connection owes, the good one first."""
    if next_duty(c) is Duty.VERIFY_TOKEN:
        assert c.candidate is not None, "a candidate is what is verified"
        own = c.account or Account(id="", name="", subdomain=c.candidate.subdomain)
        yield verdicts.AccountReadable(own)
        if c.account is not None:
            yield verdicts.AccountReadable(Account(id=f"not {own.id}", name="", subdomain=""))
    else:
        yield verdicts.RecruiterSeen("")
        yield verdicts.RecruiterNotSeen()
        yield verdicts.AccountNotThere()
        if c.account is not None:
            yield verdicts.AccountNotThere((replace(c.account, subdomain=f"not-{c.account.subdomain}"),))
    yield verdicts.CredentialRefused()
    yield verdicts.WrongAccount()
    yield verdicts.Forbidden("")
    yield verdicts.Unavailable()
    yield verdicts.OverLimit(now + timedelta(minutes=1))
    yield verdicts.NotUnderstood("no_rule")


def after_answer(c: Connection, verdict: Verdict, now: datetime, timing: Timing) -> tuple[happened.Event, Connection]:
    """The event that an answer is, and the connection after it and after what is certain then."""
    event = judge(c, verdict, now=now, timing=timing)
    return event, settle_certain(advance(c, event, now=now, jitter=_JITTER, timing=timing), now, timing)


def foresee(verb: Verb, c: Connection, now: datetime, timing: Timing, to: ConnectionState | None = None) -> Foresight:
    """What a verb would do to a connection now. `to`: the state that `force` aims at."""
    hindrance = what_hinders(verb, c, now, to)
    if hindrance is not None:
        return Foresight(verb=verb, hindrance=hindrance)
    if verb not in {Verb.ADVANCE, Verb.CHECK}:
        event = event_of(verb, to)
        after = advance(c, event, now=now, jitter=_JITTER, timing=timing)
        goes_on = verb is Verb.RESTART and after.token is not None
        foreseen = Foreseen(answer=None, event=event.name, to=after.state, problem=_code(after))
        return Foresight(
            verb=verb,
            duty=next_duty(after) if goes_on else Duty.NOTHING,
            answers=(foreseen,),
            change=foresee_change(c, event, now, timing),
        )
    if verb is Verb.CHECK:
        c = advance(c, happened.CheckRequested(), now=now, jitter=_JITTER, timing=timing)
    settled = settle_certain(c, now, timing)
    if not _asks(settled) or (settled is not c and not is_due(settled, now)):
        event_or_none = certain_event(c, now, timing, _some_recruiter)
        assert event_or_none is not None, "otherwise something hinders it"
        foreseen = Foreseen(answer=None, event=event_or_none.name, to=settled.state, problem=_code(settled))
        return Foresight(verb=verb, duty=next_duty(c), answers=(foreseen,))
    answers = []
    for verdict in possible_answers(settled, now):
        answered, after = after_answer(settled, verdict, now, timing)
        told = problem_told(settled, after)
        answers.append(
            Foreseen(
                answer=answer_name(verdict, settled),
                event=answered.name,
                to=after.state,
                problem=told.code if told else None,
                doubted=isinstance(answered, happened.RefusalDoubted),
            )
        )
    return Foresight(verb=verb, duty=next_duty(settled), calls=calls_needed(settled, now), answers=tuple(answers))


def answer_name(verdict: Verdict, c: Connection) -> str:
    """What an answer is called: the verdict's name, `other_account` or `account_renamed`."""
    if isinstance(verdict, verdicts.AccountReadable) and c.account is not None and c.account.id != verdict.account.id:
        return "other_account"
    if isinstance(verdict, verdicts.AccountNotThere) and verdict.reached:
        return "account_renamed"
    return verdicts.name_of(verdict)


def _code(c: Connection) -> ProblemCode | None:
    problem = c.problem or c.replacement_problem
    return problem.code if problem else None


def _asks(c: Connection) -> bool:
    """True if what is owed next is a question to Workable."""
    return next_duty(c) not in {Duty.NOTHING, Duty.PUT_ASIDE}


def what_hinders(verb: Verb, c: Connection, now: datetime, to: ConnectionState | None = None) -> Hindrance | None:
    """Why a verb would do nothing to a connection now; None if nothing hinders it."""
    if c.closed_at is not None:
        return Hindrance.CLOSED
    match verb:
        case Verb.ADVANCE | Verb.CHECK:
            return _hinders_a_look(verb, c, now)
        case Verb.PAUSE if c.paused_at is not None:
            return Hindrance.PAUSED
        case Verb.RESUME if c.paused_at is None:
            return Hindrance.NOT_PAUSED
        case Verb.RESTART if c.state is not ConnectionState.FAILED:
            return Hindrance.NOT_FAILED
        case Verb.FORCE if to is c.state:
            return Hindrance.ALREADY_THERE
        case Verb.FORCE if not _is_lawful(c, happened.Forced(to or c.state)):
            return Hindrance.LACKS_FACTS
    return None


def _hinders_a_look(verb: Verb, c: Connection, now: datetime) -> Hindrance | None:
    if c.paused_at is not None:
        return Hindrance.PAUSED
    if verb is Verb.CHECK and not _is_lawful(c, happened.CheckRequested()):
        return Hindrance.NO_TOKEN
    if verb is Verb.ADVANCE and next_duty(c) is Duty.NOTHING:
        return Hindrance.HAS_FAILED
    if verb is Verb.ADVANCE and next_duty(c) is Duty.PUT_ASIDE and (c.deadline is None or c.deadline > now):
        return Hindrance.NO_TOKEN
    if c.not_before is not None and c.not_before > now and (verb is Verb.CHECK or _asks(c)):
        return Hindrance.NOT_BEFORE
    return None


def event_of(
    verb: Verb, to: ConnectionState | None = None, texts: Mapping[str, str | None] | None = None
) -> happened.Event:
    """The event that a verb is by itself, without asking anybody.

    Args:
        verb: the verb.
        to: the state that `force` aims at.
        texts: what `set_metadata` sets; None takes a text away.
    """
    match verb:
        case Verb.SET_METADATA:
            return happened.MetadataSet(texts or {})
        case Verb.FORCE if to is not None:
            return happened.Forced(to)
        case Verb.PAUSE:
            return happened.Paused()
        case Verb.RESUME:
            return happened.Resumed()
        case Verb.RESTART:
            return happened.Restarted()
        case Verb.UNLINK:
            return happened.Unlinked()
    raise AssertionError(f"{verb.value} is no event by itself")


# what a deed would change

#: The facts whose loss somebody may regret, in the order of the story.
_HELD = ("account", "token", "recruiter", "candidate", "problem", "replacement_problem", "doubt", "linked_at")


def foresee_change(c: Connection, event: happened.Event, now: datetime, timing: Timing) -> Change:
    """What a deed would change. Raises IllegalTransition."""
    after = advance(c, event, now=now, jitter=_JITTER, timing=timing)
    rows = [t for t in TRANSITIONS if t.event is type(event) and t.source is c.state and t.target is after.state]
    guards = [row.guard.__name__ for row in rows if row.guard is not None and row.guard(c, event)]
    held = [name for name in _HELD if getattr(c, name) is not None]
    back, back_to = _way_back(c, after)
    return Change(
        event=event.name,
        source=c.state,
        target=after.state,
        guard=guards[0] if guards else None,
        kept=tuple(name for name in held if getattr(after, name) is not None),
        wiped=tuple(name for name in held if getattr(after, name) is None),
        announced=announcement(c, after, event),
        then=next_duty(after) if after.due_at is not None and after.due_at <= now else Duty.NOTHING,
        back=back,
        back_to=back_to,
    )


def _way_back(before: Connection, after: Connection) -> tuple[Verb | None, ConnectionState | None]:
    if after.closed_at is not None:
        return None, None
    if after.paused_at != before.paused_at:
        return (Verb.RESUME if after.paused_at else Verb.PAUSE), None
    if after.state is before.state:
        return None, None
    if after.state is ConnectionState.FAILED and before.state is not ConnectionState.LINKED:
        return Verb.RESTART, None
    if _is_lawful(after, happened.Forced(before.state)):
        return Verb.FORCE, before.state
    return (Verb.RESTART, None) if after.state is ConnectionState.FAILED else (None, None)


def _is_lawful(c: Connection, event: happened.Event) -> bool:
    """True if the law has a row for it."""
    try:
        advance(c, event, now=c.state_since, jitter=_JITTER)
    except IllegalTransition:
        return False
    return True


def verbs_for(c: Connection, now: datetime) -> list[tuple[Verb, ConnectionState | None]]:
    """What an operator may do to a connection now, the likely first; `force` with each state that the law allows."""
    found: list[tuple[Verb, ConnectionState | None]] = [
        (verb, None)
        for verb in (Verb.ADVANCE, Verb.RESUME, Verb.RESTART, Verb.CHECK, Verb.PAUSE, Verb.UNLINK)
        if what_hinders(verb, c, now) is None
    ]
    forced = [(Verb.FORCE, to) for to in ConnectionState if what_hinders(Verb.FORCE, c, now, to) is None]
    return [*found, *forced]
