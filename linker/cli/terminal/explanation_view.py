"""How an explanation looks to people: one screen that ends with commands to copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linker.humanize import age, relative
from linker.operations.explain import HEARTBEAT, Explanation, command_line, link_command
from linker.wording import catalogue, describe
from states.connection import Connection, ConnectionState
from states.duties import Duty
from states.explanation import Foreseen, Foresight, Hindrance, Verb, who_must_act
from states.problems import REFUSALS, TRANSIENT, ProblemCode, ProblemOwner

#: Answers that say the same to an operator are told together, by the first of them.
_TOGETHER = {
    "credential_refused": "refused",
    "wrong_account": "refused",
    "forbidden": "refused",
    "account_not_there": "refused",
    "unavailable": "no_answer",
    "over_limit": "no_answer",
    "not_understood": "no_answer",
}


#: What is told of it stands in the history.
_EVIDENCE = {ProblemCode.POISONED, ProblemCode.ANSWER_NOT_UNDERSTOOD}

#: From this width on, what a command does stands beside it.
WIDE_COLUMNS = 120


def words(key: str, **params: object) -> str:
    """A text of the catalogue."""
    return catalogue().text(f"explain.{key}", params) or key


def explanation_view(explained: Explanation, width: int) -> RenderableType:
    """An explanation for people. Where it is narrow, what a command does stands below it.

    What lies over the state comes first: that it is closed or paused, that no worker runs, a wait that Workable asked
    for, a doubt, a token that is being checked.
    """
    c, now = explained.connection, explained.at
    account = (
        f"   {c.account.name} ({c.account.subdomain})" if c.account else f"   {c.subdomain}" if c.subdomain else ""
    )
    headline = Text.assemble((c.id, "copy"), account, f"   {c.owner}")
    state = Text()
    if c.closed_at is None:
        state = Text.assemble((c.state.value, f"state.{c.state.value}"), f" for {age(now - c.state_since)}: ")
    state.append(_status(explained))
    rows: list[tuple[str, str]] = [("what is the matter", _matter(explained))]
    if c.replacement_problem is not None:
        rows.append(("the new token", str(describe(c.replacement_problem).message)))
    elif c.candidate is not None and (c.problem or c.doubt) and not c.closed_at:
        rows.append(("the new token", _given(c)))
    rows += [
        ("who must act", _who_must_act(explained)),
        ("last look", _last_look(explained)),
        ("by itself", _by_itself(explained)),
        ("workers", _workers(explained)),
        ("advance would", _advance(explained)),
    ]
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="label", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, value)
    told = [(command_line(verb, c.id, to), does_in_words(verb, to, explained)) for verb, to in explained.verbs]
    if explained.link is not None:
        told.insert(1, (link_command(c.id, explained.link), words("does.link")))
    history = f"linker history {c.id}", words("does.history")
    told.insert(0 if c.problem is not None and c.problem.code in _EVIDENCE else len(told), history)
    commands = Table.grid(padding=(0, 3))
    commands.add_column(no_wrap=width >= WIDE_COLUMNS)
    if width >= WIDE_COLUMNS:
        commands.add_column(overflow="fold")
    for command, does in told:
        if width >= WIDE_COLUMNS:
            commands.add_row(Text(command, style="copy"), does)
        else:
            commands.add_row(Group(Text(command, style="copy", no_wrap=True), Padding(Text(does), (0, 0, 0, 4))))
    return Group(headline, state, Text(), Padding(grid, (0, 0, 0, 2)), Text(), Padding(commands, (0, 0, 0, 2)))


def _moment(at: datetime) -> str:
    return f"{at:%-d %B, %H:%M} UTC"


def _date(at: datetime, now: datetime) -> str:
    """A time that something ends at, and how far it is from now."""
    return f"{_moment(at)} ({_when(at, now)})"


def _when(at: datetime, now: datetime) -> str:
    """How far a time is from now, in the words of a sentence."""
    told = relative(at, now)
    return told if told == "now" else f"in {age(at - now)}" if at > now else f"{age(now - at)} ago"


def _waits_until(explained: Explanation) -> datetime | None:
    """The time that Workable named, if what is owed has to wait for it."""
    c = explained.connection
    waits = c.not_before is not None and c.not_before > explained.at and explained.next.at is not None
    return c.not_before if waits and explained.next.duty is not Duty.PUT_ASIDE else None


def _no_worker(explained: Explanation) -> bool:
    """True if something comes by itself, and nobody is there to do it."""
    return explained.workers.alive == 0 and explained.next.at is not None


def _leads_to(explained: Explanation) -> ConnectionState | None:
    """The state that one more refusal leads to; None: it would still be doubted, or that is not known now."""
    doubt = explained.connection.doubt
    if doubt is None or explained.advance.duty is Duty.VERIFY_TOKEN:
        return None
    asked = "recruiter_not_seen" if doubt.code is ProblemCode.RECRUITER_REMOVED else "credential_refused"
    return next((each.to for each in explained.advance.answers if each.answer == asked and not each.doubted), None)


def _status(explained: Explanation) -> str:
    c, now = explained.connection, explained.at
    if c.closed_at is not None:
        return words("status.closed", since=_when(c.closed_at, now))
    if c.paused_at is not None:
        return words("status.paused")
    if _no_worker(explained):
        return words("status.no_worker")
    until, due = _waits_until(explained), explained.next.at
    if until is not None:
        return words("status.held_back", until=_moment(until))
    if c.doubt is not None and (c.problem is None or c.problem.code not in TRANSIENT):
        missing = c.doubt.code is ProblemCode.RECRUITER_REMOVED
        key = "missing" if missing else "doubted"
        status = words(f"status.{key}", **{key: c.doubt.count})
    elif c.state is ConnectionState.LINKED and c.candidate is not None and explained.owner is None:
        return words("status.linked_candidate" if c.problem is None else "status.cure_candidate")
    elif c.state is ConnectionState.LINKED and c.replacement_problem is not None and c.problem is None:
        status = words("status.replacement_refused")
    else:
        later = due is not None and due > now
        when = words("due.later", when=_when(due, now)) if due is not None and later else words("due.now")
        status = words(f"waits_for.{explained.waits_for.value}", due=when)
    replacing = c.candidate is not None and c.token is not None
    return words("status.and_candidate", status=status) if replacing else status


def _given(c: Connection) -> str:
    """That a token was given, and what becomes of it."""
    return words(f"matter.{'replacement' if c.token else 'candidate'}{'_paused' if c.paused_at else ''}")


def _matter(explained: Explanation) -> str:
    c = explained.connection
    if c.closed_at is not None:
        return words("matter.closed")
    said: list[str] = []
    if c.problem is not None:
        ours = c.problem.code is ProblemCode.POISONED
        said.append(words("matter.poisoned") if ours else describe(c.problem).message)
    if c.doubt is not None:
        missing, sure = c.doubt.code is ProblemCode.RECRUITER_REMOVED, _leads_to(explained) is not None
        key = "missing" if missing else "doubted"
        to = ConnectionState.AWAITING_RECRUITER if missing else ConnectionState.FAILED
        said.append(words(f"matter.{key}", **{key: c.doubt.count}, code=c.doubt.code.value))
        said.append(words("matter.ends_it" if sure else "matter.proves_nothing", to=to.value))
    if said:
        return " ".join(said)
    if c.candidate is not None:
        return _given(c)
    if c.paused_at is not None and c.state in {ConnectionState.TOKEN_VALID, ConnectionState.LINKED}:
        return words(f"matter.{c.state.value}_paused")
    if c.state is ConnectionState.LINKED and c.replacement_problem is not None:
        return words("matter.linked_replacement")
    unattended = c.state is ConnectionState.LINKED and _no_worker(explained)
    return words("matter.linked_unattended" if unattended else f"matter.{c.state.value}")


def _who_must_act(explained: Explanation) -> str:
    c, now = explained.connection, explained.at
    if c.closed_at is not None:
        return words("owner.nobody")
    said = _owner(explained)
    if c.paused_at is not None:
        rests = words("owner.paused", since=_when(c.paused_at, now))
        then = who_must_act(replace(c, paused_at=None))
        goes_on = then in {None, ProblemOwner.WORKABLE}
        said = rests if goes_on else f"{rests} {words('owner.after_pause', owner=said)}"
    elif _no_worker(explained):
        start = words("owner.start_worker")
        goes_on = explained.owner in {None, ProblemOwner.WORKABLE}
        said = start if goes_on else f"{start} {said[:1].upper()}{said[1:]}"
    told = explained.told
    if told is None:
        return said
    tried = words("told.presses", presses=told.presses) if told.presses else ""
    key = "told.at" if told.problem is not None else "told.acted"
    seen = words(key, at=_when(told.at, now), actor=told.actor, tried=tried)
    return f"{said}{'' if said.endswith('.') else '.'} {seen}"


def _owner(explained: Explanation) -> str:
    """Who has to act for a connection that nobody keeps at rest, and what helps."""
    c = explained.connection
    owner = who_must_act(replace(c, paused_at=None))
    problem = c.present_problem or c.replacement_problem
    sure = _leads_to(explained) is not None
    if owner is None and c.doubt is not None:
        return words("owner.once_more" if sure else "owner.goes_on")
    if owner is None:
        return words("owner.token_turned_down" if c.candidate is not None else "owner.nobody")
    key = f"to_do.{c.state.value}" if problem is None else f"action.{problem.wording_key.rpartition('.')[2]}"
    to_do = words(key)
    said = f"{words(f'owner.{owner.value}')}: {to_do}"
    if owner is ProblemOwner.CUSTOMER and c.doubt is not None and c.doubt.code is not ProblemCode.RECRUITER_REMOVED:
        said += f" {words('owner.token_too_once_more' if sure else 'owner.token_too')}"
    if c.candidate is not None and not c.at_rest:
        said += f" {words('owner.candidate_by_itself')}"
    return said


def _last_look(explained: Explanation) -> str:
    look = explained.connection.last_look
    if look is None:
        return words("last_look.none")
    return words(
        "last_look.looked",
        at=_when(look.at, explained.at),
        by=words("last_look.worker") if look.by == HEARTBEAT else look.by,
        call=f"{look.call or '?'}{f' {look.status}' if look.status else ''}",
        ms=look.ms,
        answer=words(f"answer.{look.verdict}"),
    )


def _by_itself(explained: Explanation) -> str:
    c, comes, now = explained.connection, explained.next, explained.at
    if c.closed_at is not None:
        return words("next.closed")
    if c.paused_at is not None:
        return words("next.paused_deadline", date=_date(c.deadline, now)) if c.deadline else words("next.paused")
    if comes.at is None:
        return words("next.nothing")
    until = _waits_until(explained)
    at = comes.at if until is None else max(until, comes.at)
    when = words("next.now") if at <= now else words("next.at", moment=_moment(at), when=_when(at, now))
    ends_at = comes.gives_up_at or comes.at
    ends: dict[str, object] = {
        "date": _date(ends_at, now),
        "code": comes.gives_up_as.value if comes.gives_up_as else "",
    }
    late = "_late" if ends_at <= now else ""
    if comes.duty is Duty.PUT_ASIDE:
        said = words(f"next.put_aside{late}", **ends)
    else:
        said = words(f"next.{comes.duty.value}", when=when)
    if until is not None:
        said = words("next.asked_to_wait", said=said)
    if comes.gives_up_at is not None and c.state is ConnectionState.AWAITING_RECRUITER:
        trouble = "_trouble" if c.problem is not None and c.problem.code in TRANSIENT else late
        said = words(f"next.gives_up{trouble}", said=said, **ends)
    return words("next.no_worker", said=said) if _no_worker(explained) else said


def _workers(explained: Explanation) -> str:
    workers, now = explained.workers, explained.at
    said = words("workers.alive", alive=workers.alive) if workers.alive else words("workers.none")
    if workers.last_beat_at is not None:
        said = words("workers.last_beat", said=said, beat=_when(workers.last_beat_at, now))
    if workers.held_by is None or workers.held_until is None:
        return f"{said}; {words('workers.nobody_holds')}"
    return f"{said}; {words('workers.holds', holder=workers.held_by, left=age(workers.held_until - now))}"


def _advance(explained: Explanation) -> str:
    """What `advance` would do, or what hinders it as far as this connection tells."""
    c, hindrance = explained.connection, explained.advance.hindrance
    if hindrance is Hindrance.NOT_BEFORE and c.not_before is not None:
        return words("hindrance.not_before_until", until=_moment(c.not_before))
    if hindrance is Hindrance.NO_TOKEN and c.problem is not None and c.problem.code in REFUSALS:
        return words("hindrance.token_turned_down")
    return advance_in_words(explained.advance, c.state)


def advance_in_words(foresight: Foresight, now: ConnectionState) -> str:
    """What `advance` would do to a connection in a state, with what each answer would make of it."""
    if foresight.hindrance is not None:
        return words(f"hindrance.{foresight.hindrance.value}")
    did = words(f"duty.{foresight.duty.value}")
    calls = words("calls", calls=foresight.calls) if foresight.calls else words("no_call")
    told: dict[str, list[str]] = {}
    for each in foresight.answers:
        told.setdefault(becomes(each, now), []).append(each.answer or "certain")
    parts = []
    for result, names in told.items():
        alike = [_TOGETHER.get(name, name) for name in names]
        said = [one if alike.count(one) > 1 else name for name, one in zip(names, alike, strict=True)]
        parts += [f"{words(f'answer.{name}')}: {result}." for name in dict.fromkeys(said)]
    return f"{did}, {calls}. {' '.join(dict.fromkeys(parts))}"


def becomes(foreseen: Foreseen, now: ConnectionState) -> str:
    """What becomes of a connection, as in `linked`, or `no change`."""
    if foreseen.doubted:
        return words("becomes.doubted")
    if foreseen.event in {"workable_unavailable", "throttled", "answer_not_understood"}:
        return words("becomes.trouble")
    if foreseen.event == "account_renamed":
        return words("becomes.renamed")
    if foreseen.event == "replacement_refused":
        kept = words("becomes.old_token_kept")
        return kept if foreseen.to is now else f"{kept}, {foreseen.to.value}"
    if foreseen.event == "replacement_accepted":
        replaced = words("becomes.token_replaced")
        return replaced if foreseen.to is now else f"{replaced}, {foreseen.to.value}"
    if foreseen.event in {"recruiter_absent", "health_confirmed", "still_failed"}:
        return words("becomes.stays")
    problem = f", {foreseen.problem.value}" if foreseen.problem else ""
    return f"{words('becomes.stays') if foreseen.to is now else foreseen.to.value}{problem}"


def does_in_words(verb: Verb, to: ConnectionState | None, explained: Explanation) -> str:
    """What a command does, in a few words."""
    if verb is Verb.ADVANCE:
        does, leads_to = words(f"does.{explained.advance.duty.value}"), _leads_to(explained)
        again = "missing" if leads_to is ConnectionState.AWAITING_RECRUITER else "refused"
        return words(f"does.{again}_again", does=does, to=leads_to.value) if leads_to else does
    does = words(f"does.{verb.value}_{to.value}" if to is not None else f"does.{verb.value}")
    drops = verb is Verb.FORCE and explained.connection.candidate is not None
    return words("does.drops_candidate", does=does) if drops else does
