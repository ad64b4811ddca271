"""Settings: their defaults, where they come from, and how a bad one is told."""

import re
import sqlite3
import tomllib
import traceback
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr, ValidationError

from linker.cli.exit_codes import in_command_line_words
from linker.database.database import Database
from linker.database.errors import translate
from linker.encryption import new_key
from linker.errors import BadSettings, OurFault, StoreUnavailable
from linker.settings import PERMISSIONS, Settings, load_settings, setting_of, variable_of
from linker.wording import catalogue, describe
from states.timing import Timing

SAMPLE = Path(__file__).parents[2] / "config" / "linker.toml"

DEFAULTS: dict[str, Any] = {
    "database_url": "sqlite:///linker.db",
    "database_schema": None,
    "secret_keys": (),
    "workable_url": "https://{subdomain}.workable.com",
    "proxy_url": None,
    "workable_client_id": None,
    "recruiter_name": "Integration",
    "recruiter_email": "ats+{key}@inbound.example.com",
    "sweep_seconds": 5.0,
    "lease_seconds": 60.0,
    "concurrency": 50,
    "batch_size": 500,
    "log_level": "info",
    "public_url": None,
    "permissions": ("r_jobs",),
    "dialog_name": None,
    "dialog_logo": None,
    "dialog_accent": "#2f5bea",
    "dialog_radius": 16,
    "dialog_font": None,
    "dialog_support_url": None,
    "dialog_privacy_url": None,
    "dialog_words": None,
    "webhook_url": None,
    "webhook_secret": (),
    "poll_first": timedelta(seconds=10),
    "poll_last": timedelta(hours=1),
    "poll_share": 10.0,
    "recruiter_within": timedelta(days=14),
    "token_within": timedelta(days=30),
    "health_every": timedelta(hours=24),
    "expiry_notice": timedelta(days=14),
    "backoff_first": timedelta(seconds=5),
    "backoff_last": timedelta(hours=1),
    "refusals": 3,
    "refusals_spread": timedelta(hours=1),
    "trouble_within": timedelta(days=3),
    "keep_history": timedelta(days=400),
    "keep_announcements": timedelta(days=30),
    "keep_closed": timedelta(days=400),
}
#: What has no default is shown with an example in the sample file.
EXAMPLES = {
    *("database_schema", "proxy_url", "workable_client_id", "public_url", "webhook_url", "webhook_secret"),
    *("dialog_name", "dialog_logo", "dialog_font", "dialog_support_url", "dialog_privacy_url", "dialog_words"),
}


