"""What people call: cancelled, cut off by closing, and never put off."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio import move_on_after
from pydantic import SecretStr
from sqlalchemy import text

from linker import Announcement, BadInput, Connection, ConnectionState, Linker, Settings, StoreUnavailable, new_key
from linker.engine.ports import Answer, Lease
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from linker.wording import describe
from states.verdicts import Unavailable
from tests.seams import parts

TOKEN = SecretStr("a-token-of-acme")
KEYS = (new_key(),)


class HeldUp(ScriptedWorkable):
    """A Workable that answers a verification only once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """Wait, then answer."""
        self.asked_for.set()
        await self.may_answer.wait()
        return await super().verify(subdomain, token, person_waits=person_waits)


def before_each_claim(linker: Linker, monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Let something happen before a person's claim."""
    claim = parts(linker).store.claim

    async def claimed(connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
        await happens(connection_id)
        return await claim(connection_id, now=now, lease=lease)

    monkeypatch.setattr(parts(linker).store, "claim", claimed)


async def test_people_claim_as_often_as_something_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether more is owed is known from what was written: nobody claims only to give it back."""
    async with linker_in_memory() as linker:
        connection = await linker.create(owner="customer-1")
        claims: list[str] = []

        async def noted(connection_id: str) -> None:
            claims.append(connection_id)

        before_each_claim(linker, monkeypatch, noted)
        connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        assert (connection.state, len(claims)) == (ConnectionState.AWAITING_RECRUITER, 2)  # verify, prepare
        assert (await linker.confirm_recruiter(connection.id)).checks == 1
        assert len(claims) == 3


async def test_a_call_that_is_cancelled_while_it_claims_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web framework cancels what its client left: the claim, whose thread goes on, is given back."""
    monkeypatch.setattr("linker.engine.service.PATIENCE_SECONDS", 0.2)
    async with linker_in_memory() as linker:
        connection = await linker.create(owner="customer-1")
        connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        claim, claimed, may_go_on = parts(linker).store.claim, asyncio.Event(), asyncio.Event()

        async def claims_slowly(connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
            held = await claim(connection_id, now=now, lease=lease)
            claimed.set()
            await may_go_on.wait()
            return held

        with monkeypatch.context() as patched:
            patched.setattr(parts(linker).store, "claim", claims_slowly)
            pressed = asyncio.create_task(linker.confirm_recruiter(connection.id))
            await claimed.wait()
            pressed.cancel()
            await asyncio.sleep(0)
            may_go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await pressed
        assert (await linker.confirm_recruiter(connection.id)).checks == 1


async def opened(path: Path, workable: ScriptedWorkable) -> Linker:
    """A linker with a file, opened."""
    settings = Settings(database_url=f"sqlite:///{path}/linker.db", secret_keys=KEYS)
    return await Linker(settings, workable=workable).__aenter__()


@dataclass(frozen=True)
class Closing:
    """A linker that closes while Workable is asked about a connection that somebody waits for."""

    linker: Linker
    workable: HeldUp
    submitting: asyncio.Task[Connection]
    closing: asyncio.Task[None]

    async def answered(self) -> Connection:
        """What the one who waits is given, once Workable answers."""
        self.workable.may_answer.set()
        return await self.submitting


async def closing_under(path: Path) -> Closing:
    """Let a linker with a file close while a token is verified."""
    workable = HeldUp()
    linker = await opened(path, workable)
    connection = await linker.create(owner="customer-1")
    submitting = asyncio.create_task(linker.submit_token(connection.id, subdomain="acme", token=TOKEN))
    await workable.asked_for.wait()
    closing = asyncio.create_task(linker.__aexit__(None, None, None))
    await asyncio.sleep(0.1)
    assert not closing.done()
    return Closing(linker, workable, submitting, closing)


async def test_closing_waits_for_what_people_asked_for(tmp_path: Path) -> None:
    """A call that is under way when its linker closes comes to its end; then the linker says that it is closed."""
    under = await closing_under(tmp_path)
    connection = await under.answered()
    assert connection.state is ConnectionState.AWAITING_RECRUITER
    await under.closing
    with pytest.raises(StoreUnavailable, match="The database was closed here") as closed:
        await under.linker.get(connection.id)
    assert closed.value.reason == "closed"


async def test_closing_that_is_cancelled_comes_to_its_end(tmp_path: Path) -> None:
    """A host that does not wait any more has a linker that is closed, and that opens anew and works."""
    under = await closing_under(tmp_path)
    under.closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under.closing
    assert (await under.answered()).state is ConnectionState.AWAITING_RECRUITER
    async with under.linker as linker:
        other = await linker.create(owner="customer-2")
        assert (await linker.submit_token(other.id, subdomain="globex", token=TOKEN)).recruiter is not None
        assert (await linker.attend_due()).lost == 0


async def test_a_heartbeat_in_a_cancelled_scope_ends(tmp_path: Path) -> None:
    """A host that ends by cancelling its tasks leaves nobody behind who sweeps."""
    linker = await opened(tmp_path, ScriptedWorkable())
    with move_on_after(0.2):
        async with linker.heartbeat():
            await asyncio.sleep(60)
    async with asyncio.timeout(10):
        while any(thread.name == "linker-wakeups" for thread in threading.enumerate()):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    assert not linker._heartbeats
    await linker.__aexit__(None, None, None)


async def test_a_linker_can_be_opened_again(tmp_path: Path) -> None:
    """A module's linker is opened and closed by each test of a host's server; its handlers stay."""
    workable = HeldUp()
    workable.may_answer.set()
    linker = await opened(tmp_path, workable)
    told: list[Announcement] = []
    linker.on("opened")(told.append)
    await linker.__aexit__(None, None, None)
    for number in range(2):
        async with linker, linker.heartbeat():
            connection = await linker.create(owner=f"customer-{number}")
            connection = await linker.submit_token(connection.id, subdomain=f"acme{number}", token=TOKEN)
            assert connection.state is ConnectionState.AWAITING_RECRUITER
        async with linker:
            await linker.deliver()
    assert len(told) == 2


async def test_closing_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes longer than a linker waits ends with an error of ours."""
    monkeypatch.setattr("linker.linker.DRAIN_SECONDS", 0.1)
    workable = HeldUp()
    linker = await opened(tmp_path, workable)
    connection = await linker.create(owner="customer-1")
    submitting = asyncio.create_task(linker.submit_token(connection.id, subdomain="acme", token=TOKEN))
    await workable.asked_for.wait()
    await linker.__aexit__(None, None, None)
    workable.may_answer.set()
    with pytest.raises(StoreUnavailable, match="The database was closed here") as closed:
        await submitting
    assert closed.value.reason == "closed"


async def test_a_person_is_not_put_off_with_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep between two steps of “Continue” may find its ration spent: the person gets the recruiter all the same."""
    async with linker_in_memory() as linker:
        connection = await linker.create(owner="customer-1")
        later = linker.clock.now() + timedelta(seconds=10)

        async def put_off(connection_id: str) -> None:
            put = text("UPDATE linker_connection SET due_at = :later WHERE id = :id")
            values = {"later": f"{later:%Y-%m-%d %H:%M:%S.%f}", "id": connection_id}
            await parts(linker).database.write(lambda transaction: transaction.execute(put, values))

        before_each_claim(linker, monkeypatch, put_off)
        connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        assert (connection.state, connection.problem) == (ConnectionState.AWAITING_RECRUITER, None)
        assert connection.recruiter is not None
        assert connection.checks == 0  # nobody looked for it yet: it was issued just now


async def test_trouble_is_not_tried_again_within_a_call() -> None:
    """What Workable did not answer is tried again after a pause, and not once more for the same person."""
    workable, clock = ScriptedWorkable(), SettableClock()
    async with linker_in_memory(workable=workable, clock=clock) as linker:
        connection = await linker.create(owner="customer-1")
        workable.will_say(Unavailable())
        connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
        assert (connection.state, connection.attempts) == (ConnectionState.AWAITING_TOKEN, 1)
        assert len(workable.asked) == 1


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({f"key-{number}": "" for number in range(51)}, "too_many"),
        ({" ": "a value without a name"}, "key_empty"),
        ({"key": "x" * 501}, "too_long"),
        ({"k" * 501: ""}, "too_long"),
        ({"half": "an emoji that was cut in two: \ud83d"}, "half_character"),
    ],
)
async def test_metadata_that_cannot_be_kept_is_refused(metadata: dict[str, str], reason: str) -> None:
    """The field, the cause and the next step are named, and no connection is opened."""
    async with linker_in_memory() as linker:
        with pytest.raises(BadInput) as refused:
            await linker.create(owner="customer-1", metadata=metadata)
        words = describe(refused.value)
        assert (refused.value.field, refused.value.reason) == ("metadata", reason)
        assert (bool(words.message), bool(words.action)) == (True, True)
        assert await linker.find() == []
