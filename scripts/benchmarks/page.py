"""Writes docs/benchmarks.md and its plot, so that nobody copies a figure by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from scripts.benchmarks.figures import Figures, Ratio
from scripts.benchmarks.plot import plot

PAGE = Path("docs/benchmarks.md")
PLOT = Path("docs/images/benchmarks.svg")


def write(root: Path, figures: Figures, parts: Mapping[str, str], *, rounds: int) -> None:
    """Write the page and the plot into a project.

    Args:
        root: the project's folder.
        figures: what was measured.
        parts: for each part what it measures and how, in Markdown; the first paragraph is the title's explanation.
        rounds: how often everything was measured.
    """
    (root / PLOT).parent.mkdir(parents=True, exist_ok=True)
    (root / PLOT).write_text(plot(figures.ratios), encoding="utf-8")
    (root / PAGE).write_text(page(figures, parts, rounds=rounds, on=datetime.now(UTC)), encoding="utf-8")


def page(figures: Figures, parts: Mapping[str, str], *, rounds: int, on: datetime) -> str:
    """The whole of docs/benchmarks.md."""
    return "\n".join(
        (
            "# Benchmarks",
            "",
            f"Written by `./scripts/bench --write --rounds {rounds}` on {on:%Y-%m-%d}. Everything here, the plot too,",
            "is of that one run. What is compared was measured in turns, round by round. Machines differ and are",
            "noisy, so only the ratios mean anything; each is the median of its rounds, with the lowest and the",
            "highest.",
            "",
            f"![Each ratio beside its goal]({PLOT.relative_to(PAGE.parent)})",
            "",
            "## Ratios",
            "",
            *_table(("ratio", "what over what", "median", "spread", "goal", ""), _ratios(figures)),
            "",
            "## Rates",
            "",
            *_table(("what", "median", "lowest", "highest"), _rates(figures)),
            "",
            "## The machine",
            "",
            *_table(("", ""), figures.facts.items()),
            "",
            "## How it was measured",
            "",
            *_parts(parts),
        )
    )


def _ratios(figures: Figures) -> Iterator[Sequence[str]]:
    for name, ratio in figures.ratios.items():
        spread = f"{number(min(ratio.rounds))} to {number(max(ratio.rounds))}"
        what = f"{ratio.of} / {ratio.to}"
        yield f"`{name}`", what, number(ratio.value), spread, ratio.wanted, _verdict(ratio)
    for name, reason in figures.missing.items():
        yield f"`{name}`", reason, "", "", "", "**not measured**"


def _verdict(ratio: Ratio) -> str:
    if ratio.reached is None:
        return ""
    return "reached" if ratio.reached else "**not reached**"


def _rates(figures: Figures) -> Iterator[Sequence[str]]:
    for name, rounds in figures.rates.items():
        yield name, number(median(rounds)), number(min(rounds)), number(max(rounds))


def _parts(parts: Mapping[str, str]) -> Iterator[str]:
    for name, said in parts.items():
        yield f"**{name}.** {said.strip()}"
        yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def number(value: float) -> str:
    """With as many digits as mean something: 1,234 or 12.3 or 0.45."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
