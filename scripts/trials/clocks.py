"""Clocks that jump: by seconds or decades, ahead or back, while connections are attended; then they are right again."""

from __future__ import annotations

import random
from datetime import timedelta

from linker import Announcement, Connection, ConnectionState, Linker, LinkerError
from linker.outbox.deliverer import GIVE_UP_AFTER
from linker.testing import ScriptedWorkable, SettableClock, linker_in_memory
from scripts.trials.outcome import Outcome
from states.problems import ProblemCode
from states.verdicts import OverLimit, Unavailable, Verdict

TOKEN = "a-good-token-of-somebody"
#: As powers of ten of seconds: from ten seconds to fifty years.
SHORTEST, LONGEST = 1.0, 9.2
#: Longer than the longest pause between two looks, and how often somebody looks meanwhile whether anything is due.
LATER, LOOKS = timedelta(hours=56), 8


async def run(most: int) -> Outcome:
    """Let a clock jump so often, each time with a database of its own."""
    outcome = Outcome()
    for number in range(most):
        dice, clock, workable = random.Random(number), SettableClock(), ScriptedWorkable()
        jump = dice.choice([1, -1]) * timedelta(seconds=10 ** dice.uniform(SHORTEST, LONGEST))
        outcome.tried += 1
        async with linker_in_memory(clock=clock, workable=workable) as linker:
            try:
                await jumped(linker, clock, workable, jump, dice, outcome)
            except LinkerError as error:
                outcome.wrong.append(f"{number}: {jump}: {type(error).__name__}: {error}")
    return outcome


async def jumped(
    linker: Linker,
    clock: SettableClock,
    workable: ScriptedWorkable,
    jump: timedelta,
    dice: random.Random,
    outcome: Outcome,
) -> None:
    """Two connections live through a jump: one is linked, and the other one's recruiter is added after it."""
    told, is_down = set[str](), True

    @linker.on("linked")
    def tell(announcement: Announcement) -> None:
        if is_down:
            raise ConnectionError
        told.add(announcement.connection_id)

    linked = await linker.create(owner="linked")
    linked = await linker.submit_token(linked.id, subdomain="linked", token=TOKEN)
    assert linked.recruiter is not None
    workable.add_recruiter(linked.recruiter.email)
    linked = await linker.confirm_recruiter(linked.id)
    waiting = await linker.create(owner="waiting")
    waiting = await linker.submit_token(waiting.id, subdomain="waiting", token=TOKEN)
    assert waiting.recruiter is not None
    assert waiting.deadline is not None
    timing, wrong_time = linker.settings.timing, clock.now() + jump
    longest_ahead = max(timing.token_within, timing.recruiter_within) + timedelta(days=1)
    #: By the wrong clock its time was over, or had ended so far ahead that nothing can have produced it.
    may_be_overdue = not timedelta(0) < waiting.deadline - wrong_time <= longest_ahead

    clock.advance(seconds=jump.total_seconds())
    odd: list[Verdict] = [Unavailable(), Unavailable(clock.now() + timedelta(minutes=9)), OverLimit(clock.now())]
    workable.will_say(*dice.sample(odd, dice.randrange(3)))
    for _ in range(dice.randrange(1, 4)):
        await linker.attend_due()
        await linker.deliver()
        clock.advance(minutes=dice.choice([0, 1, 30]))
    clock.advance(seconds=-jump.total_seconds())

    is_down = False
    workable.add_recruiter(waiting.recruiter.email)
    asked = len(workable.asked)
    for _ in range(LOOKS):
        await linker.attend_due()
        await linker.deliver()
        clock.advance(seconds=LATER.total_seconds() / LOOKS)
    await linker.attend_due()
    await linker.deliver()

    if ("look", "linked") not in workable.asked[asked:]:
        outcome.lost += 1
        outcome.wrong.append(f"{jump}: nobody looks at the linked one any more")
    await judge(linker, linked, outcome, jump, told, may_be_dead=jump + timedelta(hours=3) > GIVE_UP_AFTER)
    await judge(linker, waiting, outcome, jump, told, may_be_overdue=may_be_overdue)


async def judge(
    linker: Linker,
    before: Connection,
    outcome: Outcome,
    jump: timedelta,
    told: set[str],
    *,
    may_be_overdue: bool = False,
    may_be_dead: bool = False,
) -> None:
    """Count what became of a connection, and of its announcement: by a wrong clock either's time may be over."""
    now, steps = await linker.get(before.id), await linker.history(before.id)
    named = f"{jump}: {before.owner}: {now.state}, {now.problem}"
    if [step.seq for step in steps] != list(range(1, len(steps) + 1)):
        outcome.wrong.append(f"{named}: steps with a gap")
    if may_be_overdue and now.problem is not None and now.problem.code is ProblemCode.RECRUITER_OVERDUE:
        return
    if now.state is not ConnectionState.LINKED or not (now.id in told or may_be_dead):
        outcome.lost += 1
        outcome.wrong.append(f"{named}, its handler {'was' if now.id in told else 'was not'} told")
