"""The sandbox over real sockets: every fault as a real client meets it."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from linker.sandbox import Fault, Limit, Sandbox, World, fingerprint, running, seed, serve

ACCOUNT = "/spi/v3/accounts/acme"
RECRUITERS = "/spi/v3/recruiters"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[World, str]]:
    """A world on a socket, and its URL template."""
    world = seed.seeded()
    with running(world) as template:
        yield world, template


@pytest.fixture
def world(served: tuple[World, str]) -> World:
    """The served world, as new and without a limit."""
    world, _ = served
    world.clear()
    seed.fill(world)
    world.set_limit(Limit.off())
    return world


@pytest.fixture
def client(world: World, served: tuple[World, str]) -> Iterator[httpx.Client]:
    """A real client of account acme, with the good token."""
    with httpx.Client(
        base_url=served[1].format(subdomain="acme"),
        headers={"Authorization": f"Bearer {seed.ACME_TOKEN}"},
        timeout=5,
    ) as made:
        yield made


def test_good_answer_comes_over_the_wire(world: World, client: httpx.Client) -> None:
    """A real client gets the account, and the log has it by then."""
    assert client.get(ACCOUNT).json()["id"] == "c71fa"
    assert [entry.path for entry in world.log] == ["/accounts/acme"]


@pytest.mark.parametrize(
    ("fault", "status", "kind", "said"),
    [
        (Fault.UNAUTHORIZED, 401, "application/json", '"invalid_token"'),
        (Fault.UNAUTHORIZED_DOCUMENTED, 401, "application/json", '{"error":"Not authorized"}'),
        (Fault.FORBIDDEN, 403, "application/json", '{"error":"Forbidden"}'),
        (Fault.MISMATCH, 422, "application/json", "does not match account subdomain"),
        (Fault.NOT_FOUND, 404, "application/json", '{"error":"Not found"}'),
        (Fault.NOT_FOUND_PAGE, 404, "text/html", "<html>"),
        (Fault.SPURIOUS_404, 404, "application/json", '{"error":"Not found"}'),
        (Fault.THROTTLED, 429, "application/json", "error"),
        (Fault.THROTTLED_RETRY_AFTER, 429, "application/json", "error"),
        (Fault.THROTTLED_BARE, 429, "application/json", "error"),
        (Fault.SERVER_ERROR, 500, "application/json", "error"),
        (Fault.BAD_GATEWAY, 502, "text/html", "Bad gateway"),
        (Fault.UNAVAILABLE, 503, "text/plain", "Service Unavailable"),
        (Fault.HTML, 200, "text/html", "<html>"),
        (Fault.REDIRECT, 302, "text/html", "<html>"),
        (Fault.BROKEN_JSON, 200, "application/json", '{"id": "c71fa", "name": "Acme Rob'),
        (Fault.WRONG_SHAPE, 200, "application/json", "[]"),
        (Fault.MISSING_KEYS, 200, "application/json", "unexpected"),
        (Fault.EMPTY, 200, "application/json", ""),
    ],
)
def test_replacing_faults_say_what_they_should(
    world: World, client: httpx.Client, fault: Fault, status: int, kind: str, said: str
) -> None:
    """Each such fault shows its status, type and body once, costs nothing of the limit, and is gone."""
    world.set_limit(Limit(requests=1))
    world.fail("acme", fault, times=1)
    answer = client.get(ACCOUNT)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, kind)
    assert said in answer.text
    assert world.log[0].fault == fault.value
    assert client.get(ACCOUNT).status_code == 200


def test_faults_are_all_tested_here() -> None:
    """Every fault is met by a real client in this file."""
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    assert [fault for fault in Fault if f"Fault.{fault.name}" not in text] == []


@pytest.mark.parametrize(
    ("fault", "seconds", "present", "absent"),
    [
        (Fault.THROTTLED, 30.0, "x-rate-limit-reset", "retry-after"),
        (Fault.THROTTLED_RETRY_AFTER, 12.0, "retry-after", "x-rate-limit-reset"),
    ],
)
def test_throttling_tells_its_time(
    world: World, client: httpx.Client, fault: Fault, seconds: float, present: str, absent: str
) -> None:
    """A 429 tells the time in the header that was asked for, and in no other."""
    world.fail("acme", fault, seconds=seconds)
    headers = client.get(ACCOUNT).headers
    told = int(headers[present])
    assert told == 12 or told == pytest.approx(time.time() + 30, abs=2)
    assert absent not in headers


def test_bare_throttling_tells_no_time(world: World, client: httpx.Client) -> None:
    """The bare 429 leaves the client to its own devices."""
    world.fail("acme", Fault.THROTTLED_BARE)
    headers = client.get(ACCOUNT).headers
    assert not {"retry-after", "x-rate-limit-reset", "x-rate-limit-remaining"} & set(headers)


def test_spurious_404_is_gone_when_asked_again(world: World, client: httpx.Client) -> None:
    """The second try is answered, the third is refused again."""
    world.fail("acme", Fault.SPURIOUS_404)
    assert [client.get(ACCOUNT).status_code for _ in range(3)] == [404, 200, 404]


def test_slow_answer_comes_late(world: World, client: httpx.Client) -> None:
    """A slow answer is right, after its seconds; who does not wait that long times out."""
    world.fail("acme", Fault.SLOW, seconds=0.3)
    began = time.monotonic()
    assert client.get(ACCOUNT).json()["id"] == "c71fa"
    assert time.monotonic() - began >= 0.3
    assert world.log[0].milliseconds >= 300
    with pytest.raises(httpx.ReadTimeout):
        client.get(ACCOUNT, timeout=0.05)
    while len(world.log) < 2:  # the server notices that nobody waits any more, and writes it down
        time.sleep(0.01)


def test_trickle_outlives_a_timeout_between_bytes(world: World, client: httpx.Client) -> None:
    """A dripping body is whole in the end, and no single pause is long enough for a read timeout."""
    world.fail("acme", Fault.TRICKLE, seconds=0.6)
    began = time.monotonic()
    answer = client.get(ACCOUNT, timeout=0.3)
    assert answer.json()["id"] == "c71fa"
    assert time.monotonic() - began >= 0.5
    assert world.log[0].fault == "trickle"


def test_cut_breaks_off_in_the_middle(world: World, client: httpx.Client) -> None:
    """The client sees a protocol error, and the next request works."""
    world.fail("acme", Fault.CUT, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(ACCOUNT)
    assert world.log[0].fault == "cut"
    assert client.get(ACCOUNT).status_code == 200


def test_huge_answer_is_right_but_for_its_size(world: World, client: httpx.Client) -> None:
    """The huge answer is streamed without a length, more than 2 MiB, and would pass if it were read."""
    world.fail("acme", Fault.HUGE)
    with client.stream("GET", ACCOUNT) as answer:
        assert "content-length" not in answer.headers
        body = answer.read()
    assert len(body) > 2 * 1024 * 1024
    assert answer.json()["id"] == "c71fa"


def test_huge_answer_may_be_left_unread(world: World, client: httpx.Client) -> None:
    """Who stops reading and hangs up does no harm to the server."""
    world.fail("acme", Fault.HUGE, times=1)
    with client.stream("GET", ACCOUNT) as answer:
        assert next(answer.iter_raw())
    assert client.get(ACCOUNT).status_code == 200


def test_redirect_writes_down_whether_the_token_came_along(world: World, client: httpx.Client) -> None:
    """The redirect leads to another host of the same server, where the log shows what was sent."""
    world.fail("acme", Fault.REDIRECT, times=2)
    location = client.get(ACCOUNT).headers["location"]
    assert httpx.URL(location).host == "localhost"
    leaky = client.get(location, headers={"Authorization": f"Bearer {seed.ACME_TOKEN}"})
    assert leaky.headers["content-type"].startswith("text/html")
    followed = client.get(ACCOUNT, follow_redirects=True)  # httpx drops the header for another host
    assert followed.status_code == 200
    arrived = [entry.fingerprint for entry in world.requests(path="elsewhere")]
    assert arrived == [fingerprint(seed.ACME_TOKEN), None]


def test_foreign_next_leads_to_another_host(world: World, client: httpx.Client) -> None:
    """Members are right but for a next page on another host; other answers are left alone."""
    world.fail("acme", Fault.FOREIGN_NEXT)
    body = client.get("/spi/v3/members?status=all").json()
    assert [member["name"] for member in body["members"]] == ["Account Admin"]
    assert httpx.URL(body["paging"]["next"]).host == "localhost"
    assert client.get(RECRUITERS).json()["recruiters"][0]["name"] == "Hunters & Co"


def test_spoiling_faults_leave_refusals_refusals(world: World, client: httpx.Client) -> None:
    """A wrong token stays refused, however its answer travels."""
    world.fail("acme", Fault.HUGE)
    assert client.get(ACCOUNT, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_world_may_change_while_it_is_served(world: World, client: httpx.Client) -> None:
    """What a test changes from its own thread shows in the next answer."""
    world.add_recruiter("acme", name="New", email="new@acme.example")
    assert [each["name"] for each in client.get(RECRUITERS).json()["recruiters"]][-1] == "New"
    world.revoke_token(seed.ACME_TOKEN)
    assert client.get(RECRUITERS).status_code == 401


def test_page_is_served(client: httpx.Client, served: tuple[World, str]) -> None:
    """The control page is there."""
    assert "Workable sandbox" in client.get(served[1].format(subdomain="_sandbox")).text


def test_running_starts_and_stops_quickly() -> None:
    """A server is up, asked and gone in well under a second each, and frees its port."""
    began = time.monotonic()
    with running(World()) as template:
        url = template.format(subdomain="acme")
        assert httpx.get(f"{url}{ACCOUNT}").status_code == 401
        up = time.monotonic()
    assert up - began < 1
    assert time.monotonic() - up < 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}{ACCOUNT}")


def test_running_stops_though_somebody_gave_up_waiting() -> None:
    """A slow answer that nobody waits for any more does not hold up the end."""
    world = World()
    world.fail("*", Fault.SLOW, seconds=60)
    with running(Sandbox(world)) as template:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(template.format(subdomain="acme") + ACCOUNT, timeout=0.1)
        left = time.monotonic()
    assert time.monotonic() - left < 1


def test_taken_port_is_an_error() -> None:
    """Who asks for a port that is taken is told so."""
    with running(World()) as template:
        port = httpx.URL(template.format(subdomain="acme")).port
        assert port is not None
        with pytest.raises(OSError, match="in use"), running(World(), port):
            raise AssertionError


async def test_serve_until_told_to_stop() -> None:
    """`serve` answers once it says that it is ready, and ends when the event is set."""
    stop, ready = asyncio.Event(), asyncio.Queue[str]()
    serving = asyncio.create_task(serve(seed.seeded(), port=0, stop=stop, on_ready=ready.put_nowait))
    template = await ready.get()
    async with httpx.AsyncClient() as client:
        answer = await client.get(template.format(subdomain="acme") + ACCOUNT)
    assert answer.status_code == 401
    stop.set()
    await asyncio.wait_for(serving, 5)


async def test_serve_can_be_cancelled() -> None:
    """A cancelled `serve` lets its port go."""
    ready = asyncio.Queue[str]()
    serving = asyncio.create_task(serve(World(), port=0, on_ready=ready.put_nowait))
    port = httpx.URL((await ready.get()).format(subdomain="x")).port
    await asyncio.sleep(0.1)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 5)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port or 0)) != 0


async def test_serve_ends_on_sigterm_when_asked_to() -> None:
    """With `handle_signals` a SIGTERM is a request to stop, not a death."""
    ready = asyncio.Queue[str]()
    serving = asyncio.create_task(serve(World(), port=0, handle_signals=True, on_ready=ready.put_nowait))
    await ready.get()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 5)


def test_small_answers_are_not_held_back(client: httpx.Client) -> None:
    """No answer waits for the client's delayed acknowledgement: fifty in a row take far less than 50 x 40 ms."""
    began = time.monotonic()
    for _ in range(50):
        client.get(RECRUITERS)
    assert time.monotonic() - began < 1
