"""How connections and their history look to people. Ids, names and e-mails stand alone and whole, to be copied."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linker.cli.terminal.output import Output
from linker.humanize import both, clock, expiry, relative, span
from linker.serialization import connection_json
from linker.wording import catalogue, describe
from states.connection import Connection, ConnectionState, Credential, Problem
from states.history import Step

#: From this width on, tables have a line for each row.
WIDE_COLUMNS = 120
#: Below this width, one thing stands below the other.
NARROW_COLUMNS = 80


def state_text(state: ConnectionState) -> Text:
    """A state in its colour."""
    return Text(state.value, style=f"state.{state.value}")


def print_connection(connection: Connection, as_json: bool) -> None:
    """Print a connection as a command's result: as JSON, or as its card."""
    Output(as_json).result(connection_json(connection), card(connection, datetime.now(UTC)))


def card(c: Connection, now: datetime) -> RenderableType:
    """One connection: where it stands, who must act and what to do, what to copy, what comes next."""
    headline = Text.assemble((c.id, "copy"), "  ", state_text(c.state), (f" for {span(now - c.state_since)}", "quiet"))
    if c.paused_at:
        headline.append("  paused", "care")
    if c.closed_at:
        headline.append("  closed", "bad")
    parts: list[RenderableType] = [headline, _rows(_about(c, now))]
    if c.problem:
        parts.append(_problem(c.problem, now))
    if c.replacement_problem and c.candidate:
        parts.append(_problem(c.replacement_problem, now, "The new token has no answer yet."))
    elif c.replacement_problem:
        parts.append(_problem(c.replacement_problem, now, "The new token was turned down; the one in use was kept."))
    parts += [_rows(section) for section in (_recruiter(c), _next(c, now)) if section]
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [part, Text()]
    return Group(*spaced[:-1])


Rows = list[tuple[str, RenderableType]]


def _rows(rows: Rows) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="label", no_wrap=True, min_width=12)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, value)
    return grid


def _about(c: Connection, now: datetime) -> Rows:
    rows: Rows = [("owner", c.owner)]
    if c.account:
        rows.append(("account", f"{c.account.name} ({c.account.subdomain}, id {c.account.id})"))
    elif c.subdomain:
        rows.append(("subdomain", c.subdomain))
    if c.token:
        rows.append(("token", _token(c.token, now)))
    if c.candidate:
        rows.append(("new token", f"{_token(c.candidate, now)}; kept, and not verified yet"))
    if c.permissions:
        allowed = c.permissions
        told = [f"needs {', '.join(allowed.needed)}"]
        told += [f"missing: {', '.join(allowed.missing)}"] if allowed.missing else []
        tried = c.token is not None and allowed.unverified
        told += [f"not verified: {', '.join(allowed.unverified)}"] if tried else []
        rows.append(("permissions", "; ".join(told)))
    if c.metadata:
        rows.append(("metadata", ", ".join(f"{key}={value}" for key, value in c.metadata.items())))
    return rows


def _token(held: Credential, now: datetime) -> str:
    told = expiry(held.expires_on, now) if held.expires_on else "expiry not told"
    return f"fingerprint {held.fingerprint}, {told}"


def _problem(problem: Problem, now: datetime, above: str | None = None) -> RenderableType:
    """What is the matter, who must act, what to do."""
    words, owner = describe(problem), problem.owner.value
    message = Text.assemble(("! ", f"owner.{owner}"), (words.message.removesuffix(words.detail), "title"), words.detail)
    if words.internal:
        message.append(f" {words.internal}")
    rows: Rows = [("problem", f"{problem.code.value}, since {clock(problem.since)} ({relative(problem.since, now)})")]
    if problem.field:
        rows.append(("field", problem.field))
    rows += [("who must act", Text(owner, style=f"owner.{owner}")), ("what to do", words.action)]
    shown: list[RenderableType] = [Text(above, style="care")] if above else []
    return Group(*shown, message, Padding(_rows(rows), (0, 0, 0, 2), expand=False))


def _recruiter(c: Connection) -> Rows:
    if c.recruiter is None:
        return []
    seen = c.recruiter.id
    told = f"seen in Workable, id {seen}" if seen else "not seen in Workable yet: add it with exactly this e-mail"
    return [
        ("recruiter", told),
        ("  name", Text(c.recruiter.name, style="copy")),
        ("  e-mail", Text(c.recruiter.email, style="copy")),
    ]


