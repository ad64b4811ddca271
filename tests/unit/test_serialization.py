"""What the outside sees of a connection: the whole contract, and never a secret."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from pydantic import SecretStr

from linker.engine.ports import Settlement
from linker.outbox.announcements import Announcement
from linker.persistence.mapping import announcement_columns
from linker.serialization import (
    Status,
    announced,
    connection_facts,
    connection_json,
    moment,
    payload,
    status_of,
    step_json,
)
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from linker.wording import describe
from states.connection import Connection, ConnectionState
from states.history import Step
from states.problems import PROBLEMS, ProblemCode
from tests.builders import (
    ACME,
    EARLIER,
    LATER,
    NOW,
    SEEN,
    a_connection,
    a_credential,
    a_doubt,
    a_problem,
)

#: The fields that scripts outside depend on.
CONTRACT = {
    *("id", "owner", "status", "state", "problem", "subdomain", "account", "recruiter", "attempts", "checks", "due_at"),
    *("deadline", "state_since", "linked_at", "token", "version", "paused_at", "closed_at", "metadata"),
    *("created_at", "updated_at"),
}
FULL = a_connection(
    ConnectionState.AWAITING_RECRUITER,
    metadata={"plan": "pro"},
    account=ACME,
    recruiter=SEEN,
    token=a_credential("canary-t", expires_on=date(2027, 1, 31)),
    candidate=a_credential("canary-c"),
    problem=a_problem(ProblemCode.RECRUITER_ABSENT, near_miss="others", others=3, name=SEEN.name, email=SEEN.email),
    replacement_problem=a_problem(ProblemCode.TOKEN_REFUSED),
    doubt=a_doubt(count=2),
    attempts=1,
    checks=2,
    not_before=NOW,
    last_ok_at=NOW,
    paused_at=NOW,
    closed_at=NOW,
    linked_at=NOW,
    version=7,
    last_seq=3,
    updated_at=NOW,
)


def settled() -> Settlement:
    """Something that happened to the full connection, and is announced."""
    step = Step(event="recruiter_found", source=None, target=ConnectionState.LINKED, at=LATER, actor="heartbeat")
    return Settlement(before=FULL, after=FULL, step=step, announcement="connection.linked")


def test_the_contract_of_a_connection() -> None:
    """Every field is there, also when it is empty, and all of it is JSON."""
    empty, full = connection_json(a_connection()), connection_json(FULL)
    assert set(empty) == set(full) >= CONTRACT
    assert json.loads(json.dumps(full)) == full
    assert [empty[name] for name in ("problem", "account", "recruiter", "token", "candidate", "doubt")] == [None] * 6


def test_a_connection_in_full() -> None:
    """The parts have the promised fields, states and codes are their stored texts, times are ISO 8601 in UTC."""
    shown = connection_json(FULL)
    assert (shown["status"], shown["state"]) == ("closed", "awaiting_recruiter")
    assert shown["token"] == {"expires_on": "2027-01-31", "fingerprint": "canary-t"}
    assert shown["recruiter"] == {"name": SEEN.name, "email": SEEN.email, "id": SEEN.id}
    assert shown["account"] == {"id": "c71fa", "name": "Acme", "subdomain": "acme"}
    assert shown["doubt"] == {"code": "token_revoked", "count": 2, "since": "2026-02-28T10:00:00Z"}
    assert (shown["created_at"], shown["deadline"]) == ("2026-02-28T10:00:00Z", "2026-03-04T10:00:00Z")
    assert (shown["attempts"], shown["checks"], shown["version"], shown["metadata"]) == (1, 2, 7, {"plan": "pro"})


def test_nothing_sealed_is_shown() -> None:
    """Not even the sealed text of a token leaves the database: a fingerprint names it."""
    assert "v1." not in json.dumps(connection_json(FULL))
    assert "sealed" not in json.dumps(connection_json(FULL))


@pytest.mark.parametrize("name", ["problem", "replacement_problem"])
@pytest.mark.parametrize("code", ProblemCode)
def test_a_problem_says_who_must_act_and_what_to_do(code: ProblemCode, name: str) -> None:
    """Code, owner, message, action and since are always there, with what was seen as parameters and as words."""
    problem = a_problem(code, missing=["r_jobs"])
    shown: dict[str, Any] = connection_json(replace(a_connection(), **cast(Any, {name: problem})))[name]
    words = describe(problem)
    assert shown == {
        "code": code.value,
        "owner": PROBLEMS[code].owner.value,
        "field": PROBLEMS[code].field,
        "since": "2026-02-28T10:00:00Z",
        "params": {"missing": ["r_jobs"]},
        "message": words.message,
        "action": words.action,
        "detail": words.detail or None,
        "next_look": shown["next_look"],
    }
    assert " " in shown["next_look"]
    assert all((shown["message"].endswith("."), shown["action"].endswith(".")))


def test_what_was_seen_is_a_part_of_the_message() -> None:
    """People read one message, and whoever shows the two apart finds the end of it in the detail."""
    shown = connection_json(FULL)["problem"]
    seen = "Workable lists 3 other external recruiters; none of them is this one."
    assert shown["message"] == f"The external recruiter is not in Workable yet. {seen}"
    assert shown["detail"] == seen
    assert shown["params"] == {"near_miss": "others", "others": 3, "name": SEEN.name, "email": SEEN.email}


def test_what_is_stored_holds_no_words() -> None:
    """An announcement stores codes with parameters: its words are those of the program that sends it."""
    facts, shown = connection_facts(FULL), connection_json(FULL)
    assert set(facts) == set(shown)
    for name in ("problem", "replacement_problem"):
        assert set(facts[name]) == {"code", "owner", "field", "since", "next_look", "params"}
    assert (facts["problem"]["next_look"], facts["replacement_problem"]["next_look"]) == ("on_schedule", "on_action")
    assert json.loads(json.dumps(facts)) == facts
    stored = payload(settled())
    version = {"version": FULL.version + 1, "updated_at": moment(LATER)}
    assert stored["data"] == facts | version
    assert announced(stored) == {**stored, "data": shown | version}
    assert stored["data"] == facts | version, "what is stored is not changed by sending it"


def test_an_announcement_of_before_keeps_its_words() -> None:
    """What an older program stored holds words already, and is sent as it is."""
    old = {"code": "token_refused", "message": "As it was.", "action": "Do.", "detail": None, "next_look": "Then."}
    stored = {"type": "connection.failed", "data": {"id": "con_1", "problem": old, "replacement_problem": None}}
    assert announced(stored) == stored


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, Status.OPEN),
        ({"paused_at": NOW}, Status.PAUSED),
        ({"closed_at": NOW}, Status.CLOSED),
        ({"paused_at": EARLIER, "closed_at": NOW}, Status.CLOSED),
    ],
)
def test_the_status_tells_whether_it_is_worked_on(facts: dict[str, Any], status: Status) -> None:
    """An operator's pause and the end are not states of the law; the end goes before a pause."""
    connection = a_connection(**facts)
    assert status_of(connection) is status
    assert connection_json(connection)["status"] == status.value


