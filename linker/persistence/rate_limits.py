"""Rate limits that all workers share: how many calls they may make together to an account, or as one partner.

Each limit is a row that says until when its calls are spread out at the allowed rate. The row is locked in the claim
that counts on it, so that no number of workers makes more calls than one. Sweeps may be a little ahead of the rate and
are put off when they would be more; what people ask for is counted and never put off.

An account's row is kept only where several connections share the account: a connection alone is asked for once in
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

from linker.persistence.tables import RATE_LIMIT
from linker.workable.api import ACCOUNT_LIMIT, LOOKS_OF_TEN, PARTNER_LIMIT, VERIFICATIONS_OF_TEN, WINDOW_SECONDS
from states.connection import Connection
from states.duties import calls_needed

#: No limit is ever further ahead: neither people who press a button again and again nor a clock that went wrong keep
#: the others waiting for longer.
LONGEST_AHEAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CallRate:
    """So many `calls` in a window, and how many seconds sweeps may be ahead of that rate."""

    calls: int
    ahead_seconds: float

    @property
    def pause_seconds(self) -> float:
        """The seconds from one call to the next at the allowed rate."""
        return WINDOW_SECONDS / self.calls


ACCOUNT = CallRate(calls=ACCOUNT_LIMIT * LOOKS_OF_TEN // 10, ahead_seconds=5.0)
#: The same of what an account allows to partners.
PARTNERS_ACCOUNT = CallRate(calls=PARTNER_LIMIT * LOOKS_OF_TEN // 10, ahead_seconds=5.0)
#: With a partner's client id, over all accounts and workers: the rest is for people.
PARTNER = CallRate(calls=PARTNER_LIMIT * VERIFICATIONS_OF_TEN // 10, ahead_seconds=1.0)


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
        self._spend(transaction, [claimed], {claimed.id} if shares else set(), now, people=True)

    def share_out(
        self, transaction: Transaction, claimed: Iterable[Connection], sharing: Set[str], now: datetime
    ) -> dict[str, datetime]:
        """Count the calls for connections of a sweep, the first ones first; gives who has to wait, and until when.

        `sharing`: the ids of those whose account has other connections too.
        """
        return self._spend(transaction, claimed, sharing, now, people=False)

    def _spend(
        self, transaction: Transaction, claimed: Iterable[Connection], sharing: Set[str], now: datetime, *, people: bool
    ) -> dict[str, datetime]:
        wanted: list[tuple[Connection, dict[str, CallRate]]] = []
        for one in claimed if self._partner or sharing else ():
            limits = {self._partner: PARTNER} if self._partner else {}
            if one.id in sharing:
                limits[f"account:{one.subdomain}"] = PARTNERS_ACCOUNT if self._partner else ACCOUNT
            if limits and calls_needed(one, now):
                wanted.append((one, limits))
        if not wanted:
            return {}
        seconds = now.timestamp()
        spread = _locked(transaction, {name for _, limits in wanted for name in limits})
        spread = {name: min(until, seconds + LONGEST_AHEAD_SECONDS) for name, until in spread.items()}
        waiting: dict[str, datetime] = {}
        late: dict[str, float] = defaultdict(float)
        for one, limits in wanted:
            calls = calls_needed(one, now)
            room_at = {name: spread[name] - rate.ahead_seconds for name, rate in limits.items()}
            tightest = max(room_at, key=lambda name: room_at[name])
            if people or room_at[tightest] <= seconds:
                for name, rate in limits.items():
                    spread[name] = max(spread[name], seconds) + calls * rate.pause_seconds
            else:
                waiting[one.id] = datetime.fromtimestamp(room_at[tightest] + late[tightest], UTC)
                late[tightest] += calls * limits[tightest].pause_seconds
        one_row = update(RATE_LIMIT).where(RATE_LIMIT.c.name == bindparam("this"))
        rows = [{"this": name, "until": until} for name, until in sorted(spread.items())]
        transaction.execute(one_row.values(spread_until=bindparam("until")), rows)
        return waiting


def _locked(transaction: Transaction, names: set[str]) -> dict[str, float]:
    """Lock these rows, in the order of their names so that nobody waits in a circle; made if they are new."""
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[transaction.dialect.name]
    rows: list[Mapping[str, Any]] = [{"name": name, "spread_until": 0.0} for name in sorted(names)]
    transaction.execute(insert(RATE_LIMIT).on_conflict_do_nothing(), rows)
    these = select(RATE_LIMIT).where(RATE_LIMIT.c.name.in_(names)).order_by(RATE_LIMIT.c.name).with_for_update()
    return {row.name: row.spread_until for row in transaction.execute(these)}
