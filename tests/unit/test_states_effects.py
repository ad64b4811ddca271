"""What each event does to the row beside the state: one test for each sentence of the law."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from states import events as happened
from states.connection import Connection, ConnectionState, Problem, Recruiter
from states.duties import owes_expiry_notice
from states.events import Event
from states.explanation import Verb, foresee
from states.problems import HEALING, PROBLEMS, TRANSIENT, NearMiss, NearMissKind, ProblemCode, ProblemOwner
from states.timing import SHORTEST_PAUSE, Timing, next_healing
from states.verdicts import CredentialRefused, Forbidden, judge
from tests.builders import (
    ACME,
    ANOTHER,
    CANDIDATE,
    DICE,
    EARLIER,
    GLOBEX,
    ISSUED,
    LATER,
    NOW,
    SEEN,
    TIMING,
    TOKEN,
    a_connection,
    a_credential,
    a_doubt,
    a_problem,
    move,
)

#: A time that Workable may name.
SOON = NOW + timedelta(minutes=30)
AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState
WORKING = (TOKEN_VALID, AWAITING_RECRUITER, LINKED)
CALLING = (AWAITING_TOKEN, *WORKING)
HOUR = timedelta(hours=1)

#: A row with every trace that trouble can leave.
TROUBLED: dict[str, Any] = {
    "problem": a_problem(ProblemCode.WORKABLE_UNAVAILABLE),
    "attempts": 7,
    "not_before": EARLIER,
    "doubt": a_doubt(),
}


def verifying(**facts: Any) -> Connection:
    """A connection whose first token is being verified."""
    return a_connection(AWAITING_TOKEN, **{"candidate": CANDIDATE, "subdomain": "acme", "due_at": NOW, **facts})


def changed(before: Connection, after: Connection) -> set[str]:
    """The facts that differ."""
    return {name for name in vars(before) if getattr(before, name) != getattr(after, name)}


def assert_calm(connection: Connection) -> None:
    """A good answer leaves no trace of earlier trouble."""
    assert (connection.problem, connection.doubt) == (None, None)
    assert (connection.attempts, connection.not_before, connection.last_ok_at) == (0, None, NOW)


# the token


@pytest.mark.parametrize("state", [AWAITING_TOKEN, FAILED])
def test_a_submitted_token_is_verified_at_once(state: ConnectionState) -> None:
    """The candidate is kept beside the token, owed now, and what was wrong before is not shown any more."""
    refused = a_problem(ProblemCode.TOKEN_REFUSED)
    wrong = {"problem": refused, "replacement_problem": refused, "attempts": 4}
    after = move(a_connection(state, token=TOKEN, **wrong), happened.TokenSubmitted(ANOTHER))
    assert (after.candidate, after.token, after.subdomain) == (ANOTHER, TOKEN, ANOTHER.subdomain)
    assert (after.due_at, after.deadline) == (NOW, NOW + TIMING.token_within)
    assert (after.problem, after.replacement_problem, after.attempts) == (None, None, 0)


def test_a_submitted_token_takes_the_place_of_one_that_is_being_verified() -> None:
    """Whoever corrects a token does not wait for the answer to the first one."""
    assert move(verifying(), happened.TokenSubmitted(ANOTHER)).candidate == ANOTHER


def test_an_accepted_candidate_becomes_the_token() -> None:
    """The candidate moves, the account is kept, and the next duty is due now."""
    after = move(verifying(**TROUBLED), happened.TokenAccepted(ACME))
    assert (after.token, after.candidate, after.account) == (CANDIDATE, None, ACME)
    assert (after.state_since, after.due_at, after.deadline) == (NOW, NOW, None)
    assert_calm(after)


def test_nothing_is_accepted_without_a_candidate() -> None:
    """A token that nobody gave cannot become the token."""
    with pytest.raises(AssertionError):
        move(a_connection(AWAITING_TOKEN), happened.TokenAccepted(ACME))


REFUSED: list[tuple[Event, ProblemCode, dict[str, Any]]] = [
    (happened.TokenRefused(), ProblemCode.TOKEN_REFUSED, {}),
    (happened.SubdomainMismatched(), ProblemCode.SUBDOMAIN_MISMATCH, {}),
    (
        happened.SubdomainMismatched(("globex", "initech")),
        ProblemCode.SUBDOMAIN_MISMATCH,
        {"belongs_to": ["globex", "initech"]},
    ),
    (
        happened.SubdomainMismatched(("globex",), stays_with="acme"),
        ProblemCode.SUBDOMAIN_MISMATCH,
        {"belongs_to": ["globex"], "stays_with": "acme"},
    ),
    (happened.ScopeMissing("r_jobs"), ProblemCode.SCOPE_MISSING, {"missing": ["r_jobs"]}),
    (happened.AccountTaken("con_9"), ProblemCode.ACCOUNT_TAKEN, {"connection": "con_9"}),
]


OUR_FAULT = happened.ReplacementRefused(ProblemCode.POISONED)
#: What ended by a refusal that may be taken back.
MAY_HEAL = a_connection(FAILED, subdomain="acme", due_at=SOON, replacement_problem=a_problem(ProblemCode.TOKEN_REFUSED))


@pytest.mark.parametrize("code", sorted(HEALING))
def test_what_may_heal_stays_as_it_is_until_a_new_token_is_good(code: ProblemCode) -> None:
    """State, problem, token and account stay; only the candidate is new, and it is owed now."""
    before = replace(MAY_HEAL, problem=a_problem(code))
    given = a_credential("new", subdomain="acme-group")
    after = move(before, happened.TokenSubmitted(given))
    assert (after.candidate, after.due_at, after.replacement_problem) == (given, NOW, None)
    assert changed(before, after) == {"candidate", "due_at", "replacement_problem"}
    accepted = move(after, happened.TokenAccepted(replace(ACME, subdomain="acme-group")))
    assert (accepted.state, accepted.token, accepted.candidate, accepted.due_at) == (TOKEN_VALID, given, None, NOW)
    assert accepted.subdomain == "acme-group"
    assert_calm(accepted)


def test_an_outage_on_the_way_back_leaves_nothing_behind() -> None:
    """Once the new token is accepted, nothing is said of the time when it could not be verified."""
    given = move(MAY_HEAL, happened.TokenSubmitted(ANOTHER))
    unanswered = move(given, happened.WorkableUnavailable())
    assert unanswered.replacement_problem is not None
    assert move(unanswered, happened.TokenAccepted(ACME)).replacement_problem is None


@pytest.mark.parametrize("ended", [NOW, NOW - timedelta(days=20), NOW - timedelta(days=200)])
@pytest.mark.parametrize(
    "wrong", [*(event for event, *_ in REFUSED), happened.ReplacementRefused(ProblemCode.POISONED)]
)
def test_a_wrong_paste_does_not_end_healing(wrong: Event, ended: datetime) -> None:
    """Back to where it was: the problem, the token that is held, and when it is looked at; the host is told nothing."""
    before = replace(MAY_HEAL, state_since=ended)
    after = move(move(before, happened.TokenSubmitted(ANOTHER)), wrong)
    assert changed(before, after) <= {"replacement_problem", "due_at"}
    assert after.replacement_problem is not None
    assert after.due_at == next_healing(NOW, ended, DICE)
    assert (after.token, after.candidate, after.held_token) == (TOKEN, None, None)


@pytest.mark.parametrize(("event", "code", "params"), REFUSED)
def test_a_refused_candidate_is_wiped_and_named(event: Event, code: ProblemCode, params: dict[str, Any]) -> None:
    """The secret goes, the person is told on the right field since when, and nothing more is tried."""
    after = move(verifying(problem=a_problem(code), attempts=3, not_before=EARLIER), event)
    assert after.candidate is None
    assert after.problem == a_problem(code, since=NOW, **params)
    assert after.problem.field == PROBLEMS[code].field
    assert PROBLEMS[code].owner is ProblemOwner.CUSTOMER
    assert (after.attempts, after.not_before) == (0, None)
    assert (after.state, after.state_since) == (AWAITING_TOKEN, EARLIER)


@pytest.mark.parametrize("event", [event for event, *_ in REFUSED])
def test_a_refusal_leaves_the_person_time(event: Event) -> None:
    """A verdict that comes after the deadline, because Workable was down, is shown; nothing is put aside at once."""
    after = move(verifying(deadline=EARLIER), event)
    assert after.deadline == NOW + TIMING.token_within
    assert after.due_at == (after.held_until or after.deadline)


# the recruiter


def test_an_issued_recruiter_is_waited_for() -> None:
    """Name and e-mail are kept, the deadline is set, and the first look comes soon."""
    after = move(a_connection(TOKEN_VALID, **TROUBLED), happened.RecruiterPrepared(ISSUED))
    assert (after.recruiter, after.deadline) == (ISSUED, NOW + TIMING.recruiter_within)
    assert after.due_at is not None
    assert NOW < after.due_at <= NOW + TIMING.poll_first
    assert_calm(after)


def test_a_recruiter_that_is_there_already_links() -> None:
    """Who reconnects an account in which the recruiter still is does not wait."""
    after = move(a_connection(TOKEN_VALID, recruiter=ISSUED), happened.RecruiterPrepared(SEEN))
    assert (after.state, after.recruiter, after.linked_at, after.deadline) == (LINKED, SEEN, NOW, None)


def test_a_recruiter_that_was_found_links() -> None:
    """Workable's id is kept, waiting is over, and the next look is a health check."""
    after = move(a_connection(AWAITING_RECRUITER, checks=4, **TROUBLED), happened.RecruiterFound("2b81c0"))
    assert (after.state, after.recruiter, after.checks) == (LINKED, SEEN, 5)
    assert (after.linked_at, after.state_since, after.deadline) == (NOW, NOW, None)
    assert after.due_at is not None
    assert TIMING.health_every * 0.9 <= after.due_at - NOW <= TIMING.health_every * 1.1
    assert_calm(after)


