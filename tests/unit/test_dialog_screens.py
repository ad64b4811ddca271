"""Which screen is shown: for every state and every problem, pinned; and each of them has all of its words."""

import re
from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from linker import BadSettings, Settings, load_settings
from linker.dialog.look import Look, on_dark
from linker.dialog.open_pages import poll_seconds
from linker.dialog.rendering import LIFETIMES, Place, breakable, expires_on
from linker.dialog.screens import STEPS, ScreenName, may_do, screen_of
from linker.links import ENTRY_EVERY, MOST_ENTRIES, Purpose
from linker.settings import contrast
from linker.wording import catalogue
from states.connection import ConnectionState, Problem
from states.problems import PROBLEMS, TRANSIENT, ProblemCode
from tests.builders import NOW, TOKEN, a_credential
from tests.dialog_cases import SETTINGS, Case, a_link, acme, cases, renderer, situations

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState

ENGLISH = {key: catalogue().template(key, {}) or "" for key in catalogue().keys}

CASES = cases()
#: Of each state the screen without a problem, and those of problems that are shown otherwise.
GOLDEN: dict[ConnectionState, tuple[str, dict[str, str]]] = {
    AWAITING_TOKEN: (
        "token",
        {
            "subdomain_mismatch": "subdomain*",
            "account_gone": "subdomain*",
            "account_taken": "taken",
            "token_refused": "token*",
            "scope_missing": "token*",
            "token_revoked": "token*",
            "token_expired": "token*",
            "scope_lost": "token*",
        },
    ),
    TOKEN_VALID: ("checking", {}),
    AWAITING_RECRUITER: ("recruiter", {}),
    LINKED: ("linked", {}),
    FAILED: (
        "trouble",
        {
            "recruiter_overdue": "overdue",
            "abandoned": "overdue",
            **dict.fromkeys(
                (
                    *("token_refused", "subdomain_mismatch", "scope_missing", "account_taken", "token_revoked"),
                    *("token_expired", "scope_lost", "account_gone"),
                ),
                "token*",
            ),
        },
    ),
}


@pytest.mark.parametrize(("state", "code"), list(product(ConnectionState, [None, *ProblemCode])))
def test_each_state_and_problem_has_its_screen(state: ConnectionState, code: ProblemCode | None) -> None:
    """A star: something has to be mended at a field."""
    usual, others = GOLDEN[state]
    connection = acme(state, code, subdomain="acme") if code else acme(state, subdomain="acme", problem=None)
    screen = screen_of(connection, a_link(), now=NOW)
    expected = others.get(code.value, usual) if code else usual
    assert f"{screen.name}{'*' if screen.is_error else ''}" == expected


@pytest.mark.parametrize("code", [None, *ProblemCode])
def test_a_token_that_is_kept_is_asked_for_once(code: ProblemCode | None) -> None:
    """While Workable cannot say whether it is good, the page waits, whatever the trouble is."""
    connection = acme(AWAITING_TOKEN, code, subdomain="acme", candidate=a_credential("candidate"))
    assert screen_of(connection, a_link(), now=NOW).name is ScreenName.CHECKING
    assert screen_of(connection, a_link(), now=NOW, asked="token").name is ScreenName.TOKEN


@pytest.mark.parametrize("code", [None, *ProblemCode])
def test_a_new_token_for_what_may_heal_is_asked_for_again_if_it_is_no_good(code: ProblemCode | None) -> None:
    """Its own problem is shown at the token, before what ended the link; while it is verified the page waits."""
    turned_down = Problem(code=code, since=NOW) if code else None
    ended = acme(FAILED, ProblemCode.TOKEN_REVOKED, subdomain="acme", replacement_problem=turned_down)
    waiting = screen_of(replace(ended, candidate=a_credential("candidate")), a_link(), now=NOW)
    assert (waiting.name, waiting.problem) == (ScreenName.CHECKING, turned_down)
    screen = screen_of(ended, a_link(), now=NOW)
    assert (screen.name, screen.problem) == (ScreenName.TOKEN, turned_down or ended.problem)
    other = screen_of(replace(ended, candidate=a_credential("candidate")), a_link(Purpose.RECRUITER), now=NOW)
    assert other.name is ScreenName.NOT_YET


