"""Random deeds of people, operators, sweeps and clocks, over a Workable that says anything."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from linker import Connection, ConnectionState, Linker, LinkerError
from linker.engine.ports import Answer
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from scripts.trials.outcome import Outcome
from states.verdicts import (
    CredentialRefused,
    Forbidden,
    NotUnderstood,
    OverLimit,
    RecruiterNotSeen,
    RecruiterSeen,
    Unavailable,
    Verdict,
    WrongAccount,
)

DEEDS_IN_A_ROW = 100
#: How often Workable says something odd.
MOODY_RATIO = 0.6
#: In these a token is held.
HOLDING = {ConnectionState.TOKEN_VALID, ConnectionState.AWAITING_RECRUITER, ConnectionState.LINKED}


class Moody(ScriptedWorkable):
    """A Workable that often says something else than that all is well."""

    def __init__(self, dice: random.Random, clock: SettableClock) -> None:
        super().__init__()
        self._dice, self._clock = dice, clock

    async def verify(self, subdomain: str, token: SecretStr, *, person_waits: bool = False) -> Answer:
        """Accept a token, or not."""
        self._in_a_mood([])
        return await super().verify(subdomain, token, person_waits=person_waits)

    async def look(self, *given: Any, **named: Any) -> Answer:
        """See the recruiter, or not."""
        self._in_a_mood([RecruiterSeen("1"), RecruiterNotSeen(), RecruiterSeen("1"), RecruiterNotSeen()])
        return await super().look(*given, **named)

    def _in_a_mood(self, answers: list[Verdict]) -> None:
        now = self._clock.now()
        moods: list[Verdict] = [Unavailable(), Unavailable(now + timedelta(minutes=5)), CredentialRefused()]
        moods += [OverLimit(now + timedelta(seconds=10)), NotUnderstood("no_rule", status=418), Forbidden("r_jobs")]
        moods += [WrongAccount(), WrongAccount(("other",)), *answers]
        if self._dice.random() < MOODY_RATIO:
            self.will_say(self._dice.choice(moods))


async def run(most: int) -> Outcome:
    """Do so many deeds, some in a row on each of several databases."""
    outcome = Outcome()
    for number in range(-(-most // DEEDS_IN_A_ROW)):
        dice, clock = random.Random(number), SettableClock()
        workable = Moody(dice, clock)
        async with linker_in_memory(clock=clock, workable=workable) as linker:
            ids = [(await linker.create(owner=f"owner-{each}")).id for each in range(3)]
            known: dict[str, Connection] = {}
            for _ in range(DEEDS_IN_A_ROW):
                this, name = dice.choice(ids), dice.choice([*DEEDS, "sweep", "sweep"])
                before = await linker.get(this)
                outcome.tried += 1
                try:
                    await (linker.attend_due() if name == "sweep" else DEEDS[name](linker, this))
                except LinkerError as error:
                    if error.exit_code == 1:
                        outcome.wrong.append(f"{number}: {name} in {before.state}: {error}")
                clock.advance(minutes=dice.choice([0, 0, 1, 20, 70, 600, 3000]))
                for each in ids:
                    known[each] = await checked(linker, each, known.get(each), outcome, f"{number}: {name}")
                if (await linker.get(this)).closed_at:
                    ids[ids.index(this)] = (await linker.create(owner=f"owner-{dice.random()}")).id
    return outcome


async def checked(linker: Linker, this: str, before: Connection | None, outcome: Outcome, named: str) -> Connection:
    """Look at a connection and its history."""
    now, steps = await linker.get(this), await linker.history(this)
    if [step.seq for step in steps] != list(range(1, len(steps) + 1)):
        outcome.wrong.append(f"{named}: steps with a gap")
    if steps[-1].target is not now.state:
        outcome.wrong.append(f"{named}: {now.state}, and the last step leads to {steps[-1].target}")
    if any(one.target is not other.source for one, other in itertools.pairwise(steps)):
        outcome.wrong.append(f"{named}: a step does not begin where the last one led to")
    wiped = now.closed_at is not None or now.state is ConnectionState.FAILED
    if (now.state in HOLDING and now.token is None) or (before and before.token and not now.token and not wiped):
        outcome.lost += 1
        outcome.wrong.append(f"{named}: {now.state} without its token")
    if now.problem is not None and now.problem.code == "poisoned":
        outcome.wrong.append(f"{named}: {now.problem}")
    return now


DEEDS: dict[str, Callable[[Linker, str], Awaitable[object]]] = {
    "submit": lambda linker, this: linker.submit_token(this, subdomain=f"s{this[-6:]}", token="a-token-like-others"),
    "submit elsewhere": lambda linker, this: linker.submit_token(this, subdomain="shared", token="another-token-123"),
    "confirm": lambda linker, this: linker.confirm_recruiter(this),
    "check": lambda linker, this: linker.check(this),
    "restart": lambda linker, this: linker.restart(this, reason="why not"),
    "pause": lambda linker, this: linker.pause(this, actor="ann"),
    "resume": lambda linker, this: linker.resume(this, actor="ann"),
    "unlink": lambda linker, this: linker.unlink(this),
}
