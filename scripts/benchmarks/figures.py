"""What was measured: rates by name, and the ratios between them. Only ratios of one run mean anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.benchmarks.machine import machine


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A rate over another one or a number, round by round; `goal` is the least, or with `at_most` the most, wanted."""

    #: The name of the rate, and what it is compared with: the name of another one, or a number.
    of: str
    to: str | float
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

    @property
    def wanted(self) -> str:
        """The goal as people write it; empty without one."""
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g}"


@dataclass(frozen=True)
class Figures:
    """Collects what the measurements find."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    #: Ratios that could not be measured, with the reason.
    missing: dict[str, str] = field(default_factory=dict)
    #: What they were taken on: the machine, and the versions and settings of what took part.
    facts: dict[str, str] = field(default_factory=machine)

    def add(self, name: str, rate: float) -> None:
        """Add one round of a rate."""
        self.rates.setdefault(name, []).append(rate)

    def ratio(self, name: str, of: str, to: str | float, *, goal: float | None = None, at_most: bool = False) -> None:
        """Add the ratio of a rate to another one that was measured in turns with it, or to a number."""
        rates = self.rates[of]
        others = self.rates[to] if isinstance(to, str) else [to] * len(rates)
        rounds = [one / other for one, other in zip(rates, others, strict=True)]
        self.ratios[name] = Ratio(of=of, to=to, rounds=rounds, goal=goal, at_most=at_most)

    def miss(self, name: str, reason: str) -> None:
        """Say why a ratio is missing."""
        self.missing[name] = reason

    def fact(self, name: str, value: str) -> None:
        """Add the version or the setting of something that took part."""
        self.facts[name] = value

    def as_json(self) -> dict[str, Any]:
        """The machine, the ratios and the rates: medians; and what is missing."""
        return {
            "machine": self.facts,
            "ratios": {name: round(ratio.value, 3) for name, ratio in self.ratios.items()},
            "rates": {name: round(median(rounds), 1) for name, rounds in self.rates.items()},
            "missing": self.missing,
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
        console.print(", ".join(f"{name}: {value}" for name, value in self.facts.items()))
        console.print(rates)
        console.print(ratios)
        for name, reason in self.missing.items():
            console.print(f"missing: {name}: {reason}", style="red", markup=False)


def _goal(ratio: Ratio) -> str:
    mark = "[green]reached[/]" if ratio.reached else "[red]not reached[/]"
    return f"{ratio.wanted} {mark}" if ratio.wanted else ""
