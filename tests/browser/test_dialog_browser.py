"""The dialog in a real browser: in a host's frame without cookies, by keyboard alone, going on by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page, Response, Route, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from linker import Linker
from linker.sandbox import Fault, running
from states.connection import ConnectionState
from tests.browser.conftest import QUIET
from tests.dialog_server import CANARY, Customer, DialogServer, serving

#: A profile of Chromium's in which every site's cookies and storage are blocked, everywhere.
NO_COOKIES = {"profile": {"default_content_setting_values": {"cookies": 2}, "cookie_controls_mode": 1}}
#: Whether a page may keep anything.
KEEPS = """() => {
  document.cookie = "kept=1; SameSite=None; Secure";
  try { localStorage.setItem("kept", "1"); return true; } catch { return document.cookie !== ""; }
}"""
#: Whether one sees where the focus is: a ring around it, or around what it stands in.
HAS_RING = """() => {
  const it = document.activeElement;
  const rings = [it, it.parentElement, it.nextElementSibling].filter(Boolean).map((each) => getComputedStyle(each));
  return rings.some((each) => each.boxShadow !== "none" || each.outlineStyle !== "none");
}"""
#: Follow a link to an address.
FOLLOW = """(url) => {
  const link = document.createElement("a");
  link.href = url;
  document.body.append(link);
  link.click();
}"""


@pytest.fixture(scope="module")
def dialog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DialogServer]:
    """A dialog over SQLite."""
    with serving(f"sqlite:///{tmp_path_factory.mktemp('dialog') / 'linker.db'}", log_level="error") as served:
        yield served


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of somebody who allows nothing but pages of ours."""
    context = browser.new_context(viewport={"width": 1100, "height": 900}, permissions=[])
    context.set_default_timeout(10_000)
    yield context
    context.close()


def title(page: Page | Frame) -> Any:
    """The heading of a screen."""
    return page.get_by_role("heading", level=1)


def to_the_token(page: Page | Frame, customer: Customer) -> None:
    """From the first screen to the second step."""
    page.get_by_role("button", name="Start").click()
    page.get_by_label("Workable subdomain").fill(customer.subdomain)
    page.get_by_role("button", name="Continue").click()


def to_the_recruiter(page: Page | Frame, customer: Customer) -> None:
    """From the first screen to the third step."""
    to_the_token(page, customer)
    page.get_by_role("textbox", name="API token").fill(customer.token)
    page.get_by_role("button", name="Continue").click()
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")


@contextmanager
def host_page(src: str) -> Iterator[tuple[str, list[str]]]:
    """A host's page on another site with a frame in it; gives its address, and the Referers that it was sent."""
    referers: list[str] = []

    async def page(request: Request) -> HTMLResponse:
        referers.append(request.headers.get("referer", ""))
        return HTMLResponse(
            f'<title>Host</title><iframe title="Connect" width="1000" height="800" src="{src}"></iframe>'
        )

    with running(Starlette(routes=[PathRoute("/", page), PathRoute("/{rest:path}", page)])) as address:
        yield address.removesuffix("/{subdomain}").replace("127.0.0.1", "localhost"), referers


def test_in_a_cross_site_frame_without_cookies(
    dialog: DialogServer, browser: Browser, chromium: str, tmp_path: Path
) -> None:
    """With every cookie blocked by the browser the whole flow ends in linked; none is set, and nothing is reported."""
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(NO_COOKIES))
    faults: list[str] = []
    answers: list[Response] = []
    with (
        browser.browser_type.launch_persistent_context(tmp_path, executable_path=chromium, args=QUIET) as context,
        host_page("about:blank") as (address, _),
    ):
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("response", lambda answer: answers.append(answer))
        customer = dialog.customer(embed_origin=address)
        page.goto(address)
        page.evaluate("url => { document.querySelector('iframe').src = url; }", customer.url)
        inside = next(each for each in _waited(page) if "/c/" in each.url)
        assert [each.evaluate(KEEPS) for each in (page, inside)] == [False, False]
        to_the_recruiter(inside, customer)
        dialog.add_recruiter(customer)
        inside.get_by_role("button", name="Set up integration").click()
        expect(title(inside)).to_have_text(re.compile("is linked"))
        ours = [each for each in answers if each.url.startswith(dialog.base)]
        assert len(ours) > 5
        assert [each.url for each in ours if "set-cookie" in each.all_headers()] == []
        assert context.cookies() == []
        top = context.new_page()
        top.goto(customer.url)  # not in a frame, so it is in the browser's history
        expect(title(top)).to_have_text(re.compile("is linked"))
    assert faults == []
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert customer.token.encode() not in kept
    secret = re.escape(customer.url.partition("#")[2]).encode()
    assert set(re.findall(rb"(.)" + secret, kept, re.DOTALL)) == {b"#"}, "the history has it, and in no path"


