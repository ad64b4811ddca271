"""What holds in the database after every step, whatever happened. Each check reads rows, never the store."""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from itertools import pairwise

from states.events import EVENTS
from states.table import TRANSITIONS
from tests.integration.stateful_ledger import Row, Snapshot

LAW = {(row.event.name, row.source.value, row.target.value) for row in TRANSITIONS}
WITH_A_TOKEN = {"token_valid", "awaiting_recruiter", "linked"}
WITH_A_RECRUITER = {"awaiting_recruiter", "linked"}
#: A person gave a token, and what may become of it; nothing else does away with it.
GIVEN = {"token_submitted", "replacement_submitted"}
ANSWERED = {
    *("token_accepted", "token_refused", "subdomain_mismatched", "scope_missing", "account_taken"),
    *("replacement_accepted", "replacement_refused", "forced", "unlinked", "abandoned"),
    *("recruiter_overdue", "token_revoked", "scope_lost", "account_moved", "account_gone"),
}
#: After these steps another token may be in use, or none.
SWAPS = {"token_accepted", "replacement_accepted", "abandoned", "unlinked"}
#: Refusals that ended a link and may be taken back: with the token that is held they are looked at again.
HEALING = {"token_revoked", "scope_lost", "subdomain_mismatch", "account_gone"}
HEALS_FOR = timedelta(days=76)
#: The steps that end trouble in which the connection stays: a real answer that is good.
GOOD_ANSWERS = {
    *("token_accepted", "replacement_accepted", "recruiter_prepared", "recruiter_found", "recruiter_absent"),
    *("recruiter_vanished", "health_confirmed"),
}
#: Those that end it without that anything works.
OTHER_ENDS = {
    *("token_refused", "subdomain_mismatched", "scope_missing", "account_taken", "token_submitted"),
    *("forced", "unlinked"),
}
#: What operators do at once, without a question to Workable.
AT_ONCE = {"force", "pause", "resume", "unlink", "set_metadata"}
#: What only they do here, and always with a reason.
BY_HAND = {"forced", "paused", "resumed", "metadata_set", "check_requested"}
#: Every clear token that the test gives begins so.
CLEAR = "canary-"


def check(before: Snapshot, after: Snapshot, *, dead: Collection[str]) -> None:
    """Everything that two snapshots can show. `dead`: the workers and strangers that may still hold leases."""
    assert set(before.connections) <= set(after.connections), "a connection is gone"
    for connection_id, row in after.connections.items():
        try:
            _check_history(row, after.steps[connection_id])
            _check_schedule(row, after.steps[connection_id])
            _check_holdings(row, after.steps[connection_id])
            _check_lease(row, dead)
            _check_change(before, after, connection_id)
            _check_announcements(after.steps[connection_id], after.outbox.get(connection_id, []), dead)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{after.story(connection_id)}") from None
    _check_unique(after.connections.values())
    _check_operations(before, after, dead)
    assert CLEAR not in after.text, "a token is in the database in clear text"


def _check_history(row: Row, steps: list[Row]) -> None:
    """Gapless, each step by a row of the law, each where the one before ended, the last one where the row is."""
    assert [step["seq"] for step in steps] == list(range(1, len(steps) + 1)), "history has a gap"
    assert row["last_seq"] == len(steps), "last_seq is not the number of the last step"
    assert (steps[0]["event"], steps[0]["source"], steps[0]["target"]) == ("opened", None, "awaiting_token")
    for earlier, step in pairwise(steps):
        assert step["event"] in EVENTS
        move = (step["event"], step["source"], step["target"])
        assert move in LAW, f"not a row of the law: {move}"
        assert step["source"] == earlier["target"], f"step {step['seq']} does not begin where the one before ended"
        assert step["at"] >= earlier["at"], f"step {step['seq']} is older than the one before"
        by_hand = step["event"] in BY_HAND or step["operation"] is not None
        assert not by_hand or (step["verb"] and step["reason"]), f"step {step['seq']} does not say why"
    assert steps[-1]["target"] == row["state"], "the state is not where the last step ended"


