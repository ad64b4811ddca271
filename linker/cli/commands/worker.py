"""Attending what is due: `sweep` once, `worker` until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.context import settings
from linker.cli.exit_codes import DONE, in_command_line_words
from linker.cli.linker_context import with_linker
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.database.urls import parse_url, redacted
from linker.engine.sweep import Sweep
from linker.errors import SchemaMismatch, StoreUnavailable, TryAgain
from linker.event_log import log
from linker.linker import SCHEMA_LOOK_SECONDS, Linker
from linker.version import from_extra, version
from states.table import LAW

app = typer.Typer()


@app.command()
def sweep(as_json: Json = False) -> int:
    """Attend everything that is due, once."""
    output = Output(as_json)
    started = time.monotonic()
    with output.busy("Attending what is due …"):
        swept = with_linker(lambda linker: linker.attend_due())
    counts = {outcome: count for outcome, count in asdict(swept).items() if count and outcome != "claimed"}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing to do"
    line = Text(f"{swept.claimed} claimed: {told} ({time.monotonic() - started:.1f} s)")
    output.result(asdict(swept), line if swept.claimed else Text("nothing was due", style="quiet"))
    return DONE


class Worker(Linker):
    """A linker that says in the log what its heartbeat did."""

    kind = "worker"

    async def attend_due(self, only: Sequence[str] | None = None) -> Sweep:
        """One pass over what is due; logged if anything was."""
        started = time.monotonic()
        swept = await super().attend_due(only)
        if swept.claimed:
            log.info("sweep.finished", **asdict(swept), seconds=round(time.monotonic() - started, 3))
        return swept


MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="Serve numbers for Prometheus on this port; 0 picks a free one.", metavar="PORT"
    ),
]
MetricsHost = Annotated[str, typer.Option(help="The address that the numbers are served on.", metavar="ADDRESS")]


@app.command()
def worker(metrics_port: MetricsPort = None, metrics_host: MetricsHost = "127.0.0.1") -> int:
    """Keep the heartbeat going until SIGTERM or SIGINT; what is in flight is finished first.

    A second signal ends it at once: what it was doing is picked up by the next worker.
    """
    given = settings()
    logging_setup.configure(given.log_level)
    if metrics_port is None:
        asyncio.run(_work(Worker(given)))
        return DONE
    metrics_server = from_extra("metrics", "linker.cli.metrics_server")
    working: list[Worker] = []
    with metrics_server.served(metrics_host, metrics_port, lambda: any(each.is_alive for each in working)) as numbers:
        working.append(Worker(given, observer=numbers.observer))
        asyncio.run(_work(working[0], metrics=numbers.url))
    return DONE


async def _work(linker: Worker, **more: str) -> None:
    """Work until told to stop. While the database is not of this version it waits: somebody upgrades it."""
    stop = asyncio.Event()
    with _set_by_signals(stop):
        while not stop.is_set():
            try:
                async with linker:
                    await _work_while_it_fits(linker, stop, more)
            except (SchemaMismatch, TryAgain) as error:
                if isinstance(error, TryAgain) and error.reason != "leases_alive":
                    raise
                words, hint = in_command_line_words(error)
                said = " ".join(filter(None, [str(words), hint]))
                log.warning("worker.waiting", code=error.code, reason=error.reason, said=said)
                await _until(stop, WAIT_SECONDS)


#: How often a worker that waits looks whether the database is of its version at last.
WAIT_SECONDS = 5.0


async def _work_while_it_fits(linker: Worker, stop: asyncio.Event, more: Mapping[str, str]) -> None:
    """Keep the heartbeat going until told to stop. Raises SchemaMismatch once the database is beyond this program."""
    given = linker.settings
    log.info(
        "worker.started",
        version=version(),
        worker_id=linker.worker_id,
        database=redacted(parse_url(given.database_url)),
        workable=given.workable_url,
        webhook=linker.posts_to,
        law=LAW,
        sweep_seconds=given.sweep_seconds,
        concurrency=given.concurrency,
        **more,
    )
    async with linker.heartbeat():
        while not stop.is_set():
            await _until(stop, SCHEMA_LOOK_SECONDS)
            if not stop.is_set():
                with suppress(StoreUnavailable):
                    await linker.check_schema()
        log.info("worker.stopping", worker_id=linker.worker_id)
    log.info("worker.stopped", worker_id=linker.worker_id)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait for so long, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


#: Supervisors tell a process and then its whole group; within this time that is one signal.
SAME_SIGNAL_SECONDS = 0.3


@contextmanager
def _set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT; end the process at the second."""
    loop = asyncio.get_running_loop()
    first: list[float] = []

    def told(number: int) -> None:
        if stop.is_set() and loop.time() - first[0] < SAME_SIGNAL_SECONDS:
            return
        if stop.is_set():
            log.warning("worker.killed", signal=signal.Signals(number).name)
            os._exit(128 + number)
        first.append(loop.time())
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
