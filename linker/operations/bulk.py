"""Many connections at once: a plan says what would become of each, and an operation carries it out, a few a second.

A plan is made by reading alone, from the law that decides when it is carried out. It is carried out by version: what
moved in between is left alone.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from anyio import to_thread

from linker.engine.ports import DamagedRow, Selection, Store
from linker.engine.service import HOST
from linker.errors import BadInput, Refused
from linker.event_log import log
from linker.operations.operation_run import Outcome, Run, Tell, operation_of, passed_over
from linker.operations.plan import Plan, PlannedChange
from linker.operations.verbs import OperatorVerbs, deed_of
from linker.persistence.operation_store import Operation, OperationItem, OperationStore
from linker.serialization import moment
from linker.validation.text import metadata
from states.connection import Connection, ConnectionState
from states.explanation import Hindrance, Verb, foresee
from states.table import LAW
from states.timing import Timing

#: How many connections are read at a time for a plan.
PLAN_ROWS = 2_000
#: How long a plan may lie about before it is carried out.
PLAN_LASTS = timedelta(hours=1)
#: How many connections are begun in a second unless somebody says otherwise, and at most.
RATE = 5.0
FASTEST = 100.0


async def _pages(store: Store, wanted: Selection) -> AsyncIterator[list[Connection | DamagedRow]]:
    """All that a selection means, page by page; many ids a few at a time, so that each is looked up once."""
    if wanted.ids is not None and wanted.limit is None:
        ids = wanted.ids
        for start in range(0, len(ids), PLAN_ROWS):
            yield (await store.page(replace(wanted, ids=ids[start : start + PLAN_ROWS]))).found
        return
    after, left = wanted.after, wanted.limit
    while left is None or left > 0:
        page = await store.page(replace(wanted, limit=PLAN_ROWS if left is None else min(PLAN_ROWS, left), after=after))
        yield page.found
        left, after = None if left is None else left - len(page.found), page.after
        if after is None:
            return


def _unread(connection_id: str, why: str) -> PlannedChange:
    return PlannedChange(id=connection_id, version=-1, source=None, to=None, duty="nothing", skipped=why)


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
        tell: Callable[[int], object] | None = None,
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
            tell: is told now and then of how many connections have been read.

        Raises:
            BadInput: the verb needs something that is not given, or a text cannot be kept.
        """
        what = Verb(verb)
        if what is Verb.FORCE and to is None:
            raise BadInput("to", "empty")
        if what is Verb.SET_METADATA:
            metadata({key: text for key, text in (texts or {}).items() if text is not None})
        deed = deed_of(what, actor, reason)
        now, timing, store = self._engine.clock.now(), self._timing, self._engine.store
        items: dict[str, PlannedChange] = {}
        alike: dict[Any, Any] = {}

        def foreseen(c: Connection | DamagedRow) -> PlannedChange:
            if isinstance(c, DamagedRow):
                return _unread(c.id, Hindrance.DAMAGED.value)
            try:
                found = foresee(what, c, now, timing, to)
            except Exception as error:  # noqa: BLE001 - a row that the law cannot take must not stop the others
                log.error("operation.not_foreseen", connection=c.id, reason=type(error).__name__)
                return _unread(c.id, Hindrance.DAMAGED.value)
            return PlannedChange(
                id=c.id,
                version=c.version,
                source=c.state,
                to=found.to,
                duty=found.duty.value,
                calls=found.calls,
                account=c.subdomain if found.calls else None,
                skipped=found.hindrance.value if found.hindrance else None,
                answers=alike.setdefault(found.answers, found.answers),
                change=alike.setdefault(found.change, found.change),
            )

        async for page in _pages(store, wanted):  # each once, whatever moves meanwhile; and the event loop stays free
            for item in await to_thread.run_sync(partial(list[PlannedChange], map(foreseen, page))):
                items[item.id] = item
            if tell is not None:
                tell(len(items))
        missing = [each for each in wanted.ids or () if each not in items]
        for start in range(0, len(missing), PLAN_ROWS):
            ids = tuple(missing[start : start + PLAN_ROWS])
            others = {each.id for each in (await store.page(Selection(ids=ids, closed=None))).found}
            items |= {each: _unread(each, "not_found") for each in ids if each not in others}
        return Plan(
            id=f"op_{secrets.token_hex(6)}",
            verb=what,
            actor=actor,
            reason=deed.reason,
            made_at=now,
            law=LAW,
            items=tuple(items.values()),
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
        operation, items = await to_thread.run_sync(partial(operation_of, plan, now, rate))
        told: list[Outcome] = []
        if await self._operation_store.begin(operation, items):
            told = [outcome for each in plan.items if (outcome := passed_over(plan, each)) is not None]
        else:
            operation = await self._operation_store.get(plan.id)
            if operation.finished_at is not None:  # all of it has moved since
                told = [
                    Outcome(id=each.id, outcome="changed", why="applied_before", operation=plan.id)
                    for each in plan.acting
                ]
        if tell is not None:
            for outcome in told:
                tell(outcome)
        return told if operation.finished_at is not None else [*told, *await self._carry_out(operation, tell)]

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
        return await self._operation_store.stop(operation_id, self._engine.clock.now())

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
