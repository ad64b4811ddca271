from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation import parse_token
from linker.wording import describe

CANARY = "canary-4f1c9a7e2b8d"
NOT_ALONE = "It holds blanks or line breaks, so it was not copied alone."


@pytest.mark.parametrize(
    "pasted",
    [CANARY, f"  {CANARY}\n", f"Bearer {CANARY}", f"bearer  {CANARY} ", SecretStr(f" {CANARY} ")],
)
def test_what_people_paste_is_read(pasted: str | SecretStr) -> None:
    """Blanks around a token and the word Bearer are dropped."""
    assert parse_token(pasted) == SecretStr(CANARY)


@pytest.mark.parametrize("token", ["12345678", "x" * 4096, "a.b-c_d~e+f/g=", "!\"#$%&'()*"])
def test_the_unknown_grammar_is_read_leniently(token: str) -> None:
    """Visible ASCII from 8 to 4096 characters may be a token."""
    assert parse_token(token).get_secret_value() == token


@pytest.mark.parametrize(
    ("pasted", "reason", "told"),
    [
        ("", "empty", "It is empty."),
        (" \n", "empty", "It is empty."),
        ("Bearer ", "empty", "It is empty."),
        ("1234567", "too_short", "It is too short for a token."),
        ("x" * 4097, "too_long", "It is longer than 4096 characters."),
        (f"{CANARY} {CANARY}", "not_alone", NOT_ALONE),
        (f"{CANARY}\n{CANARY}", "not_alone", NOT_ALONE),
        (f"{CANARY}\u00a0{CANARY}", "not_alone", NOT_ALONE),
        (f"{CANARY}\x00", "odd_characters", "It holds characters that no token has."),
        (f"{CANARY}\u200b", "odd_characters", "It holds characters that no token has."),
        (f"{CANARY}é", "odd_characters", "It holds characters that no token has."),
        ("https://acme.workable.com/backend", "is_address", "This is the address of the account, not the token."),
    ],
)
def test_what_can_be_no_token_is_refused_and_not_shown(pasted: str, reason: str, told: str) -> None:
    """A refusal names field, cause and next step; what was pasted is neither in it nor in the parser's frames."""
    with pytest.raises(BadInput) as caught:
        parse_token(pasted)
    assert (caught.value.field, caught.value.reason) == ("token", reason)
    assert caught.value.params == ({"most": 4096} if reason == "too_long" else {})
    words = describe(caught.value)
    assert (words.message, "Settings > Apps" in words.action) == (told, True)
    assert str(caught.value) == f"token: {words.message} {words.action}"
    stack = list(traceback.walk_tb(caught.value.__traceback__))[1:]
    shown = "".join(traceback.StackSummary.extract(iter(stack), capture_locals=True).format()) + str(caught.value)
    assert CANARY not in shown


@given(st.text())
def test_the_result_can_always_be_a_header(pasted: str) -> None:
    """Whatever is pasted, a token is visible ASCII without blanks, or there is a refusal."""
    try:
        token = parse_token(pasted).get_secret_value()
    except BadInput:
        return
    assert token.isascii()
    assert token.isprintable()
    assert not any(map(str.isspace, token))
    assert 8 <= len(token) <= 4096
