from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from linker.sandbox import Fault, World, running, seed


@pytest.fixture
def world() -> World:
    """The world that the sandbox begins with."""
    return seed.seeded()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """A sandbox on a real socket."""
    with running(world) as template:
        yield template.removesuffix("/{subdomain}")


def test_a_recruiter_added_on_the_page_is_in_the_account(world: World, address: str, page: Page) -> None:
    """What the customer does by hand in Workable can be done on the page, and the API shows it."""
    page.goto(f"{address}/_sandbox")
    form = page.locator("form[data-action=recruiter]")
    form.get_by_label("Account").select_option(seed.ACME)
    form.get_by_label("Name").fill("Integration")
    form.get_by_label("Email").fill("ATS+Q7@Inbound.Example.com")
    form.get_by_role("button", name="Add recruiter").click()

    expect(page.locator("#accounts")).to_contain_text("ATS+Q7@Inbound.Example.com")
    headers = {"Authorization": f"Bearer {seed.ACME_TOKEN}"}
    listed = httpx.get(f"{address}/{seed.ACME}/spi/v3/recruiters", headers=headers).json()["recruiters"]
    assert "ATS+Q7@Inbound.Example.com" in [recruiter["email"] for recruiter in listed]


def test_a_bad_e_mail_is_told_on_its_form(world: World, address: str, page: Page) -> None:
    """A recruiter without a real e-mail address is refused with a reason, and nothing is added."""
    before = world.recruiters(seed.ACME)
    page.goto(f"{address}/_sandbox")
    form = page.locator("form[data-action=recruiter]")
    form.get_by_label("Name").fill("Integration")
    form.get_by_label("Email").fill("nobody")
    form.get_by_role("button", name="Add recruiter").click()

    expect(form.get_by_role("alert")).to_contain_text("email")
    assert world.recruiters(seed.ACME) == before


def test_a_fault_forced_on_the_page_strikes_and_heals(
    world: World, address: str, page: Page, take: Callable[[str], Path]
) -> None:
    """A fault chosen on the page answers the next calls, shows in the request log, and is gone when it is healed."""
    headers = {"Authorization": f"Bearer {seed.ACME_TOKEN}"}
    call = f"{address}/{seed.ACME}/spi/v3/recruiters"
    page.goto(f"{address}/_sandbox")
    page.locator("#fault-kinds").get_by_role("button", name="unavailable", exact=False).first.click()
    expect(page.locator("#active-faults")).to_contain_text(Fault.UNAVAILABLE.value)

    assert httpx.get(call, headers=headers).status_code == 503
    expect(page.locator("#log")).to_contain_text("503")
    assert take("sandbox").stat().st_size > 10_000

    page.locator("#active-faults").get_by_role("button", name="Heal").first.click()
    expect(page.locator("#active-faults")).not_to_contain_text(Fault.UNAVAILABLE.value)
    assert httpx.get(call, headers=headers).status_code == 200


def test_the_page_shows_no_token_but_the_sandbox_s_own(world: World, address: str, page: Page) -> None:
    """A token that was added to the world appears on the page by its fingerprint only."""
    world.add_token(seed.ACME, "CANARY-on-the-page-5f0e9c", scopes={"r_jobs"})
    page.goto(f"{address}/_sandbox")
    expect(page.locator("#account-list")).to_contain_text(world.tokens[-1].fingerprint)
    assert "CANARY" not in page.content()
