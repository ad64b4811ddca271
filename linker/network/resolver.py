"""Names of hosts, looked up in threads of our own.

The event loop's own look-up takes threads of the host's default executor. Its threads are waited for when the loop and
the interpreter end, and a name server that does not answer holds each of them for half a minute. Ours hold nobody up.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

#: How many names are looked up at the same time; a look-up that hangs counts until the system gives it up.
MOST_LOOKUPS = 32
#: What the system says when this process, or this machine, may open no more files.
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class OwnThreadsResolver(AbstractResolver):
    """Asks the system for the addresses of a name, as `socket.getaddrinfo` does."""

    def __init__(self) -> None:
        """Nothing is looked up yet."""
        self._free = asyncio.Semaphore(MOST_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            OSError: it has none, the name server does not answer, or this process may open no more files.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Any]] = loop.create_future()

        def take(answer: list[Any] | OSError) -> None:
            self._free.release()
            if found.done():
                return
            if isinstance(answer, OSError):
                found.set_exception(answer)
            else:
                found.set_result(answer)

        def look_up() -> None:
            answer: list[Any] | OSError
            try:
                answer = socket.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            except OSError as error:
                answer = error
                try:  # the system says that it cannot find a name, too, when no file may be opened for asking
                    os.close(os.open(os.devnull, os.O_RDONLY))
                except OSError as closed:
                    answer = closed if out_of_files(closed) else error
            except UnicodeError:  # a label that is too long
                answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(take, answer)

        await self._free.acquire()
        try:
            # a daemon: neither the loop's end nor the interpreter's waits for it
            threading.Thread(target=look_up, name="linker-resolver", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError("no thread for looking up a name") from error
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                # a link-local address of IPv6 belongs to an interface
                host=f"{address[0]}%{address[3]}" if len(address) > 3 and address[3] else address[0],
                port=address[1],
                family=family_found,
                proto=proto,
                flags=numeric,
            )
            for family_found, _, proto, _, address in await found
            if family_found in {socket.AF_INET, socket.AF_INET6}
        ]

    async def close(self) -> None:
        """Look-ups under way end by themselves."""


def out_of_files(error: BaseException) -> bool:
    """True if an error, or one that caused it, means that no more files may be opened: trouble of ours."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in OUT_OF_FILES:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