#: Of links for a part of the way, or for another token, the screens that are not as those for the whole way.
TOKEN_OF_NO_USE = {
    *("token_refused", "subdomain_mismatch", "scope_missing", "account_taken", "token_revoked"),
    *("token_expired", "scope_lost", "account_gone", "abandoned"),
}
ELSEWHERE: dict[Purpose, dict[ConnectionState, dict[str, str]]] = {
    Purpose.TOKEN: {
        AWAITING_RECRUITER: {"": "thanks"},
        FAILED: {"abandoned": "token", "recruiter_overdue": "thanks"},
    },
    Purpose.RECRUITER: {AWAITING_TOKEN: {"": "not_yet"}, FAILED: dict.fromkeys(TOKEN_OF_NO_USE, "not_yet")},
    Purpose.RECONNECT: {AWAITING_RECRUITER: {"": "token"}, LINKED: {"": "token"}},
    Purpose.STATUS: {state: {"": "status"} for state in ConnectionState},
}


@pytest.mark.parametrize("purpose", ELSEWHERE)
@pytest.mark.parametrize(("state", "code"), list(product(ConnectionState, [None, *ProblemCode])))
def test_a_link_for_a_part_shows_that_part(purpose: Purpose, state: ConnectionState, code: ProblemCode | None) -> None:
    """In each state and with each problem: what it is not for is told, and no form is shown for it."""
    connection = acme(state, code, subdomain="acme") if code else acme(state, subdomain="acme", problem=None)
    others = ELSEWHERE[purpose].get(state, {})
    usual, problems = GOLDEN[state]
    expected = problems.get(code.value, usual) if code else usual
    expected = others.get(code.value if code else "", others.get("", expected))
    assert screen_of(connection, a_link(purpose), now=NOW).name == expected.rstrip("*")


@pytest.mark.parametrize("state", [AWAITING_RECRUITER, LINKED])
def test_a_link_for_another_token_waits_until_the_token_is_proven(state: ConnectionState) -> None:
    """It asks once, waits while Workable cannot say, asks again after a refusal, and then goes on as all links do."""
    link, usual = a_link(Purpose.RECONNECT), GOLDEN[state][0]
    given = acme(state, candidate=a_credential("candidate"))
    refused = acme(state, replacement_problem=Problem(code=ProblemCode.TOKEN_REFUSED, since=NOW))
    assert screen_of(given, link, now=NOW).name is ScreenName.CHECKING
    for renewed in (False, True):
        screen = screen_of(refused, link, now=NOW, renewed=renewed)
        assert (screen.name, screen.is_error) == (ScreenName.TOKEN, True)
    assert screen_of(acme(state), link, now=NOW).name is ScreenName.TOKEN
    assert screen_of(acme(state), link, now=NOW, renewed=True).name == usual


@pytest.mark.parametrize("purpose", Purpose)
def test_the_first_button_of_a_link_only_leads_on(purpose: Purpose) -> None:
    """Scanners of mail press it, whatever is due: it does nothing, but for a field that is empty as yet."""
    pages, place, link = renderer(), Place(root="../"), a_link(purpose, attempts=0)
    also: tuple[dict[str, Any], ...] = (
        {},
        {"candidate": a_credential("candidate")},
        {"held_token": TOKEN, "held_until": NOW + timedelta(hours=1)},
    )
    for state, code, facts in product(ConnectionState, [None, *ProblemCode], also):
        connection = acme(state, code, subdomain="acme", **(facts if code else {"problem": None, **facts}))
        due = screen_of(connection, link, now=NOW)
        html = pages.screen(due, connection, link, place, now=NOW)
        first = html.partition("</form>")[0]
        deeds, leads_to = (re.findall(rf'name="{field}" value="([^"]*)"', first) for field in ("do", "at"))
        for asked in leads_to:  # and where it leads is where it said
            assert screen_of(connection, link, now=NOW, asked=asked).name.value == asked
        if deeds:
            assert (due.name, deeds) == (ScreenName.TOKEN, ["token"])
            assert re.search(r'<input id="token" name="token" type="text"(?! value)[^>]* required>', first)


