"""The calls that hosts may make to an account: taken from the budget that all processes share, in blocks.

A block is some calls for the next seconds, so that a request seldom costs a trip to the database. What of a block was
not used is given back when its time is over; a process that dies gives nothing back, and its block runs out by itself.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from asyncio import sleep
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from linker.engine.ports import BlockOfCalls, Clock
from linker.errors import LinkerError, TryAgain
from linker.event_log import log
from linker.http_client import Headers
from linker.workable import api
from linker.workable.rate_budget import LOOK, named_by_workable
from states.connection import Connection

#: For how long a block is taken: others wait for what of it is not used.
BLOCK_SECONDS = 5.0
#: How long a trip to the database is waited for at least, also by who waits for no turn.
TRIP_SECONDS = 2.0
#: How many accounts are remembered.
ACCOUNTS_KEPT = 10_000


class HostCalls(Protocol):
    """The budget that all processes share."""

    async def take(
        self, subdomain: str, *, now: datetime, block: BlockOfCalls, given_back: Mapping[str, Sequence[float]]
    ) -> BlockOfCalls:
        """Give back former blocks, and take a new one of at most so many calls."""
        ...

    async def learn(self, until: Mapping[str, datetime], *, now: datetime) -> None:
        """Workable wants no calls to these accounts before these times."""
        ...


@dataclass(slots=True)
class _Account:
    """What this process has of an account's budget. Times are Unix seconds."""

    left: int = 0
    until: float = 0.0
    #: When more may be had, as far as is known.
    free_at: float = 0.0
    #: Blocks that were not given back yet, and when their calls were made.
    made: dict[str, list[float]] = field(default_factory=dict)
    block: str = ""
    refilling: asyncio.Task[None] | None = None

    def use(self, now: float) -> bool:
        """Use one call, if there is one."""
        if self.left <= 0 or not self.free_at <= now < self.until:
            return False
        self.left -= 1
        self.made[self.block].append(now)
        return True


class HostBudget:
    """Takes calls for hosts, account by account. Nobody holds a lock: whoever waits may stop at any time."""

    def __init__(self, calls: HostCalls, clock: Clock, *, partner: bool = False) -> None:
        """Take the budget that all share. `partner`: it is five times as large."""
        self._calls = calls
        self._clock = clock
        limit = api.PARTNER_LIMIT if partner else api.ACCOUNT_LIMIT
        self._limit = limit
        # a partner's calls are few in a second, over all accounts: a block would take them from the others
        self._most = 1 if partner else api.HOSTS_OF_TEN
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._learnt: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, connection: Connection, *, wait: float) -> float:
        """Take one call to this connection's account, waiting so many seconds at most; gives how long it waited.

        Raises:
            TryAgain: none is to be had in this time; `retry_after` says when one may be.
            StoreUnavailable: the database cannot be reached.
        """
        began = time.monotonic()
        subdomain = account_of(connection)
        account = self._account(subdomain)
        while not account.use(now := self._clock.now().timestamp()):
            pause, may_wait = account.free_at - now, wait - (time.monotonic() - began)
            if pause <= 0:
                if await self._refilled(subdomain, account, max(may_wait, TRIP_SECONDS)):
                    continue
                pause = TRIP_SECONDS
            elif pause <= may_wait:
                await sleep(pause)
                continue
            refused = TryAgain("over_budget", after=round(pause, 1))
            refused.retry_after = pause
            raise refused
        return time.monotonic() - began

    async def _refilled(self, subdomain: str, account: _Account, seconds: float) -> bool:
        """Take a block for all who wait for one. False if that takes longer than so many seconds."""
        if account.refilling is None:
            account.refilling = self._begin(self._refill(subdomain, account, self._most))
        refilling = account.refilling
        done, _ = await asyncio.wait([refilling], timeout=seconds)
        for refilled in done:
            refilled.result()
        return bool(done)

    async def _refill(self, subdomain: str, account: _Account, wanted: int) -> None:
        account.left = 0  # what is left of the former block is given back
        now = self._clock.now()
        wish = BlockOfCalls(secrets.token_hex(6), calls=wanted, until=now.timestamp() + BLOCK_SECONDS)
        given_back = {name: tuple(times) for name, times in account.made.items()}
        try:
            block = await self._calls.take(subdomain, now=now, block=wish, given_back=given_back)
        finally:
            account.refilling = None
        for name in given_back:
            del account.made[name]
        if block.calls:
            account.block, account.left, account.until = block.name, block.calls, block.until
            account.made[block.name] = []
            asyncio.get_running_loop().call_later(BLOCK_SECONDS, self._give_back, subdomain, account, block)
        account.free_at = max(account.free_at, block.free_at)

    def _give_back(self, subdomain: str, account: _Account, block: BlockOfCalls) -> None:
        """The time of a block is over: others may have what of it was not used."""
        unused = len(account.made.get(block.name, ())) < block.calls
        if unused and block.name in account.made and account.refilling is None:
            account.refilling = self._begin(self._refill(subdomain, account, 0))

    async def close(self) -> None:
        """Give back what is not used, for others; if the database is away it runs out by itself."""
        for subdomain, account in self._accounts.items():
            account.left = 0
            if account.made and account.refilling is None:
                account.refilling = self._begin(self._refill(subdomain, account, 0))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def learn(self, connection: Connection, status: int, headers: Headers) -> None:
        """Workable answered a host: its headers, by their lower-case names, say what is left."""
        now = self._clock.now()
        until = named_by_workable(status, headers, now, limit=self._limit, allowance=LOOK)
        if until is not None:
            self.learnt(account_of(connection), until)

    def learnt(self, subdomain: str, until: datetime) -> None:
        """Workable wants no call to this account before a time: nobody makes one, in no process."""
        account = self._account(subdomain)
        if until.timestamp() <= account.free_at:
            return
        account.free_at, account.left = until.timestamp(), 0
        is_first = not self._learnt
        self._learnt[subdomain] = until
        if is_first:
            self._begin(self._tell())

    async def _tell(self) -> None:
        """Let all processes know what was learnt, in one transaction."""
        await sleep(0)
        learnt, self._learnt = self._learnt, {}
        await self._calls.learn(learnt, now=self._clock.now())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it beside; what goes wrong with it is whoever's who waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LinkerError):
            log.warning("budget.not_told", code=error.code, reason=error.reason)

    def _account(self, subdomain: str) -> _Account:
        account = self._accounts.get(subdomain)
        if account is None:
            account = self._accounts[subdomain] = _Account()
            if len(self._accounts) > ACCOUNTS_KEPT:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(subdomain)
        return account


def account_of(connection: Connection) -> str:
    """The subdomain of the account that a connection's calls count for."""
    return connection.account.subdomain if connection.account else connection.subdomain or ""
