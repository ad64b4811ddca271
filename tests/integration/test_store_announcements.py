"""The announcements that wait for the host, on every engine."""

from __future__ import annotations

from datetime import timedelta

import pytest

from linker.outbox.announcements import Announcement, DeliveryOutcome
from linker.outbox.channels import CHANNELS, Channel
from linker.outbox.outbox_store import EXPIRE_AFTER, OutboxStore
from states.connection import Connection
from tests.integration.storehouse import MINUTE, NOW, SECOND, House, a_lease, change, kept

OPENED, ACCEPTED, LINKED = "connection.opened", "token.accepted", "connection.linked"
ALL = (OPENED, ACCEPTED, LINKED)
DAY = timedelta(days=1)


async def announced(house: House, connection: Connection, *names: str) -> None:
    """Announce something of a connection, one transition after the other."""
    for name in names:
        current = await house.store.get(connection.id)
        settlement = change(current, announcement=name, checks=current.checks + 1)
        assert await house.store.settle([settlement], now=NOW, release=True) == [True]


async def claimed(
    house: House, *names: str, holder: str = "host", after: timedelta = timedelta(0), limit: int = 100
) -> list[Announcement]:
    """Claim announcements, some time from now, for a minute."""
    now = NOW + after
    lease = a_lease(holder, until=now + MINUTE)
    return await house.outbox.claim_announcements(names or ALL, now=now, limit=limit, lease=lease)


def over(announcement: Announcement) -> DeliveryOutcome:
    """It was delivered."""
    return DeliveryOutcome(announcement=announcement, delivered_to=frozenset({"handler"}))


async def test_an_announcement_is_claimed_with_all_that_it_tells(house: House) -> None:
    """The payload is the connection as it is after the transition, and says so: its version is the stored one."""
    connection = await kept(house, owner="Zoë & Co.")
    await announced(house, connection, ACCEPTED)
    [found] = await claimed(house)
    stored = await house.store.get(connection.id)
    assert (found.connection_id, found.type, found.attempts) == (connection.id, ACCEPTED, 0)
    assert (found.created_at, found.delivered_to) == (NOW, frozenset())
    assert found.payload["type"] == ACCEPTED
    assert found.payload["data"]["owner"] == "Zoë & Co."
    assert found.payload["data"]["version"] == stored.version


async def test_a_claimed_announcement_is_not_claimed_again_until_the_lease_ends(house: House) -> None:
    """Two deliverers never have the same announcement; a dead one's comes back under the same message id."""
    await announced(house, await kept(house), OPENED)
    [first] = await claimed(house)
    assert await claimed(house, after=MINUTE - SECOND) == []
    [again] = await claimed(house, after=MINUTE)
    assert again == first


async def test_only_the_oldest_undelivered_one_of_a_connection_is_claimed(house: House) -> None:
    """Order per connection: the next one comes after the one before is over, also while that one is being delivered."""
    one, other = await kept(house), await kept(house)
    await announced(house, one, OPENED, ACCEPTED, LINKED)
    await announced(house, other, OPENED)
    told: list[tuple[str, str]] = []
    for _ in range(3):
        batch = await claimed(house)
        assert await claimed(house, holder="another host") == []
        told += [(found.connection_id, found.type) for found in batch]
        await house.outbox.settle_deliveries([over(found) for found in batch], now=NOW, lease=a_lease("host"))
    assert told == [(one.id, OPENED), (other.id, OPENED), (one.id, ACCEPTED), (one.id, LINKED)]
    assert await claimed(house) == []


