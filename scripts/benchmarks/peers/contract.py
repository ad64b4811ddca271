"""What every program of the comparison takes and prints. Needs nothing but Python: two environments use it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

#: What is persisted for each connection: token accepted, recruiter prepared, recruiter found.
STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    #: An empty PostgreSQL database, as libpq takes it.
    url: str
    #: How many connections go through the three steps.
    connections: int
    #: How many transitions are written in one commit, by those who are told.
    batch: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a program found: `transitions` were persisted in `seconds`, and counted in the database afterwards."""

    name: str
    version: str
    transitions: int
    seconds: float
    #: How many transitions shared a commit, on average.
    batch: float = 1.0
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", self.transitions / self.seconds)


def asked(arguments: Sequence[str] | None = None) -> Asked:
    """Read the command line: URL, number of connections, and how many transitions share a commit."""
    parser = argparse.ArgumentParser(description="Print the rate of persisted transitions as one line of JSON.")
    parser.add_argument("url", help="an empty PostgreSQL database: postgresql://user:password@host/name")
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--batch", type=int, default=50, help="transitions in one commit, for hand-written SQL")
    given = parser.parse_args(arguments)
    return Asked(url=given.url, connections=given.connections, batch=given.batch)


def report(package: str, *, persisted: int, connections: int, seconds: float, batch: float = 1.0) -> None:
    """Print the line, once the database holds what it should.

    Args:
        package: the name of the installed package that was measured.
        persisted: how many transitions the database says it holds.
        connections: how many connections went through all their steps.
        seconds: how long that took.
        batch: how many transitions shared a commit.
    """
    assert persisted == connections * STEPS, f"{persisted} transitions persisted, {connections * STEPS} expected"
    found = Measured(name=package, version=version(package), transitions=persisted, seconds=seconds, batch=batch)
    print(json.dumps(asdict(found)), flush=True)
