"""What an outage of Workable's left behind: look at it again, gently.

When: after an incident, once Workable is well again. Shows by default; --do acts at two a second. What was looked at
in the last ten minutes is left alone, so that doing it twice asks nothing twice.
Exit codes: 0 done or nothing to do; 5 some have no answer still: run it again later; 1 our fault.
Cron: */15 * * * *  cd /srv/linker && ./scripts/operators/retry_after_outage --do
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import timedelta

from linker import Linker, Verb, selection
from scripts.operators._desk import ACTOR, options, run, say, tell

LEFT_BEHIND = ("workable_unavailable", "throttled", "answer_not_understood")

LATELY = timedelta(minutes=10)


def main() -> int:
    """Show or do it."""
    given = options(__doc__).parse_args()

    async def retry(linker: Linker) -> int:
        now, code = linker.clock.now(), 0
        for problem in LEFT_BEHIND:
            found = await linker.find(problem=problem)
            ids = [each.id for each in found if each.last_look is None or now - each.last_look.at > LATELY]
            plan = await linker.plan(Verb.ADVANCE, selection(now, ids=ids), actor=ACTOR, reason="after an outage")
            if not plan.acting:
                continue
            if not given.do:
                for item in plan.acting:
                    tell(item.id, problem)
                say(f"{len(plan.acting)} with {problem} would be looked at; --do does it")
                continue
            outcomes = await linker.apply(plan, rate=2.0, tell=lambda each: tell(each.id, each.outcome))
            counts = Counter(each.outcome for each in outcomes)
            say(f"{problem}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
            code = 1 if counts["error"] or code == 1 else 5 if counts["try_again"] or code == 5 else 0
        return code

    return run(retry)


if __name__ == "__main__":
    sys.exit(main())
