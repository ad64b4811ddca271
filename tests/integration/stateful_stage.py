"""The stage for lives of connections: workers, clock, sandbox and host, and how everything is done and looked at."""

import asyncio
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import pytest
from hypothesis.stateful import RuleBasedStateMachine
from pydantic import SecretStr
from structlog.testing import capture_logs

from linker import BadInput, Busy, Linker, LinkerError, Refused, Settings, new_key
from linker.encryption import fingerprint
from linker.engine.ports import Randomness
from linker.sandbox import World
from linker.sandbox import fingerprint as name_of
from linker.testing import SettableClock
from states import events as happened
from tests.integration import stateful_invariants
from tests.integration.stateful_host import Host
from tests.integration.stateful_ledger import Ledger, Row
from tests.integration.stateful_time import run_here, runner
from tests.integration.stateful_witness import Deed, Witness
from tests.integration.stateful_workers import URL, Fate, Killed, Office, Wire, Worker, bury

ACCOUNTS = ("acme", "globex", "initech")
OWNERS = ("owner-1", "owner-2", "owner-1")
NOBODY = "somebody-dead"
#: Acts that ask Workable at once.
CALLING = {"submit", "confirm", "check", "restart"}
#: States that an operator can force only with a token.
NEEDS = {"token_valid", "awaiting_recruiter", "linked"}
#: In how many rounds everybody has to arrive.
ROUNDS = 12


@dataclass
class Act:
    """Something that one worker does for one connection, or for all that are due."""

    name: str
    does: Callable[[Linker], Awaitable[object]]
    target: str | None = None
    to: str | None = None
    outcome: object = field(default=None, repr=False)


