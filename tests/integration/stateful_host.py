"""The host that is told: it remembers what its handlers heard, and one of them fails at times."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from linker import Announcement
from states.history import ANNOUNCEMENTS
from tests.integration.stateful_ledger import Ledger, Row, Snapshot
from tests.integration.stateful_workers import Worker

#: What the handler that fails at times listens to; the other one listens to everything.
SOME = ("connection.linked", "connection.failed", "connection.recovered", "token.accepted")


class HandlerBroke(Exception):
    """A fault of the host's."""


@dataclass
class Host:
    """Two handlers, and what reached them: the numbers of announcements, by handler and connection."""

    ledger: Ledger
    heard: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    #: How many more calls of the second handler fail.
    failures: int = 0

    def listen(self, worker: Worker) -> None:
        """Let this worker call the handlers."""

        async def steady(told: Announcement) -> None:
            worker.mortal.point()
            await asyncio.sleep(0.01)
            worker.mortal.breathe()
            self._hear("steady", told)

        def moody(told: Announcement) -> None:
            worker.mortal.point()
            self.failures -= 1
            if self.failures >= 0:
                raise HandlerBroke
            self._hear("moody", told)

        for name in ANNOUNCEMENTS:
            worker.linker.on(name)(steady)
        for name in SOME:
            worker.linker.on(name)(moody)

    def _hear(self, handler: str, told: Announcement) -> None:
        number = self.ledger.outbox_id(told.message_id)
        assert number is not None, "told of something that is not committed"
        self.heard[handler, told.connection_id].append(number)

    def check(self, after: Snapshot, *, stalled_ever: bool, all_told: bool = False) -> None:
        """Each handler hears of a connection in order, skips only what was given up, and at the end knows all."""
        for connection_id, outbox in after.outbox.items():
            for handler, types in {"steady": ANNOUNCEMENTS, "moody": SOME}.items():
                heard = self.heard[handler, connection_id]
                where = f"{handler} of {connection_id} heard {heard}"
                first = list(dict.fromkeys(heard))
                meant = _meant(outbox, types, heard)
                assert first == meant[: len(first)], f"{where} instead of {meant}"
                assert stalled_ever or heard == sorted(heard), f"{where}: not in order"
                assert not all_told or first == meant, f"{where} and not all of {meant}"


def _meant(outbox: list[Row], types: Collection[str], heard: Collection[int]) -> list[int]:
    """The numbers that a handler is meant to hear; without those that were given up or have lapsed."""
    return [row["id"] for row in outbox if row["type"] in types and (not _is_over(row) or row["id"] in heard)]


def _is_over(row: Row) -> bool:
    """It was given up, or has lapsed."""
    return row["due_at"] is None and row["delivered_at"] is None
