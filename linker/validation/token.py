"""The API token as people paste it.

Length and alphabet of Workable's tokens are not established, so only what no token can be is refused.
"""

from __future__ import annotations

from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation.subdomain import HOST_SUFFIX

SHORTEST = 8
LONGEST = 4096
NEXT_STEP = "In Workable, open Settings > Apps, generate an API token, and paste it here whole."


def parse_token(text: str | SecretStr) -> SecretStr:
    """The token, from what a person pasted; blanks around it and a leading `Bearer` are dropped.

    Raises:
        BadInput: it cannot be a token; on the field `token`. Nothing of what was given is in the error or its frames.
    """
    token = SecretStr(_bare(text.get_secret_value() if isinstance(text, SecretStr) else text))
    del text
    cause = _unusable(token)
    if cause:
        raise BadInput("token", cause, NEXT_STEP)
    return token


def _bare(text: str) -> str:
    given = text.strip()
    return given[7:].strip() if given[:7].lower() == "bearer " else given


def _unusable(token: SecretStr) -> str | None:
    given = token.get_secret_value()
    if not given or given.lower() == "bearer":
        return "it is empty."
    if len(given) > LONGEST:
        return "it is much too long for a token."
    if any(character.isspace() for character in given):
        return "it holds blanks or line breaks, so it was not copied alone."
    if not (given.isascii() and given.isprintable()):
        return "it holds characters that no token has."
    if HOST_SUFFIX in given.lower():
        return "this is the address of the account, not the token."
    if len(given) < SHORTEST:
        return "it is too short for a token."
    return None
