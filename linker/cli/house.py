"""What commands work with: the settings, an open linker, the store alone for reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from linker.cli import logs
from linker.host import Linker
from linker.settings import Settings, load_settings

T = TypeVar("T")


def settings() -> Settings:
    """The settings of this process; logging follows them from here on. Raises BadSettings."""
    loaded = load_settings()
    logs.follow(loaded)
    return loaded


def with_linker(work: Callable[[Linker], Awaitable[T]], linker: Linker | None = None) -> T:
    """Do something with an open linker, and close it. Raises what `Linker` raises."""

    async def opened() -> T:
        async with linker or Linker(settings()) as entered:
            return await work(entered)

    return asyncio.run(opened())
