"""Every setting with its default, read from `LINKER_…` variables or from a TOML file named by `LINKER_CONFIG`.

A variable wins over the file. In the file the names are lower-case and without the prefix.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from linker.errors import BadSettings
from states.timing import Timing

PREFIX = "LINKER_"
CONFIG_VARIABLE = "LINKER_CONFIG"


#: No span is longer than this: times stay times that a calendar knows.
LONGEST = timedelta(days=3650)
#: More seconds than `LONGEST` has, and fewer than a `timedelta` can hold.
BEYOND = 1e9


def _lower(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _split(given: object) -> object:
    """Several keys in one variable are separated by commas; one alone needs no list."""
    if isinstance(given, SecretStr):
        return (given,)
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _has_subdomain(url: str) -> str:
    if "{subdomain}" not in url:
        raise PydanticCustomError("no_subdomain", "no_subdomain")
    if not url.startswith(("https://", "http://")):
        raise PydanticCustomError("no_scheme", "no_scheme")
    return url.rstrip("/")


def _has_key(email: str) -> str:
    if email.count("{key}") != 1 or re.fullmatch(r"[!-~]+@[!-~]+", email) is None or email.count("@") != 1:
        raise PydanticCustomError("no_key", "no_key")
    return email


def _is_schema(name: str | None) -> str | None:
    if name is not None and re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name, re.ASCII) is None:
        raise PydanticCustomError("not_a_schema", "not_a_schema")
    return name


def _positive(span: timedelta) -> timedelta:
    if span <= timedelta(0):
        raise PydanticCustomError("not_positive", "not_positive")
    if span > LONGEST:
        raise PydanticCustomError("beyond", "beyond")
    return span


def _seconds(given: object) -> object:
    """Times are given in seconds, or as ISO 8601 (`P14D`)."""
    if isinstance(given, str) and re.fullmatch(r"-?\d+(\.\d*)?", given, re.ASCII):
        return timedelta(seconds=max(-1.0, min(float(given), BEYOND)))
    if isinstance(given, bool) or (isinstance(given, str) and not given.startswith("P")):
        raise PydanticCustomError("not_a_span", "not_a_span")
    return given


def _forever(given: object) -> object:
    """A word for it, because a nought could as well mean that nothing is kept."""
    return None if isinstance(given, str) and given.strip().lower() == "forever" else given


Span = Annotated[timedelta, BeforeValidator(_seconds), AfterValidator(_positive)]
#: How long something is kept; None: for ever.
Keep = Annotated[Span | None, BeforeValidator(_forever)]


class Settings(BaseSettings):
    """What a host or an operator can set. Build it directly, or from the environment with `load_settings()`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    #: Where the connections live: `sqlite:///path` or `postgresql://user:password@host/name`.
    database_url: str = Field(default="sqlite:///linker.db", repr=False)
    #: On PostgreSQL: the schema that our tables are in. `linker db upgrade` makes it if there is none of that name.
    database_schema: Annotated[str | None, AfterValidator(_is_schema)] = None
    #: The keys that encrypt tokens, newest first, separated by commas. `linker keys new` makes one.
    secret_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()
    #: Where Workable is. A test server can be `http://127.0.0.1:8787/{subdomain}`.
    workable_url: Annotated[str, AfterValidator(_has_subdomain)] = "https://{subdomain}.workable.com"
    #: Sent as X-WORKABLE-CLIENT-ID; partners get Workable's larger rate limit with it.
    workable_client_id: SecretStr | None = None
    #: The name that the customer gives to the external recruiter.
    recruiter_name: str = Field(default="Integration", min_length=1, max_length=100)
    #: The e-mail that the customer gives to the external recruiter; {key} makes it unique to the connection.
    recruiter_email: Annotated[str, AfterValidator(_has_key)] = "ats+{key}@inbound.example.com"
    #: How often the heartbeat sweeps what is due, in seconds.
    sweep_seconds: float = Field(default=5.0, gt=0, le=3600)
    #: How long a lease lasts, in seconds, from 2 on. Workable gets at most a quarter of it to answer.
    lease_seconds: float = Field(default=60.0, ge=2, le=3600)
    #: How many connections are in flight at the same time.
    concurrency: int = Field(default=50, ge=1, le=1000)
    #: How many due connections are claimed in one transaction at most.
    batch_size: int = Field(default=500, ge=1, le=5000)
    #: The least serious log event that is shown.
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"
    #: Not used yet: for a later version, where the connection dialog is reached from outside.
    public_url: str | None = None
    #: Where announcements are posted to: https://, or http:// on this machine and in a private network.
    webhook_url: str | None = Field(default=None, repr=False)
    #: The secrets that sign what is posted, newest first, separated by commas. `linker keys new --webhook` makes one.
    webhook_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()

    #: The shortest pause between two looks for a recruiter.
    poll_first: Span = Timing.poll_first
    #: The longest pause between two looks for a recruiter.
    poll_last: Span = Timing.poll_last
    #: Between them the pause is the time waited so far, divided by this.
    poll_share: float = Field(default=Timing.poll_share, ge=1)
    #: How long the customer has for adding the recruiter.
    recruiter_within: Span = Timing.recruiter_within
    #: How long a connection may be without a working token before it fails as `abandoned`.
    token_within: Span = Timing.token_within
    #: How often a linked account is checked.
    health_every: Span = Timing.health_every
    #: How long before its last day the host is told that a token expires.
    expiry_notice: Span = Timing.expiry_notice
    #: Backoff after a try without an answer: the most for the first pause; it doubles with each try, with full jitter.
    backoff_first: Span = Timing.backoff_first
    #: The most for any pause after a try without an answer.
    backoff_last: Span = Timing.backoff_last
    #: A working link ends only after so many refusals in a row, 2 or more.
    refusals: int = Field(default=Timing.refusals, ge=2)
    #: Those refusals are spread over at least this time.
    refusals_spread: Span = Timing.refusals_spread
    #: How long there may be no answer to go by before an operator is told; a third of it while a person waits.
    trouble_within: Span = Timing.trouble_within

    #: Retention of history, or `forever`. `linker db prune` takes away what is older; of each connection at least the
    #: last step stays. 400 days, so that a year can be compared with the year before.
    keep_history: Keep = timedelta(days=400)
    #: Retention of announcements that are over (delivered, dead, dropped, unclaimed), or `forever`; counted from when
    #: they were made.
    keep_announcements: Keep = timedelta(days=30)
    #: Retention of unlinked connections, or `forever`. They hold names, and no token any more.
    keep_closed: Keep = timedelta(days=400)

    @field_validator("poll_last", "backoff_last")
    @classmethod
    def _at_least_the_first(cls, last: timedelta, given: ValidationInfo) -> timedelta:
        name = str(given.field_name).replace("last", "first")
        if name in given.data and last < given.data[name]:
            raise PydanticCustomError("shorter_than", "shorter_than", {"other": name})
        return last

    @property
    def timing(self) -> Timing:
        """The timings, as the law takes them."""
        return Timing(**{each.name: getattr(self, each.name) for each in fields(Timing) if hasattr(self, each.name)})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: the environment is read by `load_settings()` and by nobody else."""
        return (init_settings,)


def load_settings(**given: Any) -> Settings:
    """Read the settings: what is given, then the environment, then the file.

    Raises:
        BadSettings: a setting is unknown or unusable; it is named, its value is not shown.
    """
    merged = {**_from_file(), **_from_environment(), **given}
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        raise BadSettings(name, "unknown", known=list(Settings.model_fields))
    raise BadSettings(name, first["type"], **first.get("ctx", {}))


def variable_of(setting: str) -> str:
    """The variable that a setting is read from."""
    return PREFIX + setting.upper()


def setting_of(variable: str) -> str:
    """The setting that a variable gives."""
    return variable.removeprefix(PREFIX).lower()


def _from_environment() -> dict[str, str]:
    names = {variable_of(name): name for name in Settings.model_fields}
    _refuse_slips(names)
    return {name: os.environ[variable] for variable, name in names.items() if os.environ.get(variable)}


def _refuse_slips(names: Collection[str]) -> None:
    """A slip in a variable's name must not send a token to the wrong place; other variables are not ours."""
    for variable in sorted(os.environ):
        meant = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
        if variable.startswith(PREFIX) and variable not in names and meant:
            raise BadSettings(setting_of(variable), "slip", meant=setting_of(meant[0]))


def _from_file() -> dict[str, Any]:
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason, cause = "file_unreadable", str(error.strerror)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason, cause = "not_toml", str(error)
    raise BadSettings("config", reason, file=path, cause=cause)
