"""What a command line that cannot be carried out says, in-process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from linker.cli import logging_setup
from linker.cli.exit_codes import after_asking, with_error
from linker.cli.main import VERBS, main, verb_named
from linker.cli.selector_options import SELECTING
from linker.encryption import new_key
from linker.errors import Busy
from linker.operations.selectors import Selectors
from linker.persistence.connection_store import ConnectionStore
from states import events as happened
from states.connection import ConnectionState, Problem
from states.problems import ProblemCode
from tests.builders import ACME, ANOTHER, NOW, a_connection, move


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder, a key and a database of the test's own; logging is put back as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKER_SECRET_KEYS", new_key().get_secret_value())
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, logging.raiseExceptions = handlers, level, raising
    for name in ("linker", "apscheduler"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "con_none"], 3, "linker list"),
        (["history", "con_none"], 3, "linker list"),
        (["show", "\udcff"], 3, "linker list"),
        (["outbox", "list", "--connection", "\udcff"], 3, "linker list"),
        (["outbox", "retry", "\udcff"], 3, "linker outbox list"),
        (["confirm", "con_none"], 3, "linker list"),
        (["pause", "con_none"], 3, "linker list"),
        (["list", "--state", "linkd"], 2, "awaiting_recruiter"),
        (["list", "--owner", "\udcff"], 2, "owner"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["open"], 2, "--owner"),
        (["open", "--owner", "  "], 2, "owner"),
        (["open", "--owner", "a", "--metadata", "b"], 2, "KEY=VALUE"),
        (["open", "--owner", "a", "--metadata", "b=1", "--metadata", "b=2"], 2, "twice"),
        (["open", "--owner", "a", "--actor", "\n"], 2, "actor"),
        (["submit", "con_x", "--subdomain", "acme", "--token-expires", "31.01.2030"], 2, "as in 2027-01-31"),
        (["submit", "con_x", "--subdomain", "a.b@c"], 2, "subdomain"),
        (["unlnk", "con_x"], 2, "Did you mean 'unlink'"),
        (["sandbox", "--port", "70000"], 2, "--port"),
        (["sandbox", "--host", "256.0.0.1"], 2, "port: 256.0.0.1:8787 cannot be listened on ("),
        (["states", "--format", "svg"], 2, "mermaid"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input ends with its code and one line on stderr; stdout stays empty, and --json tells the same as JSON."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert main([*arguments, "--json"] if arguments[0] != "sandbox" else ["--json", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    told = json.loads(err)["error"]
    assert told.keys() >= {"code", "message", "field", "params", "retry_after"}
    assert said in told["message"]
    assert told["code"] in {"usage", "bad_input", "not_found"}
    if told["code"] != "usage":
        assert told["reason"]
    if told["code"] == "bad_input":
        assert told["message"] == f"{told['field']}: {told['cause']} {told['next_step']}"
        assert told["next_step"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["list", "--state", "linkd"],
            {"code": "bad_input", "reason": "unknown", "field": "state", "params": {"known": list(ConnectionState)}},
        ),
        (
            ["open", "--owner", "a", "--metadata", "b=1", "--metadata", "b=2"],
            {"code": "bad_input", "reason": "given_twice", "field": "metadata", "params": {"key": "b"}},
        ),
        (
            ["submit", "con_x", "--subdomain", "acme", "--token-expires", "31.01.2030"],
            {"code": "bad_input", "reason": "not_a_date", "field": "token_expires", "params": {}},
        ),
        (
            ["show", "con_none"],
            {"code": "not_found", "reason": "connection", "field": None, "params": {"id": "con_none"}},
        ),
        (
            ["outbox", "retry", "msg_none"],
            {"code": "not_found", "reason": "announcement", "field": None, "params": {"id": "msg_none"}},
        ),
        (["outbox", "retry"], {"code": "bad_input", "reason": "no_ids", "field": "id", "params": {}}),
        (
            ["outbox", "retry", "msg_1", "--all-dead"],
            {"code": "bad_input", "reason": "ids_and_all", "field": "id", "params": {}},
        ),
        (
            ["outbox", "list", "--to", "nowhere"],
            {"code": "bad_input", "reason": "unknown", "field": "to", "params": {"known": ["handlers", "webhook"]}},
        ),
        (
            ["outbox", "deliver"],
            {"code": "bad_settings", "reason": "no_webhook", "field": "LINKER_WEBHOOK_URL", "params": {}},
        ),
    ],
)
def test_an_error_is_a_code_with_parameters_to_machines(
    arguments: list[str], told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads an error with a program needs none of its words."""
    main([*arguments, "--json"])
    error = json.loads(capsys.readouterr().err)["error"]
    assert {name: error[name] for name in told} == told
    assert error["retry_after"] is None


