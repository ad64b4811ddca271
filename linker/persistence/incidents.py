"""Whether Workable refuses many accounts at the moment that it did not refuse before: then a refusal proves nothing.

It is seen over the whole database, by the latest answer of each account that was asked lately, and remembered in one
row that all workers share. An account counts as refused from its first refusal in a row: so what was refused before an
incident's end begins no other one. Tokens that are not accepted yet do not count: anybody can type a wrong one.

An incident that began by chance must not last: accounts that are really refused are asked hourly, good ones daily. So
it ends as soon as more accounts have answered well since it began than are refused, and after a day in any case.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, or_, select, text, update

from linker.database.statements import insert_into
from linker.event_log import log
from linker.persistence.tables import CONNECTION, INCIDENT, REFUSED, WELL
from states.timing import CLOCK_SLACK

#: It begins by answers of this time. Looks at what waits are an hour apart at most.
COUNTED_FOR = timedelta(hours=2)
#: It begins when so many accounts are refused, of so many owners, and at least half of those that answered.
LEAST_ACCOUNTS = 5
LEAST_OWNERS = 3
#: It ends when so many of them answer well again, or when more others answer well than are refused.
WELL_AGAIN = 2
#: And after so long it ends in any case: from then on each account is judged by its own refusals.
LONGEST = timedelta(days=1)
#: The name of its one row.
REFUSALS = "refusals"


class Incident(NamedTuple):
    """When accounts began to be refused, and when that ended; None: it lasts."""

    began_at: datetime
    ended_at: datetime | None

    @property
    def lasts(self) -> bool:
        """True if it is not over."""
        return self.ended_at is None


def latest_incident(transaction: Transaction) -> Incident | None:
    """The latest one; None if there was never one."""
    row = transaction.execute(select(INCIDENT.c.began_at, INCIDENT.c.ended_at)).first()
    return None if row is None else Incident(row.began_at, row.ended_at)


def ends_or_begins(transaction: Transaction, latest: Incident | None, now: datetime) -> bool:
    """True if what is remembered has to change: one has begun, or the one that lasts is over."""
    if latest is not None and latest.lasts:
        if not now - LONGEST <= latest.began_at <= now + CLOCK_SLACK:
            return True
        if _well_again(transaction, latest) >= WELL_AGAIN:
            return True
        accounts, _ = _refused(transaction, latest.began_at - COUNTED_FOR, now)
        return accounts == 0 or _more_are_well(transaction, accounts, latest.began_at, now)
    after = now - COUNTED_FOR
    if latest is not None and latest.ended_at is not None:
        after = max(after, latest.ended_at)  # who was refused in an earlier one begins no other
    accounts, owners = _refused(transaction, after, now)
    if accounts < LEAST_ACCOUNTS or owners < LEAST_OWNERS:
        return False
    return not _more_are_well(transaction, accounts, after, now)


def _refused(transaction: Transaction, after: datetime, now: datetime) -> tuple[int, int]:
    """How many accounts, of how many owners, are refused since a time after this one."""
    counted = select(func.count(CONNECTION.c.account_id.distinct()), func.count(CONNECTION.c.owner.distinct())).where(
        text(REFUSED),
        CONNECTION.c.refused_at > after,
        CONNECTION.c.refused_at <= now + CLOCK_SLACK,
        CONNECTION.c.last_ok_at < CONNECTION.c.refused_at,
    )
    accounts, owners = transaction.execute(counted).one()
    return accounts, owners


def _more_are_well(transaction: Transaction, than: int, after: datetime, now: datetime) -> bool:
    """Whether more accounts than so many answered well since, as their latest answer."""
    good = or_(CONNECTION.c.refused_at.is_(None), CONNECTION.c.refused_at < CONNECTION.c.last_ok_at)
    some = (  # no more than it takes to know; several connections may share an account
        select(CONNECTION.c.account_id)
        .where(text(WELL), CONNECTION.c.last_ok_at > after, CONNECTION.c.last_ok_at <= now + CLOCK_SLACK, good)
        .order_by(CONNECTION.c.last_ok_at.desc())
        .limit(4 * (than + 1))
    )
    return len(set(transaction.execute(some).scalars())) > than


def _well_again(transaction: Transaction, incident: Incident) -> int:
    """How many accounts that were refused in it have answered well since."""
    query = select(func.count(CONNECTION.c.account_id.distinct())).where(
        text(REFUSED),
        CONNECTION.c.refused_at > incident.began_at - COUNTED_FOR,
        CONNECTION.c.last_ok_at > CONNECTION.c.refused_at,
        CONNECTION.c.last_ok_at > incident.began_at,
    )
    count: int = transaction.execute(query).scalar_one()
    return count


def change(transaction: Transaction, latest: Incident | None, now: datetime) -> Incident:
    """Begin one, or end the one that lasts. Whoever is faster writes it, and tells the log."""
    if latest is not None and latest.lasts:
        over = update(INCIDENT).where(INCIDENT.c.began_at == latest.began_at, INCIDENT.c.ended_at.is_(None))
        if transaction.execute(over.values(ended_at=now)).rowcount:
            log.info("incident.ended", began_at=latest.began_at.isoformat())
    else:
        put = insert_into(transaction, INCIDENT).values(name=REFUSALS, began_at=now, ended_at=None)
        begun = put.on_conflict_do_update(
            index_elements=["name"],
            set_={"began_at": now, "ended_at": None},
            where=INCIDENT.c.ended_at.is_not(None),
        )
        if transaction.execute(begun.returning(INCIDENT.c.name)).first():
            log.warning("incident.began")
    remembered = latest_incident(transaction)
    assert remembered is not None, "it was written"
    return remembered
