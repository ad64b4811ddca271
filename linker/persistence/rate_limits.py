"""Rate limits that all workers and hosts share: how many calls they may make together to an account, or as one partner.

Each limit is a row. The row of an account holds the log of its calls of the last ten seconds
(`linker.workable.call_log`) and until when Workable, by its headers or a 429, wants no more of them; a partner's says
until when its calls are spread out at the allowed rate. A row is locked in the transaction that counts on it, so that
no number of processes makes more calls than one. Sweeps are put off when they would be more; what people ask for is
counted and never put off.

An account's row is kept only where somebody else may be calling: where several connections share the account, where a
person or a host called in the last ten seconds. A connection that is alone is asked for once in ten seconds at most. So
a host that begins to call counts what was asked just before, by the connections themselves. Tokens that are no good are
counted against the owner who gave them, so that nobody's account pays for what a stranger types.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, update

from linker.database.database import Database
from linker.database.statements import insert_into
from linker.engine.ports import BlockOfCalls
from linker.persistence.server_clock import DatabaseClock
from linker.persistence.tables import CONNECTION, RATE_LIMIT
from linker.workable.api import LOOKS_OF_TEN, PARTNER_LIMIT, VERIFICATIONS_OF_TEN, WINDOW_SECONDS
from linker.workable.call_log import LONGEST_AHEAD_SECONDS, Caller, CallLog
from states.connection import Connection, ConnectionState
from states.duties import calls_needed

#: How long a time that Workable named is believed at most.
LONGEST_BLOCK_SECONDS = 3600.0
#: How accounts' rows are named, before the subdomain.
ACCOUNT = "account:"


@dataclass(frozen=True, slots=True)
class CallRate:
    """So many `calls` in a window, and how many seconds sweeps may be ahead of that rate."""

    calls: int
    ahead_seconds: float

    @property
    def pause_seconds(self) -> float:
        """The seconds from one call to the next at the allowed rate."""
        return WINDOW_SECONDS / self.calls


#: With a partner's client id, over all accounts and workers: the rest is for people.
PARTNER = CallRate(calls=PARTNER_LIMIT * VERIFICATIONS_OF_TEN // 10, ahead_seconds=1.0)


@dataclass(slots=True)
class _Partner:
    """A partner's limit, as its row has it: until when its calls are spread out, in Unix seconds."""

    spread_until: float

    def count(self, calls: int, now: float) -> None:
        self.spread_until = max(self.spread_until, now) + calls * PARTNER.pause_seconds

    def free_at(self) -> float:
        return self.spread_until - PARTNER.ahead_seconds


@dataclass(slots=True)
class _Account:
    """An account's limit, as its row has it."""

    log: CallLog
    blocked_until: float

    @property
    def matters_until(self) -> float:
        return max(self.log.matters_until, self.blocked_until)


