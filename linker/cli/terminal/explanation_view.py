"""How an explanation looks to people: one screen that ends with commands to copy."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linker.humanize import age, relative
from linker.operations.explain import Explanation
from linker.operations.json_values import command_line, link_command
from linker.wording import catalogue, describe
from states.connection import Connection, ConnectionState
from states.explanation import Foreseen, Foresight, Verb

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


#: From this width on, what a command does stands beside it.
WIDE_COLUMNS = 120


def words(key: str, **params: object) -> str:
    """A text of the catalogue."""
    return catalogue().text(f"explain.{key}", params) or key


def explanation_view(explained: Explanation, width: int) -> RenderableType:
    """An explanation for people. Where it is narrow, what a command does stands below it."""
    c, now = explained.connection, explained.at
    account = (
        f"   {c.account.name} ({c.account.subdomain})" if c.account else f"   {c.subdomain}" if c.subdomain else ""
    )
    headline = Text.assemble((c.id, "copy"), account, f"   {c.owner}")
    state = Text.assemble((c.state.value, f"state.{c.state.value}"), f" for {age(now - c.state_since)}: ")
    status = "closed" if c.closed_at else "paused" if c.paused_at else None
    state.append(words(f"status.{status}") if status else words(f"waits_for.{explained.waits_for.value}"))
    rows: list[tuple[str, str]] = [("what is the matter", _matter(c))]
    if c.replacement_problem is not None:
        rows.append(("the new token", str(describe(c.replacement_problem).message)))
    rows += [
        ("who must act", _who_must_act(explained)),
        ("last look", _last_look(explained)),
        ("by itself", _by_itself(explained)),
        ("workers", _workers(explained)),
        ("advance would", advance_in_words(explained.advance, c.state)),
    ]
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="label", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, value)
    told = [(command_line(verb, c.id, to), does_in_words(verb, to, explained)) for verb, to in explained.verbs]
    if explained.link is not None:
        told.insert(1, (link_command(c.id, explained.link), words("does.link")))
    commands = Table.grid(padding=(0, 3))
    commands.add_column(no_wrap=True)
    if width >= WIDE_COLUMNS:
        commands.add_column(overflow="fold")
    for command, does in told:
        if width >= WIDE_COLUMNS:
            commands.add_row(Text(command, style="copy"), does)
        else:
            commands.add_row(Text.assemble((command, "copy"), f"\n    {does}"))
    return Group(headline, state, Text(), Padding(grid, (0, 0, 0, 2)), Text(), Padding(commands, (0, 0, 0, 2)))


def _matter(c: Connection) -> str:
    if c.closed_at is not None:
        return words("matter.closed")
    if c.problem is not None:
        return describe(c.problem).message
    if c.doubt is not None:
        return words("matter.doubted", code=c.doubt.code.value, count=c.doubt.count)
    if c.candidate is not None:
        return words("matter.candidate")
    return words(f"matter.{c.state.value}")


def _who_must_act(explained: Explanation) -> str:
    c, now = explained.connection, explained.at
    said = words("owner.nobody") if explained.owner is None else words(f"owner.{explained.owner.value}")
    if c.paused_at is not None:
        said = words("owner.paused", since=relative(c.paused_at, now))
    elif c.problem is not None and explained.owner is not None:
        said += f": {describe(c.problem).action}"
    elif explained.owner is not None and not c.at_rest:
        said += f": {words(f'to_do.{c.state.value}')}"
    told = explained.told
    if told is not None:
        tried = words("told.presses", presses=told.presses) if told.presses else ""
        said += f" {words('told.at', at=relative(told.at, now), actor=told.actor, tried=tried)}"
    return said


def _last_look(explained: Explanation) -> str:
    look = explained.connection.last_look
    if look is None:
        return words("last_look.none")
    status = f" {look.status}" if look.status else ""
    return f"{relative(look.at, explained.at)} by {look.by}: {look.call or '?'}{status}, {look.ms} ms"


def _by_itself(explained: Explanation) -> str:
    comes, now = explained.next, explained.at
    if comes.at is None:
        return words("next.nothing")
    when = words("next.now") if comes.at <= now else relative(comes.at, now)
    duty = comes.duty.value
    said = words(f"next.{duty}", when=when, date=f"{comes.at:%-d %B}")
    if comes.gives_up_at is not None and comes.gives_up_as is not None and duty != "put_aside":
        left = age(comes.gives_up_at - now)
        late = comes.gives_up_at <= now
        key = "next.gives_up_late" if late else "next.gives_up"
        said += "; " + words(key, left=left, date=f"{comes.gives_up_at:%-d %B}", code=comes.gives_up_as.value)
    if explained.workers.alive == 0:
        said += f". {words('next.no_worker')}"
    return said


def _workers(explained: Explanation) -> str:
    workers, now = explained.workers, explained.at
    if workers.last_beat_at is None:
        said = words("workers.never")
    else:
        said = words("workers.alive", alive=workers.alive, beat=relative(workers.last_beat_at, now))
    if workers.held_by is None or workers.held_until is None:
        return f"{said}; {words('workers.nobody_holds')}"
    return f"{said}; {words('workers.holds', holder=workers.held_by, until=relative(workers.held_until, now))}"


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
    """What becomes of a connection, as in `linked`, or `stays, doubted`."""
    if foreseen.doubted:
        return words("becomes.doubted")
    if foreseen.event in {"workable_unavailable", "throttled", "answer_not_understood"}:
        return words("becomes.trouble")
    if foreseen.event in {"recruiter_absent", "health_confirmed", "still_failed", "account_renamed"}:
        return words("becomes.stays")
    problem = f", {foreseen.problem.value}" if foreseen.problem else ""
    return f"{words('becomes.stays') if foreseen.to is now else foreseen.to.value}{problem}"


def does_in_words(verb: Verb, to: ConnectionState | None, explained: Explanation) -> str:
    """What a command does, in a few words."""
    if verb is Verb.ADVANCE:
        return words(f"does.{explained.advance.duty.value}")
    return words(f"does.{verb.value}_{to.value}" if to is not None else f"does.{verb.value}")
