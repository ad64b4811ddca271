"""Serving the dialog over a socket, as `linker dialog` does."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from linker.dialog.app import dialog_app
from linker.linker import Linker

#: How long requests that are under way may take when the server ends, in seconds.
GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


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
    listener, stop = listen(host, port), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with linker:
            await serve_app(dialog_app(linker), listener, stop, on_ready=on_ready)
    finally:
        listener.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve_app(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, *, on_ready: Callable[[str], None]
) -> None:
    """Serve an app on a socket that listens, until told to stop; requests that are under way get some seconds."""
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,  # paths may hold secrets: the dialog logs its requests without them
            log_config=None,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        on_ready(address_of(listener))
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