async def test_a_retry_holds_back_its_successors_and_nobody_else(house: House) -> None:
    """An announcement that failed waits for its time, and the connection's later ones wait with it."""
    one, other = await kept(house), await kept(house)
    await announced(house, one, OPENED, ACCEPTED)
    [first] = await claimed(house)
    retry = DeliveryOutcome(
        announcement=first, delivered_to=frozenset({"a"}), due_at=NOW + 5 * SECOND, error="handler: ValueError"
    )
    await house.outbox.settle_deliveries([retry], now=NOW, lease=a_lease("host"))
    await announced(house, other, OPENED)
    assert [found.connection_id for found in await claimed(house, after=4 * SECOND)] == [other.id]
    [again] = await claimed(house, after=5 * SECOND)
    assert (again.message_id, again.attempts, again.delivered_to) == (first.message_id, 1, frozenset({"a"}))


async def test_one_that_was_given_up_makes_room(house: House) -> None:
    """A dead letter is kept with its error, and its successor is claimed."""
    connection = await kept(house)
    await announced(house, connection, OPENED, ACCEPTED)
    [first] = await claimed(house)
    dead = DeliveryOutcome(announcement=first, delivered_to=frozenset(), error="handler: ValueError")
    await house.outbox.settle_deliveries([dead], now=NOW, lease=a_lease("host"))
    assert [found.type for found in await claimed(house)] == [ACCEPTED]
    [row] = await house.sql("SELECT dead_at, delivered_at, last_error FROM linker_outbox WHERE attempts = 1")
    assert (row[0] is not None, row[1], row[2]) == (True, None, "handler: ValueError")


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
async def test_what_waited_behind_one_that_was_given_up_is_due_from_then_on(house: House, channel: Channel) -> None:
    """On either channel it expires as long after the giving up as any other one after it was written."""
    connection = await kept(house)
    await announced(house, connection, OPENED, ACCEPTED, LINKED)
    outbox, given_up_at = OutboxStore(house.database, channel), NOW + 3 * DAY
    [first] = await outbox.claim_announcements(ALL, now=NOW, limit=10, lease=a_lease("host"))
    dead = DeliveryOutcome(announcement=first, delivered_to=frozenset(), error="handler: ValueError")
    await outbox.settle_deliveries([dead], now=given_up_at, lease=a_lease("host"))
    assert await outbox.expire_unclaimed(now=given_up_at + EXPIRE_AFTER - SECOND) == 0
    assert await outbox.count_unclaimed(before=given_up_at, now=given_up_at + DAY) == 2
    assert await outbox.expire_unclaimed(now=given_up_at + EXPIRE_AFTER) == 2


async def test_who_lost_its_lease_cannot_settle(house: House) -> None:
    """The late word of a deliverer whose lease was taken over changes nothing."""
    await announced(house, await kept(house), OPENED)
    [late] = await claimed(house, holder="late")
    [fresh] = await claimed(house, holder="fresh", after=MINUTE)
    await house.outbox.settle_deliveries([over(late)], now=NOW, lease=a_lease("late"))
    assert await house.sql("SELECT count(*) FROM linker_outbox WHERE due_at IS NULL") == [(0,)]
    await house.outbox.settle_deliveries([over(fresh)], now=NOW, lease=a_lease("fresh"))
    assert await house.sql("SELECT count(*) FROM linker_outbox WHERE due_at IS NULL") == [(1,)]


async def test_what_nobody_listens_to_is_left_and_blocks_nothing(house: House) -> None:
    """A process claims only the kinds that it has handlers for; earlier ones of other kinds do not stand in the way."""
    await announced(house, await kept(house), OPENED, LINKED)
    assert [found.type for found in await claimed(house, LINKED)] == [LINKED]
    assert [found.type for found in await claimed(house, OPENED)] == [OPENED]


async def test_the_limit_holds_and_the_longest_due_come_first(house: House) -> None:
    """No claim is larger than its limit."""
    for _ in range(5):
        await announced(house, await kept(house), OPENED)
    first = await claimed(house, limit=2)
    rest = await claimed(house, limit=10)
    assert (len(first), len(rest)) == (2, 3)
    numbers = [found.id for found in first + rest]
    assert numbers == sorted(numbers)
