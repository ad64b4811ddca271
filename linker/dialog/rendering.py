"""Screens as HTML: templates, filled with words from the one catalogue and with the host's name and colours."""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from linker.dialog.look import Look
from linker.dialog.screens import GOES_ON, Screen, ScreenName, may_stop
from linker.links import Link, Purpose
from linker.settings import Settings
from linker.wording import Catalogue, describe
from states.connection import Connection
from states.problems import TRANSIENT

#: What Workable offers as a token's lifetime (documented), with the months or the days that each is.
LIFETIMES: dict[str, tuple[int, int]] = {
    "30d": (0, 30),
    "90d": (0, 90),
    "6m": (6, 0),
    "1y": (12, 0),
    "2y": (24, 0),
}
#: Screens whose words alone are different, and that share a template.
_MESSAGES = {
    *(ScreenName.TAKEN, ScreenName.OVERDUE, ScreenName.RESTART, ScreenName.TROUBLE, ScreenName.PAUSED),
    *(ScreenName.STOPPED, ScreenName.THANKS, ScreenName.NOT_YET, ScreenName.EXPIRED, ScreenName.REVOKED),
    *(ScreenName.USED_UP, ScreenName.INCOMPLETE, ScreenName.BUSY, ScreenName.REFUSED, ScreenName.CHECKING),
}
#: Languages that are written from the right to the left.
_FROM_THE_RIGHT = {"ar", "fa", "he", "ur"}

_BOLD = re.compile(r"\*\*(.+?)\*\*")


def expires_on(lifetime: str, today: date) -> date | None:
    """The last day of a token that was made today with one of the five lifetimes; None: it is not known."""
    if lifetime not in LIFETIMES:
        return None
    months, days = LIFETIMES[lifetime]
    index = today.year * 12 + today.month - 1 + months
    year, month = index // 12, index % 12 + 1
    last = calendar.monthrange(year, month)[1]
    return date(year, month, min(today.day, last)) + timedelta(days=days)


def is_held(connection: Connection, now: datetime) -> bool:
    """True if the token is kept that turned out to be another account's."""
    return connection.held_until is not None and now < connection.held_until


def breakable(text: str) -> list[str]:
    """An e-mail in parts: it may be broken before its @ and its dots, and nowhere else."""
    return re.findall(r"[@.]?[^@.]+|[@.]", text)


def tag_of(screen: Screen, live: str) -> str:
    """The entity tag of what is told of a screen while its page is open."""
    return f'"{hashlib.sha256(f"{screen.name.value} {live}".encode()).hexdigest()[:20]}"'


