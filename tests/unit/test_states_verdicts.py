"""What an answer of Workable is for a connection, and when a refusal is believed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from states import events as happened
from states.connection import Connection, ConnectionState, Credential, Doubt, Problem
from states.events import Event
from states.problems import TRANSIENT, NearMiss, NearMissKind, ProblemCode, ProblemOwner
from states.timing import Timing
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
from tests.builders import (
    ACME,
    CANDIDATE,
    EARLIER,
    GLOBEX,
    ISSUED,
    LATER,
    NOW,
    SEEN,
    TIMING,
    TOKEN,
    a_connection,
    a_doubt,
    a_problem,
    move,
)

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState
WORKING = (TOKEN_VALID, AWAITING_RECRUITER, LINKED)

VERIFYING = a_connection(AWAITING_TOKEN, candidate=CANDIDATE)
RECONNECTING = replace(VERIFYING, account=ACME, linked_at=EARLIER)
CHANGED_MIND = replace(VERIFYING, account=ACME)
PREPARED = a_connection(TOKEN_VALID, recruiter=SEEN)
WAITING = a_connection(AWAITING_RECRUITER)
OVERDUE = replace(WAITING, deadline=NOW)
HEALTHY = a_connection(LINKED)
REPLACING = replace(HEALTHY, candidate=CANDIDATE)
REVOKED = a_connection(FAILED, due_at=NOW)
EXPIRED = replace(REVOKED, problem=a_problem(ProblemCode.TOKEN_EXPIRED))
TOO_LATE = replace(REVOKED, problem=a_problem(ProblemCode.RECRUITER_OVERDUE))
FORCED = replace(REVOKED, problem=None)
RECONSIDERED = replace(REVOKED, candidate=CANDIDATE)
RENAMED = replace(ACME, subdomain="acme-group")


def judged(connection: Connection, verdict: Verdict, *, now: datetime = NOW, timing: Timing = TIMING) -> Event:
    """What the verdict is for the connection, now."""
    return judge(connection, verdict, now=now, timing=timing)


def refused(code: str, **params: Any) -> Event:
    """A replacement that was turned down."""
    return happened.ReplacementRefused(ProblemCode(code), params)


NEAR = NearMiss(kind=NearMissKind.SLIP, alike="ats+")
FAULT = {"fault": "seal_broken.changed", "connection": "con_1"}


VERDICTS: list[tuple[str, Connection, Verdict, Event]] = [
    # a first token
    ("good", VERIFYING, AccountReadable(ACME), happened.TokenAccepted(ACME)),
    ("wrong token", VERIFYING, CredentialRefused(), happened.TokenRefused()),
    ("no permission", VERIFYING, Forbidden("r_jobs"), happened.ScopeMissing("r_jobs")),
    ("wrong subdomain", VERIFYING, WrongAccount(("globex",)), happened.SubdomainMismatched(("globex",))),
    ("unknown subdomain", VERIFYING, WrongAccount(), happened.SubdomainMismatched()),
    ("another account, never linked", CHANGED_MIND, AccountReadable(GLOBEX), happened.TokenAccepted(GLOBEX)),
    ("the same account again", RECONNECTING, AccountReadable(ACME), happened.TokenAccepted(ACME)),
    (
        "another account",
        RECONNECTING,
        AccountReadable(GLOBEX),
        happened.SubdomainMismatched(("globex",), stays_with="acme"),
    ),
    # another token
    ("same account", REPLACING, AccountReadable(ACME), happened.ReplacementAccepted(ACME)),
    (
        "other account",
        REPLACING,
        AccountReadable(GLOBEX),
        refused("subdomain_mismatch", belongs_to=["globex"], stays_with="acme"),
    ),
    (
        "other subdomain",
        REPLACING,
        WrongAccount(("globex", "initech")),
        refused("subdomain_mismatch", belongs_to=["globex", "initech"]),
    ),
    ("no subdomain", REPLACING, WrongAccount(), refused("subdomain_mismatch")),
    ("wrong replacement", REPLACING, CredentialRefused(), refused("token_refused")),
    ("weak replacement", REPLACING, Forbidden("r_jobs"), refused("scope_missing", missing=["r_jobs"])),
    # a new token for what has failed, and holds one that may be good again
    ("better", RECONSIDERED, AccountReadable(ACME), happened.TokenAccepted(ACME)),
    ("worse", RECONSIDERED, CredentialRefused(), happened.TokenRefused()),
    ("weaker", RECONSIDERED, Forbidden("r_jobs"), happened.ScopeMissing("r_jobs")),
    ("elsewhere", RECONSIDERED, WrongAccount(("globex",)), happened.SubdomainMismatched(("globex",))),
    (
        "not its account",
        RECONSIDERED,
        AccountReadable(GLOBEX),
        happened.SubdomainMismatched(("globex",), stays_with="acme"),
    ),
    (
        "another one, as it was never linked",
        replace(RECONSIDERED, linked_at=None),
        AccountReadable(GLOBEX),
        happened.TokenAccepted(GLOBEX),
    ),
    # looks
    ("there already", PREPARED, RecruiterSeen("9"), happened.RecruiterPrepared(replace(SEEN, id="9"))),
    ("not there any more", PREPARED, RecruiterNotSeen(), happened.RecruiterPrepared(ISSUED)),
    ("found", WAITING, RecruiterSeen("9"), happened.RecruiterFound("9")),
    ("absent", WAITING, RecruiterNotSeen(NEAR), happened.RecruiterAbsent(NEAR)),
    ("found after the deadline", OVERDUE, RecruiterSeen("9"), happened.RecruiterFound("9")),
    ("absent after the deadline", OVERDUE, RecruiterNotSeen(NEAR), happened.RecruiterOverdue(NEAR)),
    ("healthy", HEALTHY, RecruiterSeen("9"), happened.HealthConfirmed("9")),
    ("vanished once", HEALTHY, RecruiterNotSeen(NEAR), happened.RefusalDoubted(ProblemCode.RECRUITER_REMOVED)),
    ("read to the end", WAITING, RecruiterNotSeen(NEAR, thorough=True), happened.RecruiterAbsent(NEAR, thorough=True)),
    ("too late", OVERDUE, RecruiterNotSeen(NEAR, thorough=True), happened.RecruiterOverdue(NEAR, thorough=True)),
    # an account that is not where it was
    ("renamed", HEALTHY, AccountNotThere((GLOBEX, RENAMED)), happened.AccountRenamed(RENAMED)),
    ("renamed while it waits", WAITING, AccountNotThere((RENAMED,)), happened.AccountRenamed(RENAMED)),
    ("renamed, one of many", PREPARED, AccountNotThere((RENAMED,), complete=False), happened.AccountRenamed(RENAMED)),
    ("gone", HEALTHY, AccountNotThere(), happened.RefusalDoubted(ProblemCode.ACCOUNT_GONE)),
    ("others left", HEALTHY, AccountNotThere((GLOBEX,)), happened.RefusalDoubted(ProblemCode.SUBDOMAIN_MISMATCH)),
    ("nobody knows", HEALTHY, AccountNotThere(complete=False), happened.WorkableUnavailable()),
    ("at the name that we know", HEALTHY, AccountNotThere((ACME,)), happened.WorkableUnavailable()),
    # what has failed
    ("good again", REVOKED, RecruiterSeen("9"), happened.Recovered("9")),
    ("good, and nobody there", REVOKED, RecruiterNotSeen(NEAR, thorough=True), happened.Recovered(None, NEAR, True)),
    ("expired, and good", EXPIRED, RecruiterNotSeen(), happened.Recovered()),
    ("refused again", REVOKED, CredentialRefused(), happened.StillFailed(refused=True)),
    ("gone for good", REVOKED, AccountNotThere(), happened.StillFailed(refused=True)),
    ("moved for good", REVOKED, AccountNotThere((GLOBEX,)), happened.StillFailed(refused=True)),
    ("renamed meanwhile", REVOKED, AccountNotThere((RENAMED,)), happened.AccountRenamed(RENAMED)),
    ("down", REVOKED, Unavailable(LATER), happened.StillFailed(retry_at=LATER)),
    ("throttled", REVOKED, OverLimit(LATER), happened.StillFailed(retry_at=LATER)),
    ("odd", REVOKED, NotUnderstood("no_rule", status=418), happened.StillFailed()),
    ("there after all", TOO_LATE, RecruiterSeen("9"), happened.Recovered("9")),
    ("still not there", TOO_LATE, RecruiterNotSeen(NEAR), happened.StillFailed()),
    ("ended by an operator", FORCED, RecruiterSeen("9"), happened.StillFailed()),
]


@pytest.mark.parametrize(("connection", "verdict", "event"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_every_verdict_is_an_event(connection: Connection, verdict: Verdict, event: Event) -> None:
    """The same answer means something else for a first token, a replacement, and a look; the law knows all of it."""
    assert judged(connection, verdict) == event
    move(connection, event)


TROUBLE: list[tuple[Verdict, Event]] = [
    (Unavailable(), happened.WorkableUnavailable()),
    (Unavailable(LATER), happened.WorkableUnavailable(LATER)),
    (OverLimit(LATER), happened.Throttled(LATER)),
    (OverLimit(LATER, unasked=True, attempts=True), happened.Throttled(LATER, attempts=True)),
    (NotUnderstood("not_json", status=418), happened.AnswerNotUnderstood({"answer": "not_json", "status": 418})),
    (
        NotUnderstood("other_shape", call="GET /recruiters"),
        happened.AnswerNotUnderstood({"answer": "other_shape", "call": "GET /recruiters"}),
    ),
]


@pytest.mark.parametrize(("verdict", "event"), TROUBLE)
@pytest.mark.parametrize("connection", [VERIFYING, PREPARED, WAITING, OVERDUE, HEALTHY, REPLACING, RECONSIDERED])
def test_trouble_is_no_verdict_on_anything(connection: Connection, verdict: Verdict, event: Event) -> None:
    """Down, throttled and odd answers are the same for every question, also after the deadline."""
    assert judged(connection, verdict) == event


REFUSALS: list[tuple[Verdict, ProblemCode, Event]] = [
    (CredentialRefused(), ProblemCode.TOKEN_REVOKED, happened.TokenRevoked()),
    (Forbidden("r_jobs"), ProblemCode.SCOPE_LOST, happened.ScopeLost()),
    (WrongAccount(), ProblemCode.SUBDOMAIN_MISMATCH, happened.AccountMoved()),
    (AccountNotThere((GLOBEX,)), ProblemCode.SUBDOMAIN_MISMATCH, happened.AccountMoved(("globex",))),
    (AccountNotThere(), ProblemCode.ACCOUNT_GONE, happened.AccountGone()),
]


@pytest.mark.parametrize("state", WORKING)
@pytest.mark.parametrize(("verdict", "code", "event"), REFUSALS)
def test_a_refusal_is_believed_when_it_came_often_and_long_enough(
    state: ConnectionState, verdict: Verdict, code: ProblemCode, event: Event
) -> None:
    """The first is doubted; the third is believed, but only an hour after the first."""
    doubted = happened.RefusalDoubted(code)
    hour_ago = NOW - TIMING.refusals_spread
    assert judged(a_connection(state), verdict) == doubted
    for doubt, expected in [
        (a_doubt(code, count=1, since=hour_ago), doubted),
        (a_doubt(code, count=2, since=hour_ago), event),
        (a_doubt(code, count=2, since=hour_ago + timedelta(microseconds=1)), doubted),
        (a_doubt(code, count=99, since=NOW), doubted),
        (a_doubt(ProblemCode.RECRUITER_REMOVED, count=99, since=EARLIER), doubted),
    ]:
        assert judged(a_connection(state, doubt=doubt), verdict) == expected


INCIDENT = [CredentialRefused(), Forbidden("r_jobs"), WrongAccount(("globex",)), AccountNotThere()]


@pytest.mark.parametrize("verdict", INCIDENT)
@pytest.mark.parametrize("connection", [VERIFYING, RECONNECTING, PREPARED, WAITING, HEALTHY, REPLACING])
def test_no_refusal_is_believed_in_an_incident(connection: Connection, verdict: Verdict) -> None:
    """Whoever is refused with everybody else is told of an outage, at Continue too, and every token is kept."""
    doubted = replace(connection, doubt=a_doubt(count=99)) if connection.state in WORKING else connection
    event = judge(doubted, verdict, now=NOW, timing=TIMING, incident=True)
    assert event == happened.WorkableUnavailable(incident=True)
    after = move(doubted, event)
    assert after.problem is not None
    assert (after.problem.code, after.problem.params) == (ProblemCode.WORKABLE_UNAVAILABLE, {"incident": 1})
    assert (after.token, after.candidate, after.doubt) == (connection.token, connection.candidate, None)
    assert after.refused_at == (None if connection.candidate else NOW), "what people type is not counted"


def test_an_incident_is_an_outage_to_everything_else() -> None:
    """Answers that are good count, what heals goes on waiting, a deadline holds, and a renamed account is followed."""

    def meanwhile(connection: Connection, verdict: Verdict) -> Event:
        return judge(connection, verdict, now=NOW, timing=TIMING, incident=True)

    assert meanwhile(HEALTHY, RecruiterSeen("9")) == happened.HealthConfirmed("9")
    assert meanwhile(HEALTHY, AccountNotThere((RENAMED,))) == happened.AccountRenamed(RENAMED)
    assert meanwhile(REVOKED, CredentialRefused()) == happened.StillFailed(refused=True)
    long_overdue = replace(WAITING, deadline=NOW - TIMING.overdue_grace)
    assert meanwhile(long_overdue, CredentialRefused()) == happened.RecruiterOverdue(looked=False)


NO_ANSWERS = [Unavailable(), OverLimit(LATER), OverLimit(LATER, unasked=True), NotUnderstood("x")]


@pytest.mark.parametrize("verdict", NO_ANSWERS)
def test_no_answer_keeps_nobody_waiting_beyond_the_deadline(verdict: Verdict) -> None:
    """Neither for the recruiter nor for a token that cannot be verified; our own limit is no excuse either."""
    long_overdue = replace(WAITING, deadline=NOW - TIMING.overdue_grace)
    assert judged(long_overdue, verdict) == happened.RecruiterOverdue(looked=False)
    unverified = replace(VERIFYING, deadline=NOW - TIMING.overdue_grace)
    assert judged(unverified, verdict) == happened.Abandoned()
    assert judge(unverified, CredentialRefused(), now=NOW, timing=TIMING, incident=True) == happened.Abandoned()
    assert judged(replace(VERIFYING, deadline=NOW), verdict) != happened.Abandoned()


def test_refusals_that_alternate_are_believed_once_they_last() -> None:
    """The token is refused and accepted in turn, and no answer is good: that is not waited for unseen."""
    connection, now, looks = replace(HEALTHY, last_ok_at=EARLIER), NOW, 0
    while connection.state is LINKED:
        verdict = RecruiterNotSeen() if looks % 2 else CredentialRefused()
        event = judge(connection, verdict, now=now, timing=TIMING)
        connection, looks = move(connection, event, now=now), looks + 1
        now += timedelta(minutes=35)
        assert now - NOW < TIMING.trouble_within + timedelta(hours=2)
    assert now - NOW >= TIMING.trouble_within
    good = replace(HEALTHY, last_ok_at=now, refused_at=NOW, doubt=a_doubt(ProblemCode.RECRUITER_REMOVED))
    assert judge(good, CredentialRefused(), now=now, timing=TIMING) == happened.RefusalDoubted(
        ProblemCode.TOKEN_REVOKED
    ), "it answered well since"


def test_two_refusals_are_no_end_however_far_apart() -> None:
    """While no worker runs, nobody looks, and time proves nothing: each of them may have come in an outage."""
    connection = move(HEALTHY, judge(HEALTHY, CredentialRefused(), now=NOW, timing=TIMING))
    later = NOW + TIMING.trouble_within + timedelta(days=5)
    again = judge(connection, CredentialRefused(), now=later, timing=TIMING)
    assert again == happened.RefusalDoubted(ProblemCode.TOKEN_REVOKED)
    third = judge(move(connection, again, now=later), CredentialRefused(), now=later, timing=TIMING)
    assert third == happened.TokenRevoked()


def test_a_fault_of_ours_changes_nothing_in_what_has_failed() -> None:
    """It is looked at again at its time, and the problem stays the customer's."""
    event = failed_attention(REVOKED, FAULT, now=NOW, timing=TIMING)
    assert event == happened.StillFailed()
    assert move(REVOKED, event).problem == REVOKED.problem


