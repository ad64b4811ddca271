"""Executing the duty of one connection that is held under a lease: ask Workable, let the law decide, say what to write.

Nothing is written here, and no transaction is open while Workable is asked. One connection that goes wrong must not
stop the others: whatever is raised for it becomes an event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import SecretStr

from linker.encryption import TokenCipher
from linker.engine.observer import UNOBSERVED, Observer, Work, verdict_name
from linker.engine.ports import Clock, Randomness, Settlement, Store, Workable
from linker.errors import KeyMissing, LinkerError, OurFault
from states import events as happened
from states.connection import Connection, Credential, Recruiter
from states.duties import Duty, hint_calls, next_duty, owes_expiry_notice
from states.history import Step, announcement, is_news
from states.machine import advance
from states.timing import Timing
from states.verdicts import OverLimit, failed_attention, judge

Evidence = Mapping[str, Any]
log = structlog.get_logger("linker")

#: Who acts when nobody asked.
HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class PlannedDuty:
    """What is to be done for a connection that is held, with all that it needs."""

    held: Connection
    duty: Duty = Duty.NOTHING
    #: Where Workable is to be asked, and with which token; None: it is not asked.
    subdomain: str = ""
    token: SecretStr | None = None
    #: True if a person waits for the look.
    person_waits: bool = False
    #: What is certain without asking.
    event: happened.Event | None = None
    #: What went wrong while it was planned; it is told when its turn comes.
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about a connection that is held: the event, and the evidence for the history."""

    held: Connection
    event: happened.Event
    evidence: Evidence = field(default_factory=dict)
    #: True if Workable was asked for it.
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class DutyExecutor:
    """Does what is owed to one connection: plan, run, decide."""

    store: Store
    workable: Workable
    cipher: TokenCipher
    clock: Clock
    timing: Timing
    recruiter_name: str
    recruiter_email: str
    randomness: Randomness = field(default_factory=Randomness)
    observer: Observer = UNOBSERVED

    def plan(self, held: Connection, *, person_waits: bool = False) -> PlannedDuty:
        """What is owed to a connection that is held, with its token opened. `person_waits`: a button was pressed."""
        duty, now = next_duty(held), self.clock.now()
        try:
            match duty:
                case Duty.VERIFY_TOKEN:
                    return PlannedDuty(held, duty, *self._opened(held.candidate, held))
                case Duty.PREPARE_RECRUITER if held.recruiter is None:
                    email = self.recruiter_email.replace("{key}", self.randomness.key())
                    recruiter = Recruiter(name=self.recruiter_name, email=email)
                    return PlannedDuty(held, duty, event=happened.RecruiterPrepared(recruiter))
                case Duty.FIND_RECRUITER | Duty.CHECK_HEALTH if owes_expiry_notice(held, now, self.timing):
                    return PlannedDuty(held, duty, event=happened.TokenExpiring())
                case Duty.PREPARE_RECRUITER | Duty.FIND_RECRUITER | Duty.CHECK_HEALTH:
                    return PlannedDuty(held, duty, *self._opened(held.token, held), person_waits)
                case Duty.PUT_ASIDE if held.deadline is not None and held.deadline <= now:
                    return PlannedDuty(held, duty, event=happened.Abandoned())
        except Exception as error:  # noqa: BLE001 - see the rule at the top
            return PlannedDuty(held, duty, fault=error)
        return PlannedDuty(held)

    def _opened(self, credential: Credential | None, held: Connection) -> tuple[str, SecretStr]:
        """The subdomain that a token is for, and the token."""
        if credential is None:
            raise OurFault("owes_without_facts")
        return credential.subdomain, self.cipher.open(credential.sealed, bound_to=held.id)

    async def run(self, planned: PlannedDuty) -> Finding | None:
        """Find out what is to be found out; None if nothing is to be written."""
        held = planned.held
        try:
            if planned.fault is not None:
                raise planned.fault
            if planned.token is None:
                return None if planned.event is None else Finding(held, planned.event)
            if planned.duty is Duty.VERIFY_TOKEN:
                with self.observer.watch(Work.CALL, question="verify") as note:
                    answer = await self.workable.verify(planned.subdomain, planned.token)
                    note(verdict=verdict_name(answer.verdict))
            else:
                if held.recruiter is None:
                    raise OurFault("owes_without_facts")
                extra_calls = hint_calls(held, self.clock.now(), person_waits=planned.person_waits)
                with self.observer.watch(Work.CALL, question="look") as note:
                    answer = await self.workable.look(
                        planned.subdomain, planned.token, held.recruiter, extra_calls=extra_calls
                    )
                    note(verdict=verdict_name(answer.verdict))
            asked = not (isinstance(answer.verdict, OverLimit) and answer.verdict.unasked)
            if planned.person_waits and not asked:
                return None  # whoever presses again and again is told what the last look found
            event = judge(held, answer.verdict, now=self.clock.now(), timing=self.timing)
            return Finding(held, event, answer.evidence, asked)
        except Exception as error:  # noqa: BLE001 - see the rule at the top
            return self._failed(held, error)

    def _failed(self, held: Connection, error: Exception) -> Finding:
        """Our own errors are told in full, foreign ones by name only, as they may say too much."""
        fault, told = type(error).__name__, {}
        if isinstance(error, LinkerError):
            fault, told = f"{error.code}.{error.reason}", error.params
        log.error("attention.failed", connection_id=held.id, reason=fault, params=told)
        params, evidence = {"fault": fault, **told}, {"reason": fault, **told}
        if isinstance(error, KeyMissing):  # while keys are rolled out other processes have it: nothing is given up
            return Finding(held, happened.AttentionFailed(params), evidence)
        return Finding(held, failed_attention(held, params, self.timing), evidence)

    async def decide_batch(self, findings: Sequence[Finding], *, actor: str = HEARTBEAT) -> list[Settlement]:
        """What the law makes of what was found, ready to be written.

        An account that another connection of the same owner has is taken: asked once for the whole batch.
        """
        accepted = [(one.held.owner, one.event) for one in findings if isinstance(one.event, happened.TokenAccepted)]
        accounts = {(owner, event.account.id) for owner, event in accepted}
        taken = await self.store.connections_with_accounts(accounts) if accounts else {}
        settlements = []
        for finding in findings:
            held, event = finding.held, finding.event
            if isinstance(event, happened.TokenAccepted):
                taken_by = taken.get((held.owner, event.account.id), held.id)
                event = event if taken_by == held.id else happened.AccountTaken(taken_by)
            try:
                settlements.append(self.decide(held, event, actor=actor, evidence=finding.evidence))
            except Exception as error:  # noqa: BLE001 - see the rule at the top
                failed = self._failed(held, error)
                settlements.append(self.decide(held, failed.event, actor=actor, evidence=failed.evidence))
        return settlements

    def give_up(self, held: Connection) -> Settlement:
        """What to write when the database did not take what was decided, so that it is not tried again at once."""
        fault = "our_fault.not_written"
        event = failed_attention(held, {"fault": fault}, self.timing)
        return self.decide(held, event, actor=HEARTBEAT, evidence={"reason": fault})

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