def test_the_first_link_is_remembered() -> None:
    """`linked_at` tells when an account was linked for the first time, however often it is linked again."""
    assert move(a_connection(AWAITING_RECRUITER, linked_at=EARLIER), happened.RecruiterFound("1")).linked_at == EARLIER


#: What a hint is compared with: our own name and e-mail.
OURS: dict[str, Any] = {"name": ISSUED.name, "email": ISSUED.email}
MEMBER = NearMiss(kind=NearMissKind.MEMBER)

NEAR_MISSES: list[tuple[NearMiss, dict[str, Any]]] = [
    (NearMiss(kind=NearMissKind.SLIP, alike="ats+k7m"), {"near_miss": "slip", "alike": "ats+k7m"}),
    (NearMiss(kind=NearMissKind.SLIP_AT_START), {"near_miss": "slip_at_start"}),
    (NearMiss(kind=NearMissKind.SAME_NAME), {"near_miss": "same_name"}),
    (MEMBER, {"near_miss": "member"}),
    (NearMiss(kind=NearMissKind.OTHERS, others=2), {"near_miss": "others", "others": 2}),
    (NearMiss(kind=NearMissKind.NONE), {"near_miss": "none"}),
]


@pytest.mark.parametrize(("near_miss", "params"), NEAR_MISSES, ids=lambda value: getattr(value, "kind", ""))
@pytest.mark.parametrize("event", [happened.RecruiterAbsent, happened.RecruiterOverdue])
def test_what_came_close_is_kept_beside_what_is_ours(
    event: type[happened.RecruiterAbsent | happened.RecruiterOverdue], near_miss: NearMiss, params: dict[str, Any]
) -> None:
    """A hint is a code with what it needs, and with our own name and e-mail; without a recruiter there is none."""
    after = move(a_connection(AWAITING_RECRUITER), event(near_miss))
    assert after.problem is not None
    assert after.problem.params == {**params, **OURS}
    without = move(a_connection(AWAITING_RECRUITER, recruiter=None), event(near_miss))
    assert without.problem is not None
    assert without.problem.params == {}


