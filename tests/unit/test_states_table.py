"""The law against a second copy of it, written down here by hand: all pairs, and every name that is stored."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from linker.wording import describe
from states import events as happened
from states import table
from states.connection import Connection, ConnectionState
from states.duties import Duty, next_duty
from states.effects import EFFECTS
from states.events import EVENTS, Event
from states.machine import IllegalTransition, allowed_events
from states.problems import (
    PROBLEMS,
    REFUSALS,
    TRANSIENT,
    NearMiss,
    NearMissKind,
    NextLook,
    ProblemCode,
    ProblemOwner,
)
from states.table import LAW, TRANSITIONS
from tests.builders import (
    ACME,
    ANOTHER,
    CANDIDATE,
    EARLIER,
    ISSUED,
    NOW,
    SEEN,
    TOKEN,
    a_connection,
    a_credential,
    a_problem,
    move,
)

#: Event, from, to, and the condition: `token` and `no_token` are held in the row, `recruiter` means token and
#: recruiter, `idle` that no token is being verified, `untold` a token of whose last day the host was not told,
#: `troubled` trouble of which it was not told, `to_ask` something to ask Workable with; `absent` and `present`, `found`
#: and `missing` are in the event. `told` is a token that no refusal was reported of for a minute, `spared` a look that
#: use takes the place of, `heals` a held token that was refused and may be good again, and `calm` that there is none.
EXPECTED = """
token_submitted         awaiting_token      awaiting_token
token_submitted         failed              awaiting_token      calm
token_submitted         failed              failed              heals
subdomain_given         awaiting_token      awaiting_token      idle
token_accepted          awaiting_token      token_valid
token_accepted          failed              token_valid
token_refused           awaiting_token      awaiting_token
token_refused           failed              failed
subdomain_mismatched    awaiting_token      awaiting_token
subdomain_mismatched    failed              failed
held_token_wiped        awaiting_token      awaiting_token
scope_missing           awaiting_token      awaiting_token
scope_missing           failed              failed
account_taken           awaiting_token      awaiting_token
account_taken           failed              failed
recruiter_prepared      token_valid         awaiting_recruiter  absent
recruiter_prepared      token_valid         linked              present
recruiter_found         awaiting_recruiter  linked
recruiter_absent        awaiting_recruiter  awaiting_recruiter
recruiter_overdue       awaiting_recruiter  failed
health_confirmed        linked              linked
token_expiring          awaiting_recruiter  awaiting_recruiter  untold
token_expiring          linked              linked              untold
recruiter_vanished      linked              awaiting_recruiter
account_gone            token_valid         failed
account_gone            awaiting_recruiter  failed
account_gone            linked              failed
account_renamed         token_valid         token_valid
account_renamed         awaiting_recruiter  awaiting_recruiter
account_renamed         linked              linked
account_renamed         failed              failed
recovered               failed              linked              found
recovered               failed              awaiting_recruiter  missing
still_failed            failed              failed
refusal_doubted         token_valid         token_valid
refusal_doubted         awaiting_recruiter  awaiting_recruiter
refusal_doubted         linked              linked
token_revoked           token_valid         failed
token_revoked           awaiting_recruiter  failed
token_revoked           linked              failed
scope_lost              token_valid         failed
scope_lost              awaiting_recruiter  failed
scope_lost              linked              failed
account_moved           token_valid         failed
account_moved           awaiting_recruiter  failed
account_moved           linked              failed
refusal_reported        token_valid         token_valid         told
refusal_reported        awaiting_recruiter  awaiting_recruiter  told
refusal_reported        linked              linked              told
use_confirmed           linked              linked              spared
permission_tried        linked              linked              unknown
token_revealed          awaiting_token      awaiting_token      token
token_revealed          token_valid         token_valid         token
token_revealed          awaiting_recruiter  awaiting_recruiter  token
token_revealed          linked              linked              token
token_revealed          failed              failed              token
replacement_submitted   token_valid         token_valid
replacement_submitted   awaiting_recruiter  awaiting_recruiter
replacement_submitted   linked              linked
replacement_accepted    token_valid         token_valid
replacement_accepted    awaiting_recruiter  awaiting_recruiter
replacement_accepted    linked              linked
replacement_refused     token_valid         token_valid
replacement_refused     awaiting_recruiter  awaiting_recruiter
replacement_refused     linked              linked
replacement_refused     failed              failed
workable_unavailable    awaiting_token      awaiting_token
workable_unavailable    token_valid         token_valid
workable_unavailable    awaiting_recruiter  awaiting_recruiter
workable_unavailable    linked              linked
workable_unavailable    failed              failed
throttled               awaiting_token      awaiting_token
throttled               token_valid         token_valid
throttled               awaiting_recruiter  awaiting_recruiter
throttled               linked              linked
throttled               failed              failed
answer_not_understood   awaiting_token      awaiting_token
answer_not_understood   token_valid         token_valid
answer_not_understood   awaiting_recruiter  awaiting_recruiter
answer_not_understood   linked              linked
answer_not_understood   failed              failed
attention_failed        awaiting_token      awaiting_token
attention_failed        token_valid         token_valid
attention_failed        awaiting_recruiter  awaiting_recruiter
attention_failed        linked              linked
attention_failed        failed              failed
trouble_lasted          awaiting_token      awaiting_token      troubled
trouble_lasted          token_valid         token_valid         troubled
trouble_lasted          awaiting_recruiter  awaiting_recruiter  troubled
trouble_lasted          linked              linked              troubled
abandoned               awaiting_token      failed
check_requested         awaiting_token      awaiting_token      to_ask
check_requested         token_valid         token_valid         to_ask
check_requested         awaiting_recruiter  awaiting_recruiter  to_ask
check_requested         linked              linked              to_ask
check_requested         failed              failed              to_ask
restarted               failed              awaiting_token      no_token
restarted               failed              token_valid         token
paused                  awaiting_token      awaiting_token
paused                  token_valid         token_valid
paused                  awaiting_recruiter  awaiting_recruiter
paused                  linked              linked
paused                  failed              failed
resumed                 awaiting_token      awaiting_token
resumed                 token_valid         token_valid
resumed                 awaiting_recruiter  awaiting_recruiter
resumed                 linked              linked
resumed                 failed              failed
metadata_set            awaiting_token      awaiting_token
metadata_set            token_valid         token_valid
metadata_set            awaiting_recruiter  awaiting_recruiter
metadata_set            linked              linked
metadata_set            failed              failed
forced                  token_valid         awaiting_token
forced                  awaiting_recruiter  awaiting_token
forced                  linked              awaiting_token
forced                  failed              awaiting_token
forced                  awaiting_token      token_valid         token
forced                  awaiting_recruiter  token_valid         token
forced                  linked              token_valid         token
forced                  failed              token_valid         token
forced                  awaiting_token      awaiting_recruiter  recruiter
forced                  token_valid         awaiting_recruiter  recruiter
forced                  linked              awaiting_recruiter  recruiter
forced                  failed              awaiting_recruiter  recruiter
forced                  awaiting_token      linked              recruiter
forced                  token_valid         linked              recruiter
forced                  awaiting_recruiter  linked              recruiter
forced                  failed              linked              recruiter
forced                  awaiting_token      failed
forced                  token_valid         failed
forced                  awaiting_recruiter  failed
forced                  linked              failed
unlinked                awaiting_token      awaiting_token
unlinked                token_valid         awaiting_token
unlinked                awaiting_recruiter  awaiting_token
unlinked                linked              awaiting_token
unlinked                failed              awaiting_token
"""

#: Event, from, to, condition.
Row = tuple[str, str, str, str]
ROWS: list[Row] = [
    (event, source, target, condition[0] if condition else "")
    for event, source, target, *condition in map(str.split, EXPECTED.strip().splitlines())
]

#: What the conditions are called in the table.
GUARDS: dict[str, set[str | None]] = {
    "": {None, "to_awaiting_token", "to_failed"},
    "absent": {"not_there_yet"},
    "present": {"already_there"},
    "idle": {"nothing_to_verify"},
    "calm": {"nothing_heals"},
    "heals": {"token_may_heal"},
    "no_token": {"no_token_held"},
    "untold": {"expiry_untold"},
    "troubled": {"trouble_untold"},
    "to_ask": {"something_to_ask_with"},
    "found": {"recruiter_seen"},
    "missing": {"recruiter_not_seen"},
    "told": {"not_reported_lately"},
    "spared": {"look_can_be_spared"},
    "unknown": {"permission_is_news"},
    "token": {"token_held", "to_token_valid_and_token_held"},
    "recruiter": {"to_awaiting_recruiter_and_recruiter_issued", "to_linked_and_recruiter_issued"},
}

#: The answers to verifying a candidate: there is always one when they come.
VERIFICATION = {
    "token_accepted",
    "token_refused",
    "subdomain_mismatched",
    "scope_missing",
    "account_taken",
    "replacement_accepted",
    "replacement_refused",
}
#: The answers to looking for a recruiter: one was issued when they come.
LOOK = {"recruiter_found", "health_confirmed", "recovered"}

LAST_DAY = NOW.date() + timedelta(days=3)
EXPIRING = a_credential(expires_on=LAST_DAY)

#: One event of each kind, and of each kind that a guard tells apart.
SAMPLES: list[Event] = [
    happened.TokenSubmitted(ANOTHER),
    happened.SubdomainGiven("acme"),
    happened.TokenAccepted(ACME),
    happened.TokenRefused(),
    happened.SubdomainMismatched(("globex",)),
    happened.HeldTokenWiped(),
    happened.ScopeMissing("r_jobs"),
    happened.AccountTaken("con_2"),
    happened.RecruiterPrepared(ISSUED),
    happened.RecruiterPrepared(SEEN),
    happened.RecruiterFound("2b81c0"),
    happened.RecruiterAbsent(NearMiss(kind=NearMissKind.SLIP, alike="ats+")),
    happened.RecruiterOverdue(),
    happened.RefusalDoubted(ProblemCode.TOKEN_REVOKED),
    happened.TokenRevoked(),
    happened.ScopeLost(),
    happened.AccountMoved(),
    happened.AccountGone(),
    happened.AccountRenamed(ACME),
    happened.HealthConfirmed("2b81c0"),
    happened.TokenExpiring(),
    happened.RecruiterVanished(),
    happened.RefusalReported(NOW),
    happened.UseConfirmed(),
    happened.PermissionTried("w_candidates", False),
    happened.PermissionTried("r_candidates", True),
    happened.TokenRevealed(),
    happened.ReplacementSubmitted(ANOTHER),
    happened.ReplacementAccepted(ACME),
    happened.ReplacementRefused(ProblemCode.TOKEN_REFUSED),
    happened.WorkableUnavailable(),
    happened.Throttled(NOW),
    happened.AnswerNotUnderstood({"answer": "no_rule", "status": 418}),
    happened.AttentionFailed({"fault": "seal_broken.changed"}),
    happened.TroubleLasted(),
    happened.Recovered("2b81c0"),
    happened.Recovered(None, NearMiss(kind=NearMissKind.NONE)),
    happened.StillFailed(refused=True),
    happened.Abandoned(),
    happened.CheckRequested(),
    happened.Restarted(),
    happened.Paused(),
    happened.Resumed(),
    happened.MetadataSet({"plan": "pro"}),
    *(happened.Forced(state) for state in ConnectionState),
    happened.Unlinked(),
]

#: What a row can hold beside its state.
HOLDINGS: dict[str, dict[str, Any]] = {
    "nothing": {"token": None, "recruiter": None},
    "a candidate": {"token": None, "recruiter": None, "candidate": CANDIDATE},
    "a token": {"token": TOKEN, "recruiter": None},
    "a token that expires": {"token": EXPIRING, "recruiter": None},
    "a token that expires, as the host knows": {"token": EXPIRING, "recruiter": None, "expiry_told": LAST_DAY},
    "a recruiter": {"token": None, "recruiter": ISSUED},
    "token and recruiter": {"token": TOKEN, "recruiter": ISSUED},
    "a token to verify": {"token": None, "recruiter": None, "candidate": CANDIDATE},
    "a refused token that is too old": {
        "token": TOKEN,
        "recruiter": ISSUED,
        "problem": a_problem(ProblemCode.TOKEN_EXPIRED),
    },
    "trouble": {"token": TOKEN, "recruiter": ISSUED, "problem": a_problem(ProblemCode.THROTTLED)},
    "trouble that the host knows": {
        "token": TOKEN,
        "recruiter": ISSUED,
        "troubled_since": EARLIER,
        "problem": a_problem(ProblemCode.WORKABLE_UNAVAILABLE, lasting=True),
    },
}
REST: dict[str, dict[str, Any]] = {
    "open": {},
    "paused": {"paused_at": EARLIER, "due_at": None},
    "closed": {"closed_at": EARLIER, "due_at": None},
}


def expected(connection: Connection, event: Event) -> str | None:
    """Where the copy of the law says that the event leads; None: nowhere."""
    targets = [
        target
        for name, source, target, condition in ROWS
        if (name, source) == (event.name, connection.state) and _holds(condition, connection, event)
        if not isinstance(event, happened.Forced) or target == event.to
    ]
    assert len(targets) <= 1, "the law is ambiguous"
    return targets[0] if targets and connection.closed_at is None else None


def _holds(condition: str, connection: Connection, event: Event) -> bool:  # noqa: C901 - a case for each condition
    match condition:
        case "token":
            return connection.token is not None
        case "no_token":
            return connection.token is None
        case "heals" | "calm":
            code = connection.problem.code.value if connection.problem else None
            healing = code in {"token_revoked", "scope_lost", "subdomain_mismatch", "account_gone"}
            return (healing and connection.token is not None) == (condition == "heals")
        case "idle":
            return connection.candidate is None
        case "untold":
            token = connection.token
            return token is not None and token.expires_on not in {None, connection.expiry_told}
        case "troubled":
            problem = connection.problem
            return problem is not None and problem.code in TRANSIENT and connection.troubled_since is None
        case "to_ask":
            if connection.state is ConnectionState.AWAITING_TOKEN:
                return connection.candidate is not None
            looks = connection.state is not ConnectionState.FAILED or connection.recruiter is not None
            return connection.token is not None and looks
        case "found" | "missing":
            assert isinstance(event, happened.Recovered)
            return (event.recruiter_id is not None) == (condition == "found")
        case "told":
            return connection.token is not None and connection.paused_at is None
        case "spared":
            return connection.paused_at is None and connection.problem is None and connection.candidate is None
        case "recruiter":
            return connection.token is not None and connection.recruiter is not None
        case "absent" | "present":
            assert isinstance(event, happened.RecruiterPrepared)
            return (event.recruiter.id is not None) == (condition == "present")
    return True


def _facts(event: Event, held: str, rest: str) -> dict[str, Any] | None:
    """The row's facts for a case; None if the event cannot come to such a row."""
    facts: dict[str, Any] = {**HOLDINGS[held], **REST[rest]}
    if event.name in LOOK and facts["recruiter"] is None:
        return None
    return facts | {"candidate": CANDIDATE} if event.name in VERIFICATION else facts


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.name)
def test_all_pairs(state: ConnectionState, event: Event, rest: str) -> None:
    """Every event in every state leads where the law says, or is refused and changes nothing."""
    for held in HOLDINGS:
        facts = _facts(event, held, rest)
        if facts is None:
            continue
        before = a_connection(state, **facts)
        copy = replace(before)
        target = expected(before, event)
        if target is None:
            with pytest.raises(IllegalTransition) as refused:
                move(before, event)
            assert (refused.value.connection, refused.value.event) == (before, event)
        else:
            assert move(before, event).state == target, held
        assert before == copy


