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
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import ClassVar

import httpx
import structlog
from pydantic import SecretStr
from standardwebhooks import Webhook as Signing

from linker.engine.ports import Announcement
from linker.errors import BadSettings
from linker.http_client import TRANSPORT_TROUBLE, build_http, retry_after, trouble_name
from linker.outbox.channels import WEBHOOK, Channel
from linker.outbox.deliverer import ReceiverResult
from linker.settings import Settings
from states.history import ANNOUNCEMENTS
from states.timing import Backoff

log = structlog.get_logger("linker")

PREFIX = "whsec_"
#: How long a secret is, in bytes: the shortest and the longest that the scheme allows, and those that we make.
SHORTEST_SECRET, LONGEST_SECRET, OUR_SECRET = 24, 64, 32
#: How long a receiver is left alone that says it is gone, or that there is too much without saying for how long.
GONE_FOR = timedelta(hours=1)
TOO_MUCH_FOR = timedelta(minutes=1)
#: An answer up to this size, in bytes, is read to its end within this time, in seconds: its connection is used again.
SHORT_ANSWER, SHORT_WAIT = 16_384, 1.0
LAST_PORT = 65_535
#: How names of machines end that only a private network knows.
PRIVATE = (".internal", ".local", ".localhost")


def new_webhook_secret() -> SecretStr:
    """A secret for signing webhooks: `whsec_` and 32 random bytes in base64."""
    return SecretStr(PREFIX + base64.b64encode(secrets.token_bytes(OUR_SECRET)).decode())


def webhook_of(settings: Settings, now: Callable[[], datetime]) -> Webhook | None:
    """The webhook that the settings name; None if they name none.

    Raises:
        BadSettings: the URL or a secret is missing or unusable.
    """
    if settings.webhook_url is None:
        return None
    url = _parsed(settings.webhook_url)
    signings = signings_of(settings.webhook_secret)
    return Webhook(url=url, signings=signings, http=build_http("httpx", connections=Webhook.at_once), now=now)


def signings_of(given: Sequence[SecretStr]) -> tuple[Signing, ...]:
    """What signs with each secret, newest first.

    Raises:
        BadSettings: there is none, or one of them is not a secret for webhooks.
    """
    make_one = "Make one with `linker keys new --webhook`, and give it to the receiver too."
    if not given:
        cause = "LINKER_WEBHOOK_URL is set and this is not: nobody could tell our webhooks from forged ones."
        raise BadSettings("LINKER_WEBHOOK_SECRET", cause, make_one)
    for number, secret in enumerate(given, start=1):
        if not _is_secret(secret):
            which = "it" if len(given) == 1 else f"number {number} of {len(given)}"
            cause = f"{which} is not {PREFIX} and {SHORTEST_SECRET} to {LONGEST_SECRET} bytes in base64."
            raise BadSettings("LINKER_WEBHOOK_SECRET", cause, make_one)
    return tuple(Signing(secret.get_secret_value()) for secret in given)


def _is_secret(secret: SecretStr) -> bool:
    with suppress(ValueError):
        if secret.get_secret_value().startswith(PREFIX):
            length = len(base64.b64decode(secret.get_secret_value().removeprefix(PREFIX), validate=True))
            return SHORTEST_SECRET <= length <= LONGEST_SECRET
    return False


def _parsed(given: str) -> httpx.URL:
    """The URL. In clear text it may only go where no stranger listens: it tells of people.

    Raises:
        BadSettings: it is not usable. It is not repeated: it may hold a password.
    """
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL:
        url = httpx.URL()
    example = "Give a URL like https://app.example.com/hooks/workable."
    if url.scheme not in {"http", "https"} or not url.host or "%" in url.host or (url.port or 0) > LAST_PORT:
        raise BadSettings("LINKER_WEBHOOK_URL", "it is not a URL that begins with https://.", example)
    if url.userinfo:
        cause = "it holds a user or a password, and URLs get into logs; the signature proves who posts."
        raise BadSettings("LINKER_WEBHOOK_URL", cause, example)
    if url.scheme == "http" and not _is_near(url.host):
        cause = "http:// is only for this machine and for private networks, as what is posted tells of people."
        raise BadSettings("LINKER_WEBHOOK_URL", cause, "Give a URL that begins with https://.")
    return url


