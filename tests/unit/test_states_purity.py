"""The law knows nothing of the world: read from its source, so that no import can hide."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import states

MODULES = sorted(Path(states.__path__[0]).glob("**/*.py"))

#: Parts of the standard library through which the world comes in.
WORLD = {
    *("asyncio", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "shutil"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "locale"),
}
#: Names that ask the clock, the dice or the disk.
ASKING = {"now", "utcnow", "today", "open", "input", "print", "exec", "eval", "__import__", "getenv"}


def imported(tree: ast.AST) -> Iterator[str]:
    """The top names of everything that a module imports, at whatever depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").split(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    """The last names of everything that a module calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield str(getattr(node.func, "attr", None) or getattr(node.func, "id", ""))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_law_imports_only_the_standard_library(path: Path) -> None:
    """Nothing but the standard library without its worldly parts; `machine` alone asks `transitions`."""
    names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
    allowed = set(sys.stdlib_module_names) - WORLD | {"states"} | ({"transitions"} if path.stem == "machine" else set())
    assert names <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_law_asks_neither_clock_nor_dice(path: Path) -> None:
    """Time and chance are arguments."""
    assert set(called(ast.parse(path.read_text(encoding="utf-8")))).isdisjoint(ASKING)