def test_a_removal_is_believed_when_it_came_often_and_long_enough() -> None:
    """Our recruiter is missing only when several looks over an hour did not see it."""
    doubt = a_doubt(ProblemCode.RECRUITER_REMOVED, count=2, since=NOW - TIMING.refusals_spread)
    assert judged(replace(HEALTHY, doubt=doubt), RecruiterNotSeen()) == happened.RecruiterVanished()


@pytest.mark.parametrize("verdict", [CredentialRefused(), Forbidden("r_jobs"), WrongAccount()])
def test_only_a_definite_absence_is_overdue(verdict: Verdict) -> None:
    """After the deadline too, a refusal is only doubted: the customer may have added the recruiter."""
    assert isinstance(judged(OVERDUE, verdict), happened.RefusalDoubted)


@given(
    pauses=st.lists(st.timedeltas(timedelta(0), timedelta(hours=2)), max_size=12),
    refusals=st.integers(2, 5),
    spread=st.timedeltas(timedelta(seconds=1), timedelta(hours=3)),
    verdict=st.sampled_from([CredentialRefused(), Forbidden("r_jobs"), WrongAccount(), RecruiterNotSeen()]),
    state=st.sampled_from(WORKING),
)
def test_few_or_quick_refusals_never_end_a_link(
    pauses: list[timedelta], refusals: int, spread: timedelta, verdict: Verdict, state: ConnectionState
) -> None:
    """Fewer than so many in a row, or within less than the spread, never end anything; enough of both does."""
    if isinstance(verdict, RecruiterNotSeen):
        state = LINKED
    timing = replace(TIMING, refusals=refusals, refusals_spread=spread)
    connection, now, came = a_connection(state, deadline=None), NOW, 0
    for pause in [timedelta(0), *pauses]:
        now, came = now + pause, came + 1
        event = judged(connection, verdict, now=now, timing=timing)
        believed = not isinstance(event, happened.RefusalDoubted)
        assert believed == (came >= refusals and now - NOW >= spread)
        connection = move(connection, event, now=now, timing=timing)
        if believed:
            break
        assert connection.state is state


