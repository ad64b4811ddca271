"""How many calls we may make: a small part of Workable's limit, because the customer's own tools share it with us.

Two rules hold together, for each account and in any ten seconds:

* our own count. Background looks make at most 4 calls of Workable's 10. A verification may make 8: a person waits for
  it, it needs 2 to 4 calls, and someone who mends a slip tries again within seconds. Verifications are rare, so they do
  not spend what looks may use, nor the other way round.
* the further pages of a list that a look has begun: half a list proves nothing, and the next look would begin anew.
  They are counted, so that the next look waits; only what Workable says itself stops them.
* a person at Continue goes beyond that: whoever waits is not put off for what we take ourselves, and Workable's word
  is enough of a limit.
* Workable's own count, where it told us (`X-Rate-Limit-Remaining`): it knows what the customer's tools and our other
  processes used. Looks stop while less than 4 of 10 are left, verifications while less than 2 of 10 are.

With a partner's client id all numbers are five times as large. The memory is bounded and kept in the process; what
has to outlive it, a time that Workable named, is in the verdict and from there in the row.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from linker.engine.ports import Clock
from linker.http_client import LONGEST_WAIT_SECONDS, Headers, number
from linker.workable import api
from linker.workable.responses import throttled_until, window_left

ACCOUNTS_KEPT = 10_000
#: Ends of one window differ by this, because the servers' times are whole seconds.
SAME_WINDOW_SECONDS = 2.0
#: A window that would end later than this is a clock that goes wrong.
LONGEST_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Allowance:
    """What one kind of question may use of every 10 calls: our `own` most, and what has to be `left` over."""

    name: str
    own: int
    left: int


LOOK = Allowance("look", own=api.LOOKS_OF_TEN, left=4)
#: The further pages of a list that a look has begun, counted among the looks.
PAGES = Allowance("look", own=api.LOOKS_OF_TEN + api.MOST_FURTHER_PAGES, left=1)
VERIFICATION = Allowance("verification", own=api.VERIFICATIONS_OF_TEN, left=2)
#: A verification that a person waits for. Ten times Workable's limit: only a program presses as often.
PERSON = Allowance("person", own=100, left=0)


def named_by_workable(
    status: int, headers: Headers, now: datetime, *, limit: int, allowance: Allowance
) -> datetime | None:
    """Until when Workable wants no more calls of a kind, by its answer; None if they may go on.

    Args:
        status: the answer's.
        headers: its headers, by their lower-case names.
        now: the time.
        limit: the calls that Workable allows in a window, unless it says so itself.
        allowance: what has to be left over for others.
    """
    if status == 429:
        return throttled_until(headers, now)
    remaining = number(headers.get(api.REMAINING_HEADER))
    limit = number(headers.get(api.LIMIT_HEADER)) or limit
    if remaining is None or remaining * 10 >= allowance.left * limit:
        return None
    return now + timedelta(seconds=window_left(headers, now))


class _Account:
    """What is known of one account's limit. Times are Unix seconds."""

    __slots__ = ("_blocked", "_made", "_remaining", "_resets", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._made: dict[str, list[float]] = {}
        self._remaining = 0
        self._resets = 0.0
        self._blocked = 0.0

    def remaining(self, now: float) -> int | None:
        """How many calls are left in Workable's window, as far as we know."""
        return self._remaining if now < self._resets else None

    def forget_what_lies_ahead(self, now: float) -> None:
        """The clock was set back: forget what is so far ahead that it would be waited for too long."""
        if self._blocked > now + LONGEST_WAIT_SECONDS:
            self._blocked = 0.0
        if self._resets > now + LONGEST_WINDOW_SECONDS:
            self._resets = 0.0
        for name, made in list(self._made.items()):
            if made[-1] > now + api.WINDOW_SECONDS:
                del self._made[name]

    def free_at(self, allowance: Allowance, most: int, now: float) -> float:
        """When the next call may be made, of which there are `most` in a window; 0: that is not counted here."""
        made = self._made.get(allowance.name)
        own = made[-most] + api.WINDOW_SECONDS if made and most and len(made) >= most else 0.0
        remaining = self.remaining(now)
        short = remaining is not None and remaining * 10 < allowance.left * self.limit
        return max(self._blocked, own, self._resets if short else 0.0)

    def count(self, allowance: Allowance, most: int, now: float) -> None:
        """Count a call. Of each kind the last `most` are remembered: only the first of them matters."""
        made = self._made.setdefault(allowance.name, [])
        made.append(now)
        del made[:-most]
        self._remaining -= 1

    def learn(self, remaining: int, resets: float, now: float) -> None:
        """Answers may overtake one another: within one window the smaller number is the later one."""
        known = self.remaining(now)
        same = known is not None and resets <= self._resets + SAME_WINDOW_SECONDS
        self._remaining = min(remaining, known) if same and known is not None else remaining
        self._resets = max(self._resets, resets) if known is not None else resets

    def block(self, until: float) -> None:
        """Make no call before `until`."""
        self._blocked = max(self._blocked, until)

    def at_rest(self, now: float) -> bool:
        """True if nothing is known that still matters."""
        busy = any(now - api.WINDOW_SECONDS < made[-1] for made in self._made.values())
        return not busy and self.remaining(now) is None and self._blocked <= now


class RateBudget:
    """Counts the calls to each account and says when the next may be made."""

    def __init__(self, clock: Clock, *, partner: bool = False, kept: int = ACCOUNTS_KEPT) -> None:
        self._clock = clock
        self.limit = api.PARTNER_LIMIT if partner else api.ACCOUNT_LIMIT
        self._kept = kept
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        #: The latest time that was seen, in Unix seconds: an earlier one means that the clock was set back.
        self._latest = 0.0

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    def waits_until(self, subdomain: str, allowance: Allowance) -> datetime | None:
        """Until when Workable's own word forbids a call, whatever we made ourselves; None if it does not."""
        now = self._clock.now().timestamp()
        account = self._accounts.get(subdomain)
        until = account.free_at(allowance, 0, now) if account else 0.0
        return datetime.fromtimestamp(until, UTC) if until > now else None

    def spend(self, subdomain: str, allowance: Allowance) -> datetime | None:
        """Count one call; or, when none may be made, the time from which on one may."""
        now = self._clock.now().timestamp()
        account = self._account(subdomain, now)
        most = allowance.own * self.limit // 10
        until = account.free_at(allowance, most, now)
        if until > now:
            return datetime.fromtimestamp(until, UTC)
        account.count(allowance, most, now)
        return None

    def learn(self, subdomain: str, headers: Headers, at: datetime) -> None:
        """Remember what is left, as Workable said `at` this time. Headers that make no sense are passed over."""
        remaining = number(headers.get(api.REMAINING_HEADER))
        if remaining is None:
            return
        now = at.timestamp()
        account = self._account(subdomain, now)
        account.learn(remaining, now + window_left(headers, at), now)
        account.limit = number(headers.get(api.LIMIT_HEADER)) or self.limit

    def block(self, subdomain: str, until: datetime) -> None:
        """Workable refused a call (429): make none before `until`."""
        now = self._clock.now().timestamp()
        self._account(subdomain, now).block(until.timestamp())

    def is_roomy(self, subdomain: str) -> bool:
        """True if at least half of Workable's limit is left, as far as we know: room for a call that is not needed."""
        account = self._accounts.get(subdomain)
        remaining = account.remaining(self._clock.now().timestamp()) if account else None
        return account is None or remaining is None or remaining * 2 >= account.limit

    def _account(self, subdomain: str, now: float) -> _Account:
        if now < self._latest:
            for known in self._accounts.values():
                known.forget_what_lies_ahead(now)
        self._latest = now
        account = self._accounts.get(subdomain)
        if account is None:
            for _ in range(2):  # forget two that are at rest, of those that were not asked for longest
                oldest = next(iter(self._accounts), None)
                if oldest is not None and self._accounts[oldest].at_rest(now):
                    del self._accounts[oldest]
            while len(self._accounts) >= self._kept:
                self._accounts.popitem(last=False)
            account = self._accounts[subdomain] = _Account(self.limit)
        else:
            self._accounts.move_to_end(subdomain)
        return account
