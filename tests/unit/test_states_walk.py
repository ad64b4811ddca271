"""Random lives of a connection: people, Workable and the clock do what they like, and some things always hold."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from linker.persistence import mapping
from states import events as happened
from states.connection import Connection, ConnectionState
from states.duties import Duty, next_duty, owes_trouble_notice
from states.events import Event
from states.machine import IllegalTransition, advance
from states.problems import HEALING, TRANSIENT, NearMiss, NearMissKind, ProblemCode
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
    failed_attention,
    judge,
)
from tests.builders import ACME, GLOBEX, ISSUED, NOW, TIMING, a_connection, a_credential

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState
WORKING = {TOKEN_VALID, AWAITING_RECRUITER, LINKED}
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

#: What people do, whether it is sensible or not.
PEOPLE = st.one_of(
    st.builds(happened.TokenSubmitted, st.sampled_from([a_credential("first"), a_credential("second")])),
    st.builds(happened.ReplacementSubmitted, st.just(a_credential("third", subdomain="globex"))),
    st.builds(happened.SubdomainGiven, st.sampled_from(["acme", "globex"])),
    st.sampled_from([happened.Restarted(), happened.Resumed()]),
    st.sampled_from([happened.Paused(), happened.Resumed(), happened.Resumed(), happened.Unlinked()]),
    st.builds(happened.Forced, st.sampled_from(ConnectionState)),
    st.just(happened.CheckRequested()),
)

#: What Workable can say to both questions; the waits are minutes.
REFUSALS: list[Verdict] = [CredentialRefused(), Forbidden("r_jobs"), WrongAccount(("globex",))]
ELSEWHERE: list[Verdict] = [
    AccountNotThere((replace(ACME, subdomain="acme-group"), GLOBEX)),
    AccountNotThere((replace(ACME, id="another"),)),
    AccountNotThere(),
    AccountNotThere(complete=False),
]
TO_VERIFYING = [AccountReadable(ACME), AccountReadable(GLOBEX), *REFUSALS]
TO_LOOKING = [
    RecruiterSeen("2b81c0"),
    RecruiterSeen("another"),
    RecruiterNotSeen(),
    RecruiterNotSeen(NearMiss(kind=NearMissKind.SLIP, alike="ats+")),
    *REFUSALS,
    *ELSEWHERE,
]


@dataclass(frozen=True)
class Trouble:
    """No answer to go by: the verdict is made once the time is known."""

    kind: str
    minutes: int

    def verdict(self, now: datetime) -> Verdict:
        """The verdict that this trouble is now."""
        if self.kind == "unavailable":
            return Unavailable(now + self.minutes * MINUTE if self.minutes else None)
        return OverLimit(now + self.minutes * MINUTE) if self.kind == "limit" else NotUnderstood("no_rule", status=418)


@dataclass(frozen=True)
class Attend:
    """A worker does what is owed: the numbers choose Workable's answer."""

    choice: int
    trouble: Trouble | None = None
    fault: bool = False
    incident: bool = False


TROUBLES = st.builds(Trouble, st.sampled_from(["unavailable", "limit", "odd"]), st.integers(0, 60))
ATTENDS = st.one_of(
    st.builds(Attend, st.integers(0, 1)),
    st.builds(Attend, st.integers(0, 100)),
    st.builds(Attend, st.just(0), TROUBLES),
    st.builds(Attend, st.just(0), st.none(), st.just(True)),
    st.builds(Attend, st.integers(0, 100), st.none(), st.just(False), st.just(True)),
)
#: Time passes until something is due, or however long it likes.
PAUSES = st.one_of(st.none(), st.none(), st.timedeltas(timedelta(0), DAY), st.timedeltas(timedelta(0), 40 * DAY))
DEEDS = st.tuples(st.one_of(PEOPLE, ATTENDS, ATTENDS), PAUSES, st.floats(0, 1, exclude_max=True))
Deed = tuple[Any, timedelta | None, float]

#: Lives begin everywhere: from the beginning alone, few would come far.
STARTS = st.sampled_from(
    [
        a_connection(LINKED),
        a_connection(AWAITING_RECRUITER),
        a_connection(TOKEN_VALID),
        a_connection(LINKED, candidate=a_credential("third")),
        a_connection(FAILED),
        a_connection(FAILED, candidate=a_credential("third"), due_at=NOW),
        a_connection(AWAITING_TOKEN),
    ]
)


