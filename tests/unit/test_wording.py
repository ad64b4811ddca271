"""What people read: one catalogue by key, complete in English, and nothing internal in it."""

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import linker
from linker import Problem, ProblemCode, describe, errors
from linker.errors import BadInput, BadSettings, LinkerError, NotFound, StoreUnavailable
from linker.serialization import connection_facts, connection_json, with_words
from linker.validation import parse_subdomain, parse_token, text
from linker.wording import Catalogue, catalogue
from linker.wording.catalogue import parameters
from states.connection import ConnectionState
from states.problems import NearMissKind, NextLook
from tests.builders import NOW, a_connection, a_problem

ROOT = Path(linker.__file__).parent
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LinkerError)}
ENGLISH = catalogue()


def template(key: str) -> str | None:
    """A text before it is filled in, whichever number it is for."""
    return ENGLISH.template(key, {}) or ENGLISH.template(f"{key}.other", {})


# ── complete ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", ProblemCode)
def test_every_problem_says_what_is_the_matter_and_what_helps(code: ProblemCode) -> None:
    """Each in a sentence, also where nothing more is known of it."""
    words = describe(a_problem(code))
    assert words.message.endswith(".")
    assert words.action.endswith(".")
    assert words.detail == ""


@pytest.mark.parametrize("kind", NearMissKind)
def test_every_near_miss_is_told(kind: NearMissKind) -> None:
    """With what helps against it, and with the name and the e-mail that it is compared with."""
    params: dict[str, Any] = {
        "near_miss": kind.value,
        "alike": "ats+abc",
        "others": 3,
        "name": "Our ATS",
        "email": "ats@example.com",
    }
    words = describe(a_problem(ProblemCode.RECRUITER_ABSENT, **params))
    assert words.detail.endswith(".")
    assert words.message == f"The external recruiter is not in Workable yet. {words.detail}"
    assert "{" not in words.detail


@pytest.mark.parametrize("look", NextLook)
def test_every_next_look_has_words(look: NextLook) -> None:
    """When we look again by ourselves can be said."""
    assert ENGLISH.text(f"next_look.{look.value}")


def raised() -> Iterator[tuple[str, str, set[str]]]:
    """Where an error is made with a reason that can be read: its kind, the reason, and the names of its parameters."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS):
                continue
            place = 1 if issubclass(KINDS[node.func.id], BadInput) else 0
            if node.func.id == "NotFound" or len(node.args) <= place:
                continue
            for reason in ast.walk(node.args[place]):
                if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                    given = {keyword.arg or "**" for keyword in node.keywords}
                    yield KINDS[node.func.id].code, reason.value, given


@pytest.mark.parametrize(("code", "reason", "given"), sorted(raised(), key=str))
def test_every_error_has_words_that_its_parameters_fill(code: str, reason: str, given: set[str]) -> None:
    """Whatever is raised anywhere says what is the matter, and names nothing that it was not given."""
    key, kind = f"error.{code}.{reason}", f"error.{code}"
    said = template(f"{key}.message") or template(f"{kind}.message")
    assert said, f"{key} has no words"
    helps = template(f"{key}.action") or template(f"{kind}.action") or ""
    assert "**" in given or parameters(said) | parameters(helps) <= given


def refusal(work: Any) -> LinkerError | None:
    """The error that some work raises, if it does."""
    try:
        work()
    except LinkerError as error:
        return error
    return None


@given(st.text(max_size=80))
def test_whatever_is_typed_its_refusal_has_words_of_its_own(typed: str) -> None:
    """A subdomain, a token, a line of text: the reason is in the catalogue, and so is what to give instead."""
    tried = (
        lambda: parse_subdomain(typed),
        lambda: parse_token(SecretStr(typed)),
        lambda: text.one_line("owner", typed),
        lambda: text.metadata({typed: typed}),
    )
    for work in tried:
        error = refusal(work)
        if error is not None:
            assert ENGLISH.text(f"{error.wording_key}.message", error.params)
            assert describe(error).action


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("workable_url", "https://workable.com", "no_subdomain"),
        ("workable_url", "ftp://{subdomain}", "no_scheme"),
        ("recruiter_email", "ats@example.com", "no_key"),
        ("recruiter_name", "", "string_too_short"),
        ("recruiter_name", "x" * 101, "string_too_long"),
        ("sweep_seconds", "soon", "float_parsing"),
        ("sweep_seconds", 0, "greater_than"),
        ("sweep_seconds", 1e9, "less_than_equal"),
        ("concurrency", 1.5, "int_from_float"),
        ("concurrency", "many", "int_parsing"),
        ("lease_seconds", 1, "greater_than_equal"),
        ("log_level", "loud", "literal_error"),
        ("poll_first", "-1", "not_positive"),
        ("poll_first", "99999999999", "beyond"),
        ("poll_first", "soon", "not_a_span"),
        ("poll_first", "PT", "time_delta_parsing"),
        ("poll_last", "1", "shorter_than"),
        ("database_schema", "Mine!", "not_a_schema"),
        ("recruiter_name", 1, "string_type"),
        ("colour", "red", "unknown"),
    ],
)
def test_every_refusal_of_a_setting_has_words_of_its_own(setting: str, value: object, reason: str) -> None:
    """The field is the setting's name; its value is not shown."""
    with pytest.raises(BadSettings) as refused:
        linker.load_settings(**{setting: value})
    assert (refused.value.field, refused.value.reason) == (setting, reason)
    assert ENGLISH.text(f"error.bad_settings.{reason}.message", refused.value.params)
    assert len(str(value)) < 4 or str(value) not in str(refused.value)


