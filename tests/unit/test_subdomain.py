from __future__ import annotations

import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.errors import BadInput
from linker.validation import parse_subdomain
from linker.validation.subdomain import RESERVED

STRICT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    "pasted",
    [
        "acme",
        " ACME ",
        "\tacme\n",
        "acme.workable.com",
        "ACME.Workable.COM",
        "acme.workable.com/",
        "http://acme.workable.com",
        "https://acme.workable.com",
        "HTTPS://Acme.Workable.com/backend/settings?x#y",
        "https://acme.workable.com/backend?mail=a@b.example&next=ftp://x#:80%20",
        "acme.workable.com?next=https://elsewhere.example/",
    ],
)
def test_what_people_paste_is_read(pasted: str) -> None:
    """The bare name, the host and any URL of the account give the subdomain."""
    assert parse_subdomain(pasted) == "acme"


@pytest.mark.parametrize("label", ["a", "7", "acme-eu", "a--b", "a" * 63, "360", "acme-2024-berlin-office-and-more-9"])
def test_strict_labels_are_kept(label: str) -> None:
    """A strict host label is a subdomain as it is."""
    assert parse_subdomain(label) == label


@pytest.mark.parametrize(
    ("pasted", "cause"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("a" * 3000, "too long"),
        ("a" * 64, "too long"),
        ("acme.example", "not an address under workable.com"),
        ("acme.workable.com.evil.example", "not an address under workable.com"),
        ("evil.example/acme.workable.com", "not an address under workable.com"),
        ("evil.example#.workable.com", "not an address under workable.com"),
        ("acme.eu.workable.com", "not an address under workable.com"),
        ("acme.workable.com.", "not an address under workable.com"),
        ("workable.com", "not an address under workable.com"),
        ("127.0.0.1", "not an address under workable.com"),
        ("https://acme", "not an address under workable.com"),
        ("acme/backend", "not an address under workable.com"),
        ("//acme.workable.com", "not an address under workable.com"),
        (".workable.com", "letters a to z"),
        ("[::1]", "colon"),
        ("acme.workable.com:443", "colon"),
        ("javascript:alert(1)", "colon"),
        ("me@acme.workable.com", "@"),
        ("https://acme.workable.com@evil.example/", "@"),
        ("https://acme.workable.com\\@evil.example/", "@"),
        ("https://evil.example\\.workable.com", "backslash"),
        ("acme%2eevil.workable.com", "percent"),
        ("ftp://acme.workable.com", "https://"),
        ("file:///etc/passwd", "https://"),
        ("ac me", "blanks"),
        ("acme\n.evil", "blanks"),
        ("acme\x00", "control"),
        ("acme\x7f", "control"),
        ("аcme", "look like"),  # noqa: RUF001 - a Cyrillic first letter is the point
        ("ａｃｍｅ", "look like"),  # noqa: RUF001 - full-width letters are the point
        ("\u212aindle", "look like"),  # the Kelvin sign is a plain k when lowered
        ("acme\u200b", "look like"),
        ("acme。workable。com", "look like"),
        ("xn--acme-9ta", "letters that"),
        ("acme_eu", "letters a to z"),
        ("-acme", "letters a to z"),
        ("acme-", "letters a to z"),
        ("{subdomain}", "letters a to z"),
        *((name, "Workable itself") for name in sorted(RESERVED)),
        ("https://www.workable.com/signin", "Workable itself"),
    ],
)
def test_everything_else_is_refused_with_its_cause(pasted: str, cause: str) -> None:
    """What is not plainly an account's address is refused on the field, with the cause and a next step."""
    with pytest.raises(BadInput) as caught:
        parse_subdomain(pasted)
    assert caught.value.field == "subdomain"
    assert cause in caught.value.cause
    assert "acme.workable.com" in caught.value.next_step


@pytest.mark.parametrize("token", ["4f1c9a7e2b8d4f1c9a7e2b8d4f1c9a7e2b8d", "eyJhbGciOi.eyJzdWIi.SflKxwRJ", "x" * 200])
def test_a_token_in_the_wrong_field_is_refused_and_not_shown(token: str) -> None:
    """A token pasted as a subdomain goes to no host, and is neither in the error nor in the parser's frames."""
    with pytest.raises(BadInput) as caught:
        parse_subdomain(token)
    stack = list(traceback.walk_tb(caught.value.__traceback__))[1:]
    shown = traceback.StackSummary.extract(iter(stack), capture_locals=True)
    assert token not in "".join(shown.format()) + str(caught.value)


@given(
    st.one_of(
        st.text(max_size=100),
        st.from_regex(STRICT, fullmatch=True),
        st.builds("{}{}.workable.com{}".format, st.sampled_from(["", "https://", "ftp://"]), st.text(), st.text()),
    )
)
def test_the_result_is_always_a_strict_label(pasted: str) -> None:
    """Whatever is pasted, the result is a strict label, or a refusal that does not repeat what was pasted."""
    try:
        label = parse_subdomain(pasted)
    except BadInput as error:
        shown = len(pasted) >= 20 and pasted in error.cause
        assert not shown, pasted
        return
    assert STRICT.fullmatch(label)
    assert label in pasted.lower()
    assert label not in RESERVED
    assert parse_subdomain(label) == parse_subdomain(f"https://{label}.workable.com/x") == label
