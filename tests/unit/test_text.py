import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from linker.errors import BadInput
from linker.validation.text import metadata, one_line
from linker.wording import describe


@pytest.mark.parametrize("text", ["customer-1", "Zoë & Söhne 株式会社 🚀", "x" * 500])
def test_a_line_of_text_is_kept_without_the_blanks_around_it(text: str) -> None:
    """Of any script, and up to 500 characters long."""
    assert one_line("owner", f" \t{text}\n") == text


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ("", "empty", "It is empty."),
        (" \n", "empty", "It is empty."),
        ("x" * 501, "too_long", "It is longer than 500 characters."),
        ("two\nlines", "unprintable", "It holds line breaks or other unprintable characters."),
        ("a\x00b", "unprintable", "It holds line breaks or other unprintable characters."),
        ("\ud83d", "unprintable", "It holds line breaks or other unprintable characters."),
    ],
)
def test_what_is_no_line_of_text_is_refused(text: str, reason: str, told: str) -> None:
    """On its field, with the cause and what to give instead."""
    with pytest.raises(BadInput) as caught:
        one_line("actor", text)
    assert (caught.value.field, caught.value.reason) == ("actor", reason)
    assert caught.value.params == ({"most": 500} if reason == "too_long" else {})
    assert str(caught.value) == f"actor: {told} Give a text of one line that says who does this."


@pytest.mark.parametrize(("field", "says"), [("owner", "which of your customers it is"), ("reason", "why")])
def test_each_text_has_its_purpose(field: str, says: str) -> None:
    """Whoever gives nothing is told what the text is for."""
    with pytest.raises(BadInput) as caught:
        one_line(field, "")
    assert describe(caught.value).action == f"Give a text of one line that says {says}."


@pytest.mark.parametrize(
    "given",
    [{}, {"quote": '"\\', "lines": "one\ntwo", "none": ""}, {"k" * 500: "v" * 500}, {str(n): "" for n in range(50)}],
    ids=["nothing", "any text", "long", "many"],
)
def test_metadata_is_kept_as_it_is(given: dict[str, str]) -> None:
    """Up to 50 texts of up to 500 characters, whatever is in them."""
    assert metadata(given) == given


HALF = "A key or an entry holds half a character, as of an emoji that was cut in two."


@pytest.mark.parametrize(
    ("given", "reason", "params", "told"),
    [
        ({str(number): "" for number in range(51)}, "too_many", {"most": 50}, "There are more than 50 entries."),
        ({"": "value"}, "key_empty", {}, "A key is empty."),
        ({" ": "value"}, "key_empty", {}, "A key is empty."),
        ({"k" * 501: ""}, "too_long", {"most": 500}, "It is longer than 500 characters."),
        ({"key": "v" * 501}, "too_long", {"most": 500}, "It is longer than 500 characters."),
        ({"key": "\ud83d"}, "half_character", {}, HALF),
        ({"\ude00": ""}, "half_character", {}, HALF),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(
    given: dict[str, str], reason: str, params: dict[str, int], told: str
) -> None:
    """On its field, with the cause and what to give instead."""
    with pytest.raises(BadInput) as caught:
        metadata(given)
    assert (caught.value.field, caught.value.reason, caught.value.params) == ("metadata", reason, params)
    words = describe(caught.value)
    assert words.message == told
    assert words.action in {
        "Give up to 50 texts of up to 500 characters by key, and keep the rest on your side.",
        "Cut texts between characters, not between code units.",
    }
    assert ("Cut texts" in words.action) == (reason == "half_character")


@generated(st.text())
def test_a_line_of_text_is_always_printable(text: str) -> None:
    """Whatever is given, the result can be shown on one line, and is taken as it is when it is given again."""
    try:
        line = one_line("reason", text)
    except BadInput:
        return
    assert line.isprintable()
    assert one_line("reason", line) == line
