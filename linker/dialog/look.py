"""How the host wants the dialog to look: its colours, logo, fonts and words, as files that are served once."""

from __future__ import annotations

import gzip
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from linker.errors import BadSettings
from linker.settings import Settings, contrast
from linker.wording import Catalogue, catalogue

#: The fonts of the reader's own system, wherever that is.
SYSTEM_FONTS = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, system-ui, sans-serif"
#: No logo is larger.
MOST_LOGO_BYTES = 64 * 1024
_LOGOS = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
#: The dark card, and the contrast that the accent has to have on it.
_DARK_CARD = "#161a20"
_DARK_CONTRAST = 7.0
#: The usual accent on dark pages. One of a host's is mixed with white.
_DARK_ACCENTS = {"#2f5bea": "#8aa8ff"}
#: Of an asset's name what changes with its content.
_HASH = re.compile(r"(?<=\.)[0-9a-f]{10}(?=\.)", re.ASCII)


@dataclass(frozen=True)
class Asset:
    """A file that pages need. Its name holds a hash of it, so that a browser may keep it for ever."""

    name: str
    body: bytes
    media_type: str

    @cached_property
    def packed(self) -> bytes:
        """The body as gzip."""
        return gzip.compress(self.body, 9, mtime=0)


class Look:
    """The look of one app. Everything is read once, when the app is made."""

    def __init__(self, settings: Settings) -> None:
        """Read the files.

        Raises:
            BadSettings: the logo or the words cannot be used.
        """
        self._own_words = _own_words(settings.dialog_words)
        assets = files("linker.dialog") / "assets"
        css = f"{_variables(settings)}\n{(assets / 'dialog.css').read_text(encoding='utf-8')}"
        self.css = _asset("dialog.css", _without_comments(css).encode(), "text/css; charset=utf-8")
        script = (assets / "dialog.js").read_bytes()
        self.script = _asset("dialog.js", script, "text/javascript; charset=utf-8")
        self.logo = _logo(settings.dialog_logo)
        self.assets: Mapping[str, Asset] = {
            each.name: each for each in (self.css, self.script, self.logo) if each is not None
        }

    def current(self, name: str) -> Asset | None:
        """The script or the style, for a name that it has in another release; None if it is no name of those."""
        return next((each for each in (self.css, self.script) if _HASH.sub("", each.name) == _HASH.sub("", name)), None)

    def catalogue(self, language: str | None) -> Catalogue:
        """The texts of a language, with the host's own before them."""
        said = catalogue(language or "en")
        return Catalogue(self._own_words, fallback=said) if self._own_words else said


def _asset(name: str, body: bytes, media_type: str) -> Asset:
    stem, _, kind = name.rpartition(".")
    return Asset(f"{stem}.{hashlib.sha256(body).hexdigest()[:10]}.{kind}", body, media_type)


def _without_comments(css: str) -> str:
    return re.sub(r"\n\s*", "\n", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL))


def on_dark(accent: str) -> str:
    """The accent for dark pages: mixed with white until it can be read on the dark card."""
    if accent in _DARK_ACCENTS:
        return _DARK_ACCENTS[accent]
    parts = [int(accent[at : at + 2], 16) for at in (1, 3, 5)]
    for share in range(0, 101, 5):
        mixed = "#" + "".join(f"{round(part + (255 - part) * share / 100):02x}" for part in parts)
        if contrast(mixed, _DARK_CARD) >= _DARK_CONTRAST:
            return mixed
    raise AssertionError("white can be read on the dark card")


def _variables(settings: Settings) -> str:
    font = settings.dialog_font or SYSTEM_FONTS
    light = f"--accent:{settings.dialog_accent};--radius:{settings.dialog_radius}px;--font:{font};"
    dark = f"--accent:{on_dark(settings.dialog_accent)};"
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _logo(path: str | None) -> Asset | None:
    if path is None:
        return None
    media_type = _LOGOS.get(Path(path).suffix.lower())
    if media_type is None:
        raise BadSettings("dialog_logo", "not_an_image")
    try:
        body = Path(path).read_bytes()
    except OSError as error:
        cause = str(error.strerror)
    else:
        if len(body) > MOST_LOGO_BYTES:
            raise BadSettings("dialog_logo", "too_large", most=MOST_LOGO_BYTES // 1024)
        return _asset(f"logo{Path(path).suffix.lower()}", body, media_type)
    raise BadSettings("dialog_logo", "file_unreadable", file=path, cause=cause)


def _own_words(path: str | None) -> dict[str, str]:
    """The host's own texts by key. Raises BadSettings: the file cannot be read, or a key is none of ours."""
    if path is None:
        return {}
    try:
        given: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason, cause = "file_unreadable", str(error.strerror)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason, cause = "not_toml", str(error)
    else:
        texts = dict(_flat(given))
        unknown = sorted(set(texts) - catalogue().keys)
        if unknown:
            raise BadSettings("dialog_words", "unknown_keys", keys=unknown)
        return texts
    raise BadSettings("dialog_words", reason, file=path, cause=cause)


def _flat(table: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        found += _flat(value, f"{path}{name}.") if isinstance(value, dict) else [(f"{path}{name}", str(value))]
    return found
