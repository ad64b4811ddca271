"""What the tests of kill -9 share: a nursery of processes that die on command, and a look at what they leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from linker import Connection, ConnectionState, Linker
from linker.database.urls import parse_url
from linker.sandbox import EVERYWHERE, Fault
from states import events as happened
from states.history import ANNOUNCEMENTS
from states.table import TRANSITIONS
from tests.acceptance.stage import Stage, linked, sweep_when_due

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
LEASE = 20.0
#: When a worker looks after a death: the leases of the dead have run out; then what it began is due again.
AFTERWARDS = (LEASE + 1, 3 * LEASE)


@dataclass
class Nursery:
    """Starts processes from one that has imported everything already, which takes a hundredth of the time."""

    _zygote: subprocess.Popen[str]
    _folder: Path
    _jobs: int = 0

    def run(self, job: dict[str, Any]) -> Ended:
        """Let a process do a job, and wait until it has ended or was killed."""
        self._jobs += 1
        witness = self._folder / f"witness-{self._jobs}"
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(job | {"witness": str(witness)}) + "\n")
        self._zygote.stdin.flush()
        answer = self._zygote.stdout.readline()
        assert answer, (self._folder / "stderr").read_text()
        code = int(answer)
        lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
        assert code in {0, KILLED}, (self._folder / "stderr").read_text()
        return Ended(
            killed=code == KILLED,
            points=[line["point"] for line in lines if "point" in line],
            told=[line["told"] for line in lines if "told" in line],
        )


@dataclass(frozen=True)
class Ended:
    """How a process ended: killed or by itself, at which points it was, what its handlers were told."""

    killed: bool
    points: list[str]
    told: list[dict[str, str]]


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery, for one block; `folder` is for what its processes leave."""
    with (folder / "stderr").open("w") as errors:
        zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.worker_that_dies"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("LINKER_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        with zygote:
            try:
                yield Nursery(zygote, folder)
            finally:
                os.killpg(zygote.pid, signal.SIGKILL)  # also a child that did not come to an end


@dataclass(kw_only=True)
class Scene:
    """A database, the sandbox behind it, and the processes that work on it."""

    stage: Stage
    nursery: Nursery
    told: list[dict[str, str]] = field(default_factory=list)

    def play(self, do: str, *, die_at: int | None = None, offsets: tuple[float, ...] = (0.0,), **given: Any) -> Ended:
        """Let a process do something, from an offset to the machine's clock on."""
        settings = {
            "database_url": self.stage.database_url,
            "secret_keys": [self.stage.key.get_secret_value()],
            "workable_url": self.stage.url,
            "lease_seconds": LEASE,
            "sweep_seconds": 0.05,
            "concurrency": 2,
            "batch_size": 3,
        }
        ended = self.nursery.run({"do": do, "die_at": die_at, "offsets": offsets, "settings": settings, **given})
        self.told += ended.told
        return ended

    def afterwards(self, since: float = 0.0) -> Left:
        """Let a worker that nobody kills do the rest; gives what is left then, all of it lawful."""
        assert not self.play("work", offsets=tuple(since + later for later in AFTERWARDS)).killed
        found = self.left()
        assert_lawful(found)
        assert_announced_once(found, self.told)
        return found

    def left(self) -> Left:
        """What is in the database now."""
        return left(self.stage.database_url)

    def copy(self, folder: Path) -> Scene:
        """The same scene on a copy of its SQLite file, which nobody has open."""
        copy = folder / "copy.db"
        for old in folder.glob("copy.db*"):
            old.unlink()
        shutil.copy(str(parse_url(self.stage.database_url).database), copy)
        stage = replace(self.stage, database_url=f"sqlite:///{copy}")
        return Scene(stage=stage, nursery=self.nursery, told=[*self.told])


# the cast: connections that owe everything that a connection can owe, all of it now


#: When the story of the cast begins: long enough ago for everything to be due by now.
BEGAN = timedelta(days=40)
NOBODYS = SecretStr("a-token-that-nobody-made")


async def gather_cast(stage: Stage) -> list[dict[str, str]]:
    """Bring connections to where each owes something else, through the front door; gives what handlers were told.

    Each is named by its owner, who has an account of the same name. The stage's clock begins `BEGAN` ago.
    """
    told: list[dict[str, str]] = []
    async with stage.linker() as linker:
        for name in ANNOUNCEMENTS:
            linker.on(name)(lambda each: told.append({"type": each.type, "message_id": each.message_id}))
        await _long_ago(stage, linker)
        for owner in ("healthy", "replacing", "badly-replacing"):
            await linked(stage, linker, owner, owner)
        for owner in ("found", "absent", "valid"):
            await waiting(stage, linker, owner)
        await _spoil(stage, linker)
        stage.world.fail(EVERYWHERE, Fault.SERVER_ERROR)
        await paste(stage, linker, await linker.create(owner="candidate"))
        await paste(stage, linker, await linker.create(owner="bad-candidate"), NOBODYS)
        await paste(stage, linker, await one_of(linker, "badly-replacing"), NOBODYS)
        for owner in ("replacing", "reviving"):
            await paste(stage, linker, await one_of(linker, owner))
        stage.world.heal()
        await linker.deliver()
    return told


