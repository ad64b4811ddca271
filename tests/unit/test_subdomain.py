from __future__ import annotations

import re
import traceback
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.errors import BadInput
from linker.validation import parse_subdomain
from linker.validation.subdomain import MAX_LABEL_CHARACTERS, RESERVED
from linker.wording import describe

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
        "apply.workable.com/acme",
        "https://apply.workable.com/acme/",
        "https://apply.workable.com/acme/j/0A1B2C3D4E/",
        "https://apply.workable.com/acme?lng=en",
        "HTTPS://Apply.Workable.com/ACME#main",
        "http://apply.workable.com/acme/?utm_source=a@b.example%20:80",
        '"acme"',
        "„Acme“",
        " ‘ https://acme.workable.com/backend ’ ",
        "<https://acme.workable.com>",
        "acme\u200b",
        "ac\u200dme\ufeff.workable.com",
        "\xa0acme\xa0",
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
    ("pasted", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("a" * 3000, "too_long"),
        ("a" * 64, "looks_like_token"),
        ("acme.example", "not_workable"),
        ("acme.workable.com.evil.example", "not_workable"),
        ("evil.example/acme.workable.com", "not_workable"),
        ("evil.example#.workable.com", "not_workable"),
        ("acme.eu.workable.com", "not_workable"),
        ("acme.workable.com.", "not_workable"),
        ("workable.com", "not_workable"),
        ("127.0.0.1", "not_workable"),
        ("https://acme", "not_workable"),
        ("acme/backend", "not_workable"),
        ("//acme.workable.com", "not_workable"),
        (".workable.com", "not_a_label"),
        ("[::1]", "holds_colon"),
        ("acme.workable.com:443", "holds_colon"),
        ("javascript:alert(1)", "holds_colon"),
        ("me@acme.workable.com", "holds_at"),
        ("https://acme.workable.com@evil.example/", "holds_at"),
        ("https://acme.workable.com\\@evil.example/", "holds_at"),
        ("https://evil.example\\.workable.com", "holds_backslash"),
        ("acme%2eevil.workable.com", "holds_percent"),
        ("ftp://acme.workable.com", "other_scheme"),
        ("file:///etc/passwd", "other_scheme"),
        ("ac me", "blanks"),
        ("acme\n.evil", "blanks"),
        ("acme\x00", "blanks"),
        ("acme\x7f", "blanks"),
        ("аcme", "foreign_letters"),  # a Cyrillic first letter is the point
        ("ａｃｍｅ", "foreign_letters"),  # full-width letters are the point
        ("\u212aindle", "foreign_letters"),  # the Kelvin sign is a plain k when lowered
        ("\u200b", "empty"),
        ('""', "empty"),
        ("acme。workable。com", "foreign_letters"),
        ("xn--acme-9ta", "punycode"),
        ("acme_eu", "not_a_label"),
        ("-acme", "not_a_label"),
        ("acme-", "not_a_label"),
        ("{subdomain}", "not_a_label"),
        *((name, "reserved") for name in sorted(RESERVED)),
        *((f"https://apply.workable.com{path}", "reserved") for path in ("", "/", "//acme", "?acme", "#acme")),
        *((f"apply.workable.com/{path}", "reserved") for path in ("api/v1/accounts/acme", "j/0A1B2C3D4E", "www/x")),
        ("apply.workable.com/ac%2fme", "not_a_label"),
        ("apply.workable.com/acme_eu", "not_a_label"),
        ("apply.workable.com/acme.evil", "not_workable"),
        ("apply.workable.com/" + "4f1c9a7e2b8d" * 4, "looks_like_token"),
        ("apply.workable.com:443/acme", "holds_colon"),
        ("me@apply.workable.com/acme", "holds_at"),
        ("apply.workable.com\\acme", "holds_backslash"),
        ("apply.workable.com./acme", "not_workable"),
        ("https://apply.workable.com.evil.example/acme", "not_workable"),
        ("https://evil.example/apply.workable.com/acme", "not_workable"),
        ("https://eu.apply.workable.com/acme", "not_workable"),
        ("https://jobs.workable.com/acme", "reserved"),
        (None, "not_text"),
        (5, "not_text"),
        (b"acme", "not_text"),
        ("https://www.workable.com/signin", "reserved"),
    ],
)
def test_everything_else_is_refused_with_its_cause(pasted: str, reason: str) -> None:
    """What is not plainly an account's address is refused on the field, with the cause and a next step."""
    with pytest.raises(BadInput) as caught:
        parse_subdomain(pasted)
    assert (caught.value.field, caught.value.reason) == ("subdomain", reason)
    assert caught.value.params == ({"most": MAX_LABEL_CHARACTERS} if reason == "too_long" else {})
    words = describe(caught.value)
    assert "acme.workable.com" in words.action
    assert str(caught.value) == f"subdomain: {words.message} {words.action}"


@pytest.mark.parametrize(
    ("pasted", "told"),
    [
        ("", "It is empty."),
        ("a" * 3000, "It is longer than 63 characters."),
        ("a" * 64, "It is too long for a subdomain. Is it the API token?"),
        ("acme.example", "It is not an address under workable.com."),
        ("acme.workable.com:443", "It holds a colon, as a port does."),
        ("me@acme.workable.com", "It holds an @, as e-mail addresses and disguised addresses do."),
        ("https://evil.example\\.workable.com", "It holds a backslash."),
        ("acme%2eevil.workable.com", "It holds a percent sign."),
        ("ftp://acme.workable.com", "It begins with something else than https://."),
        ("ac me", "It holds blanks, line breaks or control characters."),
        ("acmé", "It holds letters that a subdomain cannot have, or that only look like the usual ones."),
        ("xn--acme-9ta", "It stands for letters that a Workable subdomain cannot have."),
        ("acme_eu", "A subdomain is made of the letters a to z, digits, and hyphens inside."),
        ("www", "This is an address of Workable itself, not of an account."),
    ],
)
def test_the_cause_is_told_in_words(pasted: str, told: str) -> None:
    """Each cause has a sentence of its own, that names nothing of what was pasted."""
    with pytest.raises(BadInput) as caught:
        parse_subdomain(pasted)
    assert describe(caught.value).message == told


@pytest.mark.parametrize(
    "token",
    [
        "4f1c9a7e2b8d4f1c9a7e2b8d4f1c9a7e2b8d",
        "s3cr3tT0kenOfAcme4you2see",
        "a1b2c3d4e5f6g7h8i9j0",
        "eyJhbGciOi.eyJzdWIi.SflKxwRJ",
        "x" * 200,
    ],
)
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
        shown = len(pasted) >= 20 and pasted in f"{error} {error.params}"
        assert not shown, pasted
        return
    assert STRICT.fullmatch(label)
    assert label in "".join(each for each in pasted if unicodedata.category(each) != "Cf").lower()
    assert label not in RESERVED
    assert parse_subdomain(label) == parse_subdomain(f"https://{label}.workable.com/x") == label
