"""What a fault makes of an answer: another one in its place, or the right one spoilt.

How it is sent is the business of `delivery`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import urlsplit

from linker.sandbox import answers
from linker.sandbox.answers import Answer
from linker.sandbox.api import Call
from linker.sandbox.faults import Fault, FaultRule
from linker.sandbox.limits import ACCOUNT_REQUESTS, Allowance, window_end

#: The page on another host to which `REDIRECT` and `FOREIGN_NEXT` lead; the log tells whether a token came
#: along.
ELSEWHERE_PATH = "/_sandbox/elsewhere"

#: How much `HUGE` adds to the right answer, in bytes.
PADDING_BYTES = 3 * 1024 * 1024

_FIXED: dict[Fault, Answer] = {
    Fault.UNAUTHORIZED: answers.UNAUTHORIZED,
    Fault.UNAUTHORIZED_DOCUMENTED: answers.UNAUTHORIZED_DOCUMENTED,
    Fault.FORBIDDEN: answers.FORBIDDEN,
    Fault.MISMATCH: answers.MISMATCH,
    Fault.NOT_FOUND: answers.NOT_FOUND,
    Fault.NOT_FOUND_PAGE: answers.NOT_FOUND_PAGE,
    Fault.SPURIOUS_404: answers.NOT_FOUND,
    Fault.THROTTLED_BARE: answers.throttled(),
    Fault.SERVER_ERROR: answers.SERVER_ERROR,
    Fault.BAD_GATEWAY: answers.BAD_GATEWAY,
    Fault.UNAVAILABLE: answers.UNAVAILABLE,
    Fault.HTML: answers.HTML_PAGE,
    Fault.BROKEN_JSON: answers.BROKEN_JSON,
    Fault.WRONG_SHAPE: answers.WRONG_SHAPE,
    Fault.MISSING_KEYS: answers.MISSING_KEYS,
    Fault.EMPTY: answers.EMPTY,
}


def replacement(rule: FaultRule, call: Call, now: float) -> Answer:
    """Returns the answer that takes the place of the right one; `now` is in Unix seconds."""
    if rule.fault is Fault.REDIRECT:
        return answers.redirect(elsewhere(call.base))
    if rule.fault is Fault.THROTTLED:
        reset = window_end(now) if rule.seconds is None else int(now + rule.seconds)
        told = Allowance(granted=False, limit=ACCOUNT_REQUESTS, remaining=0, reset=reset)
        return answers.throttled(answers.rate_headers(told))
    if rule.fault is Fault.THROTTLED_RETRY_AFTER:
        return answers.throttled(((b"retry-after", b"%d" % int(rule.seconds or 0)),))
    return _FIXED[rule.fault]


def spoilt(rule: FaultRule, call: Call, right: Answer) -> Answer:
    """Returns the right answer with the fault's change to its body; most spoil only how it is sent."""
    if rule.fault not in (Fault.HUGE, Fault.FOREIGN_NEXT):
        return right
    value = json.loads(right.body)
    if rule.fault is Fault.HUGE:  # valid JSON still, so that a client without a cap on its reading would take it
        value["padding"] = "x" * PADDING_BYTES
    elif any(isinstance(listed, list) for listed in value.values()):
        value["paging"] = {"next": elsewhere(call.base)}
    return replace(right, body=answers.encoded(value))


def elsewhere(base: str) -> str:
    """Returns a URL on another host that reaches this same server: `localhost`, or else `127.0.0.1`."""
    here = urlsplit(base)
    host = "localhost" if here.hostname == "127.0.0.1" else "127.0.0.1"
    port = f":{here.port}" if here.port else ""
    return f"{here.scheme}://{host}{port}{ELSEWHERE_PATH}"
