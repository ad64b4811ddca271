"""Links to the dialog: what is taken, what is refused, and what their secret proves."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker import BadInput, BadSettings, LinkStatus, NotFound, Refused
from linker.links import (
    ENTRY_EVERY,
    LONGEST_SPAN,
    MOST_ENTRIES,
    IssuedLink,
    Purpose,
    hash_of,
    issue,
    link_json,
    parse_origin,
    proves,
    url_of,
)
from linker.settings import is_at_example, is_here
from linker.testing import SettableClock, linker_in_memory
from linker.validation import text
from tests.builders import NOW
from tests.dialog_cases import a_link

#: Settings by which links can be made for customers of the real Workable.
REACHED: dict[str, Any] = {
    "public_url": "https://connect.northwind.com/",
    "recruiter_email": "ats+{key}@inbound.northwind.com",
}


def test_purposes_are_forever() -> None:
    """They are stored, and hosts name them."""
    assert [purpose.value for purpose in Purpose] == ["setup", "token", "recruiter", "reconnect", "status"]
    assert [status.value for status in LinkStatus] == ["open", "expired", "revoked", "used_up"]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "open"),
        ({"expires_at": NOW}, "expired"),
        ({"revoked_at": NOW, "expires_at": NOW}, "revoked"),
        ({"attempts": 1000}, "open"),
        ({"entries_until": NOW + ENTRY_EVERY * MOST_ENTRIES}, "used_up"),
        ({"entries_until": NOW + ENTRY_EVERY * (MOST_ENTRIES - 1)}, "open"),
    ],
)
def test_a_link_opens_something_or_says_why_not(facts: dict[str, Any], status: str) -> None:
    """At a time."""
    link = a_link(**facts)
    assert link.status(NOW) == status
    assert link_json(link, NOW)["status"] == status


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"purpose": "everything"}, "for", "unknown"),
        ({"expires": timedelta(0)}, "expires", "not_a_link_span"),
        ({"expires": LONGEST_SPAN + timedelta(seconds=1)}, "expires", "not_a_link_span"),
        ({"language": "en_US; x"}, "language", "not_a_language"),
        ({"contact": "two\nlines"}, "contact", "unprintable"),
        ({"embed_origin": "https://app.example.com/page"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "https://a.example; script-src *"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "*"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "'self'"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "javascript:alert(1)"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "https://user@app.example.com"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "https://app.example.com:99999"}, "embed_origin", "not_an_origin"),
        ({"embed_origin": "http://app.example.com"}, "embed_origin", "not_https"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(given: dict[str, Any], field: str, reason: str) -> None:
    """Before anything is kept."""
    with pytest.raises(BadInput) as refused:
        issue("con_1", now=NOW, actor="host", **given)
    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert str(refused.value)


@given(st.text(max_size=60))
def test_no_origin_adds_to_a_policy(typed: str) -> None:
    """Whatever is given, what comes through is one origin: nothing that a header would read as more."""
    try:
        origin = parse_origin(typed)
    except BadInput:
        return
    assert origin.startswith(("https://", "http://localhost", "http://127.0.0.1"))
    assert not set(origin) & set(" ;,'\"*\r\n")


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" HTTPS://App.Example.com:8443/ ", "https://app.example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_an_origin_is_taken_as_browsers_say_it(given: str, origin: str) -> None:
    """In lower case, without a path."""
    assert parse_origin(given) == origin


def test_a_secret_proves_its_own_link_only() -> None:
    """Two links have two secrets; of each only a hash is kept."""
    (one, secret), (_, other) = (issue("con_1", now=NOW, actor="host") for _ in range(2))
    assert proves(secret, hash_of(secret))
    assert not proves(other, hash_of(secret))
    assert not proves("", hash_of(secret))
    assert not proves("\ud800", hash_of(secret))
    assert not proves(secret, None)
    assert len(secret) >= 43
    assert secret not in repr(one)
    assert secret not in repr(IssuedLink(id=one.id, url=url_of("https://x", one.id, secret), expires_at=NOW))
    assert url_of("https://x/", one.id, secret) == f"https://x/c/{one.id}#{secret}"
    assert url_of("https://x", one.id, secret, plain=True) == f"https://x/c/{one.id}/{secret}"


async def test_a_link_is_made_found_and_taken_back() -> None:
    """By its secret; and by nothing else."""
    async with linker_in_memory(**REACHED) as linker:
        connection = await linker.create(owner="customer")
        made = await linker.create_link(connection.id, for_="token", contact="Ann", embed_origin="https://a.example")
        link_id, _, secret = made.url.rpartition("/")[2].partition("#")
        assert made.url.startswith("https://connect.northwind.com/c/lnk_")
        assert made.expires_at == linker.clock.now() + timedelta(days=7)
        link, _ = await linker.find_link(link_id, secret)
        assert (link.purpose, link.contact, link.actor) == (Purpose.TOKEN, "Ann", "customer:Ann")
        assert await linker.embed_origin_of(link_id) == "https://a.example"
        assert await linker.embed_origin_of("lnk_none") is None
        for wrong in ((link_id, secret[:-1]), ("lnk_none", secret), (link_id, "")):
            with pytest.raises(NotFound):
                await linker.find_link(*wrong)
        assert (await linker.revoke_link(link_id)).status(linker.clock.now()) is LinkStatus.REVOKED
        assert (await linker.revoke_link(link_id)).revoked_at == linker.clock.now()
        assert [each.id for each in await linker.links(connection.id)] == [link_id]
        with pytest.raises(NotFound):
            await linker.revoke_link("lnk_none")
        with pytest.raises(NotFound):
            await linker.create_link("con_none")
        await linker.unlink(connection.id)
        with pytest.raises(Refused):
            await linker.create_link(connection.id)


@pytest.mark.parametrize(
    ("settings", "field", "reason"),
    [
        ({**REACHED, "public_url": None}, "public_url", "not_set"),
        ({**REACHED, "recruiter_email": "ats+{key}@inbound.example.com"}, "recruiter_email", "leads_nowhere"),
    ],
)
async def test_no_link_leads_a_customer_nowhere(settings: dict[str, Any], field: str, reason: str) -> None:
    """Where the dialog is has to be said, and mail to the recruiter has to arrive; a sandbox is no customer's."""
    async with linker_in_memory(**settings) as linker:
        connection = await linker.create(owner="customer")
        with pytest.raises(BadSettings) as refused:
            await linker.create_link(connection.id)
        assert (refused.value.field, refused.value.reason) == (field, reason)
    async with linker_in_memory(**settings, workable_url="http://127.0.0.1:8787/{subdomain}") as linker:
        connection = await linker.create(owner="customer")
        assert (await linker.create_link(connection.id)).url


