"""Health from use: what a host's calls met is told to the engine, which looks itself and decides by its own rules.

Nobody waits for it: the caller has its answer already. Of each connection one report is enough for a minute.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol

from linker.engine.ports import Clock
from linker.errors import LinkerError
from linker.event_log import log
from linker.workable import api
from states.connection import Connection
from states.events import PermissionTried, UseConfirmed
from states.table import REPORTS_APART, look_can_be_spared, permission_is_news

#: The calls that linking itself makes: a 403 there concerns the link, everywhere else a permission of the host's.
PATHS_OF_LINKING = frozenset({"accounts", "accounts/{subdomain}", "recruiters", "members"})
#: How many connections are remembered.
CONNECTIONS_KEPT = 10_000


class Teller(Protocol):
    """The engine, as far as reports go to it."""

    @property
    def clock(self) -> Clock:
        """The clock that counts."""
        ...

    @property
    def health_every(self) -> timedelta:
        """How often a linked account is looked at."""
        ...

    async def report_refusal(self, connection_id: str) -> None:
        """A call was refused with the token in use."""
        ...

    async def report_permission(self, connection_id: str, scope: str, *, allowed: bool) -> None:
        """A call that needs this permission was answered, or refused."""
        ...

    async def report_use(self, connection_id: str) -> None:
        """Calls go well."""
        ...


class UseReports:
    """Tells the engine, in tasks of its own."""

    def __init__(self, teller: Teller) -> None:
        """Take the engine."""
        self._teller = teller
        self._lately: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def refused(self, connection: Connection, status: int, method: str, path: str) -> None:
        """A call with the token in use was refused: 401 or 403. `path` is a template."""
        scope = api.scope_of(method, path)
        if status == 401 or path in PATHS_OF_LINKING or scope == api.SCOPE:
            if self._is_due(connection.id, "refused"):
                self._begin(connection.id, self._teller.report_refusal(connection.id))
        elif scope is not None:
            self._tried(connection, scope, allowed=False)

    def _tried(self, connection: Connection, scope: str, *, allowed: bool) -> None:
        """Tell what is not known yet of a permission that linking does not need."""
        is_news = permission_is_news(connection, PermissionTried(scope, allowed))
        if is_news and self._is_due(connection.id, f"{scope} {allowed}"):
            self._begin(connection.id, self._teller.report_permission(connection.id, scope, allowed=allowed))

    def went_well(self, connection: Connection, method: str, path: str) -> None:
        """A call with the token in use was answered well; that is told in the second half of the time between looks.

        So a permission that was missing is there again, and one to write is verified.
        """
        scope = api.scope_of(method, path)
        if scope not in (None, api.SCOPE):
            self._tried(connection, scope, allowed=True)
        if connection.due_at is None or not look_can_be_spared(connection, UseConfirmed()):
            return
        soon = connection.due_at - self._teller.clock.now() <= self._teller.health_every / 2
        if soon and self._is_due(connection.id, "went_well"):
            self._begin(connection.id, self._teller.report_use(connection.id))

    def _is_due(self, connection_id: str, what: str) -> bool:
        """True once a minute for each connection."""
        now, told = self._teller.clock.now(), self._lately.get((connection_id, what))
        if told is not None and timedelta(0) <= now - told < REPORTS_APART:
            return False
        self._lately[connection_id, what] = now
        self._lately.move_to_end((connection_id, what))
        if len(self._lately) > CONNECTIONS_KEPT:
            self._lately.popitem(last=False)
        return True

    def _begin(self, connection_id: str, telling: Coroutine[Any, Any, None]) -> None:
        async def tell() -> None:
            try:
                await telling
            except LinkerError as error:  # the next call that meets it tells it
                log.warning("account.not_reported", connection_id=connection_id, code=error.code, reason=error.reason)

        task = asyncio.create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
