"""The page on the Python API, made from the signatures and docstrings of what a host can import."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import EnumType
from typing import Any, is_typeddict

import linker
from linker import testing
from linker.accounts.client import AsyncPages, Pages
from linker.engine.observer import ConnectionStats, QueueStats, Statistics, Waiting
from linker.operations.explain import Attendance, Told
from linker.telemetry.metrics import Metrics
from scripts.documents.reference import comments, table
from states.connection import Credential, LastLook
from states.explanation import Foreseen, Hindrance, Upcoming, WaitsFor
from states.problems import NextLook

#: The rooms of the page, and what stands in each. Errors and settings are in the reference.
ROOMS: dict[str, tuple[Any, ...]] = {
    "The linker": (
        linker.Linker,
        linker.blocking,
        linker.BlockingLinker,
        linker.load_settings,
        linker.new_key,
        linker.new_webhook_secret,
    ),
    "Using a link": (
        linker.AccountClient,
        AsyncPages,
        linker.BlockingAccountClient,
        Pages,
    ),
    "What it gives": (
        linker.Connection,
        linker.ConnectionState,
        linker.Problem,
        linker.ProblemCode,
        linker.ProblemOwner,
        NextLook,
        linker.Recruiter,
        linker.Account,
        Credential,
        LastLook,
        linker.Step,
        linker.Announcement,
        linker.IssuedLink,
        linker.Link,
        linker.LinkStatus,
        linker.Purpose,
        linker.Sweep,
        linker.Pruned,
    ),
    "What operators ask for": (
        linker.Explanation,
        linker.Verb,
        linker.Plan,
        linker.PlannedChange,
        linker.Outcome,
        linker.Operation,
        linker.AuditEntry,
        linker.QueuedDelivery,
        linker.Foresight,
        linker.Change,
        Foreseen,
        Hindrance,
        WaitsFor,
        Upcoming,
        Told,
        Attendance,
    ),
    "Words and JSON": (
        linker.describe,
        linker.Words,
        linker.connection_json,
        linker.Status,
        linker.step_json,
        linker.explanation_json,
        linker.plan_json,
        linker.plan_from_json,
        linker.outcome_json,
        linker.audit_json,
        linker.selection,
        linker.visible,
        linker.spreadsheet_cell,
        linker.Selectors,
        linker.Selection,
    ),
    "For your tests": (*(getattr(testing, name) for name in testing.__all__), linker.Randomness),
    "Metrics and observers": (
        Metrics,
        linker.Observer,
        linker.Unobserved,
        linker.Work,
        Statistics,
        QueueStats,
        ConnectionStats,
        Waiting,
    ),
}
#: The headings of a docstring's lists, and what the page says instead.
LISTS = {"Args:": "Arguments", "Raises:": "Raises"}
#: What a docstring says of a method that is public, and not for hosts.
INTERNAL = "meant for the app that answers"
#: Longer lists of arguments get a line for each.
WIDTH = 80


def api() -> str:
    """The whole of docs/api.md."""
    return "\n".join(_page()).rstrip() + "\n"


def _page() -> Iterator[str]:
    yield "# Python API"
    yield ""
    yield "Made from the program by `./scripts/document`; a test keeps it in step. Errors, with their codes, and"
    yield "settings are in the [reference](reference.md)."
    yield ""
    for room, things in ROOMS.items():
        yield f"## {room}"
        yield ""
        for thing in things:
            yield f"### {thing.__name__}"
            yield ""
            yield f"`from {_home(thing)} import {thing.__name__}`"
            yield ""
            yield from _class(thing) if inspect.isclass(thing) else _callable(thing)


def _home(thing: Any) -> str:
    """Where a host imports it from."""
    doors = [module.__name__ for module in (linker, testing) if thing.__name__ in module.__all__]
    return doors[0] if doors else str(thing.__module__)


def _class(thing: type) -> Iterator[str]:
    yield from _prose(thing)
    if isinstance(thing, EnumType):
        yield from table(("value", "meaning"), ((f"`{name}`", said) for name, said in comments(thing).items()))
        yield ""
    elif is_typeddict(thing):
        yield from _facts(thing, {name: kind.__forward_arg__ for name, kind in thing.__annotations__.items()})
    elif is_dataclass(thing):
        yield from _facts(thing, {fact.name: fact.type for fact in fields(thing)})
        yield from _members(thing, isproperty=True)
    else:
        if "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False):
            yield from _callable(vars(thing)["__init__"], named=thing.__name__)
        yield from _members(thing)


def _facts(thing: type, types: Mapping[str, Any]) -> Iterator[str]:
    meanings = comments(thing)
    rows = [(f"`{name}`", f"`{kind}`", meanings[name]) for name, kind in types.items()]
    if any(meaning for _, _, meaning in rows):
        yield from table(("field", "type", "meaning"), rows)
    else:
        yield from table(("field", "type"), (row[:2] for row in rows))
    yield ""


def _members(thing: type, *, isproperty: bool = False) -> Iterator[str]:
    """What is public, in the order of the source, what is inherited first; with `isproperty` only what is read."""
    ours = [kind for kind in reversed(thing.__mro__) if kind.__module__.split(".")[0] in {"linker", "states"}]
    for name, member in ((name, member) for kind in ours for name, member in vars(kind).items()):
        if name.startswith("_") or INTERNAL in (inspect.getdoc(member) or "").lower():
            continue
        if isinstance(member, property):
            assert member.fget is not None
            yield f"**`.{name}`** `-> {inspect.signature(member.fget).return_annotation}`"
            yield ""
            yield from _prose(member)
        elif callable(member) and not isproperty:
            yield from _callable(member)


def _callable(called: Callable[..., Any], *, named: str = "") -> Iterator[str]:
    """A function, a method, or with a name the making of a class."""
    function = inspect.unwrap(called)
    yield "```python"
    yield f"{_keyword(function)}{named or function.__name__}{_signature(function)}"
    yield "```"
    yield ""
    yield from _prose(function)


def _keyword(function: Callable[..., Any]) -> str:
    if function.__name__ == "__init__":
        return ""
    if inspect.isasyncgenfunction(function):
        return "async with "
    if inspect.isgeneratorfunction(function):
        return "with "
    return "async def " if inspect.iscoroutinefunction(function) else "def "


def _signature(function: Callable[..., Any]) -> str:
    """What it takes and gives: in one line, or in a line for each argument if that is too long."""
    signature = inspect.signature(function)
    taken = [_unquoted(str(each)) for each in signature.parameters.values() if each.name != "self"]
    if any(each.kind is each.KEYWORD_ONLY for each in signature.parameters.values()):
        named = [each.name for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY]
        first = next(number for number, each in enumerate(taken) if each.startswith(named[0]))
        taken.insert(first, "*")
    given = re.sub(r"^(?:Async)?Iterator\[(.*)\]$", r"\1", str(signature.return_annotation))
    gives = "" if function.__name__ == "__init__" else f" -> {given}"
    if len(", ".join(taken)) < WIDTH:
        return f"({', '.join(taken)}){gives}"
    return "(" + "".join(f"\n    {each}," for each in taken) + f"\n){gives}"


def _unquoted(argument: str) -> str:
    """An argument with its annotation as it stands in the source, and a default that cannot be written left out."""
    return re.sub(r"<.*>", "…", re.sub(r": '([^']*)'", r": \1", argument))


def _prose(of: Any) -> Iterator[str]:
    """A docstring in Markdown: its lists of arguments and errors become bullets."""
    in_list = False
    for line in (inspect.getdoc(of) or "").splitlines():
        if line in LISTS:
            in_list = True
            yield f"*{LISTS[line]}*"
            yield ""
        elif in_list and (item := re.match(r"    (\w+): (.*)", line)):
            yield f"- `{item[1]}`: {item[2]}"
        elif in_list and line:
            yield f"  {line.strip()}"
        else:
            in_list = False
            yield line
    yield ""