def _waited(page: Page) -> list[Frame]:
    page.frame_locator("iframe").get_by_role("button", name="Start").wait_for()
    return page.frames


def test_another_site_may_not_show_it(dialog: DialogServer, context: BrowserContext) -> None:
    """A browser shows it to a page of the link's origin, and to no other that has the whole link."""
    page = context.new_page()
    with host_page("about:blank") as (address, _):
        embedded = dialog.customer(embed_origin=address)
        elsewhere, unembedded = dialog.customer(embed_origin="https://app.host.example"), dialog.customer()
        plain = dialog.link(elsewhere, plain=True, embed_origin="https://app.host.example")
        show = "url => { document.querySelector('iframe').src = url; }"
        for url in (elsewhere.url, unembedded.url, plain):
            page.goto(address)
            with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
                page.evaluate(show, url)
            assert page.frame_locator("iframe").get_by_role("button", name="Start").count() == 0
        page.goto(address)
        page.evaluate(show, embedded.url)
        assert _waited(page)


def test_a_hostile_page_can_post_nothing(dialog: DialogServer, context: BrowserContext) -> None:
    """A form on another site that knows the whole link changes nothing: the browser says where it comes from."""
    customer = dialog.submitted()
    link, _, secret = customer.url.partition("#")
    page = context.new_page()
    with host_page("about:blank") as (address, _):
        page.goto(address)
        page.evaluate(
            """([action, secret]) => {
                const form = document.createElement('form');
                form.method = 'post'; form.action = action;
                form.innerHTML = `<input name=secret value="${secret}"><input name=do value=stop>`;
                document.body.append(form); form.submit();
            }""",
            [link, secret],
        )
        expect(title(page)).to_have_text("That did not come from this page")
    assert dialog.connection(customer).closed_at is None


def test_the_secret_is_sent_to_nobody_else(tmp_path: Path, browser: Browser) -> None:
    """A plain link's is in its pages' paths and in no Referer, to us or others; a fragment's is in no path either."""
    ours: list[tuple[str, str]] = []

    def recorded(app: ASGIApp, _: Linker) -> ASGIApp:
        async def record(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                headers = dict(scope["headers"])
                ours.append((scope["path"], headers.get(b"referer", b"").decode()))
            await app(scope, receive, send)

        return record

    with (
        serving(f"sqlite:///{tmp_path}/linker.db", wrap=recorded, log_level="error") as served,
        host_page("about:blank") as (address, referers),
    ):
        customer = served.submitted()
        for url in (customer.url, served.link(customer, plain=True)):
            ours.clear()
            referers.clear()
            context = browser.new_context()  # with nothing in its cache
            page = context.new_page()
            secret = re.split("[/#]", url)[-1]
            page.goto(url if "#" in url else f"{url}?at=recruiter")
            expect(title(page)).to_have_text("Add Northwind as an external recruiter")
            with page.expect_response("**/state*"):
                pass  # it asks for news
            with context.expect_page() as opened:
                page.get_by_role("link", name="What we ask and why").click()
            opened.value.wait_for_load_state()
            page.evaluate(FOLLOW, address)
            page.wait_for_url(f"{address}/**")
            assert {path.rpartition("/")[2] for path, _ in ours} >= {"state", "why"}
            assert any(path.endswith(".css") for path, _ in ours)
            assert [each for each in ours if secret in each[1]] == []
            assert [path for path, _ in ours if secret in path] == (
                [] if "#" in url else [url.partition(served.base)[2]]
            )
            assert referers
            assert not any(secret in each for each in referers)
            context.close()


def test_the_token_leaves_the_page_when_it_is_sent(dialog: DialogServer, context: BrowserContext) -> None:
    """It is in no field, storage or history entry afterwards, nor after going back; a refused one is not kept."""
    page = context.new_page()
    customer = dialog.customer()
    page.goto(customer.url)
    to_the_token(page, customer)
    field = page.get_by_role("textbox", name="API token")
    field.fill(CANARY)
    page.goto("about:blank")
    page.go_back()
    expect(title(page)).to_have_text("Paste your API token")  # what was given before is not asked for again
    expect(field).to_have_value("")
    field.fill(CANARY)  # in a browser that keeps the page as it is for going back, which Chromium here does not
    page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    expect(field).to_have_value("")
    with page.expect_response("**/c/*"):
        page.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    assert field.get_attribute("autocomplete") == "off"
    assert field.get_attribute("type") == "text"  # no manager offers to keep it
    assert field.get_attribute("maxlength") is None
    field.fill(f"{CANARY}wrong")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("button", name="Hide")).to_be_visible()
    assert page.get_by_role("button", name="Hide").get_attribute("aria-pressed") is None  # its name says it
    page.get_by_label("90 days").check()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#summary")).to_be_focused()
    expect(page.get_by_label("90 days")).to_be_checked()
    assert page.title().startswith("Error: ")
    dump = (
        "() => document.documentElement.outerHTML + [...document.querySelectorAll('input')].map((each) => each.value)"
    )
    dump += " + JSON.stringify({ ...localStorage, ...sessionStorage }) + JSON.stringify(history.state) + location.href"
    assert CANARY not in page.evaluate(dump)
    page.locator("#summary a").click()
    expect(field).to_be_focused()
    told = page.locator("#token-wrong").text_content()
    assert told == (page.locator("#summary a").text_content() or "")
    field.fill(customer.token)
    page.get_by_role("button", name="Continue").click()
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    page.go_back()
    page.go_forward()
    assert CANARY not in page.evaluate(dump)


