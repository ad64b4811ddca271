"""A real browser, and the screenshots of the docs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

#: With SCREENSHOTS=docs/images the tests renew the pictures of the docs; otherwise they are taken and thrown away.
SCREENSHOTS = "SCREENSHOTS"

#: Nothing that a headless browser without a network would wait for.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


@pytest.fixture(scope="session")
def reports() -> list[str]:
    """What browsers said of our pages: what their own policy forbids, and what was asked of another machine."""
    return []


@pytest.fixture(autouse=True)
def nothing_was_reported(reports: list[str]) -> Iterator[None]:
    """No page did what its policy forbids, nor asked for anything from elsewhere, in any test."""
    reports.clear()
    yield
    assert reports == []


@pytest.fixture(scope="session")
def browser(chromium: str, reports: list[str]) -> Iterator[Browser]:
    """The system's Chromium, without a window. Whatever its pages report fails the test."""

    def watched(**options: Any) -> BrowserContext:
        context = new_context(**options)
        context.on("console", lambda message: forbidden(message.text))
        context.on("request", lambda request: asked(request.url))
        return context

    def forbidden(text: str) -> None:
        # who may show a page in a frame is the other site's mistake
        if "Content Security Policy" in text and "frame-ancestors" not in text:
            reports.append(text)

    def asked(url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "http://localhost:", "http://dialog.test/", "data:", "blob:")):
            reports.append(url)

    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        new_context = browser.new_context
        patch.setattr(browser, "new_context", watched)
        patch.setattr(browser, "new_page", lambda **options: watched(**options).new_page())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a browser profile of its own; whatever the page reports as an error fails the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def take(page: Page, tmp_path: Path) -> Callable[[str], Path]:
    """Take a screenshot under a name."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)

    def screenshot(name: str) -> Path:
        path = folder / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return screenshot