def test_what_was_due_is_shown_once_something_was_sent_by_a_link() -> None:
    """The start of a link is shown once: whoever comes back goes on where they were."""
    waiting = acme(AWAITING_RECRUITER)
    mismatched = acme(AWAITING_TOKEN, ProblemCode.SUBDOMAIN_MISMATCH, subdomain="acme")
    for connection, first, then in ((waiting, "begin", "recruiter"), (mismatched, "start", "subdomain")):
        assert screen_of(connection, a_link(attempts=0), now=NOW).name == first
        asked = screen_of(connection, a_link(attempts=0), now=NOW, asked=then)
        assert (asked.name, asked.problem) == (then, connection.problem)
        assert screen_of(connection, a_link(), now=NOW).name == then
    full = a_link(attempts=0, entries_until=NOW + ENTRY_EVERY * MOST_ENTRIES)  # by the other links of the connection
    assert screen_of(waiting, full, now=NOW).name is ScreenName.RECRUITER


def test_a_recruiter_that_was_removed_is_mended_by_a_link_for_another_token_too() -> None:
    """The token is good: the recruiter is what is missing."""
    removed = acme(AWAITING_RECRUITER, ProblemCode.RECRUITER_REMOVED, linked_at=NOW)
    assert screen_of(removed, a_link(Purpose.RECONNECT), now=NOW).name is ScreenName.RECRUITER


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    "asked", ["start", "subdomain", "token", "recruiter", "restart", "colleague", "stop", "linked", "'><script>"]
)
def test_what_is_asked_for_is_shown_only_where_it_leads_on(purpose: Purpose, asked: str) -> None:
    """A query cannot show a screen that is not due, and a link that only looks shows nothing else."""
    for state in ConnectionState:
        screen = screen_of(acme(state), a_link(purpose), now=NOW, asked=asked)
        due = screen_of(acme(state), a_link(purpose), now=NOW)
        assert screen == due or (screen.name.value == asked and screen.is_asked)
        assert purpose is not Purpose.STATUS or screen == due


def test_every_screen_is_among_the_cases_and_whole() -> None:
    """No parameter is left in its braces, each page has one heading, and none has anything inline."""
    shown = set()
    for case in CASES:
        names = re.findall(r'data-screen="(\w+)"', case.html)
        shown.update(names)
        assert len(names) == 1
        assert case.html.count("<h1") == 1, case.name
        assert not re.search(r"\{\w+\}|\bon\w+=|style=|<style|javascript:", case.html), case.name
    assert {name.value for name in ScreenName} <= shown
    assert set(STEPS.values()) == {1, 2, 3, 4}


def test_steps_are_counted_from_the_first_to_the_last() -> None:
    """Each bar is filled in its turn, the last one at the end; a wrong token leads nobody back to the first."""
    told = {case.name: (case.html.count('<i class="on">'), re.findall(r"Step (\d) of 4", case.html)) for case in CASES}
    way = ("subdomain", "token", "recruiter", "linked")
    assert [told[name] for name in way] == [(step, [str(step)]) for step in (1, 2, 3, 4)]
    for name in ("token_refused", "scope_missing", "subdomain_mismatch", "subdomain_mismatch-held", "checking"):
        assert told[name] == (2, ["2"]), name
    for name in ("start", "account_taken", "reconnect", "recruiter_removed", "thanks", "status", "stopped"):
        assert told[name] == (0, []), name


def test_what_is_wrong_is_said_at_the_top_and_at_the_field_and_nowhere_else() -> None:
    """The same words stand in the summary and at the field; a third time would be one too many."""
    for case in CASES:
        wrong = re.findall(r'<p class="wrong" id="\w+-wrong">([^<]+)</p>', case.html)
        assert [case.html.count(f">{words}<") for words in wrong] in ([], [2]), case.name


