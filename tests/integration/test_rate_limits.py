"""What rations are for: the calls that Workable sees, of all workers together."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from linker import Linker, Settings, new_key
from linker.persistence.tables import RATE_LIMIT
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


async def test_a_sweeps_further_pages_are_counted(tmp_path: Path) -> None:
    """Of three pages the claim foresees one; the others are put into the row that all share."""
    clock, emails, asked = SettableClock(), list[str](), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if not request.url.path.endswith("/recruiters"):
            return httpx.Response(200, json={"id": "a1", "name": "Acme", "subdomain": "acme"})
        number = int(request.url.params.get("page", "1"))
        email = emails[0] if emails and number == 3 else f"{number}@agency.example"
        body: dict[str, Any] = {"recruiters": [{"id": str(number), "name": "x", "email": email}]}
        if number < 3:
            body["paging"] = {"next": f"https://acme.workable.com/spi/v3/recruiters?page={number + 1}"}
        return httpx.Response(200, json=body)

    settings = Settings(database_url=f"sqlite:///{tmp_path}/linker.db", secret_keys=(new_key(),))
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        Linker(settings, http=http, clock=clock) as linker,
    ):
        connection = await linker.create(owner="customer-1")
        connection = await linker.submit_token(connection.id, subdomain="acme", token="a-token-of-acme")
        assert connection.recruiter is not None
        emails.append(connection.recruiter.email)
        clock.advance(seconds=60)
        await linker.confirm_recruiter(connection.id)
        clock.advance(hours=30)
        asked.clear()
        assert (await linker.attend_due()).claimed == 1
        rows = await parts(linker).database.read(lambda t: t.execute(select(RATE_LIMIT.c.calls)).scalars().all())
    counted = sum(number for row in rows for _, number, *_ in row or ())
    assert (len(asked), counted) == (3, 2)
