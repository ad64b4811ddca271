"""Executing the duty of one connection that is held under a lease: ask Workable, let the law decide, say what to write.

Nothing is written here, and no transaction is open while Workable is asked. One connection that goes wrong must not
stop the others: whatever is raised for it becomes an event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from linker.encryption import TokenCipher
from linker.engine.observer import UNOBSERVED, Observer, Work, verdict_name
from linker.engine.ports import Answer, Clock, Randomness, Settlement, Store, Workable
from linker.errors import KeyMissing, LinkerError, OurFault
from linker.event_log import log
from states import events as happened
from states.connection import Connection, Credential, LastLook, Recruiter, evolve
from states.duties import (
    Duty,
    calls_needed,
    hint_calls,
    next_duty,
    owes_expiry_notice,
    owes_trouble_notice,
    permission_to_try,
)
from states.history import Step, announcement, is_news, problem_told, was_told
from states.impossible import without_impossible_times
from states.machine import advance
from states.timing import Timing
from states.verdicts import REFUSING, AccountReadable, OverLimit, Verdict, failed_attention, judge

Evidence = Mapping[str, Any]

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
    """What was found out about a connection that is held, with the evidence for the history."""

    held: Connection
    #: What happened; None: that is what Workable's answer means, which is judged when it is decided.
    event: happened.Event | None = None
    verdict: Verdict | None = None
    evidence: Evidence = field(default_factory=dict)
    #: True if Workable was asked for it.
    asked: bool = False
    #: True if a person waits for the look.
    person_waits: bool = False


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What an operator does: the verb, why, and in which operation if it is one of many. Written with each step."""

    verb: str
    reason: str | None = None
    operation: str | None = None


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
    #: What the host needs to be allowed, by Workable's names.
    permissions: tuple[str, ...] = ()
    #: Those of them that can be tried by reading, beside what linking needs itself.
    readable_permissions: tuple[str, ...] = ()
    randomness: Randomness = field(default_factory=Randomness)
    observer: Observer = UNOBSERVED

    def plan(self, held: Connection, *, person_waits: bool = False) -> PlannedDuty:
        """What is owed to a connection that is held, with its token opened. `person_waits`: a button was pressed."""
        now = self.clock.now()
        held = without_impossible_times(held, now, self.timing)
        duty = next_duty(held)
        if duty is not Duty.NOTHING and owes_trouble_notice(held, now, self.timing):
            return PlannedDuty(held, duty, event=happened.TroubleLasted())
        try:
            match duty:
                case Duty.VERIFY_TOKEN:
                    return PlannedDuty(held, duty, *self._opened(held.candidate, held), person_waits)
                case Duty.PREPARE_RECRUITER if held.recruiter is None:
                    email = self.recruiter_email.replace("{key}", self.randomness.key())
                    recruiter = Recruiter(name=self.recruiter_name, email=email)
                    return PlannedDuty(held, duty, event=happened.RecruiterPrepared(recruiter))
                case Duty.FIND_RECRUITER | Duty.CHECK_HEALTH if owes_expiry_notice(held, now, self.timing):
                    return PlannedDuty(held, duty, event=happened.TokenExpiring())
                case Duty.PREPARE_RECRUITER | Duty.FIND_RECRUITER | Duty.CHECK_HEALTH | Duty.LOOK_AGAIN:
                    return PlannedDuty(held, duty, *self._opened(held.token, held), person_waits)
                case Duty.PUT_ASIDE if held.deadline is not None and held.deadline <= now:
                    return PlannedDuty(held, duty, event=happened.Abandoned())
                case Duty.PUT_ASIDE if held.held_until is not None and held.held_until <= now:
                    return PlannedDuty(held, duty, event=happened.HeldTokenWiped())
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
                waits_until = await self.store.attempts_wait_until(held.owner, now=self.clock.now())
                with self.observer.watch(Work.CALL, question="verify") as note:
                    if waits_until is None:
                        answer = await self.workable.verify(
                            planned.subdomain, planned.token, person_waits=planned.person_waits
                        )
                    else:  # whoever guesses is slowed down, and nobody else
                        answer = Answer(verdict=OverLimit(waits_until, unasked=True, attempts=True))
                    note(verdict=verdict_name(answer.verdict))
            else:
                if held.recruiter is None:
                    raise OurFault("owes_without_facts")
                extra_calls = hint_calls(held, self.clock.now(), person_waits=planned.person_waits)
                permission = permission_to_try(held, self.clock.now(), self.readable_permissions)
                beside = {"permission": permission} if permission else {}
                with self.observer.watch(Work.CALL, question="look") as note:
                    answer = await self.workable.look(
                        planned.subdomain, planned.token, held.recruiter, extra_calls=extra_calls, **beside
                    )
                    note(verdict=verdict_name(answer.verdict))
            asked = not (isinstance(answer.verdict, OverLimit) and answer.verdict.unasked)
            if planned.person_waits and not asked and planned.duty is not Duty.VERIFY_TOKEN:
                return None  # whoever presses again and again is told what the last look found
            return Finding(held, None, answer.verdict, answer.evidence, asked, planned.person_waits)
        except Exception as error:  # noqa: BLE001 - see the rule at the top
            return self._failed(held, error)

    def _failed(self, held: Connection, error: Exception) -> Finding:
        """Our own errors are told in full, foreign ones by name only, as they may say too much."""
        fault, told = type(error).__name__, {}
        if isinstance(error, LinkerError):
            fault, told = f"{error.code}.{error.reason}", error.params
        log.error("attention.failed", connection_id=held.id, reason=fault, params=told)
        params, evidence = {"fault": fault, **told}, {"reason": fault, **told}
        may_pass = isinstance(error, KeyMissing)
        event = failed_attention(held, params, now=self.clock.now(), timing=self.timing, may_pass=may_pass)
        return Finding(held, event, evidence=evidence)

    async def decide_batch(
        self, findings: Sequence[Finding], *, actor: str = HEARTBEAT, deed: Deed | None = None
    ) -> list[Settlement]:
        """What the law makes of what was found, ready to be written. `deed`: the operator's that it was found for.

        Two questions are asked once for the whole batch: whether many accounts are refused at the moment, and which
        accounts are taken by another connection of the same owner.
        """
        readable = [(one.held.owner, one.verdict) for one in findings if isinstance(one.verdict, AccountReadable)]
        accounts = {(owner, verdict.account.id) for owner, verdict in readable}
        taken = await self.store.connections_with_accounts(accounts) if accounts else {}
        refused = any(isinstance(one.verdict, REFUSING) for one in findings)
        incident = refused and await self.store.review_incident(now=self.clock.now())
        settlements = []
        for finding in findings:
            held = finding.held
            try:
                event = finding.event or self._meaning(finding, incident)
                if isinstance(event, happened.TokenAccepted):
                    taken_by = taken.get((held.owner, event.account.id), held.id)
                    event = event if taken_by == held.id else happened.AccountTaken(taken_by)
                settlements.append(self.decide(held, event, actor=actor, finding=finding, deed=deed))
            except Exception as error:  # noqa: BLE001 - see the rule at the top
                failed = self._failed(held, error)
                assert failed.event is not None, "a fault is an event"
                settlements.append(self.decide(held, failed.event, actor=actor, finding=failed, deed=deed))
        return settlements

    def _meaning(self, finding: Finding, incident: bool) -> happened.Event:
        assert finding.verdict is not None, "what is no event yet is an answer"
        return judge(finding.held, finding.verdict, now=self.clock.now(), timing=self.timing, incident=incident)

    def give_up(self, held: Connection) -> Settlement:
        """What to write when the database did not take what was decided, so that it is not tried again at once."""
        fault = "our_fault.not_written"
        event = failed_attention(held, {"fault": fault}, now=self.clock.now(), timing=self.timing)
        return self.decide(held, event, actor=HEARTBEAT, finding=Finding(held, event, evidence={"reason": fault}))

    def decide(
        self,
        before: Connection,
        event: happened.Event,
        *,
        actor: str,
        reason: str | None = None,
        finding: Finding | None = None,
        deed: Deed | None = None,
    ) -> Settlement:
        """What the event makes of the connection, ready to be written. Raises IllegalTransition.

        `finding`: what was found out, if that is what happened. What a person asked for goes into the history also if
        nothing changed, and what an operator did.
        """
        now = self.clock.now()
        after = advance(before, event, now=now, jitter=self.randomness.jitter(), timing=self.timing)
        news, unforeseen = deed is not None or is_news(before, after, event), 0
        if finding is not None and finding.asked and finding.verdict is not None:
            verdict = verdict_name(finding.verdict)
            told = was_told(before, after, verdict, now)
            news = news or (finding.person_waits and not told)
            told_at = now if news else before.last_look.told_at if before.last_look and told else None
            calls = [call for call in finding.evidence.get("calls", ()) if call.get("note") != "not_made"]
            look = LastLook(
                at=now,
                call=calls[-1]["call"] if calls else "",
                status=calls[-1].get("status") if calls else None,
                ms=sum(call.get("ms", 0) for call in calls),
                by=actor,
                verdict=verdict,
                told_at=told_at,
            )
            after = evolve(after, last_look=look)
            foreseen = calls_needed(before, now) if before.account is not None else 0
            unforeseen = max(len(calls) - foreseen, 0) if after.account is not None else 0
        if after.state is not before.state and after.last_look is not None:
            after = evolve(after, last_look=replace(after.last_look, told_at=None))  # from here on it is another answer
        if not news:
            return Settlement(before=before, after=after, unforeseen_calls=unforeseen)
        problem = problem_told(before, after)
        step = Step(
            event=event.name,
            source=before.state,
            target=after.state,
            at=now,
            actor=actor,
            reason=deed.reason if deed else reason,
            problem=problem.code if problem else None,
            evidence=dict(finding.evidence) if finding else {},
            verb=deed.verb if deed else None,
            operation=deed.operation if deed else None,
        )
        return Settlement(
            before=before,
            after=after,
            step=step,
            announcement=announcement(before, after, event),
            unforeseen_calls=unforeseen,
        )


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
