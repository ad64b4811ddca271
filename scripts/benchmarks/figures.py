"""What was measured: rates by name, and the ratios between them. Only ratios of one run mean anything."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One rate over another, round by round; `goal` is the least, or with `at_most` the most, that we want."""

    rounds: list[float]
    goal: float | None = None
    at_most: bool = False

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(frozen=True)
class Figures:
    """Collects what the measurements find."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)

    def add(self, name: str, rate: float) -> None:
        """Add one round of a rate."""
        self.rates.setdefault(name, []).append(rate)

    def ratio(self, name: str, of: str, to: str, *, goal: float | None = None, at_most: bool = False) -> None:
        """Add the ratio between two rates that were measured in turns."""
        rounds = [one / other for one, other in zip(self.rates[of], self.rates[to], strict=True)]
        self.ratios[name] = Ratio(rounds=rounds, goal=goal, at_most=at_most)

    def as_json(self) -> dict[str, Any]:
        """The machine, the ratios and the rates: medians."""
        return {
            "machine": machine(),
            "ratios": {name: round(ratio.value, 3) for name, ratio in self.ratios.items()},
            "rates": {name: round(median(rounds), 1) for name, rounds in self.rates.items()},
        }

    def show(self, console: Console) -> None:
        """Print the tables for people."""
        rates = Table("rate", "median", "from", "to", title="Rates", title_justify="left")
        for name, rounds in self.rates.items():
            rates.add_row(name, *(f"{value:,.1f}" for value in (median(rounds), min(rounds), max(rounds))))
        ratios = Table("ratio", "median", "from", "to", "goal", title="Ratios", title_justify="left")
        for name, ratio in self.ratios.items():
            numbers = (f"{value:.2f}" for value in (ratio.value, min(ratio.rounds), max(ratio.rounds)))
            ratios.add_row(name, *numbers, _goal(ratio))
        console.print(machine())
        console.print(rates)
        console.print(ratios)


def _goal(ratio: Ratio) -> str:
    if ratio.goal is None:
        return ""
    mark = "[green]reached[/]" if ratio.reached else "[red]not reached[/]"
    return f"{'≤' if ratio.at_most else '≥'} {ratio.goal} {mark}"


def machine() -> str:
    """What the figures were taken on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
