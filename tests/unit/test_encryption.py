"""Tokens at rest: what is sealed opens only with our keys, only in its row, and only unchanged."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from linker.cli.exit_codes import in_command_line_words
from linker.encryption import TokenCipher, fingerprint, key_id_of, new_key
from linker.errors import BadSettings, KeyMissing, OurFault, SealBroken

TOKEN = SecretStr("canary-0123456789abcdef")
ROW, OTHER_ROW = "con_1", "con_2"
OLD, NEW, LOST = (SecretStr(base64.urlsafe_b64encode(bytes([n]) * 32).decode()) for n in (1, 2, 3))
SEALER = TokenCipher([NEW, OLD])
SEALED = SEALER.seal(TOKEN, bound_to=ROW)
#: Any one of them, at whatever place, must not go unnoticed.
REPLACEMENTS = "AZaz09-_+/=.! \n"


@given(token=st.text(min_size=1, max_size=300), row=st.text(min_size=1, max_size=30))
def test_what_is_sealed_opens(token: str, row: str) -> None:
    """Whatever the token and the row's name are, the token comes back as it was."""
    assert SEALER.open(SEALER.seal(SecretStr(token), bound_to=row), bound_to=row).get_secret_value() == token


def test_sealing_twice_gives_two_texts() -> None:
    """Nobody sees from the database that two rows hold the same token, and no token is in clear text there."""
    again = SEALER.seal(TOKEN, bound_to=ROW)
    assert again != SEALED
    assert "canary" not in again
    assert b"canary" not in base64.urlsafe_b64decode(again.split(".")[2])


def test_a_sealed_token_is_bound_to_its_row() -> None:
    """Copied into another row it does not open, and the error says what to do."""
    with pytest.raises(SealBroken, match=r"sealed for another connection.*Restore the row from a backup") as broken:
        SEALER.open(SEALED, bound_to=OTHER_ROW)
    assert (broken.value.reason, broken.value.params) == ("changed", {"connection": OTHER_ROW})
    assert broken.value.code == "seal_broken"


@pytest.mark.parametrize("at", range(len(SEALED)))
def test_a_changed_token_does_not_open(at: int) -> None:
    """Not a single character can be replaced, left out or added."""
    replaced = {SEALED[:at] + other + SEALED[at + 1 :] for other in REPLACEMENTS}
    added = {SEALED[:at] + other + SEALED[at:] for other in REPLACEMENTS}
    for changed in {*replaced, *added, SEALED[:at] + SEALED[at + 1 :], SEALED[:at]} - {SEALED}:
        with pytest.raises(SealBroken):
            SEALER.open(changed, bound_to=ROW)


@pytest.mark.parametrize(
    "junk", ["", ".", "v1", "v1..", f"v1.{SEALER.newest}", f"v1.{SEALER.newest}.", "v2.a.b", "é.é.é"]
)
def test_what_was_never_sealed_does_not_open(junk: str) -> None:
    """Whatever stands in the column, the answer is our error and not one of a library."""
    with pytest.raises(SealBroken):
        SEALER.open(junk, bound_to=ROW)


@pytest.mark.parametrize("body", ["é", "AAAA", "A", "====", "A" * 16, "A" * 400])
def test_a_body_that_is_no_ciphertext_does_not_open(body: str) -> None:
    """Too short, badly spelt or made up: the same error."""
    with pytest.raises(SealBroken):
        SEALER.open(f"v1.{SEALER.newest}.{body}", bound_to=ROW)


# keys


def test_the_newest_key_seals_and_all_open() -> None:
    """A new key in front takes over, and what the old one sealed still opens."""
    old = TokenCipher([OLD]).seal(TOKEN, bound_to=ROW)
    assert SEALER.open(old, bound_to=ROW) == TOKEN
    assert key_id_of(SEALED) == SEALER.newest == TokenCipher([NEW]).newest
    assert key_id_of(old) == TokenCipher([OLD]).newest
    assert SEALER.key_ids == {SEALER.newest, TokenCipher([OLD]).newest}


