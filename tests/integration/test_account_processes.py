"""One budget over real processes: workers and hosts of both kinds, at full speed against a Workable with its limit."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter, defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from linker import Linker, Settings, new_key
from linker.sandbox import EVERYWHERE, Fault, Limit, World, running
from tests.integration.storehouse import House

ACCOUNTS = ("acme", "globex", "initech", "umbrella")
#: How long hosts call: longer than one window of Workable's.
SECONDS = 10.8
#: Calls are counted when they are taken, and seen when they arrive: so much nearer may they come to one another.
WINDOW = 10.0 - 1.0

ASYNC_HOST = """
import asyncio, sys, time
from linker import Linker, TryAgain

async def call(linker, connection_id, begins, ends):
    made = 0
    await asyncio.sleep(begins)
    while (left := ends - time.monotonic()) > 0:
        try:
            async with linker.client(connection_id, wait=left) as workable:
                (await workable.get("jobs")).raise_for_status()
        except TryAgain:
            return made
        made += 1
    return made

async def main(seconds):
    async with Linker() as linker:
        print("ready", flush=True)
        connections = sys.stdin.readline().split()
        ends, half = time.monotonic() + float(seconds), len(connections) // 2
        calling = (call(linker, one, 1.0 * (number >= half), ends) for number, one in enumerate(connections))
        print(sum(await asyncio.gather(*calling)))

asyncio.run(main(sys.argv[1]))
"""

BLOCKING_HOST = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from linker import Linker, TryAgain, blocking

def call(linker, connection_id, begins, ends):
    made = 0
    time.sleep(begins)
    while (left := ends - time.monotonic()) > 0:
        try:
            with linker.client(connection_id, wait=left) as workable:
                workable.get("jobs").raise_for_status()
        except TryAgain:
            return made
        made += 1
    return made

with blocking(Linker()) as linker, ThreadPoolExecutor(8) as threads:
    print("ready", flush=True)
    connections = sys.stdin.readline().split()
    ends, half = time.monotonic() + float(sys.argv[1]), len(connections) // 2
    later = [1.0 * (number >= half) for number in range(len(connections))]
    calling = [threads.submit(call, linker, one, begins, ends) for one, begins in zip(connections, later)]
    print(sum(each.result() for each in calling))
"""


async def connections_of(world: World, settings: Settings) -> list[str]:
    """Of each account one that is linked and three that wait for their recruiters; gives the ids of those linked."""
    linked = []
    async with Linker(settings) as linker:
        for account in ACCOUNTS:
            world.add_account(account, name=account)
            world.add_token(account, f"token-of-{account}", scopes={"r_jobs"})
            for number in range(4):
                one = await linker.create(owner=f"{account}-{number}")
                one = await linker.submit_token(one.id, subdomain=account, token=f"token-of-{account}")
                assert one.recruiter is not None, one.problem
                if number:
                    await linker.confirm_recruiter(one.id)
                else:
                    world.add_recruiter(account, name=one.recruiter.name, email=one.recruiter.email)
                    linked.append((await linker.confirm_recruiter(one.id)).id)
    return linked


async def as_if_long_ago(house: House) -> None:
    """What setting up asked is not counted any more; what waits is due soon, when all processes are there."""

    def stored(at: datetime) -> Any:
        return f"{at:%Y-%m-%d %H:%M:%S.%f}" if house.database.is_sqlite else at

    now = datetime.now(UTC)
    await house.sql("DELETE FROM linker_rate_limit")
    await house.sql("UPDATE linker_connection SET updated_at = :at", at=stored(now - timedelta(hours=1)))
    due = "UPDATE linker_connection SET due_at = :at WHERE state = 'awaiting_recruiter'"
    await house.sql(due, at=stored(now + timedelta(seconds=1)))


def most(times: list[float]) -> int:
    """The most of these in any window."""
    return max(sum(start <= at < start + WINDOW for at in times) for start in times)


def ended_for_certain(process: Process) -> None:
    """Leave no process behind where a test fails."""
    if process.returncode is None:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_processes_at_full_speed_are_never_throttled(shared_house: House) -> None:
    """Two workers, a host with an event loop and one without: no 429, the shares are kept, and each has its part."""
    world, key = World(limit=Limit.off(), log_length=10_000), new_key()
    with running(world) as url, ExitStack() as at_the_end:
        environment = os.environ | {
            "LINKER_DATABASE_URL": shared_house.url,
            "LINKER_SECRET_KEYS": key.get_secret_value(),
            "LINKER_WORKABLE_URL": url,
            "LINKER_SWEEP_SECONDS": "0.2",
            "LINKER_POLL_FIRST": "1",
            "LINKER_CONCURRENCY": "1",  # so that whoever comes first leaves something for the other
            "LINKER_BATCH_SIZE": "1",
        }

        async def started(*arguments: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            at_the_end.callback(ended_for_certain, process)
            return process

        hosts = [await started("-c", program, str(SECONDS)) for program in (ASYNC_HOST, BLOCKING_HOST)]
        settings = Settings(database_url=shared_house.url, secret_keys=(key,), workable_url=url)
        linked = await connections_of(world, settings)
        workers = [await started("-m", "linker", "worker") for _ in range(2)]
        for waiting, word in [
            *((host.stdout, b"ready") for host in hosts),
            *((one.stderr, b"started") for one in workers),
        ]:
            assert waiting is not None
            assert word in await waiting.readline()
        world.fail(EVERYWHERE, Fault.SLOW, seconds=0.1)
        await as_if_long_ago(shared_house)
        world.forget_requests()
        world.set_limit(Limit())
        orders = (" ".join(linked), " ".join(reversed(linked)))
        calling = (host.communicate(f"{order}\n".encode()) for host, order in zip(hosts, orders, strict=True))
        ended = await asyncio.gather(*calling)
        for worker in workers:
            worker.terminate()
        ended += await asyncio.gather(*(worker.communicate() for worker in workers))
    calls = [int(said or 0) for said, _ in ended[:2]]
    logs = [errors.decode() for _, errors in ended[2:]]
    assert [one.returncode for one in (*hosts, *workers)] == [0] * 4, ended

    assert Counter(entry.status for entry in world.log) == {200: len(world.log)}, "nobody is throttled"
    by_hosts, by_all = defaultdict(list), defaultdict(list)
    for entry in world.log:
        by_all[entry.subdomain].append(entry.at)
        if entry.path == "/jobs":
            by_hosts[entry.subdomain].append(entry.at)
    assert set(by_hosts) == set(by_all) == set(ACCOUNTS)
    assert max(map(most, by_hosts.values())) == 4
    assert max(map(most, by_all.values())) <= 6
    assert sum(calls) == sum(map(len, by_hosts.values())) > 4 * len(ACCOUNTS)
    assert min(calls) >= len(ACCOUNTS), "each host has its part"
    swept = [[json.loads(line) for line in log.splitlines() if "sweep.finished" in line] for log in logs]
    claimed = [sum(one["claimed"] for one in by_worker) for by_worker in swept]
    assert min(claimed) >= 1, "each worker has its part"
    assert sum(map(len, by_all.values())) - sum(calls) >= 2 * len(ACCOUNTS), "no host keeps workers from looking"
