"""What can be done by a link, over a real socket: its purpose, its limits, and links that open nothing."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from linker import Linker, LinkStatus, Settings, new_key
from linker.database.database import Database
from linker.dialog.screens import MAY, Deed
from linker.links import ENTRY_EVERY, MOST_ENTRIES, Purpose
from linker.persistence import schema
from linker.sandbox import Fault
from states.connection import ConnectionState
from tests.dialog_server import CANARY, Customer, DialogServer, Visitor, name_of, row_of, serving, visitor


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that all of this module's connections are in."""
    return tmp_path_factory.mktemp("dialog") / "linker.db"


@pytest.fixture(scope="module")
def dialog(database: Path) -> Iterator[DialogServer]:
    """A dialog over SQLite, on a socket."""
    with serving(f"sqlite:///{database}") as served:
        yield served


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client that follows no redirect."""
    with httpx.Client(timeout=20) as opened:
        yield opened


def customer_in(dialog: DialogServer, state: ConnectionState) -> Customer:
    """A customer whose connection is in a state, and whose recruiter is in Workable once it has a name."""
    if state is ConnectionState.AWAITING_TOKEN:
        return dialog.customer()
    customer = dialog.linked() if state is ConnectionState.LINKED else dialog.submitted()
    if state in (ConnectionState.TOKEN_VALID, ConnectionState.FAILED):
        dialog(dialog.linker.force(customer.connection_id, to=state))
    if state is not ConnectionState.LINKED:
        dialog.add_recruiter(customer)
    return customer


# ── what scanners of mail do ──────────────────────────────────────────────────────────────────────────────────────────


def first_form(page: str) -> dict[str, str] | None:
    """What a press on the first button of a page sends; None: it has none that sends something."""
    form, end, _ = page.partition("</form>")
    inputs = re.findall(r"<input [^>]*>", form.rpartition("<form")[2])
    names = {name[1]: each for each in inputs if (name := re.search(r'name="([^"]*)"', each))}
    return {name: next(iter(re.findall(r'value="([^"]*)"', each)), "") for name, each in names.items()} if end else None


@pytest.mark.parametrize("state", [*ConnectionState, "overdue", "mismatched", "unanswered"])
def test_nothing_is_spent_by_opening_nor_by_the_first_press(
    state: str, dialog: DialogServer, client: httpx.Client, database: Path
) -> None:
    """A link for each purpose is opened and pressed ten times, as scanners do it; 100 times where it is new."""
    if state == "mismatched":
        customer, other = dialog.customer(), dialog.customer()
        dialog(dialog.linker.submit_token(customer.connection_id, subdomain=other.subdomain, token=customer.token))
    elif state == "unanswered":
        customer = dialog.customer()
        dialog.world.fail(customer.subdomain, Fault.UNAVAILABLE)
        dialog(dialog.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
    else:
        customer = customer_in(dialog, ConnectionState.FAILED if state == "overdue" else ConnectionState(state))
    if state == "overdue":
        with closing(sqlite3.connect(database)) as connection, connection:  # as weeks of waiting leave it
            ended = "UPDATE linker_connection SET problem_code = 'recruiter_overdue', problem_since = state_since"
            connection.execute(f"{ended} WHERE id = ?", (dialog.connection(customer).id,))
    links = [dialog.link(customer, for_=purpose, plain=True) for purpose in Purpose]
    calls, before = len(dialog.world.requests(subdomain=customer.subdomain)), row_of(dialog, customer)
    for url in links:
        for _ in range(100 if state == ConnectionState.AWAITING_TOKEN else 10):
            page = client.get(url)
            assert (page.status_code, client.head(url).status_code) == (200, 200)
            if (sent := first_form(page.text)) is not None:
                assert client.post(url, data=sent).status_code in (200, 422)
                assert client.get(url, params={"at": sent.get("at", "")}).status_code == 200
    assert row_of(dialog, customer) == before
    assert len(dialog.world.requests(subdomain=customer.subdomain)) == calls
    dialog.world.heal(customer.subdomain)


def test_an_overdue_connection_is_restarted_by_the_second_press(
    dialog: DialogServer, client: httpx.Client, database: Path
) -> None:
    """The first one leads on, and the page that comes says what the second one does."""
    customer = customer_in(dialog, ConnectionState.FAILED)
    with closing(sqlite3.connect(database)) as connection, connection:  # as weeks of waiting leave it
        ended = "UPDATE linker_connection SET problem_code = 'recruiter_overdue', problem_since = state_since"
        connection.execute(f"{ended} WHERE id = ?", (dialog.connection(customer).id,))
    somebody = visitor(customer, client, dialog.link(customer, for_="recruiter"))
    first = first_form(somebody.post().text)
    assert first == {"at": "restart"}
    second = first_form(somebody.post(None, **first).text)
    assert second == {"do": "restart"}
    assert somebody.screen(**second) == "linked"  # it was added meanwhile


def test_a_link_for_the_recruiter_begins_with_a_start_of_its_own(dialog: DialogServer, client: httpx.Client) -> None:
    """Who asks, what for, how long; its button leads on, and once something was sent it is shown no more."""
    customer = dialog.submitted()
    somebody = visitor(customer, client, dialog.link(customer, for_="recruiter"))
    page = somebody.post().text
    assert 'data-screen="begin"' in page
    assert "Northwind asks you to" in page
    assert "About 2 minutes" in page
    assert first_form(page) == {"at": "recruiter"}
    assert somebody.state().json()["screen"] == "begin"
    assert [somebody.screen(at="recruiter"), somebody.screen()] == ["recruiter", "begin"]
    news = client.get(f"{somebody.link}/state?at=recruiter", headers={"x-link-secret": somebody.secret}).json()
    assert news["screen"] == "recruiter"
    assert [somebody.screen(do="confirm"), somebody.screen()] == ["recruiter", "recruiter"]


# ── what a link is for ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ConnectionState)
def test_a_link_can_do_what_it_is_for_and_nothing_else(
    state: ConnectionState, dialog: DialogServer, client: httpx.Client
) -> None:
    """Every deed that a link is not for leaves row, links and history as they were, whoever crafts the form."""
    customer = customer_in(dialog, state)
    fields = {"subdomain": customer.subdomain, "token": customer.token}
    links = {purpose: visitor(customer, client, dialog.link(customer, for_=purpose)) for purpose in Purpose}
    before = row_of(dialog, customer)
    for purpose, somebody in links.items():
        for deed in set(Deed) - MAY[purpose]:
            assert somebody.post(None, do=deed, **fields).status_code == 200
            assert row_of(dialog, customer) == before, (purpose, deed)
    stopping = [purpose for purpose, somebody in links.items() if somebody.screen(at="stop") == "stop"]
    assert set(stopping) <= {Purpose.SETUP}


def test_nobody_restarts_what_our_side_has_to_mend(dialog: DialogServer, client: httpx.Client) -> None:
    """A connection that an operator ended stays so, also by a link for the whole way."""
    customer = customer_in(dialog, ConnectionState.FAILED)
    assert visitor(customer, client).screen(do="restart") == "trouble"
    assert dialog.connection(customer).state is ConnectionState.FAILED


# ── another token ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_slip_is_no_token_given(dialog: DialogServer, client: httpx.Client) -> None:
    """After an entry that cannot be a token, the page of a link for another token asks for it as before."""
    customer = dialog.linked()
    somebody = visitor(customer, client, dialog.link(customer, for_="reconnect"))
    assert somebody.post(do="token", token="••••••••••••").status_code == 422
    assert somebody.screen() == "token"


def test_another_token_is_waited_for_until_workable_has_said_what_it_is(
    dialog: DialogServer, client: httpx.Client
) -> None:
    """Workable is down at Continue: the page waits, and tells the refusal that comes later."""
    customer = dialog.linked()
    somebody = visitor(customer, client, dialog.link(customer, for_="reconnect"))
    dialog.world.fail(customer.subdomain, Fault.UNAVAILABLE)
    assert somebody.screen(do="token", token=f"{CANARY}of-nobody") == "checking"
    assert somebody.screen() == "checking"
    dialog.world.heal(customer.subdomain)
    page = somebody.post(do="check")
    assert 'data-screen="token"' in page.text
    assert 'id="summary"' in page.text
    dialog.world.add_token(customer.subdomain, f"{CANARY}renewed{customer.subdomain}", scopes={"r_jobs"})
    assert somebody.screen(do="token", token=f"{CANARY}renewed{customer.subdomain}") == "linked"
    assert somebody.screen() == "linked"


# ── what an open page is told ─────────────────────────────────────────────────────────────────────────────────────────


def told(somebody: Visitor) -> dict[str, str]:
    """What a page that is open is told."""
    answer: dict[str, str] = somebody.state().json()
    return answer


def test_a_page_to_look_tells_all_the_way(dialog: DialogServer, client: httpx.Client) -> None:
    """What the page shows is what it is told while it is open, from the first step to the last; also of a failure."""
    customer = dialog.customer()
    somebody = visitor(customer, client, dialog.link(customer, for_="status"))

    def seen(words: str) -> int:
        """How many steps are done, and that page and news agree."""
        news = told(somebody)
        assert news["screen"] == "status"
        assert words in news["live"]
        assert f'<div id="live">{news["live"]}</div>' in somebody.post().text
        return news["live"].count('<li class="done">')

    assert seen("Now: Your account") == 0
    dialog(dialog.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
    assert seen("Now: External recruiter") == 2
    dialog(dialog.linker.force(customer.connection_id, to=ConnectionState.FAILED))
    assert seen("It has stopped at this step: External recruiter.") == 2
    dialog.add_recruiter(customer)
    dialog(dialog.linker.restart(customer.connection_id))
    assert seen("is linked") == 4


def test_screens_that_wait_for_nothing_are_told_nothing(dialog: DialogServer, client: httpx.Client) -> None:
    """Their pages have no part that could take the place of another."""
    for customer in (dialog.customer(), dialog.linked()):
        assert told(visitor(customer, client))["live"] == ""


def test_whoever_is_too_early_or_on_hold_is_told_when_it_goes_on(dialog: DialogServer, client: httpx.Client) -> None:
    """These pages ask for news too, and those of a connection on hold write nothing."""
    customer = dialog.customer()
    somebody = visitor(customer, client, dialog.link(customer, for_="recruiter"))
    assert "data-goes-on" in somebody.post().text
    assert told(somebody)["screen"] == "not_yet"
    dialog(dialog.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
    assert told(somebody)["screen"] == "begin"
    dialog(dialog.linker.pause(customer.connection_id))
    before = row_of(dialog, customer)
    assert "data-goes-on" in somebody.post().text
    assert told(somebody)["screen"] == "paused"
    assert row_of(dialog, customer) == before
    dialog(dialog.linker.resume(customer.connection_id))
    assert told(somebody)["screen"] == "begin"


@pytest.mark.parametrize("change", ["expire", "revoke"])
def test_nothing_is_done_for_a_page_whose_link_is_over(change: str, dialog: DialogServer, client: httpx.Client) -> None:
    """A page that stays open with a link that was taken back, or that expired, learns that, and writes nothing."""
    customer = dialog.submitted()
    url = dialog.link(customer, expires=timedelta(seconds=1) if change == "expire" else None)
    somebody = visitor(customer, client, url)
    if change == "expire":
        time.sleep(1.05)
    else:
        dialog(dialog.linker.revoke_link(somebody.link.rpartition("/")[2]))
    before = row_of(dialog, customer)
    assert told(somebody) == {"screen": f"{change}d", "live": ""}
    assert row_of(dialog, customer) == before


# ── a token that is kept, and no more ─────────────────────────────────────────────────────────────────────────────────


def test_a_token_that_is_kept_no_more_is_pasted_again_for_the_account_that_was_named(
    dialog: DialogServer, client: httpx.Client
) -> None:
    """After the minutes for which it is kept, the page says so at the token's field, and knows the account already."""
    customer, other = dialog.customer(), dialog.customer()
    somebody = visitor(customer, client)
    answer = somebody.post(do="held", subdomain=customer.subdomain)
    assert (answer.status_code, name_of(answer)) == (422, "token")
    assert answer.text.count("The token is not kept any more.") == 2
    assert 'id="token"' in answer.text
    assert 'id="subdomain"' not in answer.text
    assert dialog.connection(customer).subdomain == customer.subdomain
    assert somebody.screen(do="token", token=customer.token) == "recruiter"
    assert other.subdomain not in answer.text


