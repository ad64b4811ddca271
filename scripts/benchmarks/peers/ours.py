"""The three steps as our own sweeps take them, over a scripted Workable: no network, and all else as it is.

The connections have their tokens before the clock starts. The first pass verifies each token and issues each recruiter,
the second finds each recruiter; the program's clock is set forward between the two, because a recruiter is not looked
for at once. Each transition writes the connection, its step in the history and its announcement.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import replace

import psycopg
import structlog

from linker import Linker, Settings
from linker.database.database import Database
from linker.encryption import TokenCipher
from linker.engine.ports import Randomness
from linker.persistence.schema import upgrade
from linker.testing import ScriptedWorkable, SettableClock
from scripts.benchmarks import local
from scripts.benchmarks.peers import contract
from states.connection import Connection, ConnectionState

#: Not opened by anybody: the scripted Workable takes its place.
NOWHERE = "http://127.0.0.1:9/{subdomain}"

#: The steps of the law that the database holds, and how many commits wrote them: each commit has a number of its own.
COUNT = "SELECT count(*), count(DISTINCT xmin::text) FROM linker_step"


def submitted(number: int, sealer: TokenCipher) -> Connection:
    """A connection whose customer has just given a subdomain and a token."""
    waiting = local.waiting(number, sealer)
    return replace(
        waiting,
        state=ConnectionState.AWAITING_TOKEN,
        account=None,
        recruiter=None,
        token=None,
        candidate=waiting.token,
        last_ok_at=None,
    )


def prepared(url: str, connections: int) -> Settings:
    """Fill an empty database with connections whose tokens were just given; gives the settings."""
    settings = local.settings(url, NOWHERE)
    database = Database(settings.database_url)
    upgrade(database)
    database.close()
    local.fill(settings.database_url, settings, connections, submitted)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return settings


async def sweeps(url: str, connections: int) -> float:
    """Take every connection through its three steps; gives the seconds."""
    settings = prepared(url, connections)
    workable, clock, numbers = ScriptedWorkable(), SettableClock(local.NOW), itertools.count()
    for number in range(connections):
        workable.add_recruiter(settings.recruiter_email.replace("{key}", str(number)))
    randomness = Randomness(key=lambda: str(next(numbers)))
    async with Linker(settings, workable=workable, clock=clock, randomness=randomness) as linker:
        began = time.perf_counter()
        await linker.attend_due()
        clock.advance(hours=1)
        await linker.attend_due()
        seconds = time.perf_counter() - began
        assert len(await linker.find(state=ConnectionState.LINKED)) == connections
    return seconds


def written(url: str) -> tuple[int, int]:
    """How many steps the database holds, and how many commits wrote them."""
    with psycopg.connect(url) as connection:
        steps, commits = connection.execute(COUNT).fetchall()[0]
    return steps, commits


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # as for the others
    asked = contract.asked()
    seconds = asyncio.run(sweeps(asked.url, asked.connections))
    steps, commits = written(asked.url)
    contract.report(
        "workable-linker", persisted=steps, connections=asked.connections, seconds=seconds, batch=steps / commits
    )
