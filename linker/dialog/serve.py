"""Serving the dialog over a socket, as `linker dialog` does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from linker.dialog.app import dialog_app
from linker.linker import Linker
from linker.network.serving import Server, listen, set_by_signals

#: How long requests that are under way may take when the server ends, in seconds.
GRACE_SECONDS = 5


async def serve(linker: Linker, host: str, port: int, *, on_ready: Callable[[str], None]) -> None:
    """Serve the dialog until SIGTERM or SIGINT, with a linker that is opened and closed here.

    Args:
        linker: whose connections are linked.
        host: the address to listen on.
        port: 0 picks a free one.
        on_ready: is called with the address once it listens.

    Raises:
        OSError: the address cannot be listened on.
    """
    stop = asyncio.Event()
    with listen(host, port) as listener, set_by_signals(stop):
        async with linker:
            await serve_app(dialog_app(linker), listener, stop, on_ready=on_ready)


async def serve_app(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, *, on_ready: Callable[[str], None]
) -> None:
    """Serve an app on a socket that listens, until told to stop; requests that are under way get some seconds."""
    await Server(app, grace_seconds=GRACE_SECONDS, lifespan=True).serve_until(stop, listener, on_ready)