def test_samples_are_complete() -> None:
    """All pairs means all events: there is a sample, an effect and a row in the law for each."""
    names = list(EVENTS)
    assert list(dict.fromkeys(event.name for event in SAMPLES)) == names
    assert {event.name for event in EFFECTS} == set(names)
    assert {name for name, *_ in ROWS} == set(names)


def test_table_has_these_rows_and_no_others() -> None:
    """The table and its copy here hold the same rows, with the same conditions."""
    actual = sorted((row.event.name, row.source.value, row.target.value) for row in TRANSITIONS)
    assert actual == sorted((event, source, target) for event, source, target, _ in ROWS)
    conditions = {(event, source, target): condition for event, source, target, condition in ROWS}
    for row in TRANSITIONS:
        guard = row.guard.__name__ if row.guard else None
        assert guard in GUARDS[conditions[row.event.name, row.source.value, row.target.value]]


def test_table_names_the_call_that_an_event_answers() -> None:
    """Events that answer a call name it; what people and the clock do answers none."""
    account, recruiters = "GET /accounts/{subdomain}", "GET /recruiters"
    both = f"{account}, {recruiters}"
    trouble = {"workable_unavailable", "throttled", "answer_not_understood"}
    looks = {
        *("recruiter_prepared", "recruiter_found", "recruiter_absent", "recruiter_overdue", "health_confirmed"),
        *("refusal_doubted", "recruiter_vanished", "token_revoked", "scope_lost", "account_moved"),
        *("account_gone", "account_renamed", "recovered", "still_failed"),
    }
    for row in TRANSITIONS:
        name = row.event.name
        assert row.call == (both if name in VERIFICATION | trouble else recruiters if name in looks else None), name


