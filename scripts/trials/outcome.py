"""What a trial counted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """How many were tried, how many things were lost, and what went wrong, one line each."""

    tried: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    #: The highest figure that was seen, with its unit, where the trial measures one.
    most: str = ""
