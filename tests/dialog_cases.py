"""Every screen of the dialog, in every way that it can look: for tests that render, measure and compare them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from linker.dialog.look import Look
from linker.dialog.rendering import Place, Renderer
from linker.dialog.screens import Screen, ScreenName, screen_of
from linker.errors import BadInput
from linker.links import ENTRY_EVERY, MOST_ENTRIES, Link, Purpose
from linker.settings import Settings
from states.connection import Account, Connection, ConnectionState, Problem, Recruiter
from states.problems import NearMissKind, ProblemCode
from tests.builders import NOW, TOKEN, a_connection, a_credential

AWAITING_TOKEN, TOKEN_VALID, AWAITING_RECRUITER, LINKED, FAILED = ConnectionState

SETTINGS = Settings(
    recruiter_name="Northwind Integration",
    dialog_name="Northwind",
    permissions=("r_jobs", "r_candidates"),
    dialog_support_url="https://help.northwind.example/workable",
    dialog_privacy_url="https://northwind.example/privacy",
)
ROBOTICS = Account(id="c71fa", name="Acme Robotics", subdomain="acme")
OURS = Recruiter(name="Northwind Integration", email="ats+gj5t4jb753@inbound.northwind.example")
SEEN_AT = NOW - timedelta(hours=3)


def a_link(purpose: Purpose = Purpose.SETUP, **facts: Any) -> Link:
    """A link that is open, for the whole way, and by which something was sent."""
    given: dict[str, Any] = {
        "id": "lnk_0123456789abcdef0123",
        "connection_id": "con_1",
        "created_at": SEEN_AT,
        "created_by": "host",
        "expires_at": NOW + timedelta(days=7),
        "attempts": 1,
        **facts,
    }
    return Link(purpose=purpose, **given)


def acme(state: ConnectionState, code: ProblemCode | None = None, **facts: Any) -> Connection:
    """Acme's connection in a state, perhaps with a problem."""
    params = facts.pop("params", {})
    given: dict[str, Any] = {"problem": Problem(code=code, since=SEEN_AT, params=params)} if code else {}
    if state is not AWAITING_TOKEN:
        given |= {"account": ROBOTICS, "recruiter": OURS}
    if state is LINKED:
        token = a_credential(expires_on=(NOW + timedelta(days=365)).date())
        given |= {"recruiter": replace(OURS, id="2b81c0"), "linked_at": SEEN_AT, "token": token}
    return a_connection(state, **{**given, **facts})


@dataclass(frozen=True)
class Case:
    """A screen as a whole page."""

    name: str
    html: str


def renderer(settings: Settings = SETTINGS) -> Renderer:
    """What makes pages."""
    return Renderer(settings, Look(settings))


