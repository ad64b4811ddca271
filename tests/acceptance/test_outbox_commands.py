"""`linker outbox` and webhooks through the command, process by process, `kill -9` of the worker among them."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linker.encryption import new_key
from linker.outbox.webhooks import new_webhook_secret
from linker.sandbox import Limit, World, running, seed
from tests.acceptance.commands import Terminal, until
from tests.receiver import Receiver, hang, receiving, status

pytestmark = pytest.mark.slow

LETTER_KEYS = {
    *("id", "connection", "type", "to", "state", "attempts", "due_at", "last_error", "created_at"),
    *("delivered_at", "dead_at", "dropped_at"),
}
SECRET = new_webhook_secret().get_secret_value()


@pytest.fixture
def world() -> World:
    """The demonstration's world, without a limit of calls."""
    made = seed.seeded()
    made.set_limit(Limit.off())
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiving() as started:
        yield started


@pytest.fixture
def linker(tmp_path: Path, world: World, receiver: Receiver) -> Iterator[Terminal]:
    """The command, with a key, a database of its own, the sandbox and a webhook."""
    with running(world) as url:
        settings = {"workable_url": url, "webhook_url": receiver.url, "webhook_secret": SECRET}
        key = new_key().get_secret_value()
        yield Terminal(tmp_path, settings | {"secret_keys": key, "sweep_seconds": "0.2", "lease_seconds": "2"})


def listed(linker: Terminal, *options: str) -> Any:
    """What is queued for the webhook."""
    return linker("outbox", "list", "--to", "webhook", "--json", *options).json


def time_passes(linker: Terminal, **columns: str | None) -> None:
    """Write times into the outbox, as if days had passed."""
    with sqlite3.connect(linker.folder / "linker.db") as database:
        for name, value in columns.items():
            database.execute(f"UPDATE linker_outbox SET {name} = ?", [value])  # noqa: S608 - our own names
    database.close()


def dead(linker: Terminal, receiver: Receiver) -> str:
    """A dead letter; gives its id."""
    linker.opened()
    receiver.script.append(status(500))
    linker("outbox", "deliver")
    time_passes(linker, hook_due_at="2026-01-01 00:00:00.000000", hook_give_up_at="2026-01-01 00:00:00.000000")
    receiver.script.append(status(500))
    linker("outbox", "deliver")
    [delivery] = listed(linker, "--dead")
    return str(delivery["id"])


def test_the_life_of_a_delivery_as_operators_see_it(linker: Terminal, receiver: Receiver) -> None:
    """Pending, retrying, dead, retried by hand, delivered: each is listed, and what is listed is one JSON value."""
    connection_id = linker.opened()
    [pending] = listed(linker, "--pending")
    assert pending.keys() == LETTER_KEYS
    assert (pending["connection"], pending["state"], pending["attempts"]) == (connection_id, "pending", 0)
    receiver.script.append(status(500))
    linker("outbox", "deliver")
    [retrying] = listed(linker, "--pending")
    assert (retrying["state"], retrying["attempts"], retrying["last_error"]) == ("retrying", 1, "webhook: 500")
    time_passes(linker, hook_due_at="2026-01-01 00:00:00.000000", hook_give_up_at="2026-01-01 00:00:00.000000")
    receiver.script.append(status(500))
    linker("outbox", "deliver")
    [delivery] = listed(linker, "--dead")
    assert (delivery["state"], delivery["due_at"], delivery["dead_at"] is None) == ("dead", None, False)
    assert listed(linker, "--pending") == []
    retried = linker("outbox", "retry", delivery["id"], "--json")
    assert (retried.code, [each["state"] for each in retried.json]) == (0, ["retrying"])
    assert linker("outbox", "deliver", "--json").json == {"delivered": 1, "failed": 0}
    [delivered] = listed(linker, "--connection", connection_id)
    assert (delivered["state"], delivered["id"], delivered["last_error"]) == ("delivered", pending["id"], None)
    assert len({came.id for came in receiver.came}) == 1
    assert all(came.is_signed_with(SECRET) for came in receiver.came)


def test_a_delivery_that_fails_is_told(linker: Terminal, receiver: Receiver) -> None:
    """What could not be delivered is counted, also when it is given up, and the command ends with 5."""
    linker.opened()
    linker.opened()
    receiver.script.append(status(500))
    partly = linker("outbox", "deliver", "--json")
    assert (partly.code, partly.json) == (5, {"delivered": 1, "failed": 1})
    time_passes(linker, hook_due_at="2026-01-01 00:00:00.000000", hook_give_up_at="2026-01-01 00:00:00.000000")
    receiver.otherwise = status(500)
    given_up = linker("outbox", "deliver")
    assert (given_up.code, "0 delivered, " in given_up.out, "failed" in given_up.out) == (5, True, True)