@dataclass
class Life:
    """A connection, its row as the store would hold it, and the time."""

    connection: Connection
    now: datetime = NOW
    forced: bool = False

    def __post_init__(self) -> None:
        self.row = mapping.changed_columns(None, self.connection)

    def wait(self, pause: timedelta | None) -> None:
        """Let time pass; by default until the connection is due."""
        due = self.connection.due_at
        self.now = self.now + pause if pause is not None else max(self.now, due or self.now)

    def person(self, event: Event, jitter: float) -> None:
        """A person does something; the law may refuse it."""
        try:
            self.happen(event, jitter)
        except IllegalTransition:
            note(f"refused {event.name}")

    def attend(self, deed: Attend, jitter: float) -> None:
        """A worker does what is owed, if it is due. The law never refuses the event that follows."""
        before = self.connection
        if before.due_at is None or before.due_at > self.now:
            return
        event = self._found(deed)
        if event is None:
            return
        self.happen(event, jitter)
        after = self.connection
        told = after.troubled_since is not None and before.troubled_since is None
        moves = ("state", "candidate", "account", "subdomain")
        progress = told or any(getattr(after, each) != getattr(before, each) for each in moves)
        assert progress or after.due_at is None or after.due_at > self.now, "nothing spins"

    def _found(self, deed: Attend) -> Event | None:
        c, duty = self.connection, next_duty(self.connection)
        assert duty is not Duty.NOTHING, "what is due is owed something"
        if duty is Duty.PUT_ASIDE:
            assert c.deadline is not None
            if c.held_until is not None and c.held_until <= self.now < c.deadline:
                return happened.HeldTokenWiped()
            assert c.deadline <= self.now, "who waits for a token is due at the deadline"
            return happened.Abandoned()
        if owes_trouble_notice(c, self.now, TIMING):
            return happened.TroubleLasted()
        if deed.fault:
            return failed_attention(
                c, {"fault": "seal_broken.changed", "connection": c.id}, now=self.now, timing=TIMING
            )
        if duty is Duty.PREPARE_RECRUITER and c.recruiter is None:
            return happened.RecruiterPrepared(ISSUED)
        answers = TO_VERIFYING if duty is Duty.VERIFY_TOKEN else TO_LOOKING
        verdict = deed.trouble.verdict(self.now) if deed.trouble else answers[deed.choice % len(answers)]
        return judge(c, verdict, now=self.now, timing=TIMING, incident=deed.incident)

    def happen(self, event: Event, jitter: float) -> None:
        """Let the law decide, and write it down as the store does: only what changed."""
        before = self.connection
        after = advance(before, event, now=self.now, jitter=jitter, timing=TIMING)
        note(f"{event.name} in {before.state}")
        if after.state is not before.state:
            self.forced = isinstance(event, happened.Forced)
        self.connection = after
        self.row |= mapping.changed_columns(before, after)
        self.check(before)

    def check(self, before: Connection) -> None:
        """What holds after every event."""
        c = self.connection
        check_schedule(c, self.now)
        check_holdings(c)
        check_problems(c, forced=self.forced)
        check_memory(before, c, forced=self.forced)
        kept = {"version": c.version, "last_seq": c.last_seq, "updated_at": c.updated_at}
        assert mapping.connection(self.row | kept) == c, "what is written is what is read"


def check_schedule(c: Connection, now: datetime) -> None:
    """Nothing is forgotten, nothing is due that must not be, and every waiting has an end."""
    assert (next_duty(c) is Duty.NOTHING) == (c.due_at is None)
    if c.at_rest:
        assert c.due_at is None
    elif c.state is not FAILED:
        assert c.due_at is not None
    elif c.due_at is not None:
        assert c.token is not None, "what has failed is looked at only with a token"
    else:
        assert c.token is None or c.problem is None or c.problem.code not in HEALING or now >= c.state_since + 76 * DAY
    assert (c.deadline is not None) == (c.state in {AWAITING_TOKEN, AWAITING_RECRUITER} and c.closed_at is None)
    if c.due_at is not None:
        assert c.not_before is None or c.due_at >= c.not_before
        assert c.due_at <= now + TIMING.token_within * 100
        soon = c.due_at <= now + TIMING.health_every * 1.1
        assert soon or next_duty(c) is Duty.PUT_ASIDE or (c.state is FAILED and c.due_at <= now + 8 * DAY)
    times = [getattr(c, one.name) for one in fields(c)]
    assert all(at.tzinfo is not None for at in times if isinstance(at, datetime))


