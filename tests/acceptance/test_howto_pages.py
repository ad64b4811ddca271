"""What holds for every page of docs/howto."""

from __future__ import annotations

import ast

import pytest

from tests.acceptance.commands import ROOT
from tests.acceptance.hosting import page

PAGES = sorted(path.stem for path in (ROOT / "docs" / "howto").glob("*.md") if path.stem != "README")

#: Where linker's part is in the program of a page about the sweep.
PARTS = {
    "procrastinate": ("jobs.py", {"sweep", "deliver"}),
    "celery": ("worker.py", {"sweep", "deliver"}),
    "fastapi": ("web.py", {"lifespan"}),
}


@pytest.mark.parametrize("name", PARTS)
def test_linkers_part_is_two_lines(name: str) -> None:
    """What a host writes for the sweep and for deliveries has two lines in it."""
    file, functions = PARTS[name]
    tree = ast.parse(page(name).programs[file])
    written = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    parts = [node for node in written if node.name in functions]
    assert {part.name for part in parts} == functions
    assert sum((part.end_lineno or 0) - part.lineno for part in parts) == 2


@pytest.mark.parametrize("name", PAGES)
def test_the_index_leads_to_every_page(name: str) -> None:
    """docs/howto/README.md links each page."""
    assert f"({name}.md)" in (ROOT / "docs" / "howto" / "README.md").read_text(encoding="utf-8")
