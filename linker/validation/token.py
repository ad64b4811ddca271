"""The API token as people paste it.

Workable calls it a long string of random letters and numbers, so what stands around it in a mail, in code or on a page
is not a part of it. Length and alphabet are not established beyond that: only what no token can be is refused.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from contextlib import suppress
from datetime import date, timedelta

from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation.subdomain import HOST_SUFFIX

SHORTEST_CHARACTERS = 8
LONGEST_CHARACTERS = 4096
#: Nobody pastes so much around a token.
LONGEST_GIVEN_CHARACTERS = 2 * LONGEST_CHARACTERS

#: Quotes, brackets, bold letters' stars, and what ends a sentence or a line of code.
AROUND = "\"'`´“”„‟‘’‚‛«»‹›「」『』〝〞＂＇<>()[]{}（）［］｛｝＜＞〈〉《》【】*|.,;:!?。，、；：！"
#: What takes the place of letters that are not shown: five of anything else than letters and digits, or three that are
#: used for it, or dots where something was left out.
MASK = re.compile(r"([^\w\s])\1{4}|[*•●∙·⋅▪■█◦○⬤＊✱✲⁕]{3}|…|\.{3}")
#: Up to five words before it, the last one with a sign that something follows: `API token: `, `export TOKEN=`.
LABEL = re.compile(r"(?:[^\W\d]+[ \t\r\n\xa0'\"-]+){0,4}[^\W\d]+[\"'`*]*\s*[:=：＝][\s>]*(?=\S)")
#: A word before it: `Bearer `, `token is `.
WORD = re.compile(r"(?:[^\W\d_]{1,20}\s+){1,5}(?=\S*[0-9]\S*$|\S{20})(?=\S{12,}$)|bearer(?:\s+|$)", re.IGNORECASE)
#: What no token holds inside, though it is ASCII.
ODD_INSIDE = frozenset("\"'`<>()[]{}")
#: Shows nothing and is no format character: fillers, a blank pattern of Braille, selectors of variants.
INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f]")


#: What Workable offers under “Expires in”, in days or in months; it never shows a date (documented).
SPANS_DAYS = {"30 days": 30, "90 days": 90}
SPANS_MONTHS = {"6 months": 6, "1 year": 12, "2 years": 24}


def parse_expiry(given: object, today: date) -> date:
    """The last day of a token that is made `today`: from a date, `YYYY-MM-DD`, or from one of Workable's five spans.

    Raises:
        BadInput: it is neither; on the field `token_expires`.
    """
    said = " ".join(given.lower().replace("-", " ").split()) if isinstance(given, str) else ""
    if said in SPANS_DAYS:
        return today + timedelta(days=SPANS_DAYS[said])
    if said in SPANS_MONTHS:
        year, month = divmod(today.year * 12 + today.month - 1 + SPANS_MONTHS[said], 12)
        return date(year, month + 1, min(today.day, calendar.monthrange(year, month + 1)[1]))
    with suppress(ValueError):
        if isinstance(given, str):
            return date.fromisoformat(given.strip())
    raise BadInput("token_expires", "not_a_date")


def parse_token(text: object) -> SecretStr:
    """The token, from what a person pasted, without what surrounds it there.

    Dropped are blanks, quotes, brackets and a full stop around it, words before it (`Bearer`, `API token:`), and
    characters that nobody can see.

    Raises:
        BadInput: it cannot be a token; on the field `token`. Nothing of what was given is in the error or its frames.
    """
    token, reason = _parse(text.get_secret_value() if isinstance(text, SecretStr) else text)
    del text
    if reason:
        raise BadInput("token", reason, **({"most": LONGEST_CHARACTERS} if reason == "too_long" else {}))
    return token


def _parse(text: object) -> tuple[SecretStr, str | None]:
    """The token, and what is wrong with it; in a frame of its own, which no report of the error shows."""
    if not isinstance(text, str):
        return SecretStr(""), "not_text"
    if len(text) > LONGEST_GIVEN_CHARACTERS:
        return SecretStr(""), "too_long"
    given = INVISIBLE.sub("", "".join(each for each in text if unicodedata.category(each) != "Cf")).strip()
    is_mask, before = MASK.search(given) is not None, None
    while given != before:
        before = given
        given = given.strip().strip(AROUND).strip()
        label = LABEL.match(given) or WORD.match(given)
        given = given[label.end() :] if label else given
    wrong = {
        "masked": is_mask,
        "empty": not given,
        "too_long": len(given) > LONGEST_CHARACTERS,
        "not_alone": any(character.isspace() for character in given),
        "odd_characters": not (given.isascii() and given.isprintable()) or bool(ODD_INSIDE.intersection(given)),
        "is_address": HOST_SUFFIX in given.lower(),
        "too_short": len(given) < SHORTEST_CHARACTERS,
    }
    return SecretStr(given), next((reason for reason, is_so in wrong.items() if is_so), None)


def hidden(given: object) -> SecretStr:
    """What was given as a token, whatever it is: from here on no frame shows it, as reports of errors show locals."""
    return given if isinstance(given, SecretStr) else SecretStr(given)  # type: ignore[arg-type]  # refused when parsed