def test_all_dead_letters_are_tried_again(linker: Terminal, receiver: Receiver) -> None:
    """`--all-dead` takes the dead ones, and says which; without any there is nothing to say."""
    assert linker("outbox", "retry", "--all-dead", "--json").json == []
    message_id = dead(linker, receiver)
    retried = linker("outbox", "retry", "--all-dead", "--json").json
    assert [(each["id"], each["to"], each["state"]) for each in retried] == [(message_id, "webhook", "retrying")]


def test_a_delivery_is_dropped_with_a_reason(linker: Terminal, receiver: Receiver) -> None:
    """It is kept, with who and why, and not delivered; a retry brings it back."""
    message_id = dead(linker, receiver)
    dropped = linker("outbox", "drop", message_id, "--reason", "a test", "--actor", "ann", "--to", "webhook", "--json")
    [delivery] = dropped.json
    assert (dropped.code, delivery["state"], delivery["last_error"]) == (0, "dropped", "dropped by ann: a test")
    assert listed(linker, "--dead") == []
    assert linker("outbox", "deliver", "--json").json == {"delivered": 0, "failed": 0}
    assert linker("outbox", "retry", message_id, "--to", "webhook").code == 0
    assert linker("outbox", "deliver", "--json").json == {"delivered": 1, "failed": 0}


def test_what_cannot_be_done_is_told(linker: Terminal, receiver: Receiver) -> None:
    """Bad input ends with 2, an unknown id with 3, a delivered one with 4; nothing is changed."""
    linker.opened()
    linker("outbox", "deliver")
    [delivery] = listed(linker)
    for command, code, word in (
        (("retry", delivery["id"], "--to", "webhook"), 4, "has been delivered"),
        (("drop", delivery["id"], "--to", "webhook", "--reason", "r"), 4, "has been delivered"),
        (("retry", "msg_unknown"), 3, "linker outbox list"),
        (("retry", delivery["id"], "msg_unknown"), 3, "msg_unknown"),
        (("retry",), 2, "linker outbox list"),
        (("retry", delivery["id"], "--all-dead"), 2, "not both"),
        (("drop", delivery["id"]), 2, "reason"),
        (("drop", "--reason", "r"), 2, "linker outbox list"),
        (("list", "--to", "nowhere"), 2, "webhook"),
        (("list", "--connection", "con_unknown"), 3, "linker list"),
        (("list", "--limit", "0"), 2, "limit"),
    ):
        ran = linker("outbox", *command, "--json")
        assert (ran.code, ran.out, word in ran.error["message"]) == (code, "", True), (command, ran.err)
    assert listed(linker) == [delivery]
    no_webhook = linker("outbox", "deliver", "--json", webhook_url="")
    assert (no_webhook.code, no_webhook.error["field"]) == (2, "LINKER_WEBHOOK_URL")