# ── what tells strangers nothing ──────────────────────────────────────────────────────────────────────────────────────


def test_only_who_has_the_secret_learns_who_may_show_a_page(dialog: DialogServer, client: httpx.Client) -> None:
    """Answers to guesses, and to requests that come from no page of ours, have the same headers for all links."""
    embedded = dialog.customer(embed_origin="https://app.host.example")
    plain = dialog.link(embedded, embed_origin="https://app.host.example", plain=True)
    guessed = [
        client.post(embedded.url.partition("#")[0], data={"secret": "x" * 43}),
        client.post(embedded.url.partition("#")[0], data={"secret": ""}, headers={"sec-fetch-site": "cross-site"}),
        client.get(f"{plain.rpartition('/')[0]}/{'x' * 43}"),
        client.get(f"{plain.rpartition('/')[0]}/state", headers={"x-link-secret": "x"}),
        client.post(f"{dialog.base}/c/lnk_0", data={"secret": "x" * 43}),
    ]
    for answer in guessed:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors https://app.host.example" in client.get(plain).headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/nothing", "/c/lnk_1/x/y/z", "/assets/nothing.css", "/c/lnk_1/state"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_pages_of_no_address_of_ours_are_styled(
    path: str, method: str, dialog: DialogServer, client: httpx.Client
) -> None:
    """At every depth they find their files."""
    answer = client.request(method, dialog.base + path)
    assert answer.status_code in (404, 405)
    for asset in re.findall(r'(?:href|src)="([./]+assets/[^"]+)"', answer.text):
        assert client.get(str(answer.url.join(asset))).status_code == 200
    assert "assets/" in answer.text


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_an_entry_counts_for_nothing(dialog: DialogServer, client: httpx.Client) -> None:
    """Empty fields, masks and slips write nothing, however many, and the customer goes on."""
    customer = dialog.customer()
    somebody = visitor(customer, client)
    before = row_of(dialog, customer)
    for _ in range(MOST_ENTRIES + 1):
        assert somebody.post(do="subdomain").status_code == 422
        assert somebody.post(do="token", subdomain="acme", token="••••••••").status_code == 422
    assert row_of(dialog, customer) == before
    assert somebody.screen(do="subdomain", subdomain=customer.subdomain) == "token"


