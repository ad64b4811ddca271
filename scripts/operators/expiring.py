"""Tokens whose last day comes soon, with a link for each customer to give a new one.

When: once a week. Shows by default; --do makes the links (it needs LINKER_PUBLIC_URL).
Exit codes: 0 none expires; 4 some do; others as `linker` has them.
Cron: 0 8 * * 1  cd /srv/linker && ./scripts/operators/expiring --within 14d | mail -E -s Tokens support@example.com
"""

from __future__ import annotations

import sys

from linker import Linker
from scripts.operators._desk import ACTOR, counted, options, run, say, tell


def main() -> int:
    """Show what expires."""
    parser = options(__doc__)
    parser.add_argument("--within", default="14d", metavar="SPAN", help="within so long (14d)")
    given = parser.parse_args()

    async def show(linker: Linker) -> int:
        found = await linker.find(expires_within=given.within)
        for c in found:
            assert c.token is not None, "that is what expires"
            account = c.account.name if c.account else "-"
            link = "-"
            if given.do:
                known = [each for each in await linker.links(c.id) if each.created_by == ACTOR]
                if any(each.expires_at > linker.clock.now() and each.revoked_at is None for each in known):
                    link = "has a link already"
                else:
                    link = (await linker.create_link(c.id, for_="reconnect", actor=ACTOR)).url
            tell(c.id, c.owner, account, c.token.expires_on, link)
        if found:
            say(f"{counted(len(found), 'token expires', 'tokens expire')} within {given.within}")
        return 4 if found else 0

    return run(show)


if __name__ == "__main__":
    sys.exit(main())
