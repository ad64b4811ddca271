"""Hostile hosts: each customer's Workable answers in a way of its own, and the worker's open files are counted."""

from __future__ import annotations

import asyncio
import gc
import zlib
from contextlib import suppress
from datetime import timedelta
from tempfile import TemporaryDirectory

from linker import ConnectionState, Linker
from scripts.benchmarks import local
from scripts.benchmarks.hosts import MOST_FILES, hosts, most_files, open_files
from scripts.benchmarks.sweep import GoingOn
from scripts.trials.outcome import Outcome
from scripts.trials.receivers import WAYS, say

PASSES = 3


async def in_its_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as hostile receivers do, every host always in the same way."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = await reader.readuntil(b"\r\n\r\n")
        host = head.lower().partition(b"\r\nhost:")[2].partition(b"\r\n")[0]
        await say(writer, list(WAYS.values())[zlib.crc32(host) % len(WAYS)])
    writer.close()


async def run(most: int) -> Outcome:
    """Look at so many connections, a third of them in each pass."""
    outcome, clock = Outcome(), GoingOn()
    with TemporaryDirectory() as folder, hosts(in_its_way) as url:
        database_url = f"sqlite:///{folder}/linker.db"
        settings = local.settings(database_url, url)
        before, highest = open_files(), 0
        local.fill(database_url, settings, most // PASSES)
        async with Linker(settings, clock=clock) as linker:
            for _ in range(PASSES):
                sweep = asyncio.create_task(linker.attend_due())
                highest = max(highest, await most_files(sweep))
                outcome.tried += (await sweep).claimed
                clock.go_on(timedelta(hours=6))
            waiting = await linker.find(state=ConnectionState.AWAITING_RECRUITER)
            outcome.lost = most // PASSES - len(waiting)
        gc.collect()
        if highest > MOST_FILES:
            outcome.wrong.append(f"{highest} files were open")
        if (left := open_files()) > before:
            outcome.wrong.append(f"{left} files are open after the end, {before} were before")
    outcome.most = f"{highest} files"
    return outcome
