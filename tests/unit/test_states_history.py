"""What is written down of an event, and what the host is told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from states import events as happened
from states.connection import Connection, ConnectionState, LastLook, Permissions
from states.events import EVENTS, Event
from states.history import ANNOUNCEMENTS, ONCE, SILENT, announcement, is_news, was_told
from states.problems import NearMiss, NearMissKind, ProblemCode
from tests.builders import (
    ACME,
    ANOTHER,
    CANDIDATE,
    EARLIER,
    ISSUED,
    NOW,
    SEEN,
    a_connection,
    a_credential,
    a_doubt,
    a_problem,
    move,
)

MINUTE = timedelta(minutes=1)
AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState
DOWN = a_problem(ProblemCode.WORKABLE_UNAVAILABLE)
ABSENT = a_problem(ProblemCode.RECRUITER_ABSENT)
LASTING: dict[str, Any] = {"problem": replace(DOWN, lasting=True), "troubled_since": EARLIER}
RENAMED = replace(ACME, subdomain="acme-group")
NEAR = NearMiss(kind=NearMissKind.OTHERS, others=3)

AT = {state: a_connection(state) for state in ConnectionState}
VERIFYING = a_connection(AWAITING_TOKEN, candidate=CANDIDATE)
REPLACING = a_connection(LINKED, candidate=CANDIDATE)
RECONSIDERED = a_connection(FAILED, candidate=CANDIDATE)
EXPIRING = a_connection(LINKED, token=a_credential(expires_on=EARLIER.date()))
NEEDING = a_connection(LINKED, permissions=Permissions(needed=("r_jobs", "w_candidates"), verified=("r_jobs",)))
LINKED_BEFORE = a_connection(AWAITING_RECRUITER, linked_at=EARLIER)

#: Before, event, whether it leaves a step, and what the host is told.
TOLD: list[tuple[Connection, Event, bool, str | None]] = [
    (AT[AWAITING_TOKEN], happened.TokenSubmitted(ANOTHER), True, None),
    (AT[FAILED], happened.TokenSubmitted(ANOTHER), True, None),
    (AT[AWAITING_TOKEN], happened.SubdomainGiven("acme"), True, None),
    (VERIFYING, happened.TokenAccepted(ACME), True, "token.accepted"),
    (VERIFYING, happened.TokenRefused(), True, None),
    (VERIFYING, happened.SubdomainMismatched(), True, None),
    (AT[AWAITING_TOKEN], happened.HeldTokenWiped(), True, None),
    (VERIFYING, happened.ScopeMissing("r_jobs"), True, None),
    (VERIFYING, happened.AccountTaken("con_2"), True, None),
    (AT[TOKEN_VALID], happened.RecruiterPrepared(ISSUED), True, "connection.awaiting_recruiter"),
    (AT[TOKEN_VALID], happened.RecruiterPrepared(SEEN), True, "connection.linked"),
    (AT[AWAITING_RECRUITER], happened.RecruiterFound("1"), True, "connection.linked"),
    (LINKED_BEFORE, happened.RecruiterFound("1"), True, "connection.recovered"),
    (AT[AWAITING_RECRUITER], happened.RecruiterAbsent(), False, None),
    (a_connection(AWAITING_RECRUITER, problem=DOWN), happened.RecruiterAbsent(NEAR), False, None),
    (AT[AWAITING_RECRUITER], happened.RecruiterOverdue(), True, "connection.failed"),
    (AT[LINKED], happened.HealthConfirmed("2b81c0"), False, None),
    (a_connection(LINKED, problem=DOWN), happened.HealthConfirmed("2b81c0"), True, None),
    (AT[LINKED], happened.RefusalDoubted(ProblemCode.SCOPE_LOST), True, None),
    (EXPIRING, happened.TokenExpiring(), True, "token.expiring"),
    (AT[LINKED], happened.RecruiterVanished(), True, "recruiter.removed"),
    (AT[LINKED], happened.TokenRevoked(), True, "connection.failed"),
    (AT[TOKEN_VALID], happened.ScopeLost(), True, "connection.failed"),
    (AT[AWAITING_RECRUITER], happened.AccountMoved(), True, "connection.failed"),
    (AT[LINKED], happened.AccountGone(), True, "connection.failed"),
    (AT[LINKED], happened.AccountRenamed(RENAMED), True, "account.renamed"),
    (AT[FAILED], happened.AccountRenamed(RENAMED), True, "account.renamed"),
    (AT[FAILED], happened.Recovered("2b81c0"), True, "connection.recovered"),
    (a_connection(FAILED, linked_at=None), happened.Recovered("2b81c0"), True, "connection.linked"),
    (AT[FAILED], happened.Recovered(), True, "connection.recovered"),
    (a_connection(FAILED, linked_at=None), happened.Recovered(), True, "connection.recovered"),
    (AT[FAILED], happened.StillFailed(refused=True), False, None),
    (a_connection(LINKED, problem=DOWN), happened.TroubleLasted(), True, "connection.troubled"),
    (a_connection(LINKED, **LASTING), happened.HealthConfirmed("2b81c0"), True, "connection.recovered"),
    (a_connection(AWAITING_RECRUITER, **LASTING), happened.RecruiterAbsent(), True, "connection.recovered"),
    (a_connection(AWAITING_RECRUITER, **LASTING), happened.RecruiterFound("1"), True, "connection.linked"),
    (a_connection(LINKED, **LASTING), happened.WorkableUnavailable(), False, None),
    (a_connection(LINKED, **LASTING), happened.Throttled(EARLIER), True, None),
    (
        a_connection(AWAITING_TOKEN, candidate=CANDIDATE, **LASTING),
        happened.TokenRefused(),
        True,
        None,
    ),
    (a_connection(AWAITING_TOKEN, **LASTING), happened.TokenSubmitted(ANOTHER), True, None),
    (a_connection(LINKED, **LASTING), happened.Forced(AWAITING_RECRUITER), True, "connection.awaiting_recruiter"),
    *((AT[state], happened.CheckRequested(), True, None) for state in ConnectionState if state is not AWAITING_TOKEN),
    (VERIFYING, happened.CheckRequested(), True, None),
    (AT[LINKED], happened.RefusalReported(NOW), True, None),
    (a_connection(LINKED, reported_at=NOW - 5 * MINUTE), happened.RefusalReported(NOW), False, None),
    (a_connection(LINKED, reported_at=EARLIER), happened.RefusalReported(NOW), True, None),
    (a_connection(LINKED, doubt=a_doubt()), happened.RefusalReported(NOW), False, None),
    (AT[LINKED], happened.UseConfirmed(), False, None),
    (AT[LINKED], happened.PermissionTried("w_candidates", False), True, None),
    (NEEDING, happened.PermissionTried("w_candidates", False), True, "permission.lost"),
    (NEEDING, happened.PermissionTried("w_candidates", True), True, None),
    (AT[LINKED], happened.TokenRevealed(), True, None),
    (AT[LINKED], happened.ReplacementSubmitted(ANOTHER), True, None),
    (REPLACING, happened.ReplacementAccepted(ACME), True, "token.accepted"),
    (REPLACING, happened.ReplacementRefused(ProblemCode.TOKEN_REFUSED), True, None),
    (AT[LINKED], happened.WorkableUnavailable(), True, None),
    (AT[LINKED], happened.Throttled(EARLIER), True, None),
    (AT[LINKED], happened.AnswerNotUnderstood({"answer": "no_rule", "status": 418}), True, None),
    (AT[LINKED], happened.AttentionFailed({"fault": "seal_broken.changed"}), True, None),
    (a_connection(LINKED, problem=DOWN), happened.WorkableUnavailable(), False, None),
    (a_connection(LINKED, problem=DOWN), happened.Throttled(EARLIER), True, None),
    (a_connection(AWAITING_RECRUITER, problem=ABSENT), happened.WorkableUnavailable(), True, None),
    (RECONSIDERED, happened.TokenRefused(), True, None),
    (RECONSIDERED, happened.TokenAccepted(ACME), True, "token.accepted"),
    (RECONSIDERED, happened.WorkableUnavailable(), True, None),
    (replace(RECONSIDERED, replacement_problem=DOWN), happened.WorkableUnavailable(), False, None),
    (replace(RECONSIDERED, replacement_problem=DOWN), happened.Throttled(EARLIER), True, None),
    (AT[AWAITING_TOKEN], happened.Abandoned(), True, "connection.failed"),
    (AT[FAILED], happened.Restarted(), True, None),
    (AT[LINKED], happened.Paused(), True, None),
    (a_connection(LINKED, paused_at=EARLIER, due_at=None), happened.Resumed(), True, None),
    (AT[LINKED], happened.MetadataSet({"plan": "pro"}), True, None),
    (a_connection(AWAITING_RECRUITER), happened.Forced(LINKED), True, "connection.linked"),
    (AT[LINKED], happened.Forced(AWAITING_RECRUITER), True, "connection.awaiting_recruiter"),
    (AT[LINKED], happened.Forced(FAILED), True, "connection.failed"),
    (AT[LINKED], happened.Forced(AWAITING_TOKEN), True, None),
    *((AT[state], happened.Unlinked(), True, "connection.unlinked") for state in ConnectionState),
]


@pytest.mark.parametrize(("before", "event", "news", "told"), TOLD, ids=[event.name for _, event, *_ in TOLD])
def test_what_is_written_and_told(before: Connection, event: Event, news: bool, told: str | None) -> None:
    """Everything leaves a step but looks that found what they expected, and trouble that goes on."""
    after = move(before, event)
    assert is_news(before, after, event) == news
    assert announcement(before, after, event) == told
    assert news or told is None, "nothing is announced without a step"


def test_every_event_is_told_about() -> None:
    """The table above has a line for each event, and what it announces can be listened to."""
    assert {event.name for _, event, *_ in TOLD} == set(EVENTS)
    assert {told for *_, told in TOLD if told} <= set(ANNOUNCEMENTS)


def test_a_state_never_changes_without_a_step() -> None:
    """What leaves no step leaves the state as it is, for every event that is ever silent."""
    for before, event, *_ in TOLD:
        if type(event) in SILENT | ONCE:
            assert move(before, event).state is before.state


def test_announcements_are_forever() -> None:
    """Hosts listen to these names: they never change."""
    assert ANNOUNCEMENTS == (
        "connection.opened",
        "token.accepted",
        "connection.awaiting_recruiter",
        "connection.linked",
        "connection.failed",
        "connection.recovered",
        "connection.troubled",
        "account.renamed",
        "token.expiring",
        "recruiter.removed",
        "permission.lost",
        "connection.unlinked",
    )


def test_the_same_answer_is_told_once_a_minute() -> None:
    """Whoever asks again and again fills no history; another answer, or a later one, is told."""
    look = LastLook(
        at=NOW, call="GET /recruiters", status=200, ms=4, by="ann", verdict="recruiter_not_seen", told_at=NOW
    )
    before = a_connection(AWAITING_RECRUITER, problem=ABSENT, last_look=look)
    same, other = move(before, happened.RecruiterAbsent()), move(before, happened.RecruiterAbsent(NEAR))
    soon, later = NOW + timedelta(seconds=59), NOW + timedelta(minutes=1)
    assert was_told(before, same, "recruiter_not_seen", soon)
    assert not was_told(before, same, "recruiter_not_seen", later)
    assert not was_told(before, other, "recruiter_not_seen", soon)
    assert not was_told(before, same, "unavailable", soon)
    untold = a_connection(AWAITING_RECRUITER, problem=ABSENT, last_look=replace(look, told_at=None))
    assert not was_told(untold, same, "recruiter_not_seen", soon)
    assert not was_told(a_connection(AWAITING_RECRUITER, problem=ABSENT), same, "recruiter_not_seen", soon)