def test_a_missing_key_is_named() -> None:
    """The error names the key, and says that nothing is lost; of stored tokens those are named that are missing."""
    lost = TokenCipher([LOST])
    with pytest.raises(KeyMissing, match=f"key {lost.newest}, which is not set.*nothing is lost") as missing:
        SEALER.open(lost.seal(TOKEN, bound_to=ROW), bound_to=ROW)
    assert isinstance(missing.value, SealBroken)
    assert (missing.value.code, missing.value.reason) == ("key_missing", "not_set")
    assert missing.value.params == {"connection": ROW, "key": lost.newest}
    assert SEALER.missing({SEALER.newest, lost.newest, "00000000"}) == sorted({lost.newest, "00000000"})


def test_another_key_of_the_same_name_does_not_open() -> None:
    """The key id in the text is only a name: changing it opens nothing."""
    renamed = SEALED.replace(SEALER.newest, TokenCipher([OLD]).newest)
    with pytest.raises(SealBroken):
        SEALER.open(renamed, bound_to=ROW)


def test_without_a_key_nothing_starts() -> None:
    """The refusal names the setting, and at a command line the variable and the command that makes a key."""
    with pytest.raises(BadSettings, match=r"^secret_keys: No key is set, so tokens cannot be sealed") as refused:
        TokenCipher([])
    assert (refused.value.field, refused.value.reason, refused.value.params) == ("secret_keys", "keys_not_set", {})
    assert at_a_command_line(refused.value)


def at_a_command_line(error: BadSettings) -> bool:
    """True if a terminal is told the variable and the command that makes a key."""
    words, hint = in_command_line_words(error)
    return words.about == "LINKER_SECRET_KEYS" and "`linker keys new`" in (hint or "")


@pytest.mark.parametrize(
    "key",
    [
        "canary",
        "canary-" * 20,
        "canary é",
        base64.urlsafe_b64encode(b"canary" * 5 + b"!").decode(),
        base64.urlsafe_b64encode(b"canary" * 5 + b"!!!").decode(),
        NEW.get_secret_value() + "\n",
        NEW.get_secret_value()[:-1],
    ],
)
def test_a_malformed_key_is_refused_without_showing_it(key: str) -> None:
    """The error says what a key is and how to make one; neither it nor its traceback holds the key."""
    with pytest.raises(BadSettings) as refused:
        TokenCipher([NEW, SecretStr(key)])
    assert (refused.value.field, refused.value.reason, refused.value.params) == ("secret_keys", "not_a_key", {})
    assert "not 32 bytes in base64url. Set the keys" in str(refused.value)
    assert at_a_command_line(refused.value)
    shown = "".join(traceback.format_exception(refused.value))
    assert "canary" not in shown
    assert key not in shown
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


def test_a_new_key_is_fit_for_use() -> None:
    """32 bytes, never the same twice, safe in an environment variable, hidden in a `repr`."""
    keys = {new_key().get_secret_value() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(base64.urlsafe_b64decode(key)) == 32 and "," not in key and key.isascii() for key in keys)
    assert NEW.get_secret_value() not in repr(NEW)


# nothing shows a secret


def test_nothing_shows_a_key_or_a_token() -> None:
    """A `repr` and an error name keys by their ids; no error carries a library's error with it."""
    shown = f"{SEALER!r} {SEALER}"
    assert SEALER.newest in shown
    assert NEW.get_secret_value() not in shown
    with pytest.raises(OurFault) as broken:
        SEALER.open(SEALED, bound_to=OTHER_ROW)
    assert (broken.value.__cause__, broken.value.__context__) == (None, None)
    assert "canary" not in repr(SEALER.open(SEALED, bound_to=ROW))


def test_a_fingerprint_names_a_token() -> None:
    """Eight hexadecimal digits, the same for the same token, and no part of it."""
    assert fingerprint(TOKEN) == fingerprint(SecretStr(TOKEN.get_secret_value())) != fingerprint(SecretStr("other"))
    assert len(fingerprint(TOKEN)) == 8
    assert int(fingerprint(TOKEN), 16) >= 0
