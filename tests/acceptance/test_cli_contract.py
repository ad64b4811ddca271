"""The command line against the sandbox, process by process: the contract that scripts outside depend on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from linker.encryption import new_key
from linker.sandbox import EVERYWHERE, Fault, Limit, World, running, seed
from tests.acceptance.commands import Ran, Terminal, until

pytestmark = pytest.mark.slow

CONNECTION_KEYS = {
    *("id", "owner", "state", "problem", "subdomain", "account", "recruiter", "attempts", "checks", "due_at"),
    *("deadline", "state_since", "linked_at", "token", "version", "paused_at", "closed_at", "metadata"),
    *("created_at", "updated_at"),
}
STEP_KEYS = {"seq", "event", "from", "to", "actor", "reason", "problem", "evidence", "at", "verb", "operation"}


@pytest.fixture
def world() -> World:
    """The demonstration's world, without a limit of calls."""
    made = seed.seeded()
    made.set_limit(Limit.off())
    return made


@pytest.fixture
def linker(tmp_path: Path, world: World) -> Iterator[Terminal]:
    """The command, with a key, a database of its own and the sandbox."""
    with running(world) as url:
        key = new_key().get_secret_value()
        yield Terminal(tmp_path, {"secret_keys": key, "workable_url": url, "backoff_first": "1"})


def submit(linker: Terminal, connection_id: str, token: str, *more: str) -> Ran:
    """Give a token through stdin."""
    return linker("submit", connection_id, "--subdomain", "acme", "--json", *more, stdin=f"{token}\n")


def problem(ran: Ran) -> tuple[int, str, str | None]:
    """The exit code, the problem's code and the field that it belongs to."""
    named = ran.json["problem"]
    return ran.code, named["code"], named["field"]


def test_a_customer_gets_from_open_to_linked_with_one_command_for_each_step(linker: Terminal, world: World) -> None:
    """Open, submit and confirm end in a linked account, each with the connection as JSON and exit code 0."""
    opened = linker("open", "--owner", "customer-1", "--metadata", "plan=pro", "--metadata", "note=a=b", "--json")
    assert opened.code == 0
    assert opened.err == ""
    assert opened.json.keys() >= CONNECTION_KEYS
    assert opened.json["metadata"] == {"plan": "pro", "note": "a=b"}
    assert opened.json["state"] == "awaiting_token"
    connection_id = opened.json["id"]

    accepted = submit(linker, connection_id, seed.ACME_TOKEN, "--token-expires", "2099-01-31")
    assert (accepted.code, accepted.json["state"]) == (0, "awaiting_recruiter")
    assert accepted.json["account"] == {"id": "c71fa", "name": "Acme Robotics", "subdomain": "acme"}
    assert accepted.json["token"]["expires_on"] == "2099-01-31"
    assert set(accepted.json["token"]) == {"expires_on", "fingerprint"}

    early = linker("confirm", connection_id, "--json")
    assert problem(early) == (0, "recruiter_absent", None)
    assert early.json["problem"]["owner"] == "customer"
    assert early.json["checks"] == 1

    recruiter = early.json["recruiter"]
    assert set(recruiter) == {"name", "email", "id"}
    world.add_recruiter("acme", name=recruiter["name"], email=recruiter["email"].upper())
    linked = linker("confirm", connection_id, "--json")
    assert (linked.code, linked.json["state"], linked.json["problem"]) == (0, "linked", None)
    assert linker("confirm", connection_id).code == 0

    steps = linker("history", connection_id, "--json").json
    assert [step["seq"] for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.keys() == STEP_KEYS for step in steps)
    assert [step["event"] for step in steps] == [
        "opened",
        "token_submitted",
        "token_accepted",
        "recruiter_prepared",
        "recruiter_absent",
        "recruiter_found",
        "health_confirmed",
    ]
    assert all(step["actor"].startswith("operator:") for step in steps)


def test_check_looks_now(linker: Terminal) -> None:
    """At what waits, is linked or has failed; without a token there is nothing to ask with, and it says so."""
    connection_id = linker.opened()
    refused = linker("check", connection_id, "--json")
    assert (refused.code, refused.error["reason"]) == (4, "no_token")
    assert submit(linker, connection_id, seed.ACME_TOKEN).code == 0
    checked = linker("check", connection_id, "--reason", "the customer called", "--json")
    assert problem(checked) == (0, "recruiter_absent", None)
    assert set(checked.json["last_look"]) == {"at", "call", "status", "ms", "by"}
    assert (checked.json["last_look"]["status"], checked.json["troubled_since"]) == (200, None)
    asked, answered = linker("history", connection_id, "--json").json[-2:]
    assert (asked["event"], asked["reason"]) == ("check_requested", "the customer called")
    assert (answered["event"], answered["actor"]) == ("recruiter_absent", asked["actor"])
    assert "last look" in linker("show", connection_id).out