# ── nothing internal ──────────────────────────────────────────────────────────────────────────────────────────────────


SHOWN_TO_ANYBODY = sorted(key for key in ENGLISH.keys if key.startswith(("error.", "problem.", "field.")))


@pytest.mark.parametrize("key", SHOWN_TO_ANYBODY)
def test_what_the_library_says_names_no_command_and_no_variable(key: str) -> None:
    """It may be shown to a customer; the command line adds its own hints."""
    said = ENGLISH.template(key, {}) or ""
    assert re.search(r"`linker|LINKER_|pip install|--\w", said) is None


# ── the catalogue ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_language_falls_back_text_by_text() -> None:
    """What it lacks is said in English; a language that there is none of is English altogether."""
    german = Catalogue({"next_look.on_action": "wenn jemand handelt"}, fallback=ENGLISH)
    assert german.text("next_look.on_action") == "wenn jemand handelt"
    assert german.text("next_look.on_schedule") == ENGLISH.text("next_look.on_schedule")
    assert describe(a_problem(ProblemCode.THROTTLED), "tlh") == describe(a_problem(ProblemCode.THROTTLED))


def test_numbers_choose_their_text() -> None:
    """One recruiter is told of otherwise than several, and one permission otherwise than two."""
    said = [describe(a_problem(ProblemCode.RECRUITER_ABSENT, near_miss="others", others=n)).detail for n in (1, 2)]
    assert said[0] != said[1]
    assert "2 other external recruiters" in said[1]
    missing = [describe(a_problem(ProblemCode.SCOPE_MISSING, missing=names)).detail for names in (["a"], ["a", "b"])]
    assert missing == ["Missing permission: a.", "Missing permissions: a, b."]


def test_a_parameter_that_is_not_given_stays_in_its_braces() -> None:
    """Nothing fails where people are told something."""
    assert Catalogue({"a": "{x} and {y}"}).text("a", {"x": 1}) == "1 and {y}"


@pytest.mark.parametrize("reaching", ["{x.__class__}", "{x[0]}"])
def test_a_text_reaches_nothing_but_its_parameters(reaching: str) -> None:
    """Whoever may override texts cannot look into the program by them."""
    assert Catalogue({"a": reaching}).text("a", {"x": "secret"}) == reaching


def test_a_sentence_of_an_older_program_is_told_as_it_is() -> None:
    """What was kept as a sentence, and is none of ours, is kept whole."""
    assert describe(a_problem(ProblemCode.POISONED, said="As told on the phone.")).detail == "As told on the phone."