class SharedRateLimits:
    """Counts calls in rows that all processes share. `client_id`: the partner's, if there is one."""

    def __init__(self, client_id: SecretStr | str | None = None) -> None:
        given = client_id.get_secret_value() if isinstance(client_id, SecretStr) else client_id
        #: The id is a credential of the host's: the row is named after a hash of it.
        self._partner = f"partner:{hashlib.sha256(given.encode()).hexdigest()[:16]}" if given else None

    @property
    def is_partner(self) -> bool:
        """True if all calls share the limit of a partner's client id, whatever their account."""
        return self._partner is not None

    def count(self, transaction: Transaction, claimed: Connection, now: datetime) -> None:
        """Count the calls for a connection that a person asks for; those for a hint are counted once they are made."""
        self.add(transaction, [(claimed, calls_needed(claimed, now))], now)

    def add(self, transaction: Transaction, calls: Iterable[tuple[Connection, int]], now: datetime) -> None:
        """Count calls that somebody waits for, or that were made already: so many for each of these connections."""
        by_row: Counter[str] = Counter()
        for connection, number in calls:
            by_row.update({each: number for each in (account_row(connection), self._partner) if each and number})
        rows = self._locked(transaction, set(by_row), now.timestamp())
        for name, row in rows.items():
            if isinstance(row, _Account):
                row.log.add(Caller.PERSON, by_row[name])
            else:
                row.count(by_row[name], now.timestamp())
        _write(transaction, rows)

    def share_out(
        self, transaction: Transaction, claimed: Iterable[Connection], sharing: Set[str], now: datetime
    ) -> dict[str, datetime]:
        """Count the calls for connections of a sweep, the first ones first; gives who has to wait, and until when.

        `sharing`: the ids of those whose account others call too.
        """
        seconds = now.timestamp()
        wanted: list[tuple[Connection, int, str | None]] = []
        for one in claimed:
            name = account_row(one) if one.id in sharing else None
            calls = calls_needed(one, now) if name or self._partner else 0
            if calls:
                wanted.append((one, calls, name))
        names = {name for *_, name in wanted if name is not None}
        rows = self._locked(transaction, names | ({self._partner} if wanted and self._partner else set()), seconds)
        waiting: dict[str, datetime] = {}
        late: dict[str, float] = defaultdict(float)
        for one, calls, name in wanted:
            free: dict[str, float] = {}
            for limit in (name, self._partner):
                row = rows.get(limit or "")
                if isinstance(row, _Account):
                    free[str(limit)] = max(row.log.free_at(Caller.LOOK, calls), row.blocked_until)
                elif row is not None:
                    free[str(limit)] = row.free_at()
            tightest = max(free, key=lambda limit: free[limit])
            if free[tightest] > seconds:
                waiting[one.id] = datetime.fromtimestamp(free[tightest] + late[tightest], UTC)
                late[tightest] += calls * (LATER_SECONDS if tightest == name else PARTNER.pause_seconds)
                continue
            for limit in free:
                row = rows[limit]
                if isinstance(row, _Account):
                    row.log.add(Caller.LOOK, calls)
                else:
                    row.count(calls, seconds)
        _write(transaction, rows)
        return waiting

    def take_block(
        self,
        transaction: Transaction,
        subdomain: str,
        now: datetime,
        *,
        block: BlockOfCalls,
        given_back: Mapping[str, Sequence[float]],
    ) -> BlockOfCalls:
        """Give back blocks of a host's process, and take a new one; see `HostCalls.take`."""
        seconds, name = now.timestamp(), f"{ACCOUNT}{subdomain}"
        # the connections first, as in a claim: so nobody waits in a circle, and no claim begins beside us
        these = select(CONNECTION.c.state, CONNECTION.c.updated_at, CONNECTION.c.lease_until).where(
            CONNECTION.c.subdomain == subdomain, CONNECTION.c.closed_at.is_(None), CONNECTION.c.account_id.is_not(None)
        )
        connections = transaction.execute(these.order_by(CONNECTION.c.id).with_for_update()).all()
        rows = self._locked(transaction, {each for each in (name, self._partner) if each is not None}, seconds)
        account = rows[name]
        assert isinstance(account, _Account)
        if not account.log.calls:
            for one in connections:
                at = seconds if one.lease_until is not None and one.lease_until > now else one.updated_at.timestamp()
                if 0 <= seconds - at < WINDOW_SECONDS:
                    account.log.add(Caller.LOOK, 1 if one.state == ConnectionState.LINKED else 2, until=at)
        for former, made in given_back.items():
            account.log.replace_block(former, made)
        free_at, calls = account.blocked_until, 0
        partner = rows.get(self._partner or "")
        if isinstance(partner, _Partner):
            free_at = max(free_at, partner.free_at())
        if free_at <= seconds and block.calls:
            calls = min(block.calls, account.log.room(Caller.HOST))
            if calls <= 0:
                calls, free_at = 0, account.log.free_at(Caller.HOST, 1)
            else:
                account.log.add(Caller.HOST, calls, until=block.until, block=block.name)
                if isinstance(partner, _Partner):
                    partner.count(calls, seconds)
        _write(transaction, rows)
        return replace(block, calls=calls, free_at=free_at)

    def learn(self, transaction: Transaction, until: Mapping[str, datetime], now: datetime) -> None:
        """Workable wants no calls to these accounts before these times: let all processes know."""
        rows = self._locked(transaction, {f"{ACCOUNT}{subdomain}" for subdomain in until}, now.timestamp())
        for subdomain, at in until.items():
            account = rows[f"{ACCOUNT}{subdomain}"]
            assert isinstance(account, _Account)
            account.blocked_until = max(account.blocked_until, at.timestamp())
        _write(transaction, rows)

    def _locked(self, transaction: Transaction, names: set[str], now: float) -> dict[str, _Account | _Partner]:
        """Lock these rows, in the order of their names so that nobody waits in a circle; made if they are new."""
        found: dict[str, _Account | _Partner] = {}
        while found.keys() < names:  # one that was pruned between the two statements is made once more
            _make(transaction, names)
            found = self._read_locked(transaction, names, now)
        return found

    def _read_locked(self, transaction: Transaction, names: set[str], now: float) -> dict[str, _Account | _Partner]:
        these = select(RATE_LIMIT).where(RATE_LIMIT.c.name.in_(names)).order_by(RATE_LIMIT.c.name).with_for_update()
        found: dict[str, _Account | _Partner] = {}
        for row in transaction.execute(these):
            if row.name == self._partner:
                found[row.name] = _Partner(min(row.spread_until, now + LONGEST_AHEAD_SECONDS))
            else:
                blocked = row.blocked_until or 0.0
                log = CallLog.stored(row.calls, now, partner=self._partner is not None)
                if blocked > now + LONGEST_BLOCK_SECONDS:  # a wrong clock wrote it
                    blocked = now + LONGEST_AHEAD_SECONDS
                found[row.name] = _Account(log, blocked)
        return found


#: Sweeps that wait for the same account come one after another, so many seconds apart for each call.
LATER_SECONDS = WINDOW_SECONDS / LOOKS_OF_TEN


def account_row(connection: Connection) -> str | None:
    """The name of the limit that a connection's calls count in; None: they go to no account that is verified.

    What somebody types must not cost the account that it names: only a token that was accepted makes it theirs.
    """
    account, candidate = connection.account, connection.candidate
    elsewhere = account is not None and candidate is not None and candidate.subdomain != account.subdomain
    return None if account is None or elsewhere else f"{ACCOUNT}{account.subdomain}"


