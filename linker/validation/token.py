"""The API token as people paste it.

Length and alphabet of Workable's tokens are not established, so only what no token can be is refused.
"""

from __future__ import annotations

from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation.subdomain import HOST_SUFFIX

SHORTEST_CHARACTERS = 8
LONGEST_CHARACTERS = 4096


def parse_token(text: object) -> SecretStr:
    """The token, from what a person pasted; blanks around it and a leading `Bearer` are dropped.

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
    given = text.strip()
    if given[:7].lower() == "bearer ":
        given = given[7:].strip()
    reason = None
    if not given or given.lower() == "bearer":
        reason = "empty"
    elif len(given) > LONGEST_CHARACTERS:
        reason = "too_long"
    elif any(character.isspace() for character in given):
        reason = "not_alone"
    elif not (given.isascii() and given.isprintable()):
        reason = "odd_characters"
    elif HOST_SUFFIX in given.lower():
        reason = "is_address"
    elif len(given) < SHORTEST_CHARACTERS:
        reason = "too_short"
    return SecretStr(given), reason


def hidden(given: object) -> SecretStr:
    """What was given as a token, whatever it is: from here on no frame shows it, as reports of errors show locals."""
    return given if isinstance(given, SecretStr) else SecretStr(given)  # type: ignore[arg-type]  # refused when parsed
