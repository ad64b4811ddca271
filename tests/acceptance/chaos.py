"""What the tests of chaos share: real workers on a PostgreSQL, many connections at once, and the sandbox as witness.

A worker's name travels in the path of `WORKABLE_URL`; the sandbox's log keeps it as the caller's User-Agent. So the log
says who asked about which account, from when to when: what no worker could say of itself.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from linker import new_key
from linker.database.database import Database
from linker.encryption import TokenCipher, fingerprint
from linker.engine.leases import NEEDED_RATIO
from linker.persistence import mapping, schema
from linker.persistence.tables import CONNECTION, STEP
from linker.sandbox import Limit, LogEntry, Sandbox, World, running
from states.connection import Connection, Credential, Recruiter
from states.history import Step
from states.table import LAW
from tests.acceptance.commands import PATIENCE, Terminal

#: Every so many connections have a recruiter that is in Workable already; the others have to wait for theirs.
ONE_LINKED_IN = 2
#: Settings of the workers, unless a test says otherwise. A look that found nobody is not repeated while a test lasts.
SETTINGS = {"sweep_seconds": "0.2", "concurrency": "10", "poll_first": "PT1H", "log_level": "info"}
#: The step of a call that had no answer in time. A machine that is short of a processor makes some; they move nothing.
GIVEN_UP = "workable_unavailable"


class NamedCallers:
    """Workable, reached at `/{worker}/{subdomain}`: the name is put where the sandbox's log keeps it."""

    def __init__(self, world: World) -> None:
        self._sandbox = Sandbox(world)
        #: Name and path of each request, written down when it comes: the log has it only once it is answered.
        self.arrived: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the sandbox answer."""
        _, name, rest = scope["path"].split("/", 2)
        self.arrived.append((name, rest))
        headers = [each for each in scope["headers"] if each[0] != b"user-agent"]
        headers.append((b"user-agent", name.encode()))
        await self._sandbox({**scope, "path": f"/{rest}", "headers": headers}, receive, send)


@dataclass(frozen=True)
class Worker:
    """A process of `linker worker`. `name` is new for each start."""

    name: str
    process: psutil.Process
    log: Path

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What it has logged under this name so far; a line that is half written counts for nothing."""
        written = self.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in lines if line.get("event") == event]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def freeze(self) -> None:
        """Let it stand still, as a machine does that is moved or has no memory left."""
        self.process.suspend()

    def thaw(self) -> None:
        """Let it go on, as if nothing had been."""
        self.process.resume()

    def stop(self) -> None:
        """Ask it to end, as a supervisor does; it has to come to its own end."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        assert self.logged("worker.stopped"), self.log.read_text(encoding="utf-8")


@dataclass
class Arena:
    """A database with connections, Workable beside it, and the workers that a test starts."""

    database_url: str
    folder: Path
    world: World
    callers: NamedCallers
    forge: Forge
    settings: dict[str, str]
    _ending: ExitStack
    #: Where Workable listens; a test may close it and open it again.
    port: int = 0
    key: SecretStr = field(default_factory=new_key)
    _lives: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def workable(self) -> Iterator[None]:
        """Workable is reached, for one block; always on the same port."""
        with running(self.callers, self.port) as url:
            self.port = int(url.split(":")[2].split("/")[0])
            yield

    def start(self, *, host: str = "127.0.0.1", **surroundings: Any) -> Worker:
        """Start a worker; `surroundings`: how its machine goes wrong, see `tests.acceptance.warm_workers`."""
        name = f"worker-{next(self._lives)}"
        given = {
            "database_url": self.database_url,
            "secret_keys": self.key.get_secret_value(),
            "workable_url": f"http://{host}:{self.port}/{name}/{{subdomain}}",
            **SETTINGS,
            **self.settings,
        }
        variables = {f"LINKER_{setting.upper()}": value for setting, value in given.items()}
        log = self.folder / f"{name}.log"
        log.touch()
        pid = self.forge.worker({"env": variables, "log": str(log), **surroundings})
        worker = Worker(name, psutil.Process(pid), log)
        self._ending.callback(_end, worker.process)
        return worker

    def fill(self, count: int) -> None:
        """Put so many connections there whose tokens wait to be verified, each with an account of its own."""
        sealer, now = TokenCipher([self.key]), datetime.now(UTC)
        waiting = [_waiting(self.world, sealer, number, now) for number in range(count)]
        opened = [Step(event="opened", source=None, target=one.state, at=now, actor="test") for one in waiting]
        kept = {"version": 1, "last_seq": 1, "updated_at": now, "law": LAW}
        engine = sa.create_engine(self.database_url)
        with engine.begin() as writing:
            writing.execute(sa.insert(CONNECTION), [mapping.changed_columns(None, one) | kept for one in waiting])
            steps = zip(waiting, opened, strict=True)
            writing.execute(sa.insert(STEP), [mapping.step_columns(one.id, 1, step) for one, step in steps])
        engine.dispose()

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Read from the database, past the store."""
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        with engine.connect() as reading:
            return list(reading.execute(sa.text(statement), values))

    def owed(self) -> int:
        """How many connections have not arrived."""
        [(count,)] = self.sql(
            "SELECT count(*) FROM linker_connection WHERE state NOT IN ('linked', 'awaiting_recruiter')"
        )
        return int(count)

    def answered_too_late(self) -> set[str]:
        """The accounts with an answer that a worker gave up on: its machine, or the sandbox's, had no moment for it."""
        rows = self.sql(
            "SELECT subdomain FROM linker_connection"
            " WHERE id IN (SELECT connection_id FROM linker_step WHERE event = :event)",
            event=GIVEN_UP,
        )
        return {subdomain for [subdomain] in rows}

    def requests(self) -> tuple[LogEntry, ...]:
        """What Workable was asked so far. The worker's name is the User-Agent."""
        return self.world.log

    def asked(self, worker: Worker) -> int:
        """How many requests of a worker have come so far."""
        return sum(name == worker.name for name, _ in self.callers.arrived)