@given(jitter=st.floats(0, 1, exclude_max=True), refusals=st.integers(2, 12), minutes=st.integers(1, 600))
def test_a_doubt_is_resolved(jitter: float, refusals: int, minutes: int) -> None:
    """Attended when due, a refusal that goes on is believed after as few looks as it takes, soon after the spread."""
    spread = timedelta(minutes=minutes)
    timing = replace(TIMING, refusals=refusals, refusals_spread=spread)
    connection, now, looks = HEALTHY, NOW, 0
    while connection.state is LINKED:
        event = judged(connection, CredentialRefused(), now=now, timing=timing)
        connection, looks = move(connection, event, now=now, jitter=jitter, timing=timing), looks + 1
        assert looks <= refusals + 1
        now = connection.due_at if connection.state is LINKED and connection.due_at else now
    assert spread <= now - NOW <= spread * 1.1 + timedelta(minutes=minutes)


# a replacement whose answer nobody understands


def tried(verdicts: list[Verdict], **facts: Any) -> Connection:
    """A replacement that got these answers."""
    connection = move(a_connection(LINKED, **facts), happened.ReplacementSubmitted(CANDIDATE))
    for verdict in verdicts:
        connection = move(connection, judged(connection, verdict))
    return connection


ODD, DOWN = NotUnderstood("no_rule", status=418), Unavailable()


