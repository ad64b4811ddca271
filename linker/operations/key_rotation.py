"""Sealing every stored token again with the newest key, so that older keys can be dropped.

Small batches, each one transaction. A row is written only at the version that it was read at and only while nobody
holds its lease, so a worker never loses the answer that it is waiting for; leased rows are come back to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, or_, select, update

from linker.database.database import Database
from linker.encryption import TokenCipher, key_id_of
from linker.engine.ports import Clock
from linker.errors import Busy, SealBroken
from linker.operations.retention import POSTGRES_PAUSE_SECONDS, SQLITE_PAUSE_SECONDS
from linker.persistence.claims import lease_is_free
from linker.persistence.connection_store import open_database
from linker.persistence.server_clock import shared_clock
from linker.persistence.tables import CONNECTION
from linker.settings import Settings

#: The columns that hold sealed tokens, each with the column that names its key.
SEALED = {
    "token_sealed": "token_key_id",
    "candidate_sealed": "candidate_key_id",
    "held_sealed": "held_key_id",
}
BATCH_ROWS = 250
#: How many that do not open are named.
NAMED_ROWS = 50
#: How often, and how long apart, rows that workers hold are come back to: longer than a call takes.
ROUNDS = 60
PAUSE_SECONDS = 0.5

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
        BadSettings: there is no key. Nothing was changed.
        SealBroken: some tokens do not open, or their key is not set, and some of them are named; all others were sealed
            again.
        Busy: some rows were held by workers all the time; all others were done.
    """
    cipher = TokenCipher(settings.secret_keys)
    async with open_database(settings) as database:
        return await _Rotation(database, cipher).run(progress or (lambda done, total: None), clock)


def _sealed_with(transaction: Transaction) -> list[tuple[str, int]]:
    """With which keys tokens are sealed, and how many with each: once for each column that holds tokens."""
    key_ids = [CONNECTION.c[key_id] for key_id in SEALED.values()]
    counts = [select(key_id, func.count()).where(key_id.is_not(None)).group_by(key_id) for key_id in key_ids]
    return [(key, number) for query in counts for key, number in transaction.execute(query)]


class _Rotation:
    def __init__(self, database: Database, cipher: TokenCipher) -> None:
        self._database = database
        self._cipher = cipher
        self._broken: set[str] = set()
        self._pause_seconds = SQLITE_PAUSE_SECONDS if database.is_sqlite else POSTGRES_PAUSE_SECONDS
        #: A token whose key is not set is left as it is: it costs no other one anything.
        self._older = sorted(cipher.key_ids - {cipher.newest})
        key_ids = [CONNECTION.c[key_id] for key_id in SEALED.values()]
        self._sealed_with_older = [key_id.in_(self._older) for key_id in key_ids]
        self._sealed_with_missing = [key_id.not_in(cipher.key_ids) for key_id in key_ids]

    async def run(self, progress: Progress, clock: Clock | None) -> Rotated:
        def left(transaction: Transaction) -> bool:
            query = (
                select(CONNECTION.c.id)
                .where(or_(*self._sealed_with_older), CONNECTION.c.id.not_in(self._broken))
                .limit(1)
            )
            return transaction.execute(query).first() is not None

        def without_a_key(transaction: Transaction) -> list[str]:
            query = select(CONNECTION.c.id).where(or_(*self._sealed_with_missing)).limit(NAMED_ROWS)
            return [str(found) for found in transaction.execute(query).scalars()]

        rotated, total = Rotated(), 0
        for key, count in await self._database.read(_sealed_with):
            if key == self._cipher.newest:
                rotated.already += count
            elif key in self._older:
                total += count
        for _ in range(ROUNDS):
            pass_clock = clock or await shared_clock(self._database)
            last: str | None = ""
            while last is not None:
                last, resealed = await self._database.write(
                    partial(self._reseal_batch, now=pass_clock.now(), after=last)
                )
                rotated.resealed += resealed
                progress(rotated.resealed, total)
                await asyncio.sleep(self._pause_seconds if last is not None else 0)
            if not await self._database.read(left):
                break
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            raise Busy("held_by_workers")
        unopened = sorted({*self._broken, *await self._database.read(without_a_key)})[:NAMED_ROWS]
        if unopened:
            raise SealBroken("some", resealed=rotated.resealed, already=rotated.already, connections=unopened)
        return rotated

    def _reseal_batch(self, transaction: Transaction, *, now: datetime, after: str) -> tuple[str | None, int]:
        """Write the next rows that nobody holds, in the order of the ids.

        Gives the last id that was looked at (None: there was none) and how many tokens were sealed again.
        """
        columns = [CONNECTION.c[name] for pair in SEALED.items() for name in pair]
        free = lease_is_free(CONNECTION.c.lease_until, now)
        batch = (
            select(CONNECTION.c.id, CONNECTION.c.version, *columns)
            .where(or_(*self._sealed_with_older), free, CONNECTION.c.id > after)
            .order_by(CONNECTION.c.id)
            .limit(BATCH_ROWS)
            .with_for_update(skip_locked=True)
        )
        last, resealed = None, 0
        for row in transaction.execute(batch).mappings().all():
            last = row["id"]
            changes: dict[str, Any] = {}
            try:
                for sealed, key_id in SEALED.items():
                    if row[sealed] is not None and row[key_id] in self._older:
                        token = self._cipher.open(row[sealed], bound_to=last)
                        changes[sealed] = self._cipher.seal(token, bound_to=last)
                        changes[key_id] = key_id_of(changes[sealed])
            except SealBroken:
                self._broken.add(last)
                continue
            unchanged = (CONNECTION.c.id == last, CONNECTION.c.version == row["version"])
            written = update(CONNECTION).where(*unchanged).values(**changes, version=row["version"] + 1)
            resealed += len(changes) // 2 if transaction.execute(written).rowcount else 0
        return last, resealed