def test_a_poll_is_not_a_failure() -> None:
    """A look that finds nothing spends no attempt, keeps what comes close as a hint, and clears earlier trouble."""
    after = move(a_connection(AWAITING_RECRUITER, **TROUBLED), happened.RecruiterAbsent(MEMBER))
    assert after.problem == a_problem(ProblemCode.RECRUITER_ABSENT, since=NOW, near_miss="member", **OURS)
    assert (after.attempts, after.checks, after.doubt, after.not_before) == (0, 1, None, None)
    assert (after.state, after.state_since, after.deadline) == (AWAITING_RECRUITER, EARLIER, LATER)


def test_an_absence_is_as_old_as_it_is() -> None:
    """The same problem goes on counting from when it began, with the newest hint."""
    known = a_problem(ProblemCode.RECRUITER_ABSENT, near_miss="slip", alike="ats+", **OURS)
    after = move(a_connection(AWAITING_RECRUITER, problem=known), happened.RecruiterAbsent())
    assert after.problem == replace(known, params={})


SLIP = NearMiss(kind=NearMissKind.SLIP, alike="ats+")


@pytest.mark.parametrize(
    ("near_miss", "thorough", "known"),
    [
        (None, False, "member"),
        (NearMiss(kind=NearMissKind.NONE), False, "member"),
        (NearMiss(kind=NearMissKind.OTHERS, others=2), False, "member"),
        (SLIP, False, "slip"),
        (NearMiss(kind=NearMissKind.NONE), True, "none"),
        (NearMiss(kind=NearMissKind.OTHERS, others=2), True, "others"),
        (NearMiss(kind=NearMissKind.MEMBER), True, "member"),
    ],
)
def test_a_look_never_makes_a_hint_worse(near_miss: NearMiss | None, thorough: bool, known: str) -> None:
    """That ours is a member is known until the members were read again, or something closer was seen."""
    member = a_problem(ProblemCode.RECRUITER_ABSENT, near_miss="member", **OURS)
    before = a_connection(AWAITING_RECRUITER, problem=member)
    absent = move(before, happened.RecruiterAbsent(near_miss, thorough))
    overdue = move(before, happened.RecruiterOverdue(near_miss, thorough=thorough))
    troubled = move(before, happened.Throttled(LATER))
    after_trouble = move(troubled, happened.RecruiterAbsent(near_miss, thorough), now=LATER)
    for after in (absent, overdue, after_trouble):
        assert after.problem is not None
        assert after.problem.params["near_miss"] == known


def test_an_absence_after_the_link_is_a_removal() -> None:
    """A customer whose recruiter was there once is told that it was removed, not that it was never added."""
    after = move(a_connection(AWAITING_RECRUITER, linked_at=EARLIER), happened.RecruiterAbsent())
    assert after.problem is not None
    assert after.problem.code is ProblemCode.RECRUITER_REMOVED


@pytest.mark.parametrize("left", [timedelta(seconds=2), timedelta(minutes=30), timedelta(days=10)])
def test_the_last_look_is_at_the_deadline(left: timedelta) -> None:
    """No pause reaches beyond the deadline, so that the last look is not late."""
    after = move(a_connection(AWAITING_RECRUITER, deadline=NOW + left), happened.RecruiterAbsent())
    assert after.due_at is not None
    assert NOW < after.due_at <= NOW + min(left, TIMING.poll_last)


def test_an_overdue_recruiter_ends_the_waiting() -> None:
    """Nothing is due any more, the token stays for a restart, and the customer has to act."""
    before = a_connection(AWAITING_RECRUITER, candidate=CANDIDATE, checks=4, **TROUBLED)
    after = move(before, happened.RecruiterOverdue(NearMiss(kind=NearMissKind.SLIP, alike="ats+")))
    assert after.checks == 5
    hint = a_problem(ProblemCode.RECRUITER_OVERDUE, since=NOW, near_miss="slip", alike="ats+", **OURS)
    assert after.problem == hint
    assert (after.due_at, after.deadline, after.token, after.candidate) == (None, None, TOKEN, None)


def test_an_overdue_recruiter_that_nobody_could_look_for_is_no_answer() -> None:
    """When the waiting ends in an outage, nobody looked: no check is counted, and no good answer is remembered."""
    before = a_connection(AWAITING_RECRUITER, candidate=CANDIDATE, checks=4, **TROUBLED)
    after = move(before, happened.RecruiterOverdue(looked=False))
    assert (after.checks, after.last_ok_at) == (4, before.last_ok_at)
    assert after.problem == a_problem(ProblemCode.RECRUITER_OVERDUE, since=NOW)
    assert (after.due_at, after.token, after.candidate) == (None, TOKEN, None)
    assert after.not_before == before.not_before


# the link


def test_good_health_clears_everything() -> None:
    """A good answer takes back doubt, problem and attempts, and the next check is a day away."""
    after = move(a_connection(LINKED, **TROUBLED), happened.HealthConfirmed("2b81c0"))
    assert_calm(after)
    assert after.due_at is not None
    assert TIMING.health_every * 0.9 <= after.due_at - NOW <= TIMING.health_every * 1.1
    assert (after.state_since, after.linked_at) == (EARLIER, EARLIER)


def expiring(days: int, **facts: Any) -> Connection:
    """A linked connection whose token has so many days left."""
    token = a_credential(expires_on=NOW.date() + timedelta(days=days))
    return a_connection(LINKED, **{"token": token, **facts})


@pytest.mark.parametrize(("days", "owed"), [(-3, True), (0, True), (14, True), (15, False), (400, False)])
def test_notice_is_owed_some_days_before_the_last_one(days: int, owed: bool) -> None:
    """From the beginning of the fourteenth day before; also late, if nobody looked in time."""
    assert owes_expiry_notice(expiring(days), NOW, TIMING) is owed


