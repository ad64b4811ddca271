"""The stage for lives of connections: workers, clock, sandbox and host, and how everything is done and looked at."""

import asyncio
import itertools
import json
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import patch

import pytest
from hypothesis.stateful import RuleBasedStateMachine
from pydantic import SecretStr
from structlog.testing import capture_logs

from linker import BadInput, Busy, ConnectionState, Linker, LinkerError, Refused, Settings, TryAgain, Verb, new_key
from linker.encryption import fingerprint
from linker.engine.ports import Randomness, Selection
from linker.operations.plan import Plan, plan_from_json, plan_json
from linker.sandbox import World
from linker.sandbox import fingerprint as name_of
from linker.testing import SettableClock
from tests.integration import stateful_invariants
from tests.integration.stateful_host import Host
from tests.integration.stateful_ledger import Ledger, Row, Snapshot
from tests.integration.stateful_time import run_here, runner
from tests.integration.stateful_witness import Deed, Witness
from tests.integration.stateful_workers import URL, Fate, Killed, Office, Wire, Worker, bury

ACCOUNTS = ("acme", "globex", "initech")
OWNERS = ("owner-1", "owner-2", "owner-1")
NOBODY = "somebody-dead"
OPERATOR, WHY = "operator", "because"
#: Acts that ask Workable at once.
CALLING = {"submit", "confirm", "check", "restart", "advance"}
#: Those of them that a plan can be made of.
ASKING = {Verb.ADVANCE, Verb.CHECK, Verb.RESTART}
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
    #: The connections that Workable is asked about at once, where there are several.
    asks: frozenset[str] = frozenset()
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
        self.clock = clock = SettableClock()
        ticking = SimpleNamespace(monotonic=lambda: clock.now().timestamp())
        self.things.enter_context(patch("linker.operations.operation_run.time", ticking))
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
        self.plans: list[Plan] = []

    def _set_up(self, seed: int, stages: Sequence[str], size: int) -> None:
        jitter = random.Random(seed)
        keys = (f"key{number}" for number in itertools.count())
        self.randomness = Randomness(jitter=jitter.random, key=lambda: next(keys))
        self.wire = Wire(self.world, self.clock, jitter)
        self.settings = Settings(
            database_url=self.office.url, secret_keys=(new_key(),), workable_url=URL, concurrency=size, batch_size=size
        )
        self.workers = [self._hire(), self._hire()]
        self.homes = [self.world.add_account(label, name=label.title()).id for label in ACCOUNTS]
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

    def _with_token(self, who: int) -> int:
        """One of those that hold a token and are open, if there are any: by chance alone they are few."""
        rows = enumerate(self.now.connections.values())
        having = [place for place, row in rows if row["token_sealed"] and not row["closed_at"]]
        return having[who % len(having)] if having else who

    def _label(self, account: int) -> str:
        """The subdomain that an account has now."""
        return self.witness.name_of(self.homes[account % len(ACCOUNTS)])

    def _home(self, row: Row) -> str | None:
        """The subdomain that a connection's account has now; None: it has no account."""
        return self.witness.name_of(row["account_id"]) if row["account_id"] else None

    def _add_recruiter(self, row: Row, email: str | None = None) -> None:
        email = email or row["recruiter_email"]
        self.world.add_recruiter(self._home(row) or "", name=row["recruiter_name"], email=email)

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
            others = [name for name in map(self._label, range(len(ACCOUNTS))) if name != label]
            home = others[0] if kind == "of another account" else label
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
        label = self._home(row) or self._label(0)
        return self._submission(row["id"], label, self._mint(row["id"], label, "good"), None)

    def _confirmation(self, connection_id: str) -> Act:
        return Act("confirm", lambda linker: linker.confirm_recruiter(connection_id), connection_id)

    def _check(self, connection_id: str) -> Act:
        return self._deed(Verb.CHECK, connection_id)

    def _deed(self, verb: Verb, connection_id: str, to: ConnectionState | None = None) -> Act:
        """What an operator does to one connection."""

        def do(linker: Linker) -> Awaitable[object]:
            if to is not None:
                return linker.force(connection_id, to=to, actor=OPERATOR, reason=WHY)
            done: Awaitable[object] = getattr(linker, verb.value)(connection_id, actor=OPERATOR, reason=WHY)
            return done

        return Act(verb.value, do, connection_id, to=to)

    def _plan(self, verb: Verb, ids: Collection[str], to: ConnectionState | None, worker: int) -> Plan:
        """What an operator would do to many connections. It changes nothing, and asks nobody."""
        wanted = Selection(ids=tuple(sorted(ids)), closed=None)
        texts = {"plan": "small"} if verb is Verb.SET_METADATA else None

        def plan(linker: Linker) -> Awaitable[object]:
            return linker.plan(verb, wanted, to=to, texts=texts, actor=OPERATOR, reason=WHY)

        before, calls = self.now.text, self.witness.made
        act = Act("plan", plan)
        self._do(act, worker=worker)
        assert isinstance(act.outcome, Plan), f"no plan, but {act.outcome!r}"
        assert (self.now.text, self.witness.made) == (before, calls), "a plan did something"
        return act.outcome

    def _application(self, plan: Plan) -> Act:
        """Carry out a plan that was kept as JSON, as fast as may be."""
        kept = plan_from_json(json.loads(json.dumps(plan_json(plan))))
        asks = frozenset(item.id for item in plan.acting) if plan.verb in ASKING else frozenset[str]()
        return Act("apply", lambda linker: linker.apply(kept, rate=100.0), asks=asks)

    def _apply(self, plan: Plan, worker: int, fate: Fate | None) -> None:
        """Let a worker carry out a plan, which does what it foresaw, once, to what has not moved."""
        before, began, act = self.now, self.clock.now(), self._application(plan)
        self._do(act, worker=worker, fate=fate)
        if not isinstance(act.outcome, Killed):
            check_application(plan, act.outcome, before, self.now, began, is_orderly=fate is None)

    def _do(self, act: Act, *, worker: int = 0, fate: Fate | None = None) -> None:
        """Let one worker do one thing, which ends as it has to."""
        before, began = self.now, self.clock.now()
        self._perform([act], fates=(fate, None) if worker == 0 else (None, fate), first=worker)
        if act.target is not None and not isinstance(act.outcome, Killed):
            _check_outcome(act, before.connections[act.target], self.now.connections[act.target], began)

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
        asked = asked.union(*(act.asks for act in acts))
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
        self._finish_operations()
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
        self._all_are_followed()
        self.clock.advance(hours=1.5)
        self._do(deliver())
        self.host.check(self.now, stalled_ever=self.stalled_ever, all_told=True)
        self._look_into_the_file()

    def _all_are_followed(self) -> None:
        """Accounts that were renamed are found under their names by the daily looks, without anybody's help."""

        def are_lost() -> bool:
            linked = [row for row in self.now.connections.values() if row["state"] == "linked" and not row["closed_at"]]
            return any(row["account_subdomain"] != self._home(row) and self._token_is_good(row) for row in linked)

        for _ in range(2):
            if are_lost():
                self.clock.advance(days=2)
                self._do(sweep())
        assert not are_lost(), "an account that was renamed is not followed"

    def _finish_operations(self) -> None:
        """What was interrupted is gone on with, and comes to its end."""
        for operation in self.now.operations.values():
            if operation["finished_at"] is None:
                self._resume(operation["id"])

    def _resume(self, operation_id: str) -> None:
        asks = frozenset(row["connection_id"] for row in self.now.items[operation_id])
        self._do(Act("resume_operation", lambda linker: linker.resume_operation(operation_id), asks=asks))
        assert self.now.operations[operation_id]["finished_at"], "an operation does not come to its end"

    def _on_the_way(self) -> list[str]:
        rows = self.now.connections.values()
        return [
            row["id"] for row in rows if row["closed_at"] is None and (row["state"] != "linked" or row["paused_at"])
        ]

    def _help(self, connection_id: str) -> None:
        """What people do about it, each for their part."""
        row = self.now.connections[connection_id]
        if row["paused_at"]:
            self._do(self._deed(Verb.RESUME, connection_id))
        if not row["candidate_sealed"] and not self._token_is_good(row):
            label = self._home(row)
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


