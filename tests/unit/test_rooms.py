"""The house: few rooms, found by the field's own words, with imports that only go down."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.documents.rooms import arrows, floors, rooms

ROOT = Path(__file__).parents[2]
LINKER = ROOT / "linker"
QUESTIONS = re.findall(
    r"^\| (?!\*\*|question|---)(.+?) \| `(.+?)` \|$", (ROOT / "docs" / "where.md").read_text("utf-8"), re.MULTILINE
)


def test_the_map_is_what_the_imports_say() -> None:
    """docs/rooms.md is what ./scripts/document would write today."""
    assert (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8") == rooms(), "run ./scripts/document"


def test_arrows_go_down() -> None:
    """Whatever a room imports from is on a floor beneath it."""
    height = {room: number for number, floor in enumerate(floors()) for room in floor} | {"states": len(floors())}
    assert all(height[room] < height[other] for room, other in arrows())
    ground_floor = {"event_log", "http_client", "humanize", "network", "wording"}
    assert {room for room, _ in arrows()} | ground_floor >= set(height) - {"states"}


@pytest.mark.parametrize("folder", [LINKER, *(path.parent for path in sorted(LINKER.rglob("__init__.py")))], ids=str)
def test_no_room_is_crowded(folder: Path) -> None:
    """At most fourteen files stand in a folder."""
    assert len(list(folder.glob("*.py"))) <= 14


def test_enough_questions_are_asked() -> None:
    """Each of them once."""
    asked = [question for question, _ in QUESTIONS]
    assert len(asked) >= 56
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(("question", "file"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_every_question_has_its_file(question: str, file: str) -> None:
    """Where a newcomer is sent, there is something."""
    assert (ROOT / file).is_file()


def test_files_are_found_by_the_fields_words() -> None:
    """Nine in ten of the questions name a word of their file's path."""

    def stems(text: str) -> set[str]:
        return {word[:5] for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2}

    found = [question for question, file in QUESTIONS if stems(question) & stems(file.removeprefix("linker/"))]
    assert len(found) >= len(QUESTIONS) * 0.9


def test_stories_are_told_in_one_place() -> None:
    """Of all functions of the library at most one in ten is private and called from one place only."""
    defined, used = [], Counter[str]()
    for path in LINKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    defined.append(name)
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    used[name] += 1
    once = [name for name in defined if name.startswith("_") and not name.startswith("__") and used[name] <= 1]
    assert len(once) <= len(defined) * 0.1, sorted(once)