@pytest.mark.parametrize("state", ConnectionState)
def test_notice_is_owed_while_the_token_is_of_use(state: ConnectionState) -> None:
    """Who has failed needs another token anyway, and who has just pasted one is not bothered before the recruiter."""
    token = a_credential(expires_on=NOW.date())
    owed = owes_expiry_notice(a_connection(state, token=token), NOW, TIMING)
    assert owed is (state in {AWAITING_RECRUITER, LINKED})


def test_notice_is_given_once_for_a_day() -> None:
    """It is due at once to be looked after as before, and told anew only for a token with another last day."""
    before = expiring(3)
    after = move(before, happened.TokenExpiring())
    assert changed(before, after) <= {"expiry_told", "due_at"}
    assert (after.due_at, owes_expiry_notice(after, NOW, TIMING)) == (NOW, False)
    assert after.token is not None
    for days, owed in ((3, False), (4, True)):
        other = a_credential("candidate", expires_on=NOW.date() + timedelta(days=days))
        swapped = move(replace(after, candidate=other), happened.ReplacementAccepted(ACME))
        assert owes_expiry_notice(swapped, NOW, TIMING) is owed


@pytest.mark.parametrize(("days", "checked"), [(400, 30.0), (24, 9.6), (14, 0.0), (2, 0.0)])
@pytest.mark.parametrize("event", [happened.HealthConfirmed("2b81c0"), happened.RecruiterFound("2b81c0")])
def test_checks_that_are_rare_leave_time_for_the_notice(event: Event, days: int, checked: float) -> None:
    """The next check is not later than the notice, however rare checks are."""
    rare = Timing(health_every=timedelta(days=30))
    state = LINKED if isinstance(event, happened.HealthConfirmed) else AWAITING_RECRUITER
    before = replace(expiring(days), state=state, recruiter=ISSUED)
    after = move(before, event, timing=rare)
    assert after.due_at is not None
    assert (after.due_at - NOW) / timedelta(days=1) == pytest.approx(checked, abs=0.1)


def test_a_recruiter_that_was_added_anew_has_its_new_id() -> None:
    """The customer may remove and add the recruiter between two checks: the e-mail is ours, the id is Workable's."""
    after = move(a_connection(LINKED), happened.HealthConfirmed("new"))
    assert after.recruiter == replace(SEEN, id="new")


@pytest.mark.parametrize("state", WORKING)
def test_a_single_refusal_is_only_doubted(state: ConnectionState) -> None:
    """State, token and problem stay; the refusal is remembered and looked at again."""
    after = move(a_connection(state, attempts=2), happened.RefusalDoubted(ProblemCode.TOKEN_REVOKED))
    assert after.doubt == a_doubt(ProblemCode.TOKEN_REVOKED, since=NOW)
    assert after.due_at is not None
    assert after.due_at >= NOW + TIMING.refusals_spread / (TIMING.refusals - 1)
    assert changed(a_connection(state), after) == {"doubt", "due_at", "refused_at"}
    assert after.refused_at == NOW
    missing = move(a_connection(state), happened.RefusalDoubted(ProblemCode.RECRUITER_REMOVED))
    assert missing.refused_at is None, "a recruiter that is missing is no refusal of the token"


def test_doubts_are_counted_since_the_first() -> None:
    """The same refusal again adds one; its beginning stays."""
    after = move(a_connection(LINKED, doubt=a_doubt(count=4)), happened.RefusalDoubted(ProblemCode.TOKEN_REVOKED))
    assert after.doubt == a_doubt(count=5)


def test_another_refusal_is_another_doubt() -> None:
    """A missing recruiter and a refused token are counted apart; the ways to refuse a token are counted together."""
    doubted = a_connection(LINKED, doubt=a_doubt(count=4))
    removed = move(doubted, happened.RefusalDoubted(ProblemCode.RECRUITER_REMOVED))
    assert removed.doubt == a_doubt(ProblemCode.RECRUITER_REMOVED, since=NOW)
    lost = move(doubted, happened.RefusalDoubted(ProblemCode.SCOPE_LOST))
    assert lost.doubt == a_doubt(ProblemCode.SCOPE_LOST, count=5)


GOOD: list[tuple[ConnectionState, Event]] = [
    (TOKEN_VALID, happened.RecruiterPrepared(ISSUED)),
    (AWAITING_RECRUITER, happened.RecruiterAbsent()),
    (AWAITING_RECRUITER, happened.RecruiterFound("1")),
    (LINKED, happened.HealthConfirmed("1")),
    (LINKED, happened.RecruiterVanished()),
]


@pytest.mark.parametrize(("state", "event"), GOOD)
def test_a_good_answer_ends_a_doubt(state: ConnectionState, event: Event) -> None:
    """Refusals have to come in a row."""
    assert move(a_connection(state, doubt=a_doubt(count=2)), event).doubt is None


OUTAGE: list[tuple[Event, bool]] = [
    (happened.WorkableUnavailable(), False),
    (happened.AnswerNotUnderstood({"answer": "no_rule", "status": 418}), False),
    (happened.Throttled(LATER), True),
    (happened.AttentionFailed({"fault": "seal_broken.changed", "connection": "con_1"}), True),
]


@pytest.mark.parametrize(("event", "kept"), OUTAGE)
def test_an_outage_ends_a_doubt(event: Event, kept: bool) -> None:
    """Refusals among signs of an outage prove nothing; a limit, or a fault of ours, says nothing about them."""
    assert (move(a_connection(LINKED, doubt=a_doubt()), event).doubt is not None) == kept


def test_a_removed_recruiter_is_waited_for_again() -> None:
    """The connection goes back to waiting, with a deadline, and the customer is told that it was removed."""
    after = move(a_connection(LINKED, doubt=a_doubt(ProblemCode.RECRUITER_REMOVED)), happened.RecruiterVanished())
    assert after.problem == a_problem(ProblemCode.RECRUITER_REMOVED, since=NOW)
    assert (after.deadline, after.token) == (NOW + TIMING.recruiter_within, TOKEN)
    assert after.linked_at == EARLIER


