"""The API token as people paste it.

Length and alphabet of Workable's tokens are not established, so only what no token can be is refused.
"""

from __future__ import annotations

from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation.subdomain import HOST_SUFFIX

SHORTEST_CHARACTERS = 8
LONGEST_CHARACTERS = 4096
NEXT_STEP = "In Workable, open Settings > Apps, generate an API token, and paste it here whole."


def parse_token(text: str | SecretStr) -> SecretStr:
    """The token, from what a person pasted; blanks around it and a leading `Bearer` are dropped.

    Raises:
        BadInput: it cannot be a token; on the field `token`. Nothing of what was given is in the error or its frames.
    """
    token, cause = _parse(text.get_secret_value() if isinstance(text, SecretStr) else text)
    del text
    if cause:
        raise BadInput("token", cause, NEXT_STEP)
    return token


def _parse(text: str) -> tuple[SecretStr, str | None]:
    """The token, and what is wrong with it; in a frame of its own, which no report of the error shows."""
    given = text.strip()
    if given[:7].lower() == "bearer ":
        given = given[7:].strip()
    cause = None
    if not given or given.lower() == "bearer":
        cause = "it is empty."
    elif len(given) > LONGEST_CHARACTERS:
        cause = "it is much too long for a token."
    elif any(character.isspace() for character in given):
        cause = "it holds blanks or line breaks, so it was not copied alone."
    elif not (given.isascii() and given.isprintable()):
        cause = "it holds characters that no token has."
    elif HOST_SUFFIX in given.lower():
        cause = "this is the address of the account, not the token."
    elif len(given) < SHORTEST_CHARACTERS:
        cause = "it is too short for a token."
    return SecretStr(given), cause
