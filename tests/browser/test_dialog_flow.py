"""The whole flow as a customer lives it, in a real browser, against the sandbox."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from linker.database.database import Database
from linker.persistence import schema
from states.connection import ConnectionState
from tests.dialog_server import CANARY, Customer, DialogServer, serving
from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def dialog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DialogServer]:
    """A dialog over SQLite."""
    with serving(f"sqlite:///{tmp_path_factory.mktemp('dialog') / 'linker.db'}", log_level="error") as served:
        yield served


@pytest.fixture(scope="module")
def postgres_dialog(postgres_server: PostgresServer) -> Iterator[DialogServer]:
    """A dialog over PostgreSQL."""
    with postgres_server.database() as url:
        database = Database(url)
        try:
            schema.upgrade(database)
        finally:
            database.close()
        with serving(url, log_level="error") as served:
            yield served


def give_subdomain(page: Page, typed: str) -> None:
    """From the first screen to the token."""
    page.get_by_role("button", name="Start").click()
    page.get_by_label("Workable subdomain").fill(typed)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Paste your API token")


def give_token(page: Page, token: str) -> None:
    """From the token on."""
    page.get_by_role("textbox", name="API token").fill(token)
    page.get_by_role("button", name="Continue").click()


def walk(page: Page, dialog: DialogServer, customer: Customer) -> None:
    """All of it, as the guide describes it."""
    page.goto(customer.url)
    give_subdomain(page, f" https://{customer.subdomain.upper()}.workable.com/backend ")
    page.get_by_label("1 year").check()
    give_token(page, customer.token)
    expect(page.get_by_role("heading", level=1)).to_have_text("Add Northwind as an external recruiter")
    recruiter = dialog.connection(customer).recruiter
    assert recruiter is not None
    expect(page.locator("#name")).to_have_text("Northwind Integration")
    assert (page.locator("#email").text_content() or "").strip() == recruiter.email
    dialog.add_recruiter(customer)
    page.get_by_role("button", name="Set up integration").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^Acme Robotics \d+ is linked$"))


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_from_nothing_to_linked(engine: str, request: pytest.FixtureRequest, page: Page) -> None:
    """The subdomain, the token, the recruiter, linked: with who acted in the history."""
    served: DialogServer = request.getfixturevalue("dialog" if engine == "sqlite" else "postgres_dialog")
    customer = served.customer(contact="Ann Admin")
    walk(page, served, customer)
    connection = served.connection(customer)
    assert connection.state is ConnectionState.LINKED
    assert connection.token is not None
    assert connection.token.expires_on is not None
    history = served(served.linker.history(customer.connection_id))
    assert [step.actor for step in history[1:]] == ["customer:Ann Admin"] * (len(history) - 1)
    assert CANARY not in page.content()


def test_the_flow_without_javascript(dialog: DialogServer, browser: Browser) -> None:
    """Every form works as it is, and a button checks again."""
    customer = dialog.customer(plain=True)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        walk(page, dialog, customer)
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("is linked"))