ENDED: list[tuple[Event, ProblemCode]] = [
    (happened.TokenRevoked(), ProblemCode.TOKEN_REVOKED),
    (happened.ScopeLost(), ProblemCode.SCOPE_LOST),
    (happened.AccountMoved(), ProblemCode.SUBDOMAIN_MISMATCH),
    (happened.AccountGone(), ProblemCode.ACCOUNT_GONE),
]


@pytest.mark.parametrize("state", WORKING)
@pytest.mark.parametrize(("event", "code"), ENDED)
def test_an_ended_link_rests(state: ConnectionState, event: Event, code: ProblemCode) -> None:
    """The problem is the customer's, and all is kept for the reconnection; the token is tried again an hour later."""
    before = a_connection(state, **TROUBLED, candidate=CANDIDATE)
    after = move(before, event)
    assert after.problem == a_problem(code, since=NOW)
    assert (after.deadline, after.doubt, after.candidate, after.refused_at) == (None, None, None, NOW)
    assert after.due_at == NOW + timedelta(hours=1) * 1.05
    assert (after.attempts, after.not_before) == (0, None)
    assert (after.account, after.recruiter, after.token) == (before.account, before.recruiter, before.token)


@pytest.mark.parametrize(
    ("expires_on", "code"),
    [
        (None, ProblemCode.TOKEN_REVOKED),
        (NOW.date() + timedelta(days=1), ProblemCode.TOKEN_REVOKED),
        (NOW.date(), ProblemCode.TOKEN_REVOKED),
        (NOW.date() - timedelta(days=1), ProblemCode.TOKEN_EXPIRED),
    ],
)
def test_a_refused_token_is_expired_only_after_its_last_day(expires_on: date | None, code: ProblemCode) -> None:
    """The date is the last day on which the token works, as the person told us; without one nobody knows."""
    before = a_connection(LINKED, token=a_credential(expires_on=expires_on))
    after = move(before, happened.TokenRevoked())
    assert after.problem == a_problem(code, since=NOW)
    assert (after.due_at is None) == (code is ProblemCode.TOKEN_EXPIRED), "no look makes an expired token good"


def test_a_renamed_account_is_followed() -> None:
    """Its new name is that of the account, of the connection and of the token, which is not another one."""
    renamed = replace(ACME, subdomain="acme-group", name="Acme Group")
    before = a_connection(LINKED, doubt=a_doubt(), attempts=2)
    after = move(before, happened.AccountRenamed(renamed))
    assert (after.account, after.subdomain, after.due_at) == (renamed, "acme-group", NOW)
    assert after.token == replace(TOKEN, subdomain="acme-group")
    assert changed(before, after) == {"account", "subdomain", "token", "doubt", "attempts"}
    failed = move(a_connection(FAILED), happened.AccountRenamed(renamed))
    assert (failed.state, failed.due_at, failed.problem) == (FAILED, NOW, a_connection(FAILED).problem)


def test_what_moved_says_where_the_token_belongs() -> None:
    """As at Continue."""
    after = move(a_connection(LINKED), happened.AccountMoved(("globex",)))
    assert after.problem == a_problem(ProblemCode.SUBDOMAIN_MISMATCH, since=NOW, belongs_to=["globex"])


# what had failed, looked at again


@pytest.mark.parametrize(
    ("linked_at", "code"), [(None, ProblemCode.RECRUITER_ABSENT), (EARLIER, ProblemCode.RECRUITER_REMOVED)]
)
def test_a_token_that_is_good_again_goes_on(linked_at: datetime | None, code: ProblemCode) -> None:
    """Where our recruiter is there the account is linked; otherwise the recruiter is waited for, with a deadline."""
    before = a_connection(FAILED, linked_at=linked_at, checks=2)
    linked = move(before, happened.Recovered("2b81c0"))
    assert_calm(linked)
    assert (linked.state, linked.recruiter, linked.linked_at) == (LINKED, SEEN, linked_at or NOW)
    waits = move(before, happened.Recovered(None, SLIP))
    assert waits.problem == a_problem(code, since=NOW, near_miss="slip", alike="ats+", **OURS)
    assert (waits.state, waits.deadline, waits.checks) == (AWAITING_RECRUITER, NOW + TIMING.recruiter_within, 3)


def test_healing_has_an_end() -> None:
    """After an hour and six, daily for 14 days, weekly to the 90th; a time that Workable names holds."""
    connection, looks = move(a_connection(LINKED), happened.TokenRevoked(), jitter=0.0), []
    while connection.due_at is not None:
        looks.append(connection.due_at - NOW)
        connection = move(connection, happened.StillFailed(refused=True), now=connection.due_at, jitter=0.0)
    hours, days = timedelta(hours=1), timedelta(days=1)
    assert looks == [hours, 6 * hours, *(day * days for day in range(1, 15)), *(day * days for day in range(21, 91, 7))]
    assert connection.refused_at == NOW, "the first refusal in a row"
    later = move(a_connection(FAILED, state_since=NOW), happened.StillFailed(retry_at=LATER))
    assert (later.due_at, later.not_before, later.refused_at) == (LATER, LATER, None)


@pytest.mark.parametrize("code", [None, ProblemCode.RECRUITER_OVERDUE, ProblemCode.TOKEN_EXPIRED])
def test_what_does_not_heal_is_looked_at_once(code: ProblemCode | None) -> None:
    """A person may want a look; no other follows by itself, after an operator's force neither."""
    failed = failed_with(code) if code else a_connection(FAILED, problem=None)
    asked = move(failed, happened.CheckRequested())
    assert asked.due_at == NOW
    assert move(asked, happened.StillFailed()).due_at is None


# another token
@pytest.mark.parametrize("state", WORKING)
def test_a_replacement_waits_beside_the_token(state: ConnectionState) -> None:
    """The token in use is not touched, and tries of the time before are not counted against the new one."""
    before = a_connection(state, attempts=9, replacement_problem=a_problem(ProblemCode.TOKEN_REFUSED))
    after = move(before, happened.ReplacementSubmitted(ANOTHER))
    assert (after.candidate, after.token, after.due_at) == (ANOTHER, TOKEN, NOW)
    assert (after.replacement_problem, after.attempts) == (None, 0)
    assert changed(before, after) <= {"candidate", "due_at", "replacement_problem", "attempts"}


