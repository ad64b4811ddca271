"""An operator who advances many connections at once, while a worker attends what is due at the same accounts."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from datetime import timedelta
from tempfile import TemporaryDirectory

from linker import Linker, Settings
from linker.encryption import TokenCipher
from linker.testing import World, running
from scripts.benchmarks import local
from scripts.trials.outcome import Outcome
from states.connection import Connection

#: How many are begun in a second.
RATE = 20.0
#: For how long the operator's are waiting, and none of the others.
LONG = timedelta(days=3)
#: The pauses between two are spread, so a run may take a little less than its rate says; it must not take half as long
#: again, but for what a busy machine takes away.
SPREAD, BUSY_SECONDS = 0.15, 5.0


async def run(most: int) -> Outcome:
    """Advance so many connections by one command, and look at what else was due at their accounts."""
    outcome, world = Outcome(), World(log_length=most * 20)
    for number in range(most):
        world.add_account(f"bench{number}", name=f"Bench {number}")
        world.add_token(f"bench{number}", local.token_of(number).get_secret_value())
    with TemporaryDirectory() as folder, running(world) as url:
        settings = local.settings(f"sqlite:///{folder}/linker.db", url)

        def waiting(number: int, sealer: TokenCipher) -> Connection:
            one = replace(local.waiting(number % most, sealer), owner=f"customer-{number}")
            assert one.recruiter is not None
            one = replace(one, recruiter=replace(one.recruiter, email=f"ats+{number:010d}@inbound.example.com"))
            if number >= most:
                return one
            return replace(one, state_since=local.NOW - LONG, due_at=local.NOW + timedelta(days=1))

        local.fill(settings.database_url, settings, 2 * most, waiting)
        environment = {
            **os.environ,
            "LINKER_DATABASE_URL": settings.database_url,
            "LINKER_SECRET_KEYS": settings.secret_keys[0].get_secret_value(),
            "LINKER_WORKABLE_URL": url,
            "LINKER_SWEEP_SECONDS": "1",
        }
        worker = await command("worker", environment)
        while not world.requests():  # noqa: ASYNC110 - it is another process that makes the first
            await asyncio.sleep(0.05)
        first, took = await advanced(most, environment, outcome)
        unseen = await left_alone(settings)
        worker.terminate()
        await worker.wait()
    refused = sum(each.status == 429 for each in world.requests())
    if refused:
        outcome.wrong.append(f"429 {refused} times")
    if not (1 - SPREAD) * most / RATE < took < 1.5 * most / RATE + BUSY_SECONDS:
        outcome.wrong.append(f"took {took:.1f} s at {RATE:.0f} a second")
    if unseen:
        outcome.wrong.append(f"{unseen} of {most} that were due were not looked at meanwhile")
    outcome.most = f"{first:.1f} s to the first"
    return outcome


async def command(words: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """One of our commands, in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "linker", *words.split()),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def advanced(most: int, environment: dict[str, str], outcome: Outcome) -> tuple[float, float]:
    """Advance the operator's; gives the seconds to the first outcome, and from there to the last."""
    began = time.monotonic()
    advance = await command(f"advance --older-than 2d --reason trial --yes={most} --rate {RATE}", environment)
    assert advance.stdout is not None
    first = 0.0
    while line := (await advance.stdout.readline()).decode():
        first = first or time.monotonic() - began
        outcome.tried += "  waiting  " in line
    outcome.lost += most - outcome.tried
    await advance.wait()
    return first, time.monotonic() - began - first


async def left_alone(settings: Settings) -> int:
    """How many of the worker's were not looked at while the operator's were advanced."""
    async with Linker(settings) as linker:
        return sum(each.last_look is None for each in await linker.find(newer_than="2d"))
