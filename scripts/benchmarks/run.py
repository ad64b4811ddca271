"""Measure everything in one run: rates, and the ratios that matter.

Machines are noisy, so what is compared is measured in turns, and only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from scripts.benchmarks import persisted, step, sweep  # noqa: E402 - the folder has to be known first
from scripts.benchmarks.figures import Figures  # noqa: E402

PARTS = {"sweep": sweep.measure, "transitions": persisted.measure, "step": step.measure}


def main() -> None:
    """Run the parts that were asked for, and print what they found."""
    asked = arguments()
    progress = Console(stderr=True)
    figures = Figures()
    with TemporaryDirectory(prefix="linker-bench-") as folder, progress.status("") as status:
        for name in asked.parts or PARTS:
            status.update(f"measuring: {name}")
            PARTS[name](figures, Path(folder), asked.rounds)
    if asked.json:
        print(json.dumps(figures.as_json(), indent=2))
    else:
        figures.show(Console())


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the speed; only ratios mean anything.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON value on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    main()