#: Write down what is put into the status that a screen reader listens to, and whether it is still the same one.
LISTEN = """() => {
  window.told = []; window.listened = document.querySelector("#heard");
  new MutationObserver(() => { if (listened.textContent) told.push(listened.textContent); }).observe(
    listened, { childList: true, characterData: true, subtree: true });
}"""


def test_the_page_goes_on_by_itself_and_says_so(dialog: DialogServer, context: BrowserContext) -> None:
    """The recruiter is added while the page is open: the screen changes, and the status that was there announces it.

    Also where a colleague was faster, and Start leads to another page than the one that was asked for.
    """
    customer = dialog.customer()
    page = context.new_page()
    page.goto(customer.url)
    page.get_by_role("button", name="Start").wait_for()
    dialog(dialog.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
    page.get_by_role("button", name="Start").click()
    expect(title(page)).to_have_text("One thing is left to do in Workable")
    assert "at=" not in page.url
    page.get_by_role("button", name="Start").click()
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    assert "at=recruiter" in page.url
    page.evaluate(LISTEN)
    with page.expect_response("**/state?at=recruiter"):
        pass  # nothing is new
    dialog.add_recruiter(customer)
    expect(title(page)).to_have_text(re.compile("is linked"), timeout=9000)
    page.wait_for_function("() => told.length > 0")
    assert page.evaluate("() => told.at(-1) === document.querySelector('h1').textContent")
    assert page.evaluate("() => document.querySelector('#heard') === listened")
    assert "at=" not in page.url
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_text("You can close this page now.").first).to_be_focused()
    assert page.evaluate("() => told.at(-1)") == "You can close this page now."


def test_an_address_from_before_does_not_keep_a_page_from_going_on(
    dialog: DialogServer, context: BrowserContext
) -> None:
    """What was asked for once is not due any more, by either kind of link: the page asks for news all the same."""
    for url in (dialog.submitted().url.replace("#", "?at=token#"), f"{dialog.submitted(plain=True).url}?at=token"):
        page = context.new_page()
        with page.expect_request("**/state"):
            page.goto(url)
        assert "at=" not in page.url
        page.close()


def test_news_leave_the_focus_where_it_is(dialog: DialogServer, context: BrowserContext) -> None:
    """On what was seen, also when that is drawn anew; and what is the same is not drawn again."""
    customer = dialog.submitted()
    page = context.new_page()
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url) if request.url.endswith("/state") else None)
    page.goto(customer.url)
    page.get_by_role("button", name="Set up integration").click()
    expect(page.locator("#live .box")).to_be_focused()
    box = page.evaluate_handle("() => document.querySelector('#live .box')")
    page.wait_for_function("(box) => !box.isConnected", arg=box, timeout=20_000)  # somebody looked again
    expect(page.locator("#live .box")).to_be_focused()
    recruiter = dialog.connection(customer).recruiter
    assert recruiter is not None
    dialog.add_recruiter(customer, "x" + recruiter.email[1:])
    expect(page.locator("#live .box-title")).to_have_text(re.compile("Almost"), timeout=20_000)
    expect(page.locator("#live .box")).to_be_focused()
    assert len(asked) >= 2


