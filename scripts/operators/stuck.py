"""Who waits for whom, and for how long.

When: each morning, or whenever somebody asks. Shows only; data on stdout, people on stderr.
Exit codes: 0 nobody has to act; 4 somebody has to; others as `linker` has them.
Cron: 0 8 * * 1-5  cd /srv/linker && ./scripts/operators/stuck --markdown | mail -E -s Waiting support@example.com
"""

from __future__ import annotations

import html
import re
import sys
from datetime import datetime

from linker import Connection, Linker, ProblemOwner, describe
from scripts.operators._desk import cell, counted, options, run, say, tell

HEAD = ("id", "customer", "account", "waits for", "days", "problem", "what to do")


def row(c: Connection, now: datetime) -> tuple[str, ...]:
    """What is told of a connection."""
    problem = c.problem or c.replacement_problem
    owner = problem.owner.value if problem else ProblemOwner.OPERATOR.value
    account = c.account.name if c.account else c.subdomain or "-"
    said = (problem.code.value, describe(problem).action) if problem else ("paused" if c.paused_at else "-", "-")
    return (c.id, c.owner, account, owner, f"{(now - c.state_since).days}", *said)


def main() -> int:
    """Show what waits."""
    parser = options(__doc__, acts=False)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a table in Markdown")
    form.add_argument("--html", action="store_true", help="a table for a mail")
    given = parser.parse_args()

    async def show(linker: Linker) -> int:
        rows = [[*map(cell, row(c, linker.clock.now()))] for c in await linker.find(stuck=True)]
        if not rows:
            return 0
        if given.html:
            lines = [[f"<td>{html.escape(told)}</td>" for told in each] for each in (HEAD, *rows)]
            print("<table>", *(f"<tr>{''.join(cells)}</tr>" for cells in lines), "</table>", sep="\n")
        elif given.markdown:
            clean = [[re.sub(r"[][\\`*<>|&]", r"\\\g<0>", told) for told in each] for each in rows]
            print(*(f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *clean)), sep="\n")
        else:
            for cells in rows:
                tell(*cells)
        say(counted(len(rows), "waits for a person", "wait for a person"))
        return 4

    return run(show)


if __name__ == "__main__":
    sys.exit(main())
