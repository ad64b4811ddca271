"""The run of an operation: a few connections are begun a second, each at the version that it was planned at.

An operation is rows, so whoever is killed loses nothing, and whoever goes on does nothing twice.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from linker.engine.executor import Deed
from linker.engine.ports import Lease
from linker.engine.service import Engine
from linker.errors import Busy, LinkerError, NotFound, Refused, RowUnreadable, TryAgain
from linker.event_log import log
from linker.operations.plan import Plan, PlannedChange, outcome_of_skipped, planned_json
from linker.operations.verbs import ASKING, OperatorVerbs
from linker.persistence.operation_store import HeldByOthers, Operation, OperationItem, OperationStore
from linker.serialization import moment
from states import events as happened
from states.connection import Connection, ConnectionState
from states.explanation import Hindrance, Verb, event_of
from states.problems import REFUSALS, TRANSIENT, ProblemCode

#: How many connections are under way at once.
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
#: Why an item has to wait whose account, or partner, has no call left at the moment.
BUDGET_USED_UP = "budget_used_up"


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
    items = []
    for position, item in enumerate(plan.items):
        row = OperationItem(
            position=position, connection_id=item.id, version=item.version, planned=planned_json(plan, item)
        )
        outcome = passed_over(plan, item)
        if outcome is not None:  # that is all that will be done
            row = replace(row, outcome=outcome.outcome, told=told_of(outcome), done_at=now)
        items.append(row)
    return operation, items


def passed_over(plan: Plan, item: PlannedChange) -> Outcome | None:
    """What becomes of a connection that a plan passes over; None: it does something."""
    if item.skipped is None:
        return None
    outcome = outcome_of_skipped(item.skipped)
    return Outcome(id=item.id, outcome=outcome, state=item.source, why=item.skipped, operation=plan.id)


def told_of(outcome: Outcome) -> dict[str, Any]:
    """What an operation keeps of an outcome, beside its name."""
    return {"state": outcome.state.value if outcome.state else None, "why": outcome.why}


@dataclass(frozen=True, kw_only=True)
class Later:
    """An item has to wait for so many seconds."""

    seconds: float
    why: str
    #: As it follows its connection from now on; None: it is as it was.
    item: OperationItem | None = None


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
                    begin_at = max(begin_at, now - 1.0) + self._pause()
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
                        again = (time.monotonic() + later.seconds, next(numbers), tries + 1, later.item or item)
                        heapq.heappush(waiting, again)
        finally:
            if under_way:  # what was begun comes to its end, also when nobody waits for it any more
                await asyncio.shield(asyncio.wait(under_way))

    def _pause(self) -> float:
        """The pause after an item was begun."""
        jitter = self._engine.executor.randomness.jitter()
        return (1 - SPREAD / 2 + SPREAD * jitter) / self._operation.rate

    async def _one(self, item: OperationItem, tries: int) -> Later | None:
        """Do one, and write down what became of it. Trouble of one stops no other."""
        try:
            found = await self._attempt(item)
        except NotFound:
            found = self._told(item, "not_found")
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
        await self._store.finish(self._operation.id, item.position, found.outcome, told_of(found), self._now())
        self._outcomes.append(found)
        self._tell(found)
        return None

    def _told(
        self, item: OperationItem, outcome: str, *, state: ConnectionState | None = None, why: str | None = None
    ) -> Outcome:
        return Outcome(id=item.connection_id, outcome=outcome, state=state, why=why, operation=self._operation.id)

    async def _attempt(self, item: OperationItem) -> Outcome | Later:
        verb = Verb(self._operation.verb)
        deed = Deed(verb=verb.value, reason=self._operation.reason, operation=self._operation.id)
        if verb in ASKING:
            return await self._ask(item, verb, deed)
        before = await self._engine.store.get(item.connection_id)
        if before.version != item.version:
            return await self._moved(item)
        to = self._operation.params.get("to")
        event = event_of(verb, ConnectionState(to) if to else None, self._operation.params.get("texts"))
        after = await self._by.settle_deed(before, event, deed=deed, actor=self._operation.actor)
        return await self._moved(item) if after is None else self._told(item, "done", state=after.state)

    async def _moved(self, item: OperationItem) -> Outcome:
        """It is at another version: somebody else moved it, or we did, before we could write that down."""
        now = await self._engine.store.get(item.connection_id)
        is_ours = await self._store.has_done(self._operation.id, item.connection_id)
        return self._told(item, "done" if is_ours else "changed", state=now.state)

    async def _ask(self, item: OperationItem, verb: Verb, deed: Deed) -> Outcome | Later:
        """Claim it for the item, and put at most one question to Workable."""
        lease = self._engine.lease_issuer.new()
        try:
            held = await self._store.claim(self._operation.id, item, now=self._now(), lease=lease)
        except HeldByOthers:
            return Later(seconds=HELD_PAUSE_SECONDS, why="held_by_others")
        if isinstance(held, datetime):
            return self._until(held)
        if held is None:
            return await self._moved(item)
        first: happened.Event | None = None
        if verb is not Verb.ADVANCE:
            first = happened.CheckRequested() if verb is Verb.CHECK else happened.Restarted()
        attended = await self._by.attend_held(
            held, lease, deed=deed, actor=self._operation.actor, person_waits=False, first=first
        )
        now = attended.connection
        if attended.put_off_until is not None and now.last_seq == held.last_seq:
            ours = replace(item, version=held.version, told={"holder": lease.holder})
            return replace(self._until(attended.put_off_until), item=ours)
        if attended.put_off_until is not None and first is not None:  # whoever attends what is due asks
            return self._told(item, "try_again", state=now.state, why=BUDGET_USED_UP)
        if attended.lost:
            return self._told(item, "changed", state=now.state)
        why = now.present_problem.code.value if now.present_problem else None
        return self._told(item, outcome_of(held, now), state=now.state, why=why)

    def _until(self, until: datetime) -> Later:
        return Later(seconds=max((until - self._now()).total_seconds(), 0.1), why=BUDGET_USED_UP)


def outcome_of(before: Connection, now: Connection) -> str:
    """What an answer of Workable's came to: `done waiting refused try_again error`."""
    problem = now.present_problem or now.replacement_problem
    if problem is not None and problem.code in TRANSIENT:
        return "error" if problem.code is ProblemCode.POISONED else "try_again"
    refused = problem is not None and problem.code in REFUSALS and now.state is ConnectionState.AWAITING_TOKEN
    ended = now.state is ConnectionState.FAILED and problem is not None and problem.code is not ProblemCode.ABANDONED
    if refused or ended:
        return "refused"
    if now.state is not before.state or now.state is ConnectionState.LINKED:
        return "waiting" if now.doubt else "done"
    return "waiting"