def test_people_get_a_table(linker: Terminal, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids stand whole; what was never posted is no news where no webhook is set."""
    empty = linker("outbox", "list")
    assert (empty.code, empty.out, "no such announcement" in empty.err) == (0, "", True)
    message_id = dead(linker, receiver)
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        shown = linker("outbox", "list", "--dead").out
        assert message_id in shown
        assert "webhook: 500" in shown
    linker.opened()
    channels = {delivery["to"] for delivery in linker("outbox", "list", "--pending", "--json", webhook_url="").json}
    assert channels == {"handlers"}
    assert "--limit" in linker("outbox", "list", "--limit", "1").err


def test_the_worker_posts(linker: Terminal, receiver: Receiver, world: World) -> None:
    """`linker worker` with a webhook set tells the whole story by itself."""
    connection_id = linker.opened()
    with linker.started("worker") as worker:
        submitted = linker("submit", connection_id, "--subdomain", "acme", "--json", stdin=seed.ACME_TOKEN).json
        until(lambda: len(receiver.came) == 3)
        world.add_recruiter("acme", name="Integration", email=submitted["recruiter"]["email"])
        assert linker("confirm", connection_id).code == 0
        until(lambda: len(receiver.came) == 4)
        worker.terminate()
        assert worker.wait(30) == 0
    story = ["connection.opened", "token.accepted", "connection.awaiting_recruiter", "connection.linked"]
    assert receiver.types == story


def test_a_worker_that_is_killed_before_it_wrote_down_a_delivery_posts_again(
    linker: Terminal, receiver: Receiver
) -> None:
    """At least once: the webhook arrived, the worker died with `kill -9`, the next one posts it with the same id."""
    connection_id = linker.opened()
    for death in range(1, 4):
        with linker.started("worker") as worker:
            receiver.script.append(_dying(worker.pid))
            until(lambda so_far=death: len(receiver.came) == so_far)  # type: ignore[misc]
            assert worker.wait(30) == -signal.SIGKILL
    with linker.started("worker") as worker:
        until(lambda: any(each["state"] == "delivered" for each in listed(linker)))
        worker.terminate()
        assert worker.wait(30) == 0
    assert len(receiver.came) == 4
    assert len({(came.id, came.body) for came in receiver.came}) == 1
    assert {came.payload["data"]["id"] for came in receiver.came} == {connection_id}


def _dying(pid: int) -> Callable[[Any], None]:
    def answer(to: Any) -> None:
        os.kill(pid, signal.SIGKILL)
        to.close_connection = True

    return answer


def test_a_worker_stops_in_time_while_the_receiver_hangs(linker: Terminal, receiver: Receiver) -> None:
    """SIGTERM does not wait for a receiver that does not answer."""
    linker.opened()
    receiver.otherwise = hang
    with linker.started("worker", lease_seconds="60") as worker:
        until(lambda: len(receiver.came) == 1)
        worker.terminate()
        assert worker.wait(15) == 0


def test_secrets_for_webhooks_are_made(linker: Terminal) -> None:
    """`keys new --webhook` prints one that works, and another one each time."""
    made = linker("keys", "new", "--webhook")
    assert (made.code, made.err, made.out.startswith("whsec_")) == (0, "", True)
    assert linker("keys", "new", "--webhook", "--json").json["key"] != made.out.strip()
    assert linker("doctor", "--offline", webhook_secret=f"{made.out.strip()},{SECRET}").code == 0


@pytest.mark.parametrize(
    ("settings", "field", "word"),
    [
        ({"webhook_secret": ""}, "LINKER_WEBHOOK_SECRET", "linker keys new --webhook"),
        ({"webhook_secret": "whsec_canary"}, "LINKER_WEBHOOK_SECRET", "linker keys new --webhook"),
        ({"webhook_secret": f"{SECRET},canary"}, "LINKER_WEBHOOK_SECRET", "Number 2 of 2"),
        ({"webhook_url": "canary.example.com/hooks"}, "LINKER_WEBHOOK_URL", "https://"),
        ({"webhook_url": "http://canary.example.com/hooks"}, "LINKER_WEBHOOK_URL", "https://"),
    ],
)
def test_half_a_webhook_is_refused(linker: Terminal, settings: dict[str, str], field: str, word: str) -> None:
    """The setting is named with its cause and the next step; its value is not shown. The doctor says the same."""
    refused = linker("sweep", "--json", **settings)
    assert (refused.code, refused.error["field"], word in refused.err) == (2, field, True)
    examined = linker("doctor", "--offline", "--json", **settings)
    assert examined.code == 2
    [check] = [check for check in examined.json["checks"] if check["name"] == "webhook"]
    assert (check["status"], field in check["said"]) == ("failed", True)
    assert "canary" not in refused.err + examined.out + examined.err


def test_the_doctor_looks_at_the_webhook(linker: Terminal, receiver: Receiver) -> None:
    """All well, then nobody posts, then a dead letter; a secret without a URL deserves a look."""

    def examined(name: str, **settings: str) -> Any:
        checks = linker("doctor", "--offline", "--json", **settings).json["checks"]
        return next(check for check in checks if check["name"] == name)

    linker.opened()
    found = examined("webhook")
    assert found["status"] == "ok"
    assert "/hooks" not in found["said"], "the path may be a secret"
    assert examined("outbox")["status"] == "ok"
    assert examined("webhook", webhook_url="")["status"] == "care"
    time_passes(linker, hook_due_at="2026-01-01 00:00:00.000000")
    assert examined("outbox")["status"] == "failed"
    time_passes(linker, hook_due_at=None, hook_dead_at="2026-01-01 00:00:00.000000")
    assert "linker outbox list --dead" in examined("outbox")["advice"]
