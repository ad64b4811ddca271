"""What rations are for: the calls that Workable sees, of all workers together."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from linker import Linker, Settings, new_key
from linker.testing import Limit, SettableClock, World, running
from tests.seams import parts

ACCOUNTS = 80
HOURS = 5


async def waiting_for_long(linker: Linker, clock: SettableClock) -> None:
    """Connections that wait for their recruiter for hours: so long that each look asks the members too."""
    for number in range(ACCOUNTS):
        connection = await linker.create(owner=f"owner-{number}")
        await linker.submit_token(connection.id, subdomain=f"acme{number}", token=f"token-of-acme-{number}")
    clock.advance(hours=HOURS)
    due = text("UPDATE linker_connection SET due_at = :due")
    past = f"{clock.now() - timedelta(minutes=1):%Y-%m-%d %H:%M:%S.%f}"
    await parts(linker).database.write(lambda transaction: transaction.execute(due, {"due": past}))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_partners_limit_holds_for_every_call(workers: int, tmp_path: Path) -> None:
    """In any ten seconds sweeps make 44 of the 50 calls that Workable allows to a client id at most, hints included."""
    world, clock = World(limit=Limit.off()), SettableClock()
    for number in range(ACCOUNTS):
        world.add_account(f"acme{number}", name=f"Acme {number}")
        world.add_token(f"acme{number}", f"token-of-acme-{number}")
    url, keys, made = f"sqlite:///{tmp_path}/linker.db", (new_key(),), []
    with running(world) as workable_url:
        plain = Settings(database_url=url, secret_keys=keys, workable_url=workable_url)
        partner = plain.model_copy(update={"workable_client_id": "partner-1"})
        async with Linker(plain, clock=clock) as linker:
            await waiting_for_long(linker, clock)
        linkers = [Linker(partner, clock=clock) for _ in range(workers)]
        for linker in linkers:
            await linker.__aenter__()
        for _ in range(25):
            before = len(world.requests())
            for linker in linkers:
                await linker.attend_due()
            made.append(len(world.requests()) - before)
            clock.advance(seconds=1)
        for linker in linkers:
            await linker.__aexit__(None, None, None)
    asked = [request.path for request in world.requests()]
    assert sum("members" in path for path in asked) > ACCOUNTS / 4
    busiest = max(sum(made[start : start + 10]) for start in range(len(made)))
    assert 30 <= busiest <= 44