def shortened(text: str, most: int) -> str:
    """A text as a picture has room for it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Words:
    """What is said, in one language: texts of `dialog.…` by key, and the words of problems and refusals."""

    def __init__(self, catalogue: Catalogue, language: str, always: Mapping[str, Any]) -> None:
        """Take the catalogue, its language, and the parameters that every text may name."""
        self._catalogue = catalogue
        self._always = always
        self.language = language

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`, as HTML wants it."""
        return "rtl" if self.language.partition("-")[0] in _FROM_THE_RIGHT else "ltr"

    def find(self, key: str, **params: Any) -> str | None:
        """The text of a key; None if there is none."""
        return self._catalogue.text(f"dialog.{key}", {**self._always, **params})

    def __call__(self, key: str, **params: Any) -> str:
        """The text of a key, which has to be there."""
        text = self.find(key, **params)
        assert text is not None, f"the catalogue has no text for dialog.{key}"
        return text

    def rich(self, key: str, **params: Any) -> Markup:
        """The text of a key with its **bold** parts; whatever it is filled with is escaped."""
        return Markup(_BOLD.sub(r"<strong>\1</strong>", str(escape(self(key, **params)))))  # noqa: S704 - escaped

    def permission(self, name: str) -> str:
        """What a permission lets the host do; its name where we have no words for it."""
        return self.find(f"permission.{name}") or name

    def permissions(self, names: tuple[str, ...]) -> str:
        """What several permissions let the host do, as a list in a sentence."""
        return self._listed([self.permission(name) for name in names])

    def bold(self, names: tuple[str, ...]) -> str:
        """These names, each in bold, as a list in a sentence of `rich`."""
        return self._listed([f"**{name}**" for name in names])

    def _listed(self, said: list[str]) -> str:
        return said[0] if len(said) == 1 else self("list", first=", ".join(said[:-1]), last=said[-1])

    def day(self, day: date) -> str:
        """A day, as people write it."""
        return self("day", day=day.day, month=self(f"month.{day.month}"), year=day.year)

    def moment(self, at: datetime) -> str:
        """A time, in UTC; a browser shows its own time instead."""
        return self("moment", day=self.day(at.date()), time=at.strftime("%H:%M"))

    def trouble(self, screen: Screen) -> str | None:
        """What has to be mended, in a sentence or two: the same at the top and at the field."""
        refusal, problem = screen.refusal, screen.problem
        if refusal is not None:
            own = self.find(f"entry.{refusal.field}.{refusal.reason}", **refusal.params)
            return own or str(describe(refusal, self.language))
        if problem is None:
            return None
        told = [name for name in ("stays_with", "belongs_to", "missing") if problem.params.get(name)]
        keys = [f"{problem.wording_key}.{name}" for name in (*told, "text")]
        own = next(filter(None, (self.find(key, **problem.params) for key in keys)), None)
        return own or str(describe(problem, self.language))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page stands: what its links and forms need to know."""

    #: How the root of the dialog is reached from the page, as in `../`.
    root: str
    #: The secret of its link, for forms; None: the page has it in the fragment of its URL.
    secret: str | None = None
    #: The link itself, to be shared.
    url: str | None = None


class Renderer:
    """Makes pages. One for each app: it holds the templates, the look and the host's own words."""

    def __init__(self, settings: Settings, look: Look) -> None:
        """Take the settings, and the look that was made of them."""
        self._settings = settings
        self._look = look
        self._templates = Environment(
            loader=PackageLoader("linker.dialog"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"breakable": breakable, "shortened": shortened}
        for name in self._templates.list_templates():  # compiled now, not while the first customer waits
            self._templates.get_template(name)

    @cached_property
    def host(self) -> str:
        """The host's name."""
        return self._settings.dialog_name or self._settings.recruiter_name

    def words(self, language: str | None, **more: Any) -> Words:
        """What is said in a language."""
        return Words(self._look.catalogue(language), "en", {"host": self.host, **more})

    def shell(self, place: Place, language: str | None) -> str:
        """The page before its script has sent the secret: it tells nothing of any link."""
        return self._page("shell.html", words=self.words(language), place=place, title="shell.title", error=False)

    def why(self, place: Place, language: str | None) -> str:
        """The page for customers: what is asked, and why."""
        return self._page(
            "why.html",
            words=self.words(language),
            place=place,
            title="why.title",
            error=False,
            permissions=self._settings.permissions,
        )

    def message(self, name: ScreenName, place: Place, language: str | None) -> str:
        """A screen that belongs to no connection that may be shown."""
        return self._page(
            "message.html",
            words=self.words(language),
            place=place,
            title=f"{name}.title",
            error=False,
            screen=Screen(name=name),
            trouble=None,
            again=False,
            step=0,
            goes_on=False,
            tag="",
            may_stop=False,
        )

    def screen(self, screen: Screen, connection: Connection, link: Link, place: Place, *, now: datetime) -> str:
        """A screen of a connection, as a whole page."""
        words, live = self._words_of(connection, link), self.live(screen, connection, link)
        name = screen.name
        again = link.purpose is Purpose.RECONNECT or connection.linked_at is not None
        title = f"{name}.title_again" if again and words.find(f"{name}.title_again") else f"{name}.title"
        if screen.is_mismatch:
            title = "subdomain.title_mismatch"
        first_time = link.purpose is Purpose.SETUP and (not again or name is ScreenName.LINKED)
        return self._page(
            "message.html" if name in _MESSAGES else f"{name}.html",
            words=words,
            place=place,
            title=title,
            error=screen.is_error,
            screen=screen,
            connection=connection,
            link=link,
            again=again,
            step=screen.step if first_time else 0,
            permissions=self._settings.permissions,
            lifetimes=tuple(LIFETIMES),
            trouble=words.trouble(screen) if screen.is_error else None,
            live=live,
            goes_on=name in GOES_ON,
            tag=tag_of(screen, live),
            may_stop=may_stop(screen, link),
            acts=link.attempts > 0 or screen.is_asked,
            held=is_held(connection, now),
            workable=self._settings.workable_url.replace("{subdomain}", connection.subdomain or "www"),
        )

    def live(self, screen: Screen, connection: Connection, link: Link) -> Markup:
        """The part of a screen that is told anew while the page is open: what is waited for, and what was seen.

        Empty for screens that have no such part.
        """
        words = self._words_of(connection, link)
        if screen.name is ScreenName.STATUS:
            at_recruiter = connection.token is not None and (connection.problem is None or not connection.problem.field)
            at_start = connection.subdomain is None
            failed_at = 3 if at_recruiter else 1 if at_start else 2
            return self._fill("live_status.html", connection=connection, failed_at=failed_at, say=words)
        if screen.name not in (ScreenName.RECRUITER, ScreenName.CHECKING):
            return Markup()
        problem = connection.present_problem
        seen = problem.params.get("near_miss") if problem else None
        care = None  # the keys of what is told instead of that we wait
        if problem is not None and problem.code in TRANSIENT:
            cause = f"problem.{problem.code}"
            if screen.name is ScreenName.RECRUITER:  # where something is still to be done
                care = f"{cause}.title", f"{cause}.recruiter"
            else:
                cause += ".attempts" if problem.params.get("attempts") else ""
                care = f"{cause}.title", f"{cause}.text"
        elif seen not in (None, "none", "others"):
            care = f"near_miss_title.{seen}", f"near_miss.{seen}"
        return self._fill(
            "live.html", care=care, seen=seen, screen=screen, problem=problem, connection=connection, say=words
        )

    def _words_of(self, connection: Connection, link: Link) -> Words:
        account = connection.account.name if connection.account else connection.subdomain or ""
        return self.words(link.language, subdomain=connection.subdomain or "", account=account)

    def _fill(self, template: str, **given: Any) -> Markup:
        return Markup(self._templates.get_template(template).render(**given))  # noqa: S704 - a template escapes

    def _page(self, template: str, *, words: Words, place: Place, title: str, error: bool, **given: Any) -> str:
        heading = words(title)
        return self._templates.get_template(template).render(
            say=words,
            place=place,
            look=self._look,
            settings=self._settings,
            host=self.host,
            heading=heading,
            page_title=f"{words('error_prefix')}{heading}" if error else heading,
            **given,
        )
