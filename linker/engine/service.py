"""The story of a connection, in named steps. Knows the law and the ports, and nothing else of the world.

Every change goes one path: claim, call, decide, settle. What a person does is recorded first and attended at once;
what is due is attended by the sweep. Both do the same for a connection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date, timedelta

from pydantic import SecretStr

from linker.encryption import fingerprint
from linker.engine.executor import DutyExecutor, log_written
from linker.engine.leases import LeaseIssuer
from linker.engine.observer import UNOBSERVED, Observer, Work
from linker.engine.ports import Lease, Settlement, Store
from linker.engine.sweep import Sweep, Sweeper, is_race
from linker.errors import BadInput, Busy, LinkerError, Refused
from linker.validation import parse_subdomain, parse_token
from states import events as happened
from states.connection import Connection, ConnectionState, Credential
from states.duties import Duty, next_duty
from states.history import Step
from states.machine import IllegalTransition

#: Who acts when the host does not say.
HOST = "host"
#: How often a lost race is run again before we say that the connection is busy.
TRIES = 10
#: How many duties in a row are attended for a person: three of their own (verify, prepare, look), and those that
#: somebody else's deed adds meanwhile.
DUTIES_IN_A_ROW = 6
#: How long a person waits for somebody else's look at the same connection, and the pause between two tries, in seconds.
PATIENCE = 20.0
PAUSE = 0.05

MOST_METADATA = 50
LONGEST_TEXT = 500


class Service:
    """What can be done with connections. Every method is safe to call again."""

    def __init__(
        self,
        *,
        store: Store,
        executor: DutyExecutor,
        sweeper: Sweeper,
        lease_issuer: LeaseIssuer,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """Take the parts; `linker.Linker` puts them together from settings."""
        self._store = store
        self._executor = executor
        self._sweeper = sweeper
        self._lease_issuer = lease_issuer
        self._observer = observer
        self._in_flight = sweeper.in_flight

    # the story

    async def create(self, *, owner: str, metadata: Mapping[str, str] | None = None, actor: str = HOST) -> Connection:
        """Open a connection for one of the host's customers.

        Args:
            owner: the host's own name for the customer.
            metadata: up to 50 texts that the host wants to find again with the connection.
            actor: who does this, for the history.

        Raises:
            BadInput: the owner is empty, or a text is too long.
        """
        now = self._executor.clock.now()
        connection = Connection(
            id=f"con_{secrets.token_hex(10)}",
            owner=_text("owner", owner),
            created_at=now,
            state_since=now,
            metadata=_metadata(metadata or {}),
            deadline=now + self._executor.timing.token_within,
            due_at=now + self._executor.timing.token_within,
        )
        step = Step(event="opened", source=None, target=connection.state, at=now, actor=_text("actor", actor))
        opened = Settlement(before=connection, after=connection, step=step, announcement="connection.opened")
        added = await self._store.add(opened)
        log_written(opened)
        self._wake_delivery()
        return added

    async def submit_token(
        self,
        connection_id: str,
        *,
        subdomain: str,
        token: SecretStr | str,
        expires_on: date | None = None,
        actor: str = HOST,
    ) -> Connection:
        """“Continue”: verify a token live, and issue the recruiter's name and e-mail.

        If Workable cannot be asked now, the token is kept and the connection goes on by itself. A token for a
        connection that has one already is a replacement: it is verified, its account compared, and only then swapped;
        a bad one leaves everything as it was and is told in `replacement_problem`.

        Args:
            connection_id: the connection.
            subdomain: what the person typed; see `parse_subdomain`.
            token: what the person pasted; as a `SecretStr` it stays out of your own tracebacks too.
            expires_on: the last day on which the token works, as the person read it in Workable.
            actor: who does this, for the history.

        Raises:
            BadInput: the subdomain, the token or the date cannot be right. Nothing was changed.
            NotFound: no such connection.
            Refused: the connection is closed.
            Busy: somebody else is attending it and does not come to an end.
        """
        token = SecretStr(token) if isinstance(token, str) else token  # from here on no frame shows it
        try:
            parsed = parse_subdomain(subdomain)
        finally:
            del subdomain  # people paste tokens into the wrong field, and reports of errors show the frames' locals
        secret = parse_token(token)
        _refuse_same(parsed, secret)
        self._refuse_past(expires_on)
        candidate = Credential(
            subdomain=parsed,
            sealed=self._executor.sealer.seal(secret, bound_to=connection_id),
            fingerprint=fingerprint(secret),
            expires_on=expires_on,
        )

        def submitted(now: Connection) -> happened.Event:
            if now.state in {ConnectionState.AWAITING_TOKEN, ConnectionState.FAILED}:
                return happened.TokenSubmitted(candidate)
            return happened.ReplacementSubmitted(candidate)

        with self._in_flight, self._observer.watch(Work.SUBMIT_TOKEN, connection_id=connection_id):
            await self.record(connection_id, submitted, actor=actor, goes_on=True)
            return await self._attend_while_owed(connection_id, actor=actor)

    async def confirm_recruiter(self, connection_id: str, *, actor: str = HOST) -> Connection:
        """“Set up integration”: look for the recruiter now. A second press while a look is under way does no harm.

        Raises:
            NotFound: no such connection.
            Refused: there is no recruiter to look for in this state.
            Busy: somebody else is attending it and does not come to an end.
        """
        with self._in_flight, self._observer.watch(Work.CONFIRM_RECRUITER, connection_id=connection_id):
            connection = await self._store.get(connection_id)
            if connection.state is ConnectionState.LINKED:
                return connection
            if next_duty(connection) not in _CONFIRMABLE:
                raise Refused(_why_not_confirm(connection))
            return await self._attend_while_owed(connection_id, actor=actor, look=True)

    async def get(self, connection_id: str) -> Connection:
        """Read a connection. Raises NotFound."""
        return await self._store.get(connection_id)

    async def find(
        self,
        *,
        state: ConnectionState | None = None,
        owner: str | None = None,
        stuck: bool = False,
        limit: int | None = None,
    ) -> list[Connection]:
        """Read connections, oldest first. `stuck`: only open ones that a person has to act for."""
        return await self._store.find(state=state, owner=owner, stuck=stuck, limit=limit)

    async def history(self, connection_id: str) -> list[Step]:
        """Read a connection's steps, first one first. Raises NotFound."""
        return await self._store.history(connection_id)

    async def restart(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Let a failed connection go on, with the token that it holds or with a new one.

        Raises:
            NotFound: no such connection.
            Refused: it has not failed.
        """
        with self._in_flight, self._observer.watch(Work.RESTART, connection_id=connection_id):
            await self.record(connection_id, lambda _: happened.Restarted(), actor=actor, reason=reason, goes_on=True)
            return await self._attend_while_owed(connection_id, actor=actor)

    async def unlink(self, connection_id: str, *, actor: str = HOST, reason: str | None = None) -> Connection:
        """Give a connection up for good: its secrets are wiped and it is closed.

        Raises:
            NotFound: no such connection.
            Refused: it is closed already.
        """
        return await self.record(connection_id, lambda _: happened.Unlinked(), actor=actor, reason=reason)

    async def attend_due(self) -> Sweep:
        """One pass over what is due. Call it from any queue or timer; several at the same time do no harm."""
        with self._in_flight, self._observer.watch(Work.SWEEP) as note:
            await self._agree_on_the_time()
            swept = await self._sweeper.sweep()
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
    ) -> Connection:
        """Write down what a person did. An answer that is under way for the row as it was before is then refused.

        `goes_on`: the caller attends it next, so no worker is woken for it.

        Raises:
            NotFound: no such connection.
            Refused: the law does not allow it.
            Busy: others write the connection faster than we do.
            BadInput: the actor or the reason is not printable text.
        """
        _text("actor", actor)
        _text("reason", reason or "none")
        for _ in range(TRIES):
            before = await self._store.get(connection_id)
            decided = self._decide(before, event(before), actor=actor, reason=reason)
            settlement = replace(decided, quiet=goes_on)
            if await self._write(settlement, release=False):
                return await self._store.get(connection_id)
        raise Busy(f"{connection_id} is being changed by others all the time. Try again.")

    async def _attend_while_owed(self, connection_id: str, *, actor: str, look: bool = False) -> Connection:
        """Attend what is owed at once, duty after duty. `look`: also a look that would be due later."""
        for _ in range(DUTIES_IN_A_ROW):
            held, lease = await self._claim(connection_id)
            look = look and held.state is not ConnectionState.LINKED  # somebody else was just faster
            written = False
            try:
                settlement = await self._executor.attend(held, actor=actor) if self._owed_now(held, look) else None
                if settlement is None:
                    return held
                written = await self._write(settlement, release=True)
                if not written and not is_race(settlement):
                    self._observer.leases_lost(1)
            finally:
                if not written:
                    await asyncio.shield(self._give_back(connection_id, lease))
            look = look and next_duty(held) is Duty.VERIFY_TOKEN
            if written and not self._owed_now(settlement.after, look):
                break
        return await self._store.get(connection_id)

    def _owed_now(self, held: Connection, look: bool) -> bool:
        """True for what a person does not wait for; what was not tried yet is due, though a sweep was put off."""
        now = self._executor.clock.now()
        if next_duty(held) is Duty.NOTHING or (held.not_before is not None and held.not_before > now):
            return False
        untried = next_duty(held) in _AT_ONCE and held.attempts == 0 and held.doubt is None
        return look or untried or (held.due_at is not None and held.due_at <= now)

    async def _claim(self, connection_id: str) -> tuple[Connection, Lease]:
        """Lease the connection, after whoever holds it."""
        for _ in range(round(PATIENCE / PAUSE)):
            lease = self._lease_issuer.new()
            claim = self._store.claim(connection_id, now=self._executor.clock.now(), lease=lease)
            claiming = asyncio.ensure_future(claim)
            try:
                held = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                with suppress(LinkerError):  # the lease ends by itself
                    await asyncio.shield(self._give_back(connection_id, lease, after=claiming))
                raise
            if held is not None:
                return held, lease
            await asyncio.sleep(PAUSE)
        raise Busy(f"{connection_id} is being attended by somebody else. Try again in a moment.")

    async def _give_back(
        self, connection_id: str, lease: Lease, *, after: asyncio.Future[Connection | None] | None = None
    ) -> None:
        """Give a lease back; `after` the claim whose thread goes on, though nobody waits for it any more."""
        with self._in_flight:
            if after is not None:
                await asyncio.wait([after])
            await self._store.release([connection_id], lease)

    def _decide(
        self, before: Connection, event: happened.Event, *, actor: str, reason: str | None = None
    ) -> Settlement:
        try:
            return self._executor.decide(before, event, actor=actor, reason=reason)
        except IllegalTransition as illegal:
            refusal = _why_not(illegal)
        raise Refused(refusal)

    async def _write(self, settlement: Settlement, *, release: bool) -> bool:
        now = self._executor.clock.now()
        [written] = await self._store.settle([settlement], now=now, release=release)
        if written:
            log_written(settlement)
            if settlement.announcement:
                self._wake_delivery()
        return written

    async def _agree_on_the_time(self) -> None:
        """A pass is about to begin: whoever shares a clock with other workers asks for its time."""

    def _wake_delivery(self) -> None:
        """Announcements were committed: whoever delivers may be woken."""

    def _refuse_past(self, expires_on: date | None) -> None:
        today_somewhere = (self._executor.clock.now() - timedelta(days=1)).date()
        if expires_on is not None and expires_on < today_somewhere:
            raise BadInput(
                "token_expires",
                f"{expires_on} is in the past.",
                "Give the expiry date that Workable shows for the token, or generate a new token.",
            )


def _refuse_same(subdomain: str, token: SecretStr) -> None:
    if token.get_secret_value().lower() == subdomain:
        raise BadInput(
            "subdomain",
            "it is the same text as the token.",
            "Give the subdomain that Workable shows under Settings > Company profile.",
        )


#: What a text is for.
SAYS = {"owner": "which of your customers it is", "actor": "who does this", "reason": "why"}
#: What follows upon a person's deed without a pause.
_AT_ONCE = {Duty.VERIFY_TOKEN, Duty.PREPARE_RECRUITER}
_CONFIRMABLE = {Duty.VERIFY_TOKEN, Duty.PREPARE_RECRUITER, Duty.FIND_RECRUITER}


def _why_not_confirm(connection: Connection) -> str:
    if connection.closed_at is not None:
        return f"{connection.id} is closed. Open a new connection."
    if connection.paused_at is not None:
        return f"{connection.id} is paused by an operator. It has to be resumed first."
    if connection.state is ConnectionState.FAILED:
        return f"{connection.id} has failed. Restart it, or give it a new token."
    return (
        f"{connection.id} has no working token yet. Give the subdomain and a token first: `linker submit` takes them."
    )


def _why_not(illegal: IllegalTransition) -> str:
    connection = illegal.connection
    if connection.closed_at is not None:
        return f"{connection.id} is closed. Open a new connection."
    if isinstance(illegal.event, happened.Restarted):
        where = f"{connection.id} is in {connection.state}, and only a failed connection can be restarted."
        return f"{where} `linker show` says what it waits for."
    return f"{connection.id}: {illegal}. Possible now: {', '.join(illegal.allowed)}."


def _text(field: str, given: str) -> str:
    text = given.strip()
    if not text:
        raise BadInput(field, "it is empty.", f"Give a text that says {SAYS[field]}.")
    if len(text) > LONGEST_TEXT or not text.isprintable():
        raise BadInput(
            field,
            f"it is longer than {LONGEST_TEXT} characters, or holds line breaks or other unprintable characters.",
            "Give a shorter text on one line.",
        )
    return text


def _metadata(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > MOST_METADATA:
        raise BadInput("metadata", f"there are more than {MOST_METADATA} entries.", "Keep the rest on your side.")
    for key, value in given.items():
        if not key.strip() or max(len(key), len(value)) > LONGEST_TEXT:
            raise BadInput(
                "metadata",
                f"a key is empty, or an entry is longer than {LONGEST_TEXT} characters.",
                "Shorten it, or keep it on your side.",
            )
        if not _is_whole(key + value):
            raise BadInput(
                "metadata",
                "a key or an entry holds half a character, as of an emoji that was cut in two.",
                "Cut texts between characters, not between code units.",
            )
    return dict(given)


def _is_whole(text: str) -> bool:
    """True if no character was cut in two: half of a surrogate pair cannot be written in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
