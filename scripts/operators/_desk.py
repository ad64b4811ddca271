"""What the operators' scripts share: their options, and who acts. Each is also an example of the library."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from linker import Linker, LinkerError, visible

#: Who acts, as the history has it.
ACTOR = f"cron:{Path(sys.argv[0]).stem}"


def options(doc: str | None, *, acts: bool = True) -> argparse.ArgumentParser:
    """The options of a script; its first lines are its help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if acts:
        parser.add_argument("--do", action="store_true", help="do it; without this it is only shown")
    return parser


def cell(value: object) -> str:
    """A value in a row, however it was named outside: it breaks no line, and moves no cursor."""
    return visible(str(value)).replace("\n", "\\n")


def tell(*values: object) -> None:
    """Tell a row of data."""
    print(*map(cell, values), sep="\t")


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun, as in `1 change`, `2 changes`."""
    return f"{number} {one if number == 1 else many}"


def say(text: str) -> None:
    """Say something to people: stdout belongs to the data."""
    print(visible(text), file=sys.stderr)


def run(work: Callable[[Linker], Awaitable[int]]) -> int:
    """Do something with an open linker; gives its exit code, or that of the error that it met."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

    async def opened() -> int:
        async with Linker() as linker:
            return await work(linker)

    try:
        return asyncio.run(opened())
    except LinkerError as error:
        say(str(error))
        return error.exit_code
