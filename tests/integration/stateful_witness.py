"""The sandbox's log as a witness: which calls were made for which connection, and whether they bear a step out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import combinations

from linker.sandbox import LogEntry, World
from linker.sandbox.faults import SPOILING
from tests.integration.stateful_ledger import Row, Snapshot
from tests.integration.stateful_workers import Exchange

#: The most calls that we make with one token in Workable's window, of 10, as long as its answers reach us whole.
MOST = 9
#: The most that one worker makes to one account in any ten seconds, whatever Workable says: looks and verifications.
MOST_BLINDLY, WINDOW = 4 + 8, timedelta(seconds=10)
#: A refusal is believed after so many, spread over this time.
REFUSALS, SPREAD = 3, timedelta(hours=1)
#: A token that works is refused in these ways; they count together, and the last one names the end.
REFUSING = {"token_revoked": 401, "scope_lost": 403, "account_moved": 422, "account_gone": 401}
#: How long after its deadline a recruiter may be there and still be called overdue, because nobody could look.
GRACE = timedelta(days=1)
#: Steps that say that Workable is out of order, and what is a fault of the program.
TROUBLE = {"workable_unavailable", "answer_not_understood"}


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What was done in one step of the test, as far as it matters to the witness."""

    #: The connections that somebody asked for, for whom calls are in order while they are not closed.
    asked: frozenset[str] = frozenset()
    #: The connections that were paused, closed or the like at the same time as something else.
    disturbed: frozenset[str] = frozenset()
    healthy: bool = True
    stalled: bool = False
    #: One thing was done, by a worker that lives: nothing of Workable's answers was lost on the way.
    orderly: bool = True


