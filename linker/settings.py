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
from urllib.parse import urlsplit

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


CONTROL_CHARACTER = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]")


def _lower(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _split(given: object) -> object:
    """Several keys in one variable are separated by commas; one alone needs no list."""
    if isinstance(given, SecretStr):
        return (given,)
    if isinstance(given, list | tuple):
        return [_stripped(part) for part in given]
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _stripped(given: object) -> object:
    """A text without the blanks and the line breaks around it, which files of secrets end with."""
    if isinstance(given, SecretStr):
        return SecretStr(given.get_secret_value().strip())
    return given.strip() if isinstance(given, str) else given


def _is_header(secret: SecretStr | None) -> SecretStr | None:
    """It is sent in a header, so it is visible ASCII without blanks."""
    opened = "-" if secret is None else secret.get_secret_value()
    if not (opened.isascii() and opened.isprintable() and opened.split() == [opened]):
        raise PydanticCustomError("not_visible", "not_visible")
    return secret


def _has_subdomain(url: str) -> str:
    if "{subdomain}" not in url:
        raise PydanticCustomError("no_subdomain", "no_subdomain")
    if not url.startswith(("https://", "http://")):
        raise PydanticCustomError("no_scheme", "no_scheme")
    if not (url.isascii() and url.isprintable() and url.split() == [url]):
        raise PydanticCustomError("not_visible", "not_visible")
    return url.rstrip("/")


def _is_proxy(url: str | None) -> str | None:
    try:
        parts = urlsplit(url or "http://none")
        is_sound = (
            parts.scheme in {"http", "https"}
            and re.fullmatch(r"[a-z0-9._:-]+", parts.hostname or "", re.ASCII)
            and parts.port != 0
        )
        is_sound = is_sound and parts.path in {"", "/"} and not (parts.query or parts.fragment)
    except ValueError:  # a port out of range, brackets that do not close
        is_sound = False
    if not is_sound:
        raise PydanticCustomError("not_a_proxy", "not_a_proxy")
    return url


def _has_key(email: str) -> str:
    if email.count("{key}") != 1 or re.fullmatch(r"[!-~]+@[!-~]+", email) is None or email.count("@") != 1:
        raise PydanticCustomError("no_key", "no_key")
    return email


def _is_page(url: str | None) -> str | None:
    if url is not None and re.fullmatch(r"https?://[^\s\"'<>]+", url) is None:
        raise PydanticCustomError("not_a_page", "not_a_page")
    return url.rstrip("/") if url else url


def _are_permissions(names: tuple[str, ...]) -> tuple[str, ...]:
    """A slip is refused: the dialog would ask customers to tick what Workable does not have. Others may be new ones."""
    if not names or not all(re.fullmatch(r"[rw]_[a-z_]{1,40}", name, re.ASCII) for name in names):
        raise PydanticCustomError("not_permissions", "not_permissions")
    for name in unknown_permissions(names):
        alike = [known for known in PERMISSIONS if known[0] == name[0]]
        meant = difflib.get_close_matches(name, alike, n=1, cutoff=0.85)
        if meant:
            raise PydanticCustomError("permission_slip", "permission_slip", {"given": name, "meant": meant[0]})
    return tuple(dict.fromkeys(names))


def unknown_permissions(names: Collection[str]) -> list[str]:
    """Those of the names that are no permission of Workable's as far as we know."""
    return [name for name in names if name not in PERMISSIONS]


def _is_readable(accent: str) -> str:
    if re.fullmatch(r"#[0-9a-fA-F]{6}", accent, re.ASCII) is None:
        raise PydanticCustomError("not_a_colour", "not_a_colour")
    found = contrast(accent, "#ffffff")
    if found < LEAST_CONTRAST:
        raise PydanticCustomError(
            "low_contrast",
            "low_contrast",
            {"found": f"{min(found, LEAST_CONTRAST - 0.01):.2f}", "least": LEAST_CONTRAST},
        )
    return accent.lower()


def _are_fonts(stack: str | None) -> str | None:
    if stack is not None and re.fullmatch(r"[A-Za-z0-9 ,'\"-]{1,200}", stack) is None:
        raise PydanticCustomError("not_fonts", "not_fonts")
    return stack


def _is_schema(name: str | None) -> str | None:
    if name is None:
        return None
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name, re.ASCII):
        raise PydanticCustomError("not_a_schema", "not_a_schema")
    if re.match(r"pg_|information_schema$", name):
        raise PydanticCustomError("reserved_schema", "reserved_schema")
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


#: The permissions that a token of Workable's can have (documented, and seen by integrators; there may be more).
PERMISSIONS = (
    *("r_jobs", "r_candidates", "w_candidates", "w_comments", "r_employees", "w_employees", "r_account", "w_account"),
    *("w_members", "w_departments", "r_offers", "w_offers", "r_requisitions", "w_requisitions", "r_timeoff"),
    "w_timeoff",
)
#: Where `linker dialog` listens if nobody says otherwise.
DIALOG_PORT = 8788
#: What WCAG 2.2 asks of text, level AA.
LEAST_CONTRAST = 4.5