@pytest.mark.parametrize("state", WORKING)
def test_an_accepted_replacement_is_swapped_in(state: ConnectionState) -> None:
    """Token and subdomain change, the state does not, and we look at once with the new token."""
    moved = replace(ACME, subdomain="acme-group")
    new = a_credential("new", subdomain="acme-group")
    after = move(a_connection(state, candidate=new, **TROUBLED), happened.ReplacementAccepted(moved))
    assert (after.token, after.candidate, after.subdomain, after.account) == (new, None, "acme-group", moved)
    assert (after.state, after.state_since, after.due_at) == (state, EARLIER, NOW)
    assert_calm(after)


def test_a_replacement_does_not_add_the_recruiter() -> None:
    """Who still has to add the recruiter is still told so after the token was replaced."""
    known = a_problem(ProblemCode.RECRUITER_ABSENT)
    before = a_connection(AWAITING_RECRUITER, candidate=CANDIDATE, problem=known)
    assert move(before, happened.ReplacementAccepted(ACME)).problem == known


@pytest.mark.parametrize("state", WORKING)
@pytest.mark.parametrize("code", [ProblemCode.TOKEN_REFUSED, ProblemCode.SCOPE_MISSING, ProblemCode.SUBDOMAIN_MISMATCH])
def test_a_bad_replacement_leaves_a_working_link_as_it_was(state: ConnectionState, code: ProblemCode) -> None:
    """State, token, account, problem and doubt stay; only the candidate goes, and the person is told why."""
    known = {"problem": a_problem(ProblemCode.RECRUITER_ABSENT), "doubt": a_doubt(), "attempts": 3}
    before = a_connection(state, candidate=CANDIDATE, due_at=LATER, not_before=EARLIER, **known)
    after = move(before, happened.ReplacementRefused(code, {"missing": ["r_jobs"]}))
    assert after.replacement_problem == a_problem(code, since=NOW, missing=["r_jobs"])
    assert (after.candidate, after.due_at) == (None, NOW)
    assert changed(before, after) == {"candidate", "replacement_problem", "due_at", "attempts", "not_before"}


# trouble

ODD = {"answer": "no_rule", "status": 418}
FAULT = {"fault": "seal_broken.changed", "connection": "con_1"}

TROUBLE: list[tuple[Event, ProblemCode, dict[str, Any]]] = [
    (happened.WorkableUnavailable(), ProblemCode.WORKABLE_UNAVAILABLE, {}),
    (happened.WorkableUnavailable(NOW + HOUR), ProblemCode.WORKABLE_UNAVAILABLE, {}),
    (happened.Throttled(NOW + timedelta(seconds=7)), ProblemCode.THROTTLED, {}),
    (happened.Throttled(EARLIER), ProblemCode.THROTTLED, {}),
    (happened.Throttled(EARLIER, attempts=True), ProblemCode.THROTTLED, {"attempts": 1}),
    (happened.AnswerNotUnderstood(ODD), ProblemCode.ANSWER_NOT_UNDERSTOOD, ODD),
    (happened.AttentionFailed(FAULT), ProblemCode.POISONED, FAULT),
]


@pytest.mark.parametrize(("event", "code", "params"), TROUBLE)
def test_trouble_with_a_new_token_keeps_what_ended_it(event: Event, code: ProblemCode, params: dict[str, Any]) -> None:
    """What has failed stays so, with its problem; what is the matter with the new token stands beside it."""
    before = a_connection(FAILED, candidate=CANDIDATE, attempts=2)
    after = move(before, event)
    assert after.replacement_problem == a_problem(code, since=NOW, **params)
    assert changed(before, after) <= {"replacement_problem", "attempts", "due_at", "not_before"}
    assert after.due_at is not None


@pytest.mark.parametrize("state", CALLING)
@pytest.mark.parametrize(("event", "code", "params"), TROUBLE)
def test_trouble_keeps_everything(
    state: ConnectionState, event: Event, code: ProblemCode, params: dict[str, Any]
) -> None:
    """Nobody pastes twice because Workable was down: candidate, token, state and deadline stay."""
    before = a_connection(state, candidate=CANDIDATE, attempts=2)
    after = move(before, event)
    assert after.problem == a_problem(code, since=NOW, **params)
    assert code in TRANSIENT
    assert after.attempts == 3
    assert changed(before, after) <= {"problem", "attempts", "due_at", "not_before"}


@pytest.mark.parametrize("event", [event for event, *_ in TROUBLE])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999999])
def test_trouble_is_tried_again_in_time(event: Event, jitter: float) -> None:
    """The next try comes by itself, never before Workable's own time and never at once."""
    named: datetime | None = getattr(event, "retry_at", None)
    for attempts in (0, 1, 20, 10**6):
        after = move(a_connection(LINKED, attempts=attempts), event, jitter=jitter)
        assert after.due_at is not None
        assert after.due_at >= max(NOW, named or NOW) + SHORTEST_PAUSE
        assert after.due_at <= max(NOW, named or NOW) + TIMING.backoff_last
        assert after.not_before == named


def test_the_same_trouble_is_as_old_as_it_is() -> None:
    """An outage is shown since it began, not since the last try."""
    known = a_problem(ProblemCode.WORKABLE_UNAVAILABLE)
    assert move(a_connection(LINKED, problem=known), happened.WorkableUnavailable()).problem == known


WAITS_FOR_WORKABLE: list[tuple[ConnectionState, Event]] = [
    (AWAITING_TOKEN, happened.TokenSubmitted(ANOTHER)),
    *((state, happened.ReplacementSubmitted(ANOTHER)) for state in WORKING),
    *((state, happened.Resumed()) for state in WORKING),
    *((state, happened.Forced(TOKEN_VALID)) for state in (AWAITING_RECRUITER, LINKED)),
]