def test_every_state_is_present() -> None:
    """Every state is reached by a row and left by a row, `failed` too."""
    assert {row.source for row in TRANSITIONS} == {row.target for row in TRANSITIONS} == set(ConnectionState)


@pytest.mark.parametrize("state", ConnectionState)
def test_a_refusal_says_what_is_possible(state: ConnectionState) -> None:
    """The error names the event and the state, and holds the events that the law knows there."""
    event: Event = (
        happened.RecruiterOverdue() if state is not ConnectionState.AWAITING_RECRUITER else happened.Restarted()
    )
    with pytest.raises(IllegalTransition, match=rf"^{event.name} cannot happen in {state}$") as refused:
        move(a_connection(state), event)
    possible = dict.fromkeys(name for name, source, *_ in ROWS if source == state)
    assert set(refused.value.allowed) == set(possible) == set(allowed_events(state))


def test_a_closed_connection_allows_nothing() -> None:
    """The error for a closed connection says so, and offers no event."""
    with pytest.raises(IllegalTransition, match=r"^unlinked cannot happen in a closed connection$") as refused:
        move(a_connection(closed_at=EARLIER, due_at=None), happened.Unlinked())
    assert refused.value.allowed == ()


# names that are stored


def test_states_are_forever() -> None:
    """The names of the states are stored in databases: they never change, and come in the order of the story."""
    assert [state.value for state in ConnectionState] == [
        "awaiting_token",
        "token_valid",
        "awaiting_recruiter",
        "linked",
        "failed",
    ]