def _check_schedule(row: Row, steps: list[Row]) -> None:
    """What is not at rest is due some time, and not before Workable's own time; what is at rest never is.

    What has failed is due with a token only: by itself if refusals ended it, for 90 days, or when a person asks.
    """
    if row["paused_at"] or row["closed_at"]:
        assert row["due_at"] is None, "due while at rest"
    elif row["state"] != "failed":
        assert row["due_at"] is not None, "forgotten"
    elif row["due_at"]:
        asked = steps[-1]["event"] in {"check_requested", "account_renamed"}
        assert row["token_sealed"], "due without a token to ask with"
        assert asked or row["problem_code"] in HEALING, "due for nothing"
    elif row["token_sealed"] and row["problem_code"] in HEALING:
        assert row["updated_at"] - row["state_since"] > HEALS_FOR, "what may heal is forgotten"
    if row["due_at"] and row["not_before"]:
        assert row["due_at"] >= row["not_before"], "due before the time that Workable named"


def _check_holdings(row: Row, steps: list[Row]) -> None:
    """The row holds what its state needs, a token that was given until it is answered, and no secret at its end."""
    if row["state"] in WITH_A_TOKEN:
        assert row["token_sealed"], "no token"
        assert row["account_id"], "no account"
    if row["state"] in WITH_A_RECRUITER:
        assert row["recruiter_email"], "no recruiter issued"
    turning = [step["event"] for step in steps if step["event"] in GIVEN | ANSWERED]
    unanswered = bool(turning) and turning[-1] in GIVEN
    assert bool(row["candidate_sealed"]) == unanswered, "a token that was given is lost, or was answered and is kept"
    if row["closed_at"] or row["problem_code"] == "abandoned":
        assert not row["token_sealed"], "a secret is kept for nothing"
    if row["troubled_since"]:
        assert row["state"] != "failed", "what has failed is told already"
        assert not row["closed_at"], "what is over is in no trouble"
    assert row["last_look_at"] is None or row["last_look_by"], "nobody asked"


def _check_lease(row: Row, dead: Collection[str]) -> None:
    """Whoever is alive has given its leases back."""
    holder = row["lease_holder"]
    assert (holder is None) == (row["lease_until"] is None), "half a lease"
    assert holder is None or holder.rpartition(":")[0] in dead, f"the lease of {holder} was not given back"


def _check_change(before: Snapshot, after: Snapshot, connection_id: str) -> None:
    """Steps stay as they were written; the e-mail stays; every change has a version, a changed token its step."""
    old, new = before.connections.get(connection_id), after.connections[connection_id]
    if old is None:
        return
    written, steps = before.steps[connection_id], after.steps[connection_id]
    assert steps[: len(written)] == written, "a step has changed after it was written"
    assert new["version"] >= old["version"], "the version went back"
    if new["version"] == old["version"]:
        leases = {"lease_holder": None, "lease_until": None}
        assert new | leases == old | leases, "changed without a new version"
    if old["recruiter_email"]:
        assert new["recruiter_email"] == old["recruiter_email"], "the recruiter's e-mail changed"
    if new["state"] != old["state"]:
        assert len(steps) > len(written), "the state changed without a step"
    if new["token_sealed"] != old["token_sealed"]:
        assert any(step["event"] in SWAPS for step in steps[len(written) :]), "the token changed without a step"
    _check_failed(old, new, steps[len(written) :])


def _check_failed(old: Row, new: Row, steps: list[Row]) -> None:
    """What has failed and may heal keeps its token and its cause, until a token is good or a person decides."""
    if old["state"] != "failed":
        return
    may_heal = bool(old["token_sealed"]) and old["problem_code"] in HEALING
    if steps and steps[0]["event"] == "token_submitted":
        stays = steps[0]["target"] == "failed"
        assert stays == may_heal, "another token for what has failed is verified first if it may heal, and only then"
    if may_heal and new["closed_at"] is None and all(step["target"] == "failed" for step in steps):
        kept = ("problem_code", "problem_since", "token_fingerprint", "account_id", "deadline")
        assert [new[name] for name in kept] == [old[name] for name in kept], "a new token spoilt what may heal"