def _end(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


class Forge:
    """Makes workers, each in a few milliseconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def worker(self, job: dict[str, Any]) -> int:
        """Start a worker; gives its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def forge(folder: Path) -> Iterator[Forge]:
    """A forge, for one block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.warm_workers"],
        cwd=folder,
        env=Terminal(folder).environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Forge(process)
        finally:
            process.kill()


@contextmanager
def arena(database_url: str, folder: Path, **settings: str) -> Iterator[Arena]:
    """An arena without connections, its Workable not opened yet; `settings` are the workers'."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    world = World(limit=Limit.off(), log_length=200_000)
    with forge(folder) as workers, ExitStack() as ending:
        yield Arena(
            database_url=database_url,
            folder=folder,
            world=world,
            callers=NamedCallers(world),
            forge=workers,
            settings=settings,
            _ending=ending,
        )


def _waiting(world: World, sealer: TokenCipher, number: int, now: datetime) -> Connection:
    """A connection that owes everything: its token is to be verified, then its recruiter is to be found."""
    subdomain, email = f"account-{number}", f"ats+{number}@inbound.example.com"
    world.add_account(subdomain, name=subdomain.title())
    token = SecretStr(world.add_token(subdomain).secret)
    if number % ONE_LINKED_IN == 0:
        world.add_recruiter(subdomain, name="Integration", email=email)
    sealed = sealer.seal(token, bound_to=f"con_{number}")
    return Connection(
        id=f"con_{number}",
        owner=f"customer-{number}",
        created_at=now,
        state_since=now,
        subdomain=subdomain,
        recruiter=Recruiter(name="Integration", email=email),
        candidate=Credential(subdomain=subdomain, sealed=sealed, fingerprint=fingerprint(token)),
        due_at=now,
        deadline=now + timedelta(days=30),
    )


# what has to be true whatever happened

_OPENED = ("opened", None, "awaiting_token")
_ACCEPTED = ("token_accepted", "awaiting_token", "token_valid")


def _arrival(number: int) -> str:
    return "linked" if number % ONE_LINKED_IN == 0 else "awaiting_recruiter"


def assert_all_arrived(arena: Arena, count: int, *, also: Iterable[str] = ()) -> None:
    """Each connection has gone its way by the same few steps, none of them twice, and each was announced once.

    `also`: events of Workable's trouble that histories may show besides `GIVEN_UP`; they move nothing.
    """
    passed_over = {GIVEN_UP, *also}
    steps, announced = defaultdict(list), defaultdict(list)
    for connection_id, seq, event, source, target in arena.sql(
        "SELECT connection_id, seq, event, source, target FROM linker_step ORDER BY connection_id, seq"
    ):
        steps[connection_id].append((seq, (event, source, target)))
    for connection_id, kind in arena.sql("SELECT connection_id, type FROM linker_outbox ORDER BY id"):
        announced[connection_id].append(kind)
    rows = arena.sql("SELECT id, state, last_seq, lease_holder FROM linker_connection")
    assert len(rows) == count
    for connection_id, state, last_seq, holder in rows:
        arrival = _arrival(int(connection_id.removeprefix("con_")))
        moves = [move for _, move in steps[connection_id] if move[0] not in passed_over]
        assert moves == [_OPENED, _ACCEPTED, ("recruiter_prepared", "token_valid", arrival)], (connection_id, moves)
        assert [seq for seq, _ in steps[connection_id]] == list(range(1, last_seq + 1)), connection_id
        assert announced[connection_id] == ["token.accepted", f"connection.{arrival}"], connection_id
        assert (state, holder) == (arrival, None), connection_id


def by_account(log: Iterable[LogEntry]) -> dict[str, list[LogEntry]]:
    """The requests to each account, in the order in which they came."""
    asked: dict[str, list[LogEntry]] = defaultdict(list)
    for entry in sorted(log, key=lambda entry: entry.started):
        asked[entry.subdomain].append(entry)
    return asked


def assert_nobody_met(log: Iterable[LogEntry]) -> None:
    """No two workers attended an account at the same time."""
    for subdomain, entries in by_account(log).items():
        for first, second in itertools.combinations(entries, 2):
            same = first.user_agent == second.user_agent
            assert same or first.ended <= second.started, (subdomain, first, second)


def assert_leases_kept(arena: Arena, lease: float, outages: Iterable[Outage] = ()) -> None:
    """Nobody came before the lease of a worker that was lost could end. For tests in which every answer is a good one.

    Who gave up on an answer may ask again sooner: such accounts are left out, and have to be few.

    A question that is asked again was not settled before: it was asked under a lease of which at least the share
    `NEEDED_RATIO` was left, so the one who asks again has to come so much later. Sooner only when the database was away
    in between: whoever could not write what it found gives its leases back as soon as the database can be reached.
    """
    accounts, left_out = by_account(arena.requests()), arena.answered_too_late()
    assert len(left_out) <= 1 + len(accounts) / 10, "the machine was too slow to tell anything"
    for subdomain in accounts.keys() - left_out:
        for first, second in asked_again(accounts[subdomain]):
            asked_in_time = second.started - first.started >= NEEDED_RATIO * lease
            assert asked_in_time or any(outage.between(first, second) for outage in outages), (subdomain, first, second)


@dataclass(frozen=True)
class Outage:
    """When the database was away, in seconds of this machine's monotonic clock, as the sandbox's log has them."""

    since: float
    until: float

    def between(self, first: LogEntry, second: LogEntry) -> bool:
        """True if it may be why the first answer was not written before the second question was asked."""
        return first.started <= self.until and self.since <= second.started


@contextmanager
def outage(noted: list[Outage]) -> Iterator[None]:
    """Note that the database is away in this block."""
    since = time.monotonic()
    yield
    noted.append(Outage(since, time.monotonic()))


def asked_again(entries: list[LogEntry]) -> list[tuple[LogEntry, LogEntry]]:
    """The requests to one account that repeat the one before: verifications, and the looks after the last of them."""
    verifications = [number for number, entry in enumerate(entries) if entry.path.startswith("/accounts/")]
    looks = entries[verifications[-1] + 2 :]  # a verification is two requests: the account, the recruiters
    return [
        *itertools.pairwise(entries[number] for number in verifications),
        *itertools.pairwise(looks),
    ]