def _check_outcome(act: Act, before: Row, after: Row, began: datetime) -> None:
    """Only what the law forbids is refused, and then nothing changed; only a held connection is busy."""
    outcome = act.outcome
    if isinstance(outcome, Busy):
        assert before["lease_holder"], f"{act.name} was told to come again, and nobody held the connection"
    elif isinstance(outcome, TryAgain):
        assert act.name == "advance", f"{act.name} was told to come again"
        if outcome.reason == "not_before":
            assert before["not_before"] > began, "put off until a time that is over"
            assert before == after, "it was put off and changed something"
    elif not isinstance(outcome, BadInput):
        refused = isinstance(outcome, Refused)
        assert refused or not isinstance(outcome, LinkerError), f"{act.name} ended in {outcome!r}"
        assert refused == _has_to_be_refused(act, before, began), f"{act.name} in {before['state']}: {outcome}"
        assert not refused or before == after, f"{act.name} was refused and changed something"


def _has_to_be_refused(act: Act, row: Row, now: datetime) -> bool:
    if act.name == "advance":
        early = row["deadline"] is None or row["deadline"] > now
        waits = row["state"] == "awaiting_token" and not row["candidate_sealed"] and early
        idle = row["state"] == "failed" and not row["candidate_sealed"] and not row["due_at"]
        return bool(row["closed_at"] or row["paused_at"] or waits or idle)
    if act.name == "confirm":
        idle = row["state"] in {"failed", "awaiting_token"} and not row["candidate_sealed"]
        return bool(row["closed_at"] or row["paused_at"] or idle)
    if act.name == "check":
        nothing = not row["candidate_sealed"] if row["state"] == "awaiting_token" else not row["token_sealed"]
        nothing = nothing or (row["state"] == "failed" and not row["recruiter_email"])
        return bool(row["closed_at"] or row["paused_at"] or nothing)
    if act.name == "restart":
        return bool(row["closed_at"]) or row["state"] != "failed"
    if act.name == "force":
        unfit = act.to in NEEDS and not row["token_sealed"]
        unfit = unfit or (act.to in {"awaiting_recruiter", "linked"} and not row["recruiter_email"])
        return bool(row["closed_at"] or act.to == row["state"] or unfit)
    return bool(row["closed_at"])