def _check_unique(rows: Iterable[Row]) -> None:
    """No e-mail twice; no Workable account twice among an owner's open connections."""
    emails = [row["recruiter_email"] for row in rows if row["recruiter_email"]]
    assert len(emails) == len(set(emails)), "a recruiter's e-mail was issued twice"
    accounts = [(row["owner"], row["account_id"]) for row in rows if row["account_id"] and not row["closed_at"]]
    assert len(accounts) == len(set(accounts)), "an owner has an account twice"


# operators


def _check_operations(before: Snapshot, after: Snapshot, dead: Collection[str]) -> None:
    """What became of an item stays so; each is done at most once, at the version of its plan or behind it."""
    assert set(before.operations) <= set(after.operations), "an operation is gone"
    deeds = [step for steps in after.steps.values() for step in steps if step["operation"] is not None]
    for operation_id, operation in after.operations.items():
        items, was = after.items[operation_id], before.items.get(operation_id, [])
        told = [row for row in was if row["outcome"] is not None]
        assert all(row in items for row in told), "an outcome has changed"
        left = [row for row in items if row["outcome"] is None]
        assert operation["finished_at"] is None or not left, "finished, and something is left of it"
        holder = operation["lease_holder"]
        assert holder is None or holder.rpartition(":")[0] in dead, "the lease of an operation was not given back"
        ours = [step["connection_id"] for step in deeds if step["operation"] == operation_id]
        assert set(ours) <= {row["connection_id"] for row in items}, "something was done that was not planned"
        assert operation["verb"] not in AT_ONCE or len(ours) == len(set(ours)), "something was done twice"
        over = operation_id in before.operations and before.operations[operation_id]["finished_at"] is not None
        earlier = [s for steps in before.steps.values() for s in steps if s["operation"] == operation_id]
        assert not over or len(ours) == len(earlier), "a plan that was carried out did something more"


# the outbox


def _check_announcements(steps: list[Row], outbox: list[Row], dead: Collection[str]) -> None:
    """One announcement for each step that has one, in the order of the steps, saying what was then so."""
    told = [(row["seq"], row["type"]) for row in outbox]
    assert told == announced(steps), f"announced {told} instead of {announced(steps)}"
    for row in outbox:
        said = row["payload"]["data"]
        assert said["state"] == steps[row["seq"] - 1]["target"], "an announcement of another state"
        assert row["payload"]["type"] == row["type"]
        holder = row["lease_holder"]
        assert holder is None or holder.rpartition(":")[0] in dead, "the lease of an announcement was not given back"


def announced(steps: list[Row]) -> list[tuple[int, str]]:
    """What the host has to be told, worked out from the history alone."""
    linked_before, troubled, told = False, False, []
    for step in steps:
        name = _announcement(step, linked_before)
        well_again = troubled and step["event"] in GOOD_ANSWERS
        if name is None and well_again and step["source"] == step["target"]:
            name = "connection.recovered"
        if name is not None:
            told.append((step["seq"], name))
        linked_before = linked_before or step["target"] == "linked"
        ended = well_again or step["event"] in OTHER_ENDS or step["target"] == "failed"
        troubled = step["event"] == "trouble_lasted" or (troubled and not ended)
    return told


_BY_EVENT: Mapping[str, str] = {
    "opened": "connection.opened",
    "token_accepted": "token.accepted",
    "replacement_accepted": "token.accepted",
    "recruiter_vanished": "recruiter.removed",
    "token_expiring": "token.expiring",
    "unlinked": "connection.unlinked",
    "account_renamed": "account.renamed",
    "trouble_lasted": "connection.troubled",
}
_BY_STATE: Mapping[str, str] = {
    "awaiting_recruiter": "connection.awaiting_recruiter",
    "linked": "connection.linked",
    "failed": "connection.failed",
}


def _announcement(step: Row, linked_before: bool) -> str | None:
    if step["event"] in _BY_EVENT:
        return _BY_EVENT[step["event"]]
    if step["source"] == step["target"]:
        return None
    name = _BY_STATE.get(step["target"])
    if step["event"] == "recovered" and name == "connection.awaiting_recruiter":
        return "connection.recovered"
    return "connection.recovered" if name == "connection.linked" and linked_before else name