def _write(transaction: Transaction, rows: Mapping[str, _Account | _Partner]) -> None:
    """Write rows that are locked. `spread_until` of an account says until when its row matters to others."""
    values = [
        {"this": name, "until": row.matters_until, "blocked": row.blocked_until, "log": row.log.as_stored()}
        if isinstance(row, _Account)
        else {"this": name, "until": row.spread_until, "blocked": None, "log": None}
        for name, row in sorted(rows.items())
    ]
    if values:
        one_row = update(RATE_LIMIT).where(RATE_LIMIT.c.name == bindparam("this"))
        transaction.execute(
            one_row.values(spread_until=bindparam("until"), blocked_until=bindparam("blocked"), calls=bindparam("log")),
            values,
        )


#: Each refused attempt spreads an owner's next ones further out by so many seconds.
REFUSED_PAUSE_SECONDS = 6.0
#: So far ahead they may be before the next one has to wait: ten slips in a row cost nobody anything.
REFUSED_AHEAD_SECONDS = 60.0


def _attempts_of(owner: str) -> str:
    """The name of an owner's row; the owner's own name is the host's."""
    return f"attempts:{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


def attempts_wait_until(transaction: Transaction, owners: Iterable[str], now: datetime) -> dict[str, datetime]:
    """Until when the next attempt of each of these owners has to wait of whom too many were refused."""
    by_name = {_attempts_of(owner): owner for owner in owners}
    query = select(RATE_LIMIT.c.name, RATE_LIMIT.c.spread_until).where(RATE_LIMIT.c.name.in_(by_name))
    longest = now.timestamp() + 2 * REFUSED_AHEAD_SECONDS
    until = {row.name: min(row.spread_until, longest) - REFUSED_AHEAD_SECONDS for row in transaction.execute(query)}
    waiting = {name: each for name, each in until.items() if each > now.timestamp()}
    return {by_name[name]: datetime.fromtimestamp(each, UTC) for name, each in waiting.items()}


def count_refused_attempts(transaction: Transaction, owners: Iterable[str], now: datetime) -> None:
    """Count attempts that were refused against those who made them."""
    counts = Counter(_attempts_of(owner) for owner in owners)
    if not counts:
        return
    seconds = now.timestamp()
    _make(transaction, counts)
    these = select(RATE_LIMIT).where(RATE_LIMIT.c.name.in_(counts)).order_by(RATE_LIMIT.c.name).with_for_update()
    spread = {row.name: row.spread_until for row in transaction.execute(these)}
    for name, count in sorted(counts.items()):
        until = min(max(spread[name], seconds) + count * REFUSED_PAUSE_SECONDS, seconds + 2 * REFUSED_AHEAD_SECONDS)
        transaction.execute(update(RATE_LIMIT).where(RATE_LIMIT.c.name == name).values(spread_until=until))


def _make(transaction: Transaction, names: Iterable[str]) -> None:
    """Make the rows that are new, in the order of their names."""
    new: list[Mapping[str, Any]] = [{"name": name, "spread_until": 0.0} for name in sorted(names)]
    transaction.execute(insert_into(transaction, RATE_LIMIT).on_conflict_do_nothing(), new)


class HostCalls:
    """The calls of hosts, in the same rows: each method is one transaction.

    Where the server's clock is everybody's it is read in that transaction: a process that was asleep, and does not know
    it yet, would take what the others wrote for over.
    """

    def __init__(self, database: Database, limits: SharedRateLimits, server_clock: DatabaseClock | None = None) -> None:
        """Take the database, what counts in it, and the server's clock if that is everybody's."""
        self._database = database
        self._limits = limits
        self._server_clock = server_clock

    async def take(
        self, subdomain: str, *, now: datetime, block: BlockOfCalls, given_back: Mapping[str, Sequence[float]]
    ) -> BlockOfCalls:
        """Take a block of calls to an account, at most as many as it asks for.

        Args:
            subdomain: the account's.
            now: the time.
            block: its name, how many calls are wanted, and until when they are going to be made.
            given_back: former blocks of this process, by their names, with the times of the calls that were made.
        """

        def take(transaction: Transaction) -> BlockOfCalls:
            at = self._now(transaction, now)
            lasting = replace(block, until=block.until + (at - now).total_seconds())
            return self._limits.take_block(transaction, subdomain, at, block=lasting, given_back=given_back)

        return await self._database.write_without_fsync(take)

    async def learn(self, until: Mapping[str, datetime], *, now: datetime) -> None:
        """Workable wants no calls to these accounts, by their subdomains, before these times."""

        def learn(transaction: Transaction) -> None:
            at = self._now(transaction, now)
            self._limits.learn(transaction, {name: each + (at - now) for name, each in until.items()}, at)

        await self._database.write_without_fsync(learn)

    def _now(self, transaction: Transaction, told: datetime) -> datetime:
        return told if self._server_clock is None else self._server_clock.read_in(transaction)
