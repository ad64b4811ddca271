"""The ports with an observer beside them: claims, calls and settles are watched here.

So those who claim, call and settle do not have to know; and where nobody observes, the ports stay as they are, and
watching costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from linker.database.database import Database
from linker.engine.observer import UNOBSERVED, Observer, Work, verdict_name
from linker.engine.ports import Answer, Lease, Settlement, Workable
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.rate_limits import SharedRateLimits
from states.connection import Connection, Recruiter


class InstrumentedStore(ConnectionStore):
    """A store whose claims and settles are watched."""

    def __init__(self, database: Database, rations: SharedRateLimits, observer: Observer) -> None:
        """Take the database; nothing is opened yet."""
        super().__init__(database, rations)
        self._observer = observer

    async def claim(self, connection_id: str, *, now: datetime, lease: Lease) -> Connection | None:
        """As `ConnectionStore.claim`."""
        with self._observer.watch(Work.CLAIM) as note:
            claimed = await super().claim(connection_id, now=now, lease=lease)
            note(rows=int(claimed is not None))
        return claimed

    async def claim_due(self, *, now: datetime, limit: int, lease: Lease) -> list[Connection]:
        """As `ConnectionStore.claim_due`."""
        with self._observer.watch(Work.CLAIM) as note:
            claimed = await super().claim_due(now=now, limit=limit, lease=lease)
            note(rows=len(claimed))
        return claimed

    async def claim_these(self, ids: Sequence[str], *, now: datetime, lease: Lease) -> list[Connection]:
        """As `ConnectionStore.claim_these`."""
        with self._observer.watch(Work.CLAIM) as note:
            claimed = await super().claim_these(ids, now=now, lease=lease)
            note(rows=len(claimed))
        return claimed

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime, release: bool) -> list[bool]:
        """As `ConnectionStore.settle`."""
        with self._observer.watch(Work.SETTLE) as note:
            written = await super().settle(settlements, now=now, release=release)
            note(rows=sum(written))
        return written


@dataclass(frozen=True)
class WatchedWorkable:
    """A Workable whose answers are watched."""

    workable: Workable
    observer: Observer

    async def verify(self, subdomain: str, token: SecretStr) -> Answer:
        """As `Workable.verify`."""
        with self.observer.watch(Work.CALL, question="verify") as note:
            answer = await self.workable.verify(subdomain, token)
            note(verdict=verdict_name(answer.verdict))
        return answer

    async def look(self, subdomain: str, token: SecretStr, recruiter: Recruiter, *, extra_calls: int = 0) -> Answer:
        """As `Workable.look`."""
        with self.observer.watch(Work.CALL, question="look") as note:
            answer = await self.workable.look(subdomain, token, recruiter, extra_calls=extra_calls)
            note(verdict=verdict_name(answer.verdict))
        return answer


def watched_store(database: Database, rations: SharedRateLimits, observer: Observer) -> ConnectionStore:
    """The store, watched if somebody observes."""
    return (
        ConnectionStore(database, rations) if observer is UNOBSERVED else InstrumentedStore(database, rations, observer)
    )


def watched_workable(workable: Workable, observer: Observer) -> Workable:
    """Workable, watched if somebody observes."""
    return workable if observer is UNOBSERVED else WatchedWorkable(workable, observer)
