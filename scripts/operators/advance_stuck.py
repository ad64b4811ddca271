"""Look now for everybody whose recruiter is awaited for longer than so many days.

When: after customers were told to add the recruiter, or once a day. Shows by default; --do acts, gently.
What was looked at less than an hour ago is left alone, so a second run in a row does nothing.
Exit codes: 0 done or nothing to do; otherwise the worst: 1 our fault, 4 refused, 5 try again later.
Cron: 30 7 * * 1-5  cd /srv/linker && ./scripts/operators/advance_stuck --older-than 3d --do
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import timedelta

from linker import Linker, Verb, selection
from scripts.operators._desk import ACTOR, options, run, say, tell

WORST = {"error": 1, "refused": 4, "try_again": 5, "changed": 5}


def main() -> int:
    """Show or do it."""
    parser = options(__doc__)
    parser.add_argument("--older-than", default="3d", metavar="SPAN", help="waiting for so long or longer (3d)")
    given = parser.parse_args()

    async def advance(linker: Linker) -> int:
        now = linker.clock.now()
        waiting = await linker.find(state="awaiting_recruiter", older_than=given.older_than)
        stale = [c.id for c in waiting if c.last_look is None or now - c.last_look.at > timedelta(hours=1)]
        if not stale:
            return 0
        plan = await linker.plan(Verb.ADVANCE, selection(now, ids=stale), actor=ACTOR, reason="waits for long")
        if not given.do:
            for item in plan.items:
                tell(item.id, item.skipped or item.duty)
            say(f"{len(plan.acting)} would be looked at; --do does it")
            return 0
        outcomes = await linker.apply(plan, tell=lambda each: tell(each.id, each.outcome))
        say(", ".join(f"{count} {name}" for name, count in Counter(each.outcome for each in outcomes).items()))
        codes = {WORST.get(each.outcome, 0) for each in outcomes}
        return next((code for code in (1, 4, 5) if code in codes), 0)

    return run(advance)


if __name__ == "__main__":
    sys.exit(main())