def test_a_replacement_that_nobody_understands_is_turned_down() -> None:
    """It would stand in the way of the health checks for ever; the last answer is told."""
    assert tried([ODD] * 4).candidate == CANDIDATE
    after = tried([ODD] * 5)
    assert after.candidate is None
    told = a_problem(ProblemCode.ANSWER_NOT_UNDERSTOOD, since=NOW, answer="no_rule", status=418, dropped=1)
    assert (told.owner, told.field) == (ProblemOwner.CUSTOMER, "token"), "it has to be given again"
    assert after.replacement_problem == told


@pytest.mark.parametrize("verdicts", [[DOWN] * 50, [DOWN] * 50 + [ODD], [OverLimit(EARLIER)] * 9 + [DOWN, ODD]])
def test_a_replacement_survives_an_outage(verdicts: list[Verdict]) -> None:
    """Tries that Workable's trouble has cost are not held against a token: nobody pastes twice because of them."""
    assert tried(verdicts).candidate == CANDIDATE


def test_a_replacement_is_not_blamed_for_the_token_before_it() -> None:
    """Odd answers to the token in use are not counted against the one that replaces it."""
    before = {"attempts": 9, "problem": a_problem(ProblemCode.ANSWER_NOT_UNDERSTOOD)}
    assert tried([ODD] * 4, **before).candidate == CANDIDATE