def check_holdings(c: Connection) -> None:
    """Each state holds what its duty needs, and no secret is kept longer than it is needed."""
    if c.state in WORKING:
        assert c.token is not None
        assert c.account is not None
    if c.state in {AWAITING_RECRUITER, LINKED}:
        assert c.recruiter is not None
    if c.state is LINKED:
        assert c.linked_at is not None
    if c.closed_at is not None:
        assert c.candidate is None
    if c.state is FAILED and c.candidate is not None:
        assert c.heals, "only where the one that is held is kept meanwhile"
    if c.closed_at is not None:
        assert c.token is None
    if c.token is not None:
        assert c.account is not None, "a token was accepted for an account"


def check_problems(c: Connection, *, forced: bool) -> None:
    """A problem belongs to its state; an unbelieved refusal never shows as one; a failure always has a cause."""
    code = c.problem.code if c.problem else None
    if c.state in {TOKEN_VALID, LINKED} or (c.candidate is not None and c.state is not FAILED):
        waiting_for = {ProblemCode.RECRUITER_ABSENT, ProblemCode.RECRUITER_REMOVED}
        assert code is None or code in TRANSIENT | (waiting_for if c.state is AWAITING_RECRUITER else set())
    if c.state is FAILED and not forced:
        assert code is not None
        assert code not in TRANSIENT
    if c.state is LINKED and not forced:
        assert c.recruiter is not None
        assert c.recruiter.id is not None
    assert c.doubt is None or c.state in WORKING
    assert c.attempts == 0 or (c.present_problem is not None and c.present_problem.code in TRANSIENT)
    assert c.troubled_since is None or (c.state is not FAILED and c.closed_at is None)
    assert c.problem is None or c.problem.lasting == (c.troubled_since is not None and code in TRANSIENT)


def check_memory(before: Connection, c: Connection, *, forced: bool) -> None:
    """What a customer was told, and which account they linked, does not change under them."""
    if before.heals and c.closed_at is None and not forced:
        assert c.state is not AWAITING_TOKEN, "there a token would be put aside that may be good again"
        assert c.token is not None
        assert c.token.sealed in {one.sealed for one in (before.token, before.candidate) if one is not None}
    if before.recruiter is not None:
        assert c.recruiter is not None
        assert (c.recruiter.name, c.recruiter.email) == (before.recruiter.name, before.recruiter.email)
    if before.linked_at is not None:
        assert c.linked_at == before.linked_at
        assert before.account is not None
        assert c.account is not None
        assert c.account.id == before.account.id
    assert (c.state_since == before.state_since) or c.state is not before.state


@given(start=STARTS, deeds=st.lists(DEEDS, min_size=5, max_size=60))
def test_whatever_happens(start: Connection, deeds: list[Deed]) -> None:
    """After every event the row is one that the law can go on from: nothing is forgotten, lost or stuck."""
    life = Life(start)
    for deed, pause, jitter in deeds:
        life.wait(pause)
        if isinstance(deed, Attend):
            life.attend(deed, jitter)
        else:
            life.person(deed, jitter)


@given(start=STARTS, deeds=st.lists(DEEDS, max_size=30), jitter=st.floats(0, 1, exclude_max=True))
def test_every_life_can_end_well(start: Connection, deeds: list[Deed], jitter: float) -> None:
    """From wherever a connection got to, a good token and an added recruiter link it, unless it is closed."""
    life = Life(start)
    for deed, pause, chance in deeds:
        life.wait(pause)
        life.attend(deed, chance) if isinstance(deed, Attend) else life.person(deed, chance)
    if life.connection.closed_at is not None:
        return
    life.person(happened.Resumed(), jitter)
    good = a_credential("good", subdomain="acme")
    given_anew = {AWAITING_TOKEN, FAILED}
    submitted = happened.TokenSubmitted if life.connection.state in given_anew else happened.ReplacementSubmitted
    life.happen(submitted(good), jitter)
    account = life.connection.account if life.connection.account else ACME
    for _ in range(8):
        life.wait(None)
        duty = next_duty(life.connection)
        if duty is Duty.VERIFY_TOKEN:
            life.happen(judge(life.connection, AccountReadable(account), now=life.now, timing=TIMING), jitter)
        else:
            life.attend(Attend(0), jitter)
    assert life.connection.state is LINKED
    assert life.connection.token == good
    assert life.connection.problem is None