def test_what_may_be_tried_again_says_when(capsys: pytest.CaptureFixture[str]) -> None:
    """A program is told how long to wait, where that is known."""
    busy = Busy("attended_by_others", connection="con_1")
    assert with_error(busy, as_json=True) == 5
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["reason"], error["retry_after"]) == ("busy", "attended_by_others", 1.0)
    assert error["params"] == {"connection": "con_1"}
    assert "cause" not in error


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("SECRET_KEYS", "", 2, "linker keys new"),
        ("SECRET_KEYS", "short", 2, "linker keys new"),
        ("DATABASE_URL", "mysql://host/name", 2, "sqlite:///"),
        ("DATABASE_URL", "sqlite:////nowhere/at/all.db", 5, "folder"),
        ("DATABASE_URL", "sqlite:////", 5, "opened"),
        ("WORKABLE_URL", "https://workable.com", 2, "{subdomain}"),
        ("LEASE_SECONDS", "1", 2, "LINKER_LEASE_SECONDS"),
        ("LOG_LEVEL", "loud", 2, "LINKER_LOG_LEVEL"),
        ("CONFIG", "/nowhere.toml", 2, "LINKER_CONFIG"),
    ],
)
def test_a_wrong_setting_is_named(
    variable: str,
    value: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A setting that cannot be used ends a command with its name and the next step."""
    monkeypatch.setenv(f"LINKER_{variable}", value)
    assert main(["open", "--owner", "a"]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_fault_of_ours_shows_no_values(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What should not happen ends with 1 and one line; at debug with the frames, but never with a value."""

    async def broken(self: ConnectionStore, connection_id: str) -> None:
        canary = "canary-" + "in-a-local"
        raise RuntimeError(canary + " and in-a-message")

    monkeypatch.setattr(ConnectionStore, "whole_id", broken)
    monkeypatch.setenv("LINKER_LOG_LEVEL", level)
    assert main(["show", "con_x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Our fault: RuntimeError" in err
    assert ("test_cli_command_line.py" in err) == (level == "debug")
    assert "canary-in-a-local" not in err
    assert err.count("\n") == 1 or level == "debug"


def test_a_logged_traceback_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception in the log, ours or a library's, is told by its place and type alone, and stays one JSON line."""
    logging_setup.configure("debug")
    secret = "canary-" + "value"
    try:
        raise ValueError(secret)
    except ValueError:
        structlog.get_logger("linker").exception("something.failed")
        logging.getLogger("aiohttp").exception("trouble")
        logging.getLogger("aiohttp").info("chatter")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], theirs["event"]) == ("something.failed", "trouble")
    assert "ValueError" in ours["exception"]
    assert "canary-value" not in str(ours) + str(theirs)


@pytest.mark.parametrize(
    ("state", "problem", "replacement", "code"),
    [
        (ConnectionState.LINKED, None, None, 0),
        (ConnectionState.AWAITING_RECRUITER, ProblemCode.RECRUITER_ABSENT, None, 0),
        (ConnectionState.AWAITING_RECRUITER, ProblemCode.RECRUITER_REMOVED, None, 0),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.TOKEN_REFUSED, None, 4),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.SUBDOMAIN_MISMATCH, None, 4),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.SCOPE_MISSING, None, 4),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.ACCOUNT_TAKEN, None, 4),
        (ConnectionState.LINKED, None, ProblemCode.TOKEN_REFUSED, 4),
        (ConnectionState.FAILED, ProblemCode.RECRUITER_OVERDUE, None, 4),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.WORKABLE_UNAVAILABLE, None, 5),
        (ConnectionState.TOKEN_VALID, ProblemCode.THROTTLED, None, 5),
        (ConnectionState.AWAITING_RECRUITER, ProblemCode.ANSWER_NOT_UNDERSTOOD, None, 5),
        (ConnectionState.AWAITING_TOKEN, ProblemCode.POISONED, None, 1),
    ],
)
def test_the_exit_code_follows_from_the_row(
    state: ConnectionState, problem: ProblemCode | None, replacement: ProblemCode | None, code: int
) -> None:
    """Refused is 4, trouble that passes is 5, ours is 1, and everything else, waiting too, is 0."""
    connection = a_connection(
        state,
        problem=Problem(code=problem, since=NOW) if problem else None,
        replacement_problem=Problem(code=replacement, since=NOW) if replacement else None,
    )
    assert after_asking(connection, submitted=True) == code