def test_statuses_are_forever() -> None:
    """Hosts read these texts: they never change."""
    assert [status.value for status in Status] == ["open", "paused", "closed", "damaged"]


def test_the_contract_of_a_step() -> None:
    """A step has exactly these fields; the first one comes from nowhere."""
    step = Step(
        seq=1,
        event="opened",
        source=None,
        target=ConnectionState.AWAITING_TOKEN,
        at=NOW,
        actor="host",
        problem=ProblemCode.TOKEN_REFUSED,
        evidence={"calls": [{"call": "GET /recruiters", "status": 401, "ms": 41}]},
    )
    assert step_json(step) == {
        "seq": 1,
        "event": "opened",
        "from": None,
        "to": "awaiting_token",
        "actor": "host",
        "reason": None,
        "problem": "token_refused",
        "evidence": {"calls": [{"call": "GET /recruiters", "status": 401, "ms": 41}]},
        "verb": None,
        "operation": None,
        "at": "2026-03-02T10:00:00Z",
    }


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, None),
        (NOW, "2026-03-02T10:00:00Z"),
        (NOW.replace(microsecond=5), "2026-03-02T10:00:00.000005Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "2026-03-02T10:00:00Z"),
        (date(2026, 3, 2), "2026-03-02"),
        (datetime(2026, 3, 2, tzinfo=UTC), "2026-03-02T00:00:00Z"),
    ],
)
def test_a_moment_is_told_in_utc(at: datetime | date | None, text: str | None) -> None:
    """Times are ISO 8601 in UTC, whatever zone they come in; a day is a day."""
    assert moment(at) == text


def test_an_announcement_is_due_when_it_is_written() -> None:
    """It has a number of its own, belongs to its step, and is new to everybody."""
    one = settled()
    told = announcement_columns(one)
    assert told["message_id"].startswith("msg_")
    assert told["message_id"] != announcement_columns(one)["message_id"]
    assert (told["connection_id"], told["seq"], told["type"]) == ("con_1", 4, "connection.linked")
    assert (told["created_at"], told["due_at"], told["attempts"], told["delivered_to"]) == (LATER, LATER, 0, [])
    assert told["payload"]["timestamp"] == moment(LATER)
    assert told["payload"]["data"]["version"] == 8


async def test_the_host_is_told_what_it_would_read() -> None:
    """The connection in an announcement is the one that is stored, to the last field but the fencing token."""

    def as_told(connection: Connection) -> dict[str, Any]:
        return connection_json(connection) | {"version": told[-1].payload["data"]["version"]}

    told: list[Announcement] = []
    names = ["opened", "token.accepted", "awaiting_recruiter", "linked", "unlinked"]
    workable, clock = ScriptedWorkable(), SettableClock(EARLIER)
    async with linker_in_memory(clock=clock, workable=workable) as linker:
        for name in names:
            linker.on(name)(told.append)
        connection = await linker.create(owner="customer-1", metadata={"plan": "pro"})
        await linker.deliver()
        assert told[-1].payload["data"] == as_told(connection)
        connection = await linker.submit_token(connection.id, subdomain="acme", token=SecretStr("canary-" * 4))
        assert await linker.deliver() == 2
        assert told[-1].payload["data"] == as_told(connection)
        assert told[-2].payload["data"]["state"] == "token_valid"
        assert connection.recruiter is not None
        workable.add_recruiter(connection.recruiter.email)
        clock.advance(hours=1)
        for act in (linker.confirm_recruiter, linker.unlink):
            connection = await act(connection.id)
            await linker.deliver()
            assert told[-1].payload["data"] == as_told(connection)
    assert [one.type.removeprefix("connection.") for one in told] == names
    assert all("canary" not in json.dumps(dict(one.payload)) for one in told)
