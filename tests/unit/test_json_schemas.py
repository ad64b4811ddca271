"""The JSON Schemas that are shipped: what the library prints and posts is what they say."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from linker.engine.ports import Settlement
from linker.serialization import announced, connection_facts, connection_json, json_schemas, payload, step_json
from states.connection import Account, ConnectionState, Doubt, Recruiter
from states.history import ANNOUNCEMENTS, Step
from states.problems import ProblemCode
from tests.builders import CANDIDATE, NOW, TOKEN, a_connection, a_problem

SCHEMAS = json_schemas()


def assert_fits(kind: str, told: Any) -> None:
    """What is told is what the schema says: every key is there, and none that it does not know."""
    validator = Draft202012Validator(SCHEMAS[kind], format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(told)] == []
    assert told.keys() == SCHEMAS[kind]["properties"].keys()


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_schemas_are_schemas(kind: str) -> None:
    """Of the draft that they name, with something said of every key but the plain times."""
    Draft202012Validator.check_schema(SCHEMAS[kind])
    for name, said in SCHEMAS[kind]["properties"].items():
        assert said.get("format") == "date-time" or {"description", "title", "examples"} & said.keys(), name


FULL: dict[str, Any] = {
    "key": "workable",
    "subdomain": "acme",
    "account": Account(id="1f", name="Acme", subdomain="acme"),
    "recruiter": Recruiter(name="Our ATS", email="ats@example.com", id="2b"),
    "token": replace(TOKEN, fingerprint="0a1b2c3d", expires_on=NOW.date()),
    "candidate": replace(CANDIDATE, fingerprint="4e5f6a7b"),
    "doubt": Doubt(code=ProblemCode.TOKEN_REVOKED, count=2, since=NOW),
    "metadata": {"plan": "pro"},
    "deadline": NOW,
    "due_at": NOW,
    "not_before": NOW,
    "linked_at": NOW,
    "last_ok_at": NOW,
    "updated_at": NOW,
}


@pytest.mark.parametrize("code", [None, *ProblemCode])
@pytest.mark.parametrize("state", ConnectionState)
def test_every_connection_fits(state: ConnectionState, code: ProblemCode | None) -> None:
    """Whatever is the matter with it, with all that it can hold, and with nothing."""
    problem = a_problem(code, near_miss="others", others=2) if code else None
    for facts in (FULL, {"updated_at": NOW, "token": None}):
        connection = a_connection(state, **{**facts, "problem": problem, "replacement_problem": problem})
        assert_fits("connection", connection_json(connection))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "open"),
        ({"paused_at": NOW}, "paused"),
        ({"closed_at": NOW}, "closed"),
        ({"paused_at": NOW, "closed_at": NOW}, "closed"),
    ],
)
def test_the_status_says_whether_it_is_worked_on(facts: dict[str, Any], status: str) -> None:
    """A closed connection never looks open, whichever state it was closed in."""
    for state in ConnectionState:
        assert connection_facts(a_connection(state, **facts))["status"] == status


@pytest.mark.parametrize("type_", ANNOUNCEMENTS)
def test_every_announcement_fits(type_: str) -> None:
    """As a webhook gets it."""
    before = a_connection(ConnectionState.LINKED, **FULL)
    step = Step(event="x", source=None, target=before.state, at=datetime(2026, 3, 1, tzinfo=UTC), actor="a")
    stored = payload(Settlement(before=before, after=before, step=step, announcement=type_))
    assert_fits("announcement", announced(stored))


def test_every_step_fits() -> None:
    """With and without a state before, a reason and a problem."""
    first = Step(event="opened", source=None, target=ConnectionState.AWAITING_TOKEN, at=NOW, actor="host", seq=1)
    other = Step(
        event="forced",
        source=ConnectionState.LINKED,
        target=ConnectionState.FAILED,
        at=NOW,
        actor="operator:ann",
        reason="a test",
        problem=ProblemCode.POISONED,
        evidence={"calls": [{"call": "GET /recruiters", "status": 200, "ms": 12}]},
        seq=2,
    )
    for step in (first, other):
        assert_fits("step", step_json(step))


def test_the_schemas_know_every_state_and_every_code() -> None:
    """Those that the law has today."""
    told = SCHEMAS["connection"]["properties"]["state"]["enum"]
    assert told == [state.value for state in ConnectionState]
    codes = SCHEMAS["connection"]["$defs"]["problem"]["properties"]["code"]["examples"]
    assert set(codes) == {code.value for code in ProblemCode}
