"""Everything at once: people, heartbeats, faults, jumps of the clock and dying workers, in any order.

The real service, store, client and sandbox, in one process and on one settable clock; what holds after every step is
in `stateful_invariants` (rows), `stateful_witness` (calls) and `stateful_host` (announcements). At the end all trouble
is taken away, and every connection that is still open has to arrive.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from linker import BadInput, Linker, Verb
from linker.database.database import Database
from linker.persistence.schema import upgrade
from linker.sandbox import EVERYWHERE, Fault, WorldError
from states.connection import ConnectionState
from tests.integration.stateful_stage import ACCOUNTS, NOBODY, OWNERS, Act, Stage, deliver, opening, sweep
from tests.integration.stateful_witness import REFUSALS
from tests.integration.stateful_workers import Fate, Office
from tests.seams import parts

#: How long a life is, in steps, and how many connections it has at most.
STEPS = 30
MOST_CONNECTIONS = 5

WHO = st.integers(0, MOST_CONNECTIONS - 1)
WORKER = st.integers(0, 1)
ACCOUNT = st.integers(0, len(ACCOUNTS) - 1)
FATE = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fate, st.integers(1, 14)),
    st.builds(Fate, st.integers(1, 10), st.just("stall"), st.sampled_from([5.0, 70.0, 200.0])),
)
SOME = st.sets(WHO, min_size=1)
#: What operators do to many connections, the heavy deeds as often as the light ones.
BULK = st.sampled_from([Verb.ADVANCE, Verb.ADVANCE, *Verb])
TOKENS = st.sampled_from(["good", "good", "good", "revoked", "without scope", "of another account", "invented"])
#: What people paste for the subdomain, as a change of the right one.
SUBDOMAINS: dict[str, Callable[[str, str, str], str]] = {
    "right": lambda label, other, first: label,
    "in capitals": lambda label, other, first: f"  {label.upper()} ",
    "as an address": lambda label, other, first: f"https://{label}.workable.com/backend/settings",
    "of another account": lambda label, other, first: other,
    "of before": lambda label, other, first: first,
    "of nobody": lambda label, other, first: f"{label}-nobody",
}
#: How accounts are called after they were renamed; some names were another account's before.
NAMES = st.sampled_from(["acme-two", "globex-two", "initech-two", *ACCOUNTS])
#: What changes a row at the same time as somebody else asks for it.
MEDDLING = ("pause", "unlink", "apply")
#: How far a connection has come when the story begins.
STAGES = st.sampled_from(["awaiting_token", "awaiting_recruiter", "linked"])
FAULTS = st.sampled_from(sorted(Fault))
JUMPS = st.one_of(
    st.builds(lambda seconds: timedelta(seconds=seconds), st.integers(1, 90)),
    st.builds(lambda minutes: timedelta(minutes=minutes), st.integers(2, 90)),
    st.builds(lambda hours: timedelta(hours=hours), st.integers(2, 30)),
    st.builds(lambda days: timedelta(days=days), st.integers(2, 32)),
)


class LifeOfConnections(Stage):
    """The rules are what people, Workable and machines do."""

    @initialize(seed=st.integers(0, 2**16), stages=st.tuples(STAGES, STAGES, STAGES), size=st.integers(1, 5))
    def begin(self, seed: int, stages: tuple[str, str, str], size: int) -> None:
        """Two workers, some accounts, and a connection in each that has come as far as `stages` say."""
        self._set_up(seed, stages, size)

    # people

    @precondition(lambda self: len(self.now.connections) < MOST_CONNECTIONS)
    @rule(owner=st.sampled_from(OWNERS), worker=WORKER, fate=FATE)
    def open(self, owner: str, worker: int, fate: Fate | None) -> None:
        """The host opens a connection."""
        self._do(opening(owner), worker=worker, fate=fate)

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
        label = self._label(account)
        typed = SUBDOMAINS[subdomain](label, self._label(account - 1), ACCOUNTS[account])
        self._give(worker, self._id(who), label, typed, token, days, fate)

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def submit_what_is_wanted(self, who: int, worker: int, fate: Fate | None) -> None:
        """A person makes a new token for the account that the connection has."""
        row = self._row(who)
        label = self._home(row) or self._label(who)
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
        waiting = [row["id"] for row in self.now.connections.values() if row["state"] == "awaiting_recruiter"]
        connection_id = waiting[who % len(waiting)] if waiting else self._id(who)
        for turn in range(times):
            self._do(self._confirmation(connection_id), worker=turn % 2)

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
        self._do(self._deed(Verb.PAUSE if pausing else Verb.RESUME, self._id(who)), worker=worker, fate=fate)

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def check(self, who: int, worker: int, fate: Fate | None) -> None:
        """An operator wants to know how it is now."""
        self._do(self._check(self._id(who)), worker=worker, fate=fate)

    @rule(who=WHO, to=st.sampled_from(ConnectionState), worker=WORKER, fate=FATE)
    def force(self, who: int, to: ConnectionState, worker: int, fate: Fate | None) -> None:
        """An operator puts a connection into a state by hand."""
        self._do(self._deed(Verb.FORCE, self._id(who), to), worker=worker, fate=fate)

    @rule(who=WHO, worker=WORKER, fate=FATE)
    def advance(self, who: int, worker: int, fate: Fate | None) -> None:
        """An operator lets what is owed to a connection be done now."""
        self._do(self._deed(Verb.ADVANCE, self._id(who)), worker=worker, fate=fate)

    @rule(some=SOME, verb=BULK, to=st.sampled_from(ConnectionState), worker=WORKER, at_once=st.booleans(), fate=FATE)
    def plan(
        self, some: set[int], verb: Verb, to: ConnectionState, worker: int, at_once: bool, fate: Fate | None
    ) -> None:
        """An operator plans to do something to many connections, and does it now, or when others were at them."""
        ids = {self._id(who) for who in some}
        if verb is Verb.UNLINK:
            ids = set(sorted(ids)[:1])  # the others are to live on
        plan = self._plan(verb, ids, to if verb is Verb.FORCE else None, worker)
        self.plans.append(plan)
        if at_once:
            self._apply(plan, worker, fate)

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 3), worker=WORKER, fate=FATE)
    def apply(self, which: int, worker: int, fate: Fate | None) -> None:
        """An operator carries out a plan of before, perhaps one that was carried out or interrupted."""
        self._apply(self.plans[-1 - which % len(self.plans)], worker, fate)

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
                self.world.add_member(self._home(row) or "", name="Ours", email=row["recruiter_email"])
            else:
                self._add_recruiter(row, typed.get(how))

    @rule(who=WHO)
    def remove_recruiter(self, who: int) -> None:
        """The customer removes our recruiter."""
        row = self._row(who)
        if row["recruiter_email"]:
            with suppress(WorldError):  # it is not there
                self.world.remove_recruiter(self._home(row) or "", row["recruiter_email"])

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

    @rule(
        who=WHO,
        revoked=st.booleans(),
        token=TOKENS,
        given_back=st.booleans(),
        fault=st.one_of(st.none(), st.none(), FAULTS),
        worker=WORKER,
        fate=FATE,
    )
    def give_another_after_the_end(
        self, who: int, revoked: bool, token: str, given_back: bool, fault: Fault | None, worker: int, fate: Fate | None
    ) -> None:
        """Refusals end a link. Then another token is given, good or not, while the old one may be good again."""
        who = self._with_token(who)
        row, secret = self._row(who), self._held(who, "token")
        label = self._home(row)
        if secret is None or label is None or row["paused_at"] or row["closed_at"]:
            return
        if revoked:
            self.world.revoke_token(secret)
        else:
            self.world.set_scopes(secret, {"r_candidates"})
        for _ in range(REFUSALS + 1):
            if self._row(who)["state"] != "failed":
                self._do(self._check(row["id"]))
                self.clock.advance(minutes=31)
        if fault is not None:
            self.break_something(fault, EVERYWHERE, 2, None)
        self._give(worker, row["id"], label, label, token, None, fate)
        if given_back and not revoked:
            self.world.set_scopes(secret, {"r_jobs"})
            self.clock.advance(hours=1.5)  # longer than until the first look at what may heal
            self._do(sweep(), worker=worker)

    @rule(
        who=WHO,
        name=NAMES,
        then=st.sampled_from(["nothing", "check", "advance", "confirm", "submit its old name"]),
        worker=WORKER,
        fate=FATE,
    )
    def rename_account(self, who: int, name: str, then: str, worker: int, fate: Fate | None) -> None:
        """An admin gives an account another subdomain, perhaps one that another had before. Its tokens stay good."""
        row, now = self._row(self._with_token(who)), int(self.clock.now().timestamp()) // 10
        before = self._home(row) or self._label(who)
        with suppress(WorldError):  # it is taken
            self.world.rename_account(before, name)
            # a new name has a budget of its own
            self.witness.unclear |= {(each.fingerprint, now) for each in self.world.tokens if each.subdomain == name}
        acts: dict[str, Callable[[], Act]] = {
            "check": lambda: self._check(row["id"]),
            "advance": lambda: self._deed(Verb.ADVANCE, row["id"]),
            "confirm": lambda: self._confirmation(row["id"]),
            "submit its old name": lambda: self._submission(
                row["id"], before, self._mint(row["id"], self._home(row) or self._label(who), "good"), None
            ),
        }
        if then in acts:
            self._do(acts[then](), worker=worker, fate=fate)

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
            self._wait_for_what_is_due()
            self._do(sweep(), worker=worker, fate=fate if turn == times - 1 else None)

    @rule(worker=WORKER, fate=FATE)
    def sweep(self, worker: int, fate: Fate | None) -> None:
        """One pass over what is due."""
        self._do(sweep(), worker=worker, fate=fate)

    @rule(worker=WORKER, failures=st.integers(0, 3), fate=FATE)
    def deliver(self, worker: int, failures: int, fate: Fate | None) -> None:
        """The host is told; one of its handlers fails a few times."""
        self.host.failures = failures
        self._do(deliver(), worker=worker, fate=fate)

    @rule(who=WHO)
    def hold_dead_lease(self, who: int) -> None:
        """A worker that nobody knows leased a connection and was never seen again."""
        connection_id = self._id(who)

        async def claim(linker: Linker) -> None:
            lease = replace(parts(linker).engine.lease_issuer.new(), holder=f"{NOBODY}:1")
            await parts(linker).store.claim(connection_id, now=self.clock.now(), lease=lease)

        self._do(Act("claim", claim))

    @rule(
        who=WHO,
        names=st.lists(
            st.sampled_from(["sweep", "sweep", "confirm", "submit", "deliver", *MEDDLING, "restart", "advance"]),
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
            "sweep": sweep,
            "deliver": deliver,
            "confirm": lambda: self._confirmation(row["id"]),
            "submit": lambda: self._good(row),
            "pause": lambda: self._deed(Verb.PAUSE, row["id"]),
            "advance": lambda: self._deed(Verb.ADVANCE, row["id"]),
            "apply": lambda: self._application(self.plans[-1]) if self.plans else self._deed(Verb.ADVANCE, row["id"]),
            "unlink": lambda: Act("unlink", lambda linker: linker.unlink(row["id"]), row["id"]),
            "restart": lambda: Act("restart", lambda linker: linker.restart(row["id"]), row["id"]),
        }
        disturbed = {row["id"]} if {"pause", "unlink"} & set(names) else set()
        if "apply" in names and self.plans:
            disturbed |= {item.id for item in self.plans[-1].acting}
        self._perform([acts[name]() for name in names], fates=(fate, other_fate), disturbed=frozenset(disturbed))

    @rule(
        who=WHO,
        asking=st.sampled_from(["sweep", "confirm", "submit"]),
        other=st.sampled_from(["sweep", "submit", "advance", *MEDDLING]),
        stall=st.one_of(st.none(), st.builds(Fate, st.integers(1, 6), st.just("stall"), st.just(70.0))),
    )
    def race(self, who: int, asking: str, other: str, stall: Fate | None) -> None:
        """While one worker asks Workable, and perhaps loses its lease over it, the other one changes the row."""
        self._wait_for_what_is_due()
        rows = enumerate(self.now.connections.values())
        due = [place for place, row in rows if row["due_at"] and row["due_at"] <= self.clock.now()]
        self.at_the_same_time(due[who % len(due)] if due else who, [asking, other], stall, None)

    @rule(who=WHO, fault=FAULTS, hours=st.integers(1, 30), worker=WORKER)
    def long_outage(self, who: int, fault: Fault, hours: int, worker: int) -> None:
        """One connection meets the outage at once, all others when they are due: old trouble beside new."""
        self.act_while_broken(who, fault, None, "confirm", worker, None)
        self.let_time_pass(timedelta(hours=hours))
        self.sweep(worker, None)


def _life_on(url: str) -> type[LifeOfConnections]:
    database = Database(url)
    upgrade(database)
    database.close()
    return type("LifeOfConnections", (LifeOfConnections,), {"office": Office(url)})


def _begun(url: str, stages: tuple[str, str, str]) -> LifeOfConnections:
    life = _life_on(url)()
    life.begin(seed=1, stages=stages, size=5)
    return life


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


# lives that went wrong once


@pytest.mark.parametrize("who", [0, 1])
def test_old_trouble_and_new_trouble_are_settled_together(sqlite_url: str, who: int) -> None:
    """A batch may hold connections that change the same columns, with a step and without one."""
    life = _begun(sqlite_url, ("awaiting_recruiter", "awaiting_recruiter", "awaiting_recruiter"))
    life.long_outage(who=who, fault=Fault.SERVER_ERROR, hours=2, worker=0)
    life.teardown()


def test_a_restart_does_not_outrun_workables_own_time(sqlite_url: str) -> None:
    """Who restarts a connection before the time that Workable named waits for it, whichever worker is asked."""
    life = _begun(sqlite_url, ("awaiting_recruiter", "awaiting_token", "awaiting_token"))
    life.act_while_broken(who=0, fault=Fault.THROTTLED_BARE, times=1, act="confirm", worker=0, fate=None)
    life.force(who=0, to=ConnectionState.FAILED, worker=0, fate=None)
    life.restart(who=0, worker=1, fate=None)
    life.teardown()


@pytest.mark.parametrize("point", range(1, 9))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_pass_that_stood_still_ends_well(sqlite_url: str, size: int, point: int) -> None:
    """A worker that stood still for longer than its leases meets its own connections again in the same pass."""
    life = _life_on(sqlite_url)()
    life.begin(seed=1, stages=("linked", "linked", "linked"), size=size)
    life.let_time_pass(timedelta(days=2))
    life.sweep(worker=0, fate=Fate(point, "stall", 200.0))
    life.teardown()


def test_names_that_go_from_one_account_to_another_are_followed(sqlite_url: str) -> None:
    """Each connection finds its account by its id, also where its old name leads to another customer's now."""
    life = _begun(sqlite_url, ("linked", "awaiting_recruiter", "linked"))
    for who, name in enumerate(["acme-two", "acme", "globex"]):
        life.rename_account(who=who, name=name, then="nothing", worker=0, fate=None)
    life.let_time_pass(timedelta(days=2))
    life.live_on(times=6, worker=0, fate=None)
    assert {row["account_subdomain"] for row in life.now.connections.values()} == {"acme-two", "acme", "globex"}
    life.teardown()


@pytest.mark.parametrize("verb", [Verb.ADVANCE, Verb.FORCE])
@pytest.mark.parametrize("point", [2, 5, 8, 11])
def test_a_plan_whose_worker_dies_is_carried_out_by_the_next(sqlite_url: str, verb: Verb, point: int) -> None:
    """Each connection is done once, whoever does it; and applied once more it changes nothing."""
    life = _begun(sqlite_url, ("awaiting_recruiter", "awaiting_recruiter", "linked"))
    everybody, failed = {0, 1, 2}, ConnectionState.FAILED
    life.plan(some=everybody, verb=verb, to=failed, worker=0, at_once=True, fate=Fate(point))
    for worker in (1, 0):
        life.apply(which=0, worker=worker, fate=None)
    [operation] = life.now.operations.values()
    assert operation["finished_at"]
    assert {row["outcome"] for row in life.now.items[operation["id"]]} <= {"done", "waiting"}
    life.teardown()