def _is_near(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(PRIVATE)


@dataclass(kw_only=True)
class Webhook:
    """The host's URL as a receiver of announcements."""

    way: ClassVar[Channel] = WEBHOOK
    at_once: ClassVar[int] = 10
    #: 5 s, doubling up to 6 hours, with full jitter: some thirty tries in three days.
    backoff: ClassVar[Backoff] = Backoff(last=timedelta(hours=6))

    url: httpx.URL = field(repr=False)
    signings: tuple[Signing, ...] = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)
    now: Callable[[], datetime] = field(repr=False)
    #: The receiver asked to be left alone until then.
    rests_until: datetime | None = None

    @property
    def origin(self) -> str:
        """Where it is posted to, fit to be shown: the rest of the URL may hold a secret."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    @property
    def types(self) -> Collection[str]:
        """All kinds; none while the receiver rests."""
        return () if self.rests_until and self.now() < self.rests_until else ANNOUNCEMENTS

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Post an announcement."""
        body = json.dumps(announcement.payload, separators=(",", ":"))
        headers = self._headers(announcement.message_id, body)
        try:
            async with asyncio.timeout(within):
                answer = await self._post(body.encode(), headers)
        except TimeoutError:
            return ReceiverResult(error="webhook: no answer in time")
        except TRANSPORT_TROUBLE as error:
            return ReceiverResult(error=f"webhook: {trouble_name(error)}")
        return self._judged(answer)

    def _headers(self, message_id: str, body: str) -> dict[str, str]:
        at = self.now().replace(microsecond=0)
        return {
            "content-type": "application/json",
            "user-agent": "workable-linker",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(each.sign(message_id, at, body) for each in self.signings),
        }

    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """Give the answer's status and headers; its body is passed over."""
        async with self.http.stream("POST", self.url, content=body, headers=headers, timeout=None) as answer:
            await _pass_over(answer)
            return answer

    def _judged(self, answer: httpx.Response) -> ReceiverResult:
        if answer.is_success:
            return ReceiverResult(reached=frozenset({"webhook"}))
        said = answer.headers.get("retry-after")
        retry_at = retry_after({b"retry-after": said.encode()}, self.now()) if said else None
        match answer.status_code:
            case 410:
                self._rest(self.now() + GONE_FOR, 410)
            case 429 | 503 if retry_at:
                self._rest(retry_at, answer.status_code)
            case 429:
                self._rest(self.now() + TOO_MUCH_FOR, 429)
        gone = answer.status_code == httpx.codes.GONE
        return ReceiverResult(error=f"webhook: {answer.status_code}", retry_at=retry_at, for_good=gone)

    def _rest(self, until: datetime, status: int) -> None:
        """Leave the receiver alone for a while, with all connections: it is one and the same for all."""
        if self.rests_until is None or self.rests_until < until:
            self.rests_until = until
            log.warning("webhook.resting", status=status, until=until.isoformat())


async def _pass_over(answer: httpx.Response) -> None:
    """Read a short answer to its end; a long or a slow one is cut off. The status has said everything."""
    length = 0
    with suppress(TimeoutError, *TRANSPORT_TROUBLE):
        async with asyncio.timeout(SHORT_WAIT):
            async for chunk in answer.aiter_raw():
                length += len(chunk)
                if length > SHORT_ANSWER:
                    return


class NullReceiver:
    """Stands in the webhook's place where none is set."""

    way: ClassVar[Channel] = WEBHOOK
    at_once: ClassVar[int] = 0
    backoff: ClassVar[Backoff] = Backoff()
    types: Collection[str] = ()

    async def receive(self, announcement: Announcement, *, within: float) -> ReceiverResult:
        """Never asked."""
        raise AssertionError("nobody takes nothing")
