"""Many connections at once: a plan says what would become of each, and an operation carries it out, a few a second.

A plan is made by reading alone, from the law that decides when it is carried out. It is carried out by version: what
moved in between is left alone. An operation is rows, so whoever is killed loses nothing and does nothing twice.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from linker.engine.executor import Deed
from linker.engine.ports import DamagedRow, Lease, Selection, Store
from linker.engine.service import HOST, Engine
from linker.errors import BadInput, Busy, LinkerError, Refused, RowUnreadable, TryAgain
from linker.event_log import log
from linker.operations.verbs import Attended, OperatorVerbs, deed_of
from linker.persistence.operation_store import HeldByOthers, Missed, Operation, OperationItem, OperationStore
from linker.serialization import moment
from linker.validation.text import metadata
from states import events as happened
from states.connection import Connection, ConnectionState
from states.duties import Duty
from states.explanation import Change, Foreseen, Hindrance, Verb, event_of, foresee
from states.problems import REFUSALS, TRANSIENT, ProblemCode
from states.table import LAW
from states.timing import Timing

#: How many connections are read at a time for a plan.
PLAN_ROWS = 500
#: How long a plan may lie about before it is carried out.
PLAN_LASTS = timedelta(hours=1)
#: How many connections are begun in a second unless somebody says otherwise, and how many are under way at once.
RATE = 5.0
FASTEST = 100.0
AT_ONCE = 20
#: The spread of the pauses between two of them.
SPREAD = 0.4
#: How long the one who carries an operation out may be silent before somebody else may take over, and how often it
#: says that it is there.
TURN = timedelta(seconds=10)
RENEW_SECONDS = 3.0
#: How often a connection is tried whose account has no calls left, or that somebody else holds.
MOST_TRIES = 6
HELD_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class PlannedChange:
    """What a plan says of one connection."""

    id: str
    #: The version that it is carried out at; -1: its row cannot be read.
    version: int
    #: The state that it is in; None: it cannot be read.
    source: ConnectionState | None
    #: The state that it comes to if all goes well; None: nothing is done.
    to: ConnectionState | None
    #: What is owed, as in `find_recruiter`, and how many calls it makes, as a rule.
    duty: str
    calls: int = 0
    #: The account whose calls they are.
    account: str | None = None
    #: Why nothing is done; None: something is. `not_found` for an id that there is not.
    skipped: str | None = None
    #: What each answer of Workable's would make of it.
    answers: tuple[Foreseen, ...] = ()
    #: The row of the law, what is kept and wiped, who is told, what leads back; None if an answer decides that.
    change: Change | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a verb would do to many connections, one by one. Making it changes nothing. Times are aware, in UTC."""

    id: str
    verb: Verb
    actor: str
    reason: str | None
    made_at: datetime
    #: The law that it was foreseen by.
    law: str
    items: tuple[PlannedChange, ...]
    #: What `force` aims at, and what `set_metadata` sets.
    to: ConnectionState | None = None
    texts: Mapping[str, str | None] = field(default_factory=dict)
    #: The words that the connections were selected by, for people to read.
    selector: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acting(self) -> tuple[PlannedChange, ...]:
        """Those that something is done to."""
        return tuple(item for item in self.items if item.skipped is None)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one connection: `done waiting refused changed not_found try_again error`."""

    id: str
    outcome: str
    #: The state that it is in now, as far as that is known.
    state: ConnectionState | None = None
    #: Why, as a code: a hindrance, a problem, an error.
    why: str | None = None
    operation: str | None = None


#: Told of each outcome as it comes.
Tell = Callable[[Outcome], object]


async def _read_all(
    store: Store, wanted: Selection, foreseen: Callable[[Connection], PlannedChange]
) -> list[PlannedChange]:
    """What is foreseen of all that a selection means, read page by page; each once, whatever moves meanwhile."""
    items: dict[str, PlannedChange] = {}
    after = wanted.after
    while wanted.limit is None or wanted.limit > len(items):
        most = PLAN_ROWS if wanted.limit is None else min(PLAN_ROWS, wanted.limit - len(items))
        page = await store.page(replace(wanted, limit=most, after=after))
        for each in page.found:
            items[each.id] = _unread(each.id) if isinstance(each, DamagedRow) else foreseen(each)
        after = page.after
        if after is None:
            break
    for connection_id in wanted.ids or ():
        items.setdefault(connection_id, _unread(connection_id, "not_found"))
    return list(items.values())


def _unread(connection_id: str, why: str = Hindrance.DAMAGED.value) -> PlannedChange:
    return PlannedChange(id=connection_id, version=-1, source=None, to=None, duty="nothing", skipped=why)


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, as `--dry-run --out` writes it."""
    return {
        "id": plan.id,
        "verb": plan.verb.value,
        "reason": plan.reason,
        "actor": plan.actor,
        "made_at": moment(plan.made_at),
        "law": plan.law,
        "to": plan.to.value if plan.to else None,
        "texts": dict(plan.texts),
        "selector": dict(plan.selector),
        "items": [_change_json(plan, item) for item in plan.items],
    }