def test_a_fault_is_told_in_the_words_of_its_error() -> None:
    """An operator reads in the problem what went wrong."""
    lost = a_problem(ProblemCode.POISONED, fault="key_missing.not_set", connection="con_1", key="ab12cd34")
    words = describe(lost)
    assert "sealed with the key ab12cd34" in words.internal
    assert "ab12cd34" not in f"{words.message} {words.action} {words.detail}", "a customer reads these"
    strange = describe(a_problem(ProblemCode.POISONED, fault="ZeroDivisionError"))
    assert strange.internal == "What went wrong: ZeroDivisionError."


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_stored_has_no_words_and_what_is_sent_has() -> None:
    """Code and parameters are kept; message and action are made when somebody reads them."""
    problem = a_problem(ProblemCode.SUBDOMAIN_MISMATCH, belongs_to=["globex"])
    connection = a_connection(ConnectionState.AWAITING_TOKEN, problem=problem)
    stored = connection_facts(connection)
    assert stored["problem"].keys() == {"code", "owner", "field", "since", "next_look", "params"}
    assert "account with this subdomain" not in json.dumps(stored)
    sent = connection_json(connection)["problem"]
    assert sent["message"].endswith("This token belongs to: globex.")
    assert (sent["params"], sent["detail"]) == ({"belongs_to": ["globex"]}, "This token belongs to: globex.")


def test_an_old_announcement_keeps_its_words() -> None:
    """It was written when payloads still held them."""
    old = {"problem": {"code": "throttled", "message": "As it was said then.", "action": "Wait."}}
    assert with_words(old) == old


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────

MADE = [
    BadInput("owner", "too_long", most=500),
    BadSettings("database_url", "unknown_parameters", parameters=["pgbouncer", "schema"]),
    NotFound("con_1"),
    StoreUnavailable("unreachable", driver="connection refused"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: error.code)
def test_an_error_passes_between_processes(error: LinkerError) -> None:
    """Pickled, as the workers of a queue do, or copied: it is the same."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert (str(again), again.reason, again.params, vars(again)) == (
            str(error),
            error.reason,
            error.params,
            vars(error),
        )


def test_what_a_driver_said_is_for_logs() -> None:
    """It may name a host or a path: no words hold it, only `repr` and the parameters."""
    error = StoreUnavailable("unreachable", driver="connection refused")
    assert str(error) == str(describe(error))
    assert "refused" not in str(error)
    assert "connection refused" in repr(error)


def test_bad_input_begins_with_its_field() -> None:
    """The field, the cause and the next step, in one line."""
    assert str(BadInput("owner", "empty")) == (
        "owner: It is empty. Give a text of one line that says which of your customers it is."
    )


def test_problems_compare_by_what_they_say() -> None:
    """Two of the same code and time with other parameters are not the same."""
    one = Problem(code=ProblemCode.THROTTLED, since=NOW, params={"a": 1})
    assert one == Problem(code=ProblemCode.THROTTLED, since=NOW, params={"a": 1})
    assert one != Problem(code=ProblemCode.THROTTLED, since=NOW)
    assert len({one, Problem(code=ProblemCode.THROTTLED, since=NOW, params={"a": 2})}) == 2


@pytest.mark.parametrize("language", ["en", "EN", "en-GB", "en_US", "x-none", "", "*", "de,en;q=0.5"])
def test_a_language_is_found_as_browsers_and_systems_write_it(language: str) -> None:
    """And however many are asked for, each catalogue is read once."""
    assert catalogue(language) is ENGLISH


def test_a_parameter_that_is_missing_or_of_another_kind_spoils_no_text() -> None:
    """What is there is told."""
    said = Catalogue({"a": "more than {gt:g}"})
    assert said.text("a", {"gt": 1.5}) == "more than 1.5"
    assert said.text("a", {"gt": "much"}) == "more than much"
    assert said.text("a", {}) == "more than {gt}"