def test_each_refusal_ends_with_four_and_names_its_field(linker: Terminal) -> None:
    """Workable's verdict on a token ends with 4, with the connection on stdout and nothing on stderr."""
    connection_id = linker.opened()
    cut_off = submit(linker, connection_id, seed.ACME_TOKEN[:-1])
    assert problem(cut_off) == (4, "token_refused", "token")
    assert cut_off.err == ""
    assert problem(submit(linker, connection_id, seed.ACME_TOKEN_WITHOUT_SCOPE)) == (4, "scope_missing", "token")
    elsewhere = submit(linker, connection_id, seed.GLOBEX_TOKEN)
    assert problem(elsewhere) == (4, "subdomain_mismatch", "subdomain")
    assert "globex" in elsewhere.json["problem"]["message"]
    shown = linker("show", connection_id)
    assert "who must act  customer" in shown.out
    stuck = linker("list", "--stuck", "--state", "awaiting_token", "--owner", "customer-1", "--json")
    assert [each["id"] for each in stuck.json] == [connection_id]
    assert linker("list", "--state", "linked", "--json").json == []


def test_trouble_at_workable_ends_with_five_and_goes_on_by_itself(linker: Terminal, world: World) -> None:
    """While Workable is down submit ends with 5 and keeps the token; a sweep goes on when Workable is back."""
    connection_id = linker.opened()
    world.fail(EVERYWHERE, Fault.UNAVAILABLE)
    down = submit(linker, connection_id, seed.ACME_TOKEN)
    assert problem(down) == (5, "workable_unavailable", None)
    assert down.json["problem"]["owner"] == "workable"
    assert down.json["candidate"]["fingerprint"]
    world.heal()

    swept: dict[str, int] = {}

    def advanced() -> bool:
        swept.update(linker("sweep", "--json").json)
        return swept["claimed"] > 0

    until(advanced)
    assert swept.keys() >= {"claimed", "advanced", "waiting", "failed", "unavailable"}
    assert swept["advanced"] >= 1
    assert swept["unavailable"] == 0
    assert linker("show", connection_id, "--json").json["state"] == "awaiting_recruiter"
    world.fail(EVERYWHERE, Fault.HTML)
    assert linker("confirm", connection_id, "--json").code == 5


def test_a_bad_replacement_ends_with_four_and_leaves_the_link(linker: Terminal, world: World) -> None:
    """A new token that is refused ends with 4, and the connection works on with the token that it has."""
    connection_id = linker.opened()
    recruiter = submit(linker, connection_id, seed.ACME_TOKEN).json["recruiter"]
    world.add_recruiter("acme", name=recruiter["name"], email=recruiter["email"])
    assert linker("confirm", connection_id, "--json").json["state"] == "linked"
    replaced = submit(linker, connection_id, seed.ACME_TOKEN_REVOKED)
    assert (replaced.code, replaced.json["state"]) == (4, "linked")
    assert replaced.json["replacement_problem"]["code"] == "token_refused"
    assert "turned down" in linker("show", connection_id).out
    good = submit(linker, connection_id, seed.ACME_TOKEN)
    assert (good.code, good.json["replacement_problem"]) == (0, None)


def test_operators_verbs_are_written_down_with_who_and_why(linker: Terminal) -> None:
    """Pause, resume and unlink write the actor and the reason into the history; the law's no ends with 4."""
    connection_id = linker.opened()
    assert linker("restart", connection_id).code == 4
    assert linker("confirm", connection_id, "--json").error["code"] == "refused"
    paused = linker("pause", connection_id, "--reason", "call with customer", "--actor", "jo", "--json")
    assert (paused.code, paused.json["due_at"]) == (0, None)
    assert paused.json["paused_at"] is not None
    assert linker("resume", connection_id, actor="nightly-script").code == 0
    unlinked = linker("unlink", connection_id, "--reason", "contract ended", "--yes", "--json")
    assert unlinked.json["closed_at"] is not None
    assert linker("unlink", connection_id, "--reason", "again", "--yes").code == 4
    told = [(step["event"], step["actor"], step["reason"]) for step in linker("history", connection_id, "--json").json]
    assert told[1] == ("paused", "jo", "call with customer")
    assert told[2][:2] == ("resumed", "nightly-script")
    assert told[3][2] == "contract ended"


def test_what_cannot_be_done_says_why_and_what_to_do_instead(linker: Terminal) -> None:
    """No names of events: the state, the rule, and the command that helps."""
    connection_id = linker.opened()
    restarted = linker("restart", connection_id)
    assert (restarted.code, restarted.out) == (4, "")
    assert "is in awaiting_token, and only a failed connection can be restarted" in restarted.err
    assert f"`linker show {connection_id}` says what it waits for" in restarted.err
    confirmed = linker("confirm", connection_id)
    assert confirmed.code == 4
    assert "`linker submit` takes them" in confirmed.err
    assert linker("unlink", connection_id, "--reason", "ended", "--yes").code == 0
    for verb in ("restart", "pause", "unlink"):
        asked_for = ("--reason", "again", "--yes") if verb == "unlink" else ()
        refused = linker(verb, connection_id, *asked_for)
        assert refused.code == 4
        assert f"{connection_id} is closed. Open a new connection." in refused.err


def test_what_is_not_found_says_in_which_database(linker: Terminal, tmp_path: Path) -> None:
    """Most often it is another database than people think."""
    empty = linker("list")
    assert (empty.code, empty.out) == (0, "")
    assert str(tmp_path) in empty.err
    assert "`linker open --owner …` creates one" in empty.err
    for verb in ("show", "history", "confirm", "pause"):
        missing = linker(verb, "con_aaaaaaaaaaaaaaaaaaaa", "--json")
        assert missing.code == 3
        assert str(tmp_path) in missing.error["message"]
    linker.opened()
    assert "No connection is like that" in linker("list", "--state", "linked").err
