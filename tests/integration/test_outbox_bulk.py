"""Repairs of very many announcements: in small batches, and nothing that was never told is pruned away."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from linker import Linker, Settings, new_key
from linker.operations.retention import Pruned, Pruning
from linker.outbox import administration
from linker.outbox.administration import DeliveryState, OutboxAdministration, QueuedDelivery
from linker.outbox.channels import CHANNELS, HANDLERS, WEBHOOK, Channel
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.persistence.tables import OUTBOX
from linker.testing import ScriptedWorkable, SettableClock
from tests.integration.storehouse import NOW, House, kept

DAY = timedelta(days=1)


async def announced(house: House, each: int, connections: int, **columns: Any) -> None:
    """So many announcements of each of so many connections."""
    ids = [(await kept(house)).id for _ in range(connections)]
    rows = [
        {
            "message_id": f"msg_{connection_id}_{number}",
            "connection_id": connection_id,
            "seq": number,
            "type": "connection.opened",
            "payload": {},
            "created_at": NOW - DAY,
            "due_at": NOW,
            "hook_due_at": NOW,
            "delivered_to": [],
            **columns,
        }
        for number in range(each)
        for connection_id in ids
    ]
    await house.database.write(lambda transaction: transaction.execute(insert(OUTBOX), rows))


def dead_on(channel: Channel) -> dict[str, Any]:
    """The columns of a dead letter on a channel."""
    return channel.values(due_at=None, dead_at=NOW - DAY, attempts=30, last_error="500")


async def retried(house: House, *channels: Channel) -> list[list[QueuedDelivery]]:
    """Retry what is dead; gives the batches."""
    queue = OutboxAdministration(house.database)
    until = NOW + GIVE_UP_AFTER
    return [batch async for batch in queue.retry_dead(channels=channels or CHANNELS, now=NOW, until=until)]


async def dead(house: House, channel: Channel) -> int:
    """How many dead letters there are on a channel."""
    query = select(func.count()).where(channel.column(OUTBOX, "dead_at").is_not(None))
    return int(await house.database.read(lambda transaction: transaction.execute(query).scalar_one()))


async def test_dead_letters_are_retried_batch_by_batch(shared_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them once, on the channels that are meant, each batch written when it is told."""
    monkeypatch.setattr(administration, "BATCH_ROWS", 3)
    await announced(shared_house, 2, 5, **dead_on(WEBHOOK), **dead_on(HANDLERS))
    await announced(shared_house, 1, 1)
    batches = await retried(shared_house, WEBHOOK)
    assert max(len(batch) for batch in batches) <= 3
    assert len({delivery.id for batch in batches for delivery in batch}) == 10
    assert {delivery.state for batch in batches for delivery in batch} == {DeliveryState.RETRYING}
    assert {delivery.due_at for batch in batches for delivery in batch} == {NOW}
    assert (await dead(shared_house, WEBHOOK), await dead(shared_house, HANDLERS)) == (0, 10)
    assert sum(map(len, await retried(shared_house))) == 10
    assert await retried(shared_house) == []


async def test_what_waits_behind_a_dead_letter_goes_on_with_it(shared_house: House) -> None:
    """As after the retry of a single one."""
    await announced(shared_house, 1, 1, **dead_on(WEBHOOK))
    [(connection_id,)] = await shared_house.sql("SELECT connection_id FROM linker_outbox")
    later = {"message_id": "msg_later", "connection_id": connection_id, "seq": 9, "type": "connection.opened"}
    times = {"created_at": NOW, "due_at": NOW, "hook_due_at": NOW + DAY}
    row = {**later, **times, "payload": {}, "delivered_to": []}
    await shared_house.database.write(lambda transaction: transaction.execute(insert(OUTBOX).values(row)))
    await retried(shared_house)
    query = select(OUTBOX.c.hook_due_at).where(OUTBOX.c.message_id == "msg_later")
    assert await shared_house.database.read(lambda transaction: transaction.execute(query).scalar_one()) == NOW


@pytest.mark.slow
async def test_nobody_waits_for_a_retry_of_very_many(shared_house: House) -> None:
    """A person's deed meanwhile takes less than a second."""
    await announced(shared_house, 30, 100, **dead_on(WEBHOOK))
    settings = Settings(database_url=shared_house.url, secret_keys=(new_key(),))
    waits: list[float] = []
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        retrying = asyncio.create_task(retried(shared_house))
        while not retrying.done():
            began = time.monotonic()
            await linker.create(owner="meanwhile")
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
        assert sum(map(len, retrying.result())) == 3_000
    assert max(waits) < 1


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
async def test_what_was_never_told_keeps_its_connection(shared_house: House, channel: Channel) -> None:
    """A connection that was given up goes once all of it was told or given up, on both channels."""
    database, clock = shared_house.database, SettableClock(NOW)
    old = await kept(shared_house, closed_at=NOW - 30 * DAY)
    pruning = Pruning(database, Settings(keep_closed=DAY, keep_history=None, keep_announcements=None), clock)
    row = {"message_id": "msg_1", "connection_id": old.id, "seq": 1, "type": "connection.unlinked", "payload": {}}
    told = {each.prefix + "due_at": NOW if each is channel else None for each in CHANNELS}
    values = {**row, **told, "created_at": NOW - DAY, "delivered_to": [], f"{channel.prefix}attempts": 3}
    await database.write(lambda transaction: transaction.execute(insert(OUTBOX).values(values)))
    assert await pruning.foresee() == Pruned()
    assert await pruning.run() == Pruned()
    over = OUTBOX.update().values(channel.values(due_at=None, delivered_at=NOW))
    await database.write(lambda transaction: transaction.execute(over))
    assert await pruning.foresee() == Pruned(connections=1)
    assert await pruning.run() == Pruned(connections=1)
