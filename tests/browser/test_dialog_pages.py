"""Every screen as a page: accessible, within its width, and looked at. Served from memory, so that it is quick."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, Route

from linker.dialog.guard import headers
from linker.dialog.look import Look
from linker.dialog.rendering import breakable
from linker.settings import contrast
from tests.dialog_cases import OURS, SETTINGS, Case, cases

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: The rules that depend on colours and on where things stand. The others depend on what is there, and is not hidden.
OF_LOOKS = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]
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


class Screens:
    """A browser's page that shows screens, served from memory with the headers that the dialog sends."""

    def __init__(self, page: Page) -> None:
        """Answer for the dialog in this page."""
        self.page, self._look, self._html = page, Look(SETTINGS), ""
        page.route("http://dialog.test/**", self._answer)

    def _answer(self, route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in self._look.assets:
            asset = self._look.assets[name]
            route.fulfill(body=asset.body, content_type=asset.media_type)
        else:
            route.fulfill(body=self._html, headers={"content-type": "text/html; charset=utf-8", **headers(None)})

    def look(self, theme: Any = "light", width: int = WIDE, height: int = 860) -> None:
        """From now on in this theme and width."""
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": height})

    def show(self, case: Case, theme: Any = "light", width: int = WIDE, direction: str = "ltr") -> Page:
        """Load one screen."""
        self.look(theme, width)
        self._load(case.html.replace('dir="ltr">\n<head>', f'dir="{direction}">\n<head>'))
        return self.page

    def _load(self, html: str) -> bool:
        if self._html == html:
            return False
        self._html = html
        self.page.goto("http://dialog.test/c/lnk_1/secret")
        return True

    def each(self, names: list[str], measure: str, given: Any = None, directions: tuple[str, ...] = ("ltr",)) -> Any:
        """What is measured on each of these screens, which follow one another in one page, and are not loaded anew."""
        if self._load(CASES["why"].html):
            self.page.evaluate(AXE)
        pages = [[name, CASES[name].html] for name in names]
        return self.page.evaluate(IN_TURN % measure, [pages, list(directions), given])


#: Show one screen after the other as the script of the dialog does, and measure each.
IN_TURN = """async ([pages, directions, given]) => {
  const measure = %s;
  const found = [];
  for (const [name, html] of pages) {
    const next = new DOMParser().parseFromString(html, "text/html");
    document.title = next.title;
    document.body.replaceWith(next.body);
    for (const each of document.querySelectorAll("[data-copy], [data-show], [data-close]")) each.hidden = false;
    for (const direction of directions) {
      document.documentElement.dir = direction;
      for (const one of await measure(given)) found.push([name, direction, one]);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def screens(browser: Browser) -> Iterator[Screens]:
    """All of them, in a browser of somebody who wants no motion."""
    context = browser.new_context(viewport={"width": WIDE, "height": 860}, reduced_motion="reduce")
    yield Screens(context.new_page())
    context.close()


RUN_AXE = """async (rules) => {
  const told = await axe.run(document, { runOnly: rules, resultTypes: ["violations"], preload: false });
  return told.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`);
}"""
#: What stands outside the page, text of pictures outside its picture, and text that is too small to be read.
OUTSIDE = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const told = wide > 0 ? [`wider by ${wide} px`] : [];
  for (const each of document.querySelectorAll("body *")) {
    const box = each.getBoundingClientRect();
    if (!box.width || each.closest(".heard, desc, title")) continue;
    const frame = each.ownerSVGElement?.getBoundingClientRect() ?? { left: 0, right: innerWidth };
    if (box.right > frame.right + 1 || box.left < frame.left - 1) told.push(`outside: ${each.outerHTML.slice(0, 120)}`);
    const size = each.ownerSVGElement && each.localName === "text"
      ? parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a : 99;
    if (size < 11) told.push(`${size.toFixed(1)} px: ${each.textContent}`);
  }
  return told;
}"""


@pytest.mark.parametrize("names", [list(CASES)[start::4] for start in range(4)], ids=lambda names: names[0])
def test_every_screen_is_accessible_and_within_its_width(names: list[str], screens: Screens) -> None:
    """Axe finds nothing, and nothing overflows: in either theme, wide and at 320 pixels, from the left and mirrored.

    All rules are tried wide and narrow, and those that depend on looks in all eight ways.
    """
    found: list[Any] = []
    for theme, width in product(("light", "dark"), (WIDE, NARROW)):
        screens.look(theme, width)
        is_whole = (theme, width) in (("light", WIDE), ("dark", NARROW))
        for directions, rules in (("ltr", TAGS if is_whole else OF_LOOKS), ("rtl", OF_LOOKS)):
            found += screens.each(names, RUN_AXE, rules, (directions,))
        found += screens.each(names, OUTSIDE, None, ("ltr", "rtl"))
        assert found == [], (theme, width)


def test_no_screen_is_too_wide_between_a_phone_and_a_desktop(screens: Screens) -> None:
    """Pictures can be read and nothing overflows where the layout changes, and at 400% on a small laptop."""
    names = ["start", "subdomain", "token", "scope_missing", "recruiter", "linked"]
    for width, height in ((390, 844), (480, 800), (561, 800), (700, 800), (821, 800), (960, 800), (320, 256)):
        screens.look("light", width, height)
        assert screens.each(list(CASES) if height == 256 else names, OUTSIDE) == [], width


#: With the system's colours: what has no border or edge of its own, and what differs by its background alone.
UNSEEN = """() => {
  const shown = (each) => each.getClientRects().length && !each.closest("[hidden], .unscripted");
  const bare = (each) => {
    const style = getComputedStyle(each);
    const hasEdge = style.borderTopStyle !== "none" && style.borderTopWidth !== "0px";
    return !hasEdge || style.borderTopColor === style.backgroundColor;
  };
  const fields = ".secret, .affix, textarea", buttons = "button:not(.secret button), a.button, .outward";
  const edged = [...document.querySelectorAll(`${fields}, ${buttons}, .card, .box, .summary`)];
  const told = edged.filter((each) => shown(each) && bare(each)).map((each) => each.outerHTML.slice(0, 120));
  const [on, off] = [".steps i.on", ".steps i:not(.on)"].map((one) => document.querySelector(one));
  const paint = (each) => getComputedStyle(each).backgroundColor;
  if (on && off && paint(on) === paint(off)) told.push("the steps");
  return told;
}"""


def test_in_the_systems_own_colours_everything_has_an_edge(screens: Screens) -> None:
    """On every screen, where backgrounds and shadows are taken away."""
    screens.look()
    screens.page.emulate_media(forced_colors="active")
    try:
        assert screens.each(list(CASES), UNSEEN) == []
    finally:
        screens.page.emulate_media(forced_colors="none")


#: What moves: animations and transitions. That a text appears after some seconds is no motion.
MOTION = """() => {
  const moving = document.getAnimations({ subtree: true }).map((each) => each.animationName);
  const lasts = (each) => parseFloat(getComputedStyle(each).transitionDuration) > 0;
  const lasting = [...document.querySelectorAll("body *")].filter(lasts).map((each) => each.outerHTML.slice(0, 120));
  return [...moving.filter((each) => each !== "late"), ...lasting];
}"""


def test_nothing_moves_for_whoever_wants_no_motion(screens: Screens) -> None:
    """On every screen; for the others the dot of what is waited for breathes."""
    assert screens.each(list(CASES), MOTION) == []
    screens.page.emulate_media(reduced_motion="no-preference")
    try:
        assert ["recruiter", "ltr", "breathe"] in screens.each(["recruiter"], MOTION)
    finally:
        screens.page.emulate_media(reduced_motion="reduce")


#: Heights of controls, widths of lines in characters, and the colours of edges beside what they stand on.
VALUES = """() => {
  const told = [], ruler = document.createElement("span");
  const digits = (each) => Number(each).toString(16).padStart(2, "0");
  const hex = (color) => `#${color.match(/\\d+/g).slice(0, 3).map(digits).join("")}`;
  for (const each of document.querySelectorAll("p, li, dd")) {
    if (!each.getClientRects().length || each.closest("footer, .heard") || each.children.length > 2) continue;
    ruler.textContent = "0".repeat(56);
    ruler.style.whiteSpace = "nowrap";
    each.append(ruler);
    const most = ruler.getBoundingClientRect().width;
    ruler.remove();
    const range = document.createRange();
    range.selectNodeContents(each);
    for (const line of range.getClientRects()) if (line.width > most) told.push(["line", each.textContent]);
  }
  for (const each of document.querySelectorAll(".secret, .affix, .strong:is(a, button), .danger, .plain")) {
    if (each.getClientRects().length) told.push(["height", each.className, each.getBoundingClientRect().height]);
  }
  for (const each of document.querySelectorAll(".secret, .affix, textarea, .choices span, .small, .plain, .outward")) {
    if (!each.getClientRects().length || each.matches(":has([aria-invalid]), :checked + span")) continue;
    const ground = getComputedStyle(each.closest(".beside, .card")).backgroundColor;
    told.push(["edge", hex(getComputedStyle(each).borderTopColor), hex(ground)]);
  }
  return told;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_values_that_were_drawn(theme: str, screens: Screens) -> None:
    """Controls are 48 pixels high, lines have 56 characters at most, edges of controls have a contrast of 3."""
    screens.look(theme)
    found = [one for _, _, one in screens.each(list(CASES), VALUES)]
    assert [one for one in found if one[0] == "line"] == []
    heights = {(name, height) for what, name, height in found if what == "height"}
    assert {height for _, height in heights} == {48}, heights
    edges = {(edge, ground) for what, edge, ground in found if what == "edge"}
    assert edges
    assert min(contrast(edge, ground) for edge, ground in edges) >= 3, edges


def test_a_field_with_the_focus_has_its_ring(screens: Screens) -> None:
    """The accent as its border, and a soft ring of 3.5 pixels around what the field stands in."""
    page = screens.show(CASES["token"])
    page.locator("#token").focus()
    shadow, border = page.locator(".secret").evaluate(
        "(each) => [getComputedStyle(each).boxShadow, getComputedStyle(each).borderColor]"
    )
    assert " 3.5px" in shadow
    assert border == "rgb(47, 91, 234)"


#: The lines of an email as they stand on the page.
LINES = """() => {
  const value = document.querySelector("#email"), lines = [];
  const text = document.createTreeWalker(value, NodeFilter.SHOW_TEXT);
  let top;
  while (text.nextNode()) {
    for (let at = 0; at < text.currentNode.length; at++) {
      const range = document.createRange();
      range.setStart(text.currentNode, at);
      range.setEnd(text.currentNode, at + 1);
      const box = range.getBoundingClientRect();
      if (top === undefined || box.top > top + 4) lines.push("");
      top = box.top;
      lines[lines.length - 1] += range.toString();
    }
  }
  return lines;
}"""


def test_an_email_is_broken_before_its_at_and_its_dots_alone(screens: Screens) -> None:
    """As it stands on the page: not at a hyphen; only what is wider than the page is broken elsewhere."""
    hyphened = "ats+gj5t4jb753@inbound.northwind-talent-suite.example"
    for email in (hyphened, f"{'x' * 60}@a.example"):
        before, after = ("".join(f"<span>{part}</span>" for part in breakable(each)) for each in (OURS.email, email))
        html = CASES["recruiter"].html.replace(before, after)
        assert after in html
        for width in (WIDE, PHONE, NARROW):
            page = screens.show(Case("recruiter", html), width=width)
            lines = page.evaluate(LINES)
            assert "".join(lines) == email
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
            if email == hyphened:
                assert len(lines) > 1
                assert {line[0] for line in lines[1:]} <= {"@", "."}, lines


def test_an_email_reads_from_the_left_on_a_mirrored_page_too(screens: Screens) -> None:
    """Its parts do not change places."""
    page = screens.show(CASES["recruiter"], direction="rtl")
    placed = page.locator("#email span").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect()).map((box) => [box.top, box.left])"
    )
    assert len(placed) == 4
    assert placed == sorted(placed)