@dataclass
class Witness:
    """Remembers all calls, by the connection whose token they carried."""

    world: World
    #: The connection of each token, by the fingerprint that the sandbox gives it.
    whose: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[LogEntry]] = field(default_factory=lambda: defaultdict(list))
    #: Windows in which somebody else used a token's limit, or in which an answer that told it was lost.
    unclear: set[tuple[str, int]] = field(default_factory=set)
    #: How many calls there were.
    made: int = 0
    _counted: Counter[tuple[str, int]] = field(default_factory=Counter)
    _asked: dict[tuple[str, str], list[datetime]] = field(default_factory=lambda: defaultdict(list))

    def check(self, before: Snapshot, after: Snapshot, deed: Deed, wire: Collection[Exchange]) -> None:
        """Take the new calls down; each was in order, and each new step is borne out by calls."""
        new: dict[str, list[LogEntry]] = defaultdict(list)
        for entry in self.world.log:
            assert entry.fingerprint in self.whose, "a call with a token that nobody gave"
            new[self.whose[entry.fingerprint]].append(entry)
            self.made += 1
            self._count(entry, deed)
        self.world.forget_requests()
        self._check_share(before, deed, wire)
        for connection_id, entries in new.items():
            self.calls[connection_id] += entries
        try:
            for connection_id in new:
                self._check_due(before.connections.get(connection_id), new[connection_id][0], connection_id, deed)
            if not deed.stalled:
                self._check_alone(wire)
            for connection_id in after.connections:
                self._check_steps(before, after, connection_id, deed)
        except _Doubt as doubt:
            made = "\n".join(map(_line, self.calls[doubt.connection_id][-12:]))
            raise AssertionError(f"{doubt}\n{after.story(doubt.connection_id)}\n  last calls\n{made}") from None

    # politeness

    def _count(self, entry: LogEntry, deed: Deed) -> None:
        """No token makes more calls in a window than it may, and the sandbox never has to refuse one."""
        window = (str(entry.fingerprint), int(entry.at) // 10)
        if entry.fault is not None or not deed.orderly:
            self.unclear.add(window)
        if (entry.fault is not None and entry.fault not in SPOILING) or entry.status == 401:
            return
        self._counted[window] += 1
        if window not in self.unclear:
            assert self._counted[window] <= MOST, f"{self._counted[window]} calls of one token in ten seconds"
            assert entry.status != 429, "Workable's limit was used up by us alone"

    def _check_share(self, before: Snapshot, deed: Deed, wire: Collection[Exchange]) -> None:
        """Even without a word from Workable no worker asks one account too often, but where a person gave a token.

        Whoever waits for the verification of a token is put off by Workable's word only.
        """
        accepted = {row["token_fingerprint"] for row in before.connections.values()}
        for one in wire:
            if self.whose[one.fingerprint] in deed.asked and one.fingerprint not in accepted:
                continue
            asked = self._asked[one.worker, one.subdomain]
            asked.append(one.at)
            lately = [at for at in asked if at > one.at - WINDOW]
            assert one.subdomain == "www" or len(lately) <= MOST_BLINDLY, f"{len(lately)} calls in ten seconds"
            self._asked[one.worker, one.subdomain] = lately

    def _check_due(self, row: Row | None, first: LogEntry, connection_id: str, deed: Deed) -> None:
        """Nobody is called for what is closed, at rest or not due, nor before the time that Workable named."""
        if row is None or connection_id in deed.disturbed:
            return
        at = datetime.fromtimestamp(first.at, UTC) + timedelta(milliseconds=1)
        _expect(row["closed_at"] is None and row["paused_at"] is None, "a call for what is at rest", row)
        early = row["not_before"] is not None and row["not_before"] > at and first.subdomain == row["subdomain"]
        _expect(not early, "a call before Workable's own time", row)
        if connection_id not in deed.asked:
            _expect(row["due_at"] is not None and row["due_at"] <= at, "a call for what is not due", row)

    def _check_alone(self, wire: Collection[Exchange]) -> None:
        """A connection is attended by one worker at a time."""
        ordered = sorted(wire, key=lambda one: one.began)
        for one, other in combinations(ordered, 2):
            if other.began < one.ended and self.whose[one.fingerprint] == self.whose[other.fingerprint]:
                raise _Doubt(self.whose[one.fingerprint], "two calls for one connection at the same time")

    # verdicts

    def _check_steps(self, before: Snapshot, after: Snapshot, connection_id: str, deed: Deed) -> None:
        for step in after.new_steps(before, connection_id):
            row = after.connections[connection_id]
            _expect(step["event"] != "attention_failed", "a fault of the program", row)
            if deed.healthy and not deed.stalled:
                _expect(step["event"] not in TROUBLE, f"{step['event']} while nothing was wrong", row)
            old = before.connections.get(connection_id, row)
            borne_out = self._borne_out(step, after, row, old)
            _expect(borne_out, f"no call bears out step {step['seq']}: {step['event']} {step['problem'] or ''}", row)

    def _borne_out(self, step: Row, after: Snapshot, row: Row, old: Row) -> bool:
        """True if the step says no more than what Workable answered, infrastructure trouble apart."""
        since = _given_at(after.steps[row["id"]], step["seq"])
        said = [entry for entry in self.calls[row["id"]] if since <= entry.at <= step["at"].timestamp()]
        match step["event"]:
            case "token_accepted" | "replacement_accepted":
                return _count(said, 200, "/accounts/") > 0 and _count(said, 200, "/recruiters") > 0
            case "token_refused" | "subdomain_mismatched" | "scope_missing" | "replacement_refused":
                return self._refusal(step["problem"], said, row)
            case "account_taken":
                return _count(said, 200, "/accounts/") > 0
            case "recruiter_prepared" | "recovered" if step["target"] == "awaiting_recruiter":
                return step["event"] == "recruiter_prepared" or _count(said, 200, "/recruiters") > 0
            case "account_renamed":
                told = [entry for entry in said if entry.subdomain == "www"]
                return (
                    _count(told, 200, "/accounts") > 0 and self.name_of(row["account_id"]) == row["account_subdomain"]
                )
            case "recruiter_prepared" | "recruiter_found" | "health_confirmed" | "recovered":
                return _count(said, 200, "/recruiters") > 0 and self.is_there(row)
            case "recruiter_overdue":
                return not self.is_there(row) or bool(old["deadline"] and step["at"] >= old["deadline"] + GRACE)
            case "recruiter_vanished":
                return not self.is_there(row) and _repeated(self.calls[row["id"]], {200}, old["last_ok_at"], step["at"])
            case "token_revoked" | "scope_lost" | "account_moved" | "account_gone":
                named = _count(said, REFUSING[step["event"]]) > 0
                return named and _repeated(self.calls[row["id"]], REFUSING.values(), old["last_ok_at"], step["at"])
        return True

    def _refusal(self, problem: str, said: list[LogEntry], row: Row) -> bool:
        """A token is turned down only by an answer that turns it down."""
        match problem:
            case "token_refused":
                return _count(said, 401) > 0
            case "scope_missing":
                return _count(said, 403) > 0
            case "subdomain_mismatch":
                ours = self.name_of(row["account_id"]) if row["account_id"] else None
                elsewhere = [entry for entry in said if entry.subdomain != ours]
                other_account = ours is not None and _count(elsewhere, 200, "/accounts/") > 0
                return _count(said, 422) > 0 or _count(said, 404, "/accounts/") > 1 or other_account
            case "answer_not_understood":
                return _count(said, None) > 1
            case "workable_unavailable":  # only of another host than the one that the token in use has
                return not said or {entry.subdomain for entry in said} != {row["subdomain"]}
        return False

    def is_there(self, row: Row) -> bool:
        """True if the connection's recruiter is in its account, in whichever capitals."""
        listed = self.world.recruiters(self.name_of(row["account_id"]))
        return row["recruiter_email"].casefold() in {each.email.casefold() for each in listed}

    def name_of(self, account_id: str) -> str:
        """The subdomain that an account has now, whatever it was called before."""
        [name] = [account.subdomain for account in self.world.accounts if account.id == account_id]
        return name


class _Doubt(AssertionError):
    """Something is not right with a connection."""

    def __init__(self, connection_id: str, what: str) -> None:
        super().__init__(what)
        self.connection_id = connection_id


def _expect(holds: bool, what: str, row: Mapping[str, object]) -> None:
    if not holds:
        raise _Doubt(str(row["id"]), what)


def _given_at(steps: list[Row], seq: int) -> float:
    """When the last token before this step was given."""
    given = [step["at"] for step in steps[:seq] if step["event"] in {"token_submitted", "replacement_submitted"}]
    return float(given[-1].timestamp()) if given else 0.0


def _count(said: list[LogEntry], status: int | None, path: str = "") -> int:
    return sum((status is None or entry.status == status) and path in entry.path for entry in said)


def _repeated(calls: list[LogEntry], statuses: Collection[int], last_ok_at: datetime | None, until: datetime) -> bool:
    """True if these answers came often enough, over long enough, since all was well."""
    good = last_ok_at.timestamp() if last_ok_at else 0.0
    at = [entry.at for entry in calls if entry.status in statuses and good <= entry.at]
    slack = timedelta(minutes=1).total_seconds()  # an answer is a little older than what it leads to
    return len(at) >= REFUSALS and until.timestamp() - at[0] >= SPREAD.total_seconds() - slack


def _line(entry: LogEntry) -> str:
    at = datetime.fromtimestamp(entry.at, UTC)
    return (
        f"    {at:%d %H:%M:%S.%f} {entry.subdomain}{entry.path} {entry.status} {entry.fault or ''} {entry.fingerprint}"
    )