def test_here_and_examples_are_recognised() -> None:
    """By their names."""
    assert is_here("http://localhost:1/{subdomain}")
    assert not is_here("https://{subdomain}.workable.com")
    assert is_at_example("a@example.com")
    assert is_at_example("a@in.example.org")
    assert not is_at_example("a@notexample.com")


async def test_a_page_that_is_open_makes_the_engine_look_sooner() -> None:
    """The longer it is open the less; a poll writes little, makes no call, and names no earlier time than Workable."""
    clock = SettableClock()
    async with linker_in_memory(clock=clock, **REACHED) as linker:
        connection = await linker.create(owner="customer")
        connection = await linker.submit_token(connection.id, subdomain="acme", token="a-token-of-acme")
        clock.advance(days=1)
        await linker.attend_due()
        before = await linker.get(connection.id)
        assert before.due_at is not None
        assert before.due_at > clock.now() + timedelta(minutes=30)
        await linker.watch(connection.id)
        watched = await linker.get(connection.id)
        assert watched.due_at == clock.now() + timedelta(seconds=4)
        assert (watched.version, watched.watched_since) == (before.version, clock.now())
        pauses = []
        for _ in range(60):
            now = clock.advance(seconds=4)
            await linker.watch(connection.id)
            await linker.attend_due([connection.id])
            attended = await linker.get(connection.id)
            assert attended.due_at is not None
            pauses.append((attended.due_at - now).total_seconds())
        assert pauses[0] <= 4
        assert 10 < max(pauses) <= 30
        assert attended.watched_since == watched.watched_since
        clock.advance(minutes=5)
        await linker.attend_due()
        later = await linker.get(connection.id)
        assert later.due_at is not None
        assert later.due_at > clock.now() + timedelta(minutes=30)


def test_a_contact_and_its_prefix_are_an_actor() -> None:
    """The longest contact that is taken is one under whose name a customer can act; a longer one is refused at once."""
    longest = "x" * (500 - len("customer:"))
    link, _ = issue("con_1", now=NOW, contact=longest, actor="host")
    assert text.one_line("actor", link.actor) == link.actor
    with pytest.raises(BadInput) as refused:
        issue("con_1", now=NOW, contact=longest + "x", actor="host")
    assert (refused.value.field, refused.value.reason) == ("contact", "too_long")
