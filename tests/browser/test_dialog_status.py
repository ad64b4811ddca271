"""The page of somebody who only looks, in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.dialog_server import serving


def test_it_goes_on_by_itself_until_all_is_done(browser: Browser, tmp_path: Path) -> None:
    """The list stays there through every poll, goes from the third step to all done, and says so."""
    with serving(f"sqlite:///{tmp_path / 'linker.db'}", log_level="error") as dialog:
        customer = dialog.submitted()
        page = browser.new_page()
        page.goto(dialog.link(customer, for_="status"))
        done = page.locator(".progress .done")
        expect(done).to_have_count(2)
        with page.expect_response(lambda answer: answer.url.endswith("/state")):
            pass
        expect(done).to_have_count(2)
        dialog.add_recruiter(customer)
        expect(done).to_have_count(4, timeout=20_000)
        expect(page.locator("#heard")).to_contain_text("is linked")
        page.close()
