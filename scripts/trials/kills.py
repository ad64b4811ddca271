"""Workers that are killed while they link connections, and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from linker import ConnectionState, Linker, Settings, new_key, new_webhook_secret
from linker.testing import Limit, World, running
from scripts.trials.outcome import Outcome
from scripts.trials.receivers import Receiver, listening

WORKER = """
import asyncio
from linker import Linker

async def main():
    async with Linker() as linker, linker.heartbeat():
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
CONNECTIONS = 4
#: A worker is killed within this time of its first beat.
WITHIN_SECONDS = 1.0
PATIENCE_SECONDS = 60.0


async def run(most: int) -> Outcome:
    """Kill so many workers."""
    outcome, dice, world = Outcome(), random.Random(14), World(limit=Limit.off())
    receiver = Receiver((b"", "close"))
    receiver.is_mended = True
    with tempfile.TemporaryDirectory() as folder, running(world) as workable_url:
        async with listening(receiver) as hook:
            given: dict[str, Any] = {
                "database_url": f"sqlite:///{folder}/linker.db",
                "secret_keys": new_key().get_secret_value(),
                "workable_url": workable_url,
                "webhook_url": hook,
                "webhook_secret": new_webhook_secret().get_secret_value(),
                "lease_seconds": "2",
                "poll_first": "0.3",
                "sweep_seconds": "0.2",
            }
            settings = Settings(**given)
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            environment |= {f"LINKER_{name.upper()}": value for name, value in given.items()}
            ids: list[str] = []
            for _ in range(most):
                ids += await waiting(settings, world, len(ids))
                worker = await started(environment)
                await asyncio.sleep(dice.random() * WITHIN_SECONDS)
                worker.send_signal(signal.SIGKILL)
                await worker.wait()
                outcome.tried += 1
            worker = await started(environment)
            await ended(settings, receiver, ids, outcome)
            worker.terminate()
            await worker.wait()
    return outcome


async def waiting(settings: Settings, world: World, number: int) -> list[str]:
    """Some more connections whose recruiters were added just now."""
    ids = []
    async with Linker(settings) as linker:
        for each in range(number, number + CONNECTIONS):
            subdomain, token = f"acme{each}", f"a-good-token-of-acme-{each}"
            world.add_account(subdomain, name=f"Acme {each}")
            world.add_token(subdomain, token)
            connection = await linker.create(owner=f"owner-{each}")
            connection = await linker.submit_token(connection.id, subdomain=subdomain, token=token)
            assert connection.recruiter is not None
            world.add_recruiter(subdomain, name=connection.recruiter.name, email=connection.recruiter.email)
            ids.append(connection.id)
    return ids


async def started(environment: dict[str, str]) -> asyncio.subprocess.Process:
    """A worker whose heart beats."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert worker.stdout is not None
    await worker.stdout.readline()
    return worker


async def ended(settings: Settings, receiver: Receiver, ids: list[str], outcome: Outcome) -> None:
    """Wait until all is done, then count what is missing."""
    async with Linker(settings) as linker:
        for _ in range(round(PATIENCE_SECONDS / 0.5)):
            linked = {each.id for each in await linker.find(state=ConnectionState.LINKED)}
            told = {this for this, kind in receiver.got if kind == "connection.linked"}
            if linked >= set(ids) <= told:
                break
            await asyncio.sleep(0.5)
        outcome.lost += len(set(ids) - linked) + len(set(ids) - told)
        for each in ids:
            steps = await linker.history(each)
            if [step.seq for step in steps] != list(range(1, len(steps) + 1)):
                outcome.wrong.append(f"{each}: steps with a gap")
            if sum(step.event == "recruiter_found" for step in steps) > 1:
                outcome.wrong.append(f"{each}: linked twice")
