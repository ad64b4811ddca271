from __future__ import annotations

import traceback
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from linker.errors import BadInput
from linker.validation import parse_expiry, parse_token
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


AROUND = [
    '"{}"',
    "'{}'",
    "`{}`",
    "<{}>",
    "“{}”",
    "„{}“",
    "«{}»",
    "({})",
    "[{}]",
    "{{{}}}",
    "**{}**",
    "```\n{}\n```",
    "（{}）",
]
AFTER = ["{}.", "{},", "{};", "{}:", "{}!", '"{}".', '"{}",', "{}。"]
BEFORE = [
    *("Bearer {}", "bearer {}", "Bearer: {}", "Authorization: Bearer {}", "token {}", "Token: {}", "API token: {}"),
    *("API access token = '{}'", 'export WORKABLE_TOKEN="{}"', '"token": "{}",', "Jeton : {}", "トークン：{}"),
    *("My token is {}.", "Workable API key:\n{}", "token={}"),
]
UNSEEN = [
    "\u200b{}",
    "\ufeff{}",
    "{}\u2060",
    "{}\u00ad",
    "\u202a{}\u202c",
    "\u2066{}\u2069",
    "\u3164{}",
    "{}\u200d\ufe0f",
]


@pytest.mark.parametrize("pasted", [*AROUND, *AFTER, *BEFORE, *UNSEEN])
def test_what_surrounds_a_token_is_dropped(pasted: str) -> None:
    """Quotes, brackets, a full stop, words before it, and what nobody can see."""
    assert parse_token(pasted.format(CANARY)) == SecretStr(CANARY)
    assert parse_token(f" {pasted.format(CANARY)}\r\n") == SecretStr(CANARY)


#: Without stars, of which several are a mask.
LAYERS = [layer for layer in (*AROUND, *AFTER, *UNSEEN) if "*" not in layer]


@given(st.lists(st.sampled_from(LAYERS), max_size=4), st.sampled_from(["{}", *BEFORE]))
def test_it_is_dropped_in_any_order(layers: list[str], before: str) -> None:
    """However often it was copied from one place into another."""
    pasted = before.format(CANARY)
    for layer in layers:
        pasted = layer.format(pasted)
    assume("..." not in pasted)  # three full stops say that something was left out
    assert parse_token(pasted) == SecretStr(CANARY)


@pytest.mark.parametrize(
    "pasted",
    [
        *("****", "*" * 40, "•" * 40, "●●●●", "∙∙∙∙∙∙", "·" * 12, "-" * 20, "########", "wk_••••••••", "****abcd"),
        *("abcd…wxyz", "abcdefgh...", "4f1c...9a7e", '"••••••"', "Bearer ****", "＊＊＊＊"),
    ],
)
def test_a_mask_is_named(pasted: str) -> None:
    """What pages show in the place of a token is told as such, with how to come to a whole one."""
    with pytest.raises(BadInput) as caught:
        parse_token(pasted)
    assert (caught.value.field, caught.value.reason) == ("token", "masked")
    assert "generate a new one" in describe(caught.value).action


TODAY = date(2026, 8, 31)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2027-01-31", date(2027, 1, 31)),
        (" 2027-01-31\n", date(2027, 1, 31)),
        ("30 days", date(2026, 9, 30)),
        ("90 Days", date(2026, 11, 29)),
        ("6 months", date(2027, 2, 28)),
        ("6-months", date(2027, 2, 28)),
        ("1 year", date(2027, 8, 31)),
        (" 2  years ", date(2028, 8, 31)),
    ],
)
def test_a_tokens_last_day_is_read(given: str, expected: date) -> None:
    """A date, or one of the five spans that Workable offers."""
    assert parse_expiry(given, TODAY) == expected


@pytest.mark.parametrize("given", ["", "soon", "3 years", "1 day", "31.01.2027", "2027-02-30", "0", None, 5, "30"])
def test_what_is_no_last_day_is_refused(given: object) -> None:
    """On its field, with what to give."""
    with pytest.raises(BadInput) as caught:
        parse_expiry(given, TODAY)
    assert (caught.value.field, caught.value.reason) == ("token_expires", "not_a_date")
    assert "6 months" in describe(caught.value).action


@pytest.mark.parametrize("token", ["12345678", "x" * 4096, "a.b-c_d~e+f/g=", "a" * 40, "0" * 8])
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
        (f"{CANARY}](https://x.example/{CANARY}", "odd_characters", "It holds characters that no token has."),
        (5, "not_text", "It is not a text."),
        (None, "not_text", "It is not a text."),
        (CANARY.encode(), "not_text", "It is not a text."),
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
