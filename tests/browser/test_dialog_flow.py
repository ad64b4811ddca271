"""The whole flow as a customer lives it, in a real browser, against the sandbox."""

import multiprocessing
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from linker import new_key
from linker.database.database import Database
from linker.persistence import schema
from linker.sandbox import Fault, Limit, World
from states.connection import ConnectionState
from tests.dialog_server import CANARY, Customer, DialogServer, serve_until_killed, serving
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
    """Every form works as it is; Workable is down meanwhile, and a button checks again."""
    customer = dialog.customer(plain=True)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(customer.url)
        give_subdomain(page, customer.subdomain)
        dialog.world.fail(customer.subdomain, Fault.UNAVAILABLE)
        give_token(page, customer.token)
        heading = page.get_by_role("heading", level=1)
        for _ in range(2):
            expect(heading).to_have_text("We are checking your token")
            page.get_by_role("button", name="Check again").click()
        dialog.world.heal(customer.subdomain)
        page.get_by_role("button", name="Check again").click()
        expect(heading).to_have_text("Add Northwind as an external recruiter")
        page.get_by_role("button", name="Set up integration").click()
        expect(page.locator("#live")).to_contain_text("It is not in Workable yet")
        dialog.add_recruiter(customer)
        page.get_by_role("button", name="Set up integration").click()
        expect(heading).to_have_text(re.compile("is linked"))
        page.reload()
        expect(heading).to_have_text(re.compile("is linked"))


def test_the_server_is_killed_at_every_screen(tmp_path: Path, browser: Browser) -> None:
    """An open page goes on with the next process, and another device sees the same screen: nothing is asked twice."""
    key, world = new_key(), World(limit=Limit.off())
    url = f"sqlite:///{tmp_path / 'linker.db'}"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.dialog_server"])
    running: list[Any] = []
    with (
        serving(url, world=world, secret_keys=(key,), log_level="error") as ours,
        browser.new_context() as context,
        browser.new_context() as elsewhere,
    ):
        customer = ours.customer()

        def serve(port: int = 0) -> str:
            here, there = processes.Pipe()
            given = (url, ours.linker.settings.workable_url, key, port, there)
            running.append(processes.Process(target=serve_until_killed, args=given, daemon=True))
            running[-1].start()
            assert here.poll(60)
            base: str = here.recv()
            return base

        def kill() -> None:
            running[-1].kill()
            running[-1].join(10)
            assert running[-1].exitcode == -signal.SIGKILL

        base = serve()
        link = base + customer.url.removeprefix(ours.base)
        page, other = context.new_page(), elsewhere.new_page()
        page.set_default_timeout(15_000)
        heading = page.get_by_role("heading", level=1)

        def killed_at(title: str) -> None:
            """The next process shows the same screen to whoever opens the link anew."""
            expect(heading).to_have_text(re.compile(title), timeout=15_000)
            kill()
            serve(int(base.rpartition(":")[2]))
            other.goto("about:blank")
            other.goto(link)
            expect(other.get_by_role("heading", level=1)).to_have_text(re.compile(title))

        page.goto(link)
        killed_at("Connect Workable to Northwind")
        give_subdomain(page, customer.subdomain)
        give_token(page, "wrong-token-of-nobody")
        expect(page.locator("#summary")).to_be_focused()
        killed_at("Paste your API token")
        world.fail(customer.subdomain, Fault.UNAVAILABLE)
        kill()
        give_token(page, customer.token)
        expect(page.get_by_role("alert").last).to_have_text(re.compile("Nothing is lost: please try again"))
        serve(int(base.rpartition(":")[2]))
        page.get_by_role("button", name="Continue").click()  # what was pasted is there still
        killed_at("We are checking your token")
        world.heal(customer.subdomain)
        page.get_by_role("button", name="Check again").click()
        killed_at("Add Northwind as an external recruiter")
        ours.add_recruiter(customer)
        page.get_by_role("button", name="Set up integration").click()
        killed_at("is linked")
        kill()
        assert ours.connection(customer).state is ConnectionState.LINKED