def situations() -> Iterator[tuple[str, Connection, Link, str | None, BadInput | None]]:
    """A name, a connection, a link, what was asked to be seen, and what cannot be right in what was entered."""
    setup, fresh = a_link(), acme(AWAITING_TOKEN, subdomain=None)
    given = acme(AWAITING_TOKEN, subdomain="acme")
    waiting = acme(AWAITING_RECRUITER)
    yield "start", fresh, setup, None, None
    yield "subdomain", fresh, setup, "subdomain", None
    for reason in ("empty", "looks_like_token", "not_workable"):
        yield f"subdomain-{reason}", fresh, setup, "subdomain", BadInput("subdomain", reason, most=63)
    elsewhere = {"params": {"belongs_to": ["acme-robotics", "globex"]}, "subdomain": "acme"}
    mismatched = acme(AWAITING_TOKEN, ProblemCode.SUBDOMAIN_MISMATCH, **elsewhere)
    yield "subdomain_mismatch", mismatched, setup, None, None
    held = replace(mismatched, held_token=TOKEN, held_until=NOW + timedelta(minutes=9))
    yield "subdomain_mismatch-held", held, setup, None, None
    yield "subdomain_mismatch-another", held, setup, "token", None
    taken = acme(AWAITING_TOKEN, ProblemCode.ACCOUNT_TAKEN, subdomain="acme", params={"connection": "con_2"})
    yield "account_taken", taken, setup, None, None
    yield "token", given, setup, None, None
    for reason in ("empty", "masked"):
        yield f"token-{reason}", given, setup, "token", BadInput("token", reason, most=4096)
    yield "token_refused", acme(AWAITING_TOKEN, ProblemCode.TOKEN_REFUSED, subdomain="acme"), setup, None, None
    lacking = {"params": {"missing": ["r_candidates"]}, "subdomain": "acme"}
    yield "scope_missing", acme(AWAITING_TOKEN, ProblemCode.SCOPE_MISSING, **lacking), setup, None, None
    for code in (
        ProblemCode.TOKEN_REVOKED,
        ProblemCode.TOKEN_EXPIRED,
        ProblemCode.SCOPE_LOST,
        ProblemCode.ACCOUNT_GONE,
        ProblemCode.SUBDOMAIN_MISMATCH,
    ):
        yield f"failed-{code}", acme(FAILED, code, recruiter=OURS), setup, None, None
    yield "reconnect", acme(LINKED), a_link(Purpose.RECONNECT), None, None
    other = Problem(
        code=ProblemCode.SUBDOMAIN_MISMATCH, since=NOW, params={"stays_with": "acme", "belongs_to": ["globex"]}
    )
    turned_down = acme(LINKED, replacement_problem=other)
    yield "reconnect-other-account", turned_down, a_link(Purpose.RECONNECT), None, None
    verifying = replace(given, candidate=a_credential("candidate"))
    yield "checking", verifying, setup, None, None
    transient = (
        ProblemCode.WORKABLE_UNAVAILABLE,
        ProblemCode.THROTTLED,
        ProblemCode.ANSWER_NOT_UNDERSTOOD,
        ProblemCode.POISONED,
    )
    for code in transient:
        problem = Problem(code=code, since=NOW, params={"answer": "no_rule", "status": 418, "fault": "our_fault"})
        yield f"checking-{code}", replace(verifying, problem=problem), setup, None, None
        yield f"recruiter-{code}", replace(waiting, problem=problem), setup, None, None
    yield "begin", waiting, a_link(Purpose.RECRUITER, attempts=0), None, None
    yield "recruiter", waiting, setup, None, None
    for kind in NearMissKind:
        seen = {"near_miss": kind.value, "alike": OURS.email[:19], "others": 3, "name": OURS.name, "email": OURS.email}
        absent = acme(AWAITING_RECRUITER, ProblemCode.RECRUITER_ABSENT, params=seen)
        yield f"recruiter_absent-{kind}", absent, setup, None, None
    removed = acme(AWAITING_RECRUITER, ProblemCode.RECRUITER_REMOVED, params={"near_miss": "none"}, linked_at=SEEN_AT)
    yield "recruiter_removed", removed, setup, None, None
    yield "linked", acme(LINKED), setup, None, None
    yield "linked-in-trouble", acme(LINKED, ProblemCode.WORKABLE_UNAVAILABLE), setup, None, None
    yield "recruiter_overdue", acme(FAILED, ProblemCode.RECRUITER_OVERDUE), setup, None, None
    yield "restart", acme(FAILED, ProblemCode.RECRUITER_OVERDUE), setup, "restart", None
    yield "abandoned", acme(FAILED, ProblemCode.ABANDONED, token=None), setup, None, None
    yield "trouble", acme(FAILED, ProblemCode.POISONED, params={"fault": "our_fault"}), setup, None, None
    yield "paused", replace(waiting, paused_at=NOW, due_at=None), setup, None, None
    yield "stopped", replace(waiting, closed_at=NOW, due_at=None, token=None), setup, None, None
    yield "thanks", waiting, a_link(Purpose.TOKEN), None, None
    yield "not_yet", given, a_link(Purpose.RECRUITER), None, None
    yield "status", waiting, a_link(Purpose.STATUS), None, None
    yield "status-failed", acme(FAILED, ProblemCode.RECRUITER_OVERDUE), a_link(Purpose.STATUS), None, None
    yield "colleague", given, setup, "colleague", None
    yield "stop", waiting, setup, "stop", None
    yield "expired", fresh, a_link(expires_at=SEEN_AT), None, None
    yield "revoked", fresh, a_link(revoked_at=SEEN_AT), None, None
    yield "used_up", fresh, a_link(entries_until=NOW + ENTRY_EVERY * MOST_ENTRIES), None, None


def screen_for(connection: Connection, link: Link, asked: str | None, refusal: BadInput | None) -> Screen:
    """The screen of a situation."""
    if refusal is not None:
        name = ScreenName.SUBDOMAIN if asked == "subdomain" else ScreenName.TOKEN
        typed = "acme robotics" if refusal.reason == "not_workable" else None
        return Screen(name=name, refusal=refusal, typed=typed, lifetime="1y")
    return screen_of(connection, link, now=NOW, asked=asked)


def cases(settings: Settings = SETTINGS) -> list[Case]:
    """All pages."""
    pages = renderer(settings)
    place = Place(root="../../", url="https://connect.northwind.example/c/lnk_0123456789abcdef0123#a-secret")
    found = [
        Case(name, pages.screen(screen_for(connection, link, asked, refusal), connection, link, place, now=NOW))
        for name, connection, link, asked, refusal in situations()
    ]
    for message in (ScreenName.INCOMPLETE, ScreenName.BUSY, ScreenName.REFUSED):
        found.append(Case(message.value, pages.message(message, place, None)))
    found.append(Case("shell", pages.shell(place, None)))
    found.append(Case("why", pages.why(place, None)))
    return found