@pytest.mark.parametrize(("state", "event"), WAITS_FOR_WORKABLE)
def test_nobody_is_faster_than_workable_allows(state: ConnectionState, event: Event) -> None:
    """Whatever people do while we have to keep away, nothing is due before Workable's own time."""
    until = NOW + timedelta(seconds=30)
    after = move(a_connection(state, subdomain="acme", not_before=until), event)
    assert (after.due_at, after.not_before) == (until, until)


# people and the clock


def test_an_abandoned_connection_holds_no_secret() -> None:
    """Token and candidate are wiped, and nothing is due."""
    after = move(verifying(token=TOKEN), happened.Abandoned())
    assert (after.token, after.candidate, after.due_at, after.deadline) == (None, None, None, None)
    assert after.problem == a_problem(ProblemCode.ABANDONED, since=NOW)


def failed_with(code: ProblemCode, **facts: Any) -> Connection:
    """A connection that failed for a reason."""
    return a_connection(FAILED, problem=a_problem(code), **facts)


@pytest.mark.parametrize(
    "code",
    [
        ProblemCode.RECRUITER_OVERDUE,
        ProblemCode.TOKEN_REVOKED,
        ProblemCode.TOKEN_EXPIRED,
        ProblemCode.SCOPE_LOST,
        ProblemCode.SUBDOMAIN_MISMATCH,
    ],
)
def test_a_failed_connection_with_a_token_goes_on_with_it(code: ProblemCode) -> None:
    """After any failure that leaves a token, a restart looks again at once."""
    after = move(failed_with(code), happened.Restarted())
    assert (after.state, after.due_at, after.token, after.problem) == (TOKEN_VALID, NOW, TOKEN, None)


@pytest.mark.parametrize("code", [ProblemCode.ABANDONED, ProblemCode.TOKEN_REVOKED])
def test_a_failed_connection_without_a_token_waits_for_one(code: ProblemCode) -> None:
    """After a failure that leaves no token, a restart asks for one and gives the whole time for it."""
    after = move(failed_with(code, token=None), happened.Restarted())
    assert (after.state, after.problem, after.state_since) == (AWAITING_TOKEN, None, NOW)
    assert after.due_at == after.deadline == NOW + TIMING.token_within


@pytest.mark.parametrize("state", ConnectionState)
def test_a_person_who_asks_is_answered_now(state: ConnectionState) -> None:
    """A look is due at once, but for a time that Workable named; nothing else is different."""
    before = a_connection(state, due_at=LATER, candidate=CANDIDATE if state is AWAITING_TOKEN else None)
    after = move(before, happened.CheckRequested())
    assert (after.due_at, changed(before, after)) == (NOW, {"due_at"})
    held = move(replace(before, not_before=SOON), happened.CheckRequested())
    assert held.due_at == SOON


@pytest.mark.parametrize("state", ConnectionState)
def test_a_pause_stops_everything(state: ConnectionState) -> None:
    """Nothing is due; what is known stays; a second pause does not move the first."""
    before = a_connection(state)
    after = move(before, happened.Paused())
    assert (after.paused_at, after.due_at) == (NOW, None)
    assert changed(before, after) <= {"paused_at", "due_at"}
    assert move(after, happened.Paused(), now=LATER).paused_at == NOW


ON_RESUMING: list[tuple[Connection, datetime | None]] = [
    (a_connection(AWAITING_TOKEN), LATER + timedelta(days=20)),
    (a_connection(AWAITING_TOKEN, candidate=CANDIDATE), NOW),
    *((a_connection(state), NOW) for state in WORKING),
    (a_connection(FAILED, problem=None), None),
    (a_connection(FAILED, token=None), None),
    (a_connection(FAILED, candidate=CANDIDATE), NOW),
    (a_connection(FAILED, state_since=NOW), NOW + timedelta(hours=1) * 1.05),
]


@pytest.mark.parametrize(("before", "due_at"), ON_RESUMING, ids=lambda value: getattr(value, "state", ""))
def test_a_resumed_connection_is_attended_at_once(before: Connection, due_at: datetime | None) -> None:
    """What is owed is due now; a failed connection stays failed; who waits for a token goes on waiting."""
    paused = replace(before, paused_at=NOW - timedelta(days=20), due_at=None, attempts=5)
    after = move(paused, happened.Resumed())
    assert (after.paused_at, after.due_at, after.attempts, after.state) == (None, due_at, 0, before.state)


@pytest.mark.parametrize("state", [AWAITING_TOKEN, AWAITING_RECRUITER])
def test_a_pause_is_not_taken_off_the_customers_time(state: ConnectionState) -> None:
    """The deadline moves by as long as the pause was: an operator's pause fails no customer."""
    paused = move(a_connection(state, deadline=NOW + HOUR), happened.Paused())
    assert move(paused, happened.Resumed(), now=NOW + timedelta(days=30)).deadline == NOW + timedelta(days=30) + HOUR


@pytest.mark.parametrize("event", [happened.TokenSubmitted(ANOTHER), happened.ReplacementSubmitted(ANOTHER)])
def test_a_token_that_comes_during_a_pause_is_kept(event: Event) -> None:
    """What a person enters is not lost, and is verified once the connection is resumed."""
    state = AWAITING_TOKEN if isinstance(event, happened.TokenSubmitted) else LINKED
    during = move(a_connection(state, paused_at=EARLIER, due_at=None), event)
    assert (during.candidate, during.due_at) == (ANOTHER, None)
    assert move(during, happened.Resumed()).due_at == NOW


FORCED: list[tuple[ConnectionState, timedelta | None, timedelta | None]] = [
    (AWAITING_TOKEN, TIMING.token_within, TIMING.token_within),
    (TOKEN_VALID, timedelta(0), None),
    (AWAITING_RECRUITER, TIMING.poll_first, TIMING.recruiter_within),
    (LINKED, TIMING.health_every * 1.1, None),
    (FAILED, None, None),
]


