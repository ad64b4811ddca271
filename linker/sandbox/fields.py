"""Reads the fields of a JSON object one by one; what is wrong with one is said about that one, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from linker.sandbox.faults import Fault
from linker.sandbox.records import WorldError


class Fields:
    """A JSON object that came from outside; every method raises `WorldError` naming the field."""

    def __init__(self, values: Mapping[str, object], *known: str) -> None:
        """Takes the object; refuses a field that is not `known`: a typo must not pass for a default."""
        for name in values:
            if name not in known:
                raise WorldError(name, f"unknown field; known: {', '.join(known) or 'none'}")
        self._values = values

    def text(self, name: str) -> str:
        """Returns a text that has to be there."""
        value = self.optional_text(name)
        if value is None:
            raise WorldError(name, "is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """Returns a text, or None when it is absent, null or empty."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise WorldError(name, "must be a text")
        return value or None

    def texts(self, name: str) -> list[str] | None:
        """Returns a list of texts, or None when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise WorldError(name, "must be a list of texts")
        return value

    def whole_number(self, name: str) -> int | None:
        """Returns a whole number, or None when it is absent or null."""
        value = self._values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise WorldError(name, "must be a whole number")
        return value

    def number(self, name: str) -> float | None:
        """Returns a number, or None when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WorldError(name, "must be a number")
        return float(value)

    def flag(self, name: str, *, otherwise: bool) -> bool:
        """Returns true or false, `otherwise` when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return otherwise
        if not isinstance(value, bool):
            raise WorldError(name, "must be true or false")
        return value

    def optional_fault(self, name: str) -> Fault | None:
        """Returns a fault by its value, or None when it is absent or null."""
        value = self.optional_text(name)
        if value is None:
            return None
        try:
            return Fault(value)
        except ValueError:
            raise WorldError(name, f"unknown; known: {', '.join(each.value for each in Fault)}") from None

    def fault(self, name: str) -> Fault:
        """Returns a fault that has to be there."""
        value = self.optional_fault(name)
        if value is None:
            raise WorldError(name, "is missing")
        return value


def parsed(body: bytes) -> dict[str, object]:
    """Returns the JSON object in `body`, an empty one for no body; raises `WorldError` for all else."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise WorldError("body", "must be JSON") from None
    if not isinstance(value, dict):
        raise WorldError("body", "must be a JSON object")
    return value


def count_in(text: str | None, name: str, otherwise: int) -> int:
    """Returns a query parameter as a whole number of 0 or more, `otherwise` when it is absent."""
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise WorldError(name, "must be a whole number of 0 or more")
    return int(text)
