"""The search for the canary can find it: planted in each kind of place and in each shape, it is found there."""

import base64
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from rich.markup import escape

from linker import Connection, ConnectionState
from linker.errors import BadInput
from tests.acceptance.leaks import LOGGERS, Listener, Places, Secret
from tests.builders import a_connection

CANARY = f"CANARY{secrets.token_hex(24)}TOKEN"

SHAPES: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "lowered": lambda text: text.lower().encode(),
    "in capitals": lambda text: text.upper().encode(),
    "its beginning": lambda text: text[:20].encode(),
    "its end": lambda text: text[-20:].encode(),
    "a piece": lambda text: text[17:34].encode(),
    "in base64": lambda text: base64.b64encode(text.encode()),
    "in base64 after a letter": lambda text: base64.b64encode(b":" + text.encode()),
    "in base64 after two": lambda text: base64.urlsafe_b64encode(b"t:" + text.encode()),
    "in hexadecimal": lambda text: text.encode().hex().encode(),
    "in UTF-16": lambda text: text.encode("utf-16-le"),
    "in a URL": lambda text: quote(text).encode(),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_found_in_every_shape(shape: Callable[[str], bytes]) -> None:
    """However it is written, it is found, in the middle of anything."""
    assert Secret(CANARY).is_in(secrets.token_bytes(999) + shape(CANARY) + secrets.token_bytes(999))


def test_nothing_is_found_where_nothing_is() -> None:
    """Other random texts are not taken for it."""
    other = f"CANARY{secrets.token_hex(24)}TOKEN"
    assert not Secret(CANARY).is_in(other.encode() * 50 + secrets.token_bytes(100_000))


def assert_found(plant: Callable[[Places], object], *names: str) -> None:
    """Collect what was planted, and find it: at these places only, if they are named."""
    places = Places()
    plant(places)
    found = places.with_(Secret(CANARY))
    assert found != []
    assert not names or found == [*names]


def test_found_in_a_file(tmp_path: Path) -> None:
    """A file of the database's folder."""
    (tmp_path / "linker.db-wal").write_bytes(b"\0" * 4096 + CANARY.encode())
    assert_found(lambda places: places.add_files(tmp_path), "file linker.db-wal")


@pytest.mark.parametrize("name", LOGGERS)
def test_found_in_the_log_of_every_logger(name: str) -> None:
    """A line at DEBUG of every library, and what the line was made of."""
    with Listener() as listener:
        logging.getLogger(name).debug("sent %s", SecretStr(CANARY).get_secret_value())
        logging.getLogger(name).debug("sent", extra={"token": CANARY})
    assert_found(lambda places: places.add_records(listener.records[:1]))
    assert_found(lambda places: places.add_records(listener.records[1:]))


def test_found_in_an_error_that_was_logged() -> None:
    """An error that came along with a harmless line."""
    with Listener() as listener:
        try:
            raise ValueError(CANARY)
        except ValueError:
            logging.getLogger("linker").exception("went wrong")
    assert_found(lambda places: places.add_records(listener.records))


@pytest.mark.parametrize("hide", [False, True], ids=["in the open", "behind `from None`"])
def test_found_in_what_an_error_is_chained_to(hide: bool) -> None:
    """The message of an error that led to another one, shown or suppressed."""
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as cause:
            if hide:
                raise BadInput("token", "odd_characters") from None
            raise BadInput("token", "odd_characters") from cause
    except BadInput as error:
        raised: BaseException = error
    assert_found(lambda places: places.add_error(raised))


def test_found_in_a_group_and_a_note_and_an_attribute() -> None:
    """An error among several, one that carries a note, one that carries the text in a field."""
    noted = ValueError("wrong")
    noted.add_note(CANARY)
    carrying = ValueError("wrong")
    carrying.field = CANARY  # type: ignore[attr-defined]
    for error in (ExceptionGroup("several", [ValueError(CANARY)]), noted, carrying):
        assert_found(partial(Places.add_error, error=error))


def test_found_in_the_locals_of_a_frame() -> None:
    """A local of a frame of the library; the same in a frame of a test does not count."""
    deep = compile("def deep(token):\n    raise ValueError('wrong')\n", "/somewhere/linker/deep.py", "exec")
    names: dict[str, Callable[[str], None]] = {}
    exec(deep, names)  # noqa: S102 - a frame that is not of the tests
    try:
        names["deep"](CANARY)
    except ValueError as error:
        raised: BaseException = error
    assert_found(lambda places: places.add_error(raised), "error ValueError")
    try:
        _harmless(CANARY)
    except ValueError as error:
        harmless = Places()
        harmless.add_error(error)
    assert harmless.with_(Secret(CANARY)) == []


def _harmless(token: str) -> None:
    assert escape(token)
    raise ValueError("wrong")


def test_found_in_an_object_that_is_alive() -> None:
    """An object of ours that is alive somewhere, whose `repr` shows it."""
    careless: Connection = a_connection(ConnectionState.LINKED, metadata={"token": CANARY})
    assert_found(lambda places: places.add_objects(), "repr of Connection")
    assert careless.metadata


@dataclass
class _Careless:
    token: str


def test_found_in_text_of_any_kind() -> None:
    """Whatever is added is searched as the text that it is."""
    assert_found(lambda places: places.add("page of the sandbox", f"<td>{CANARY}</td>".encode()))
    assert_found(lambda places: places.add("stdout", [_Careless(CANARY)]))