def _change_json(plan: Plan, item: PlannedChange) -> dict[str, Any]:
    return {
        "id": item.id,
        "version": item.version,
        "from": item.source.value if item.source else None,
        "verb": plan.verb.value,
        "to": item.to.value if item.to else None,
        "calls": item.calls,
        "skipped": item.skipped,
        "duty": item.duty,
        "account": item.account,
        "change": change_json(item.change) if item.change else None,
        "answers": [
            {
                "answer": each.answer,
                "event": each.event,
                "to": each.to.value,
                "problem": each.problem.value if each.problem else None,
                "doubted": each.doubted,
            }
            for each in item.answers
        ],
    }


def change_json(change: Change) -> dict[str, Any]:
    """What a deed changes, as `--dry-run --json` prints it."""
    return {
        "event": change.event,
        "from": change.source.value,
        "to": change.target.value,
        "if": change.guard,
        "kept": list(change.kept),
        "wiped": list(change.wiped),
        "announced": change.announced,
        "then": change.then.value,
        "back": change.back.value if change.back else None,
        "back_to": change.back_to.value if change.back_to else None,
    }


def _deed_from_json(told: Mapping[str, Any]) -> Change:
    return Change(
        event=str(told["event"]),
        source=ConnectionState(told["from"]),
        target=ConnectionState(told["to"]),
        guard=told["if"],
        kept=tuple(map(str, told["kept"])),
        wiped=tuple(map(str, told["wiped"])),
        announced=told["announced"],
        then=Duty(told["then"]),
        back=Verb(told["back"]) if told["back"] else None,
        back_to=ConnectionState(told["back_to"]) if told["back_to"] else None,
    )


