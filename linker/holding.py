"""The leases of what is claimed and not written yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from linker.errors import LinkerError
from linker.leasing import Leasing
from linker.ports import Lease, Store
from states.connection import Connection

#: What a lease is for: a connection's id, and the version that it was claimed at.
Hold = tuple[str, int]


class Holding:
    """What a pass holds: renewed in time, given back when nothing came of it."""

    def __init__(self, store: Store, leasing: Leasing) -> None:
        self._store = store
        self._leasing = leasing
        #: By connection and version: a pass that stood still may meet a connection twice.
        self._leases: dict[Hold, Lease] = {}
        #: How many were given back, or left to end by themselves: nothing of ours was written.
        self.lost = 0

    def __len__(self) -> int:
        return len(self._leases)

    def took(self, batch: Iterable[Connection], lease: Lease) -> None:
        """Hold what was claimed under a lease."""
        self._leases |= {_hold(connection): lease for connection in batch}

    def allows_a_call(self, connection: Connection) -> bool:
        """True if a call that begins now surely ends before the lease of this connection does."""
        return self._leasing.allows_a_call(self._leases[_hold(connection)])

    def wrote(self, connection: Connection) -> None:
        """Hold no longer what was written: its lease was given back in the same commit."""
        del self._leases[_hold(connection)]

    async def renew_all(self) -> None:
        """Let what is held last as long as if it was claimed now. What is lost by now is left as it is."""
        for lease, holds in self._by_lease(list(self._leases)).items():
            renewed = self._leasing.renewed(lease)
            kept = await self._store.renew(_ids(holds), renewed)
            self._leases |= {hold: renewed for hold in holds if hold in self._leases and hold[0] in kept}

    async def give_back(self, connections: Iterable[Connection]) -> None:
        """Give back what nothing came of, so that nobody has to wait for its leases to run out."""
        await self._release([_hold(connection) for connection in connections])

    async def let_go(self, connections: Sequence[Connection]) -> None:
        """Give back what nobody has begun. Where that fails its leases end by themselves: they are not renewed."""
        try:
            await self.give_back(connections)
        except LinkerError:
            self._forget([_hold(connection) for connection in connections])

    async def give_back_all(self) -> None:
        """Give back whatever is held."""
        await self._release(list(self._leases))

    async def _release(self, holds: Sequence[Hold]) -> None:
        for lease, of_it in self._by_lease(holds).items():
            await self._store.release(_ids(of_it), lease)
            self._forget(of_it)  # only now: whoever is cancelled before leaves it to the end of the pass

    def _forget(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            if self._leases.pop(hold, None) is not None:
                self.lost += 1

    def _by_lease(self, holds: Sequence[Hold]) -> dict[Lease, list[Hold]]:
        by_lease: dict[Lease, list[Hold]] = {}
        for hold in holds:
            by_lease.setdefault(self._leases[hold], []).append(hold)
        return by_lease


def _hold(connection: Connection) -> Hold:
    """What a lease is for: a connection, as it was claimed."""
    return connection.id, connection.version


def _ids(holds: Sequence[Hold]) -> list[str]:
    return [connection_id for connection_id, _ in holds]