class Stage(RuleBasedStateMachine):
    """Two workers on one database. Whatever they do is looked at afterwards, row by row and call by call."""

    office: ClassVar[Office]

    def __init__(self) -> None:
        super().__init__()
        self.sound = False
        self.things = ExitStack()
        numbers = itertools.count(1)
        self.things.enter_context(patch.object(secrets, "token_hex", lambda size=8: f"{next(numbers):0{2 * size}x}"))
        self.things.enter_context(patch("linker.engine.service.PAUSE_SECONDS", 1.0))
        self.things.enter_context(patch("linker.outbox.handlers.to_thread.run_sync", run_here))
        self.logs = self.things.enter_context(capture_logs())
        self.clock = SettableClock()
        self.world = World(clock=lambda: self.clock.now().timestamp())
        self.ledger = Ledger(self.office.url)
        self.things.callback(self.ledger.close)
        self.ledger.empty()
        self.runner = self.things.enter_context(runner(self.clock))
        self.witness = Witness(self.world)
        self.host = Host(self.ledger)
        self.secrets: dict[str, str] = {}
        self.dead = {NOBODY}
        self.minted = itertools.count(1)
        self.stalled_ever = False
        self.workers: list[Worker] = []

    def _set_up(self, seed: int, stages: Sequence[str], size: int) -> None:
        jitter = random.Random(seed)
        keys = (f"key{number}" for number in itertools.count())
        self.randomness = Randomness(jitter=jitter.random, key=lambda: next(keys))
        self.wire = Wire(self.world, self.clock, jitter)
        self.settings = Settings(
            database_url=self.office.url, secret_keys=(new_key(),), workable_url=URL, concurrency=size, batch_size=size
        )
        self.workers = [self._hire(), self._hire()]
        for label in ACCOUNTS:
            self.world.add_account(label, name=label.title())
        self.now = self.ledger.read()
        self.sound = True
        for owner, label, stage in zip(OWNERS, ACCOUNTS, stages, strict=True):
            self._bring(owner, label, stage)

    def _bring(self, owner: str, label: str, stage: str) -> None:
        self._do(opening(owner))
        row = list(self.now.connections.values())[-1]
        if stage != "awaiting_token":
            self._do(self._submission(row["id"], label, self._mint(row["id"], label, "good"), None))
        if stage == "linked":
            self._add_recruiter(self.now.connections[row["id"]])
            self._do(self._confirmation(row["id"]))
        assert self.now.connections[row["id"]]["state"] == stage

    def _id(self, who: int) -> str:
        ids = list(self.now.connections)
        return ids[who % len(ids)]

    def _row(self, who: int) -> Row:
        return self.now.connections[self._id(who)]

    def _add_recruiter(self, row: Row, email: str | None = None) -> None:
        email = email or row["recruiter_email"]
        self.world.add_recruiter(row["account_subdomain"], name=row["recruiter_name"], email=email)

    def _wait_for_what_is_due(self) -> None:
        due = [row["due_at"] for row in self.now.connections.values() if row["due_at"]]
        if due and min(due) > self.clock.now():
            self.clock.advance(seconds=(min(due) - self.clock.now()).total_seconds())

    def _held(self, who: int, which: str) -> str | None:
        """The token of this row in clear, if it is one that the sandbox knows."""
        secret = self.secrets.get(self._row(who)[f"{which}_fingerprint"])
        return secret if secret and self.world.token(secret) else None

    def _mint(self, connection_id: str, label: str, kind: str) -> str:
        """A token of this kind, which from now on stands for the connection in the sandbox's log."""
        secret = f"canary-{kind.replace(' ', '-')}-{next(self.minted):04d}"
        if kind != "invented":
            home = ACCOUNTS[ACCOUNTS.index(label) - 2] if kind == "of another account" else label
            self.world.add_token(home, secret, scopes={"r_candidates" if kind == "without scope" else "r_jobs"})
        if kind == "revoked":
            self.world.revoke_token(secret)
        self.secrets[fingerprint(SecretStr(secret))] = secret
        self.witness.whose[name_of(secret)] = connection_id
        return secret

    def _give(
        self,
        worker: int,
        connection_id: str,
        label: str,
        subdomain: str,
        kind: str,
        days: int | None,
        fate: Fate | None,
    ) -> None:
        token = self._mint(connection_id, label, kind)
        day = None if days is None else self.clock.now().date() + timedelta(days=days)
        self._do(self._submission(connection_id, subdomain, token, day), worker=worker, fate=fate)

    def _submission(self, connection_id: str, subdomain: str, token: str, day: date | None) -> Act:
        def submit(linker: Linker) -> Awaitable[object]:
            return linker.submit_token(connection_id, subdomain=subdomain, token=SecretStr(token), expires_on=day)

        return Act("submit", submit, connection_id)

    def _good(self, row: Row) -> Act:
        label = row["account_subdomain"] or ACCOUNTS[0]
        return self._submission(row["id"], label, self._mint(row["id"], label, "good"), None)

    def _confirmation(self, connection_id: str) -> Act:
        return Act("confirm", lambda linker: linker.confirm_recruiter(connection_id), connection_id)

    def _check(self, connection_id: str) -> Act:
        return Act("check", lambda linker: linker.check(connection_id, actor="operator"), connection_id)

    def _record(self, connection_id: str, event: happened.Event) -> Act:
        def record(linker: Linker) -> Awaitable[object]:
            return linker.record(connection_id, lambda _: event, actor="operator", reason="because")

        return Act(event.name, record, connection_id, to=getattr(event, "to", None))

    def _do(self, act: Act, *, worker: int = 0, fate: Fate | None = None) -> None:
        """Let one worker do one thing, which ends as it has to."""
        before = self.now
        self._perform([act], fates=(fate, None) if worker == 0 else (None, fate), first=worker)
        if act.target is not None and not isinstance(act.outcome, Killed):
            _check_outcome(act, before.connections[act.target], self.now.connections[act.target])

    def _perform(
        self,
        acts: Sequence[Act],
        *,
        fates: tuple[Fate | None, Fate | None] = (None, None),
        first: int = 0,
        disturbed: frozenset[str] = frozenset(),
    ) -> None:
        """Let the workers do things in turn, at the same time; then look at everything."""
        self.sound = False
        for worker, fate in zip(self.workers, fates, strict=True):
            worker.mortal.meet(fate)
        healthy = not self.world.faults
        self.runner.run(self._all_of_it(acts, first))
        asked = frozenset(act.target for act in acts if act.target and act.name in CALLING)
        stalled = any(worker.mortal.stalled for worker in self.workers)
        orderly = len(acts) == 1 and not stalled and not any(worker.mortal.dead for worker in self.workers)
        self._replace_the_dead()
        self._look_at_everything(
            Deed(asked=asked, disturbed=disturbed, healthy=healthy, stalled=stalled, orderly=orderly)
        )
        self.sound = True

    async def _all_of_it(self, acts: Sequence[Act], first: int) -> None:
        await asyncio.gather(*(self._act(act, self.workers[(first + turn) % 2]) for turn, act in enumerate(acts)))
        await bury()

    async def _act(self, act: Act, worker: Worker) -> None:
        try:
            act.outcome = await act.does(worker.linker)
        except (LinkerError, Killed) as outcome:
            act.outcome = outcome

    def _hire(self) -> Worker:
        worker = self.runner.run(self.office.hire(self.settings, self.wire, self.randomness))
        self.host.listen(worker)
        return worker

    def _replace_the_dead(self) -> None:
        for place, worker in enumerate(self.workers):
            if worker.mortal.dead:
                self.dead.add(worker.id)
                self.runner.run(self.office.dismiss(worker))
                self.workers[place] = self._hire()

    def _look_at_everything(self, deed: Deed) -> None:
        before, self.now = self.now, self.ledger.read()
        self.stalled_ever = self.stalled_ever or deed.stalled
        stateful_invariants.check(before, self.now, dead=self.dead)
        self.witness.check(before, self.now, deed, self.wire.seen)
        self.wire.seen.clear()
        self.host.check(self.now, stalled_ever=self.stalled_ever)
        assert stateful_invariants.CLEAR not in repr(self.logs), "a token is in the log"
        self.logs.clear()

    # how it ends

    def teardown(self) -> None:
        """All trouble is taken away, and every connection that is open arrives."""
        try:
            if self.sound:
                self._all_arrive()
        finally:
            for worker in self.workers:
                self.runner.run(self.office.dismiss(worker))
            self.things.close()

    def _all_arrive(self) -> None:
        self.world.heal()
        self.host.failures = 0
        for round_ in range(ROUNDS):
            self.clock.advance(hours=1.5)  # longer than any pause, and any lease
            for connection_id in self._on_the_way():
                self._help(connection_id)
            self.clock.advance(minutes=1)  # sweeps make room for what people just asked for
            self._do(sweep(), worker=round_ % 2)
            self._do(deliver(), worker=round_ % 2)
            if not self._on_the_way():
                break
        for connection_id in self._on_the_way():
            pytest.fail(f"does not arrive\n{self.now.story(connection_id)}")
        self.clock.advance(hours=1.5)
        self._do(deliver())
        self.host.check(self.now, stalled_ever=self.stalled_ever, all_told=True)
        self._look_into_the_file()

    def _on_the_way(self) -> list[str]:
        rows = self.now.connections.values()
        return [
            row["id"] for row in rows if row["closed_at"] is None and (row["state"] != "linked" or row["paused_at"])
        ]

    def _help(self, connection_id: str) -> None:
        """What people do about it, each for their part."""
        row = self.now.connections[connection_id]
        if row["paused_at"]:
            self._do(self._record(connection_id, happened.Resumed()))
        if not row["candidate_sealed"] and not self._token_is_good(row):
            label = row["account_subdomain"]
            if label is None:
                label = self.world.add_account(f"fresh-{next(self.minted)}", name="Fresh").subdomain
            self._give(0, connection_id, label, label, "good", None, None)
        elif row["state"] == "failed":
            self._do(Act("restart", lambda linker: linker.restart(connection_id), connection_id))
        row = self.now.connections[connection_id]
        if row["recruiter_email"] and not self.witness.is_there(row):
            self._add_recruiter(row)

    def _token_is_good(self, row: Row) -> bool:
        secret = self.secrets.get(row["token_fingerprint"])
        token = self.world.token(secret) if secret else None
        if token is None or token.revoked or row["state"] == "awaiting_token":
            return False
        self.world.set_scopes(token.secret, {"r_jobs"})
        return True

    def _look_into_the_file(self) -> None:
        """A clear token is in none of the bytes on the disk, those of deleted rows included."""
        if self.ledger.file:
            for path in Path(self.ledger.file).parent.glob("linker.db*"):
                assert stateful_invariants.CLEAR.encode() not in path.read_bytes(), f"a token is in {path.name}"