def test_a_first_token_is_kept_however_odd_the_answers_are() -> None:
    """There is no link that it could stand in the way of."""
    connection = VERIFYING
    for _ in range(50):
        connection = move(connection, judged(connection, ODD))
    assert connection.candidate == CANDIDATE


IMPOSSIBLE: list[tuple[Connection, Verdict]] = [
    (VERIFYING, RecruiterSeen("9")),
    (REPLACING, RecruiterNotSeen()),
    (HEALTHY, AccountReadable(ACME)),
]


@pytest.mark.parametrize(("connection", "verdict"), IMPOSSIBLE)
def test_an_answer_to_another_question_is_our_fault(connection: Connection, verdict: Verdict) -> None:
    """It is not guessed at: the attendant makes a fault of ours of it."""
    with pytest.raises(AssertionError):
        judged(connection, verdict)


ELSEWHERE = Credential(subdomain="acme-old", sealed="v1.0.x", fingerprint="0")


@pytest.mark.parametrize("attempts", range(7))
@pytest.mark.parametrize("candidate", [ELSEWHERE, CANDIDATE], ids=["another host", "the host of the token in use"])
def test_a_replacement_out_of_reach_is_given_up(candidate: Credential, attempts: int) -> None:
    """A replacement at another host that is out of reach is turned down at the fifth time; at our own host it waits."""
    down = Problem(code=ProblemCode.WORKABLE_UNAVAILABLE, since=EARLIER)
    connection = a_connection(LINKED, candidate=candidate, problem=down, attempts=attempts)
    refused = happened.ReplacementRefused(ProblemCode.WORKABLE_UNAVAILABLE)
    given_up = candidate is ELSEWHERE and attempts >= 4
    assert judged(connection, Unavailable()) == (refused if given_up else happened.WorkableUnavailable())