async def _long_ago(stage: Stage, linker: Linker) -> None:
    """One link has failed, two are refused for the third time by now; one connection was never used, one is late."""
    for owner in ("reviving", "revoked", "removed"):
        gone = await linked(stage, linker, owner, owner)
        if owner == "removed":
            assert gone.recruiter is not None
            stage.world.remove_recruiter(owner, gone.recruiter.email)
        else:
            _revoke(stage, owner)
        for _ in range(3 if owner == "reviving" else 2):
            await sweep_when_due(stage, linker, gone)
        if owner != "reviving":
            await linker.record(gone.id, lambda _: happened.Paused(), actor="operator")
    await linker.deliver()
    stage.clock.advance(days=3)
    await linker.create(owner="abandoned")
    await linker.deliver()
    stage.clock.advance(days=16)
    await waiting(stage, linker, "overdue")
    await linker.deliver()
    stage.clock.advance(days=13)
    for owner in ("revoked", "removed"):
        await linker.record((await one_of(linker, owner)).id, lambda _: happened.Resumed(), actor="operator")


async def _spoil(stage: Stage, linker: Linker) -> None:
    """What happened in Workable since; and an operator has put one connection back."""
    for owner in ("found", "valid"):
        stage.add_recruiter(await one_of(linker, owner), subdomain=owner)
    valid = await one_of(linker, "valid")
    await linker.record(valid.id, lambda _: happened.Forced(ConnectionState.TOKEN_VALID), actor="operator")


def _revoke(stage: Stage, subdomain: str) -> None:
    """Revoke every token of an account."""
    for token in stage.world.tokens:
        if token.subdomain == subdomain:
            stage.world.revoke_token(token.secret)


async def waiting(stage: Stage, linker: Linker, owner: str) -> Connection:
    """A connection whose recruiter is not in Workable."""
    return await paste(stage, linker, await linker.create(owner=owner))


async def paste(stage: Stage, linker: Linker, connection: Connection, token: SecretStr | None = None) -> Connection:
    """Give a connection a token, by default a good one of its own account."""
    subdomain = connection.owner
    return await linker.submit_token(connection.id, subdomain=subdomain, token=token or stage.token(subdomain))


async def one_of(linker: Linker, owner: str) -> Connection:
    """The owner's connection."""
    [found] = await linker.find(owner=owner)
    return found


# what is left in the database


@dataclass(frozen=True)
class Left:
    """The rows as they are, past the store."""

    connections: dict[str, dict[str, Any]]
    steps: dict[str, list[dict[str, Any]]]
    announced: dict[str, list[dict[str, Any]]]

    def summary(self, owner: str) -> dict[str, Any]:
        """What became of an owner's connection: what a customer or a host could tell two outcomes by."""
        row = self.connections[owner]
        kept = ("state", "problem_code", "replacement_problem_code", "token_fingerprint", "candidate_fingerprint")
        return {name: row[name] for name in kept} | {
            "history": [(step["event"], step["source"], step["target"]) for step in self.steps[owner]],
            "announced": [each["type"] for each in self.announced[owner]],
        }

    def summaries(self) -> dict[str, dict[str, Any]]:
        """The same of all, by owner."""
        return {owner: self.summary(owner) for owner in sorted(self.connections)}

    def emails(self) -> dict[str, str]:
        """The recruiters' e-mails that were issued, by owner."""
        return {owner: row["recruiter_email"] for owner, row in self.connections.items() if row["recruiter_email"]}


def left(database_url: str) -> Left:
    """Read what is in a database."""
    engine = sa.create_engine(parse_url(database_url))
    try:
        with engine.connect() as reading:
            rows = {
                table: [dict(row) for row in reading.execute(sa.text(f"SELECT * FROM {table} {order}")).mappings()]  # noqa: S608 - our own names
                for table, order in (
                    ("linker_connection", ""),
                    ("linker_step", "ORDER BY seq"),
                    ("linker_outbox", "ORDER BY id"),
                )
            }
    finally:
        engine.dispose()
    owners = {row["id"]: row["owner"] for row in rows["linker_connection"]}

    def of(table: str, owner: str) -> list[dict[str, Any]]:
        return [row for row in rows[table] if owners[row["connection_id"]] == owner]

    return Left(
        connections={row["owner"]: row for row in rows["linker_connection"]},
        steps={owner: of("linker_step", owner) for owner in owners.values()},
        announced={owner: of("linker_outbox", owner) for owner in owners.values()},
    )


MOVES = {(row.event.name, row.source.value, row.target.value) for row in TRANSITIONS}
OPENED = ("opened", None, "awaiting_token")


def assert_lawful(found: Left) -> None:
    """Steps are gapless, every one is a row of the law, and each begins where the one before it ended."""
    for owner, row in found.connections.items():
        steps = found.steps[owner]
        moves = [(step["event"], step["source"], step["target"]) for step in steps]
        assert [step["seq"] for step in steps] == list(range(1, row["last_seq"] + 1)), owner
        assert moves[0] == OPENED, owner
        assert set(moves[1:]) <= MOVES, owner
        assert [move[1] for move in moves[1:]] == [move[2] for move in moves[:-1]], owner
        assert moves[-1][2] == row["state"], owner


def assert_announced_once(found: Left, told: list[dict[str, str]]) -> None:
    """Each step is announced by one row at most, and the handlers were told of every row at least once."""
    rows = [each for announced in found.announced.values() for each in announced]
    assert max(Counter((each["connection_id"], each["seq"]) for each in rows).values()) == 1
    undelivered = [each["type"] for each in rows if each["delivered_at"] is None]
    assert undelivered == []
    assert {each["message_id"] for each in rows} <= {each["message_id"] for each in told}