def test_entries_are_limited_and_nobody_is_locked_out(dialog: DialogServer, client: httpx.Client) -> None:
    """A link has room for some entries at once, its connection for twice as many; each makes room again in time."""
    customer = dialog.customer()
    first, second, third = (visitor(customer, client, dialog.link(customer)) for _ in range(3))
    for somebody in (first, second):
        for _ in range(MOST_ENTRIES - 1):
            assert somebody.screen(do="subdomain", subdomain="acme") == "token"
        assert somebody.screen(do="subdomain", subdomain=customer.subdomain) == "used_up"
        assert somebody.screen(do="subdomain", subdomain="globex") == "used_up"
    assert third.screen(do="subdomain", subdomain="globex") == "used_up"
    assert dialog.connection(customer).subdomain == customer.subdomain
    now = dialog.linker.clock.now()
    links = {each.id: each for each in dialog(dialog.linker.links(customer.connection_id))}
    for somebody in (first, second, third):
        link = links[somebody.link.rpartition("/")[2]]
        assert link.status(now) is LinkStatus.USED_UP
        assert link.status(now + ENTRY_EVERY) is LinkStatus.OPEN
    other = visitor(dialog.customer(), client)
    assert other.screen(do="subdomain", subdomain="globex") == "token"


def test_a_link_without_room_shows_what_is_waited_for(dialog: DialogServer, client: httpx.Client) -> None:
    """Pressing once more makes no call, and the page goes on by itself all the same."""
    customer = dialog.submitted()
    somebody = visitor(customer, client)
    [link] = dialog(dialog.linker.links(customer.connection_id))
    for _ in range(MOST_ENTRIES - link.attempts):
        assert dialog(dialog.linker.count_entry(link))
    assert not dialog(dialog.linker.count_entry(link))
    calls = len(dialog.world.requests(subdomain=customer.subdomain))
    assert somebody.screen(do="confirm") == "recruiter"
    assert told(somebody)["screen"] == "recruiter"
    assert len(dialog.world.requests(subdomain=customer.subdomain)) == calls
    dialog.add_recruiter(customer)
    dialog(dialog.linker.confirm_recruiter(customer.connection_id))
    assert somebody.screen() == "linked"
    assert [somebody.screen(at="stop"), somebody.screen(do="stop")] == ["stop", "stopped"]


async def test_entries_that_are_sent_at_once_are_counted_once_each(database_url: str) -> None:
    """By two processes at the same time, over either database: no more than there is room for, and never fewer."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    settings = Settings(
        database_url=database_url,
        secret_keys=(new_key(),),
        workable_url="http://127.0.0.1:9/{subdomain}",
        public_url="http://d.test",
    )
    async with Linker(settings) as one, Linker(settings) as other:
        connection = await one.create(owner="customer")
        made = await one.create_link(connection.id)
        [link] = await one.links(connection.id)
        counted = await asyncio.gather(*(each.count_entry(link) for each in (one, other) * MOST_ENTRIES))
        assert sum(counted) == MOST_ENTRIES
        [link] = await other.links(connection.id)
        assert (link.id, link.attempts) == (made.id, MOST_ENTRIES)
        assert link.status(one.clock.now()) is LinkStatus.USED_UP
