"""Recorders that hosts use in their tests, over a client of theirs: VCR's cassettes and respx's records."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import vcr

from linker import new_key
from linker.sandbox import Limit, World
from tests.integration.account_hosts import TOKEN, Host, a_linker, opened

BOTH = pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
PERSON = {"candidate": {"name": "Ann Example", "email": "ann@example.com"}}


@pytest.fixture
def world(sandbox: tuple[World, str]) -> World:
    """An empty Workable with one job."""
    sandbox[0].clear()
    sandbox[0].set_limit(Limit.off())
    sandbox[0].add_account("acme", name="Acme Robotics")
    sandbox[0].add_job("acme", title="Robot Wrangler", shortcode="ROBOT01")
    return sandbox[0]


async def used(host: Host, connection: Any) -> list[Any]:
    """What a host does: it lists, brings and is refused; gives what it was answered."""
    async with host.client(connection) as client:
        listed = await client.listed(client.http.pages("jobs", params={"limit": 1}))
        brought = await client.request("POST", "jobs/ROBOT01/candidates", json=PERSON)
        refused = await client.get("jobs/NONE")
        return [listed, (brought.status_code, brought.json()), (refused.status_code, refused.json())]


@BOTH
async def test_a_cassette_holds_no_token_and_plays_again(
    sandbox: tuple[World, str], world: World, blocks: bool, tmp_path: Path
) -> None:
    """VCR records linking and use over a socket; what it wrote is answered again without one request."""
    cassette, keys = tmp_path / "use.yaml", (new_key(),)
    given: dict[str, Any] = {"database_url": f"sqlite:///{tmp_path}/linker.db", "secret_keys": keys}
    async with opened(a_linker(sandbox[1], **given), blocks=blocks) as host:
        with vcr.use_cassette(str(cassette), record_mode="new_episodes") as tape:
            connection = await host.linked(world)
            answered = await used(host, connection)
        assert len(tape) >= 6, "two to verify, one to find the recruiter, three of the host's"
    written = cassette.read_text()
    assert "/spi/v3/jobs/ROBOT01/candidates" in written
    assert "recruiters" in written
    for trace in (TOKEN, "CANARY", "Bearer", "authorization", "Authorization"):
        assert trace not in written
        assert trace not in str([vars(request) for request in tape.requests] + tape.responses)
    world.forget_requests()
    async with opened(a_linker(sandbox[1], **given), blocks=blocks) as host:
        with vcr.use_cassette(str(cassette), record_mode="none") as tape:
            assert await used(host, connection) == answered
        assert tape.play_count == 3
    assert world.requests() == ()


@BOTH
async def test_respx_answers_a_client_and_records_no_token(
    sandbox: tuple[World, str], world: World, blocks: bool
) -> None:
    """With `using="httpx"` it stands in for our transport, so that nothing is opened, asked or sent."""
    base = f"{sandbox[1].replace('{subdomain}', 'acme')}/spi/v3"
    async with opened(a_linker(sandbox[1]), blocks=blocks) as host:
        connection = await host.linked(world)
        world.forget_requests()
        with respx.mock(base_url=base, using="httpx") as mocked:
            jobs = mocked.get("/jobs").respond(json={"jobs": [{"id": "1"}]})
            mocked.post("/jobs/ROBOT01/candidates").respond(201, json={"candidate": {"id": "2"}})
            mocked.get("/jobs/NONE").mock(side_effect=httpx.ReadTimeout("slow"))
            async with host.client(connection) as client:
                assert await client.listed(client.http.pages("jobs")) == [{"id": "1"}]
                sent = await client.request("POST", "jobs/ROBOT01/candidates", json=PERSON)
                assert sent.json() == {"candidate": {"id": "2"}}
                with pytest.raises(httpx.ReadTimeout):
                    await client.get("jobs/NONE")
            assert jobs.call_count == 1
            assert len(mocked.calls) == 3
            for call in mocked.calls:
                assert "authorization" not in call.request.headers
                shown = [repr(call), str(call.request.headers), call.request.content.decode(), str(vars(call.request))]
                assert "CANARY" not in " ".join(shown)
            assert json.loads(mocked.calls[1].request.content) == PERSON
    assert world.requests() == ()


@BOTH
async def test_respx_that_watches_the_network_sees_no_request_of_ours(
    sandbox: tuple[World, str], world: World, blocks: bool
) -> None:
    """As it is by default it replaces `httpcore`, which no call of a client goes through: it records nothing."""
    async with opened(a_linker(sandbox[1]), blocks=blocks) as host:
        with respx.mock(assert_all_mocked=True) as mocked:
            connection = await host.linked(world)
            await used(host, connection)
            await asyncio.sleep(0)
        assert len(mocked.calls) == 0
    assert len(world.requests()) >= 6
