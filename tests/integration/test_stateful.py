"""Everything at once: people, heartbeats, faults, jumps of the clock and dying workers, in any order.

The real service, store, client and sandbox, in one process and on one settable clock; what holds after every step is
in `stateful_invariants` (rows), `stateful_witness` (calls) and `stateful_host` (announcements). At the end all trouble
is taken away, and every connection that is still open has to arrive.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from pydantic import SecretStr
from structlog.testing import capture_logs

from linker import BadInput, Busy, Linker, LinkerError, Refused, Settings, new_key
from linker.attending import Chance
from linker.database import Database
from linker.sandbox import EVERYWHERE, Fault, World, WorldError
from linker.sandbox import fingerprint as name_of
from linker.schema import upgrade
from linker.sealing import fingerprint
from linker.testing import SettableClock
from states import events as happened
from states.connection import ConnectionState
from tests.integration import stateful_invariants
from tests.integration.stateful_host import Host
from tests.integration.stateful_ledger import Ledger, Row
from tests.integration.stateful_time import run_here, runner
from tests.integration.stateful_witness import Deed, Witness
from tests.integration.stateful_workers import URL, Fate, Killed, Office, Wire, Worker, bury

ACCOUNTS = ("acme", "globex", "initech")
OWNERS = ("owner-1", "owner-2", "owner-1")
MOST_CONNECTIONS = 5
NOBODY = "somebody-dead"
#: Acts that ask Workable at once.
CALLING = {"submit", "confirm", "restart"}
#: States that an operator can force only with a token.
NEEDS = {"token_valid", "awaiting_recruiter", "linked"}
STEPS = 30
#: In how many rounds everybody has to arrive.
ROUNDS = 12

WHO = st.integers(0, MOST_CONNECTIONS - 1)
WORKER = st.integers(0, 1)
ACCOUNT = st.integers(0, len(ACCOUNTS) - 1)
FATE = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fate, st.integers(1, 14)),
    st.builds(Fate, st.integers(1, 10), st.just("stall"), st.sampled_from([5.0, 70.0, 200.0])),
)
TOKENS = st.sampled_from(["good", "good", "good", "revoked", "without scope", "of another account", "invented"])
#: What people paste for the subdomain, as a change of the right one.
SUBDOMAINS: dict[str, Callable[[str], str]] = {
    "right": lambda label: label,
    "in capitals": lambda label: f"  {label.upper()} ",
    "as an address": lambda label: f"https://{label}.workable.com/backend/settings",
    "of another account": lambda label: ACCOUNTS[ACCOUNTS.index(label) - 1],
    "of nobody": lambda label: f"{label}-nobody",
}
#: How far a connection has come when the story begins.
STAGES = st.sampled_from(["awaiting_token", "awaiting_recruiter", "linked"])
FAULTS = st.sampled_from(sorted(Fault))
JUMPS = st.one_of(
    st.builds(lambda seconds: timedelta(seconds=seconds), st.integers(1, 90)),
    st.builds(lambda minutes: timedelta(minutes=minutes), st.integers(2, 90)),
    st.builds(lambda hours: timedelta(hours=hours), st.integers(2, 30)),
    st.builds(lambda days: timedelta(days=days), st.integers(2, 32)),
)


@dataclass
class Act:
    """Something that one worker does for one connection, or for all that are due."""

    name: str
    does: Callable[[Linker], Awaitable[object]]
    target: str | None = None
    to: str | None = None
    outcome: object = field(default=None, repr=False)


class LifeOfConnections(RuleBasedStateMachine):
    """The rules are what people, Workable and machines do; `_after` checks what holds then."""

    office: ClassVar[Office]

    def __init__(self) -> None:
        super().__init__()
        self.sound = False
        self.things = ExitStack()
        numbers = itertools.count(1)
        self.things.enter_context(patch.object(secrets, "token_hex", lambda size=8: f"{next(numbers):0{2 * size}x}"))
        self.things.enter_context(patch("linker.service.PAUSE", 1.0))
        self.things.enter_context(patch("linker.outbox.to_thread.run_sync", run_here))
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

    @initialize(seed=st.integers(0, 2**16), stages=st.tuples(STAGES, STAGES, STAGES), size=st.integers(1, 5))
    def begin(self, seed: int, stages: tuple[str, str, str], size: int) -> None:
        """Two workers, some accounts, and a connection in each that has come as far as `stages` say."""
        dice = random.Random(seed)
        keys = (f"key{number}" for number in itertools.count())
        self.chance = Chance(dice=dice.random, key=lambda: next(keys))
        self.wire = Wire(self.world, self.clock, dice)
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
        self._do(_opening(owner))
        row = list(self.now.connections.values())[-1]
        if stage != "awaiting_token":
            self._do(self._submission(row["id"], label, self._mint(row["id"], label, "good"), None))
        if stage == "linked":
            self._add_recruiter(self.now.connections[row["id"]])
            self._do(self._confirmation(row["id"]))
        assert self.now.connections[row["id"]]["state"] == stage

    # people

    @precondition(lambda self: len(self.now.connections) < MOST_CONNECTIONS)
    @rule(owner=st.sampled_from(OWNERS), worker=WORKER, fate=FATE)
    def open(self, owner: str, worker: int, fate: Fate | None) -> None:
        """The host opens a connection."""
        self._do(_opening(owner), worker=worker, fate=fate)

    @rule(
        who=WHO,
        account=ACCOUNT,
        token=TOKENS,
        subdomain=st.sampled_from(["right", "right", "right", *SUBDOMAINS]),
        days=st.one_of(st.none(), st.integers(0, 60)),
        worker=WORKER,
        fate=FATE,
    )
    def submit(
        self, who: int, account: int, token: str, subdomain: str, days: int | None, worker: int, fate: Fate | None
    ) -> None:
        """“Continue”: a first token, another one after a refusal, or a replacement."""
        label = ACCOUNTS[account]
        self._give(worker, self._id(who), label, SUBDOMAINS[subdomain](label), token, days, fate)

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def submit_what_is_wanted(self, who: int, worker: int, fate: Fate | None) -> None:
        """A person makes a new token for the account that the connection has."""
        row = self._row(who)
        label = row["account_subdomain"] or ACCOUNTS[who % len(ACCOUNTS)]
        self._give(worker, row["id"], label, label, "good", 300, fate)

    @rule(who=WHO, wrong=st.sampled_from(["blank in token", "short token", "subdomain", "date"]), worker=WORKER)
    def submit_nonsense(self, who: int, wrong: str, worker: int) -> None:
        """Bad input ends in a clear error, and changes nothing."""
        token = {"blank in token": "canary- two words", "short token": "canary-"}.get(wrong, "canary-invented-0000")
        label = "acme.evil.example" if wrong == "subdomain" else "acme"
        day = self.clock.now().date() - timedelta(days=3) if wrong == "date" else None
        before = self.now
        act = self._submission(self._id(who), label, token, day)
        self._do(act, worker=worker)
        assert isinstance(act.outcome, BadInput), f"{wrong} was taken"
        assert before.text == self.now.text, "bad input changed something"

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def confirm(self, who: int, worker: int, fate: Fate | None) -> None:
        """“Set up integration”."""
        self._do(self._confirmation(self._id(who)), worker=worker, fate=fate)

    @rule(who=WHO, times=st.integers(2, 12), fault=st.one_of(st.none(), FAULTS))
    def press_again_and_again(self, who: int, times: int, fault: Fault | None) -> None:
        """An impatient person presses the button again and again, and meets one worker or the other."""
        if fault is not None:
            self.break_something(fault, EVERYWHERE, 1, None)
        for turn in range(times):
            self._do(self._confirmation(self._id(who)), worker=turn % 2)

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def restart(self, who: int, worker: int, fate: Fate | None) -> None:
        """A person wants to go on with a failed connection."""
        connection_id = self._id(who)
        self._do(Act("restart", lambda linker: linker.restart(connection_id), connection_id), worker=worker, fate=fate)

    @precondition(lambda self: len(self.now.connections) > 2)
    @rule(who=WHO, worker=WORKER, fate=FATE)
    def unlink(self, who: int, worker: int, fate: Fate | None) -> None:
        """The host gives a connection up."""
        connection_id = self._id(who)
        self._do(Act("unlink", lambda linker: linker.unlink(connection_id), connection_id), worker=worker, fate=fate)

    # operators

    @rule(who=WHO, pausing=st.booleans(), worker=WORKER, fate=FATE)
    def pause_or_resume(self, who: int, pausing: bool, worker: int, fate: Fate | None) -> None:
        """An operator stops the attending of a connection, or lets it go on."""
        event = happened.Paused() if pausing else happened.Resumed()
        self._do(self._record(self._id(who), event), worker=worker, fate=fate)

    @rule(who=WHO, to=st.sampled_from(ConnectionState), worker=WORKER, fate=FATE)
    def force(self, who: int, to: ConnectionState, worker: int, fate: Fate | None) -> None:
        """An operator puts a connection into a state by hand."""
        self._do(self._record(self._id(who), happened.Forced(to)), worker=worker, fate=fate)

    # the customer, in Workable

    @rule(who=WHO, how=st.sampled_from(["exactly", "exactly", "in capitals", "with a slip", "as a member", "by name"]))
    def add_recruiter(self, who: int, how: str) -> None:
        """The customer adds our recruiter, more or less as they were told to."""
        row = self._row(who)
        if row["recruiter_email"] is None:
            return
        typed = {
            "in capitals": row["recruiter_email"].upper(),
            "with a slip": f"{row['recruiter_email']}e",
            "by name": f"other-{who}@example.com",
        }
        with suppress(WorldError):  # it is there
            if how == "as a member":
                self.world.add_member(row["account_subdomain"], name="Ours", email=row["recruiter_email"])
            else:
                self._add_recruiter(row, typed.get(how))

    @rule(who=WHO)
    def remove_recruiter(self, who: int) -> None:
        """The customer removes our recruiter."""
        row = self._row(who)
        if row["recruiter_email"]:
            with suppress(WorldError):  # it is not there
                self.world.remove_recruiter(row["account_subdomain"], row["recruiter_email"])

    @rule(who=WHO, candidate=st.booleans())
    def revoke_token(self, who: int, candidate: bool) -> None:
        """The customer revokes a token."""
        secret = self._held(who, "candidate" if candidate else "token")
        if secret:
            self.world.revoke_token(secret)

    @rule(who=WHO, scopes=st.sampled_from([("r_jobs",), ("r_candidates",)]))
    def change_scopes(self, who: int, scopes: tuple[str, ...]) -> None:
        """A token loses the permission, or gets it back."""
        secret = self._held(who, "token")
        if secret:
            self.world.set_scopes(secret, scopes)

    @rule(who=WHO, calls=st.integers(1, 10))
    def use_up_limit(self, who: int, calls: int) -> None:
        """The customer's other tools use the same limit."""
        secret = self._held(who, "token")
        if secret is None:
            return
        token = self.world.token(secret)
        assert token is not None
        self.witness.unclear.add((token.fingerprint, int(self.clock.now().timestamp()) // 10))
        for _ in range(calls):
            self.world.spend(token, partner=False)

    # Workable

    @rule(
        fault=FAULTS,
        where=st.sampled_from([*ACCOUNTS, EVERYWHERE]),
        times=st.one_of(st.none(), st.integers(1, 4)),
        path=st.sampled_from([None, "recruiters", "accounts", "members"]),
    )
    def break_something(self, fault: Fault, where: str, times: int | None, path: str | None) -> None:
        """Something goes wrong at Workable, for some calls or until it is mended."""
        seconds = 40.0 if fault in {Fault.SLOW, Fault.TRICKLE} and times != 1 else None
        self.world.fail(where, fault, times=times, path=path, seconds=seconds)

    @rule(
        who=WHO,
        fault=FAULTS,
        times=st.one_of(st.none(), st.integers(1, 4)),
        act=st.sampled_from(["sweep", "confirm", "submit"]),
        worker=WORKER,
        fate=FATE,
    )
    def act_while_broken(
        self, who: int, fault: Fault, times: int | None, act: str, worker: int, fate: Fate | None
    ) -> None:
        """Something goes wrong just when a connection is attended."""
        row = self._row(who)
        self.break_something(fault, EVERYWHERE, times, None)
        if act == "sweep":
            self.live_on(1, worker, fate)
        else:
            self._do(self._confirmation(row["id"]) if act == "confirm" else self._good(row), worker=worker, fate=fate)

    @rule()
    def heal(self) -> None:
        """All is well at Workable."""
        self.world.heal()

    # time and machines

    @rule(span=JUMPS)
    def let_time_pass(self, span: timedelta) -> None:
        """Nobody does anything for a while."""
        self.clock.advance(seconds=span.total_seconds())

    @rule(times=st.integers(1, 6), worker=WORKER, fate=FATE)
    def live_on(self, times: int, worker: int, fate: Fate | None) -> None:
        """The heartbeat comes when something is due, some times in a row."""
        for turn in range(times):
            due = [row["due_at"] for row in self.now.connections.values() if row["due_at"]]
            if due and min(due) > self.clock.now():
                self.clock.advance(seconds=(min(due) - self.clock.now()).total_seconds())
            self._do(_sweep(), worker=worker, fate=fate if turn == times - 1 else None)

    @rule(worker=WORKER, fate=FATE)
    def sweep(self, worker: int, fate: Fate | None) -> None:
        """One pass over what is due."""
        self._do(_sweep(), worker=worker, fate=fate)

    @rule(worker=WORKER, failures=st.integers(0, 3), fate=FATE)
    def deliver(self, worker: int, failures: int, fate: Fate | None) -> None:
        """The host is told; one of its handlers fails a few times."""
        self.host.failures = failures
        self._do(_deliver(), worker=worker, fate=fate)

    @rule(who=WHO)
    def hold_dead_lease(self, who: int) -> None:
        """A worker that nobody knows leased a connection and was never seen again."""
        connection_id = self._id(who)

        async def claim(linker: Linker) -> None:
            lease = replace(linker._leasing.new(), holder=f"{NOBODY}:1")
            await linker._store.claim(connection_id, now=self.clock.now(), lease=lease)

        self._do(Act("claim", claim))

    @rule(
        who=WHO,
        names=st.lists(
            st.sampled_from(["sweep", "sweep", "confirm", "submit", "deliver", "pause", "unlink", "restart"]),
            min_size=2,
            max_size=3,
        ),
        fate=FATE,
        other_fate=FATE,
    )
    def at_the_same_time(self, who: int, names: list[str], fate: Fate | None, other_fate: Fate | None) -> None:
        """Both workers at once, for the same connection."""
        row = self._row(who)
        acts: dict[str, Callable[[], Act]] = {
            "sweep": _sweep,
            "deliver": _deliver,
            "confirm": lambda: self._confirmation(row["id"]),
            "submit": lambda: self._good(row),
            "pause": lambda: self._record(row["id"], happened.Paused()),
            "unlink": lambda: Act("unlink", lambda linker: linker.unlink(row["id"]), row["id"]),
            "restart": lambda: Act("restart", lambda linker: linker.restart(row["id"]), row["id"]),
        }
        disturbed = frozenset({row["id"]}) if {"pause", "unlink"} & set(names) else frozenset[str]()
        self._perform([acts[name]() for name in names], fates=(fate, other_fate), disturbed=disturbed)

    # how something is done

    def _id(self, who: int) -> str:
        ids = list(self.now.connections)
        return ids[who % len(ids)]

    def _row(self, who: int) -> Row:
        return self.now.connections[self._id(who)]

    def _add_recruiter(self, row: Row, email: str | None = None) -> None:
        email = email or row["recruiter_email"]
        self.world.add_recruiter(row["account_subdomain"], name=row["recruiter_name"], email=email)

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
        worker = self.runner.run(self.office.hire(self.settings, self.wire, self.chance))
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
            self._do(_sweep(), worker=round_ % 2)
            self._do(_deliver(), worker=round_ % 2)
            if not self._on_the_way():
                break
        for connection_id in self._on_the_way():
            pytest.fail(f"does not arrive\n{self.now.story(connection_id)}")
        self.clock.advance(hours=1.5)
        self._do(_deliver())
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
        return row["state"] != "linked" and bool(row["closed_at"] or row["paused_at"] or idle)
    if act.name == "restart":
        return bool(row["closed_at"]) or row["state"] != "failed"
    if act.name == "forced":
        unfit = act.to in NEEDS and not row["token_sealed"]
        unfit = unfit or (act.to in {"awaiting_recruiter", "linked"} and not row["recruiter_email"])
        return bool(row["closed_at"] or act.to == row["state"] or unfit)
    return bool(row["closed_at"])


def _opening(owner: str) -> Act:
    return Act("open", lambda linker: linker.create(owner=owner, metadata={"plan": "large"}))


def _sweep() -> Act:
    return Act("sweep", lambda linker: linker.attend_due())


def _deliver() -> Act:
    return Act("deliver", lambda linker: linker.deliver())


def _life_on(url: str) -> type[LifeOfConnections]:
    database = Database(url)
    upgrade(database)
    database.close()
    return type("LifeOfConnections", (LifeOfConnections,), {"office": Office(url)})


def _live(url: str, share: int) -> None:
    """As many lives as the profile has examples, divided by `share`: a life is worth many examples."""
    some = settings(max_examples=max(settings().max_examples // share, 5), stateful_step_count=STEPS)
    run_state_machine_as_test(_life_on(url), settings=some)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a failure is worth the minutes that it takes to make it short
def test_connections_survive_anything(sqlite_url: str) -> None:
    """Whatever happens in whichever order, on SQLite: the invariants hold, and all arrive in the end."""
    _live(sqlite_url, share=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_connections_survive_anything_on_postgresql(postgres_url: str) -> None:
    """The same on PostgreSQL, for a while."""
    _live(postgres_url, share=20)
