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

from linker.database.database import Database
from linker.database.errors import translate
from linker.encryption import new_key
from linker.errors import BadSettings, OurFault, StoreUnavailable
from linker.settings import Settings, load_settings
from states.timing import Timing

SAMPLE = Path(__file__).parents[2] / "config" / "linker.toml"

DEFAULTS: dict[str, Any] = {
    "database_url": "sqlite:///linker.db",
    "secret_keys": (),
    "workable_url": "https://{subdomain}.workable.com",
    "workable_client_id": None,
    "recruiter_name": "Integration",
    "recruiter_email": "ats+{key}@inbound.example.com",
    "sweep_seconds": 5.0,
    "lease_seconds": 60.0,
    "concurrency": 50,
    "batch_size": 500,
    "log_level": "info",
    "public_url": None,
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
    "keep_history": timedelta(days=400),
    "keep_announcements": timedelta(days=30),
    "keep_closed": timedelta(days=400),
}
#: What has no default is shown with an example in the sample file.
EXAMPLES = {"workable_client_id", "public_url", "webhook_url", "webhook_secret"}


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

BAD: list[tuple[str, str, str]] = [
    ("WORKABLE_URL", "https://acme.workable.com", "must hold {subdomain}"),
    ("WORKABLE_URL", "ftp://{subdomain}.workable.com", "must begin with https://"),
    ("RECRUITER_NAME", "x" * 101, "it must have at most 100 characters"),
    ("RECRUITER_EMAIL", "canary@example.com", "must be an e-mail address that holds {key} once"),
    ("RECRUITER_EMAIL", "{key}canary.example.com", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "{key}@", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "@{key}.example.com", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "ats {key}@example.com", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "{key}@a@b.example", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "{key}@exämple.com", "must be an e-mail address"),
    ("RECRUITER_EMAIL", "{key}+{key}@example.com", "must be an e-mail address"),
    ("SWEEP_SECONDS", "0", "greater than 0"),
    ("SWEEP_SECONDS", "canary", "a valid number"),
    ("SWEEP_SECONDS", "nan", "it must be"),
    ("LEASE_SECONDS", "1", "greater than or equal to 2"),
    ("CONCURRENCY", "0", "greater than or equal to 1"),
    ("CONCURRENCY", "1.5", "it must be a valid integer."),
    ("BATCH_SIZE", "5001", "less than or equal to 5000"),
    ("LOG_LEVEL", "canary", "'debug', 'info', 'warning', 'error' or 'critical'"),
    ("POLL_FIRST", "0", "must be more than nothing"),
    ("POLL_FIRST", "-5", "must be more than nothing"),
    ("POLL_FIRST", "-" + "9" * 400, "must be more than nothing"),
    ("POLL_FIRST", "canary", "must be seconds, as in 10, or a duration in ISO 8601, as in PT1H or P14D"),
    ("POLL_FIRST", "²", "duration"),
    ("POLL_LAST", "P4000D", "must be at most ten years"),
    ("POLL_LAST", "9" * 400, "must be at most ten years"),
    ("TOKEN_WITHIN", "99999999999999999999", "must be at most ten years"),
    ("POLL_SHARE", "0.5", "greater than or equal to 1"),
    ("REFUSALS", "1", "greater than or equal to 2"),
    ("KEEP_HISTORY", "0", "must be more than nothing"),
    ("KEEP_CLOSED", "never", "must be seconds"),
]


@pytest.mark.parametrize(("variable", "text", "cause"), BAD)
def test_a_bad_setting_is_named(variable: str, text: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names variable, cause and next step, and shows nothing of the value, not even in a traceback."""
    monkeypatch.setenv(f"LINKER_{variable}", text)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert str(refused.value).startswith(f"LINKER_{variable}: ")
    assert cause in refused.value.cause
    assert refused.value.next_step == "See config/linker.toml for what it takes."
    assert (refused.value.exit_code, refused.value.code) == (2, "bad_settings")
    assert "canary" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("pauses", ["POLL", "BACKOFF"])
def test_the_longest_pause_is_not_shorter_than_the_first(pauses: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first pause that is longer than the last one is refused, also where the last one is the default."""
    monkeypatch.setenv(f"LINKER_{pauses}_FIRST", "PT2H")
    for last in ("", "7199"):
        monkeypatch.setenv(f"LINKER_{pauses}_LAST", last)
        with pytest.raises(BadSettings, match=f"LINKER_{pauses}_LAST: must not be shorter than LINKER_{pauses}_FIRST"):
            load_settings()
    monkeypatch.setenv(f"LINKER_{pauses}_LAST", "7200")
    load_settings()


def test_an_unknown_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the file is told, with the names that exist."""
    a_file(tmp_path, 'databse_url = "sqlite:///canary.db"\n', monkeypatch)
    with pytest.raises(BadSettings, match=r"^databse_url: there is no such setting.*database_url") as refused:
        load_settings()
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("secret_keys = [", "is not valid TOML"),
        ("[linker]\nrefusals = 5\n", "there is no such setting"),
        ("refusals = [5]\n", "a valid integer"),
        ("secret_keys = [1]\n", "a valid string"),
        ("poll_first = true\n", "duration"),
        ("poll_first = inf\n", "duration"),
        ("recruiter_name = 5\n", "a valid string"),
    ],
)
def test_a_bad_file_is_told(text: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with the file, the error is ours and says what."""
    a_file(tmp_path, text, monkeypatch)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert cause in refused.value.cause


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file, a folder, no text: the variable and the path are named."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "binary"):
        monkeypatch.setenv("LINKER_CONFIG", str(path))
        with pytest.raises(BadSettings, match=f"^LINKER_CONFIG: the file {re.escape(str(path))}") as refused:
            load_settings()
        assert refused.value.next_step == "Mend the file, or unset the variable."


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
    with pytest.raises(BadSettings, match=r"LINKER_WORKABLE_ULR: .* Did you mean LINKER_WORKABLE_URL\?"):
        load_settings()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that only shares our prefix is nobody's mistake."""
    monkeypatch.setenv("LINKER_FLAGS", "-lm")
    monkeypatch.setenv("LINKER_ACTOR", "operator:ann")
    assert load_settings().log_level == "info"


def test_an_at_sign_in_the_password_is_told_and_not_shown() -> None:
    """As it is it would end the password, and the rest of it would be shown as the host's name."""
    with pytest.raises(BadSettings, match=r"LINKER_DATABASE_URL.*%40") as refused:
        Database("postgresql://user:sek@ret@127.0.0.1:1/name")
    assert "ret" not in str(refused.value).replace("LINKER_DATABASE_URL", "")


def test_what_a_driver_says_of_a_server_that_is_away_is_told_as_such() -> None:
    """Also where SQLAlchemy does not stand between: whoever listens for wake-ups has the driver's own connection."""
    assert isinstance(translate(psycopg.OperationalError("refused"), "here"), StoreUnavailable)
    assert isinstance(translate(sqlite3.OperationalError("no such table"), "here"), OurFault)
