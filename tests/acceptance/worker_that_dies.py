"""Processes that are killed at a chosen point: the same that `linker worker` and the host's commands run.

`python -m tests.acceptance.worker_that_dies` imports everything once, then forks a process for each job that it reads
from its standard input, one JSON object in a line, and answers how that process ended. From outside, and nowhere in the
library, the points are wrapped at which a process can lose its power: before the first statement, before and after the
commit of each transaction that writes, before and after each call to Workable and each call of a handler. They are
counted; at `die_at` the process kills itself with SIGKILL.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import aiohttp
import httpx
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine.default import DefaultDialect

from linker import Announcement, Linker, Settings, selection
from linker.cli.commands import worker
from linker.database.database import Database
from linker.database.statements import ExecutemanyStatement
from linker.engine.ports import SystemClock
from linker.testing import linker_in_memory
from states.history import ANNOUNCEMENTS

NOBODYS = SecretStr("a-token-that-nobody-made")

Job = dict[str, Any]


class OffsetClock:
    """The machine's clock, some seconds ahead: leases of the dead run out without anybody waiting for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        """The time now: aware, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


class Points:
    """The points that this process has reached; each is written down before anything else happens there."""

    def __init__(self, die_at: int | None, witness: str) -> None:
        self._die_at = die_at
        self._witness = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._lock = threading.Lock()
        self._reached = 0
        #: Is set once there was one.
        self.first = threading.Event()

    def reached(self, name: str) -> None:
        """Count a point; die if it is the one."""
        with self._lock:
            self._reached += 1
            self.say({"point": name})
            if self._reached == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        self.first.set()

    def say(self, line: dict[str, Any]) -> None:
        """Write a line for the parent, which finds it however this process ends."""
        os.write(self._witness, json.dumps(line).encode() + b"\n")


WRITES = ("INSERT", "UPDATE", "DELETE")