def test_what_only_a_script_does_is_said_only_where_it_does() -> None:
    """That a page goes on by itself is hidden without the script; then a button is there."""
    for case in CASES:
        without = re.sub(r'<span class="by-itself">[^<]*</span>', "", case.html)
        assert "page goes on by itself" not in without, case.name
        name = re.findall(r'data-screen="(\w+)"', case.html)[0]
        assert ('<div class="actions unscripted">' in case.html) is (
            name in ("status", "thanks", "not_yet", "paused", "used_up")
        )


def test_help_privacy_and_a_way_to_stop_are_at_the_foot_of_every_page() -> None:
    """To stop, on each screen of a link for the whole way that opens something, while there is something to stop."""
    links = {name: link for name, _, link, _, _ in situations()}
    for case in CASES:
        assert f'href="{SETTINGS.dialog_support_url}"' in case.html, case.name
        assert f'href="{SETTINGS.dialog_privacy_url}"' in case.html, case.name
        is_setup = case.name in links and links[case.name].purpose is Purpose.SETUP
        stops = is_setup and case.name not in ("stopped", "stop", "expired", "revoked")
        assert ('href="?at=stop"' in case.html) is stops, case.name


def test_no_page_loads_itself_anew() -> None:
    """It would take away what somebody is about to read, or to press."""
    assert not [case.name for case in CASES if "http-equiv" in case.html]


def test_a_page_asks_seldom_in_the_end() -> None:
    """Every three seconds at first, and never more seldom than every thirty."""
    spans = [timedelta(seconds=0), timedelta(minutes=5), timedelta(minutes=20), timedelta(hours=1), timedelta(days=9)]
    pauses = [
        poll_seconds(acme(AWAITING_RECRUITER, watched_since=NOW - each, watched_until=NOW + timedelta(seconds=9)), NOW)
        for each in spans
    ]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (3, 29)  # a second before the engine looks
    assert poll_seconds(acme(AWAITING_RECRUITER), NOW) == 3


def test_a_link_without_room_stops_the_connection_too() -> None:
    """At every step, also before the token."""
    full = a_link(entries_until=NOW + ENTRY_EVERY * MOST_ENTRIES)
    for connection in (acme(AWAITING_TOKEN, subdomain=None), acme(AWAITING_TOKEN), acme(AWAITING_RECRUITER)):
        assert screen_of(connection, full, now=NOW, asked="stop").name is ScreenName.STOP
        assert may_do("stop", connection, full, now=NOW)


def test_another_accounts_token_is_told_at_the_token_where_the_account_is_settled() -> None:
    """A new token of another account, for an account that stays: to change the subdomain could not help."""
    html = next(case.html for case in CASES if case.name == "reconnect-other-account")
    assert re.findall(r'<p class="wrong" id="(\w+)-wrong">', html) == ["token"]
    assert 'id="subdomain"' not in html


def test_nobody_is_promised_a_mail() -> None:
    """We know no customer's address: it is the host that is told that a token ends."""
    texts = "".join(case.html for case in CASES)
    assert "Northwind is told in time" in texts
    assert not re.search(r"\bwe (write|remind|mail|send)\b", texts, re.IGNORECASE)


def test_the_picture_says_what_the_guide_says() -> None:
    """The button in the picture is the one that the steps name."""
    html = next(case.html for case in CASES if case.name == "recruiter")
    assert "<strong>Add an external recruiter</strong>" in html
    assert ">Add an external recruiter</text>" in html
    assert "Add a recruiter" not in html


def test_the_picture_shows_every_permission_that_is_asked_for() -> None:
    """However many there are: each stands in both drawings, and the sheet grows with them."""
    names = ("r_jobs", "r_candidates", "w_candidates", "r_offers", "w_offers", "r_account", "w_departments")
    given = {each.name: each.html for each in cases(SETTINGS.model_copy(update={"permissions": names}))}
    assert re.findall(r'<text class="code"[^>]*>(\w+)</text>', given["token"]) == [*names, *names]
    heights = [int(each) for each in re.findall(r'viewBox="0 0 (?:426|300) (\d+)"', given["token"])]
    bottoms = [int(each) for each in re.findall(r'<rect class="accent" x="\d+" y="(\d+)" width="13"', given["token"])]
    assert min(heights) > max(bottoms) + 13 + 10


