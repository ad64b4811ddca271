"""The referee: whether an event may happen, and what the connection is afterwards.

`transitions` judges on a throw-away cursor. The machine has no model and no automatic transitions, so that there is
no way round the table; a guard that says no is turned into an error, because `transitions` would say nothing. Where no
guard looks at the connection the answer is always the same: the machine is asked once for each state and event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import cast

from transitions import EventData, Machine, MachineError

from states.connection import Connection, ConnectionState, evolve
from states.effects import EFFECTS, DecisionContext, enter
from states.events import Event
from states.impossible import without_impossible_times
from states.table import TRANSITIONS, Guard
from states.timing import Timing


class IllegalTransition(Exception):
    """The law has no row for this event in this state."""

    def __init__(self, connection: Connection, event: Event) -> None:
        """Say what was tried and what is possible instead."""
        self.connection = connection
        self.event = event
        self.allowed = allowed_events(connection.state) if connection.closed_at is None else ()
        where = "a closed connection" if connection.closed_at else connection.state.value
        super().__init__(f"{event.name} cannot happen in {where}")


@dataclass
class _Cursor:
    """What `transitions` moves: it lives for one judgement. Guards look at the connection and the event."""

    state: ConnectionState
    connection: Connection | None = None
    event: Event | None = None


def _asks(guard: Guard) -> object:
    def condition(data: EventData) -> bool:
        cursor = cast(_Cursor, data.model)
        return guard(cast(Connection, cursor.connection), cast(Event, cursor.event))

    return condition


_MACHINE = Machine(
    model=None,
    states=ConnectionState,
    initial=None,
    transitions=[
        {
            "trigger": row.event.name,
            "source": row.source,
            "dest": None if row.target is row.source else row.target,  # stays: nothing is left and entered again
            "conditions": [_asks(row.guard)] if row.guard else None,
        }
        for row in TRANSITIONS
    ],
    auto_transitions=False,
    send_event=True,
)


#: The events that guards decide about, in one state at least.
_GUARDED = frozenset(row.event for row in TRANSITIONS if row.guard)


def allowed_events(state: ConnectionState) -> tuple[str, ...]:
    """The names of the events that the law knows for a state, in the order of the table."""
    return tuple(dict.fromkeys(row.event.name for row in TRANSITIONS if row.source is state))


def advance(
    connection: Connection, event: Event, *, now: datetime, jitter: float, timing: Timing | None = None
) -> Connection:
    """What the connection is after the event. Changes nothing: the answer is a new value.

    Raises:
        IllegalTransition: the law has no such row, or the connection is closed.
    """
    state = _judge(connection, event)
    moment = DecisionContext(now=now, jitter=jitter, timing=timing or Timing())
    connection = without_impossible_times(connection, now, moment.timing)
    entered = connection if state is connection.state else enter(connection, state, moment)
    return _kept_in_time(EFFECTS[type(event)](entered, event, moment))


def _kept_in_time(c: Connection) -> Connection:
    """Nothing is due at rest, nothing is waited for once closed, and Workable's own time holds for everybody.

    A token that is kept after a mismatch is kept only while another one may be given in its place.
    """
    if c.held_token is not None and (c.at_rest or c.candidate or c.state is not ConnectionState.AWAITING_TOKEN):
        c = evolve(c, held_token=None, held_until=None)
    if c.at_rest:
        return evolve(c, due_at=None, deadline=None if c.closed_at else c.deadline)
    early = c.due_at is not None and c.not_before is not None and c.due_at < c.not_before
    return evolve(c, due_at=c.not_before) if early else c


def _judge(connection: Connection, event: Event) -> ConnectionState:
    if connection.closed_at is not None:
        state = None
    elif type(event) in _GUARDED:
        state = _moved(_Cursor(connection.state, connection, event), event.name)
    else:
        state = _moved_without_a_guard(connection.state, event.name)
    if state is None:
        raise IllegalTransition(connection, event)
    return state


@cache
def _moved_without_a_guard(state: ConnectionState, trigger: str) -> ConnectionState | None:
    return _moved(_Cursor(state), trigger)


def _moved(cursor: _Cursor, trigger: str) -> ConnectionState | None:
    """Where the machine moves a cursor to; None: it must not be moved."""
    try:
        moved = _MACHINE.events[trigger].trigger(cursor)
    except MachineError:
        moved = False
    return cursor.state if moved else None