def test_a_proxys_error_takes_no_form_away(dialog: DialogServer, context: BrowserContext) -> None:
    """What was typed stays, also when a proxy answers in our place; the page says so, and the next try goes through."""
    customer = dialog.customer()
    page = context.new_page()
    page.goto(customer.url)
    to_the_token(page, customer)
    page.get_by_role("textbox", name="API token").fill(customer.token)
    answers: list[dict[str, Any]] = [
        {"status": 502, "body": "<h1>Bad Gateway</h1>", "content_type": "text/html"},
        {"status": 503, "body": '<body data-screen="busy"><h1>Busy</h1>', "content_type": "text/html"},
        {"status": 200, "body": "<h1>Log in to the Wi-Fi</h1>", "content_type": "text/html"},
    ]
    page.route("**/c/*", lambda route: route.fulfill(**answers.pop()) if answers else route.fallback())
    for left in (2, 1, 0):
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("button", name="Continue")).not_to_have_attribute("aria-busy", "true")
        expect(page.get_by_role("textbox", name="API token")).to_have_value(customer.token)
        assert len(answers) == left
    page.get_by_role("button", name="Continue").click()
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")


def test_a_request_that_fails_does_not_end_the_news(dialog: DialogServer, context: BrowserContext) -> None:
    """The page was told that there is another screen and did not get it: it asks again."""
    customer = dialog.submitted()
    page = context.new_page()
    page.goto(customer.url)
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    failed: list[str] = []

    def fail_once(route: Route) -> None:
        if failed:
            route.fallback()
        else:
            failed.append(route.request.url)
            route.abort()

    page.route("**/c/*", fail_once)
    dialog.add_recruiter(customer)
    dialog(dialog.linker.confirm_recruiter(customer.connection_id))
    expect(title(page)).to_have_text(re.compile("is linked"), timeout=15_000)
    assert failed


@pytest.mark.parametrize("does_load", [True, False], ids=["slow", "blocked"])
def test_the_first_page_is_never_blank(does_load: bool, dialog: DialogServer, context: BrowserContext) -> None:
    """While its script has not come it says what happens, and after some seconds what to do."""
    page = context.new_page()
    waiting: list[Route] = []
    page.route("**/assets/*.js", lambda route: waiting.append(route) if does_load else route.abort())
    page.goto(dialog.customer().url, wait_until="commit")
    expect(page.get_by_text("Opening your link")).to_be_visible()
    expect(page.get_by_text("load this page again")).to_be_hidden()
    session = context.new_cdp_session(page)
    session.send("Animation.enable")
    session.send("Animation.setPlaybackRate", {"playbackRate": 20})  # the seconds pass faster
    expect(page.get_by_text("load this page again")).to_be_visible()
    if does_load:
        waiting[0].fallback()
        expect(page.get_by_role("button", name="Start")).to_be_visible()
    else:
        expect(title(page)).to_have_text("Connect Workable")


def test_a_hidden_tab_asks_nothing_and_asks_at_once_on_return(dialog: DialogServer, context: BrowserContext) -> None:
    """Polling stops while nobody looks."""
    customer = dialog.submitted()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/state" in request.url else None)
    page.clock.install()
    page.goto(customer.url)
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    hide = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_request("**/state"):
        page.evaluate(hide, False)
    assert len(asked) == 1


@pytest.mark.parametrize("way", ["clipboard", "command", "by hand"])
def test_copying_tells_the_truth(way: str, dialog: DialogServer, context: BrowserContext) -> None:
    """“Copied” is said only once it is; otherwise the text is selected, and the key is named."""
    customer = dialog.submitted()
    if way == "clipboard":
        context.grant_permissions(["clipboard-read", "clipboard-write"])
    else:
        context.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined });")
    if way == "by hand":
        context.add_init_script("document.execCommand = () => false;")
    page = context.new_page()
    page.goto(customer.url)
    button = page.locator("button[data-copy=email]")
    button.click()
    recruiter = dialog.connection(customer).recruiter
    assert recruiter is not None
    if way == "by hand":
        expect(button).to_have_text("Press Ctrl+C")
        assert page.evaluate("() => getSelection().toString()") == recruiter.email
    else:
        expect(button).to_have_text("Copied ✓")
    if way == "clipboard":
        assert page.evaluate("() => navigator.clipboard.readText()") == recruiter.email