def test_what_a_page_must_not_do_is_reported(screens: Screens, reports: list[str]) -> None:
    """The listener that fails every test of a browser hears of what is inline, and of what comes from elsewhere."""
    inline = '<p style="color: red">x</p><script>1</script><img src="https://elsewhere.example/x.png">'
    page = screens.show(Case("hostile", CASES["why"].html.replace("<main>", f"<main>{inline}")))
    page.wait_for_timeout(100)
    assert len([each for each in reports if "Content Security Policy" in each]) >= 3
    reports.clear()


@pytest.mark.parametrize(("name", "theme", "width"), sorted(SHOWN))
def test_screenshots_for_the_docs(name: str, theme: str, width: int, screens: Screens, tmp_path: Path) -> None:
    """The pictures of the docs are taken from the pages themselves."""
    page = screens.show(CASES[name], theme, width)
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    size = "phone" if width == PHONE else "desktop"
    path = folder / f"dialog-{name.replace('_', '-')}-{theme}-{size}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000


SHEET = """<body style="margin:24px;background:#8b909a;display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start">
{pictures}</body>"""
PICTURE = """<figure style="margin:0;color:#fff;font:14px Arial"><img style="display:block;width:{shown}px"
src="data:image/jpeg;base64,{data}"><figcaption style="padding-top:6px">{name}</figcaption></figure>"""
#: Every theme and width, and one that is mirrored.
SHEETS = [*product(("light", "dark"), (WIDE, PHONE), ("ltr",)), ("light", WIDE, "rtl")]


@pytest.mark.parametrize(("theme", "width", "direction"), SHEETS)
def test_a_sheet_of_every_screen(
    theme: str, width: int, direction: str, screens: Screens, browser: Browser, tmp_path: Path
) -> None:
    """All screens beside one another, to be looked at; made anew with SCREENSHOTS, and otherwise of one of them."""
    folder = os.environ.get("SCREENSHOTS")
    names = list(CASES) if folder else ["recruiter"]
    pictures = []
    for name in names:
        taken = screens.show(CASES[name], theme, width, direction).screenshot(full_page=True, type="jpeg", quality=80)
        data = base64.b64encode(taken).decode()
        pictures.append(PICTURE.format(name=name, data=data, shown=536 if width == WIDE else 256))
    size = f"{'phone' if width == PHONE else 'desktop'}{'' if direction == 'ltr' else '-mirrored'}"
    path = Path(folder or tmp_path) / f"dialog-sheet-{theme}-{size}.jpg"
    with browser.new_context(viewport={"width": 1730, "height": 900}) as context:
        page = context.new_page()
        page.set_content(SHEET.format(pictures="".join(pictures)))
        page.screenshot(path=path, full_page=True, type="jpeg", quality=50)
    assert path.stat().st_size > 10_000