def page_of(name: str) -> str:
    """One page, without what is drawn."""
    html = next(case.html for case in CASES if case.name == name)
    return re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_in_an_outage_each_step_says_what_is_true_there(code: ProblemCode) -> None:
    """While the token is checked nobody has to do anything; the recruiter still has to be added."""
    assert "need not do anything" in page_of(f"checking-{code}")
    at_recruiter = page_of(f"recruiter-{code}")
    assert "Add the external recruiter as shown" in at_recruiter
    assert not re.search("need not do anything|what you entered", at_recruiter)


@pytest.mark.parametrize("name", ["failed-account_gone", "failed-subdomain_mismatch"])
def test_an_account_that_is_gone_is_not_said_to_stay(name: str) -> None:
    """Where the account is asked for again, nothing above says that it is the same."""
    html = page_of(name)
    assert "was connected to" in html
    assert not re.search("same account|Nothing else changes|is connected to", html)


def test_a_step_at_which_it_has_stopped_is_not_said_to_go_on() -> None:
    """It has a sign and a word of its own."""
    assert re.findall(r'<li class="(\w+)">', page_of("status")) == ["done", "done", "now", "later"]
    failed = page_of("status-failed")
    assert re.findall(r'<li class="(\w+)">', failed) == ["done", "done", "stopped", "later"]
    assert '<span class="label">stopped</span>' in failed
    assert '<span class="label">now</span>' not in failed


def test_words_read_well() -> None:
    """The reason comes first; a list of permissions holds no “and” within; “email” is spelled in one way."""
    assert "was not added in time. Nothing is lost" in page_of("recruiter_overdue")
    assert "look at candidates in <strong>acme" in page_of("token")
    assert "Every account has a name" not in page_of("subdomain_mismatch")
    dialog = {key: text for key, text in ENGLISH.items() if key.startswith("dialog.")}
    assert [key for key, text in dialog.items() if "e-mail" in text.lower()] == []
    assert [key for key, text in dialog.items() if key.startswith("dialog.permission.") and " and " in text] == []


def test_every_page_that_is_a_message_has_its_sign() -> None:
    """Also the one that only the script shows; and the page that says why does not link to itself."""
    for name in ("account_taken", "paused", "stopped", "trouble", "shell", "incomplete", "thanks", "linked"):
        html = next(case.html for case in CASES if case.name == name)
        assert len(re.findall(r'<div class="tick[^>]*><svg', html)) == 1, name
    assert 'href="../../why"' in page_of("shell")
    assert 'href="../../why"' not in page_of("why")


def test_managers_of_passwords_keep_their_hands_off() -> None:
    """No field looks like a login to them, none is cut off, and each says so to those that ask."""
    fields = [tag for case in CASES for tag in re.findall(r'<input[^>]*type="text"[^>]*>', case.html)]
    assert len(fields) > 20
    for field in fields:
        for told in ("data-1p-ignore", 'data-lpignore="true"', "data-bwignore", 'data-form-type="other"'):
            assert told in field
        assert 'autocomplete="off"' in field
        assert "maxlength" not in field
    assert not [case.name for case in CASES if 'type="password"' in case.html]


def test_a_page_asks_nothing_of_another_site_and_tells_it_nothing() -> None:
    """What a page loads and where it sends is our own; what leads elsewhere opens beside it, and cannot reach back."""
    for case in CASES:
        loaded = re.findall(r'(?:src|action)="([^"]*)"|<link[^>]*href="([^"]*)"', case.html)
        assert [one for pair in loaded for one in pair if re.match(r"\w+:(?!,)|//", one)] == [], case.name
        for link in re.findall(r'<a [^>]*href="https?:[^>]*>', case.html):
            assert 'target="_blank" rel="noopener noreferrer"' in link, case.name
        assert "noopener" in "".join(re.findall(r'<a [^>]*target="_blank"[^>]*>', case.html)), case.name


