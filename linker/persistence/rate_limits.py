"""SharedRateLimits: how many calls all workers together may make to an account, or with a partner's client id.

Each ration is a row that says until when its calls are spread out at the allowed rate. The row is locked in the claim
that counts on it, so that no number of workers makes more calls than one. Sweeps may be a little ahead of the rate and
are put off when they would be more; what people ask for is counted and never put off.

An account's ration is kept only where several connections share the account: a connection alone is asked for once in
ten seconds at most. What Workable itself says is left is minded by each process (`linker.workable.rate_budget`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from linker.persistence.tables import RATION
from states.connection import Connection
from states.duties import Duty, extra_calls_for, next_duty

#: Workable counts in windows of so many seconds (documented).
WINDOW = 10.0
#: No ration is ever further ahead, in seconds: neither people who press a button again and again nor a clock that went
#: wrong keep the others waiting for longer.
LONGEST = 60.0
#: How many calls a duty makes, as a rule. A recruiter that was never issued is prepared without one.
CALLS = {Duty.VERIFY_TOKEN: 2, Duty.PREPARE_RECRUITER: 1, Duty.FIND_RECRUITER: 1, Duty.CHECK_HEALTH: 1}


@dataclass(frozen=True, slots=True)
class CallRate:
    """So many `calls` in a window, and how many seconds sweeps may be ahead of that rate."""

    calls: int
    ahead: float

    @property
    def pause(self) -> float:
        """The seconds from one call to the next at the allowed rate."""
        return WINDOW / self.calls


#: Of Workable's 10 calls in 10 s (documented) the customer's own tools keep the greater part.
ACCOUNT = CallRate(calls=4, ahead=5.0)
#: The same of the 50 that an account allows to partners (documented).
PARTNERS_ACCOUNT = CallRate(calls=20, ahead=5.0)
#: Of the 50 calls in 10 s with a partner's client id, over all accounts and workers: the rest is for people.
PARTNER = CallRate(calls=40, ahead=1.0)


class SharedRateLimits:
    """Counts calls in rows that all workers share. `client_id`: the partner's, if there is one."""

    def __init__(self, client_id: SecretStr | str | None = None) -> None:
        given = client_id.get_secret_value() if isinstance(client_id, SecretStr) else client_id
        #: The id is a credential of the host's: the row is named after a hash of it.
        self._partner = f"partner:{hashlib.sha256(given.encode()).hexdigest()[:16]}" if given else None

    def concern(self, *, shares: bool) -> bool:
        """True if there is something to count. `shares`: there are connections whose account has others too."""
        return shares or self._partner is not None

    def count(self, transaction: Transaction, claimed: Connection, now: datetime, *, shares: bool) -> None:
        """Count the calls for a connection that a person asks for. `shares`: others share its account."""
        self._spend(transaction, self._wanted([claimed], {claimed.id} if shares else set(), now), now, people=True)

    def share_out(
        self, transaction: Transaction, claimed: Iterable[Connection], sharing: Set[str], now: datetime
    ) -> dict[str, datetime]:
        """Count the calls for connections of a sweep, the first ones first; gives who has to wait, and until when.

        `sharing`: the ids of those whose account has other connections too.
        """
        return self._spend(transaction, self._wanted(claimed, sharing, now), now, people=False)

    def _wanted(
        self, claimed: Iterable[Connection], sharing: Set[str], now: datetime
    ) -> list[tuple[Connection, dict[str, CallRate]]]:
        """The connections that need a call, each with the rations that it is taken from."""
        wanted = []
        for one in claimed if self._partner or sharing else ():
            rations = {self._partner: PARTNER} if self._partner else {}
            if one.id in sharing:
                rations[f"account:{one.subdomain}"] = PARTNERS_ACCOUNT if self._partner else ACCOUNT
            if rations and _calls(one, now):
                wanted.append((one, rations))
        return wanted

    def _spend(
        self,
        transaction: Transaction,
        wanted: list[tuple[Connection, dict[str, CallRate]]],
        now: datetime,
        *,
        people: bool,
    ) -> dict[str, datetime]:
        if not wanted:
            return {}
        latest = now.timestamp() + LONGEST
        locked = _locked(transaction, {name for _, rations in wanted for name in rations})
        spread = {name: min(until, latest) for name, until in locked.items()}
        waiting: dict[str, datetime] = {}
        late: dict[str, float] = defaultdict(float)
        for one, rations in wanted:
            calls = _calls(one, now)
            room_at = max(spread[name] - ration.ahead for name, ration in rations.items())
            if people or room_at <= now.timestamp():
                for name, ration in rations.items():
                    spread[name] = max(spread[name], now.timestamp()) + calls * ration.pause
            else:
                tightest = max(rations, key=lambda name: spread[name] - rations[name].ahead)
                waiting[one.id] = datetime.fromtimestamp(room_at + late[tightest], UTC)
                late[tightest] += calls * rations[tightest].pause
        _write(transaction, spread)
        return waiting


def _calls(one: Connection, now: datetime) -> int:
    """How many calls to Workable the connection needs next."""
    duty = next_duty(one)
    if duty is Duty.PREPARE_RECRUITER and one.recruiter is None:
        return 0
    return CALLS[duty] + extra_calls_for(one, now) if duty in CALLS else 0


def _locked(transaction: Transaction, names: set[str]) -> dict[str, float]:
    """Lock these rations, in the order of their names so that nobody waits in a circle; made if they are new."""
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[transaction.dialect.name]
    rows: list[Mapping[str, Any]] = [{"name": name, "spread_until": 0.0} for name in sorted(names)]
    transaction.execute(insert(RATION).on_conflict_do_nothing(), rows)
    these = select(RATION).where(RATION.c.name.in_(names)).order_by(RATION.c.name).with_for_update()
    return {row.name: row.spread_until for row in transaction.execute(these)}


def _write(transaction: Transaction, spread: dict[str, float]) -> None:
    one = update(RATION).where(RATION.c.name == bindparam("this")).values(spread_until=bindparam("until"))
    transaction.execute(one, [{"this": name, "until": until} for name, until in sorted(spread.items())])