def _check_outcome(act: Act, before: Row, after: Row) -> None:
    """Only what the law forbids is refused, and then nothing changed; only a held connection is busy."""
    outcome = act.outcome
    if isinstance(outcome, Busy):
        assert before["lease_holder"], f"{act.name} was told to come again, and nobody held the connection"
    elif not isinstance(outcome, BadInput):
        refused = isinstance(outcome, Refused)
        assert refused or not isinstance(outcome, LinkerError), f"{act.name} ended in {outcome!r}"
        assert refused == _has_to_be_refused(act, before), f"{act.name} in {before['state']}: {outcome}"
        assert not refused or before == after, f"{act.name} was refused and changed something"


def _has_to_be_refused(act: Act, row: Row) -> bool:
    if act.name == "confirm":
        idle = row["state"] == "failed" or (row["state"] == "awaiting_token" and not row["candidate_sealed"])
        return bool(row["closed_at"] or row["paused_at"] or idle)
    if act.name == "check":
        nothing = not row["candidate_sealed"] if row["state"] == "awaiting_token" else not row["token_sealed"]
        nothing = nothing or (row["state"] == "failed" and not row["recruiter_email"])
        return bool(row["closed_at"] or row["paused_at"] or nothing)
    if act.name == "restart":
        return bool(row["closed_at"]) or row["state"] != "failed"
    if act.name == "forced":
        unfit = act.to in NEEDS and not row["token_sealed"]
        unfit = unfit or (act.to in {"awaiting_recruiter", "linked"} and not row["recruiter_email"])
        return bool(row["closed_at"] or act.to == row["state"] or unfit)
    return bool(row["closed_at"])


def opening(owner: str) -> Act:
    """Open a connection."""
    return Act("open", lambda linker: linker.create(owner=owner, metadata={"plan": "large"}))


def sweep() -> Act:
    """One pass over what is due."""
    return Act("sweep", lambda linker: linker.attend_due())


def deliver() -> Act:
    """Tell the host what it was not told yet."""
    return Act("deliver", lambda linker: linker.deliver())