def test_workable_is_opened_once_the_account_is_known() -> None:
    """At the account that was named; before that there is no such button."""
    opens = {case.name: re.findall(r'<a class="outward" href="([^"]*)"', case.html) for case in CASES}
    for name in ("token", "scope_missing", "recruiter", "recruiter_absent-slip", "reconnect"):
        assert opens[name] == ["https://acme.workable.com/backend/settings"], name
    for name in ("start", "subdomain", "subdomain_mismatch", "linked", "why"):
        assert opens[name] == [], name


def test_help_privacy_and_a_way_out_are_on_every_page() -> None:
    """The host's links everywhere; the way to stop wherever there is something to stop, for whoever may."""
    for case in CASES:
        for url in (SETTINGS.dialog_support_url, SETTINGS.dialog_privacy_url):
            assert f'<a href="{url}" target="_blank"' in case.html, case.name
    stops = {case.name for case in CASES if "Stop this connection</a>" in case.html}
    assert {"start", "subdomain", "token", "checking", "recruiter", "linked", "account_taken", "trouble"} <= stops
    assert not stops & {"stopped", "expired", "revoked", "status", "reconnect", "why", "shell"}


@pytest.mark.parametrize("case", [each for each in CASES if 'id="summary"' in each.html], ids=lambda case: case.name)
def test_an_error_is_told_at_the_top_and_at_its_field(case: Case) -> None:
    """In the same words, with a link to the field, and in the title; the field says that it is wrong, and where why."""
    [(field, words)] = re.findall(r'<p><a href="#(\w+)">([^<]+)</a></p>', case.html)
    assert f'<p class="wrong" id="{field}-wrong">{words}</p>' in case.html
    assert re.search(rf'id="{field}"[^>]*aria-describedby="{field}-hint {field}-wrong" aria-invalid="true"', case.html)
    assert "<title>Error: " in case.html
    assert 'role="alert" tabindex="-1"' in case.html


def test_every_problem_that_has_a_field_is_told_so() -> None:
    """Each of these codes is among the screens with a summary."""
    told = {case.name.removeprefix("failed-").partition("-")[0] for case in CASES if 'id="summary"' in case.html}
    with_field = {code.value for code in ProblemCode if PROBLEMS[code].field} - {"account_taken"}
    assert with_field <= told


def test_nothing_of_a_customer_is_taken_for_markup() -> None:
    """Names of accounts, recruiters and hosts are text, in pages and in pictures."""
    evil = "<script>alert(1)</script>**x**"
    pages = renderer(Settings(recruiter_name=evil, dialog_name=evil[:60]))
    for state in (AWAITING_TOKEN, AWAITING_RECRUITER, LINKED):
        connection = acme(state, subdomain="acme", owner=evil)
        screen = screen_of(connection, a_link(contact=evil), now=NOW)
        html = pages.screen(screen, connection, a_link(contact=evil), Place(root="./", url=evil), now=NOW)
        assert "<script>alert" not in html


@pytest.mark.parametrize(
    ("lifetime", "today", "last"),
    [
        ("30d", date(2026, 1, 31), date(2026, 3, 2)),
        ("90d", date(2026, 1, 1), date(2026, 4, 1)),
        ("6m", date(2026, 8, 31), date(2027, 2, 28)),
        ("1y", date(2028, 2, 29), date(2029, 2, 28)),
        ("2y", date(2026, 11, 30), date(2028, 11, 30)),
        ("", date(2026, 1, 1), None),
        ("9y", date(2026, 1, 1), None),
    ],
)
def test_a_lifetime_becomes_a_date(lifetime: str, today: date, last: date | None) -> None:
    """As Workable offers them; what is not known stays unknown."""
    assert expires_on(lifetime, today) == last
    assert all(catalogue().text(f"dialog.lifetime.{each}") for each in LIFETIMES)


