"""A catalogue: texts by key, with parameters in braces, some of them chosen by how many there are."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

#: The language that every key is in.
ENGLISH = "en"


class Catalogue:
    """The texts of one language."""

    def __init__(self, texts: Mapping[str, str], fallback: Catalogue | None = None) -> None:
        """Take the texts by key, and the catalogue that says what these lack."""
        self._texts = texts
        self._fallback = fallback

    def text(self, key: str, params: Mapping[str, Any] | None = None) -> str | None:
        """The text of a key with its parameters filled in; None if there is no such text.

        A list is named one after another. Of a key with `.one` and `.other`, the number or the length of the list that
        its last part names decides.
        """
        params = params or {}
        template = self.template(key, params)
        return None if template is None else _FILL.format(template, **params)

    def template(self, key: str, params: Mapping[str, Any]) -> str | None:
        """The text of a key before its parameters are filled in; None if there is no such text."""
        found = self._texts.get(key)
        if found is None:
            count = params.get(key.rpartition(".")[2].removeprefix("with_"))
            number = len(count) if isinstance(count, list | tuple) else count
            found = self._texts.get(f"{key}.one" if number == 1 else f"{key}.other")
        if found is None and self._fallback is not None:
            return self._fallback.template(key, params)
        return found

    @property
    def keys(self) -> frozenset[str]:
        """Every key that has a text of its own here."""
        return frozenset(self._texts)


def parameters(template: str) -> frozenset[str]:
    """The names in braces."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


class _Fill(string.Formatter):
    """Fills parameters in as they are: no attribute of theirs is reached, and what is not given stays in its braces."""

    def format_field(self, value: Any, format_spec: str) -> str:
        try:
            return str(super().format_field(value, format_spec))
        except (TypeError, ValueError):  # it was not given, or is of another kind: what is there is told
            return str(value)

    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        given = kwargs.get(field_name, f"{{{field_name}}}")
        return ", ".join(str(each) for each in given) if isinstance(given, list | tuple) else given, field_name


_FILL = _Fill()


def catalogue(language: str = ENGLISH) -> Catalogue:
    """The catalogue of a language, as in `de`, `pt-BR` or `pt_BR`; one that there is none for is English.

    A language that has no catalogue for its country is said in that of the language. However many languages are asked
    for, only those that there are are kept.
    """
    named = language.lower().replace("_", "-")
    there = languages()
    return _catalogue(next((each for each in (named, named.partition("-")[0]) if each in there), ENGLISH))


@cache
def languages() -> frozenset[str]:
    """The languages that there are catalogues for, in lower case."""
    return frozenset(
        each.name.removesuffix(".toml") for each in files(__package__).iterdir() if each.name.endswith(".toml")
    )


@cache
def _catalogue(language: str) -> Catalogue:
    return Catalogue(_read(language), fallback=None if language == ENGLISH else _catalogue(ENGLISH))


def _read(language: str) -> dict[str, str]:
    texts: dict[str, str] = {}

    def flatten(table: Mapping[str, Any], path: str) -> None:
        for name, value in table.items():
            if isinstance(value, str):
                texts[path + name] = value
            else:
                flatten(value, f"{path}{name}.")

    flatten(tomllib.loads((files(__package__) / f"{language}.toml").read_text(encoding="utf-8")), "")
    return texts
