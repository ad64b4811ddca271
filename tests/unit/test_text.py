import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from linker.errors import BadInput
from linker.validation.text import metadata, one_line


@pytest.mark.parametrize("text", ["customer-1", "Zoë & Söhne 株式会社 🚀", "x" * 500])
def test_a_line_of_text_is_kept_without_the_blanks_around_it(text: str) -> None:
    """Of any script, and up to 500 characters long."""
    assert one_line("owner", f" \t{text}\n") == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("x" * 501, "longer than 500"),
        ("two\nlines", "line breaks"),
        ("a\x00b", "unprintable"),
        ("\ud83d", "unprintable"),
    ],
)
def test_what_is_no_line_of_text_is_refused(text: str, cause: str) -> None:
    """On its field, with the cause and what to give instead."""
    with pytest.raises(BadInput) as caught:
        one_line("actor", text)
    assert (caught.value.field, cause in caught.value.cause) == ("actor", True)
    assert caught.value.next_step in {"Give a text that says who does this.", "Give a shorter text on one line."}


@pytest.mark.parametrize(
    "given",
    [{}, {"quote": '"\\', "lines": "one\ntwo", "none": ""}, {"k" * 500: "v" * 500}, {str(n): "" for n in range(50)}],
    ids=["nothing", "any text", "long", "many"],
)
def test_metadata_is_kept_as_it_is(given: dict[str, str]) -> None:
    """Up to 50 texts of up to 500 characters, whatever is in them."""
    assert metadata(given) == given


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({str(number): "" for number in range(51)}, "more than 50"),
        ({"": "value"}, "a key is empty"),
        ({" ": "value"}, "a key is empty"),
        ({"k" * 501: ""}, "longer than 500"),
        ({"key": "v" * 501}, "longer than 500"),
        ({"key": "\ud83d"}, "half a character"),
        ({"\ude00": ""}, "half a character"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(given: dict[str, str], cause: str) -> None:
    """On its field, with the cause."""
    with pytest.raises(BadInput) as caught:
        metadata(given)
    assert (caught.value.field, cause in caught.value.cause) == ("metadata", True)


@generated(st.text())
def test_a_line_of_text_is_always_printable(text: str) -> None:
    """Whatever is given, the result can be shown on one line, and is taken as it is when it is given again."""
    try:
        line = one_line("reason", text)
    except BadInput:
        return
    assert line.isprintable()
    assert one_line("reason", line) == line
