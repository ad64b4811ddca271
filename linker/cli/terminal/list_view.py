"""How lists of connections look to people: a line for each, or two where it is narrow; ids are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linker.engine.ports import DamagedRow
from linker.humanize import relative, span
from states.connection import Connection
from states.duties import Duty, next_duty
from states.explanation import who_must_act

#: From this width on, everything stands in one line.
WIDE_COLUMNS = 120
#: The longest of what may be cut.
OWNER, ACCOUNT, PROBLEM = 14, 14, 22


def connections_table(found: Sequence[Connection | DamagedRow], now: datetime, width: int) -> RenderableType:
    """Connections, with who must act and when they are looked at next."""
    if width >= WIDE_COLUMNS:
        return _wide(found, now, width)
    parts: list[RenderableType] = []
    for each in found:
        parts += _narrow(each, now, width)
    return Group(*parts)


def _wide(found: Sequence[Connection | DamagedRow], now: datetime, width: int) -> Table:
    room = max(0, width - WIDE_COLUMNS) // 3
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="label", collapse_padding=True)
    for name, most in (
        ("id", None),
        ("owner", OWNER + room),
        ("account", ACCOUNT + room),
        ("state", None),
        ("for", None),
        ("problem", PROBLEM + room),
        ("who acts", None),
        ("next look", None),
    ):
        table.add_column(name, no_wrap=True, max_width=most, overflow="ellipsis")
    for each in found:
        if isinstance(each, DamagedRow):
            table.add_row(
                Text(each.id), "", "", Text("damaged", style="bad"), "", Text(each.cause, style="bad"), "operator", "-"
            )
            continue
        table.add_row(Text(each.id), Text(each.owner), _account(each), *_standing(each, now))
    return table


def _account(c: Connection) -> Text:
    return Text(c.account.subdomain if c.account else c.subdomain or "-", style="" if c.account else "quiet")


def _standing(c: Connection, now: datetime) -> tuple[Text, Text, Text, Text, Text]:
    """State, age, problem, who must act, next look."""
    problem = c.problem or c.replacement_problem
    owner = who_must_act(c)
    if c.closed_at is not None:
        return (
            Text("closed", style="quiet"),
            Text(span(now - c.closed_at)),
            Text("-", style="quiet"),
            Text("-"),
            Text("-"),
        )
    state = Text(c.state.value, style=f"state.{c.state.value}")
    look = "-"
    if c.paused_at is not None:
        look = "paused"
    elif c.due_at is not None and next_duty(c) is not Duty.PUT_ASIDE:
        look = "now" if c.due_at <= now else relative(c.due_at, now)
    return (
        state,
        Text(span(now - c.state_since)),
        Text(problem.code.value) if problem else Text("-", style="quiet"),
        Text(owner.value, style=f"owner.{owner.value}") if owner else Text("-", style="quiet"),
        Text(look, style="care" if c.paused_at else ""),
    )


def _narrow(each: Connection | DamagedRow, now: datetime, width: int) -> list[Text]:
    if isinstance(each, DamagedRow):
        return [
            Text.assemble((each.id, "title"), ("  damaged", "bad")),
            Text(f"    its row cannot be read ({each.cause})"),
        ]
    state, age, problem, owner, look = _standing(each, now)
    first = Text.assemble((each.id, "title"), "  ", state, "  ", age)
    about = Text.assemble("    ", each.owner, ("" if not (each.account or each.subdomain) else " · "))
    if each.account or each.subdomain:
        about.append(_account(each))
    if problem.plain != "-":
        about.append_text(Text.assemble(" · ", problem))
    if owner.plain != "-":
        about.append_text(Text.assemble(" (", owner, ")"))
    if look.plain != "-":
        first.append_text(Text.assemble("  ", ("next look ", "quiet"), look))
    for line in (first, about):
        line.truncate(max(width, len(each.id)), overflow="ellipsis")
    return [first, about]
