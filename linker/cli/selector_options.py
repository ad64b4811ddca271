"""Selectors as options: the same words for `list` and for every verb."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, Protocol

import typer

from linker.cli.options import pairs, pasted_id
from linker.engine.ports import ID_CHARACTERS, Selection
from linker.errors import BadInput, NotFound
from linker.operations.selectors import selection
from states.connection import ConnectionState

#: Reads ids from stdin.
FROM_STDIN = "-"
#: More than this is not read from stdin.
MOST_BYTES = 10 * 1024 * 1024
#: An option: its type as Typer reads it, and what it is when it is not given.
Option = tuple[Any, Any]
PANEL = "Which connections (all of it together)"


class Ids(Protocol):
    """What can complete an id."""

    async def whole_id(self, prefix: str) -> str:
        """The id that begins like this. Raises NotFound, BadInput."""
        ...


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which connections a command line means."""

    ids: tuple[str, ...] | None
    everything: bool
    #: The words that were given, as `linker.operations.selectors.Selectors` has them.
    words: dict[str, Any] = field(default_factory=dict)

    @property
    def only_id(self) -> str | None:
        """The id, if one is given and nothing else."""
        return self.ids[0] if self.ids is not None and len(self.ids) == 1 and not self.words else None

    @property
    def is_given(self) -> bool:
        """True if anything is selected."""
        return self.ids is not None or self.everything or bool(self.words.keys() - {"limit"})

    async def selection(self, known: Ids, now: datetime) -> Selection:
        """What is meant, with whole ids; one that there is not stays as it was given. Raises BadInput."""
        ids = None if self.ids is None else [await _known(known, each) for each in self.ids]
        words = {"closed": None, **self.words} if ids is not None else self.words
        return selection(now, ids=ids, **words)


def _option(*names: str, text: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=PANEL, **more)


_STATES = ", ".join(ConnectionState)
OPTIONS: dict[str, Option] = {
    "state": (Annotated[str | None, _option("--state", text=f"In this state: {_STATES}.")], None),
    "problem": (Annotated[str | None, _option("--problem", text="With this problem, by its code.")], None),
    "owner": (Annotated[str | None, _option("--owner", text="Of this customer.")], None),
    "account": (
        Annotated[str | None, _option("--account", text="Of this Workable account: its id or subdomain.")],
        None,
    ),
    "subdomain": (Annotated[str | None, _option("--subdomain", text="With this subdomain, as entered.")], None),
    "metadata": (
        Annotated[list[str] | None, _option("--metadata", text="With this text; repeatable.", metavar="K=V")],
        None,
    ),
    "text": (
        Annotated[str | None, _option("--text", text="Holding this in an id, name, e-mail or metadata.")],
        None,
    ),
    "older_than": (
        Annotated[str | None, _option("--older-than", text="In its state for so long, as in 3d.", metavar="SPAN")],
        None,
    ),
    "newer_than": (
        Annotated[str | None, _option("--newer-than", text="In its state for less than that.", metavar="SPAN")],
        None,
    ),
    "due_before": (
        Annotated[
            str | None,
            _option("--due-before", text="Attended before then: a time, or a span from now.", metavar="TIME"),
        ],
        None,
    ),
    "expires_within": (
        Annotated[
            str | None,
            _option("--expires-within", text="Whose token's last day comes within so long.", metavar="SPAN"),
        ],
        None,
    ),
    "stuck": (Annotated[bool, _option("--stuck", text="Open ones that a person has to act for.")], False),
    "paused": (Annotated[bool, _option("--paused", text="At rest by an operator.")], False),
    "closed": (Annotated[bool, _option("--closed", text="Given up for good; others leave these out.")], False),
    "everything": (Annotated[bool, _option("--all", text="Every open connection.")], False),
    "limit": (Annotated[int | None, _option("--limit", text="At most so many.", min=1)], None),
}
IDS = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...", help="The connections, by ids or the beginnings of ids; - reads them from stdin."
    ),
]


#: Everything by which connections are meant: ids and selectors.
SELECTING: dict[str, Option] = {"ids": (IDS, None), **OPTIONS}


@dataclass(frozen=True)
class OptionGroup:
    """Options that become one argument of a command, built of all of them."""

    name: str
    build: Callable[..., Any]
    options: Mapping[str, Option]


def composed(*groups: OptionGroup) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of these groups, beside its own; it is called with what they build."""

    def with_options(command: Callable[..., int]) -> Callable[..., int]:
        hints = inspect.get_annotations(command, eval_str=True)
        own = inspect.signature(command).parameters

        @wraps(command)
        def composed_command(**given: Any) -> int:
            built = {each.name: each.build(**{name: given.pop(name) for name in each.options}) for each in groups}
            return command(**built, **given)

        options = {name: option for each in groups for name, option in each.options.items()}
        names = {each.name for each in groups}
        ours = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, (hint, default) in options.items()
        ]
        theirs = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            for name, each in own.items()
            if name not in names
        ]
        shown: Any = composed_command
        shown.__signature__ = inspect.Signature([*theirs, *ours])
        shown.__annotations__ = {each.name: each.annotation for each in (*theirs, *ours)}
        del shown.__wrapped__
        return composed_command

    return with_options


def chosen(*, ids: list[str] | None, everything: bool, metadata: list[str] | None, **words: Any) -> Chosen:
    """What a command line means. Raises BadInput, NotFound (an id that cannot be one)."""
    given = {name: value for name, value in words.items() if value not in (None, False)}
    if metadata:
        given["metadata"] = pairs("metadata", metadata)
    named = _from_stdin() if ids == [FROM_STDIN] else ids
    if named and everything:
        raise BadInput("id", "ids_and_everything")
    whole = None if not named and ids != [FROM_STDIN] else tuple(dict.fromkeys(pasted_id(each) for each in named or ()))
    return Chosen(ids=whole, everything=everything, words=given)


async def _known(known: Ids, given: str) -> str:
    if len(given) == ID_CHARACTERS:  # whole already: thousands of them may come from stdin
        return given
    try:
        return await known.whole_id(given)
    except NotFound:
        return given


def _from_stdin() -> list[str]:
    """Ids from stdin, separated by blanks or line breaks."""
    if sys.stdin is None:
        raise BadInput("id", "stdin_closed")
    return sys.stdin.buffer.read(MOST_BYTES).decode("utf-8", "replace").split()


#: Gives a command ids and selectors: it is called with `chosen` in their place.
selecting = composed(OptionGroup("chosen", chosen, SELECTING))
