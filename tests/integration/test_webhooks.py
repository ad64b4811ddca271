"""Webhooks over real sockets, from every engine: signed, at least once, in order, and nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier

from linker import Announcement, ConnectionState, Linker, Settings, new_key
from linker.outbox.administration import DeliveryState, OutboxAdministration, QueuedDelivery
from linker.outbox.channels import CHANNELS, WEBHOOK
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.outbox.outbox_store import EXPIRE_AFTER
from linker.outbox.webhooks import GONE_FOR, TOO_MUCH_FOR, new_webhook_secret
from linker.testing import ScriptedWorkable, SettableClock
from tests.integration.storehouse import House
from tests.receiver import Answer, Receiver, hang, huge, nonsense, receiving, reset, status, trickle
from tests.seams import parts

SECRET, OLD_SECRET = new_webhook_secret(), new_webhook_secret()
STORY = ["connection.opened", "token.accepted", "connection.awaiting_recruiter"]
KEY = new_key()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything, unless it is told otherwise."""
    with receiving() as started:
        yield started


@pytest.fixture
def clock() -> SettableClock:
    """A clock that begins now: a verifier compares with the machine's."""
    return SettableClock(datetime.now(UTC))


class Post:
    """What a test has at hand: linkers on one database that post to one receiver."""

    def __init__(self, house: House, receiver: Receiver, clock: SettableClock) -> None:
        self.house = house
        self.receiver = receiver
        self.clock = clock
        self.workable = ScriptedWorkable()

    @asynccontextmanager
    async def linker(self, **settings: Any) -> AsyncIterator[Linker]:
        """A linker as a process of its own has it."""
        given: dict[str, Any] = {
            "database_url": self.house.url,
            "secret_keys": (KEY,),
            "webhook_url": self.receiver.url,
            "webhook_secret": (SECRET,),
            **settings,
        }
        async with Linker(Settings(**given), workable=self.workable, clock=self.clock) as linker:
            yield linker

    async def deliveries(self, *states: DeliveryState) -> list[QueuedDelivery]:
        """What is queued for the webhook in these states, oldest first."""
        found = await OutboxAdministration(self.house.database).find(
            {WEBHOOK: states or tuple(DeliveryState)}, limit=1_000
        )
        return found[::-1]


@pytest.fixture
def post(shared_house: House, receiver: Receiver, clock: SettableClock) -> Post:
    """Everything, on each engine."""
    return Post(shared_house, receiver, clock)


async def story(linker: Linker, owner: str = "customer-1") -> str:
    """A connection with three announcements; gives its id."""
    connection = await linker.create(owner=owner)
    await linker.submit_token(connection.id, subdomain=owner, token=SecretStr("token-0123456789abcdef"))
    return connection.id