def check_application(
    plan: Plan, said: object, before: Snapshot, after: Snapshot, began: datetime, *, is_orderly: bool
) -> None:
    """What was planned is done once, to what has not moved; of the rest it is said why nothing was done."""
    known = before.operations.get(plan.id)
    is_too_old = began - plan.made_at > timedelta(hours=1)
    if is_too_old or (known is not None and known["finished_at"] is not None):
        refused = isinstance(said, Refused) and said.reason == "plan_too_old"
        assert refused == is_too_old, f"a plan of {plan.made_at}: {said!r}"
        assert before.text == after.text, "a plan that was carried out, or is too old, changed something"
        return
    if isinstance(said, Busy):
        assert known is not None, "nobody else carried it out"
        assert not is_orderly, "who stood still may have waited for too short a time"
        return
    assert isinstance(said, list), f"a plan ended in {said!r}"
    if known is not None or not is_orderly:
        return
    outcomes = {outcome.id: outcome for outcome in said}
    assert outcomes.keys() == {item.id for item in plan.items}, "something was planned, and nothing is said of it"
    for item in plan.items:
        outcome, row, new = outcomes[item.id], before.connections[item.id], after.connections[item.id]
        ours = [step for step in after.steps[item.id] if step["operation"] == plan.id]
        story = f"{plan.verb} planned as {item}\n{outcome}\n{after.story(item.id)}"
        if item.skipped is not None or item.version != row["version"]:
            assert not ours, f"done to what was to be left alone\n{story}"
            assert item.skipped or outcome.outcome == "changed", story
        elif plan.verb not in ASKING:
            assert (outcome.outcome, new["state"], len(ours)) == ("done", item.to, 1), story
        elif row["lease_holder"] is None:
            assert outcome.outcome in {"done", "waiting", "refused", "try_again"}, story
            turns = row["doubt_since"] or (row["deadline"] and row["deadline"] < began + timedelta(minutes=2))
            foreseen = {answer.to for answer in item.answers} | {row["state"]}
            assert began > plan.made_at or turns or new["state"] in foreseen, f"not foreseen\n{story}"


def opening(owner: str) -> Act:
    """Open a connection."""
    return Act("open", lambda linker: linker.create(owner=owner, metadata={"plan": "large"}))


def sweep() -> Act:
    """One pass over what is due."""
    return Act("sweep", lambda linker: linker.attend_due())


def deliver() -> Act:
    """Tell the host what it was not told yet."""
    return Act("deliver", lambda linker: linker.deliver())