def test_events_are_forever() -> None:
    """The names of the events are stored in histories: they never change."""
    assert list(EVENTS) == [
        *("token_submitted", "subdomain_given", "token_accepted", "token_refused", "subdomain_mismatched"),
        *(
            "held_token_wiped",
            "scope_missing",
            "account_taken",
            "recruiter_prepared",
            "recruiter_found",
            "recruiter_absent",
        ),
        *("recruiter_overdue", "refusal_doubted", "token_revoked", "scope_lost", "account_moved", "account_gone"),
        *("account_renamed", "health_confirmed", "token_expiring", "recruiter_vanished"),
        *("refusal_reported", "use_confirmed", "permission_tried", "token_revealed"),
        *("replacement_submitted", "replacement_accepted", "replacement_refused"),
        *("workable_unavailable", "throttled", "answer_not_understood", "attention_failed", "trouble_lasted"),
        *("recovered", "still_failed", "abandoned", "check_requested"),
        *("restarted", "paused", "resumed", "metadata_set", "forced", "unlinked"),
    ]


def test_problems_are_forever() -> None:
    """The codes of the problems are stored and public: they never change."""
    assert [code.value for code in ProblemCode] == [
        *("token_refused", "subdomain_mismatch", "scope_missing", "account_taken", "recruiter_absent"),
        *("recruiter_overdue", "token_revoked", "token_expired", "scope_lost", "account_gone", "recruiter_removed"),
        *("workable_unavailable", "throttled", "answer_not_understood", "abandoned", "poisoned"),
    ]