def plan_from_json(told: Any) -> Plan:
    """The plan that was written as JSON. Raises BadInput."""
    try:
        return Plan(
            id=str(told["id"]),
            verb=Verb(told["verb"]),
            actor=str(told["actor"]),
            reason=told["reason"],
            made_at=datetime.fromisoformat(told["made_at"]),
            law=str(told["law"]),
            to=ConnectionState(told["to"]) if told.get("to") else None,
            texts=dict(told.get("texts") or {}),
            selector=dict(told.get("selector") or {}),
            items=tuple(_change_from_json(item) for item in told["items"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise BadInput("plan", "not_a_plan")


def _change_from_json(item: Mapping[str, Any]) -> PlannedChange:
    answers = tuple(
        Foreseen(
            answer=each["answer"],
            event=each["event"],
            to=ConnectionState(each["to"]),
            problem=ProblemCode(each["problem"]) if each["problem"] else None,
            doubted=bool(each["doubted"]),
        )
        for each in item.get("answers", ())
    )
    return PlannedChange(
        id=str(item["id"]),
        version=int(item["version"]),
        source=ConnectionState(item["from"]) if item["from"] else None,
        to=ConnectionState(item["to"]) if item["to"] else None,
        duty=str(item.get("duty", "nothing")),
        calls=int(item["calls"]),
        account=item.get("account"),
        skipped=item["skipped"],
        answers=answers,
        change=_deed_from_json(item["change"]) if item.get("change") else None,
    )


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome, as a verb prints it."""
    return {
        "id": outcome.id,
        "outcome": outcome.outcome,
        "state": outcome.state.value if outcome.state else None,
        "why": outcome.why,
        "operation": outcome.operation,
    }


def operation_json(operation: Operation) -> dict[str, Any]:
    """An operation, as `linker operations` prints it."""
    return {
        "id": operation.id,
        "verb": operation.verb,
        "params": dict(operation.params),
        "selector": dict(operation.selector),
        "reason": operation.reason,
        "actor": operation.actor,
        "law": operation.law,
        "status": operation.status,
        "made_at": moment(operation.made_at),
        "started_at": moment(operation.started_at),
        "stopped_at": moment(operation.stopped_at),
        "finished_at": moment(operation.finished_at),
        "rate": operation.rate,
        "total": operation.total,
        "counts": dict(operation.counts),
    }


def operation_of(plan: Plan, now: datetime, rate: float) -> tuple[Operation, list[OperationItem]]:
    """The rows that carry out a plan."""
    params: dict[str, Any] = {"to": plan.to.value} if plan.to else {}
    if plan.texts:
        params["texts"] = dict(plan.texts)
    operation = Operation(
        id=plan.id,
        verb=plan.verb.value,
        params=params,
        selector=dict(plan.selector),
        reason=plan.reason,
        actor=plan.actor,
        law=plan.law,
        made_at=plan.made_at,
        started_at=now,
        rate=rate,
    )
    items = [
        OperationItem(position=position, connection_id=item.id, version=item.version, planned=_change_json(plan, item))
        for position, item in enumerate(plan.items)
    ]
    return operation, items


@dataclass(frozen=True, kw_only=True)
class Later:
    """An item has to wait for so many seconds."""

    seconds: float
    why: str


class Run:
    """Carries one operation out: begins a few connections a second, and writes down what became of each."""

    def __init__(
        self, by: OperatorVerbs, engine: Engine, store: OperationStore, operation: Operation, tell: Tell | None
    ) -> None:
        """Take the operation, and who is told."""
        self._by = by
        self._engine = engine
        self._store = store
        self._operation = operation
        self._tell = tell or (lambda outcome: None)
        self._outcomes: list[Outcome] = []
        self._stopped = asyncio.Event()

    async def run(self) -> list[Outcome]:
        """Carry out what is left of it, until it is done or somebody stops it."""
        lease = replace(self._engine.lease_issuer.new(), until=self._now() + TURN)
        await self._take(lease)
        renewing = asyncio.create_task(self._renew(lease))
        try:
            await self._all()
        finally:
            renewing.cancel()
            await asyncio.shield(self._store.end(self._operation.id, lease, self._now()))
        log.info("operation.ended", operation=self._operation.id, verb=self._operation.verb, done=len(self._outcomes))
        return self._outcomes

    def _now(self) -> datetime:
        return self._engine.clock.now()

    async def _take(self, lease: Lease) -> None:
        """Be the one who carries it out; who was killed a moment ago is waited for."""
        gives_up_at = time.monotonic() + 2 * TURN.total_seconds()
        while not await self._store.take(self._operation.id, lease, self._now()):
            if time.monotonic() > gives_up_at:
                raise Busy("operation_running", operation=self._operation.id)
            await asyncio.sleep(0.5)
            lease = replace(lease, until=self._now() + TURN)

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await self._store.renew(self._operation.id, replace(lease, until=self._now() + TURN)):
                    self._stopped.set()
                    return
            except LinkerError as error:
                log.warning("operation.not_renewed", code=error.code, reason=error.reason)

    async def _all(self) -> None:
        """Begin one after another, at the rate; what has to wait is come back to."""
        waiting: list[tuple[float, int, int, OperationItem]] = []
        numbers = itertools.count()
        under_way: dict[asyncio.Task[Later | None], tuple[int, OperationItem]] = {}
        position, more, begin_at = -1, True, time.monotonic()
        items: list[OperationItem] = []
        try:
            while not self._stopped.is_set():
                if not items and more:
                    items = await self._store.left(self._operation.id, position)
                    more = bool(items)
                    position = items[-1].position if items else position
                now = time.monotonic()
                ready = bool(waiting) and waiting[0][0] <= now
                if len(under_way) < AT_ONCE and begin_at <= now and (ready or items):
                    tries, item = (heapq.heappop(waiting)[2:]) if ready else (0, items.pop(0))
                    under_way[asyncio.create_task(self._one(item, tries))] = (tries, item)
                    begin_at = max(begin_at, now - 1.0) + self._pause(item)
                    continue
                if not (under_way or waiting or items or more):
                    return
                pauses = [begin_at - now] if items or ready else []
                pauses += [waiting[0][0] - now] if waiting else []
                pause = max(min(pauses, default=RENEW_SECONDS), 0.001)
                if under_way:
                    await asyncio.wait(under_way, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(min(pause, RENEW_SECONDS))
                for task in [each for each in under_way if each.done()]:
                    tries, item = under_way.pop(task)
                    later = task.result()
                    if later is not None:
                        heapq.heappush(waiting, (time.monotonic() + later.seconds, next(numbers), tries + 1, item))
        finally:
            if under_way:  # what was begun comes to its end, also when nobody waits for it any more
                await asyncio.shield(asyncio.wait(under_way))

    def _pause(self, item: OperationItem) -> float:
        """The pause after an item was begun; none after what is passed over."""
        if item.planned.get("skipped") is not None:
            return 0.0
        jitter = self._engine.executor.randomness.jitter()
        return (1 - SPREAD / 2 + SPREAD * jitter) / self._operation.rate

    async def _one(self, item: OperationItem, tries: int) -> Later | None:
        """Do one, and write down what became of it. Trouble of one stops no other."""
        try:
            found = await self._attempt(item)
        except RowUnreadable:
            found = self._told(item, "error", why=Hindrance.DAMAGED.value)
        except TryAgain as error:
            found = Later(seconds=HELD_PAUSE_SECONDS, why=error.reason)
        except Refused as error:
            found = self._told(item, "refused", why=error.reason)
        except LinkerError as error:
            found = self._told(item, "error", why=f"{error.code}.{error.reason}")
        except Exception as error:  # noqa: BLE001 - a fault in one must not stop the others
            log.error("operation.item_failed", operation=self._operation.id, reason=type(error).__name__)
            found = self._told(item, "error", why=type(error).__name__)
        if isinstance(found, Later):
            if tries + 1 < MOST_TRIES and found.seconds <= LONGEST_PAUSE_SECONDS:
                return found
            found = self._told(item, "try_again", why=found.why)
        told = {"state": found.state.value if found.state else None, "why": found.why}
        await self._store.finish(self._operation.id, item.position, found.outcome, told, self._now())
        self._outcomes.append(found)
        self._tell(found)
        return None

    def _told(
        self, item: OperationItem, outcome: str, *, now: Connection | None = None, why: str | None = None
    ) -> Outcome:
        state = now.state if now else None
        return Outcome(id=item.connection_id, outcome=outcome, state=state, why=why, operation=self._operation.id)

    async def _attempt(self, item: OperationItem) -> Outcome | Later:
        skipped = item.planned.get("skipped")
        if skipped is not None:
            return self._passed_over(item, skipped)
        verb = Verb(self._operation.verb)
        deed = Deed(verb=verb.value, reason=self._operation.reason, operation=self._operation.id)
        if verb in {Verb.ADVANCE, Verb.CHECK, Verb.RESTART}:
            return await self._ask(item, verb, deed)
        missed = await self._store.standing(self._operation.id, item)
        if missed is not None:
            return await self._missed(item, missed)
        before = await self._engine.store.get(item.connection_id)
        if before.version != item.version:
            return self._told(item, "changed", now=before)
        to = self._operation.params.get("to")
        event = event_of(verb, ConnectionState(to) if to else None, self._operation.params.get("texts"))
        after = await self._by.settle_deed(before, event, deed=deed, actor=self._operation.actor)
        if after is None:
            return self._told(item, "changed", now=before)
        return self._told(item, "done", now=after)

    def _passed_over(self, item: OperationItem, skipped: str) -> Outcome:
        source = item.planned.get("from")
        outcome = {"not_found": "not_found", Hindrance.DAMAGED.value: "error", Hindrance.NOT_BEFORE.value: "try_again"}
        state = ConnectionState(source) if source else None
        return Outcome(
            id=item.connection_id,
            outcome=outcome.get(skipped, "refused"),
            state=state,
            why=skipped,
            operation=self._operation.id,
        )

    async def _missed(self, item: OperationItem, why: str) -> Outcome:
        if why == "not_found":
            return self._told(item, why)
        now = await self._engine.store.get(item.connection_id)
        return self._told(item, why, now=now)

    async def _ask(self, item: OperationItem, verb: Verb, deed: Deed) -> Outcome | Later:
        """Claim it for the item, and put at most one question to Workable."""
        lease = self._engine.lease_issuer.new()
        try:
            held = await self._store.claim(self._operation.id, item, now=self._now(), lease=lease)
        except HeldByOthers:
            return Later(seconds=HELD_PAUSE_SECONDS, why="held_by_others")
        if isinstance(held, datetime):
            return self._until(held)
        if isinstance(held, Missed):
            return await self._missed(item, held.why)
        first: happened.Event | None = None
        if verb is not Verb.ADVANCE:
            first = happened.CheckRequested() if verb is Verb.CHECK else happened.Restarted()
        attended = await self._by.attend_held(
            held, lease, deed=deed, actor=self._operation.actor, person_waits=False, first=first
        )
        if attended.put_off_until is not None and attended.connection.last_seq == held.last_seq:
            return self._until(attended.put_off_until)
        return self._of(item, held, attended)

    def _until(self, until: datetime) -> Later:
        return Later(seconds=max((until - self._now()).total_seconds(), 0.1), why="budget_used_up")

    def _of(self, item: OperationItem, before: Connection, attended: Attended) -> Outcome:
        """What an answer came to."""
        now = attended.connection
        if attended.lost:
            return self._told(item, "changed", now=now)
        why = now.problem.code.value if now.problem else None
        return self._told(item, outcome_of(before, now), now=now, why=why)


def outcome_of(before: Connection, now: Connection) -> str:
    """What an answer of Workable's came to: `done waiting refused try_again error`."""
    problem = now.problem or now.replacement_problem
    if problem is not None and problem.code in TRANSIENT:
        return "error" if problem.code is ProblemCode.POISONED else "try_again"
    refused = problem is not None and problem.code in REFUSALS and now.state is ConnectionState.AWAITING_TOKEN
    ended = now.state is ConnectionState.FAILED and problem is not None and problem.code is not ProblemCode.ABANDONED
    if refused or ended:
        return "refused"
    if now.state is not before.state or now.state is ConnectionState.LINKED:
        return "waiting" if now.doubt else "done"
    return "waiting"


class BulkVerbs(OperatorVerbs):
    """The deeds of operators on many connections at once: plan, apply, and what is under way."""

    @property
    def _operation_store(self) -> OperationStore:
        raise NotImplementedError

    @property
    def _timing(self) -> Timing:
        return self._engine.executor.timing

    async def plan(
        self,
        verb: Verb | str,
        wanted: Selection,
        *,
        to: ConnectionState | None = None,
        texts: Mapping[str, str | None] | None = None,
        selector: Mapping[str, Any] | None = None,
        actor: str = HOST,
        reason: str | None = None,
    ) -> Plan:
        """What a verb would do to the connections that a selection means, one by one. Writes nothing, asks nobody.

        Args:
            verb: the verb.
            wanted: the connections, as `selection` gives them.
            to: the state that `force` aims at.
            texts: what `set_metadata` sets; None takes a text away.
            selector: the words that the connections were selected by, for people to read.
            actor: who does this, for the history.
            reason: why, for the history.

        Raises:
            BadInput: the verb needs something that is not given, or a text cannot be kept.
        """
        what = Verb(verb)
        if what is Verb.FORCE and to is None:
            raise BadInput("to", "empty")
        if what is Verb.SET_METADATA:
            metadata({key: text for key, text in (texts or {}).items() if text is not None})
        deed = deed_of(what, actor, reason)
        now, timing = self._engine.clock.now(), self._timing

        def foreseen(c: Connection) -> PlannedChange:
            found = foresee(what, c, now, timing, to)
            return PlannedChange(
                id=c.id,
                version=c.version,
                source=c.state,
                to=found.to,
                duty=found.duty.value,
                calls=found.calls,
                account=c.subdomain if found.calls else None,
                skipped=found.hindrance.value if found.hindrance else None,
                answers=found.answers,
                change=found.change,
            )

        items = await _read_all(self._engine.store, wanted, foreseen)
        return Plan(
            id=f"op_{secrets.token_hex(6)}",
            verb=what,
            actor=actor,
            reason=deed.reason,
            made_at=now,
            law=LAW,
            items=tuple(items),
            to=to,
            texts=dict(texts or {}),
            selector=dict(selector or {}),
        )

    async def apply(self, plan: Plan, *, rate: float = RATE, tell: Tell | None = None) -> list[Outcome]:
        """Carry out a plan: each connection only at the version that it was planned at. A second time changes nothing.

        Whoever is interrupted goes on with `resume_operation`.

        Args:
            plan: as `plan` made it, an hour ago at most.
            rate: at most so many connections are begun in a second.
            tell: is told of each outcome as it comes.

        Raises:
            Refused: the plan is of another law, or too old.
            BadInput: the rate is none.
            Busy: somebody else carries it out at the moment.
        """
        if not 0 < rate <= FASTEST:
            raise BadInput("rate", "not_a_rate", most=f"{FASTEST:g}")
        now = self._engine.clock.now()
        if plan.law != LAW:
            raise Refused("plan_of_another_law", law=plan.law, ours=LAW)
        if now - plan.made_at > PLAN_LASTS:
            raise Refused("plan_too_old", made_at=moment(plan.made_at))
        operation, items = operation_of(plan, now, rate)
        if not await self._operation_store.begin(operation, items):
            known = await self._operation_store.get(plan.id)
            if known.finished_at is not None:
                return _applied_before(plan, tell)
            operation = known
        return await self._carry_out(operation, tell)

    async def resume_operation(self, operation_id: str, *, tell: Tell | None = None) -> list[Outcome]:
        """Go on with an operation that was interrupted or stopped; gives what became of what was left.

        Raises:
            NotFound: no such operation.
            Refused: it was made by another law.
            Busy: somebody else carries it out at the moment.
        """
        operation = await self._operation_store.get(operation_id)
        if operation.finished_at is not None:
            return []
        if operation.law != LAW:
            raise Refused("plan_of_another_law", law=operation.law, ours=LAW)
        return await self._carry_out(operation, tell)

    async def stop_operation(self, operation_id: str) -> Operation:
        """Let an operation begin nothing more; what it has begun comes to its end. Raises NotFound."""
        operation = await self._operation_store.get(operation_id)
        await self._operation_store.stop(operation.id, self._engine.clock.now())
        return await self._operation_store.get(operation.id)

    async def operations(self, *, limit: int = 50) -> list[Operation]:
        """What was done to many connections, the latest first."""
        return await self._operation_store.latest(limit)

    async def operation(self, operation_id: str) -> tuple[Operation, list[OperationItem]]:
        """One operation with its items. Raises NotFound."""
        operation = await self._operation_store.get(operation_id)
        return operation, await self._operation_store.items(operation.id)

    async def _carry_out(self, operation: Operation, tell: Tell | None) -> list[Outcome]:
        with self._in_flight:
            return await Run(self, self._engine, self._operation_store, operation, tell).run()


def _applied_before(plan: Plan, tell: Tell | None) -> list[Outcome]:
    """A plan that was carried out: all of it has moved since."""
    outcomes = [Outcome(id=item.id, outcome="changed", why="applied_before", operation=plan.id) for item in plan.acting]
    for outcome in outcomes if tell else ():
        assert tell is not None
        tell(outcome)
    return outcomes