def watch_transactions(points: Points) -> None:
    """Wrap every transaction that writes, whoever began it: before its first statement, before and after its commit."""
    writing, committing, writes = threading.local(), DefaultDialect.do_commit, ExecutemanyStatement.run

    def write_comes() -> None:
        if not getattr(writing, "now", False):
            points.reached("before a write")
            writing.now = True

    def statement_comes(transaction: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(WRITES):
            write_comes()

    def written(self: ExecutemanyStatement, *given: Any) -> int:
        write_comes()
        return writes(self, *given)

    def rolled_back(transaction: Any) -> None:
        writing.now = False

    def watched(self: DefaultDialect, connection: Any) -> None:
        if not getattr(writing, "now", False):
            committing(self, connection)  # type: ignore[no-untyped-call]
            return
        points.reached("before a commit")
        committing(self, connection)  # type: ignore[no-untyped-call]
        writing.now = False
        points.reached("after a commit")

    event.listen(Engine, "before_cursor_execute", statement_comes)
    event.listen(Engine, "rollback", rolled_back)
    DefaultDialect.do_commit = watched  # type: ignore[method-assign]
    ExecutemanyStatement.run = written  # type: ignore[method-assign, assignment]


def watch_calls(points: Points) -> None:
    """Wrap every call to Workable, where it leaves the process."""
    send = aiohttp.ClientSession._request

    async def watched(self: aiohttp.ClientSession, *given: Any, **named: Any) -> aiohttp.ClientResponse:
        points.reached("before a call")
        response = await send(self, *given, **named)
        points.reached("after a call")
        return response

    aiohttp.ClientSession._request = watched  # type: ignore[method-assign]


def listen(linker: Linker, points: Points) -> None:
    """Register a handler for everything; what it is told is written down for the parent."""

    def handler(announcement: Announcement) -> None:
        points.reached("before a handler")
        told = {"type": announcement.type, "message_id": announcement.message_id}
        points.say({"told": told | {"connection": announcement.connection_id}})
        points.reached("after a handler")

    for name in ANNOUNCEMENTS:
        linker.on(name)(handler)


# the jobs


async def work(linker: Linker, clock: OffsetClock, points: Points, job: Job) -> None:
    """A worker, until nothing is owed; then the clock moves on to the next of the offsets."""
    listen(linker, points)
    async with linker.heartbeat() as heartbeat:
        for clock.seconds in job["offsets"]:
            heartbeat.wake("sweep")
            await until_quiet(job, clock)


async def sweep(linker: Linker, clock: OffsetClock, points: Points, job: Job) -> None:
    """One pass over what is due."""
    await linker.attend_due()


async def submit(linker: Linker, clock: OffsetClock, points: Points, job: Job) -> None:
    """A person's “Continue”."""
    token, expires_on = SecretStr(job["token"]), date.fromisoformat(job["expires_on"])
    await linker.submit_token(job["connection"], subdomain=job["subdomain"], token=token, expires_on=expires_on)


async def confirm(linker: Linker, clock: OffsetClock, points: Points, job: Job) -> None:
    """A person's “Set up integration”."""
    await linker.confirm_recruiter(job["connection"])


async def operate(linker: Linker, clock: OffsetClock, points: Points, job: Job) -> None:
    """An operator's run over several: what was begun goes on, otherwise it begins."""
    for known in await linker.operations():
        await linker.resume_operation(known.id)
        return
    wanted = selection(linker.clock.now(), ids=job["ids"])
    await linker.apply(await linker.plan(job["verb"], wanted, actor="operator:ann", reason="INC-7"), rate=100.0)


JOBS: dict[str, Callable[[Linker, OffsetClock, Points, Job], Awaitable[None]]] = {
    "work": work,
    "sweep": sweep,
    "submit": submit,
    "confirm": confirm,
    "operate": operate,
}

DUE = "SELECT count(*) FROM linker_connection WHERE due_at <= :now"
UNTOLD = "SELECT count(*) FROM linker_outbox WHERE due_at <= :now"


async def until_quiet(job: Job, clock: OffsetClock, owed: str = f"SELECT ({DUE}) + ({UNTOLD})") -> None:
    """Look, past the linker, until no connection and no announcement is due."""
    watching, counted = Database(job["settings"]["database_url"]), text(owed)
    try:

        def count(reading: Connection) -> int:
            return int(reading.execute(counted, {"now": _stored(job, clock)}).scalar_one())

        while await watching.read(count):  # noqa: ASYNC110 - a database calls nobody
            await asyncio.sleep(0.01)
    finally:
        watching.close()


def _stored(job: Job, clock: OffsetClock) -> Any:
    """The time as the database compares it: SQLite keeps times as text without a zone."""
    now = clock.now()
    sqlite = job["settings"]["database_url"].startswith("sqlite")
    return now.replace(tzinfo=None).isoformat(" ", "microseconds") if sqlite else now


async def run(job: Job) -> None:
    """Do one job in this process, which may not live to see its end."""
    points = Points(job["die_at"], job["witness"])
    clock = OffsetClock(job["offsets"][0])
    async with Linker(Settings(**job["settings"]), clock=clock) as linker:
        watch_transactions(points)
        watch_calls(points)
        await JOBS[job["do"]](linker, clock, points, job)


def command(job: Job) -> None:
    """`linker worker` itself, with settings from the environment, until a SIGTERM that comes when nothing is due."""
    points, clock = Points(job["die_at"], job["witness"]), OffsetClock(job["offsets"][0])
    setattr(SystemClock, "now", lambda _: clock.now())  # noqa: B010 - a method is put in another one's place
    for name, value in job["settings"].items():
        os.environ[f"LINKER_{name.upper()}"] = ",".join(value) if isinstance(value, list) else str(value)
    watch_transactions(points)
    watch_calls(points)
    threading.Thread(target=_stop_when_quiet, args=(job, clock, points), daemon=True).start()
    worker.worker()


def _stop_when_quiet(job: Job, clock: OffsetClock, points: Points) -> None:
    points.first.wait()  # until then nobody listens to signals
    asyncio.run(until_quiet(job, clock, DUE))
    os.kill(os.getpid(), signal.SIGTERM)


async def warm_up() -> None:
    """Do once what a process does at its start, so that its children find everything imported."""
    async with linker_in_memory() as linker, linker.heartbeat():
        await linker.submit_token((await linker.create(owner="nobody")).id, subdomain="acme", token=NOBODYS)
        await linker.attend_due()


def main() -> None:
    """Fork a process for each job; say how it ended: 0, or the negative number of the signal."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # structlog's lines go there unless a host says otherwise
    trusted = httpx.create_ssl_context()  # made once: making it takes longer than a job
    httpx.create_ssl_context = lambda *_, **__: trusted
    asyncio.run(warm_up())
    Database("postgresql://nobody@localhost/none").close()  # imports what PostgreSQL needs
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be_the_child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _be_the_child(job: Job) -> None:
    try:
        if job["do"] == "command":
            command(job)
        else:
            asyncio.run(run(job))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent is told by the exit code, and reads the trace
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
