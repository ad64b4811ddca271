"""The webhook: announcements are posted to the host's URL, signed by the Standard Webhooks scheme.

Every try has the same `webhook-id` and the same body; `webhook-timestamp` and `webhook-signature` are of the try. With
two secrets set there are two signatures, so that a receiver can go from the old one to the new one when it likes.

Only an answer of 2xx means that an announcement arrived. Redirects are not followed: they would carry a signed message
to somebody else. What the answer says is not read. See https://www.standardwebhooks.com.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

import httpx
from pydantic import SecretStr
from standardwebhooks import Webhook as Signer

from linker.engine.ports import Clock
from linker.errors import BadSettings
from linker.event_log import log
from linker.http_client import TRANSPORT_TROUBLE, build_transport, retry_after, trouble_name
from linker.network.addresses import is_private
from linker.outbox.announcements import Announcement
from linker.outbox.channels import WEBHOOK, Channel
from linker.outbox.deliverer import ReceiverResult
from linker.settings import Settings
from states.history import ANNOUNCEMENTS
from states.timing import Backoff

PREFIX = "whsec_"
#: How long a secret is: the shortest and the longest that the scheme allows, and those that we make.
SHORTEST_SECRET_BYTES, LONGEST_SECRET_BYTES, OUR_SECRET_BYTES = 24, 64, 32
#: How long a receiver is left alone that says it is gone, or that there is too much without saying for how long.
GONE_FOR = timedelta(hours=1)
TOO_MUCH_FOR = timedelta(minutes=1)
#: An answer up to this size is read to its end within this time: its connection is used again.
SHORT_ANSWER_BYTES, SHORT_ANSWER_SECONDS = 16_384, 1.0
LAST_PORT = 65_535
HALF_CHARACTER = re.compile("[\\ud800-\\udfff]")


def new_webhook_secret() -> SecretStr:
    """A secret for signing webhooks: `whsec_` and 32 random bytes in base64."""
    return SecretStr(PREFIX + base64.b64encode(secrets.token_bytes(OUR_SECRET_BYTES)).decode())


def build_webhook(settings: Settings, clock: Clock) -> Webhook | None:
    """The webhook that the settings name; None if they name none.

    In clear text it may only post to where no stranger listens: what it posts tells of people.

    Raises:
        BadSettings: the URL or a secret is missing or unusable. The URL is not repeated: it may hold a password.
    """
    if settings.webhook_url is None:
        return None
    try:
        url = httpx.URL(settings.webhook_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or "%" in url.host or (url.port or 0) > LAST_PORT:
        raise BadSettings("webhook_url", "not_https")
    if url.userinfo:
        raise BadSettings("webhook_url", "holds_user")
    if url.scheme == "http" and not is_private(url.host):
        raise BadSettings("webhook_url", "public_http")
    signing = signers(settings.webhook_secret)
    transport = build_transport(connections=Webhook.concurrency, proxy=settings.proxy_url)
    return Webhook(url=url, signers=signing, transport=transport, clock=clock)


def signers(given: Sequence[SecretStr]) -> tuple[Signer, ...]:
    """What signs with each secret, newest first.

    Raises:
        BadSettings: there is none, or one of them is not a secret for webhooks.
    """
    if not given:
        raise BadSettings("webhook_secret", "unsigned")
    for number, secret in enumerate(given, start=1):
        if not _is_secret(secret):
            least, most = SHORTEST_SECRET_BYTES, LONGEST_SECRET_BYTES
            raise BadSettings("webhook_secret", "not_a_secret", number=number, count=len(given), least=least, most=most)
    return tuple(Signer(secret.get_secret_value()) for secret in given)


def _is_secret(secret: SecretStr) -> bool:
    """In a frame of its own: reports of errors show the locals of others."""
    with suppress(ValueError):
        if secret.get_secret_value().startswith(PREFIX):
            length = len(base64.b64decode(secret.get_secret_value().removeprefix(PREFIX), validate=True))
            return SHORTEST_SECRET_BYTES <= length <= LONGEST_SECRET_BYTES
    return False


@dataclass(kw_only=True)
class Webhook:
    """The host's URL as a receiver of announcements."""

    channel: ClassVar[Channel] = WEBHOOK
    concurrency: ClassVar[int] = 10
    #: 5 s, doubling up to 6 hours, with full jitter: some thirty tries in three days.
    backoff: ClassVar[Backoff] = Backoff(last=timedelta(hours=6))

    url: httpx.URL = field(repr=False)
    signers: tuple[Signer, ...] = field(repr=False)
    transport: httpx.AsyncBaseTransport = field(repr=False)
    clock: Clock = field(repr=False)
    #: The receiver asked to be left alone until then.
    paused_until: datetime | None = None

    @property
    def origin(self) -> str:
        """Where it is posted to, fit to be shown: the rest of the URL may hold a secret."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    @property
    def types(self) -> Collection[str]:
        """All kinds; none while the receiver is left alone."""
        now = self.clock.now()  # which was set back since, if the pause is longer than any
        return () if self.paused_until and now < self.paused_until <= now + GONE_FOR else ANNOUNCEMENTS

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Post an announcement."""
        message_id, at = announcement.message_id, self.clock.now().replace(microsecond=0)
        # as receivers write it anew that compare it: letters as they are, and what is no whole character as JSON has it
        body = json.dumps(announcement.payload, separators=(",", ":"), ensure_ascii=False)
        body = HALF_CHARACTER.sub(lambda half: f"\\u{ord(half[0]):04x}", body)
        headers = {
            "accept": "*/*",
            "content-type": "application/json",
            "user-agent": "workable-linker",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(message_id, at, body) for signer in self.signers),
        }
        request = httpx.Request("POST", self.url, content=body.encode(), headers=headers)
        try:
            async with asyncio.timeout(within):
                answer = await self.transport.handle_async_request(request)
                try:
                    await _pass_over(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            return ReceiverResult(error="webhook: timeout")
        except TRANSPORT_TROUBLE as error:
            return ReceiverResult(error=f"webhook: {trouble_name(error)}")
        return self._judge(answer)

    def _judge(self, answer: httpx.Response) -> ReceiverResult:
        """What an answer means. The receiver is one and the same for all connections: if it asks so, all wait."""
        if answer.is_success:
            return ReceiverResult(reached=frozenset({"webhook"}))
        now, status = self.clock.now(), answer.status_code
        retry_at = retry_after({key.lower(): value for key, value in answer.headers.raw}, now)
        until = None
        match status:
            case 410:
                until = now + GONE_FOR
            case 429 | 503 if retry_at:
                until = retry_at
            case 429:
                until = now + TOO_MUCH_FOR
        if until is not None and (self.paused_until is None or self.paused_until < until):
            self.paused_until = until
            log.warning("webhook.resting", status=status, until=until.isoformat())
        return ReceiverResult(error=f"webhook: {status}", retry_at=retry_at, is_permanent=status == 410)


async def _pass_over(answer: httpx.Response) -> None:
    """Read a short answer to its end; a long or a slow one is cut off. The status has said everything."""
    length = 0
    with suppress(TimeoutError, *TRANSPORT_TROUBLE):
        async with asyncio.timeout(SHORT_ANSWER_SECONDS):
            async for chunk in answer.aiter_raw():
                length += len(chunk)
                if length > SHORT_ANSWER_BYTES:
                    return


class NullReceiver:
    """Stands in the webhook's place where none is set."""

    channel: ClassVar[Channel] = WEBHOOK
    concurrency: ClassVar[int] = 0
    backoff: ClassVar[Backoff] = Backoff()
    types: Collection[str] = ()

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Never asked."""
        raise AssertionError("nobody takes nothing")
