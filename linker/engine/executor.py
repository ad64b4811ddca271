"""Attending one connection that is held under a lease: ask Workable, let the law decide, say what to write.

Nothing is written here, and no transaction is open while Workable is asked.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import SecretStr

from linker.encryption import TokenCipher
from linker.engine.ports import Answer, Clock, Settlement, Store, Workable
from linker.errors import KeyMissing, LinkerError, OurFault
from states import events as happened
from states.connection import Connection, Credential, Recruiter
from states.duties import Duty, extra_calls_for, next_duty, owes_expiry_notice
from states.history import Step, announcement, is_news
from states.machine import advance
from states.timing import Timing
from states.verdicts import OverLimit, failed_attention, judge

T = TypeVar("T")
Evidence = Mapping[str, Any]
log = structlog.get_logger("linker")

#: Who acts when nobody asked.
HEARTBEAT = "heartbeat"
#: How many calls a hint is worth to a person who waits for it.
HINT_CALLS = 3
#: Letters and digits of a recruiter's key: none that people mistake for another.
KEY_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
KEY_LENGTH = 10


def random_key() -> str:
    """A key for a recruiter's e-mail: ten characters, about 49 bits."""
    return "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH))


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """Where chance comes from: a test hands over its own."""

    #: A number from 0 (included) to 1 (not included), for jitter.
    jitter: Callable[[], float] = random.random
    key: Callable[[], str] = random_key


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about a connection that is held: the event, and the evidence for the history."""

    held: Connection
    event: happened.Event
    evidence: Evidence = field(default_factory=dict)
    #: True if Workable was asked for it.
    asked: bool = False


#: Finds out what happened; None: nothing new.
Call = Callable[[], Awaitable[Finding | None]]


@dataclass(frozen=True, slots=True)
class PlannedDuty:
    """What is to be done for a connection that is held. Without a call nothing is owed to it now."""

    held: Connection
    call: Call | None


@dataclass(frozen=True, kw_only=True)
class DutyExecutor:
    """Does what is owed to one connection."""

    store: Store
    workable: Workable
    sealer: TokenCipher
    clock: Clock
    timing: Timing
    recruiter_name: str
    recruiter_email: str
    randomness: Randomness = field(default_factory=Randomness)

    async def attend(self, held: Connection, *, actor: str = HEARTBEAT) -> Settlement | None:
        """Do what is owed to a connection that is held; None if nothing is owed to it now."""
        found = await self.run(self.prepare(held, actor=actor))
        return (await self.conclude([found], actor=actor))[0] if found else None

    def prepare(self, held: Connection, *, actor: str = HEARTBEAT) -> PlannedDuty:
        """What is owed to a connection that is held, with its token opened. Nothing is told before it is run."""
        try:
            return PlannedDuty(held, self._owed(held, actor))
        except Exception as error:  # noqa: BLE001 - one poisoned connection must not stop the others
            return PlannedDuty(held, partial(_raise, error))

    async def run(self, planned: PlannedDuty) -> Finding | None:
        """Find out what is to be found out; None if nothing is to be written."""
        try:
            return await planned.call() if planned.call else None
        except KeyMissing as missing:  # while keys are rolled out other processes have it: nothing is given up for it
            log.error("attention.failed", connection_id=planned.held.id, reason=str(missing))
            return Finding(planned.held, happened.AttentionFailed(str(missing)), {"reason": str(missing)})
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(planned.held, _in_short(error))

    async def conclude(self, batch: Sequence[Finding], *, actor: str = HEARTBEAT) -> list[Settlement]:
        """What the law makes of what was found, ready to be written."""
        accepted = [(one.held.owner, one.event) for one in batch if isinstance(one.event, happened.TokenAccepted)]
        accounts = {(owner, event.account.id) for owner, event in accepted}
        taken = await self.store.connections_with_accounts(accounts) if accounts else {}
        return [self._concluded(_unless_taken(found, taken), actor) for found in batch]

    def _concluded(self, found: Finding, actor: str) -> Settlement:
        try:
            return self.decide(found.held, found.event, actor=actor, evidence=found.evidence)
        except Exception as error:  # noqa: BLE001 - as above
            failed = self._failed(found.held, _in_short(error))
        return self.decide(found.held, failed.event, actor=actor, evidence=failed.evidence)

    def give_up(self, held: Connection) -> Settlement:
        """What to write when the database did not take what was decided, so that it is not tried again at once."""
        reason = "The database did not take what was decided; the log says why."
        event = failed_attention(held, reason, self.timing)
        return self.decide(held, event, actor=HEARTBEAT, evidence={"reason": reason})

    def _failed(self, held: Connection, reason: str) -> Finding:
        log.error("attention.failed", connection_id=held.id, reason=reason)
        return Finding(held, failed_attention(held, reason, self.timing), {"reason": reason})

    def _owed(self, held: Connection, actor: str) -> Call | None:
        match next_duty(held):
            case Duty.VERIFY_TOKEN:
                return partial(self._verify, held, *self._opened(held.candidate, held))
            case Duty.PREPARE_RECRUITER if held.recruiter is None:
                return partial(_certain, held, happened.RecruiterPrepared(self._new_recruiter()))
            case Duty.FIND_RECRUITER | Duty.CHECK_HEALTH if owes_expiry_notice(held, self.clock.now(), self.timing):
                return partial(_certain, held, happened.TokenExpiring())
            case Duty.PREPARE_RECRUITER | Duty.FIND_RECRUITER | Duty.CHECK_HEALTH:
                look = self._look if actor == HEARTBEAT else self._look_for_a_person
                return partial(look, held, *self._opened(held.token, held), _present(held.recruiter))
            case Duty.PUT_ASIDE if held.deadline is not None and held.deadline <= self.clock.now():
                return partial(_certain, held, happened.Abandoned())
        return None

    async def _verify(self, held: Connection, subdomain: str, token: SecretStr) -> Finding:
        return self._judged(held, await self.workable.verify(subdomain, token))

    async def _look(self, held: Connection, subdomain: str, token: SecretStr, recruiter: Recruiter) -> Finding:
        extra_calls = extra_calls_for(held, self.clock.now())
        return self._judged(held, await self.workable.look(subdomain, token, recruiter, extra_calls=extra_calls))

    async def _look_for_a_person(
        self, held: Connection, subdomain: str, token: SecretStr, recruiter: Recruiter
    ) -> Finding | None:
        """Whoever presses again and again is told what the last look found."""
        answer = await self.workable.look(subdomain, token, recruiter, extra_calls=HINT_CALLS)
        return self._judged(held, answer) if _was_asked(answer) else None

    def _opened(self, credential: Credential | None, held: Connection) -> tuple[str, SecretStr]:
        """The subdomain that a token is for, and the token."""
        credential = _present(credential)
        return credential.subdomain, self.sealer.open(credential.sealed, bound_to=held.id)

    def _judged(self, held: Connection, answer: Answer) -> Finding:
        event = judge(held, answer.verdict, now=self.clock.now(), timing=self.timing)
        return Finding(held, event, answer.evidence, asked=_was_asked(answer))

    def _new_recruiter(self) -> Recruiter:
        return Recruiter(name=self.recruiter_name, email=self.recruiter_email.replace("{key}", self.randomness.key()))

    def decide(
        self,
        before: Connection,
        event: happened.Event,
        *,
        actor: str,
        reason: str | None = None,
        evidence: Evidence | None = None,
    ) -> Settlement:
        """What the event makes of the connection, ready to be written. Raises IllegalTransition."""
        now = self.clock.now()
        after = advance(before, event, now=now, jitter=self.randomness.jitter(), timing=self.timing)
        if not is_news(before, after, event):
            return Settlement(before=before, after=after)
        problem = after.replacement_problem if isinstance(event, happened.ReplacementRefused) else after.problem
        step = Step(
            event=event.name,
            source=before.state,
            target=after.state,
            at=now,
            actor=actor,
            reason=reason,
            problem=problem.code if problem else None,
            evidence=dict(evidence or {}),
        )
        return Settlement(before=before, after=after, step=step, announcement=announcement(before, after, event))


async def _certain(held: Connection, event: happened.Event) -> Finding:
    """What is certain without asking."""
    return Finding(held, event)


async def _raise(error: Exception) -> Finding:
    """Let what went wrong while it was prepared be told when its turn comes."""
    raise error


def _was_asked(answer: Answer) -> bool:
    """False if the budget allowed no call."""
    return not (isinstance(answer.verdict, OverLimit) and answer.verdict.unasked)


def _unless_taken(found: Finding, taken: Mapping[tuple[str, str], str]) -> Finding:
    """What was found, unless another connection of the same owner has the account. `taken`: whose accounts are."""
    if not isinstance(found.event, happened.TokenAccepted):
        return found
    taken_by = taken.get((found.held.owner, found.event.account.id), found.held.id)
    return found if taken_by == found.held.id else replace(found, event=happened.AccountTaken(taken_by))


def log_written(settlement: Settlement) -> None:
    """Tell the log of a step that is in the history now."""
    step = settlement.step
    if step is not None:
        log.info(
            "step.written",
            connection_id=settlement.after.id,
            step=step.event,
            source=step.source,
            target=step.target.value,
            problem=step.problem,
            actor=step.actor,
        )


def _present(value: T | None) -> T:
    """What the duty promises to be there."""
    if value is None:
        raise OurFault("the row owes a call that it does not hold the facts for")
    return value


def _in_short(error: Exception) -> str:
    """What went wrong, for the history: our own errors in full, foreign ones by name only, as they may say too much."""
    return str(error) if isinstance(error, LinkerError) else type(error).__name__
