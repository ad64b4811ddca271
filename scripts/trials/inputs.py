"""Odd inputs, in every field that a host, a person or an operator can fill."""

from __future__ import annotations

import random
import string
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

from linker import BadInput, Linker, NotFound, Refused
from linker.testing import linker_in_memory
from scripts.trials.outcome import Outcome

CANARY = "canary-4f1c9a7e2b8d4f1c9a7e2b8d"
#: What is put together to texts.
PIECES = [
    *(
        "",
        " ",
        "acme",
        "Acme",
        "株式会社",
        "\u3000",
        "\u00a0",
        "👨\u200d👩",
        "é",
        "e\u0301",
        "ß",
        "İ",
        "\u212a",
        "\uff41",
    ),
    *("\x00", "\x1b[2J", "\x07", "\n", "\r\n", "\t", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\u200b", "\ufeff"),
    *(
        "\ud800",
        "\udfff",
        "%00",
        "%2e",
        "..",
        "/",
        "\\",
        "?",
        "#",
        "@",
        ":",
        "'",
        '"',
        "`",
        "<",
        ">",
        "{",
        "}",
        "$",
        ";",
    ),
    *("https://", "apply.workable.com/", ".workable.com", "evil.example", "Bearer ", "token: ", "****", "•••", "…"),
    *("x" * 63, "x" * 64, "x" * 501, "x" * 5000, "0", "-1", "1e400", "NaN", "null", "None", "con_", CANARY, "9" * 40),
]
NO_TEXTS: list[Any] = [None, 0, -1, 1.5, float("nan"), True, b"acme", [], ["acme"], {}, {"a": 1}, object(), date.max]


def texts(dice: random.Random) -> Any:
    """Something odd: mostly a text."""
    if dice.random() < 0.1:
        return dice.choice([*NO_TEXTS, datetime.max.replace(tzinfo=UTC)])
    if dice.random() < 0.1:
        return "".join(dice.choice(string.printable) for _ in range(dice.randrange(80)))
    return "".join(dice.choice(PIECES) for _ in range(dice.randrange(1, 5)))


async def run(most: int) -> Outcome:
    """Give so many inputs, each in every field."""
    dice, outcome = random.Random(14), Outcome()
    async with linker_in_memory() as linker:
        kept = await linker.create(owner="customer-1")
        kept = await linker.submit_token(kept.id, subdomain="acme", token="a-good-token-of-acme")
        for _ in range(most):
            given = texts(dice)
            outcome.tried += 1
            for field, call in calls(linker, kept.id, given).items():
                await tried(outcome, field, given, call)
            now = await linker.get(kept.id)
            if now.token != kept.token or now.state is not kept.state:
                outcome.wrong.append(f"{ascii(given)[:60]}: the connection that exists changed")
                kept = now
    return outcome


def calls(linker: Linker, kept: str, given: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Each field that it is given in; what is submitted goes to a connection that there is not."""
    fresh = "con_00000000000000000000"
    good: dict[str, Any] = {"subdomain": "acme", "token": "a-good-token-of-acme"}
    return {
        "owner": lambda: linker.create(owner=given),
        "key": lambda: linker.create(owner="o", key=given),
        "actor": lambda: linker.create(owner="o", actor=given),
        "metadata": lambda: linker.create(owner="o", metadata=given),
        "a key of metadata": lambda: linker.create(owner="o", metadata={given: "v"} if hashable(given) else given),
        "an entry of metadata": lambda: linker.create(owner="o", metadata={"k": given}),
        "subdomain": lambda: linker.submit_token(fresh, **good | {"subdomain": given}),
        "token": lambda: linker.submit_token(fresh, **good | {"token": given}),
        "expires_on": lambda: linker.submit_token(fresh, **good, expires_on=given),
        "an id": lambda: linker.get(given),
        "an id of a history": lambda: linker.history(given),
        "an id to unlink": lambda: linker.unlink(given if given != kept else fresh),
        "a reason": lambda: linker.restart(kept, reason=given),
        "an actor who confirms": lambda: linker.confirm_recruiter(fresh, actor=given),
        "state": lambda: linker.find(state=given),
        "an owner that is looked for": lambda: linker.find(owner=given),
        "stuck": lambda: linker.find(stuck=given, limit=1),
        "limit": lambda: linker.find(limit=given if given is not None else 1),
    }


def hashable(given: Any) -> bool:
    """True if it can be a key."""
    return not isinstance(given, list | dict)


async def tried(outcome: Outcome, field: str, given: Any, call: Callable[[], Awaitable[Any]]) -> None:
    """Count what came of it."""
    try:
        await call()
    except (BadInput, NotFound, Refused) as error:
        told = f"{error} {error.params}"
        if isinstance(error, BadInput) and isinstance(given, str) and CANARY in given and CANARY in told:
            outcome.wrong.append(f"{field}: the refusal repeats what may be a token")
        if not told.isprintable():
            outcome.wrong.append(f"{field}: {ascii(given)[:60]}: the refusal cannot be printed")
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        outcome.wrong.append(f"{field}: {ascii(given)[:60]}: {type(error).__name__}: {ascii(str(error))[:100]}")