@pytest.mark.parametrize("verdict", [Unavailable(), NotUnderstood("not_json", status=200)])
@pytest.mark.parametrize(("late", "ended"), [(timedelta(hours=23), False), (timedelta(hours=24), True)])
def test_no_outage_is_an_excuse_for_ever(verdict: Verdict, late: timedelta, ended: bool) -> None:
    """A day after its deadline a connection ends also if Workable gives no answer to go by."""
    waiting = a_connection(AWAITING_RECRUITER, deadline=NOW - late)
    assert (judged(waiting, verdict) == happened.RecruiterOverdue(looked=False)) is ended


def test_a_token_is_refused_whichever_way() -> None:
    """Refusals of a token count together, whatever Workable calls them; the last one names the end."""
    doubt = Doubt(code=ProblemCode.SCOPE_LOST, count=2, since=NOW - TIMING.refusals_spread)
    assert judged(a_connection(LINKED, doubt=doubt), CredentialRefused()) == happened.TokenRevoked()


@pytest.mark.parametrize("attempts", range(7))
def test_a_replacement_that_poisons_is_given_up(attempts: int) -> None:
    """A replacement whose attending goes wrong on our side is turned down at the fifth time, a first token never."""
    poisoned = Problem(code=ProblemCode.POISONED, since=NOW)
    replacing = a_connection(LINKED, candidate=CANDIDATE, problem=poisoned, attempts=attempts)
    event = failed_attention(replacing, FAULT, now=NOW, timing=TIMING)
    refused = happened.ReplacementRefused(ProblemCode.POISONED, FAULT)
    assert event == (refused if attempts >= 4 else happened.AttentionFailed(FAULT))
    first = a_connection(AWAITING_TOKEN, candidate=CANDIDATE, problem=poisoned, attempts=attempts)
    assert failed_attention(first, FAULT, now=NOW, timing=TIMING) == happened.AttentionFailed(FAULT)
    passing = failed_attention(replacing, FAULT, now=NOW, timing=TIMING, may_pass=True)
    assert passing == happened.AttentionFailed(FAULT), "another worker has the key"