async def until(true: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the receiver is not of this loop
            await asyncio.sleep(0.01)


# what arrives


async def test_a_story_arrives_signed_and_in_order(post: Post) -> None:
    """Each webhook has the scheme's headers, verifies with the scheme's own library, and comes once."""
    async with post.linker() as linker:
        connection_id = await story(linker)
        assert await linker.deliver() == 3
        assert await linker.deliver() == 0
    assert post.receiver.types == STORY
    for came, delivery in zip(post.receiver.came, await post.deliveries(DeliveryState.DELIVERED), strict=True):
        assert came.path == "/hooks?from=linker"
        assert came.headers["content-type"] == "application/json"
        assert came.id == delivery.id
        assert came.headers["webhook-timestamp"] == str(int(post.clock.now().timestamp()))
        assert Verifier(SECRET.get_secret_value()).verify(came.body, dict(came.headers)) == came.payload
        assert came.payload.keys() == {"type", "timestamp", "data"}
        assert came.payload["data"]["id"] == connection_id


async def test_two_secrets_sign_at_once(post: Post) -> None:
    """While the secret is changed, a receiver verifies with the new one or with the old one; the newest comes first."""
    async with post.linker(webhook_secret=(SECRET, OLD_SECRET)) as linker:
        await linker.create(owner="customer-1")
        await linker.deliver()
    [came] = post.receiver.came
    for secret in (SECRET, OLD_SECRET):
        assert Verifier(secret.get_secret_value()).verify(came.body, dict(came.headers)) == came.payload
        assert came.is_signed_with(secret.get_secret_value())
    assert not came.is_signed_with(new_webhook_secret().get_secret_value())
    first = came.headers["webhook-signature"].split(" ")[0]
    assert Verifier(SECRET.get_secret_value()).verify(came.body, dict(came.headers) | {"webhook-signature": first})


async def test_texts_in_every_script_arrive_as_they_are(post: Post) -> None:
    """The signature is over the bytes that are sent, whatever is in them."""
    async with post.linker() as linker:
        await linker.create(owner="Zoë & Söhne 株式会社 🚀", metadata={"quote": '"\\'})
        await linker.deliver()
    [came] = post.receiver.came
    assert came.owner == "Zoë & Söhne 株式会社 🚀"
    assert came.is_signed_with(SECRET.get_secret_value())


# what does not

TROUBLE: dict[str, Answer] = {
    "bad request": status(400),
    "unauthorized": status(401),
    "not found": status(404),
    "fault": status(500),
    "down": status(503),
    "redirect": status(302, location="/elsewhere"),
    "reset": reset,
    "nonsense": nonsense,
    "hang": hang,
    "huge and refused": huge(500),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
async def test_trouble_is_tried_again(post: Post, trouble: Answer) -> None:
    """Whatever the receiver does but answer with 2xx: the same webhook comes again later, signed anew."""
    post.receiver.script.append(trouble)
    async with post.linker(lease_seconds=2) as linker:
        await linker.create(owner="customer-1")
        assert await linker.deliver() == 0
        [delivery] = await post.deliveries(DeliveryState.RETRYING)
        assert delivery.last_error is not None
        assert delivery.last_error.startswith("webhook: ")
        assert post.receiver.url not in delivery.last_error
        assert await linker.deliver() == 0, "not before its time"
        post.clock.advance(seconds=5)
        assert await linker.deliver() == 1
    first, second = post.receiver.came
    assert (first.id, first.body) == (second.id, second.body)
    assert int(second.headers["webhook-timestamp"]) == int(first.headers["webhook-timestamp"]) + 5
    assert second.is_signed_with(SECRET.get_secret_value())


@pytest.mark.parametrize("answer", [huge(200), trickle(202)], ids=["huge", "trickle"])
async def test_a_good_answer_is_good_whatever_its_body(post: Post, answer: Answer) -> None:
    """The status is all that counts: a body without an end is cut off and costs neither memory nor a second try."""
    post.receiver.otherwise = answer
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        async with asyncio.timeout(10):
            assert await linker.deliver() == 1
    assert len(post.receiver.came) == 1


async def test_nobody_at_the_other_end(post: Post) -> None:
    """A refused connection is trouble like any other."""
    async with post.linker(webhook_url="http://127.0.0.1:9/hooks") as linker:
        await linker.create(owner="customer-1")
        assert await linker.deliver() == 0
    [delivery] = await post.deliveries(DeliveryState.RETRYING)
    assert delivery.attempts == 1


@pytest.mark.parametrize(
    ("answer", "rests"),
    [
        (status(429, retry_after="120"), timedelta(seconds=120)),
        (status(503, retry_after="120"), timedelta(seconds=120)),
        (status(429, retry_after="86400"), timedelta(hours=1)),
        (status(429), TOO_MUCH_FOR),
        (status(429, retry_after="soon"), TOO_MUCH_FOR),
    ],
    ids=["429", "503", "much later", "429 without a time", "429 with nonsense"],
)
async def test_a_receiver_that_has_too_much_is_left_alone(post: Post, answer: Answer, rests: timedelta) -> None:
    """It names a time, within an hour, and until then nothing at all is posted, not for other connections either."""
    post.receiver.script.append(answer)
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        await linker.deliver()
        await linker.create(owner="customer-2")
        post.clock.advance(seconds=rests.total_seconds() - 1)
        assert await linker.deliver() == 0
        assert len(post.receiver.came) == 1
        post.clock.advance(seconds=7)
        assert await linker.deliver() == 2


async def test_retry_after_holds_for_any_failure(post: Post) -> None:
    """Also a plain fault may name a time; it holds for that webhook."""
    post.receiver.script.append(status(500, retry_after="600"))
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        await linker.deliver()
        await linker.create(owner="customer-2")
        assert await linker.deliver() == 1
        post.clock.advance(seconds=599)
        assert await linker.deliver() == 0
        post.clock.advance(seconds=7)
        assert await linker.deliver() == 1


async def test_gone_is_gone(post: Post) -> None:
    """410: a dead letter at once, and an hour of rest; an operator brings it back."""
    post.receiver.script.append(status(410))
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        await linker.create(owner="customer-2")
        post.receiver.otherwise = status(410)
        await linker.deliver()
        dead = await post.deliveries(DeliveryState.DEAD)
        assert dead
        assert {delivery.last_error for delivery in dead} == {"webhook: 410"}
        post.receiver.otherwise, before = status(200), len(post.receiver.came)
        await linker.create(owner="customer-3")
        assert (await linker.deliver(), len(post.receiver.came)) == (0, before)
        now = post.clock.advance(seconds=GONE_FOR.total_seconds())
        async for _ in OutboxAdministration(post.house.database).retry_dead(now=now, until=now + GIVE_UP_AFTER):
            pass
        assert await linker.deliver() == 3


# days


async def test_three_days_then_a_dead_letter(post: Post) -> None:
    """Tries go on for three days with growing pauses; then it is dead, and the next one has its turn."""
    post.receiver.otherwise = status(500)
    async with post.linker() as linker:
        await story(linker)
        began = post.clock.now()
        while not await post.deliveries(DeliveryState.DEAD):
            await linker.deliver()
            post.clock.advance(minutes=10)
        assert timedelta(days=3) <= post.clock.now() - began <= timedelta(days=3, hours=7)
        assert set(post.receiver.types[:-1]) == {STORY[0]}
        assert 15 <= len(post.receiver.came) <= 60
        post.receiver.otherwise = status(200)
        post.clock.advance(hours=6)
        assert await linker.deliver() == 2
        assert post.receiver.types[-2:] == STORY[1:]
        assert [delivery.state for delivery in await post.deliveries()] == ["dead", "delivered", "delivered"]


async def test_a_dead_letter_that_is_tried_again_has_three_more_days(post: Post) -> None:
    """An operator's retry begins anew, with short pauses."""
    post.receiver.otherwise = status(500)
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        await linker.deliver()
        post.clock.advance(days=3)
        await linker.deliver()
        [dead] = await post.deliveries(DeliveryState.DEAD)
        now = post.clock.now()
        await OutboxAdministration(post.house.database).retry(
            [dead.id], channels=(WEBHOOK,), now=now, until=now + GIVE_UP_AFTER
        )
        await linker.deliver()
        [delivery] = await post.deliveries(DeliveryState.RETRYING)
        assert delivery.attempts == 1
        assert delivery.due_at is not None
        assert delivery.due_at - now <= timedelta(seconds=5)
        post.clock.advance(days=2.9)
        await linker.deliver()
        assert await post.deliveries(DeliveryState.RETRYING)


async def test_a_webhook_that_is_set_late_is_not_told_of_years_ago(post: Post) -> None:
    """Nobody posted for a week: what is older expires, and is kept; what is younger is posted."""
    async with post.linker(webhook_url=None) as linker:
        await linker.create(owner="long-ago")
        post.clock.advance(seconds=EXPIRE_AFTER.total_seconds())
        await linker.create(owner="lately")
        assert await linker.deliver() == 0
    async with post.linker() as linker:
        assert await linker.deliver() == 1
        assert [came.owner for came in post.receiver.came] == ["lately"]
        [lapsed] = await post.deliveries(DeliveryState.LAPSED)
        now = post.clock.now()
        await OutboxAdministration(post.house.database).retry(
            [lapsed.id], channels=(WEBHOOK,), now=now, until=now + GIVE_UP_AFTER
        )
        assert await linker.deliver() == 1


# who waits for whom


async def test_handlers_and_webhook_do_not_wait_for_each_other(post: Post) -> None:
    """A webhook that fails calls no handler again, and a handler that raises posts nothing again."""
    heard: list[str] = []
    post.receiver.script.extend([status(500)] * 2)
    async with post.linker() as linker:

        def raising(announcement: Announcement) -> None:
            heard.append(announcement.type)
            if len(heard) == 1:
                raise RuntimeError

        for name in STORY:
            linker.on(name)(raising)
        await story(linker)
        assert await linker.deliver() == 0
        assert (heard, post.receiver.types) == (STORY[:1], STORY[:1])
        post.clock.advance(seconds=5)
        assert await linker.deliver() == 3, "the webhook fails once more"
        assert (heard, post.receiver.types) == (STORY[:1] + STORY, STORY[:1] * 2)
        post.clock.advance(seconds=10)
        assert await linker.deliver() == 3
    assert (heard, post.receiver.types) == (STORY[:1] + STORY, STORY[:1] * 2 + STORY)


async def test_processes_share_the_work_by_what_they_have(post: Post) -> None:
    """The host's process calls its handlers, the worker posts: whoever comes first takes nothing from the other."""
    heard: list[str] = []
    async with post.linker(webhook_url=None) as host, post.linker() as worker:
        for name in STORY:
            host.on(name)(lambda announcement: heard.append(announcement.type))
        await story(host)
        assert await host.deliver() == 3
        assert (heard, post.receiver.types) == (STORY, [])
        assert await worker.deliver() == 3
        assert (heard, post.receiver.types) == (STORY, STORY)


async def test_several_workers_post_once(post: Post) -> None:
    """Workers that deliver at the same time do not post the same."""
    async with post.linker() as one, post.linker() as other:
        ids = [await story(one, f"customer-{number}") for number in range(10)]
        while not all(delivery.state is DeliveryState.DELIVERED for delivery in await post.deliveries()):
            await asyncio.gather(one.deliver(), other.deliver())
    assert len(post.receiver.came) == len({came.id for came in post.receiver.came}) == 30
    for connection_id in ids:
        assert [came.type for came in post.receiver.came if came.payload["data"]["id"] == connection_id] == STORY


async def test_a_connection_whose_webhook_hangs_stops_no_other(post: Post) -> None:
    """While one hangs, all of the others' stories arrive."""
    post.receiver.script.append(hang)
    async with post.linker() as linker:
        await story(linker, "slow")
        delivering = asyncio.create_task(linker.deliver())
        await until(lambda: len(post.receiver.came) == 1)
        for number in range(5):
            await story(linker, f"quick-{number}")
        await until(lambda: len(post.receiver.came) == 16)
        assert [came.type for came in post.receiver.came if came.owner == "slow"] == STORY[:1]
        assert not delivering.done()
        post.receiver.let_go.set()
        await delivering
        post.clock.advance(seconds=5)
        assert await linker.deliver() == 3


async def test_a_receiver_that_hangs_does_not_slow_links(post: Post) -> None:
    """With every webhook hanging, the heartbeat links and calls handlers as if there were none."""
    post.receiver.otherwise = hang
    linked: list[str] = []
    async with post.linker(sweep_seconds=0.05) as linker:

        @linker.on("linked")
        def on_linked(announcement: Announcement) -> None:
            linked.append(announcement.payload["data"]["owner"])

        async with linker.heartbeat():
            for number in range(15):
                await story(linker, f"customer-{number}")
            await until(lambda: len(post.receiver.came) == 10)
            for connection in await linker.find():
                assert connection.recruiter is not None
                post.workable.add_recruiter(connection.recruiter.email)
            post.clock.advance(minutes=1)
            async with asyncio.timeout(10):
                await until(lambda: len(linked) == 15)
            assert {each.state for each in await linker.find()} == {ConnectionState.LINKED}
            assert len(post.receiver.came) == 10, "no more than that hang at the same time"
            post.receiver.let_go.set()


async def test_whoever_stops_while_a_webhook_hangs_loses_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopping worker does not wait for it for ever; another one posts it once the lease has run out."""
    monkeypatch.setattr("linker.linker.DRAIN_SECONDS", 0.2)
    post.receiver.script.append(hang)
    async with post.linker() as linker, linker.heartbeat():
        await linker.create(owner="customer-1")
        await until(lambda: len(post.receiver.came) == 1)
    async with post.linker() as linker:
        assert await linker.deliver() == 0
        post.clock.advance(minutes=1)
        assert await linker.deliver() == 1
    assert len({came.id for came in post.receiver.came}) == 1


@pytest.mark.parametrize("lease_seconds", [2, 10, 60, 3600])
async def test_a_delivery_ends_before_its_lease(post: Post, lease_seconds: float) -> None:
    """However short leases are, a delivery has at most half of one, and never more than 15 seconds."""
    async with post.linker(lease_seconds=lease_seconds) as linker:
        assert parts(linker).engine.lease_issuer.delivery_seconds == min(15, lease_seconds / 2)


# operators


async def test_what_is_dropped_is_not_delivered(post: Post) -> None:
    """Also while somebody delivers it: that cannot be written down any more. Those behind it go on."""
    post.receiver.script.append(hang)
    async with post.linker() as linker:
        await story(linker)
        delivering = asyncio.create_task(linker.deliver())
        await until(lambda: len(post.receiver.came) == 1)
        administration = OutboxAdministration(post.house.database)
        dropped = await administration.drop(
            [post.receiver.came[0].id], now=post.clock.now(), reason="dropped by a test"
        )
        assert [(delivery.channel, delivery.state) for delivery in dropped] == [
            (channel, "dropped") for channel in CHANNELS
        ]
        await until(lambda: len(post.receiver.came) == 3)
        post.receiver.let_go.set()
        assert await delivering == 2
    assert [delivery.state for delivery in await post.deliveries()] == ["dropped", "delivered", "delivered"]


async def test_a_retry_is_not_undone_by_the_try_that_was_under_way(post: Post) -> None:
    """What an operator lets be tried again now stays so, whatever becomes of the old try."""
    post.receiver.otherwise = hang
    async with post.linker() as linker:
        await linker.create(owner="customer-1")
        delivering = asyncio.create_task(linker.deliver())
        await until(lambda: len(post.receiver.came) == 1)
        administration, now = OutboxAdministration(post.house.database), post.clock.now()
        await administration.retry([post.receiver.came[0].id], channels=(WEBHOOK,), now=now, until=now + GIVE_UP_AFTER)
        post.receiver.otherwise = status(200)
        post.receiver.let_go.set()
        await delivering
    [delivery] = await post.deliveries()
    assert delivery.state == "delivered"


# expiry


async def test_the_host_is_told_once_that_a_token_expires(post: Post) -> None:
    """Some days before, by the heartbeat, with a step; a replacement with another last day is announced anew."""
    days = 20
    async with post.linker() as linker:
        connection = await linker.create(owner="customer-1")
        last_day = post.clock.now().date() + timedelta(days=days)
        token = SecretStr("token-0123456789abcdef")
        connection = await linker.submit_token(connection.id, subdomain="acme", token=token, expires_on=last_day)
        assert connection.recruiter is not None
        post.workable.add_recruiter(connection.recruiter.email)
        await linker.confirm_recruiter(connection.id)
        told: list[tuple[int, str]] = []
        for day in range(days + 1):
            await linker.attend_due()
            await linker.deliver()
            told += [(day, came.payload["data"]["token"]["expires_on"]) for came in _expiring(post.receiver)]
            post.clock.advance(days=1)
            if day == 10:
                later = last_day + timedelta(days=5)
                await linker.submit_token(
                    connection.id, subdomain="acme", token=SecretStr("next-token"), expires_on=later
                )
        assert told == [(6, last_day.isoformat()), (11, later.isoformat())]
        events = [step.event for step in await linker.history(connection.id)]
        assert events.count("token_expiring") == 2
        assert (await linker.get(connection.id)).state is ConnectionState.LINKED


def _expiring(receiver: Receiver) -> list[Any]:
    """Take the announcements of an expiry out of what came."""
    found = [came for came in receiver.came if came.type == "token.expiring"]
    receiver.came[:] = [came for came in receiver.came if came not in found]
    return found
