"""What `scripts/reliability` runs: trials, each of which counts what it tried and what was lost or wrong."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.trials import answers, canaries, clocks, deeds, desk, files, inputs, kills, loops, receivers
from scripts.trials.outcome import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


@dataclass(frozen=True)
class Trial:
    """A part of the page: what is tried, and how it is done."""

    run: Callable[[int], Awaitable[Outcome]]
    #: How many are tried at most: in a whole run, and in a quick one.
    whole: int
    quick: int
    said: str


TRIALS = {
    "answers": Trial(
        answers.run,
        3_000,
        60,
        "Each is given to a token that waits to be verified and to a linked connection: every status with every kind "
        "of body and of header. Lost is a token that no definite refusal of Workable's own ended; wrong is a "
        "link that a single answer ended, or a fault of ours.",
    ),
    "inputs": Trial(
        inputs.run,
        3_000,
        80,
        "Each is given as an owner, a key, an actor, a reason, metadata, a subdomain, a token, a date, an id and as "
        "arguments of `find`. Wrong is whatever is neither taken nor refused with the field's name, a refusal that "
        "repeats a token, and a connection that changed by it.",
    ),
    "receivers": Trial(
        receivers.run,
        40,
        3,
        "Each takes a connection's webhooks in its way (it hangs, lies, breaks off, redirects, floods, …) and is "
        "mended later. Lost is an announcement that did not come then; wrong is one that came out of order.",
    ),
    "deeds": Trial(
        deeds.run,
        6_000,
        200,
        "People, operators, sweeps, outages and clocks in any order, over a Workable that says anything. Lost is a "
        "token; wrong are steps with a gap, a state that is not the last step's, and a row that the law does not know.",
    ),
    "desk": Trial(
        desk.run,
        1_000,
        40,
        "`linker advance` by one command, at 20 a second, at a Workable with its limits on, while a worker attends as "
        "many others at the same accounts. At most is the time to the first outcome. Lost is one without an outcome; "
        "wrong is an answer of 429, another rate, and what was due to the worker and not looked at meanwhile.",
    ),
    "kills": Trial(
        kills.run,
        12,
        2,
        "A worker is killed with SIGKILL at a moment of chance while it links connections, and started again. Lost is "
        "a connection that is not linked in the end, and an announcement that never came; wrong are gaps in histories.",
    ),
    "clocks": Trial(
        clocks.run,
        1_000,
        30,
        "A clock jumps by ten seconds to fifty years, ahead or back, while a linked and a waiting connection are "
        "attended and a handler fails; then it is right again. Lost is a connection that is not linked, looked at and "
        "announced within 56 hours, unless its time was over by the wrong clock; wrong are gaps in histories.",
    ),
    "loops": Trial(
        loops.run,
        len(loops.ANSWERS),
        3,
        "An answer of the longest length that is read, each made to take as long as can be to read. At most is the "
        "processor's time for which one held the event loop between two of its turns; wrong is one that was taken for "
        "another answer, and more than 50 ms.",
    ),
    "files": Trial(
        files.run,
        3_000,
        300,
        "A look at a host of its own that answers in the way of a hostile receiver. At most is how many files were "
        "open in the worker's process. Lost is a connection that ended; wrong are more than 200 files, and one that is "
        "open after the end.",
    ),
    "canaries": Trial(
        canaries.run,
        20_000,
        1_000,
        "A place that was searched for a token: lines of logs at DEBUG, files of the database, errors with the locals "
        "of all frames, JSON, what handlers are told, and the `repr` of every object of ours, after odd answers to it. "
        "Lost and wrong is a place that holds a piece of the token, or of the key that seals it.",
    ),
}


def page(outcomes: dict[str, Outcome], seconds: float) -> str:
    """The page of the docs."""
    lines = [
        "# Reliability",
        "",
        f"Written by `./scripts/reliability --write` on {datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.0f} minutes. "
        "What is tried is made by",
        "rules, not chosen; a test tries a part of it at each change.",
        "",
        "| tried | how many | lost | wrong | at most |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {each.tried:,} | {each.lost} | {len(each.wrong)} | {each.most} |"
            for name, each in outcomes.items()
        ),
        "",
    ]
    for name in outcomes:
        lines += [f"**{name.capitalize()}**: {TRIALS[name].said}", ""]
    return "\n".join(lines)


async def run(names: list[str], *, quick: bool) -> dict[str, Outcome]:
    """Run these trials, one after another."""
    outcomes = {}
    for name in names:
        trial, began = TRIALS[name], time.monotonic()
        outcomes[name] = outcome = await trial.run(trial.quick if quick else trial.whole)
        took = time.monotonic() - began
        most = f", at most {outcome.most}" if outcome.most else ""
        print(
            f"{name}: {outcome.tried:,} tried, {outcome.lost} lost, {len(outcome.wrong)} wrong{most}, in {took:.0f} s",
            flush=True,
        )
        for each in outcome.wrong[:10]:
            print(f"  {each}")
    return outcomes


def main() -> int:
    """Run what is asked for; ends with 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="scripts/reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *TRIALS], help="only these")
    parser.add_argument("--quick", action="store_true", help="a part of each")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    given = parser.parse_args()
    began = time.monotonic()
    logging.disable(logging.CRITICAL)  # what is tried is told of by its outcome
    outcomes = asyncio.run(run(given.parts or list(TRIALS), quick=given.quick))
    if given.write:
        PAGE.write_text(page(outcomes, time.monotonic() - began), encoding="utf-8")
    return int(any(each.lost or each.wrong for each in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
