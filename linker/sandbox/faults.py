"""What can go wrong on demand, and the rules that say where and how often it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from linker.sandbox.models import WorldError

#: The subdomain that stands for all of them, `www` and unknown ones too.
EVERYWHERE = "*"

_LONGEST_SECONDS = 3600.0


class Fault(StrEnum):
    """A way for Workable to misbehave, each really happening on the wire."""

    #: 401 with the nested body that the real service sends (probed).
    UNAUTHORIZED = "unauthorized"
    #: 401 with the short body of Workable's documentation.
    UNAUTHORIZED_DOCUMENTED = "unauthorized_documented"
    #: 403, the token lacks the scope (Workable's documentation; never recorded).
    FORBIDDEN = "forbidden"
    #: 422, the token belongs to another account (recorded from the real service).
    MISMATCH = "mismatch"
    #: 404 until healed (recorded from the real service).
    NOT_FOUND = "not_found"
    #: 404 with an HTML page, as old links of a renamed account end (Workable's documentation, of its pages).
    NOT_FOUND_PAGE = "not_found_page"
    #: 404 on every other request for the same thing, as integrators report it.
    SPURIOUS_404 = "spurious_404"
    #: 429 with the documented X-Rate-Limit headers.
    THROTTLED = "throttled"
    #: 429 with Retry-After alone, which Workable's documentation does not mention.
    THROTTLED_RETRY_AFTER = "throttled_retry_after"
    #: 429 that tells no time at all.
    THROTTLED_BARE = "throttled_bare"
    #: 500 with a JSON body (body not established).
    SERVER_ERROR = "server_error"
    #: 502 with an HTML page, as a proxy in front of Workable would send it.
    BAD_GATEWAY = "bad_gateway"
    #: 503 in plain text (an old report of integrators).
    UNAVAILABLE = "unavailable"
    #: The right answer, `seconds` late.
    SLOW = "slow"
    #: The right answer, its body dripping over `seconds`.
    TRICKLE = "trickle"
    #: The right answer, the connection dropped in the middle of the body.
    CUT = "cut"
    #: 200 with an HTML page instead of JSON.
    HTML = "html"
    #: 302 to an HTML page on another host, which writes down whether a token came along.
    REDIRECT = "redirect"
    #: The right answer with more than 2 MiB of padding in it, streamed.
    HUGE = "huge"
    #: 200, called JSON, and cut short so that it is none.
    BROKEN_JSON = "broken_json"
    #: 200 with `[]` where an object belongs.
    WRONG_SHAPE = "wrong_shape"
    #: 200 with an object that lacks every expected key.
    MISSING_KEYS = "missing_keys"
    #: 200 without a body.
    EMPTY = "empty"
    #: The right list of members, with a `paging.next` that leads to another host.
    FOREIGN_NEXT = "foreign_next"


#: One line about each fault, for people.
SUMMARIES: dict[Fault, str] = {
    Fault.UNAUTHORIZED: "401: the token is refused (nested body, as the real service sends it)",
    Fault.UNAUTHORIZED_DOCUMENTED: "401: the token is refused (short body, as documented)",
    Fault.FORBIDDEN: "403: the token lacks the permission",
    Fault.MISMATCH: "422: the token belongs to another account",
    Fault.NOT_FOUND: "404: not found, until healed",
    Fault.NOT_FOUND_PAGE: "404: an HTML page, as of an account that was renamed or is gone",
    Fault.SPURIOUS_404: "404 on every other request for the same thing",
    Fault.THROTTLED: "429: too many requests, with X-Rate-Limit-Reset",
    Fault.THROTTLED_RETRY_AFTER: "429: too many requests, with Retry-After",
    Fault.THROTTLED_BARE: "429: too many requests, without any time",
    Fault.SERVER_ERROR: "500: Workable's own error",
    Fault.BAD_GATEWAY: "502: an HTML page from the proxy",
    Fault.UNAVAILABLE: "503: plain text, a slow request given up",
    Fault.SLOW: "The right answer, some seconds late",
    Fault.TRICKLE: "The right answer, dripping over some seconds",
    Fault.CUT: "The connection drops in the middle of the answer",
    Fault.HTML: "200 with an HTML page instead of JSON",
    Fault.REDIRECT: "302 to an HTML page on another host",
    Fault.HUGE: "The right answer with 3 MiB of padding",
    Fault.BROKEN_JSON: "200 with JSON that breaks off",
    Fault.WRONG_SHAPE: "200 with [] where an object belongs",
    Fault.MISSING_KEYS: "200 with an object that lacks the expected keys",
    Fault.EMPTY: "200 without a body",
    Fault.FOREIGN_NEXT: "A list with a next page on another host",
}

#: Faults that take a time, and how many seconds they take unless told.
DEFAULT_SECONDS: dict[Fault, float] = {Fault.SLOW: 5.0, Fault.TRICKLE: 5.0, Fault.THROTTLED_RETRY_AFTER: 7.0}

#: Faults that may be told a time; for `THROTTLED` it is the distance to X-Rate-Limit-Reset.
TIMED = frozenset({*DEFAULT_SECONDS, Fault.THROTTLED})

#: Faults that spoil the right answer on its way; all others replace it, and cost no rate limit.
SPOILING = frozenset({Fault.SLOW, Fault.TRICKLE, Fault.CUT, Fault.HUGE, Fault.FOREIGN_NEXT})


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultRule:
    """A fault in force: where, how often it may still strike, and how often it has.

    `remaining` is None for "until healed". `path` is a part of the path after `/spi/v3`, None for every path.
    `seconds` is only there for faults that take a time.
    """

    number: int
    fault: Fault
    subdomain: str
    path: str | None
    seconds: float | None
    remaining: int | None
    struck: int = 0

    def concerns(self, subdomain: str, path: str) -> bool:
        """Tells whether the rule reaches a request for `path` on `subdomain`."""
        here = self.subdomain in (EVERYWHERE, subdomain)
        return here and (self.path is None or self.path in path)


class FaultRules:
    """The rules in force, in the order in which they were added: the first that concerns a request strikes.

    So two rules in a row are a script: `SERVER_ERROR` twice, then `SLOW`. Not locked: its owner, the world,
    does that.
    """

    def __init__(self) -> None:
        """Starts with nothing wrong."""
        self._rules: dict[int, FaultRule] = {}
        self._spared: set[tuple[int, str, str]] = set()
        self._last = 0

    def __bool__(self) -> bool:
        """Tells whether anything is wrong anywhere."""
        return bool(self._rules)

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules in force, oldest first."""
        return tuple(self._rules.values())

    def add(
        self, *, fault: Fault, subdomain: str, path: str | None, times: int | None, seconds: float | None
    ) -> FaultRule:
        """Puts a rule in force; raises `WorldError` for a count below one, or a time the fault cannot use."""
        if times is not None and times < 1:
            raise WorldError("times", "must be 1 or more, or nothing for 'until healed'")
        if seconds is not None and fault not in TIMED:
            raise WorldError("seconds", f"'{fault.value}' takes no time; leave it out")
        if seconds is not None and not 0 <= seconds <= _LONGEST_SECONDS:
            raise WorldError("seconds", f"must be between 0 and {_LONGEST_SECONDS:.0f}")
        rule = FaultRule(
            number=self._last + 1,
            fault=fault,
            subdomain=subdomain,
            path=path or None,
            seconds=DEFAULT_SECONDS.get(fault) if seconds is None else float(seconds),
            remaining=times,
        )
        self._last = rule.number
        self._rules[rule.number] = rule
        return rule

    def remove(self, *, subdomain: str | None, fault: Fault | None, number: int | None) -> int:
        """Takes back the rules that match everything given, and returns how many there were."""
        gone = [
            rule.number
            for rule in self.rules
            if (subdomain is None or rule.subdomain == subdomain)
            and (fault is None or rule.fault is fault)
            and (number is None or rule.number == number)
        ]
        for each in gone:
            self._forget(each)
        return len(gone)

    def take(self, subdomain: str, path: str) -> FaultRule | None:
        """Returns the rule that strikes this request, counted down, or None when the request is spared."""
        for rule in self.rules:
            if not rule.concerns(subdomain, path):
                continue
            request = (rule.number, subdomain, path)
            if request in self._spared:  # a spurious 404 never comes twice in a row for the same thing
                self._spared.remove(request)
                continue
            if rule.fault is Fault.SPURIOUS_404:
                self._spared.add(request)
            remaining = None if rule.remaining is None else rule.remaining - 1
            after = replace(rule, remaining=remaining, struck=rule.struck + 1)
            self._rules[rule.number] = after
            if remaining == 0:
                self._forget(rule.number)
            return after
        return None

    def _forget(self, number: int) -> None:
        del self._rules[number]
        self._spared = {request for request in self._spared if request[0] != number}