@pytest.mark.parametrize(("target", "at_most", "deadline"), FORCED)
@pytest.mark.parametrize("source", ConnectionState)
def test_a_forced_connection_is_consistent(
    source: ConnectionState, target: ConnectionState, at_most: timedelta | None, deadline: timedelta | None
) -> None:
    """Deadline and due time are those of the new state; no problem, doubt or candidate of the old one is left."""
    if source is target:
        return
    left = {"candidate": CANDIDATE, "doubt": a_doubt(), "replacement_problem": a_problem(ProblemCode.TOKEN_REFUSED)}
    before = a_connection(source, **{"token": TOKEN, "recruiter": ISSUED, **left})
    after = move(before, happened.Forced(target))
    assert (after.problem, after.replacement_problem, after.doubt, after.candidate) == (None, None, None, None)
    assert (after.state_since, after.attempts, after.token) == (NOW, 0, TOKEN)
    assert after.deadline == (NOW + deadline if deadline else None)
    assert (after.due_at is None) == (at_most is None)
    assert at_most is None or after.due_at is None or NOW <= after.due_at <= NOW + at_most


@pytest.mark.parametrize("state", ConnectionState)
def test_an_unlinked_connection_is_closed_without_secrets(state: ConnectionState) -> None:
    """Token and candidate are wiped, nothing is due or waited for, and the account may be connected anew."""
    left = {"candidate": CANDIDATE, "doubt": a_doubt(), "replacement_problem": a_problem(ProblemCode.TOKEN_REFUSED)}
    before = a_connection(state, attempts=3, not_before=LATER, **left)
    after = move(before, happened.Unlinked())
    assert (after.token, after.candidate, after.closed_at) == (None, None, NOW)
    assert (after.due_at, after.deadline, after.not_before) == (None, None, None)
    assert (after.problem, after.replacement_problem, after.doubt, after.attempts) == (None, None, None, 0)


@pytest.mark.parametrize("state", ConnectionState)
def test_who_it_is_never_changes(state: ConnectionState) -> None:
    """Whatever happens, a connection stays the same one: id, owner, metadata and birth."""
    before = a_connection(state, metadata={"plan": "pro"}, candidate=CANDIDATE)
    for event in (happened.Unlinked(), happened.Paused(), happened.Resumed()):
        after = move(before, event)
        for fact in ("id", "owner", "metadata", "created_at", "version", "last_seq"):
            assert getattr(after, fact) == getattr(before, fact)


def test_a_recruiter_is_issued_once_and_for_good() -> None:
    """Name and e-mail survive failure, restart and another account's token: the customer never adds a second one."""
    connection = a_connection(FAILED, linked_at=None, recruiter=ISSUED)
    for event in (
        happened.TokenSubmitted(CANDIDATE),
        happened.TokenAccepted(GLOBEX),
        happened.RecruiterPrepared(ISSUED),
        happened.RecruiterOverdue(),
        happened.Restarted(),
    ):
        connection = move(connection, event)
        assert isinstance(connection.recruiter, Recruiter)
        assert connection.recruiter.email == ISSUED.email


@pytest.mark.parametrize("code", [ProblemCode.TOKEN_REVOKED, ProblemCode.TOKEN_EXPIRED, ProblemCode.SCOPE_LOST])
def test_a_restart_gives_no_new_patience_to_a_refused_token(code: ProblemCode) -> None:
    """After a restart a single further refusal ends a connection whose token was refused again and again before."""
    failed = a_connection(FAILED, problem=Problem(code=code, since=EARLIER))
    restarted = move(failed, happened.Restarted())
    assert restarted.state is TOKEN_VALID
    assert restarted.problem is None
    refusal = Forbidden("r_jobs") if code is ProblemCode.SCOPE_LOST else CredentialRefused()
    ended = happened.ScopeLost() if code is ProblemCode.SCOPE_LOST else happened.TokenRevoked()
    assert judge(restarted, refusal, now=NOW, timing=Timing()) == ended


@pytest.mark.parametrize("to", [TOKEN_VALID, AWAITING_RECRUITER, LINKED])
def test_what_was_forced_is_looked_at_at_once(to: ConnectionState) -> None:
    """A connection that an operator forced into a working state is due at once: the state is soon a real one."""
    forced = move(a_connection(FAILED), happened.Forced(to))
    assert (forced.state, forced.due_at) == (to, NOW)


@pytest.mark.parametrize(("subdomain", "kept"), [("acme", True), ("globex", False)])
def test_a_new_token_waits_for_workable_s_time_only_at_the_same_account(subdomain: str, kept: bool) -> None:
    """While Workable's own time for an account runs, a new token for it waits and the reason stays."""
    throttled = a_connection(
        AWAITING_TOKEN, subdomain="acme", not_before=SOON, problem=a_problem(ProblemCode.THROTTLED), attempts=1
    )
    given = move(throttled, happened.TokenSubmitted(a_credential("new", subdomain=subdomain)))
    assert (given.due_at, given.not_before) == ((SOON, SOON) if kept else (NOW, None))
    assert given.problem == (throttled.problem if kept else None)


@pytest.mark.parametrize("to", ConnectionState)
@pytest.mark.parametrize("state", ConnectionState)
def test_what_a_force_changes_is_foreseen(state: ConnectionState, to: ConnectionState) -> None:
    """What is said to be kept and wiped is, and the way back leads back."""
    c = a_connection(state)
    foreseen = foresee(Verb.FORCE, c, NOW, TIMING, to)
    if foreseen.hindrance is not None:
        assert foreseen.change is None
        return
    after, change = move(c, happened.Forced(to)), foreseen.change
    assert change is not None
    assert (change.event, change.source, change.target) == ("forced", state, to)
    assert all(getattr(after, name) == getattr(c, name) for name in change.kept if name not in {"problem", "doubt"})
    assert all(getattr(c, name) is not None and getattr(after, name) is None for name in change.wiped)
    assert change.back is not None
    assert foresee(change.back, after, NOW, TIMING, change.back_to).hindrance is None
    if change.back is Verb.FORCE:
        assert change.back_to is state
