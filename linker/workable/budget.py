"""How many calls we may make: a small part of Workable's limit, because the customer's own tools share it with us.

Two rules hold together, for each account and in any ten seconds:

* our own count. Background looks make at most 4 calls of Workable's 10. A verification may make 8: a person waits for
  it, it needs 2 to 4 calls, and someone who mends a slip tries again within seconds. Verifications are rare, so they do
  not spend what looks may use, nor the other way round.
* Workable's own count, where it told us (`X-Rate-Limit-Remaining`): it knows what the customer's tools and our other
  processes used. Looks stop while less than 4 of 10 are left, verifications while less than 2 of 10 are.

With a partner's client id all numbers are five times as large. The memory is bounded and kept in the process; what
has to outlive it, a time that Workable named, is in the verdict and from there in the row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from linker.ports import Clock
from linker.workable import facts

ACCOUNTS_KEPT = 10_000
#: A window that would end later than this, in seconds, is a clock that goes wrong.
LONGEST_WINDOW = 60.0


@dataclass(frozen=True)
class Allowance:
    """What one kind of question may use of every 10 calls: our `own` most, and what has to be `left` over."""

    name: str
    own: int
    left: int


LOOK = Allowance("look", own=4, left=4)
VERIFICATION = Allowance("verification", own=8, left=2)


class _Account:
    """What is known of one account's limit. Times are Unix seconds."""

    __slots__ = ("blocked", "calls", "limit", "remaining", "resets")

    def __init__(self, limit: int) -> None:
        self.calls: dict[str, list[float]] = {}
        self.limit = limit
        self.remaining: int | None = None
        self.resets = 0.0
        self.blocked = 0.0

    def forget(self, now: float) -> None:
        """Drop what the window has left behind, and what lies so far ahead that the clock was set back since."""
        if not now < self.resets <= now + LONGEST_WINDOW:
            self.remaining, self.resets = None, 0.0
        if self.blocked > now + facts.MAX_WAIT:
            self.blocked = 0.0
        for name, made in self.calls.items():
            self.calls[name] = [at for at in made if now - facts.WINDOW < at <= now + facts.WINDOW]

    def at_rest(self, now: float) -> bool:
        """True if nothing is known that still matters."""
        self.forget(now)
        return self.remaining is None and self.blocked <= now and not any(self.calls.values())


class Budget:
    """Counts the calls to each account and says when the next may be made."""

    def __init__(self, clock: Clock, *, partner: bool = False, kept: int = ACCOUNTS_KEPT) -> None:
        self._clock = clock
        self._limit = facts.PARTNER_LIMIT if partner else facts.ACCOUNT_LIMIT
        self._kept = kept
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    def spend(self, subdomain: str, allowance: Allowance) -> datetime | None:
        """Count one call; or, when none may be made, the time from which on one may."""
        now = self._clock.now().timestamp()
        account = self._account(subdomain, now)
        made = account.calls.setdefault(allowance.name, [])
        until = max(account.blocked, self._own(made, allowance), self._left(account, allowance))
        if until > now:
            return datetime.fromtimestamp(until, UTC)
        made.append(now)
        if account.remaining is not None:
            account.remaining -= 1
        return None

    def _own(self, made: list[float], allowance: Allowance) -> float:
        most = allowance.own * self._limit // 10
        return made[-most] + facts.WINDOW if len(made) >= most else 0.0

    def _left(self, account: _Account, allowance: Allowance) -> float:
        if account.remaining is None or account.remaining * 10 >= allowance.left * account.limit:
            return 0.0
        return account.resets

    def learn(self, subdomain: str, headers: Mapping[bytes, bytes], at: datetime) -> None:
        """Remember what is left, as Workable said `at` this time. Headers that make no sense are passed over."""
        remaining = number(headers.get(facts.REMAINING_HEADER))
        if remaining is None:
            return
        now = at.timestamp()
        account = self._account(subdomain, now)
        resets = number(headers.get(facts.RESET_HEADER))
        if resets is None or not now < resets <= now + LONGEST_WINDOW:
            resets = int(now + facts.WINDOW)
        same = account.remaining is not None and resets <= account.resets
        # Answers may overtake one another: within one window the smaller number is the later one.
        account.remaining = min(remaining, account.remaining) if same and account.remaining is not None else remaining
        account.resets = max(account.resets, float(resets))
        account.limit = number(headers.get(facts.LIMIT_HEADER)) or self._limit

    def block(self, subdomain: str, until: datetime) -> None:
        """Workable refused a call (429): make none before `until`."""
        account = self._account(subdomain, self._clock.now().timestamp())
        account.blocked = max(account.blocked, until.timestamp())

    def is_roomy(self, subdomain: str) -> bool:
        """True if at least half of Workable's limit is left, as far as we know: room for a call that is not needed."""
        account = self._accounts.get(subdomain)
        return account is None or account.remaining is None or account.remaining * 2 >= account.limit

    def _account(self, subdomain: str, now: float) -> _Account:
        account = self._accounts.get(subdomain)
        if account is None:
            self._make_room(now)
            account = self._accounts[subdomain] = _Account(self._limit)
            return account
        self._accounts.move_to_end(subdomain)
        account.forget(now)
        return account

    def _make_room(self, now: float) -> None:
        """Forget the accounts that were not asked for longest: two that are at rest, or one that is not if full."""
        for _ in range(2):
            oldest = next(iter(self._accounts), None)
            if oldest is not None and self._accounts[oldest].at_rest(now):
                del self._accounts[oldest]
        while len(self._accounts) >= self._kept:
            self._accounts.popitem(last=False)


def number(value: bytes | None) -> int | None:
    """The whole number in a header; None if there is none, or one that is too long to be sensible."""
    return int(value) if value is not None and len(value) <= 12 and value.isdigit() else None