def contrast(one: str, other: str) -> float:
    """The contrast of two colours like `#2f5bea`, as WCAG reckons it: from 1 (the same) to 21 (black on white)."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


class Settings(BaseSettings):
    """What a host or an operator can set. Build it directly, or from the environment with `load_settings()`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    #: Where the connections live: `sqlite:///path` or `postgresql://user:password@host/name`.
    database_url: str = Field(default="sqlite:///linker.db", repr=False)
    #: On PostgreSQL: the schema that our tables are in. `linker db upgrade` makes it if there is none of that name.
    database_schema: Annotated[str | None, AfterValidator(_is_schema)] = None
    #: The keys that encrypt tokens, newest first, separated by commas. `linker keys new` makes one.
    secret_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()
    #: Where Workable is. A test server can be `http://127.0.0.1:8787/{subdomain}`.
    workable_url: Annotated[str, AfterValidator(_has_subdomain)] = "https://{subdomain}.workable.com"
    #: Sent as X-WORKABLE-CLIENT-ID; partners get Workable's larger rate limit with it.
    workable_client_id: Annotated[SecretStr | None, AfterValidator(_is_header)] = None
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
    #: The HTTP proxy that Workable and webhooks are reached through, as in `http://proxy.internal:3128`. What is on
    #: this machine is reached without it. Proxies that the environment names (HTTPS_PROXY and others) are never used.
    proxy_url: Annotated[str | None, AfterValidator(_is_proxy)] = Field(default=None, repr=False)
    #: The least serious log event that is shown.
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"
    #: Where customers reach the connection dialog, as in `https://connect.example.com`: links begin with it. Against a
    #: Workable on this machine it is `linker dialog` on this machine, if nothing is set.
    public_url: Annotated[str | None, AfterValidator(_is_page)] = None
    #: The permissions of Workable that your product needs, separated by commas. The dialog asks for exactly these.
    permissions: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_are_permissions)] = ("r_jobs",)
    #: Your product's name, as the dialog says it; by default the recruiter's name.
    dialog_name: str | None = Field(default=None, min_length=1, max_length=60)
    #: A local file with your product's logo: SVG, PNG, JPEG or WebP, square, of 64 kB at most.
    dialog_logo: str | None = None
    #: The colour of buttons and of what is marked, as `#2f5bea`. White on it must have a contrast of 4.5 at least.
    dialog_accent: Annotated[str, AfterValidator(_is_readable)] = "#2f5bea"
    #: How round the dialog's card is, in pixels.
    dialog_radius: int = Field(default=16, ge=0, le=32)
    #: The fonts of the dialog, as CSS names them. None is fetched from anywhere: they are those of the reader's system.
    dialog_font: Annotated[str | None, AfterValidator(_are_fonts)] = None
    #: Where your customers find help: every page of the dialog links there.
    dialog_support_url: Annotated[str | None, AfterValidator(_is_page)] = None
    #: What you do with your customers' data: every page of the dialog links there.
    dialog_privacy_url: Annotated[str | None, AfterValidator(_is_page)] = None
    #: A local TOML file with texts of yours in the place of the dialog's, by key.
    dialog_words: str | None = None
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
    refusals: int = Field(default=Timing.refusals, ge=2, le=1000)
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

    @field_validator("*", mode="before")
    @classmethod
    def _alone_on_its_line(cls, given: object) -> object:
        """What surrounds a text is dropped; a control character inside it is refused."""
        text = _stripped(given)
        shown = text.get_secret_value() if isinstance(text, SecretStr) else text
        if isinstance(shown, str) and CONTROL_CHARACTER.search(shown):
            raise PydanticCustomError("control_characters", "control_characters")
        return text

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


def dialog_url(settings: Settings) -> str:
    """Where links to the dialog begin.

    Raises:
        BadSettings: it is not set, and a customer of the real Workable cannot reach this machine.
    """
    if settings.public_url is not None:
        return settings.public_url
    if not is_here(settings.workable_url):
        raise BadSettings("public_url", "not_set")
    return f"http://127.0.0.1:{DIALOG_PORT}"


def is_here(url: str) -> bool:
    """True for an address of this machine."""
    host = urlsplit(url.replace("{subdomain}", "s")).hostname or ""
    return host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")


def is_at_example(email: str) -> bool:
    """True for an e-mail address under a name that is kept for examples: mail to it bounces."""
    domain = f".{email.rpartition('@')[2].lower()}"
    return domain.endswith((".example.com", ".example.org", ".example.net", ".example", ".invalid"))


def variable_of(setting: str) -> str:
    """The variable that a setting is read from."""
    return PREFIX + setting.upper()


def setting_of(variable: str) -> str:
    """The setting that a variable gives."""
    return variable.removeprefix(PREFIX).lower()


def _from_environment() -> dict[str, str]:
    names = {variable_of(name): name for name in Settings.model_fields}
    _refuse_slips(names)
    return {name: os.environ[variable] for variable, name in names.items() if os.environ.get(variable, "").strip()}


def _refuse_slips(names: Collection[str]) -> None:
    """A slip in a variable's name must not send a token to the wrong place; other variables are not ours."""
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in names:
            meant = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
            if meant:
                raise BadSettings(setting_of(variable), "slip", meant=setting_of(meant[0]))


def _from_file() -> dict[str, Any]:
    path = os.environ.get(CONFIG_VARIABLE, "").strip()
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason, cause = "file_unreadable", str(error.strerror)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason, cause = "not_toml", str(error)
    raise BadSettings("config", reason, file=path, cause=cause)
