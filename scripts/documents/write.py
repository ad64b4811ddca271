"""Write what is made from the program: docs/reference.md, docs/api.md, docs/rooms.md and the README's diagram."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from scripts.documents.api import api  # noqa: E402
from scripts.documents.reference import reference  # noqa: E402
from scripts.documents.rooms import rooms  # noqa: E402
from states.description import mermaid  # noqa: E402 - the folder has to be known first

DIAGRAM = re.compile(r"```mermaid\n.*?```", re.DOTALL)


def with_diagram(readme: str) -> str:
    """The README with the law's diagram of today."""
    return DIAGRAM.sub(lambda _: f"```mermaid\n{mermaid().strip()}\n```", readme)


def main() -> None:
    """Write all of them."""
    (ROOT / "docs" / "api.md").write_text(api(), encoding="utf-8")
    (ROOT / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
    (ROOT / "docs" / "rooms.md").write_text(rooms(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_diagram(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
