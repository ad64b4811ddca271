"""A canary for a token: after every way of giving it, and everything that can go wrong, it is found nowhere."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import structlog
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from linker import Announcement, Connection, ConnectionState, Linker
from linker.encryption import TokenCipher
from linker.engine.executor import DutyExecutor
from linker.http_client import ClientTransport, build_transport
from linker.outbox.webhooks import new_webhook_secret
from linker.persistence.connection_store import ConnectionStore
from linker.sandbox import EVERYWHERE, Fault
from linker.serialization import connection_json, step_json
from linker.workable.client import WorkableClient
from states.history import ANNOUNCEMENTS
from tests.acceptance.leaks import Listener, Places, Secret
from tests.acceptance.stage import (
    IMPATIENT,
    TRUST,
    WINDOW,
    Stage,
    Theatre,
    awaiting_token,
    linked,
    open_theatre,
    sweep_when_due,
)
from tests.receiver import Answer, receiving, reset, status

#: How a receiver of webhooks answers.
ANSWERS: dict[str, Answer] = {"good": status(200), "fault": status(500), "gone": status(410), "reset": reset}

CANARY = f"CANARY{secrets.token_hex(24)}TOKEN"


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """The socket that the sandboxes of this file are reached at."""
    with open_theatre() as opened:
        yield opened


@pytest.fixture
def stage(theatre: Theatre, tmp_path: Path) -> Stage:
    """A stage on an SQLite file, whose Workable knows the canary as a good token."""
    (tmp_path / "data").mkdir()
    made = theatre.stage(f"sqlite:///{tmp_path / 'data' / 'linker.db'}")
    made.world.add_account("acme", name="Acme")
    made.world.add_token("acme", CANARY)
    return made


class Watch:
    """Listens to everything while a test plays, and collects what it finds at the end."""

    def __init__(self, stage: Stage, data: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.stage = stage
        self.places = Places()
        self._data = data
        self._capture = capture
        self._told: list[Announcement] = []

    @asynccontextmanager
    async def linker(self, **more: Any) -> AsyncIterator[Linker]:
        """A linker that tells everything; at the end everything that it left is collected."""
        asyncio.get_running_loop().set_debug(True)
        with Listener() as listener, structlog.testing.capture_logs() as lines:
            async with self.stage.linker(timeouts=IMPATIENT, concurrency=2, **more) as linker:
                for name in ANNOUNCEMENTS:
                    linker.on(name)(self._told.append)
                yield linker
                await linker.deliver()
                await self._collect(linker)
        self.places.add_records(listener.records)
        for line in lines:
            self.places.add("event of structlog", line)
        printed = self._capture.readouterr()
        self.places.add("stdout", printed.out)
        self.places.add("stderr", printed.err)

    async def _collect(self, linker: Linker) -> None:
        for connection in await linker.find(closed=None):
            self.places.add("json of a connection", json.dumps(connection_json(connection)))
            steps = await linker.history(connection.id)
            self.places.add("json of a history", json.dumps([step_json(step) for step in steps]))
            self.places.add("repr of a history", repr(steps))
        for announcement in self._told:
            self.places.add("payload of an announcement", json.dumps(dict(announcement.payload)))
        self.places.add_files(self._data)
        self.places.add_objects()
        self.places.add("log of the sandbox", self.stage.world.log)
        async with httpx.AsyncClient(trust_env=False, verify=TRUST) as client:
            for page in ("", "/api/world", "/api/log"):
                shown = await client.get(self.stage.url.replace("/{subdomain}", "/_sandbox") + page)
                self.places.add(f"page {page}", shown.content)

    async def attempt(self, deed: Awaitable[object]) -> None:
        """Await something; its error is collected as everybody would show it."""
        try:
            self.places.add("result", repr(await deed))
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.places.add_error(error)

    def assert_clean(self, token: str = CANARY) -> None:
        """Neither the token nor the key that seals it is anywhere."""
        assert self.places.with_(Secret(token)) == []
        assert self.places.with_(Secret(self.stage.key.get_secret_value())) == []
        assert self.places.kinds() >= {"event", "file", "json", "log", "page", "repr", "stderr", "stdout"}


@pytest.fixture
def watch(stage: Stage, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Watch:
    """The watch over this test."""
    return Watch(stage, tmp_path / "data", capfd)


async def give(linker: Linker, connection: Connection, token: str = CANARY, subdomain: str = "acme") -> Connection:
    """Paste a token."""
    return await linker.submit_token(connection.id, subdomain=subdomain, token=SecretStr(token))


# every way of giving it


KINDS: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
    "aiohttp": lambda: build_transport(verify=TRUST),
    "httpx": lambda: build_transport("httpx", verify=TRUST),
}


@pytest.mark.parametrize("transport", KINDS.values(), ids=KINDS)
async def test_good_token(stage: Stage, watch: Watch, transport: Callable[[], httpx.AsyncBaseTransport]) -> None:
    """A good token from “Continue” to a health check of the linked account, over both transports."""
    async with watch.linker(transport=transport()) as linker:
        waiting = await give(linker, await awaiting_token(stage, linker))
        stage.add_recruiter(waiting)
        now = await sweep_when_due(stage, linker, waiting)
        assert now.state is ConnectionState.LINKED
        await sweep_when_due(stage, linker, now)
        await watch.attempt(linker.get(now.id))
    watch.assert_clean()


@pytest.mark.parametrize("token", [CANARY, f"{CANARY} {CANARY}"], ids=["good", "torn"])
async def test_token_as_plain_text(stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """A host that hands over plain text instead of a `SecretStr`, with and without a fault of ours, is as safe."""
    async with watch.linker() as linker:
        opened = await awaiting_token(stage, linker)
        await watch.attempt(linker.submit_token(opened.id, subdomain="acme", token=token))
        with monkeypatch.context() as patch:
            patch.setattr(ConnectionStore, "settle", explode_later)
            await watch.attempt(linker.submit_token(opened.id, subdomain="acme", token=token))
    assert "error" in watch.places.kinds()
    watch.assert_clean()


async def test_refused_token(stage: Stage, watch: Watch) -> None:
    """A token that Workable does not know, for no account, and for the wrong one."""
    stage.world.revoke_token(CANARY)
    async with watch.linker() as linker:
        for subdomain in ("acme", "nobody", "globex"):
            stage.clock.advance(seconds=WINDOW)
            await watch.attempt(give(linker, await awaiting_token(stage, linker), subdomain=subdomain))
    watch.assert_clean()


async def test_replacement(stage: Stage, watch: Watch) -> None:
    """A replacement, swapped in and turned down, and the tokens that are wiped by it."""
    async with watch.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        after = await give(linker, before)
        assert after.token != before.token
        stage.world.revoke_token(CANARY)
        stage.clock.advance(seconds=WINDOW)
        assert (await give(linker, before)).replacement_problem is not None
        await linker.unlink(before.id)
    watch.assert_clean()


WRONG_FIELD: dict[str, Callable[[str], tuple[str, str]]] = {
    "as the subdomain": lambda canary: (canary, "another-good-token"),
    "as a host": lambda canary: (f"{canary}.workable.com", "another-good-token"),
    "as a URL": lambda canary: (f"https://{canary}.example.com/", "another-good-token"),
    "in a longer text": lambda canary: (f"token: {canary}", "another-good-token"),
    "with blanks inside": lambda canary: ("acme", f"{canary[:20]} {canary[20:]}"),
    "with a line break": lambda canary: ("acme", f"{canary}\n{canary}"),
    "with foreign letters": lambda canary: ("acme", f"{canary}é"),
    "as an address": lambda canary: ("acme", f"https://{canary}.workable.com"),
    "much too long": lambda canary: ("acme", canary * 100),
    "in both fields": lambda canary: (canary, canary),
}


@pytest.mark.parametrize("given", WRONG_FIELD.values(), ids=WRONG_FIELD)
async def test_bad_input(stage: Stage, watch: Watch, given: Callable[[str], tuple[str, str]]) -> None:
    """A token in the wrong field or badly copied: the error does not repeat it, and neither do its frames."""
    subdomain, token = given(CANARY)
    async with watch.linker() as linker:
        opened = await awaiting_token(stage, linker)
        await watch.attempt(give(linker, opened, token, subdomain))
        assert await linker.get(opened.id) == opened, "nothing was changed"
    assert "error" in watch.places.kinds()
    watch.assert_clean()


# everything that Workable can do


@pytest.mark.parametrize("fault", list(Fault))
async def test_every_fault(stage: Stage, watch: Watch, fault: Fault) -> None:
    """Whatever Workable does to a verification, a look and a replacement, the token shows nowhere."""
    async with watch.linker() as linker:
        before = await linked(stage, linker)
        stage.clock.advance(seconds=WINDOW)
        stage.world.fail(EVERYWHERE, fault)
        await watch.attempt(give(linker, await awaiting_token(stage, linker, "customer-2")))
        await watch.attempt(give(linker, before))
        await sweep_when_due(stage, linker, before)
        stage.world.heal()
        await sweep_when_due(stage, linker, before)
    watch.assert_clean()


async def test_nothing_shows_while_a_call_is_under_way(stage: Stage, watch: Watch, theatre: Theatre) -> None:
    """In the middle of a call, when the token is out of its seal, no object of ours shows it."""
    async with watch.linker() as linker:
        opened = await awaiting_token(stage, linker)
        theatre.on_request = watch.places.add_objects
        await give(linker, opened)
        theatre.on_request = None
    assert [name for name, _ in watch.places.found if name == "repr of _Question"] != []
    watch.assert_clean()


# everything that can go wrong on our side


#: What exploded in this test.
BANGS: list[str] = []


class Exploded(Exception):
    """What no code expects."""


def explode(*args: Any, **given: Any) -> Any:
    """Go wrong as talkatively as can be: the error and its frame hold everything that was given."""
    BANGS.append("bang")
    told = [repr(getattr(each, "headers", each)) for each in (*args, *given.values())]
    raw = [getattr(getattr(each, "headers", None), "raw", None) for each in args]
    raise Exploded(f"exploded with {told} {raw}")


async def explode_later(*args: Any, **given: Any) -> Any:
    """The same for what is awaited."""
    explode(*args, **given)


EXPLOSIONS: dict[str, tuple[Any, str, Any]] = {
    "sending": (AiohttpTransport, "handle_async_request", explode_later),
    "aiohttp": (aiohttp.ClientSession, "_request", explode_later),
    "a host's own client": (httpx.AsyncClient, "send", explode_later),
    "reading the answer": (aiohttp.ClientResponse, "release", explode),
    "reading a host's own answer": (httpx.Response, "aclose", explode_later),
    "the client": (WorkableClient, "verify", explode_later),
    "judging the answer": ("linker.workable.responses.judge_body", "", explode),
    "the law's verdict": ("linker.engine.executor.judge", "", explode),
    "the law": ("linker.engine.executor.advance", "", explode),
    "the referee": ("states.machine._judge", "", explode),
    "attending": (DutyExecutor, "run", explode_later),
    "claiming": (ConnectionStore, "claim", explode_later),
    "settling": (ConnectionStore, "settle", explode_later),
    "reading the row": ("linker.persistence.mapping.connection", "", explode),
    "writing the row": ("linker.persistence.mapping.changed_columns", "", explode),
    "sealing": (TokenCipher, "seal", explode),
    "inside sealing": ("linker.encryption._bond", "", explode),
    "opening": (TokenCipher, "open", explode),
    "the fingerprint": ("linker.engine.service.fingerprint", "", explode),
    "the token's parser": ("linker.engine.service.parse_token", "", explode),
}


#: What only a client that a host hands over goes through.
HOSTS_OWN = (httpx.AsyncClient, httpx.Response)


@pytest.mark.parametrize(("where", "name", "bomb"), EXPLOSIONS.values(), ids=EXPLOSIONS)
async def test_faults_of_our_own(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, bomb: Any
) -> None:
    """A fault deep inside, shown with the locals of all frames, shows the token nowhere."""
    BANGS.clear()
    async with AsyncExitStack() as open_things:
        transport: httpx.AsyncBaseTransport | None = None
        if where in HOSTS_OWN:
            hosts_own = await open_things.enter_async_context(httpx.AsyncClient(verify=TRUST, trust_env=False))
            transport = ClientTransport(hosts_own)
        linker = await open_things.enter_async_context(watch.linker(transport=transport))
        opened = await awaiting_token(stage, linker)
        with monkeypatch.context() as patch:
            if name:
                patch.setattr(where, name, bomb)
            else:
                patch.setattr(where, bomb)
            await watch.attempt(give(linker, opened))
            await watch.attempt(linker.attend_due())
        stage.clock.advance(hours=2)
        await watch.attempt(give(linker, opened))
    assert BANGS, "it exploded"
    watch.assert_clean()


# the secrets that sign webhooks


def assert_clean_of(watch: Watch, secrets_: list[str]) -> None:
    """None of the secrets is anywhere, neither as text nor as the key that it holds."""
    for secret in secrets_:
        plain = secret.removeprefix("whsec_")
        assert watch.places.with_(Secret(plain)) == []
        key = base64.b64decode(plain)
        assert [name for name, place in watch.places.found if key in place or repr(key)[2:-1].encode() in place] == []


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_webhook_secrets(stage: Stage, watch: Watch, answer: Answer) -> None:
    """Whatever the receiver answers: neither of two secrets shows, and no webhook carries a customer's token."""
    both = [new_webhook_secret().get_secret_value() for _ in range(2)]
    with receiving() as receiver:
        receiver.otherwise = answer
        async with watch.linker(webhook_url=receiver.url, webhook_secret=",".join(both)) as linker:
            waiting = await give(linker, await awaiting_token(stage, linker))
            stage.add_recruiter(waiting)
            await sweep_when_due(stage, linker, waiting)
            await watch.attempt(linker.deliver())
        for came in receiver.came:
            watch.places.add("webhook", f"{came.headers} {came.body!r}")
    assert {"webhook", "event"} <= watch.places.kinds()
    watch.assert_clean()
    assert_clean_of(watch, both)


WEBHOOK_EXPLOSIONS: dict[str, str] = {
    "the transport": "linker.http_client.OwnTransport.handle_async_request",
    "the signature": "standardwebhooks.Webhook.sign",
    "judging the answer": "linker.outbox.webhooks.Webhook._judge",
    "writing it down": "linker.outbox.outbox_store.OutboxStore.settle_deliveries",
}


@pytest.mark.parametrize("where", WEBHOOK_EXPLOSIONS.values(), ids=WEBHOOK_EXPLOSIONS)
async def test_faults_of_our_own_with_webhooks(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A fault deep inside of posting shows no secret, and stops nothing else."""
    secret = new_webhook_secret().get_secret_value()
    BANGS.clear()
    with receiving() as receiver:
        async with watch.linker(webhook_url=receiver.url, webhook_secret=secret) as linker:
            await awaiting_token(stage, linker)
            with monkeypatch.context() as patch:
                patch.setattr(where, explode)
                await watch.attempt(linker.deliver())
            stage.clock.advance(hours=2)
            await watch.attempt(linker.deliver())
        assert len(receiver.came) >= 1
    assert BANGS, "it exploded"
    watch.assert_clean()
    assert_clean_of(watch, [secret])
