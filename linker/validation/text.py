"""Texts of the host and of operators: an owner, an actor, a reason, metadata."""

from __future__ import annotations

from collections.abc import Mapping

from linker.errors import BadInput

LONGEST_CHARACTERS = 500
MOST_ENTRIES = 50


def one_line(field: str, given: str) -> str:
    """A line of text without surrounding blanks, given in this field.

    Raises:
        BadInput: it is empty, too long, or not printable on one line.
    """
    text = given.strip()
    if not text:
        raise BadInput(field, "empty")
    if len(text) > LONGEST_CHARACTERS:
        raise BadInput(field, "too_long", most=LONGEST_CHARACTERS)
    if not text.isprintable():
        raise BadInput(field, "unprintable")
    return text


def metadata(given: Mapping[str, str]) -> dict[str, str]:
    """What the host wants to find again with a connection: texts by key, of any script and over several lines.

    Raises:
        BadInput: there are too many, a key is empty, or a text is too long or holds half a character.
    """
    if len(given) > MOST_ENTRIES:
        raise BadInput("metadata", "too_many", most=MOST_ENTRIES)
    for key, value in given.items():
        if not key.strip():
            raise BadInput("metadata", "key_empty")
        if max(len(key), len(value)) > LONGEST_CHARACTERS:
            raise BadInput("metadata", "too_long", most=LONGEST_CHARACTERS)
        if any("\ud800" <= character <= "\udfff" for character in key + value):  # no UTF-8 can be made of it
            raise BadInput("metadata", "half_character")
    return dict(given)
