"""The map of the rooms, made from the imports and from the first line of each file."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp

from scripts.documents.reference import ROOT, table

#: The rooms that stand by themselves, and are shown as one.
LAW = "states"


def rooms() -> str:
    """The whole of docs/rooms.md."""
    return "\n".join(_page()).rstrip() + "\n"


def floors() -> list[list[str]]:
    """The rooms of `linker`, floor by floor from the top, as the contract of imports has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [re.findall(r"\w+", layer) for layer in layers]
    return [there for there in ([room for room in floor if _place(room)] for floor in named) if there]


def _place(room: str) -> Path | None:
    """The folder or the file of a room; None if it is not built yet."""
    places = (ROOT / "linker" / room, ROOT / "linker" / f"{room}.py")
    return next((place for place in places if (place / "__init__.py").exists() or place.is_file()), None)


def arrows() -> list[tuple[str, str]]:
    """Which room imports from which: only those that no longer way leads along too."""
    graph = grimp.build_graph("linker", LAW)
    every = [room for floor in floors() for room in floor]
    direct: dict[str, set[str]] = {room: set() for room in [*every, LAW]}
    for module in graph.modules:
        importer = _room_of(module)
        for imported in map(_room_of, graph.find_modules_directly_imported_by(module)):
            if importer in direct and imported in direct and imported != importer:
                direct[importer].add(imported)
    reached: dict[str, set[str]] = {LAW: set()}
    for room in reversed(every):
        reached[room] = set().union(*({other} | reached.get(other, set()) for other in direct[room]))
    return [
        (room, other)
        for room in every
        for other in [*every, LAW]
        if other in direct[room] and not any(other in reached[between] for between in direct[room] - {other})
    ]


def _room_of(module: str) -> str:
    return LAW if module.split(".")[0] == LAW else ".".join(module.split(".")[1:2])


def first_line(path: Path) -> str:
    """The first sentence of a file: what it is for."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return said.split("\n\n")[0].replace("\n", " ").removesuffix(".")


def _page() -> Iterator[str]:
    yield "# The rooms"
    yield ""
    yield "Made from the imports by `./scripts/document`; a test keeps it in step. Imports only go down: what is above"
    yield "may use what is below, never the other way round. An arrow is left out where a longer way leads along too."
    yield "Do you look for something by its name? See [where](where.md)."
    yield ""
    yield "```mermaid"
    yield "flowchart TD"
    for number, floor in enumerate(floors()):
        beside = len(floor) > 1
        yield from ([f'    subgraph floor{number} [" "]', "        direction LR"] if beside else [])
        yield from (f"        {room}" for room in floor)
        yield from (["    end"] if beside else [])
    yield f"    {LAW}[(states: the law)]"
    yield from (f"    {room} --> {other}" for room, other in arrows())
    yield "```"
    yield ""
    yield "`states` is the law, and imports nothing of `linker`. `linker` is the world, from the top down:"
    yield ""
    for floor in floors():
        for room in floor:
            place = _place(room)
            assert place is not None
            yield from _room(room, place)
    yield from _room(LAW, ROOT / LAW, at="")


def _room(room: str, place: Path, at: str = "linker/") -> Iterator[str]:
    if place.is_file():
        yield f"## `{at}{room}.py`"
        yield ""
        yield f"{first_line(place)}."
        yield ""
        return
    yield f"## `{at}{room}/`"
    yield ""
    yield f"{first_line(place / '__init__.py')}."
    yield ""
    if files := [path for path in sorted(place.rglob("*.py")) if path.name != "__init__.py"]:
        rows = ((f"`{path.relative_to(place)}`", first_line(path)) for path in files)
        yield from table(("file", "what it is for"), rows)
        yield ""
