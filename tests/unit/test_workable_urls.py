from __future__ import annotations

import httpx
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from linker.errors import BadSettings, OurFault
from linker.validation.subdomain import is_label
from linker.workable.api import ACCOUNT_PATH, MEMBERS_PATH, RECRUITERS_PATH
from linker.workable.urls import AccountUrls

REAL = AccountUrls("https://{subdomain}.workable.com")
LOCAL = AccountUrls("http://127.0.0.1:8787/{subdomain}/")


def test_urls_of_both_templates() -> None:
    """The subdomain stands where the template has it, and in the account's path."""
    assert str(REAL.of("acme", ACCOUNT_PATH)) == "https://acme.workable.com/spi/v3/accounts/acme"
    assert str(LOCAL.of("acme", RECRUITERS_PATH)) == "http://127.0.0.1:8787/acme/spi/v3/recruiters"
    assert str(LOCAL.of("www", MEMBERS_PATH)) == "http://127.0.0.1:8787/www/spi/v3/members?status=all&limit=100"


@pytest.mark.parametrize("bad", ["", "ACME", "acme.evil", "acme/..", "a@b", "acme:80", "аcme", "acme\n", "-", "%2e"])  # noqa: RUF001
def test_no_url_is_made_for_what_is_no_label(bad: str) -> None:
    """A subdomain that was not parsed makes no URL."""
    with pytest.raises(OurFault):
        REAL.of(bad, RECRUITERS_PATH)


@pytest.mark.parametrize(
    "template",
    [
        "https://acme.workable.com",
        "ftp://{subdomain}.x",
        "https://{subdomain}@x",
        "https://{subdomain}.x/?a",
        "https://{subdomain}.work able.com",
        "https://{subdomain}.wörkable.com",
        "https://{subdomain}.work\table.com",
        "nonsense",
    ],
)
def test_a_template_is_checked(template: str) -> None:
    """A template without the subdomain, with another scheme, a user, a query or a name that is none is refused."""
    with pytest.raises(BadSettings):
        AccountUrls(template)


@pytest.mark.parametrize(
    "template",
    [
        "http://{subdomain}.workable.com",
        "HTTP://{subdomain}.workable.com",
        "http://workable.example.com/{subdomain}",
        "http://8.8.8.8/{subdomain}",
        "http://134744072/{subdomain}",
        "http://0x08080808/{subdomain}",
        "http://[::ffff:8.8.8.8]/{subdomain}",
        "http://10.1.2.3/{subdomain}",
        "http://192.168.1.1/{subdomain}",
        "http://app:8787/{subdomain}",
        "http://workable.internal/{subdomain}",
        "http://0.0.0.0:8787/{subdomain}",
        "http://{subdomain}/",
        "http://{subdomain}.0.0.1",
        "http://localhost.example.com/{subdomain}",
        "http://notlocalhost/{subdomain}",
        "http://127.0.0.1.example.com/{subdomain}",
        "http://{subdomain}.localhost.example.com",
    ],
)
def test_tokens_are_not_sent_in_clear_text(template: str) -> None:
    """Over http only to this machine, and to no network however private."""
    with pytest.raises(BadSettings) as refused:
        AccountUrls(template)
    assert (refused.value.field, refused.value.reason) == ("workable_url", "token_in_clear")


@pytest.mark.parametrize(
    "template",
    [
        "https://{subdomain}.workable.com",
        "https://10.1.2.3/{subdomain}",
        "http://127.0.0.1:8787/{subdomain}",
        "http://127.8.9.10/{subdomain}",
        "http://2130706433/{subdomain}",
        "http://0x7f000001/{subdomain}",
        "http://127.1/{subdomain}",
        "http://[::1]:8787/{subdomain}",
        "http://[::ffff:127.0.0.1]/{subdomain}",
        "http://localhost/{subdomain}",
        "http://localhost./{subdomain}",
        "http://{subdomain}.localhost:8787",
        "http://{subdomain}.many.localhost:8787",
    ],
)
def test_a_test_server_is_on_this_machine(template: str) -> None:
    """Loopback addresses however they are written, `localhost`, and names under it."""
    assert AccountUrls(template).of("acme", RECRUITERS_PATH).scheme in ("http", "https")


@pytest.mark.parametrize(
    ("given", "followed"),
    [
        ("https://acme.workable.com/spi/v3/members?since_id=2", True),
        ("https://acme.workable.com:443/spi/v3/members", True),
        ("http://acme.workable.com/spi/v3/members", False),
        ("https://acme.workable.com:8443/spi/v3/members", False),
        ("https://globex.workable.com/spi/v3/members", False),
        ("https://acme.workable.com.evil.example/spi/v3/members", False),
        ("https://acme.workable.com@evil.example/spi/v3/members", False),
        ("https://u:p@acme.workable.com/spi/v3/members", False),
        ("https://evil.example/spi/v3/members", False),
        ("https://acme.workable.com/spi/v3/../../x", False),
        ("https://acme.workable.com/spi/v3/%2e%2e/%2e%2e/x", False),
        ("https://acme.workable.com/x", False),
        ("/spi/v3/members", False),
        ("//evil.example/spi/v3/members", False),
        ("https://[", False),
        ("", False),
        (None, False),
        (7, False),
        ("https://acme.workable.com/spi/v3/" + "x" * 3000, False),
    ],
)
def test_a_further_page_is_followed_only_within_the_account(given: object, followed: bool) -> None:
    """A next URL is followed only with the account's own scheme, host, port and path."""
    assert (REAL.next_page("acme", given) is not None) is followed


def test_on_a_test_server_the_account_is_in_the_path() -> None:
    """With the subdomain in the path, another account's pages on the same host are not followed."""
    assert LOCAL.next_page("acme", "http://127.0.0.1:8787/acme/spi/v3/members?x") is not None
    assert LOCAL.next_page("acme", "http://127.0.0.1:8787/globex/spi/v3/members?x") is None


@given(st.text(max_size=80))
def test_every_url_is_the_accounts_own(subdomain: str) -> None:
    """Whatever text is given, a URL is on the host of that label, or none is made."""
    try:
        url = REAL.of(subdomain, RECRUITERS_PATH)
    except OurFault:
        assert not is_label(subdomain)
    else:
        assert (httpx.URL(str(url)).host, url.host) == (f"{subdomain}.workable.com",) * 2


PIECES = [
    "https:",
    "//",
    "evil.example",
    "acme.workable.com",
    "spi/v3",
    "%40",
    "%2f",
    "%5c",
    *"/@:\\?#.[]%。é \t\ud800",
]


@given(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12))
def test_whoever_reads_the_url_of_a_further_page_finds_the_account_in_it(tail: str, pieces: list[str]) -> None:
    """What is sent is read once more, by the library that sends it: it must not read another host there."""
    for before in ("", "https://acme.workable.com", "https://acme.workable.com/spi/v3/"):
        url = REAL.next_page("acme", before + "".join(pieces) + tail)
        if url is not None:
            sent = yarl.URL(str(url))  # as aiohttp reads it
            assert (sent.scheme, sent.host, sent.port, sent.user) == ("https", "acme.workable.com", 443, None)
            assert sent.raw_path.startswith("/spi/v3/")
