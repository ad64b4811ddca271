"""Texts of the host and of operators: an owner, an actor, a reason, metadata, an id.

Names of the world are taken as they are: with the joiners of Persian, of Indian scripts and of emoji, and with every
language's blanks. Refused is what is no text, and what makes a terminal, a log or a page show something else than what
stands there: control characters, and those that turn the direction of writing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from linker.errors import BadInput, NotFound

LONGEST_CHARACTERS = 500
MOST_ENTRIES = 50
#: No id of ours is longer.
LONGEST_ID_CHARACTERS = 100
#: Marks, embeddings, overrides and isolates of the direction of writing.
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Control characters, half characters, separators of lines and of paragraphs.
CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: What a text of several lines may hold of them.
LINE_BREAKS = frozenset("\n\r\t")
#: What shows nothing by itself: blanks, joiners and the like.
UNSEEN_CATEGORIES = frozenset({"Zs", "Cf", *CONTROL_CATEGORIES})


def is_control(character: str) -> bool:
    """True for what is no part of a name: control characters, half characters, line breaks, turns of direction."""
    if character.isascii():
        return not character.isprintable()
    return character in BIDI or unicodedata.category(character) in CONTROL_CATEGORIES


def is_unseen(text: str) -> bool:
    """True if nothing of a text can be seen."""
    return all(unicodedata.category(character) in UNSEEN_CATEGORIES for character in text)


def visible(text: str) -> str:
    """A text with its control characters, and what turns the direction of writing, written out; lines stay lines.

    For what is printed on terminals: names come from outside, and must not move the cursor.
    """
    if text.isprintable():
        return text
    return "".join(ascii(each)[1:-1] if each != "\n" and is_control(each) else each for each in text)


def spreadsheet_cell(value: object) -> object:
    """A value for a table that a spreadsheet opens: what would be a formula is a text, and no cursor is moved."""
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value[:1] in {"=", "+", "-", "@"} else visible(value)


def one_line(field: str, given: object) -> str:
    """A line of text without surrounding blanks, given in this field.

    Raises:
        BadInput: it is no text, empty, too long, or holds line breaks, control characters or turns of direction.
    """
    if not isinstance(given, str):
        raise BadInput(field, "not_text")
    text = given.strip()
    if is_unseen(text):
        raise BadInput(field, "unprintable" if any(map(is_control, text)) else "empty")
    if len(text) > LONGEST_CHARACTERS:
        raise BadInput(field, "too_long", most=LONGEST_CHARACTERS)
    if any(map(is_control, text)):
        raise BadInput(field, "unprintable")
    return text


def metadata(given: object) -> dict[str, str]:
    """What the host wants to find again with a connection: texts by key, of any script and over several lines.

    An entry is the host's own data and is kept as it is; whatever prints it writes control characters out.

    Raises:
        BadInput: it is no mapping of texts, there are too many, a key is empty or holds control characters or turns of
            direction, or a text is too long or holds half a character or the character NUL.
    """
    if not isinstance(given, Mapping):
        raise BadInput("metadata", "not_texts")
    if len(given) > MOST_ENTRIES:
        raise BadInput("metadata", "too_many", most=MOST_ENTRIES)
    for key, value in given.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise BadInput("metadata", "not_texts")
        if max(len(key), len(value)) > LONGEST_CHARACTERS:
            raise BadInput("metadata", "too_long", most=LONGEST_CHARACTERS)
        if any("\ud800" <= character <= "\udfff" for character in key + value):  # no UTF-8 can be made of it
            raise BadInput("metadata", "half_character")
        if any(map(is_control, key)):
            raise BadInput("metadata", "control_characters")
        if "\x00" in value:  # PostgreSQL keeps none
            raise BadInput("metadata", "null_character")
        if is_unseen(key):
            raise BadInput("metadata", "key_empty")
    return dict(given)


def check_type(field: str, given: object, kind: type, reason: str, **params: object) -> None:
    """Make sure that what is given in a field is of this very type, or None: a moment is no date, a flag no number.

    Raises:
        BadInput: it is of another one, for this reason. Its value is not shown.
    """
    if given is not None and type(given) is not kind:
        raise BadInput(field, reason, **params)


def may_be_id(given: str) -> bool:
    """True if a text may be an id of ours, as far as its characters say."""
    return given.isascii() and given.isprintable() and 0 < len(given) <= LONGEST_ID_CHARACTERS


def known_id(given: object, *, what: str = "connection") -> str:
    """An id that may be one of ours; it is not looked up here.

    Raises:
        BadInput: it is no text.
        NotFound: it can be no id.
    """
    if not isinstance(given, str):
        raise BadInput("id", "not_text")
    if not may_be_id(given):
        shown = given[:LONGEST_ID_CHARACTERS].encode("ascii", "backslashreplace").decode()
        raise NotFound(shown, what=what)
    return given