def a_file(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with settings that LINKER_CONFIG names."""
    path = tmp_path / "linker.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("LINKER_CONFIG", str(path))
    return path


def test_defaults() -> None:
    """Without a variable and without a file, these hold."""
    assert load_settings().model_dump() == Settings().model_dump() == DEFAULTS


def test_timings_reach_the_law() -> None:
    """The defaults here are those of the law, and every timing that can be set is handed to it."""
    assert Settings().timing == Timing()
    for one in fields(Timing):
        if one.name in Settings.model_fields:
            value: Any = 2 * DEFAULTS[one.name]
            assert getattr(Settings(**{one.name: value}).timing, one.name) == value


# where they come from

VARIABLES: list[tuple[str, str, Any]] = [
    ("DATABASE_URL", "postgresql://linker@db/linker", "postgresql://linker@db/linker"),
    ("DATABASE_SCHEMA", "integrations_2", "integrations_2"),
    ("DATABASE_SCHEMA", "", None),
    ("WORKABLE_URL", "http://127.0.0.1:8787/{subdomain}/", "http://127.0.0.1:8787/{subdomain}"),
    ("RECRUITER_NAME", "Acme Sourcing", "Acme Sourcing"),
    ("RECRUITER_EMAIL", "{key}@in.acme.example", "{key}@in.acme.example"),
    ("SWEEP_SECONDS", "0.5", 0.5),
    ("LEASE_SECONDS", "30", 30.0),
    ("CONCURRENCY", "7", 7),
    ("BATCH_SIZE", "70", 70),
    ("LOG_LEVEL", "debug", "debug"),
    ("PUBLIC_URL", "https://connect.example.com", "https://connect.example.com"),
    ("WEBHOOK_URL", "https://app.example.com/hooks", "https://app.example.com/hooks"),
    ("POLL_FIRST", "2", timedelta(seconds=2)),
    ("POLL_FIRST", "0.25", timedelta(seconds=0.25)),
    ("POLL_LAST", "PT30M", timedelta(minutes=30)),
    ("POLL_SHARE", "20", 20.0),
    ("RECRUITER_WITHIN", "P21D", timedelta(days=21)),
    ("TOKEN_WITHIN", "3600", timedelta(hours=1)),
    ("HEALTH_EVERY", "PT6H", timedelta(hours=6)),
    ("EXPIRY_NOTICE", "P30D", timedelta(days=30)),
    ("BACKOFF_FIRST", "1", timedelta(seconds=1)),
    ("BACKOFF_LAST", "60", timedelta(minutes=1)),
    ("REFUSALS", "5", 5),
    ("REFUSALS_SPREAD", "7200", timedelta(hours=2)),
    ("KEEP_HISTORY", "forever", None),
    ("KEEP_ANNOUNCEMENTS", "P7D", timedelta(days=7)),
    ("KEEP_CLOSED", "Forever", None),
    ("RECRUITER_NAME", "", "Integration"),
    ("PUBLIC_URL", "", None),
]


@pytest.mark.parametrize(("variable", "text", "value"), VARIABLES)
def test_variables(variable: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is read from its variable; an empty one is as good as none."""
    monkeypatch.setenv(f"LINKER_{variable}", text)
    assert getattr(load_settings(), variable.lower()) == value


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\t{}", "\u00a0{}\u3000"])
@pytest.mark.parametrize(("variable", "text", "value"), [each for each in VARIABLES if each[1]])
def test_what_surrounds_a_variable_is_dropped(
    around: str, variable: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of secrets end with a line break, and people paste blanks."""
    monkeypatch.setenv(f"LINKER_{variable}", around.format(text))
    assert getattr(load_settings(), variable.lower()) == value


@pytest.mark.parametrize("around", ["{}\n", "\r\n{} "])
def test_what_surrounds_a_secret_is_dropped(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for secrets, from a variable and from a host."""
    monkeypatch.setenv("LINKER_WORKABLE_CLIENT_ID", around.format("canary"))
    assert load_settings().workable_client_id == SecretStr("canary")
    assert Settings(secret_keys=(SecretStr(around.format("key")),)).secret_keys == (SecretStr("key"),)


def test_secret_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are read from their variables too, and kept as secrets."""
    monkeypatch.setenv("LINKER_WORKABLE_CLIENT_ID", "canary")
    assert load_settings().workable_client_id == SecretStr("canary")


@pytest.mark.parametrize("name", ["secret_keys", "webhook_secret"])
def test_several_secrets_in_one_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are separated by commas, newest first; blanks and a comma at the end do no harm."""
    monkeypatch.setenv(f"LINKER_{name.upper()}", " new , old,\n")
    assert getattr(load_settings(), name) == (SecretStr("new"), SecretStr("old"))


def test_one_secret_needs_no_list() -> None:
    """A host that has one hands it over as it is."""
    given: dict[str, Any] = {"secret_keys": SecretStr("one"), "webhook_secret": "one"}
    found = Settings(**given)
    assert found.secret_keys == found.webhook_secret == (SecretStr("one"),)


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that LINKER_CONFIG names holds the same settings, lower-case, without the prefix."""
    text = 'secret_keys = ["new", "old"]\nrefusals = 5\nhealth_every = "PT6H"\npoll_first = 3\nbackoff_first = 0.5\n'
    a_file(tmp_path, text, monkeypatch)
    found = load_settings()
    assert found.secret_keys == (SecretStr("new"), SecretStr("old"))
    assert (found.refusals, found.health_every) == (5, timedelta(hours=6))
    assert (found.poll_first, found.backoff_first) == (timedelta(seconds=3), timedelta(seconds=0.5))


def test_who_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given in code wins over the variable, and the variable over the file."""
    a_file(tmp_path, "refusals = 5\nconcurrency = 5\nbatch_size = 5\n", monkeypatch)
    monkeypatch.setenv("LINKER_CONCURRENCY", "6")
    monkeypatch.setenv("LINKER_BATCH_SIZE", "6")
    found = load_settings(batch_size=7)
    assert (found.refusals, found.concurrency, found.batch_size) == (5, 6, 7)


def test_settings_in_code_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings(…)` is what it is given: a host's environment does not reach into it."""
    monkeypatch.setenv("LINKER_REFUSALS", "5")
    assert Settings().refusals == 3


# bad ones

EMAIL = "It must be an e-mail address that holds {key} once, as in ats+{key}@inbound.example.com."
SPAN = "It must be seconds, as in 10, or a duration in ISO 8601, as in PT1H or P14D."
LEVELS = "'debug', 'info', 'warning', 'error' or 'critical'"

#: Variable, what is in it, the reason with its parameters, and what is said.
BAD: list[tuple[str, str, str, dict[str, Any], str]] = [
    (
        *("WORKABLE_URL", "https://acme.workable.com", "no_subdomain", {}),
        "It must hold {subdomain}, as in https://{subdomain}.workable.com.",
    ),
    (
        *("WORKABLE_URL", "ftp://{subdomain}.workable.com", "no_scheme", {}),
        "It must begin with https:// (or http:// for a test server).",
    ),
    *(
        (
            *("DATABASE_SCHEMA", schema, "not_a_schema", {}),
            "It must be a name in lower-case letters, digits and underscores.",
        )
        for schema in ("Canary", "canary-1", 'canary"', "1canary", "x" * 64, "canary é")
    ),
    ("RECRUITER_NAME", "x" * 101, "string_too_long", {"max_length": 100}, "It must have at most 100 characters."),
    *(
        ("RECRUITER_EMAIL", email, "no_key", {}, EMAIL)
        for email in (
            *("canary@example.com", "{key}canary.example.com", "{key}@", "@{key}.example.com", "ats {key}@example.com"),
            *("{key}@a@b.example", "{key}@exämple.com", "{key}+{key}@example.com"),
        )
    ),
    ("SWEEP_SECONDS", "0", "greater_than", {"gt": 0}, "It must be greater than 0"),
    ("SWEEP_SECONDS", "canary", "float_parsing", {}, "It must be a number."),
    ("SWEEP_SECONDS", "nan", "finite_number", {}, "It must be a finite number"),
    ("POLL_SHARE", "inf", "finite_number", {}, "It must be a finite number"),
    ("POLL_SHARE", "-1", "greater_than_equal", {"ge": 1.0}, "It must be greater than or equal to 1"),
    ("POLL_FIRST", "inf", "not_a_span", {}, "It must be seconds, as in 10, or a duration in ISO 8601"),
    ("POLL_FIRST", "-5", "not_positive", {}, "It must be more than nothing"),
    ("WORKABLE_CLIENT_ID", "part\nner", "control_characters", {}, "It holds a line break"),
    ("WORKABLE_CLIENT_ID", "part ner", "not_visible", {}, "It must be visible ASCII without blanks"),
    ("WORKABLE_URL", "https://{subdomain}.work able.com", "not_visible", {}, "It must be visible ASCII"),
    ("DATABASE_URL", "sqlite:///link\ner.db", "control_characters", {}, "It holds a line break"),
    ("RECRUITER_NAME", "Inte\x1bgration", "control_characters", {}, "It holds a line break"),
    ("LEASE_SECONDS", "1", "greater_than_equal", {"ge": 2}, "It must be greater than or equal to 2"),
    ("CONCURRENCY", "0", "greater_than_equal", {"ge": 1}, "It must be greater than or equal to 1."),
    ("CONCURRENCY", "1.5", "int_parsing", {}, "It must be a whole number."),
    ("BATCH_SIZE", "5001", "less_than_equal", {"le": 5000}, "It must be less than or equal to 5000."),
    ("LOG_LEVEL", "canary", "literal_error", {"expected": LEVELS}, f"It must be {LEVELS}."),
    *(
        ("POLL_FIRST", span, "not_positive", {}, "It must be more than nothing.")
        for span in ("0", "-5", "-" + "9" * 400)
    ),
    ("POLL_FIRST", "canary", "not_a_span", {}, SPAN),
    ("POLL_FIRST", "²", "not_a_span", {}, SPAN),
    ("POLL_LAST", "P4000D", "beyond", {}, "It must be at most ten years."),
    ("POLL_LAST", "9" * 400, "beyond", {}, "It must be at most ten years."),
    ("TOKEN_WITHIN", "99999999999999999999", "beyond", {}, "It must be at most ten years."),
    ("POLL_SHARE", "0.5", "greater_than_equal", {"ge": 1}, "It must be greater than or equal to 1"),
    ("REFUSALS", "1", "greater_than_equal", {"ge": 2}, "It must be greater than or equal to 2."),
    ("KEEP_HISTORY", "0", "not_positive", {}, "It must be more than nothing."),
    ("KEEP_CLOSED", "never", "not_a_span", {}, SPAN),
]


@pytest.mark.parametrize(("variable", "text", "reason", "params", "told"), BAD)
def test_a_bad_setting_is_named(
    variable: str, text: str, reason: str, params: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names setting, cause and what it takes, and shows nothing of the value, not even in a traceback."""
    monkeypatch.setenv(f"LINKER_{variable}", text)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    error = refused.value
    assert (error.field, error.reason, error.params) == (variable.lower(), reason, params)
    assert str(error).startswith(f"{variable.lower()}: {told}")
    assert str(error) == f"{variable.lower()}: {describe(error)}"
    assert (error.exit_code, error.code) == (2, "bad_settings")
    assert "canary" not in "".join(traceback.format_exception(error)).lower()


@pytest.mark.parametrize(("variable", "text", "told"), [(bad[0], bad[1], bad[4]) for bad in BAD])
def test_the_command_line_names_the_variable(
    variable: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set a variable is told its name, and not the setting's."""
    monkeypatch.setenv(f"LINKER_{variable}", text)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    words, _ = in_command_line_words(refused.value)
    assert str(words).startswith(f"LINKER_{variable}: {told}")


@pytest.mark.parametrize("pauses", ["POLL", "BACKOFF"])
def test_the_longest_pause_is_not_shorter_than_the_first(pauses: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first pause that is longer than the last one is refused, also where the last one is the default."""
    monkeypatch.setenv(f"LINKER_{pauses}_FIRST", "PT2H")
    for last in ("", "7199"):
        monkeypatch.setenv(f"LINKER_{pauses}_LAST", last)
        with pytest.raises(BadSettings) as refused:
            load_settings()
        first, longest = f"{pauses.lower()}_first", f"{pauses.lower()}_last"
        assert (refused.value.field, refused.value.reason) == (longest, "shorter_than")
        assert refused.value.params == {"other": first}
        assert str(refused.value) == f"{longest}: It must not be shorter than {first}."
        words, _ = in_command_line_words(refused.value)
        assert str(words) == f"LINKER_{pauses}_LAST: It must not be shorter than LINKER_{pauses}_FIRST."
    monkeypatch.setenv(f"LINKER_{pauses}_LAST", "7200")
    load_settings()


def test_an_unknown_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the file is told, with the names that exist."""
    a_file(tmp_path, 'databse_url = "sqlite:///canary.db"\n', monkeypatch)
    with pytest.raises(BadSettings, match=r"^databse_url: There is no such setting.*database_url") as refused:
        load_settings()
    assert (refused.value.field, refused.value.reason) == ("databse_url", "unknown")
    assert refused.value.params == {"known": list(Settings.model_fields)}
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "field", "reason", "told"),
    [
        ("secret_keys = [", "config", "not_toml", "is not valid TOML"),
        ("[linker]\nrefusals = 5\n", "linker", "unknown", "There is no such setting."),
        ("refusals = [5]\n", "refusals", "int_type", "It must be a whole number."),
        ("secret_keys = [1]\n", "secret_keys", "string_type", "It must be a text."),
        ("poll_first = true\n", "poll_first", "not_a_span", SPAN),
        ("poll_first = inf\n", "poll_first", "time_delta_parsing", SPAN),
        ("recruiter_name = 5\n", "recruiter_name", "string_type", "It must be a text."),
    ],
)
def test_a_bad_file_is_told(
    text: str, field: str, reason: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the file, the error is ours and says what."""
    a_file(tmp_path, text, monkeypatch)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert told in describe(refused.value).message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file, a folder, no text: the path and what to do are named, and at a command line the variable."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "binary"):
        monkeypatch.setenv("LINKER_CONFIG", str(path))
        with pytest.raises(BadSettings, match=f"^config: The file {re.escape(str(path))}") as refused:
            load_settings()
        assert refused.value.reason == ("not_toml" if path.is_file() else "file_unreadable")
        assert set(refused.value.params) == {"file", "cause"}
        assert refused.value.params["file"] == str(path)
        assert describe(refused.value).action == "Mend the file, or do not name one."
        words, _ = in_command_line_words(refused.value)
        assert words.about == "LINKER_CONFIG"


# nothing shows a secret


def test_nothing_shows_a_secret() -> None:
    """`repr` and `str` of the settings hold no key, no password and no secret."""
    key = new_key()
    settings = Settings(
        database_url="postgresql://linker:canary@db/linker",
        secret_keys=(key,),
        workable_client_id=SecretStr("canary"),
        webhook_url="https://canary@app.example.com/canary",
        webhook_secret=(SecretStr("canary"),),
    )
    for shown in (repr(settings), str(settings), f"{settings!r}", repr([settings])):
        assert "canary" not in shown
        assert key.get_secret_value() not in shown


def test_settings_in_code_show_nothing_either() -> None:
    """A bad value that a host gives in code is refused without showing it."""
    with pytest.raises(ValidationError) as refused:
        Settings(recruiter_email="canary", secret_keys=({"canary": 1},))  # type: ignore[arg-type]
    assert "canary" not in str(refused.value)


def test_settings_do_not_change() -> None:
    """What was built stays as it is."""
    with pytest.raises(ValidationError):
        Settings().refusals = 1


# the sample file


def _sample() -> dict[str, Any]:
    """The settings of the sample file, with the lines that are commented out."""
    lines = re.findall(r"^#? ?(\w+ = .*)$", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return tomllib.loads("\n".join(lines))


def test_every_setting_is_documented() -> None:
    """The sample file has each setting, and no other."""
    assert set(_sample()) == set(Settings.model_fields)


def test_the_sample_shows_the_defaults() -> None:
    """Whoever removes all comment marks changes nothing, but for what has no default."""
    shown = Settings(**{name: value for name, value in _sample().items() if name not in EXAMPLES})
    assert shown == Settings()


def test_the_sample_as_it_is_shipped_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file can be put in place before anything is set in it."""
    monkeypatch.setenv("LINKER_CONFIG", str(SAMPLE))
    assert load_settings() == Settings()


def test_a_slip_in_a_variable_s_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is refused with the one that was meant, before a token goes to the wrong place."""
    monkeypatch.setenv("LINKER_WORKABLE_ULR", "http://127.0.0.1:8787/{subdomain}")
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert (refused.value.field, refused.value.reason) == ("workable_ulr", "slip")
    assert refused.value.params == {"meant": "workable_url"}
    assert str(refused.value) == "workable_ulr: There is no such setting. Did you mean workable_url?"
    words, _ = in_command_line_words(refused.value)
    assert str(words) == "LINKER_WORKABLE_ULR: There is no such setting. Did you mean LINKER_WORKABLE_URL?"


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_a_setting_and_its_variable_name_each_other(setting: str) -> None:
    """The name of one follows from that of the other."""
    assert variable_of(setting) == f"LINKER_{setting.upper()}"
    assert setting_of(variable_of(setting)) == setting


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that only shares our prefix is nobody's mistake."""
    monkeypatch.setenv("LINKER_FLAGS", "-lm")
    monkeypatch.setenv("LINKER_ACTOR", "operator:ann")
    assert load_settings().log_level == "info"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("r_job", "r_jobs"),
        ("r_candidate", "r_candidates"),
        ("w_comment", "w_comments"),
        ("w_canddates", "w_candidates"),
    ],
)
def test_a_slip_in_a_permission_is_told(given: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers would be asked to tick what Workable does not have; one that may be new is taken."""
    monkeypatch.setenv("LINKER_PERMISSIONS", f"r_account,{given}")
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert (refused.value.field, refused.value.reason) == ("permissions", "permission_slip")
    assert (given in str(refused.value), f"Did you mean {meant}?" in str(refused.value)) == (True, True)
    monkeypatch.setenv("LINKER_PERMISSIONS", "r_jobs, r_assessments")
    assert load_settings().permissions == ("r_jobs", "r_assessments")


def test_every_permission_that_is_known_has_words_for_customers() -> None:
    """The dialog says what each lets the host do."""
    start = "dialog.permission."
    said = {key.removeprefix(start) for key in catalogue().keys if key.startswith(start)}
    assert said == set(PERMISSIONS)


def test_an_at_sign_in_the_password_is_told_and_not_shown() -> None:
    """As it is it would end the password, and the rest of it would be shown as the host's name."""
    with pytest.raises(BadSettings, match=r"^database_url: .*%40") as refused:
        Database("postgresql://user:sek@ret@127.0.0.1:1/name")
    assert (refused.value.reason, refused.value.params) == ("unescaped_at", {})
    assert "ret" not in str(refused.value)


def test_what_a_driver_says_of_a_server_that_is_away_is_told_as_such() -> None:
    """Also where SQLAlchemy does not stand between: whoever listens for wake-ups has the driver's own connection."""
    away = translate(psycopg.OperationalError("refused"))
    assert (type(away), away.reason, away.params) == (StoreUnavailable, "unreachable", {"driver": "refused"})
    broken = translate(sqlite3.OperationalError("no such table"))
    assert (type(broken), broken.reason, broken.params) == (OurFault, "refused_statement", {"driver": "no such table"})
