"""The story of a connection, in named steps. Knows the law and the ports, and nothing else of the world.

Every change goes one path: claim, call, decide, settle. What a person does is recorded first and attended at once;
what is due is attended by the sweep. Both do the same for a connection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

from pydantic import SecretStr

from linker.encryption import fingerprint
from linker.engine.concurrency import InFlight
from linker.engine.executor import Deed, DutyExecutor, log_written
from linker.engine.leases import LeaseIssuer
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import ID_PREFIX, Clock, Lease, Settlement, Store
from linker.engine.sweep import Sweep, Sweeper, is_race
from linker.errors import BadInput, Busy, LinkerError, Refused
from linker.validation import parse_subdomain, parse_token, text
from linker.validation.token import hidden
from states import events as happened
from states.connection import Connection, ConnectionState, Credential, Permissions
from states.duties import Duty, next_duty
from states.explanation import Verb
from states.history import Step
from states.impossible import without_impossible_times
from states.machine import IllegalTransition

#: Who acts when the host does not say.
HOST = "host"
#: How the names of operators, and of what they let cron do, begin.
OPERATORS = ("operator:", "cron:")
#: What customers do, and operators for them: with the verb in the history if it was an operator.
FOR_CUSTOMERS = (OPEN, SUBMIT, CONFIRM) = ("open", "submit", "confirm")
#: How often a lost race is run again before we say that the connection is busy.
MOST_TRIES = 10
#: How many duties in a row are attended for a person: three of their own (verify, prepare, look), and those that
#: somebody else's deed adds meanwhile.
DUTIES_IN_A_ROW = 6
#: How long a person waits for somebody else's look at the same connection, and the pause between two tries.
PATIENCE_SECONDS = 20.0
PAUSE_SECONDS = 0.05

#: For how long a page that was heard of counts as open.
WATCHED_SPAN = timedelta(seconds=45)

#: What follows upon a person's deed without a pause.
_AT_ONCE = {Duty.VERIFY_TOKEN, Duty.PREPARE_RECRUITER}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The parts that a service works with."""

    store: Store
    executor: DutyExecutor
    sweeper: Sweeper
    lease_issuer: LeaseIssuer
    clock: Clock
    observer: Observer = UNOBSERVED