def test_near_misses_are_forever() -> None:
    """The names of what comes close are stored in problems: they never change."""
    assert [kind.value for kind in NearMissKind] == [
        *("slip", "slip_at_start", "same_name", "member", "others", "none"),
    ]


def test_next_looks_are_forever() -> None:
    """The names of when we look again are stored in announcements: they never change."""
    assert [look.value for look in NextLook] == ["on_action", "on_schedule", "with_backoff", "seldom"]


def test_duties_are_forever() -> None:
    """The names of the duties are shown to operators: they never change."""
    assert [duty.value for duty in Duty] == [
        *("verify_token", "prepare_recruiter", "find_recruiter", "check_health", "look_again", "put_aside", "nothing"),
    ]


# the hash of the law


def test_the_law_is_pinned() -> None:
    """Whoever changes the law changes this line, and says in the changelog what becomes of the rows that exist."""
    assert LAW == "093cbdc35962"


@pytest.mark.parametrize("at", range(0, len(TRANSITIONS), 7))
def test_the_hash_tells_one_law_from_another(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash changes when a row goes, changes its target, its call or its guard, or when rows change places."""
    rows, row = list(TRANSITIONS), TRANSITIONS[at]
    others = [
        rows[:at] + rows[at + 1 :],
        [*rows[:at], replace(row, target=_another(row.target)), *rows[at + 1 :]],
        [*rows[:at], replace(row, call="GET /jobs"), *rows[at + 1 :]],
        [*rows[:at], replace(row, guard=table.token_held), *rows[at + 1 :]],
        [*rows, row],
        rows[::-1],
    ]
    hashes = {LAW}
    for other in others:
        monkeypatch.setattr(table, "TRANSITIONS", tuple(other))
        hashes.add(table._fingerprint())
    assert len(hashes) == len(others) + 1 - (row.guard is table.token_held)


def _another(state: ConnectionState) -> ConnectionState:
    return next(other for other in ConnectionState if other is not state)


# problems and duties

C, W, O = ProblemOwner.CUSTOMER, ProblemOwner.WORKABLE, ProblemOwner.OPERATOR  # noqa: E741 - the initials of owners
KINDS = {
    "token_refused": (C, "token", "on_action"),
    "subdomain_mismatch": (C, "subdomain", "on_action"),
    "scope_missing": (C, "token", "on_action"),
    "account_taken": (C, "subdomain", "on_action"),
    "recruiter_absent": (C, None, "on_schedule"),
    "recruiter_overdue": (C, None, "on_action"),
    "token_revoked": (C, "token", "seldom"),
    "token_expired": (C, "token", "on_action"),
    "scope_lost": (C, "token", "seldom"),
    "account_gone": (C, "subdomain", "seldom"),
    "recruiter_removed": (C, None, "on_schedule"),
    "workable_unavailable": (W, None, "with_backoff"),
    "throttled": (W, None, "with_backoff"),
    "answer_not_understood": (O, None, "with_backoff"),
    "abandoned": (C, None, "on_action"),
    "poisoned": (O, None, "with_backoff"),
}


@pytest.mark.parametrize("code", ProblemCode)
def test_every_problem_has_an_owner_and_advice(code: ProblemCode) -> None:
    """Each problem says who must act, what to do and when we look again, in whole sentences."""
    kind, problem = PROBLEMS[code], a_problem(code)
    assert (kind.owner, kind.field, kind.next_look) == KINDS[code]
    assert (problem.owner, problem.field, problem.next_look) == KINDS[code]
    words = describe(problem)
    assert words.message.endswith(".")
    assert words.action.endswith(".")
    assert words.detail == ""


def test_trouble_is_never_a_credential_problem() -> None:
    """What is wrong with the infrastructure is nobody's token's fault, and on no field of the dialog."""
    assert {code.value for code in TRANSIENT} == {
        *("workable_unavailable", "throttled", "answer_not_understood", "poisoned")
    }
    assert {code.value for code in REFUSALS} == {
        *("token_refused", "subdomain_mismatch", "scope_missing", "account_taken")
    }
    assert all(PROBLEMS[code].field is None and PROBLEMS[code].owner is not C for code in TRANSIENT)
    assert all("token" not in describe(a_problem(code)).message for code in TRANSIENT)
    assert all(PROBLEMS[code].field for code in REFUSALS)


DUTIES = {
    "awaiting_token": Duty.PUT_ASIDE,
    "token_valid": Duty.PREPARE_RECRUITER,
    "awaiting_recruiter": Duty.FIND_RECRUITER,
    "linked": Duty.CHECK_HEALTH,
    "failed": Duty.NOTHING,
}


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("state", ConnectionState)
def test_the_row_says_what_is_owed(state: ConnectionState, rest: str) -> None:
    """A duty follows from the row: a candidate is verified first, and at rest nothing is owed."""
    connection = a_connection(state, **REST[rest])
    assert next_duty(connection) is (DUTIES[state] if rest == "open" else Duty.NOTHING)
    pending = replace(connection, candidate=CANDIDATE)
    assert next_duty(pending) is (Duty.VERIFY_TOKEN if rest == "open" else Duty.NOTHING)