@pytest.mark.parametrize("may_pass", [False, True], ids=["a fault", "a lost key"])
@pytest.mark.parametrize("verdict", [None, Unavailable(), OverLimit(LATER, unasked=True), NotUnderstood("not_json")])
@pytest.mark.parametrize(("late", "ended"), [(timedelta(hours=23), False), (timedelta(hours=24), True)])
def test_a_token_that_nobody_can_verify_meets_its_deadline(
    verdict: Verdict | None, late: timedelta, ended: bool, may_pass: bool
) -> None:
    """Whoever is at fault, Workable or we: a day after its time the connection is put aside."""
    waiting = replace(VERIFYING, deadline=NOW - late)
    attended = failed_attention(waiting, FAULT, now=NOW, timing=TIMING, may_pass=may_pass)
    event = judged(waiting, verdict) if verdict else attended
    assert (event == happened.Abandoned()) is ended


@pytest.mark.parametrize("incident", [False, True])
@pytest.mark.parametrize("verdict", [None, Unavailable(), OverLimit(LATER), NotUnderstood("not_json")])
def test_a_new_token_does_not_keep_us_for_ever_from_one_that_heals(verdict: Verdict | None, incident: bool) -> None:
    """It waits as long as trouble may last, is turned down then, and the one that is held is looked after as before."""
    connection, now, tries = RECONSIDERED, NOW, 0
    while connection.candidate is not None:
        event = failed_attention(connection, FAULT, now=now, timing=TIMING)
        if verdict is not None:
            event = judge(connection, verdict, now=now, timing=TIMING, incident=incident)
        connection, tries = move(connection, event, now=now), tries + 1
        assert (connection.state, connection.token, connection.problem) == (FAILED, TOKEN, REVOKED.problem)
        assert connection.due_at is not None
        now = connection.due_at
        assert now - NOW < TIMING.trouble_within + timedelta(days=2)
    assert tries > 10
    assert now - NOW >= TIMING.trouble_within
    assert connection.replacement_problem is not None
    assert connection.replacement_problem.code in TRANSIENT
    assert judged(connection, RecruiterSeen("9")) == happened.Recovered("9")
