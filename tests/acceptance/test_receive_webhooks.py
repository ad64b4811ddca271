"""The receiver's example in the docs, as it stands there, against real deliveries over a real socket."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linker import Linker
from linker.outbox.webhooks import new_webhook_secret
from linker.testing import SettableClock, linker_in_memory
from tests.builders import NOW
from tests.receiver import Came, Receiver, receiving

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "receive-webhooks.md"
SECRET, OTHER = (new_webhook_secret().get_secret_value() for _ in range(2))

MOST_LINES = 25

Verified = Callable[[str, Any, bytes], dict[str, Any]]


@pytest.fixture
def verified() -> Verified:
    """The function of the docs."""
    [code] = re.findall(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    names: dict[str, Any] = {}
    exec(compile(code, str(HOWTO), "exec"), names)  # noqa: S102 - the docs' own code
    found: Verified = names["verified"]
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiving() as started:
        yield started


async def delivered(receiver: Receiver, *secrets: str) -> Came:
    """A webhook as it came."""
    clock = SettableClock(NOW)
    async with linker_in_memory(clock=clock, webhook_url=receiver.url, webhook_secret=secrets) as linker:
        await told(linker)
    return receiver.came[-1]


async def told(linker: Linker) -> None:
    """Announce something, and deliver it."""
    await linker.create(owner="Zoë & Co.")
    assert await linker.deliver() == 1


async def test_what_is_ours_is_verified(
    receiver: Receiver, verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the secret, and with either of two while the secret is changed."""
    monkeypatch.setattr(time, "time", NOW.timestamp)
    came = await delivered(receiver, SECRET)
    assert verified(SECRET, came.headers, came.body)["data"]["owner"] == "Zoë & Co."
    came = await delivered(receiver, OTHER, SECRET)
    for secret in (SECRET, OTHER):
        assert verified(secret, came.headers, came.body) == came.payload


async def test_what_is_not_ours_is_refused(
    receiver: Receiver, verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another secret, another body, another id, and ours sent again an hour later."""
    monkeypatch.setattr(time, "time", NOW.timestamp)
    came = await delivered(receiver, SECRET)
    for secret, headers, body in (
        (OTHER, {}, came.body),
        (SECRET, {}, came.body + b" "),
        (SECRET, {"webhook-id": "msg_other"}, came.body),
        (SECRET, {"webhook-timestamp": str(int(NOW.timestamp()) + 1)}, came.body),
        (SECRET, {"webhook-signature": "v1,"}, came.body),
        (SECRET, {"webhook-signature": "v1,é"}, came.body),
        (SECRET, {"webhook-signature": ""}, came.body),
        (SECRET, {"webhook-timestamp": "yesterday"}, came.body),
    ):
        with pytest.raises(ValueError, match="not signed"):
            verified(secret, dict(came.headers) | headers, body)
    monkeypatch.setattr(time, "time", lambda: NOW.timestamp() + 3600)
    with pytest.raises(ValueError, match="too long ago"):
        verified(SECRET, came.headers, came.body)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        with pytest.raises(ValueError, match="not signed"):
            verified(SECRET, {key: value for key, value in came.headers.items() if key.lower() != name}, came.body)