@pytest.mark.parametrize("can_command", [True, False])
def test_copying_in_a_frame_that_may_not(can_command: bool, dialog: DialogServer, context: BrowserContext) -> None:
    """A frame without `allow="clipboard-write"` copies by the older way, or selects the text and says how."""
    if not can_command:
        context.add_init_script("document.execCommand = () => false;")
    page = context.new_page()
    with host_page("about:blank") as (address, _):
        customer = dialog.submitted(embed_origin=address)
        page.goto(address)
        page.evaluate("url => { document.querySelector('iframe').src = url; }", customer.url)
        inside = page.frame_locator("iframe")
        button = inside.locator("button[data-copy=email]")
        button.click()
        recruiter = dialog.connection(customer).recruiter
        assert recruiter is not None
        [frame] = [each for each in page.frames if "/c/" in each.url]
        refused = "() => navigator.clipboard.writeText('x').then(() => 'copied', (error) => error.name)"
        assert frame.evaluate(refused) == "NotAllowedError"
        if can_command:
            expect(button).to_have_text("Copied ✓")
            page.evaluate("() => { document.body.append(document.createElement('textarea')); }")
            page.locator("textarea").press("Control+v")
            expect(page.locator("textarea")).to_have_value(recruiter.email)
        else:
            expect(button).to_have_text("Press Ctrl+C")
            assert frame.evaluate("() => getSelection().toString()") == recruiter.email


def test_the_whole_flow_by_keyboard(dialog: DialogServer, context: BrowserContext) -> None:
    """Tab, space, arrows and Enter are enough, and what has the focus can be seen."""
    customer = dialog.customer()
    page = context.new_page()
    page.goto(customer.url)
    expect(title(page)).to_be_focused()

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            told = page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()")
            if told == name:
                assert page.evaluate(HAS_RING), name
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("Start")
    page.keyboard.press("Enter")
    expect(title(page)).to_have_text("Which Workable account is yours?")
    tab_to("subdomain")
    page.keyboard.type(customer.subdomain)
    page.keyboard.press("Enter")
    expect(title(page)).to_have_text("Paste your API token")
    tab_to("token")
    page.keyboard.type(customer.token)
    page.keyboard.press("Tab")  # to the button that shows it
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("90 days")).to_be_checked()
    page.keyboard.press("Enter")
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    dialog.add_recruiter(customer)
    tab_to("Set up integration")
    page.keyboard.press("Space")
    expect(title(page)).to_have_text(re.compile("is linked"))


def test_nothing_typed_is_lost_to_news(dialog: DialogServer, context: BrowserContext) -> None:
    """A page with a field does not change by itself; a form that is sent late shows what is due, and harms nothing."""
    customer = dialog.customer()
    dialog.world.fail(customer.subdomain, Fault.UNAVAILABLE)
    dialog(dialog.linker.submit_token(customer.connection_id, subdomain=customer.subdomain, token=customer.token))
    page = context.new_page()
    page.clock.install()
    page.goto(customer.url)
    expect(title(page)).to_have_text("We are checking your token")
    with page.expect_response("**/state"):
        page.clock.run_for(5000)  # it goes on by itself
    page.get_by_role("link", name="Use another token").click()
    field = page.get_by_role("textbox", name="API token")
    field.fill("typed-by-hand-0001")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    dialog.world.heal(customer.subdomain)
    dialog(dialog.linker.check(customer.connection_id))
    assert dialog.connection(customer).state is ConnectionState.AWAITING_RECRUITER
    page.clock.run_for(60_000)
    expect(field).to_have_value("typed-by-hand-0001")
    assert asked == []
    page.get_by_role("button", name="Continue").click()
    expect(title(page)).to_have_text("Add Northwind as an external recruiter")
    assert dialog.connection(customer).state is ConnectionState.AWAITING_RECRUITER


def test_the_first_screen_on_a_throttled_phone(dialog: DialogServer, browser: Browser) -> None:
    """Largest paint within a second and a half, on slow 4G and a slow processor; nothing comes from elsewhere."""
    customer = dialog.customer()
    asked: list[str] = []
    painted: list[float] = []
    slow = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
    while len(painted) < 4 and not 0 < min(painted, default=0) <= 1500:  # the machine is shared with other tests
        with browser.new_context(viewport={"width": 390, "height": 844}) as context:
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            session = context.new_cdp_session(page)
            session.send("Network.enable")
            session.send("Network.emulateNetworkConditions", slow)
            session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
            page.add_init_script(
                "window.painted = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
                " window.painted = one.startTime; }).observe({ type: 'largest-contentful-paint', buffered: true });"
            )
            page.goto(customer.url)
            page.get_by_role("button", name="Start").wait_for()
            page.wait_for_timeout(400)
            painted.append(page.evaluate("() => window.painted"))
    print("largest paint, ms:", [round(each) for each in painted])  # noqa: T201
    assert 0 < min(painted) <= 1500
    assert all(url.startswith((dialog.base, "data:")) for url in asked)
