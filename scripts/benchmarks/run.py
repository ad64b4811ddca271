"""Measure everything in one run: rates, and the ratios that matter.

Machines are noisy, so what is compared is measured in turns, and only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from rich.console import Console

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from scripts.benchmarks import (  # noqa: E402 - the folder has to be known first
    hosts,
    naive,
    open_pages,
    page,
    persisted,
    scale,
    step,
    sweep,
    use,
    workers,
)
from scripts.benchmarks.figures import Figures  # noqa: E402
from scripts.benchmarks.peers import part as peers  # noqa: E402

#: A part is a module with a docstring, which the page shows, and `measure(figures, folder, rounds)`. Add one here.
PARTS = {
    "sweep": sweep,
    "hosts": hosts,
    "naive": naive,
    "workers": workers,
    "transitions": persisted,
    "peers": peers,
    "step": step,
    "use": use,
    "pages": open_pages,
    "scale": scale,
}


def main(given: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for, and print what they found; 1 if something could not be measured."""
    asked = arguments(given)
    progress = Console(stderr=True)
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)  # stdout is for the result
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    figures = Figures()
    with TemporaryDirectory(prefix="linker-bench-") as folder, progress.status("") as status:
        for name in asked.parts or PARTS:
            status.update(f"measuring: {name}")
            PARTS[name].measure(figures, Path(folder), asked.rounds)
    if asked.json:
        print(json.dumps(figures.as_json(), indent=2))
    else:
        figures.show(Console())
    if asked.write:
        page.write(ROOT, figures, {name: part.__doc__ or "" for name, part in PARTS.items()}, rounds=asked.rounds)
    return 1 if figures.missing else 0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the speed; only ratios mean anything.",
        epilog="Ends with 0 whether goals are reached or not, and with 1 if something could not be measured.",
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON value on stdout")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its plot, from all parts")
    asked = parser.parse_args(given)
    if asked.write and asked.parts:
        parser.error("--write is for a run of all parts: a page with some of them would hide the others")
    if asked.rounds < 1:
        parser.error("--rounds: at least 1")
    return asked


if __name__ == "__main__":
    sys.exit(main())