def test_an_email_breaks_before_its_at_and_its_dots() -> None:
    """And nowhere else, so that nobody copies a half."""
    assert breakable("ats+x@in.acme.example") == ["ats+x", "@in", ".acme", ".example"]
    assert "".join(breakable("a..b@@c.")) == "a..b@@c."


# ── how the host wants it ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("accent", "found"), [("#ffcc00", "1.51"), ("#7f7fff", "3.29"), ("#777777", "4.48")])
def test_an_accent_that_cannot_be_read_is_refused_with_the_number(accent: str, found: str) -> None:
    """At start, before a customer sees it."""
    with pytest.raises(BadSettings) as refused:
        load_settings(dialog_accent=accent)
    assert (refused.value.field, refused.value.reason) == ("dialog_accent", "low_contrast")
    assert refused.value.params["found"] == found


@pytest.mark.parametrize("accent", ["#2f5bea", "#000000", "#b3261e", "#12734a", "#59616e"])
def test_an_accent_is_read_on_dark_pages_too(accent: str) -> None:
    """It is made lighter there, until dark text on it and itself on the card can be read."""
    assert contrast(on_dark(accent), "#161a20") >= 4.5
    assert contrast(on_dark(accent), "#0e1115") >= 4.5


def test_the_usual_accent_on_dark_pages_is_the_one_that_was_drawn() -> None:
    """Not one that is mixed."""
    assert on_dark("#2f5bea") == "#8aa8ff"


def test_spacing_is_of_one_scale() -> None:
    """Of 4, 8, 12, 16, 24, 32 and 48, with 44 around a form; less than 4 is a correction by eye."""
    css = Look(SETTINGS).css.body.decode()
    spaced = re.findall(r"(?:margin|padding|gap)[a-z-]*:\s*([^;}]+)", css)
    steps = {abs(int(each)) for value in spaced for each in re.findall(r"-?\d+(?=px)", value)}
    assert len(spaced) > 100
    assert {each for each in steps if each >= 4} <= {4, 8, 12, 16, 24, 32, 44, 48}


def test_logo_words_and_fonts_are_the_hosts(tmp_path: Path) -> None:
    """From local files, read once, each served under a name of its own."""
    (tmp_path / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "words.toml").write_text('[dialog.start]\ntitle = "Hello {host}"\n')
    given = {"dialog_logo": str(tmp_path / "logo.svg"), "dialog_words": str(tmp_path / "words.toml")}
    settings = SETTINGS.model_copy(update={**given, "dialog_font": "Georgia, serif", "dialog_radius": 4})
    look = Look(settings)
    assert look.logo is not None
    assert b"--font:Georgia, serif" in look.css.body
    assert b"--radius:4px" in look.css.body
    page = renderer(settings).screen(
        screen_of(acme(AWAITING_TOKEN, subdomain=None), a_link(), now=NOW),
        acme(AWAITING_TOKEN, subdomain=None),
        a_link(),
        Place(root="./"),
        now=NOW,
    )
    assert "Hello Northwind" in page
    assert look.logo.name in page


@pytest.mark.parametrize(
    ("setting", "content", "reason"),
    [
        ("dialog_logo", None, "file_unreadable"),
        ("dialog_logo", "x" * 70_000, "too_large"),
        ("dialog_words", "[dialog.start]\ntitel = 'x'\n", "unknown_keys"),
        ("dialog_words", "not toml", "not_toml"),
        ("dialog_words", None, "file_unreadable"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(setting: str, content: str | None, reason: str, tmp_path: Path) -> None:
    """At start; a slip in a key is told, because the text would never be shown."""
    path = tmp_path / "given.svg"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadSettings) as refused:
        Look(SETTINGS.model_copy(update={setting: str(path)}))
    assert (refused.value.field, refused.value.reason) == (setting, reason)
    assert str(refused.value)


def test_a_logo_is_an_image() -> None:
    """By its name."""
    with pytest.raises(BadSettings) as refused:
        Look(SETTINGS.model_copy(update={"dialog_logo": "/etc/passwd"}))
    assert refused.value.reason == "not_an_image"
