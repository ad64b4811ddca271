"""Other processes, for tests: `python -m tests.integration.child WHAT URL …`; they say one line when they are ready."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr

from linker.database.database import Database
from linker.engine.ports import Answer
from linker.errors import LinkerError
from linker.linker import Linker
from linker.outbox.announcements import Announcement
from linker.persistence import schema
from linker.persistence.connection_store import ConnectionStore
from linker.settings import Settings
from states.connection import Account, Connection, ConnectionState, Recruiter
from states.verdicts import AccountReadable, RecruiterSeen
from tests.integration.storehouse import NOW, a_connection, change, opening

#: The user and the group of those who own nothing.
NOBODY = 65534
#: Seals the tokens of the many processes; it keeps no secret.
KEY = SecretStr("A" * 43 + "=")


def say(line: str) -> None:
    """One line for the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wait() -> None:
    """Say that all is ready, and wait for the test's word."""
    say("ready")
    sys.stdin.readline()


def open_database(url: str) -> None:
    """Open a database as a program's start does."""
    database = Database(url)
    schema.check(database)
    database.close()
    say("opened")


def lock(url: str) -> None:
    """Hold an SQLite file for itself until the test says otherwise."""
    raw = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    raw.execute("BEGIN EXCLUSIVE")
    wait()
    raw.execute("ROLLBACK")
    raw.close()
    say("unlocked")


def fill_up(url: str) -> None:
    """Write until the files may not grow, then let them grow: nothing was half-done, and writing works again."""
    asyncio.run(_fill_up(url))


async def _fill_up(url: str) -> None:
    database = Database(url)
    store = ConnectionStore(database)
    await store.open()
    connection = await store.add(opening(a_connection(due_at=NOW)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    refusal: LinkerError | None = None
    last = connection
    while refusal is None:
        try:
            grown = change(last, subdomain="x" * 100_000, checks=last.checks + 1)
            assert await store.settle([grown], now=NOW, release=True) == [True]
            last = await store.get(connection.id)
        except LinkerError as error:
            refusal = error
    say(type(refusal).__name__)
    say(str(refusal))
    found = await store.get(connection.id)
    steps = await store.history(connection.id)
    say(f"{found == last} {len(steps) == last.last_seq}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    say(str(await store.settle([change(last, checks=0)], now=NOW, release=True)))
    database.close()


def as_nobody(url: str) -> None:
    """Open, read and write as a user who owns nothing; says what comes of reading and of writing."""
    for module in (
        "alembic.operations",
        "alembic.runtime.migration",
        "linker.persistence.migrations",
        "importlib.readers",
    ):
        import_module(module)  # nobody may not read Python's own files where they are root's
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    asyncio.run(_as_nobody(url))


async def _as_nobody(url: str) -> None:
    database = Database(url)
    store = ConnectionStore(database)
    try:
        await store.open()
        say(f"found {len(await store.find())}")
    except LinkerError as error:
        say(f"{type(error).__name__} {error}")
    try:
        await store.add(opening(a_connection()))
        say("written")
    except LinkerError as error:
        say(f"{type(error).__name__} {error}")
    database.close()


class Witness:
    """A Workable in which all is well, that writes down who asked about which connection, and from when to when.

    The file is opened for appending: the lines of several processes do not mix.
    """

    def __init__(self, journal: Path) -> None:
        """Take the file; it is made if it is not there."""
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, *what: object) -> None:
        """Write a line."""
        os.write(self._journal, (" ".join(map(str, what)) + "\n").encode())

    async def _attended(self, question: str, subdomain: str) -> None:
        began = time.monotonic_ns()
        await asyncio.sleep(0.002)
        self.note(question, subdomain, os.getpid(), began, time.monotonic_ns())

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """The account is readable."""
        await self._attended("verify", subdomain)
        return Answer(verdict=AccountReadable(Account(id=subdomain, name=subdomain, subdomain=subdomain)))

    async def look(
        self,
        subdomain: str,
        token: SecretStr,
        recruiter: Recruiter,
        *,
        extra_calls: int = 0,
        permission: str | None = None,
    ) -> Answer:
        """The recruiter is there."""
        await self._attended("look", subdomain)
        return Answer(verdict=RecruiterSeen("recruiter-1"))


def sweep(url: str, journal: str) -> None:
    """Sweep and deliver with the others until all connections are linked and all announcements are delivered."""
    asyncio.run(_sweep(url, Path(journal)))


async def _sweep(url: str, journal: Path) -> None:
    settings = Settings(
        database_url=url, secret_keys=(KEY,), concurrency=10, batch_size=7, poll_first=timedelta(milliseconds=50)
    )
    witness = Witness(journal)
    async with Linker(settings, workable=witness) as linker:

        @linker.on("linked")
        async def told(announcement: Announcement) -> None:
            witness.note("told", announcement.connection_id, os.getpid(), 0, 0)

        def is_open(connection: Connection) -> bool:
            return connection.state is not ConnectionState.LINKED

        lost = 0
        while any(map(is_open, await linker.find())) or await linker.deliver():
            lost += (await linker.attend_due()).lost
            await linker.deliver()
            await asyncio.sleep(0.02)
    say(f"done {lost}")


def together(count: str, what: str, *arguments: str) -> None:
    """Do the same in many processes at once; says how each ended. They share what was imported and nothing else."""
    wait()
    processes = []
    for _ in range(int(count)):
        process = os.fork()
        if process == 0:
            _end(what, *arguments)
        processes.append(process)
    for process in processes:
        say(f"ended {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}")


def _end(what: str, *arguments: str) -> NoReturn:
    status = 1
    try:
        ACTIONS[what](*arguments)
        status = 0
    except Exception:  # noqa: BLE001 - whatever it is, the test has to see it
        say(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(status)


ACTIONS: dict[str, Callable[..., None]] = {
    "open": open_database,
    "lock": lock,
    "fill-up": fill_up,
    "as-nobody": as_nobody,
    "sweep": sweep,
    "together": together,
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])
