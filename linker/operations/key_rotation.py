"""Sealing every stored token again with the newest key, so that older keys can be dropped.

Small batches, each one transaction. A row is written only at the version that it was read at and only while nobody
holds its lease, so a worker never loses the answer that it is waiting for; leased rows are come back to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import Select, func, or_, select, update

from linker.database.database import Database
from linker.encryption import TokenCipher, key_id_of
from linker.engine.ports import Clock
from linker.errors import BadSettings, Busy, SealBroken
from linker.persistence import schema
from linker.persistence.connection_store import ConnectionStore, open_database
from linker.persistence.server_clock import shared_clock
from linker.persistence.tables import CONNECTION
from linker.settings import Settings

#: The columns that hold sealed tokens, each with the column that names its key.
SEALED = {"token_sealed": "token_key_id", "candidate_sealed": "candidate_key_id"}
#: How many rows are written in one transaction.
BATCH = 100
#: How often, and how long apart in seconds, rows that workers hold are come back to: longer than a call takes.
ROUNDS = 60
PAUSE = 0.5

Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class Rotated:
    """How many tokens were sealed again, and how many had the newest key already."""

    resealed: int = 0
    already: int = 0


async def rotate_keys(settings: Settings, progress: Progress | None = None, clock: Clock | None = None) -> Rotated:
    """Seal every stored token again with the newest key. Safe to run again, and beside workers.

    Args:
        settings: where the tokens are, and all keys that they are sealed with, newest first.
        progress: told how many tokens are done and how many there are to do.
        clock: takes the place of the clock that all workers share.

    Raises:
        BadSettings: there is no key, or a key that tokens are sealed with is not set. Nothing was changed.
        SealBroken: some tokens do not open, and are named; all others were sealed again.
        Busy: some rows were held by workers all the time; all others were done.
    """
    sealer = TokenCipher(settings.secret_keys)
    async with open_database(settings) as database:
        _refuse_missing(await ConnectionStore(database).key_ids() - sealer.key_ids)
        rotation = _Rotation(database, sealer, clock, progress or (lambda done, total: None))
        return await rotation.run()


def _refuse_missing(missing: frozenset[str]) -> None:
    if missing:
        raise BadSettings(
            "LINKER_SECRET_KEYS",
            f"stored tokens are sealed with the key {', '.join(sorted(missing))}, which is not set.",
            "Add that key again, after the newest one, then rotate.",
        )


def _told(rotated: Rotated, broken: Collection[str]) -> str:
    return (
        f"Tokens sealed again: {rotated.resealed}; sealed with the newest key before: {rotated.already}. "
        f"The tokens of these connections do not open: {', '.join(sorted(broken))}. "
        "Keep the old key until these are unlinked or given a new token."
    )


class _Rotation:
    def __init__(self, database: Database, sealer: TokenCipher, clock: Clock | None, progress: Progress) -> None:
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._progress = progress
        self._rotated = Rotated()
        self._broken: set[str] = set()

    async def run(self) -> Rotated:
        self._rotated.already, total = await self._database.read(self._counts)
        for _ in range(ROUNDS):
            await self._pass(self._clock or await shared_clock(self._database), total)
            if not await self._database.read(self._left):
                break
            await asyncio.sleep(PAUSE)
        else:
            raise Busy("Workers held some connections all the time; all others were done. Run it again.")
        if self._broken:
            raise SealBroken(_told(self._rotated, self._broken))
        return self._rotated

    async def _pass(self, clock: Clock, total: int) -> None:
        """One pass over what is sealed with another key and held by nobody, in the order of the ids."""
        last: str | None = ""
        while last is not None:
            last, done = await self._database.write(partial(self._batch, now=clock.now(), after=last))
            self._rotated.resealed += done
            self._progress(self._rotated.resealed, total)

    def _batch(self, transaction: Transaction, *, now: datetime, after: str) -> tuple[str | None, int]:
        """Write one batch; gives the last id that was looked at (None: there was none) and how many tokens it were."""
        rows = transaction.execute(_free(self._old(), now, after)).mappings().all()
        done = sum(self._reseal(transaction, dict(row)) for row in rows)
        return (rows[-1]["id"] if rows else None), done

    def _reseal(self, transaction: Transaction, row: dict[str, Any]) -> int:
        changes: dict[str, Any] = {}
        try:
            for sealed, key_id in SEALED.items():
                if row[sealed] is not None and row[key_id] != self._sealer.newest:
                    token = self._sealer.open(row[sealed], bound_to=row["id"])
                    changes[sealed] = self._sealer.seal(token, bound_to=row["id"])
                    changes[key_id] = key_id_of(changes[sealed])
        except SealBroken:
            self._broken.add(row["id"])
            return 0
        unchanged = (CONNECTION.c.id == row["id"], CONNECTION.c.version == row["version"])
        written = update(CONNECTION).where(*unchanged).values(**changes, version=row["version"] + 1)
        return len(changes) // 2 if transaction.execute(written).rowcount else 0

    def _old(self) -> Any:
        """Rows with a token that the newest key did not seal."""
        return or_(*(CONNECTION.c[key_id] != self._sealer.newest for key_id in SEALED.values()))

    def _counts(self, transaction: Transaction) -> tuple[int, int]:
        """How many tokens have the newest key, and how many have another one."""
        newest = others = 0
        for key_id in SEALED.values():
            for key in schema.distinct(transaction, "connection", key_id):
                query = select(func.count()).where(CONNECTION.c[key_id] == key)
                count = transaction.execute(query).scalar_one()
                newest, others = (newest + count, others) if key == self._sealer.newest else (newest, others + count)
        return newest, others

    def _left(self, transaction: Transaction) -> bool:
        """True if something is left that we could still do."""
        query = select(CONNECTION.c.id).where(self._old(), CONNECTION.c.id.not_in(self._broken)).limit(1)
        return transaction.execute(query).first() is not None


def _free(old: Any, now: datetime, after: str) -> Select[Any]:
    """A batch of rows that nobody holds, locked until it is written."""
    nobody = or_(CONNECTION.c.lease_until.is_(None), CONNECTION.c.lease_until <= now)
    columns = (CONNECTION.c.id, CONNECTION.c.version, *(CONNECTION.c[name] for pair in SEALED.items() for name in pair))
    batch = select(*columns).where(old, nobody, CONNECTION.c.id > after).order_by(CONNECTION.c.id).limit(BATCH)
    return batch.with_for_update(skip_locked=True)
