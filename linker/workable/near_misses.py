"""What comes close to our recruiter, so that the customer can be told how to mend it.

Of other people's data nothing is kept: only where ours differs, and how many other recruiters there are.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable, Iterable
from itertools import islice, takewhile

from linker.engine.concurrency import Turns
from states.connection import Recruiter
from states.problems import NearMiss, NearMissKind

#: How many e-mails are compared letter by letter; nobody has so many external recruiters by hand.
MOST_COMPARED_ENTRIES = 500
#: The greatest number of slips (a character too much, missing, wrong, or two swapped) that still counts as our e-mail.
MOST_SLIPS = 2


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def same_email(email: str) -> str:
    """An e-mail as it is compared: without blanks around, and with the capitals of ASCII alone made small.

    Ours are ASCII. What only looks alike, or becomes alike when it is lowered (the Kelvin sign), is another one.
    """
    return email.strip(string.whitespace).translate(_LOWER)


def same_text(text: str) -> str:
    """The text as it is compared: without blanks around, capitals, or different spellings of the same letter."""
    text = text.strip()
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def slips(left: str, right: str, most: int = MOST_SLIPS) -> int:
    """The number of slips between two texts; `most + 1` as soon as it is clear that there are more than `most`.

    This is the optimal string alignment distance, reckoned only in the band that can matter. It stands here because
    twenty lines are less to keep than a compiled dependency.
    """
    if abs(len(left) - len(right)) > most:
        return most + 1
    over = most + 1
    before: list[int] = []
    above = [min(column, over) for column in range(len(right) + 1)]
    for row in range(1, len(left) + 1):
        first, last = max(1, row - most), min(len(right), row + most)
        current = [over] * (len(right) + 1)
        current[0] = min(row, over)
        for column in range(first, last + 1):
            differs = left[row - 1] != right[column - 1]
            least = min(above[column] + 1, current[column - 1] + 1, above[column - 1] + differs)
            if row > 1 and column > 1 and left[row - 2 : row] == right[column - 2 : column][::-1]:
                least = min(least, before[column - 2] + 1)
            current[column] = min(least, over)
        if min(current) == over and min(above) == over:
            return over
        before, above = above, current
    return above[-1]


async def close(ours: Recruiter, others: Callable[[], Iterable[tuple[str, str]]], turns: Turns) -> NearMiss | None:
    """Which of these (name, e-mail) pairs comes close to our recruiter, and how; None if none does.

    An e-mail with a slip tells more than the right name with another e-mail, so it is looked for first.

    Args:
        ours: our recruiter.
        others: gives the pairs, from the first one on.
        turns: the comparing is done in pieces.
    """
    email = same_email(ours.email)
    compared = islice(others(), MOST_COMPARED_ENTRIES)
    slip = await turns.first(compared, lambda other: 0 < slips(email, same_email(other[1])) <= MOST_SLIPS)
    if slip is not None:
        alike = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(email, same_email(slip[1]), strict=False))
        )
        if not alike:
            return NearMiss(kind=NearMissKind.SLIP_AT_START)
        return NearMiss(kind=NearMissKind.SLIP, alike=ours.email[:alike])
    name = _plain_name(ours.name)
    if await turns.first(others(), lambda other: _plain_name(other[0]) == name) is not None:
        return NearMiss(kind=NearMissKind.SAME_NAME)
    return None


def _plain_name(name: str) -> str:
    return " ".join(same_text(name).split())


def not_there(others: int) -> NearMiss:
    """Nothing comes close; `others` is how many external recruiters there are."""
    return NearMiss(kind=NearMissKind.OTHERS, others=others) if others else NearMiss(kind=NearMissKind.NONE)
