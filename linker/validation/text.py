"""Texts of the host and of operators: an owner, an actor, a reason, metadata."""

from __future__ import annotations

from collections.abc import Mapping

from linker.errors import BadInput

LONGEST_CHARACTERS = 500
MOST_ENTRIES = 50


#: What a text is for, by the name of its field.
PURPOSES = {"owner": "which of your customers it is", "actor": "who does this", "reason": "why"}


def one_line(field: str, given: str) -> str:
    """A line of text without surrounding blanks; `field` is one of `PURPOSES`.

    Raises:
        BadInput: it is empty, too long, or not printable on one line.
    """
    text = given.strip()
    if not text:
        raise BadInput(field, "it is empty.", f"Give a text that says {PURPOSES[field]}.")
    if len(text) > LONGEST_CHARACTERS or not text.isprintable():
        raise BadInput(
            field,
            f"it is longer than {LONGEST_CHARACTERS} characters, or holds line breaks or other unprintable characters.",
            "Give a shorter text on one line.",
        )
    return text


def metadata(given: Mapping[str, str]) -> dict[str, str]:
    """What the host wants to find again with a connection: texts by key, of any script and over several lines.

    Raises:
        BadInput: there are too many, a key is empty, or a text is too long or holds half a character.
    """
    if len(given) > MOST_ENTRIES:
        raise BadInput("metadata", f"there are more than {MOST_ENTRIES} entries.", "Keep the rest on your side.")
    for key, value in given.items():
        if not key.strip() or max(len(key), len(value)) > LONGEST_CHARACTERS:
            cause = f"a key is empty, or an entry is longer than {LONGEST_CHARACTERS} characters."
            raise BadInput("metadata", cause, "Shorten it, or keep it on your side.")
        if any("\ud800" <= character <= "\udfff" for character in key + value):  # no UTF-8 can be made of it
            cause = "a key or an entry holds half a character, as of an emoji that was cut in two."
            raise BadInput("metadata", cause, "Cut texts between characters, not between code units.")
    return dict(given)