def _next(c: Connection, now: datetime) -> Rows:
    rows: Rows = []
    if c.linked_at:
        rows.append(("linked", both(c.linked_at, now)))
    if c.last_ok_at and c.last_ok_at != c.linked_at:
        rows.append(("last seen ok", both(c.last_ok_at, now)))
    if c.last_look:
        status = f" {c.last_look.status}" if c.last_look.status else ", no answer"
        asked = f"{c.last_look.call}{status}, {c.last_look.ms} ms, by {c.last_look.by}"
        rows.append(("last look", f"{relative(c.last_look.at, now)}: {asked}"))
    if c.troubled_since:
        rows.append(("in trouble", f"since {both(c.troubled_since, now)}: the host was told"))
    if c.checks:
        rows.append(("looked", f"{c.checks} times" if c.checks > 1 else "once"))
    if c.attempts:
        rows.append(("tries", f"{c.attempts} in a row without an answer"))
    if c.doubt:
        often = f"{c.doubt.count} times in a row" if c.doubt.count > 1 else "once"
        rows.append(("doubt", f"{c.doubt.code.value}: {often}, not believed yet"))
    rows.append(("next look", due(c, now)))
    if c.deadline and c.deadline != c.due_at:
        rows.append(("deadline", both(c.deadline, now)))
    return rows


def due(c: Connection, now: datetime) -> str:
    """When the connection is attended next, in words."""
    if c.closed_at:
        return "none: it is closed"
    if c.paused_at:
        since = relative(c.paused_at, now)
        return f"none: paused {'just now' if since == 'now' else since}"
    if c.due_at is None:
        return "none, until somebody acts"
    if c.due_at <= now:
        late = relative(c.due_at, now).removesuffix(" ago")
        return f"due {'now' if late == 'now' else f'since {late}'}; a worker or `linker sweep` does it"
    if c.state is ConnectionState.AWAITING_TOKEN and c.candidate is None:
        return f"none before it is put aside {both(c.due_at, now)}"
    return both(c.due_at, now)


# several


def plain_table(*columns: str, whole: Collection[str] = ()) -> Table:
    """An empty table without lines around it. `whole`: columns that are never wrapped, for ids to be copied."""
    table = Table(box=box.SIMPLE_HEAD, header_style="label", pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    return table


def history_table(steps: Sequence[Step], width: int) -> RenderableType:
    """A connection's history; the narrower it is, the more stands below the event."""
    wide, narrow = width >= WIDE_COLUMNS, width < NARROW_COLUMNS
    columns = ("what happened",) if narrow else ("at", "event", "state", *(("by", "what was seen") if wide else ()))
    table = plain_table("#", *columns)
    for column in table.columns:
        column.no_wrap = column.header in {"#", "at", "state"}
    table.columns[0].justify = "right"
    days = {step.at.astimezone(UTC).date() for step in steps}
    for step in steps:
        at = Text(f"{step.at.astimezone(UTC):{'%H:%M:%S' if len(days) == 1 else '%Y-%m-%d %H:%M:%S'}}")
        event = Text(step.event, style="title")
        arrow = "→ " if step.source is not None and step.source is not step.target else ""
        state = Text.assemble((arrow, "quiet"), state_text(step.target))
        seen = [step.actor, *details(step)]
        if wide:
            cells = [at, event, state, Text(step.actor), Text("; ".join(seen[1:]), style="quiet")]
        elif narrow:
            cells = [Text("\n").join([event, at, state, Text("\n".join(seen), style="quiet")])]
        else:
            cells = [at, Text("\n").join([event, Text("\n".join(seen), style="quiet")]), state]
        table.add_row(str(step.seq), *cells)
    table.caption = f"times of {days.pop()}, UTC" if len(days) == 1 else "times in UTC"
    if steps[0].seq > 1:
        table.caption += f"; what came before step {steps[0].seq} was pruned"
    table.caption_justify = "left"
    return table


def _note(call: Mapping[str, Any]) -> str:
    """What a call's note says; older ones are sentences already."""
    return catalogue().text(f"note.{call['note']}", call) or str(call["note"])


def details(step: Step) -> list[str]:
    """What a step tells beyond its event: the problem, the reason, and each call, as `GET /recruiters 200, 12 ms`."""
    told = [step.problem.value] if step.problem and step.problem.value != step.event else []
    told += [f"“{step.reason}”"] if step.reason else []
    calls = step.evidence.get("calls", [])
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, Mapping):
            status = f" {call['status']}" if call.get("status") else ""
            took = f", {call['ms']} ms" if "ms" in call else ""
            note = f" ({_note(call)})" if call.get("note") else ""
            told.append(f"{call.get('call', '?')}{status}{took}{note}")
    return told
