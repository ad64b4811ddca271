"""A page that is open: written down now and then, on both engines, without a race with whoever attends."""

from datetime import timedelta
from typing import Any

import pytest

from states.connection import ConnectionState
from tests.integration.storehouse import NOW, SECOND, House, a_credential, a_lease, kept

UNTIL = NOW + 45 * SECOND
FIRST, NEXT = NOW + 4 * SECOND, NOW + 30 * SECOND
LATER = NOW + timedelta(hours=1)


async def watch(house: House, connection_id: str, at: timedelta = timedelta(0)) -> None:
    """Somebody has the page open, so long after NOW."""
    await house.store.watch(connection_id, now=NOW + at, until=UNTIL + at, first_look=FIRST + at, next_look=NEXT + at)


WAITING: dict[str, Any] = {"state": ConnectionState.AWAITING_RECRUITER, "token": a_credential()}


@pytest.mark.parametrize(
    ("facts", "due_at"),
    [
        ({**WAITING, "due_at": LATER}, FIRST),
        ({**WAITING, "due_at": NOW}, NOW),
        ({**WAITING, "due_at": LATER, "not_before": LATER}, LATER),
        ({**WAITING, "due_at": None}, None),
        ({"due_at": LATER}, LATER),
        ({"due_at": LATER, "candidate": a_credential()}, FIRST),
        ({"due_at": LATER, "state": ConnectionState.LINKED, "token": a_credential()}, LATER),
    ],
)
async def test_what_is_awaited_is_looked_for_soon(facts: dict[str, Any], due_at: Any, house: House) -> None:
    """Not before Workable's own time, not where nothing is awaited, and never later than it would have been."""
    connection = await kept(house, **facts)
    await watch(house, connection.id)
    watched = await house.store.get(connection.id)
    assert watched.due_at == due_at
    assert (watched.watched_since, watched.watched_until) == (NOW, UNTIL)
    assert watched.version == connection.version


async def test_it_is_written_now_and_then(house: House) -> None:
    """While it stays open it is as old as it is, and looks become rare; once it was closed it begins anew."""
    connection = await kept(house, **WAITING, due_at=LATER)
    await watch(house, connection.id)
    await watch(house, connection.id, 10 * SECOND)
    assert (await house.store.get(connection.id)).watched_until == UNTIL
    await house.sql(
        "UPDATE linker_connection SET due_at = :later",
        later=LATER if house.url.startswith("postgres") else LATER.replace(tzinfo=None).isoformat(" "),
    )
    await watch(house, connection.id, 20 * SECOND)
    open_still = await house.store.get(connection.id)
    assert (open_still.watched_since, open_still.watched_until) == (NOW, UNTIL + 20 * SECOND)
    assert open_still.due_at == NEXT + 20 * SECOND
    await watch(house, connection.id, timedelta(minutes=30))
    assert (await house.store.get(connection.id)).watched_since == NOW + timedelta(minutes=30)


@pytest.mark.parametrize("rest", [{"paused_at": NOW}, {"closed_at": NOW}])
async def test_nothing_is_written_for_what_is_at_rest(rest: dict[str, Any], house: House) -> None:
    """A page of a paused or closed connection changes nothing."""
    connection = await kept(house, **WAITING, **rest)
    await watch(house, connection.id)
    assert await house.store.get(connection.id) == connection


async def test_whoever_attends_it_loses_no_race(house: House) -> None:
    """The version stays: what was found meanwhile is written."""
    connection = await kept(house, **WAITING, due_at=NOW)
    held = await house.store.claim(connection.id, now=NOW, lease=a_lease())
    assert held is not None
    await watch(house, connection.id)
    assert (await house.store.get(connection.id)).version == held.version
