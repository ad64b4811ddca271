"""Webhooks and handlers that were given up: why, and another try.

When: after the receiver was mended. Shows by default; --do lets them be delivered again.
Exit codes: 0 there are none, or they are tried again; 4 there are some; others as `linker` has them.
Cron: 0 * * * *  cd /srv/linker && ./scripts/operators/outbox_dead
"""

from __future__ import annotations

import sys

from linker import Linker
from scripts.operators._desk import counted, options, run, say, tell


def main() -> int:
    """Show or retry them."""
    given = options(__doc__).parse_args()

    async def dead(linker: Linker) -> int:
        letters = await linker.dead_letters()
        for each in letters:
            tell(each.id, each.connection_id, each.type, each.channel.name, each.last_error or "-")
        if not letters:
            return 0
        if not given.do:
            say(f"{counted(len(letters), 'was', 'were')} given up; --do tries again")
            return 4
        say(f"{counted(await linker.retry_dead_letters(), 'is', 'are')} tried again")
        return 0

    return run(dead)


if __name__ == "__main__":
    sys.exit(main())
