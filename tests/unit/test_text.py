import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from linker.errors import BadInput, NotFound
from linker.validation.text import is_control, known_id, metadata, one_line
from linker.wording import describe

UNPRINTABLE = "It holds line breaks, control characters, or characters that turn the direction of writing."
NAMES = [
    "株式会社\u3000東京",
    "Dupont\u00a0&\u00a0Fils",
    "می\u200cخواهم",
    "👨\u200d👩\u200d👧 Care",
    "10\u202f000 Talents",
    "क्\u200dष",
    "Co\u00adop",
]


@pytest.mark.parametrize("text", [*NAMES, "customer-1", "Zoë & Söhne 株式会社 🚀", "x" * 500])
def test_a_line_of_text_is_kept_without_the_blanks_around_it(text: str) -> None:
    """Of any script, and up to 500 characters long."""
    assert one_line("owner", f" \t{text}\n") == text


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ("", "empty", "It is empty."),
        (" \n", "empty", "It is empty."),
        ("x" * 501, "too_long", "It is longer than 500 characters."),
        ("two\nlines", "unprintable", UNPRINTABLE),
        ("a\x00b", "unprintable", UNPRINTABLE),
        ("Acme\x1b]0;owned\x07", "unprintable", UNPRINTABLE),
        ("a\x7fb", "unprintable", UNPRINTABLE),
        ("a\x9b31m", "unprintable", UNPRINTABLE),
        ("a\u2028b", "unprintable", UNPRINTABLE),
        ("\u202egnp.exe", "unprintable", UNPRINTABLE),
        ("a\u2066b\u2069", "unprintable", UNPRINTABLE),
        ("a\u200fb", "unprintable", UNPRINTABLE),
        ("\u200b\u200d", "empty", "It is empty."),
        ("\ud83d", "unprintable", UNPRINTABLE),
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
    assert not any(map(is_control, line))
    assert len(f"|{line}|".splitlines()) == 1
    assert one_line("reason", line) == line


@pytest.mark.parametrize("given", [None, 5, b"owner", ["owner"]], ids=str)
def test_what_is_no_text_at_all_is_bad_input(given: object) -> None:
    """Its value is not repeated."""
    with pytest.raises(BadInput) as caught:
        one_line("owner", given)
    assert (caught.value.field, caught.value.reason, caught.value.params) == ("owner", "not_text", {})


@pytest.mark.parametrize("given", [None, 5, "k=v", [("k", "v")], {"k": 5}, {5: "v"}, {"k": None}], ids=str)
def test_metadata_that_is_no_mapping_of_texts_is_bad_input(given: object) -> None:
    """Its values are not repeated."""
    with pytest.raises(BadInput) as caught:
        metadata(given)
    assert (caught.value.field, caught.value.reason, caught.value.params) == ("metadata", "not_texts", {})


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x00", "\x9b31m", "\u202e", "\u2067", "\u200e", "\u2028"])
def test_keys_of_metadata_hold_nothing_that_moves_a_terminal(odd: str) -> None:
    """In entries it is the host's own data, which is kept as it is and written out where it is printed; but for NUL."""
    for given in ({odd: "v"}, {f"k{odd}": "v"}, {"k\n": "v"}):
        with pytest.raises(BadInput) as caught:
            metadata(given)
        assert (caught.value.field, caught.value.reason) == ("metadata", "control_characters")
    if odd != "\x00":
        assert metadata({"k": f"a{odd}b"}) == {"k": f"a{odd}b"}
        return
    with pytest.raises(BadInput) as caught:
        metadata({"k": f"a{odd}b"})
    assert (caught.value.field, caught.value.reason) == ("metadata", "null_character")


@pytest.mark.parametrize("given", ["", "con_\x00", "con_\ud800", "con_é", "con_\n", "x" * 101, "con_\u202e", " \u3000"])
def test_an_id_that_can_be_none_is_not_found(given: str) -> None:
    """It is not looked up, and what is told of it can be printed."""
    with pytest.raises(NotFound) as caught:
        known_id(given)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("given", [None, 5, b"con_x"], ids=str)
def test_an_id_that_is_no_text_is_bad_input(given: object) -> None:
    """Somebody handed over something else."""
    with pytest.raises(BadInput) as caught:
        known_id(given)
    assert (caught.value.field, caught.value.reason) == ("id", "not_text")