class Service:
    """What can be done with connections. Every method is safe to call again."""

    def __init__(self, engine: Engine) -> None:
        """Take the parts; `linker.Linker` puts them together from settings."""
        self._engine = engine

    # the story

    async def create(
        self,
        *,
        owner: str,
        key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        actor: str = HOST,
        by_hand: bool = False,
    ) -> Connection:
        """Open a connection for one of the host's customers.

        Args:
            owner: the host's own name for the customer.
            key: what the host calls this connection among the owner's. If one of this name is open already, it is
                given, and nothing is changed: so a call may be repeated. One that was unlinked gives its key free.
            metadata: up to 50 texts that the host wants to find again with the connection.
            actor: who does this, for the history.
            by_hand: an operator does this for the customer, whatever the actor is called: it is in the audit.

        Raises:
            BadInput: a text is none, is empty or too long, or holds what no text may hold.
        """
        await self._make_sure_that_it_fits()
        now = self._engine.clock.now()
        deadline = now + self._engine.executor.timing.token_within
        connection = Connection(
            id=f"{ID_PREFIX}{secrets.token_hex(10)}",
            owner=text.one_line("owner", owner),
            key=None if key is None else text.one_line("key", key),
            created_at=now,
            state_since=now,
            metadata=text.metadata(metadata or {}),
            permissions=Permissions(needed=self._engine.executor.permissions),
            deadline=deadline,
            due_at=deadline,
        )
        actor = text.one_line("actor", actor)
        verb = _verb_of(OPEN, actor, by_hand=by_hand)
        step = Step(event="opened", source=None, target=connection.state, at=now, actor=actor, verb=verb)
        opened = Settlement(before=connection, after=connection, step=step, announcement="connection.opened")
        added = await self._engine.store.add(opened)
        if added.id == connection.id:
            log_written(opened)
            self._wake_delivery()
        return added

    async def submit_token(
        self,
        connection_id: str,
        *,
        subdomain: str,
        token: SecretStr | str | None = None,
        expires_on: date | None = None,
        actor: str = HOST,
        by_hand: bool = False,
    ) -> Connection:
        """“Continue”: verify a token live, and issue the recruiter's name and e-mail.

        If Workable cannot be asked now, the token is kept and the connection goes on by itself. A token for a
        connection that has one already, also if refusals ended it, is a replacement: it is verified, its account
        compared, and only then swapped; a bad one leaves everything as it was and is told in `replacement_problem`.

        Args:
            connection_id: the connection.
            subdomain: what the person typed: the name, or the account's address as copied from a browser.
            token: what the person pasted; as a `SecretStr` it stays out of your own tracebacks too. None: the one that
                is kept for some minutes after it turned out to be another account's, or else the one in use, as for an
                account that was renamed.
            expires_on: the last day on which the token works, as the person read it in Workable.
            actor: who does this, for the history.
            by_hand: an operator does this for the customer, whatever the actor is called: it is in the audit.

        Raises:
            BadInput: the subdomain, the token or the date cannot be right. Nothing was changed.
            NotFound: no such connection.
            Refused: the connection is closed, or no token is given and none is in use.
            Busy: somebody else is attending it and does not come to an end.
        """
        token = None if token is None else hidden(token)  # first of all: reports of errors show the frames' locals
        try:
            parsed = parse_subdomain(subdomain)
        finally:
            del subdomain  # people paste tokens into the wrong field
        connection_id = text.known_id(connection_id)
        actor = text.one_line("actor", actor)
        secret = None if token is None else parse_token(token)
        if secret is not None and secret.get_secret_value().lower() == parsed:
            raise BadInput("subdomain", "same_as_token")
        today_somewhere = (self._engine.clock.now() - timedelta(days=1)).date()
        text.check_type("token_expires", expires_on, date, "not_a_date")
        if expires_on is not None and expires_on < today_somewhere:
            raise BadInput("token_expires", "past", date=expires_on.isoformat())
        given = secret and Credential(
            subdomain=parsed,
            sealed=self._engine.executor.cipher.seal(secret, bound_to=connection_id),
            fingerprint=fingerprint(secret),
            expires_on=expires_on,
        )

        def submitted(now: Connection) -> happened.Event:
            held = now.held_token or now.token
            candidate = given or (held and replace(held, subdomain=parsed))
            if candidate is None:
                raise BadInput("token", "not_held")
            if now.state in {ConnectionState.AWAITING_TOKEN, ConnectionState.FAILED}:
                return happened.TokenSubmitted(candidate)
            return happened.ReplacementSubmitted(candidate)

        with self._in_flight, self._engine.observer.watch(Work.SUBMIT_TOKEN, connection_id=connection_id):
            verb = _verb_of(SUBMIT, actor, by_hand=by_hand)
            await self.record(connection_id, submitted, actor=actor, goes_on=True, verb=verb)
            return await self._attend_while_owed(connection_id, actor=actor, verb=verb)

    async def give_subdomain(self, connection_id: str, subdomain: str, *, actor: str = HOST) -> Connection:
        """Write down which account is meant, before a token for it is given: whoever goes on later is not asked again.

        Args:
            connection_id: the connection.
            subdomain: what the person typed, as `submit_token` takes it.
            actor: who does this, for the history.

        Raises:
            BadInput: it cannot be a subdomain. Nothing was changed.
            NotFound: no such connection.
            Refused: the connection has a token already, or one that is being verified.
        """
        try:
            parsed = parse_subdomain(subdomain)
        finally:
            del subdomain  # as in `submit_token`
        return await self.record(connection_id, lambda _: happened.SubdomainGiven(parsed), actor=actor)

    async def confirm_recruiter(self, connection_id: str, *, actor: str = HOST, by_hand: bool = False) -> Connection:
        """“Set up integration”: look for the recruiter now. A second press while a look is in flight does no harm.

        A linked connection is looked at, too. What was found goes into the history, the same at most once a minute.

        Args:
            connection_id: the connection.
            actor: who does this, for the history.
            by_hand: an operator does this for the customer, whatever the actor is called: it is in the audit.

        Raises:
            BadInput: the actor is not printable text. Nothing was changed.
            NotFound: no such connection.
            Refused: there is no recruiter to look for in this state.
            Busy: somebody else is attending it and does not come to an end.
        """
        connection_id, actor = text.known_id(connection_id), text.one_line("actor", actor)
        with self._in_flight, self._engine.observer.watch(Work.CONFIRM_RECRUITER, connection_id=connection_id):
            connection = await self._engine.store.get(connection_id)
            _refuse_at_rest(connection)
            if connection.state is ConnectionState.FAILED and connection.candidate is None:
                raise Refused("has_failed", connection=connection.id)
            if next_duty(connection) is Duty.PUT_ASIDE:
                raise Refused("no_token", connection=connection.id)
            was_linked = connection.state is ConnectionState.LINKED
            verb = _verb_of(CONFIRM, actor, by_hand=by_hand)
            return await self._attend_while_owed(
                connection_id, actor=actor, look=True, was_linked=was_linked, verb=verb
            )

    async def check(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Look now, whether or not a look is due: in any state in which a token is held, also linked or failed.

        The answer goes into the history also if nothing changed; the same answer at most once a minute. A connection
        that has failed goes on by itself if its token is good again, unless an operator ended it.

        Args:
            connection_id: the connection.
            actor: who does this, for the history.
            reason: why, for the history.

        Raises:
            NotFound: no such connection.
            Refused: it is closed or paused, or there is no token to ask with.
            Busy: somebody else is attending it and does not come to an end.
        """
        connection_id, actor = text.known_id(connection_id), text.one_line("actor", actor)
        with self._in_flight, self._engine.observer.watch(Work.CHECK, connection_id=connection_id):
            _refuse_at_rest(await self._engine.store.get(connection_id))
            await self.record(
                connection_id,
                lambda _: happened.CheckRequested(),
                actor=actor,
                reason=reason,
                goes_on=True,
                verb=Verb.CHECK,
            )
            return await self._attend_while_owed(connection_id, actor=actor)

    async def watch(self, connection_id: str) -> Connection:
        """Somebody has the page of this connection open now: what is awaited is looked for sooner. Makes no call.

        Call it every few seconds, as long as the page is open; most of these calls write nothing. Gives the connection
        as it is then.

        Raises:
            NotFound: no such connection.
        """
        connection_id = text.known_id(connection_id)
        now, timing = self._engine.clock.now(), self._engine.executor.timing
        return await self._engine.store.watch(
            connection_id,
            now=now,
            until=now + WATCHED_SPAN,
            first_look=now + timing.watched_first,
            next_look=now + timing.watched_last,
        )

    async def get(self, connection_id: str) -> Connection:
        """Read a connection. Raises NotFound."""
        return await self._engine.store.get(text.known_id(connection_id))

    async def history(self, connection_id: str) -> list[Step]:
        """Read a connection's steps, first one first. Raises NotFound."""
        return await self._engine.store.history(text.known_id(connection_id))

    async def restart(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Let a failed connection go on, with the token that it holds or with a new one.

        Raises:
            NotFound: no such connection.
            Refused: it has not failed.
        """
        connection_id, actor = text.known_id(connection_id), text.one_line("actor", actor)
        with self._in_flight, self._engine.observer.watch(Work.RESTART, connection_id=connection_id):
            await self.record(
                connection_id,
                lambda _: happened.Restarted(),
                actor=actor,
                reason=reason,
                goes_on=True,
                verb=Verb.RESTART,
            )
            return await self._attend_while_owed(connection_id, actor=actor)

    async def unlink(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Give a connection up for good: its secrets are wiped and it is closed.

        Raises:
            NotFound: no such connection.
            Refused: it is closed already.
        """
        return await self.record(
            connection_id, lambda _: happened.Unlinked(), actor=actor, reason=reason, verb=Verb.UNLINK
        )

    # the host's own use of a link

    async def report_refusal(self, connection_id: str, *, actor: str = HOST) -> None:
        """A call of the host's own was refused with the token in use: look soon. Once a minute is heard, at most.

        Clients of `Linker.client` do this by themselves. The refusal itself counts for nothing: what we see when we
        look does.

        Raises:
            NotFound: no such connection.
        """
        now = self._engine.clock.now()
        with self._in_flight, suppress(Refused):
            await self.record(connection_id, lambda _: happened.RefusalReported(now), actor=actor)

    async def report_permission(self, connection_id: str, scope: str, *, allowed: bool, actor: str = HOST) -> None:
        """A call of the host's own that needs a permission was answered, or refused (403). Clients tell it themselves.

        A permission that is lost is named in the connection's problem and announced; the link goes on without it.

        Raises:
            NotFound: no such connection.
        """
        with self._in_flight, suppress(Refused):
            tried = happened.PermissionTried(scope, allowed)
            await self.record(connection_id, lambda _: tried, actor=actor)

    async def report_use(self, connection_id: str, *, actor: str = HOST) -> None:
        """Calls of the host's own go well: the next look is put off, once. Clients do this by themselves.

        Raises:
            NotFound: no such connection.
        """
        with self._in_flight, suppress(Refused):
            await self.record(connection_id, lambda _: happened.UseConfirmed(), actor=actor, goes_on=True)

    async def reveal_token(self, connection_id: str, *, reason: str, actor: str = HOST) -> SecretStr:
        """The token in use in clear text, for what no client of ours can do. It is written into the history first.

        Args:
            connection_id: the connection.
            reason: why, for the history.
            actor: who does this, for the history.

        Raises:
            BadInput: no reason is given, or it is not printable text.
            NotFound: no such connection.
            Refused: it holds no token that works.
            KeyMissing: this process was not given the key of its token.
        """
        connection_id, reason = text.known_id(connection_id), text.one_line("reason", reason)
        with self._in_flight:
            held = await self._engine.store.get(connection_id)
            if held.token is None:
                raise Refused("no_token", connection=connection_id)
            self._engine.executor.cipher.open(held.token.sealed, bound_to=connection_id)
            told = await self.record(connection_id, lambda _: happened.TokenRevealed(), actor=actor, reason=reason)
            assert told.token is not None, "the law's guard looked at the token"
            return self._engine.executor.cipher.open(told.token.sealed, bound_to=connection_id)

    async def attend_due(self, only: Sequence[str] | None = None) -> Sweep:
        """One pass over what is due. Call it from any queue or timer; several at the same time do no harm.

        `only`: of these connections, by their ids; ids that there are not are passed over.
        """
        with self._in_flight, self._engine.observer.watch(Work.SWEEP) as note:
            await self._make_sure_that_it_fits()
            await self._agree_on_the_time()
            swept = await self._engine.sweeper.sweep(only)
            if swept.claimed:
                await self._engine.store.review_incident(now=self._engine.clock.now())
            note(**asdict(swept))
            return swept

    # the one path

    async def record(
        self,
        connection_id: str,
        event: Callable[[Connection], happened.Event],
        *,
        actor: str,
        reason: str | None = None,
        goes_on: bool = False,
        verb: str | None = None,
    ) -> Connection:
        """Write down what a person did, as `linker.record(id, lambda _: Paused(), actor="ann")` pauses a connection.

        An answer that is in flight for the row as it was before is then refused.

        Args:
            connection_id: the connection.
            event: makes an event of `states.events` from the connection as it is now; `Paused` and `Resumed` have no
                method of their own.
            actor: who does this, for the history.
            reason: why, for the history.
            goes_on: the caller attends it next, so no worker is woken for it.
            verb: the operator's verb that it is, for the history.

        Raises:
            NotFound: no such connection.
            Refused: the law does not allow it.
            Busy: others write the connection faster than we do.
            BadInput: the actor or the reason is not printable text.
        """
        connection_id, actor = text.known_id(connection_id), text.one_line("actor", actor)
        reason = None if reason is None or reason == "" else text.one_line("reason", reason)
        for _ in range(MOST_TRIES):
            before = await self._engine.store.get(connection_id)
            refused = None
            try:
                deed = Deed(verb=verb, reason=reason) if verb else None
                decided = self._engine.executor.decide(before, event(before), actor=actor, reason=reason, deed=deed)
            except IllegalTransition as illegal:
                refused = refusal_of(illegal)
            if refused is not None:
                raise refused
            written = await self._write(replace(decided, quiet=goes_on), release=False)
            if written is not None:
                return written
        raise Busy("changed_by_others", connection=connection_id)

    async def _attend_while_owed(
        self,
        connection_id: str,
        *,
        actor: str,
        look: bool = False,
        was_linked: bool = False,
        verb: str | None = None,
    ) -> Connection:
        """Attend what is owed at once, duty after duty. `look`: also a look that would be due later.

        `was_linked`: it was linked when it was asked for; otherwise, once it is, somebody else was just faster.
        `verb`: the operator's that it is done for.
        """
        executor = self._engine.executor
        for _ in range(DUTIES_IN_A_ROW):
            held, lease = await self._claim(connection_id)
            look = look and (was_linked or held.state is not ConnectionState.LINKED)
            written = None
            try:
                found = None
                if self._is_owed_now(held, look):
                    found = await executor.run(executor.plan(held, person_waits=True))
                if found is None:
                    return held
                [settlement] = await executor.decide_batch([found], actor=actor)
                if settlement.step is not None:
                    settlement = replace(settlement, step=replace(settlement.step, verb=verb))
                written = await self._write(settlement, release=True)
                if written is None and not is_race(settlement):
                    self._engine.observer.leases_lost(1)
            finally:
                if written is None:
                    await asyncio.shield(self._release(connection_id, lease))
            look = look and next_duty(held) is Duty.VERIFY_TOKEN
            if written is not None and not self._is_owed_now(written, look):
                return written
        return await self._engine.store.get(connection_id)

    def _is_owed_now(self, held: Connection, look: bool) -> bool:
        """True for what a person does not wait for; what was not tried yet is due, though a sweep was put off."""
        now = self._engine.clock.now()
        held = without_impossible_times(held, now, self._engine.executor.timing)
        duty = next_duty(held)
        if duty is Duty.NOTHING or (held.not_before is not None and held.not_before > now):
            return False
        untried = duty in _AT_ONCE and held.attempts == 0 and held.doubt is None
        return look or untried or (held.due_at is not None and held.due_at <= now)

    async def _claim(self, connection_id: str) -> tuple[Connection, Lease]:
        """Lease the connection, after whoever holds it."""
        await self._make_sure_that_it_fits()
        for _ in range(round(PATIENCE_SECONDS / PAUSE_SECONDS)):
            lease, now = self._engine.lease_issuer.new(), self._engine.clock.now()
            claiming = asyncio.ensure_future(self._engine.store.claim(connection_id, now=now, lease=lease))
            try:
                held = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                with suppress(LinkerError):  # the lease ends by itself
                    await asyncio.shield(self._release(connection_id, lease, after=claiming))
                raise
            if held is not None:
                return held, lease
            await asyncio.sleep(PAUSE_SECONDS)
        raise Busy("attended_by_others", connection=connection_id)

    async def _release(
        self, connection_id: str, lease: Lease, *, after: asyncio.Future[Connection | None] | None = None
    ) -> None:
        """Give a lease back; `after` the claim whose thread goes on, though nobody waits for it any more."""
        with self._in_flight:
            if after is not None:
                await asyncio.wait([after])
            await self._engine.store.release([connection_id], lease)

    async def _write(self, settlement: Settlement, *, release: bool) -> Connection | None:
        """Settle one; gives the connection as it is now, or None if somebody else was faster."""
        now = self._engine.clock.now()
        [written] = await self._engine.store.settle([settlement], now=now, release=release)
        if not written:
            return None
        log_written(settlement)
        if settlement.announcement:
            self._wake_delivery()
        return settlement.written(now)

    @property
    def _in_flight(self) -> InFlight:
        """What has to come to its end before the store is closed."""
        return self._engine.sweeper.in_flight

    async def _agree_on_the_time(self) -> None:
        """A pass is about to begin: whoever shares a clock with other workers asks for its time."""

    async def _make_sure_that_it_fits(self) -> None:
        """Something is about to be written: whoever shares a database asks now and then whether it still may."""

    def _wake_delivery(self) -> None:
        """Announcements were committed: whoever delivers may be woken."""


def _verb_of(verb: str, actor: str, *, by_hand: bool) -> str | None:
    """The verb that the history keeps of what customers and hosts do too; None: no operator did it."""
    return verb if by_hand or actor.startswith(OPERATORS) else None


def _refuse_at_rest(connection: Connection) -> None:
    """Nobody is asked for what is closed or paused."""
    if connection.at_rest:
        raise Refused("closed" if connection.closed_at is not None else "paused", connection=connection.id)


def refusal_of(illegal: IllegalTransition) -> Refused:
    """What the law says no to."""
    connection = illegal.connection
    if connection.closed_at is not None:
        return Refused("closed", connection=connection.id)
    state = connection.state.value
    if isinstance(illegal.event, happened.CheckRequested):
        return Refused("no_token", connection=connection.id)
    if isinstance(illegal.event, happened.Restarted):
        return Refused("not_failed", connection=connection.id, state=state)
    allowed = list(illegal.allowed)
    return Refused("not_allowed", connection=connection.id, event=illegal.event.name, state=state, allowed=allowed)
