"""Webhooks before anything is posted: secrets, URLs, and the scheme's own example."""

import base64
import re
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from linker.errors import BadSettings
from linker.outbox.webhooks import build_webhook, new_webhook_secret, signers
from linker.settings import Settings
from linker.testing import SettableClock
from linker.wording import describe
from tests.builders import NOW

SECRET = new_webhook_secret()


def refused(**given: Any) -> BadSettings:
    """The error of a linker with these settings; it shows nothing of their values."""
    settings = Settings(**{"webhook_url": "https://app.example.com/hooks", "webhook_secret": (SECRET,), **given})
    with pytest.raises(BadSettings) as error:
        build_webhook(settings, SettableClock(NOW))
    assert "canary" not in "".join(traceback.format_exception(error.value))
    return error.value


def test_the_scheme_s_own_example() -> None:
    """The signature that the scheme's documentation gives for its example is ours too."""
    [signer] = signers((SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),))
    at, body = datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}'
    signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_that_we_make() -> None:
    """They are of the scheme's form, random, and do not show themselves."""
    secrets = {new_webhook_secret().get_secret_value() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret) for secret in secrets)
    assert "whsec_" not in repr(new_webhook_secret())


def test_no_webhook() -> None:
    """Without a URL there is none, whatever else is set."""
    assert build_webhook(Settings(webhook_secret=(SecretStr("canary"),)), SettableClock(NOW)) is None


def of_bytes(length: int) -> str:
    """A secret of a length."""
    return "whsec_" + base64.b64encode(b"k" * length).decode()


@pytest.mark.parametrize(
    "secret",
    ["canary", "whsec_", "whsec_canary!", of_bytes(23), of_bytes(65), of_bytes(32)[6:], f"{of_bytes(32)}canary", "ä"],
)
def test_a_secret_that_is_none(secret: str) -> None:
    """The setting is named, with what to do about it; which of several it is is told by its number."""
    error = refused(webhook_secret=(SecretStr(secret),))
    assert (error.field, error.reason) == ("webhook_secret", "not_a_secret")
    assert error.params == {"number": 1, "count": 1, "least": 24, "most": 64}
    words = describe(error)
    assert words.message == "Number 1 of 1 is not whsec_ and 24 to 64 bytes in base64."
    assert words.action == "Make a secret for webhooks, set it, and give it to the receiver too."
    second = refused(webhook_secret=(SECRET, SecretStr(secret)))
    assert second.params == {"number": 2, "count": 2, "least": 24, "most": 64}
    assert "Number 2 of 2" in str(second)


def test_a_missing_secret() -> None:
    """A URL without a secret is half a webhook."""
    error = refused(webhook_secret=())
    assert (error.field, error.reason, error.params) == ("webhook_secret", "unsigned", {})
    assert "forged" in describe(error).message
    assert "Make a secret" in describe(error).action


BAD_URLS = {
    "not_https": (
        *("canary", "canary.example.com/hooks", "ftp://canary.example.com", "https://", "https:///canary", "//canary/"),
        *("https://[canary/", "https://can ary/", "https://canary:99999/"),
    ),
    "holds_user": ("https://user:canary@app.example.com/", "https://canary@app.example.com/"),
    "public_http": (
        *("http://canary.example.com/hooks", "http://8.8.8.8/canary", "http://canary.internal.example.com/"),
        *("http://134744072/canary", "http://0x08080808/canary", "http://8.8.2056/", "http://0x8.8.0x808/"),
        *("http://[::ffff:8.8.8.8]/canary", "http://[::FFFF:808:808]/", "http://[::8.8.8.8]/", "http://8.8.8.8./"),
        *("http://[64:ff9b::808:808]/", "http://[2002:808:808::]/", "http://[2001:0:1:1:1:1:f7f7:f7f7]/"),
        *("http://ai/canary", "http://AI./"),
    ),
}


@pytest.mark.parametrize(("reason", "url"), [(reason, url) for reason, urls in BAD_URLS.items() for url in urls])
def test_a_url_that_cannot_be_used(reason: str, url: str) -> None:
    """The setting is named, with the cause and an example, and nothing of the URL is shown."""
    error = refused(webhook_url=url)
    assert (error.field, error.reason, error.params) == ("webhook_url", reason, {})
    assert "https://" in describe(error).action


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://app.example.com/hooks?key=canary", "https://app.example.com"),
        ("HTTPS://App.Example.com:8443", "https://app.example.com:8443"),
        ("http://localhost:8000/hooks", "http://localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://10.1.2.3/", "http://10.1.2.3"),
        ("http://app:8000/hooks", "http://app:8000"),
        ("http://app.internal/", "http://app.internal"),
        ("http://app.internal./", "http://app.internal."),
        ("http://167837955/", "http://167837955"),
        ("http://[::ffff:10.1.2.3]/", "http://[::ffff:10.1.2.3]"),
        ("http://[fd00::1]/", "http://[fd00::1]"),
    ],
)
def test_a_url_that_can(url: str, origin: str) -> None:
    """Clear text only where no stranger listens. What is shown is where, and nothing of the rest."""
    webhook = build_webhook(Settings(webhook_url=url, webhook_secret=(SECRET,)), SettableClock(NOW))
    assert webhook is not None
    assert webhook.origin == origin
    assert "canary" not in repr(webhook)
