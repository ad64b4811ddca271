"""Every screen as a page: accessible, within its width, and looked at. Served from memory, so that it is quick."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, Route

from linker.dialog.guard import headers
from linker.dialog.look import Look
from tests.dialog_cases import SETTINGS, Case, cases

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CASES = {case.name: case for case in cases()}
WIDE, PHONE, NARROW = 1180, 390, 320
#: The screenshots that are shown in the docs; the others are taken, and thrown away.
SHOWN = {
    ("start", "light", WIDE),
    ("subdomain", "light", WIDE),
    ("token", "light", WIDE),
    ("scope_missing", "light", WIDE),
    ("recruiter", "dark", WIDE),
    ("recruiter_absent-slip", "light", PHONE),
    ("linked", "light", WIDE),
    ("linked", "dark", PHONE),
}


#: Every pair of theme, width and direction. With AXE=all in the environment all eight are tried for every screen.
PAIRS = [("light", WIDE, "ltr"), ("dark", NARROW, "ltr"), ("light", NARROW, "rtl"), ("dark", WIDE, "rtl")]
#: One screen of each template: tried in every pair. The others differ from them in their words, and take turns.
WHOLE = {
    *("start", "subdomain-empty", "subdomain_mismatch-held", "token", "scope_missing", "failed-account_gone"),
    *("checking-throttled", "recruiter", "recruiter_absent-slip", "linked", "recruiter_overdue", "status"),
    *("colleague", "stop", "expired", "why"),
}


def ways(name: str) -> list[tuple[str, int, str]]:
    """In which ways a screen is looked at."""
    if os.environ.get("AXE") == "all":
        return list(product(("light", "dark"), (WIDE, NARROW), ("ltr", "rtl")))
    return PAIRS if name in WHOLE else [PAIRS[list(CASES).index(name) % len(PAIRS)]]


@pytest.fixture(scope="module")
def show(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Show a page in a theme and a width."""
    look, shown = Look(SETTINGS), {"html": ""}
    context = browser.new_context(viewport={"width": WIDE, "height": 860}, reduced_motion="reduce")
    page = context.new_page()

    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in look.assets:
            route.fulfill(body=look.assets[name].body, content_type=look.assets[name].media_type)
        else:
            policy = {"content-type": "text/html; charset=utf-8", **headers(None)}
            route.fulfill(body=shown["html"], headers=policy)

    page.route("http://dialog.test/**", answer)
    reports: list[str] = []
    page.on("console", lambda message: reports.append(message.text) if "Content Security" in message.text else None)

    def show(case: Case, theme: Any = "light", width: int = WIDE) -> Page:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 860})
        if shown["html"] != case.html:
            shown["html"] = case.html
            page.goto("http://dialog.test/c/lnk_1/secret")
        return page

    yield show
    context.close()
    assert reports == [], "the pages do nothing that their own policy forbids"


OVERFLOW = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.width && !each.closest('svg, .heard') && (box.right > innerWidth + 1 || box.left < -1);
  });
  return wide > 0 ? [`${wide} px`] : out.map((each) => each.outerHTML.slice(0, 80));
}"""


@pytest.mark.parametrize("names", [list(CASES)[start::4] for start in range(4)], ids=lambda names: names[0])
def test_every_screen_is_accessible_and_within_its_width(names: list[str], show: Callable[..., Page]) -> None:
    """Axe finds nothing in either theme, wide or narrow, from the left or mirrored; nothing overflows at 320 pixels."""
    found: list[Any] = []
    run = f"() => axe.run({{runOnly: {TAGS}, resultTypes: ['violations']}})"
    for name in names:
        for theme, width, direction in ways(name):
            page = show(CASES[name], theme, width)
            page.evaluate("direction => { document.documentElement.dir = direction; }", direction)
            if page.evaluate("() => typeof axe") == "undefined":
                page.evaluate(AXE)
            for one in page.evaluate(run)["violations"]:
                found.append((name, theme, width, direction, one["id"], one["nodes"][0]["html"][:120]))
            found += [(name, theme, width, direction, "overflow", out) for out in page.evaluate(OVERFLOW)]
    assert found == []


@pytest.mark.parametrize(("name", "theme", "width"), sorted(SHOWN))
def test_screenshots_for_the_docs(name: str, theme: str, width: int, show: Callable[..., Page], tmp_path: Path) -> None:
    """The pictures of the docs are taken from the pages themselves."""
    page = show(CASES[name], theme, width)
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    size = "phone" if width == PHONE else "desktop"
    path = folder / f"dialog-{name.replace('_', '-')}-{theme}-{size}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000


#: One of each screen, in the order of the story.
GALLERY = (
    *("start", "subdomain", "subdomain-empty", "subdomain_mismatch-held", "account_taken", "token", "scope_missing"),
    *("failed-token_revoked", "reconnect", "checking-workable_unavailable", "recruiter", "recruiter_absent-slip"),
    *("recruiter_absent-member", "linked", "recruiter_overdue", "trouble", "paused", "stopped", "thanks", "not_yet"),
    *("status", "colleague", "stop", "expired", "revoked", "used_up", "incomplete", "busy", "refused", "why"),
)
SHEET = """<body style="margin:24px;background:#8b909a;display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start">
{pictures}</body>"""
PICTURE = """<figure style="margin:0;color:#fff;font:14px Arial"><img style="display:block;width:{shown}px"
src="data:image/jpeg;base64,{data}"><figcaption style="padding-top:6px">{name}</figcaption></figure>"""


@pytest.mark.parametrize(("theme", "width"), list(product(("light", "dark"), (WIDE, PHONE))))
def test_a_sheet_of_every_screen(
    theme: str, width: int, show: Callable[..., Page], browser: Browser, tmp_path: Path
) -> None:
    """All screens beside one another, to be looked at; made anew with SCREENSHOTS, and otherwise of three of them."""
    folder = os.environ.get("SCREENSHOTS")
    names: tuple[str, ...] = GALLERY if folder else GALLERY[:3]
    pictures = []
    for name in names:
        taken = show(CASES[name], theme, width).screenshot(full_page=True, type="jpeg", quality=80)
        data = base64.b64encode(taken).decode()
        pictures.append(PICTURE.format(name=name, data=data, shown=540 if width == WIDE else 260))
    size = "phone" if width == PHONE else "desktop"
    path = Path(folder or tmp_path) / f"dialog-sheet-{theme}-{size}.jpg"
    with browser.new_context(viewport={"width": 1730, "height": 900}) as context:
        page = context.new_page()
        page.set_content(SHEET.format(pictures="".join(pictures)))
        page.screenshot(path=path, full_page=True, type="jpeg", quality=70)
    assert path.stat().st_size > 10_000
