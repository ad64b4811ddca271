import re
from pathlib import Path

import pytest

import linker
from linker import testing
from linker.cli.main import VERBS
from scripts.documents.api import api
from scripts.documents.reference import ANNOUNCED, LOG_EVENTS, ROOT, logged, reference
from scripts.documents.write import with_diagram
from states.description import mermaid
from states.history import ANNOUNCEMENTS

DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("scripts/**/*.md")])


def test_the_reference_is_what_the_program_says() -> None:
    """docs/reference.md is what ./scripts/document would write today."""
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), "run ./scripts/document"


def test_the_python_api_is_what_the_docstrings_say() -> None:
    """docs/api.md is what ./scripts/document would write today, and has a heading for each name of the front door."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == api(), "run ./scripts/document"
    errors = {
        name
        for name in linker.__all__
        if isinstance(kind := getattr(linker, name), type) and issubclass(kind, Exception)
    }
    told = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert {*linker.__all__, *testing.__all__} - errors - told == {"Settings"}, "in the reference"


def test_the_diagram_of_the_readme_is_the_law() -> None:
    """The README's diagram is what `linker states --format mermaid` prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert mermaid().strip() in readme
    assert readme == with_diagram(readme)


def test_every_log_event_is_explained() -> None:
    """Each log event of the program is in the reference, and the reference has no other."""
    assert logged() == LOG_EVENTS.keys()


def test_every_announcement_is_explained() -> None:
    """Each announcement to the host is in the reference, in the order of the story."""
    assert tuple(ANNOUNCED) == ANNOUNCEMENTS


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    """A link to a file of this project leads to a file that exists."""
    text = path.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_command_in_the_docs_exists(path: Path) -> None:
    """A `linker …` command in the docs is one that the program has."""
    named = set(re.findall(r"(?:^|[`$] ?)linker ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= VERBS.keys()
