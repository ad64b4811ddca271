"""What was done by hand, as a table for an auditor: who, when, what, why, in which operation.

When: once a month. Shows only. No secret, and no customer's e-mail unless --with-personal-data.
Exit codes: 0; others as `linker` has them.
Cron: 0 6 1 * *  cd /srv/linker && ./scripts/operators/export_audit --since 31d > /srv/audit/linker.csv
"""

from __future__ import annotations

import csv
import sys

from linker import Linker, audit_json, spreadsheet_cell
from scripts.operators._desk import counted, options, run, say


def main() -> int:
    """Export it."""
    parser = options(__doc__, acts=False)
    parser.add_argument("--since", default="31d", metavar="SPAN", help="how far back (31d)")
    parser.add_argument("--with-personal-data", action="store_true", help="with e-mails of customers")
    given = parser.parse_args()

    async def export(linker: Linker) -> int:
        rows, count = csv.writer(sys.stdout, lineterminator="\n"), 0
        async for entry in linker.audit(since=given.since):
            told = audit_json(entry, personal=given.with_personal_data)
            if count == 0:
                rows.writerow(told)
            rows.writerow(map(spreadsheet_cell, told.values()))
            count += 1
        if count:
            say(counted(count, "change by hand", "changes by hand"))
        return 0

    return run(export)


if __name__ == "__main__":
    sys.exit(main())