def test_an_old_replacement_problem_is_not_held_against_a_look() -> None:
    """`confirm` does not end with 4 for a token that was turned down before."""
    refused = Problem(code=ProblemCode.TOKEN_REFUSED, since=NOW)
    connection = a_connection(ConnectionState.AWAITING_RECRUITER, problem=None, replacement_problem=refused)
    assert after_asking(connection) == 0


def test_a_good_token_is_not_blamed_for_a_bad_one_before_it() -> None:
    """A link's new token was turned down and the link ended: `submit` ends with 0 for the good one that comes then."""
    refused = Problem(code=ProblemCode.TOKEN_REFUSED, since=NOW)
    ended = a_connection(ConnectionState.FAILED, replacement_problem=refused)
    accepted = move(move(ended, happened.TokenSubmitted(ANOTHER)), happened.TokenAccepted(ACME))
    assert after_asking(accepted, submitted=True) == 0


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("arguments", [["submit", "con_x", "--subdomain", "acme"], ["show", "con_x"], ["sweep"]])
def test_an_argument_too_many_is_not_repeated(
    arguments: list[str], tokens: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands where nothing is taken could be a token: whoever gave it is told so without seeing it again."""
    for more in ([], ["--json"]):
        assert main([*arguments, *["canary-as-argument"] * tokens, *more]) == 2
        out, err = capsys.readouterr()
        assert "A token is never an argument" in err
        assert "canary" not in out + err


def test_the_list_of_verbs_tells_what_the_verbs_tell() -> None:
    """The line of help in the list is the first line of the verb's own help."""
    for name, verb in VERBS.items():
        assert verb_named(name).help.splitlines()[0] == verb.help, name


def test_help_does_not_wait_for_libraries() -> None:
    """`linker --help`, and what prints the law, import neither a database nor an HTTP library."""
    check = (
        "import sys; from linker.cli.main import main; main(['--help']); main(['states']); "
        "heavy = {'sqlalchemy', 'alembic', 'httpx', 'aiohttp', 'apscheduler', 'uvicorn', 'structlog', "
        "'pydantic_settings'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False, cwd=root)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("words", [[], ["outbox"], ["db"], ["keys"], ["states", "--format"], ["list", "--limit"]])
def test_a_token_in_the_place_of_something_else_is_not_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it was taken for: a command, a choice or a number."""
    assert main([*words, "canary-in-the-wrong-place"]) == 2
    assert "canary" not in "".join(capsys.readouterr())


def test_every_selector_is_an_option() -> None:
    """The command line takes the words that the library takes, and `--all`; `list` alone has a cursor."""
    assert set(SELECTING) - {"everything"} == set(Selectors.__annotations__) - {"after"}
