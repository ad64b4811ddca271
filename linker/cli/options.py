"""Arguments and options that several commands share, read strictly."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from linker.errors import BadInput
from linker.validation.text import known_id, one_line
from states.connection import ConnectionState

T = TypeVar("T")


def pasted_id(given: str, *, what: str = "connection") -> str:
    """An id as people paste it. What cannot be one is not looked up: raises NotFound."""
    return known_id(given.strip(), what=what)


async def whole(known: Any, method: Callable[[str], Awaitable[T]], given: str) -> T:
    """What a method gives for the connection whose id begins like this. Raises NotFound, BadInput."""
    return await method(await known.whole_id(given))


def _connection_id(given: str | None) -> str | None:
    return None if given is None else pasted_id(given)


def login() -> str:
    """Who is at the keyboard, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def state_named(field: str, given: str) -> ConnectionState:
    """A state by its name. Raises BadInput."""
    if given not in set(ConnectionState):
        raise BadInput(field, "unknown", known=list(ConnectionState))
    return ConnectionState(given)


def needed_reason(given: str | None) -> str:
    """The reason, where the history has to have one. Raises BadInput."""
    if given is None:
        raise BadInput("reason", "empty")
    return given


def pairs(field: str, given: list[str]) -> dict[str, str]:
    """`K=V` texts as a mapping; what a text may hold is the library's to say. Raises BadInput."""
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            raise BadInput(field, "not_a_pair")
        if key.strip() in found:
            raise BadInput(field, "given_twice", key=key.strip())
        found[key.strip()] = value
    return found


Id = Annotated[
    str, typer.Argument(metavar="ID", help="The connection, as `linker list` shows it.", callback=_connection_id)
]
OfConnection = Annotated[
    str | None, typer.Option("--connection", metavar="ID", help="Only of this connection.", callback=_connection_id)
]
#: `linker --json show …` means the same as `linker show … --json`.
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON value on stdout.",
        callback=lambda context, given: given or bool(context.find_root().params.get("as_json")),
    ),
]
Actor = Annotated[
    str,
    typer.Option(
        "--actor",
        envvar="LINKER_ACTOR",
        metavar="WHO",
        help="Who does this, for the history; by default operator:<your login>.",
        callback=lambda given: one_line("actor", given) if given else f"operator:{login()}",
    ),
]
Reason = Annotated[
    str | None,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="Why, for the history.",
        callback=lambda given: None if given is None else one_line("reason", given),
    ),
]
