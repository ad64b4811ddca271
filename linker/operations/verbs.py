"""What operators do to one connection, each verb on the one path: claim, call, decide, settle.

Each takes who does it and why, and is in the connection's history. `advance` does what is owed and nothing else: the
law decides. The same deeds on many connections, with a plan, are in `linker.operations.bulk`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Unpack

from linker.engine.executor import Deed
from linker.engine.ports import Lease, Page, Selection
from linker.engine.service import HOST, Service, refusal_of
from linker.errors import Busy, Refused, TryAgain
from linker.operations.selectors import Selectors, selection
from linker.validation.text import known_id, metadata, one_line
from states import events as happened
from states.connection import Connection, ConnectionState
from states.explanation import Hindrance, Verb, event_of, is_due, what_hinders
from states.machine import IllegalTransition
from states.verdicts import OverLimit

#: Verbs that put a question to Workable.
ASKING = frozenset({Verb.ADVANCE, Verb.CHECK, Verb.RESTART})
#: Verbs that want to know why, and of which people are told beforehand what they keep and wipe.
GRAVE = frozenset({Verb.FORCE, Verb.UNLINK})
#: When an account's budget is whole again that was used up.
BUDGET_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Attended:
    """What came of attending a connection that was held; its lease was given back."""

    connection: Connection
    #: True if somebody else was faster, and nothing more of ours was written.
    lost: bool = False
    #: No call was made, because the account's budget is used up until then.
    put_off_until: datetime | None = None


class OperatorVerbs(Service):
    """The deeds of operators, beside what a host does."""

    async def find(self, **selectors: Unpack[Selectors]) -> list[Connection]:
        """Read connections for which all of it holds, by default all open ones, oldest first.

        What speaks of states, problems or times is ordered by how long it has been so. A row that cannot be read is
        left out, and told to the log; a `page` has it.

        Args:
            selectors: any of `Selectors`, as in `find(state="failed", older_than="3d")`.

        Raises:
            BadInput: one of them cannot be right.
        """
        return await self._engine.store.find(selection(self._engine.clock.now(), **selectors))

    async def whole_id(self, prefix: str) -> str:
        """The id that begins like this. Raises NotFound, and BadInput if several do."""
        return await self._engine.store.whole_id(prefix)

    async def page(self, wanted: Selection) -> Page:
        """A page of what a selection means, with a cursor to the next one, and with what cannot be read.

        Raises:
            BadInput: the cursor is none.
        """
        return await self._engine.store.page(wanted)

    async def advance(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Do now what is owed to a connection: verify, prepare, look, check, or give up. The law decides.

        At most one question is put to Workable. What follows from its answer without another one is done too.

        Raises:
            NotFound: no such connection.
            Refused: nothing is owed: it is closed, paused, failed, or nobody gave a token yet.
            TryAgain: Workable asked not to be called before a time, or the account's budget is used up.
            Busy: somebody else is attending it and does not come to an end.
            BadInput: the actor or the reason is not printable text.
        """
        connection_id, deed = known_id(connection_id), deed_of(Verb.ADVANCE, actor, reason)
        with self._in_flight:
            refuse_hindered(Verb.ADVANCE, await self._engine.store.get(connection_id), self._engine.clock.now())
            held, lease = await self._claim(connection_id)
            attended = await self.attend_held(held, lease, deed=deed, actor=actor, person_waits=True)
        if attended.lost:
            raise Busy("changed_by_others", connection=connection_id)
        if attended.put_off_until is not None:
            raise put_off("budget_used_up", connection_id, attended.put_off_until, self._engine.clock.now())
        return attended.connection

    async def attend_held(
        self,
        held: Connection,
        lease: Lease,
        *,
        deed: Deed,
        actor: str,
        person_waits: bool,
        first: happened.Event | None = None,
    ) -> Attended:
        """Do what is owed to a connection that is held, with one question to Workable at most; give its lease back.

        Args:
            held: the connection.
            lease: under which it is held.
            deed: what it is done for.
            actor: who does it.
            person_waits: more calls may be spent on a hint. Whoever attends many gives way to those who wait.
            first: what happens before anything that is owed.

        Raises:
            IllegalTransition: the law does not allow what comes first.
        """
        executor = self._engine.executor
        asked, lost, put_off_until = False, False, None
        try:
            if first is not None:
                decided = executor.decide(held, first, actor=actor, deed=deed)
                began = await self._write(replace(decided, quiet=True), release=False)
                if began is None:
                    return Attended(connection=held, lost=True)
                held = began
            while True:
                planned = executor.plan(held, person_waits=person_waits)
                is_certain = planned.event is not None
                if asked and not is_certain:
                    break
                found = await executor.run(planned)
                if found is None:
                    if planned.token is not None:  # the budget is used up, and a person is told so
                        put_off_until = self._engine.clock.now() + BUDGET_PAUSE
                    break
                if isinstance(found.verdict, OverLimit) and found.verdict.unasked:
                    put_off_until = found.verdict.retry_at
                    break
                [settlement] = await executor.decide_batch([found], actor=actor, deed=deed)
                written = await self._write(settlement, release=False)
                if written is None:
                    lost = True
                    break
                held, asked = written, asked or not is_certain
                if is_certain and not is_due(held, self._engine.clock.now()):
                    break  # what comes next is not owed yet: a recruiter that was just issued is not there
        finally:
            await asyncio.shield(self._release(held.id, lease))
        return Attended(connection=held, lost=lost, put_off_until=put_off_until)

    async def force(
        self, connection_id: str, *, to: ConnectionState, actor: str = HOST, reason: str | None = None
    ) -> Connection:
        """Put a connection into another state by hand. It bends the law's order, never its facts.

        `explain` and a plan say beforehand what is kept and wiped, who will be told, and what leads back.

        Raises:
            NotFound: no such connection.
            Refused: it is there already or closed, or does not hold what that state needs.
            Busy: others write the connection faster than we do.
        """
        return await self._do(Verb.FORCE, connection_id, actor, reason, to)

    async def pause(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Stop attending a connection until it is resumed. Raises NotFound, Refused (closed), Busy."""
        return await self._do(Verb.PAUSE, connection_id, actor, reason)

    async def resume(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Let a paused connection go on. Raises NotFound, Refused (closed), Busy."""
        return await self._do(Verb.RESUME, connection_id, actor, reason)

    async def set_metadata(
        self,
        connection_id: str,
        texts: Mapping[str, str | None],
        *,
        actor: str = HOST,
        reason: str | None = None,
    ) -> Connection:
        """Set texts of a connection's metadata; a text that is None is taken away, all others stay.

        Raises:
            NotFound: no such connection.
            BadInput: there are too many, or one is too long.
            Refused: it is closed.
            Busy: others write the connection faster than we do.
        """
        metadata({key: value for key, value in texts.items() if value is not None})

        def setting(now: Connection) -> happened.Event:
            metadata({**now.metadata, **{key: value for key, value in texts.items() if value is not None}})
            return event_of(Verb.SET_METADATA, texts=texts)

        return await self.record(connection_id, setting, actor=actor, reason=reason, verb=Verb.SET_METADATA)

    async def settle_deed(
        self, before: Connection, event: happened.Event, *, deed: Deed, actor: str
    ) -> Connection | None:
        """Write down what an operator did to a connection as it was read; None if somebody else was faster.

        Raises:
            Refused: the law does not allow it.
        """
        refused = None
        try:
            decided = self._engine.executor.decide(before, event, actor=actor, deed=deed)
        except IllegalTransition as illegal:
            refused = refusal_of(illegal)
        if refused is not None:
            raise refused
        return await self._write(decided, release=False)

    async def _do(
        self, verb: Verb, connection_id: str, actor: str, reason: str | None, to: ConnectionState | None = None
    ) -> Connection:
        before = await self._engine.store.get(known_id(connection_id))
        if verb is Verb.FORCE:
            refuse_hindered(verb, before, self._engine.clock.now(), to)
        return await self.record(
            connection_id, lambda _: event_of(verb, to), actor=actor, reason=reason, verb=verb.value
        )


def deed_of(verb: Verb, actor: str, reason: str | None) -> Deed:
    """What an operator does, with texts that can be kept. Raises BadInput."""
    one_line("actor", actor)
    return Deed(verb=verb.value, reason=one_line("reason", reason) if reason else None)


def refuse_hindered(verb: Verb, c: Connection, now: datetime, to: ConnectionState | None = None) -> None:
    """Say why a verb would do nothing to a connection. Raises Refused, or TryAgain where time alone helps."""
    hindrance = what_hinders(verb, c, now, to)
    if hindrance is Hindrance.NOT_BEFORE:
        assert c.not_before is not None, "that is what hinders it"
        raise put_off("not_before", c.id, c.not_before, now)
    if hindrance is not None:
        told = {"to": to.value} if to is not None else {}
        raise Refused(hindrance.value, connection=c.id, state=c.state.value, **told)


def put_off(reason: str, connection_id: str, until: datetime, now: datetime) -> TryAgain:
    """The error that something can be done only later."""
    error = TryAgain(reason, connection=connection_id, until=f"{until:%Y-%m-%d %H:%M:%S} UTC")
    error.retry_after = max((until - now).total_seconds(), 0.0)
    return error
