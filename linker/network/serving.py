"""Serving an ASGI app over a socket until told to stop. Imported only by what is installed with uvicorn."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

#: What tells a program to stop: a supervisor, and Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """A server that leaves signals, and what is logged, to whoever runs it."""

    def __init__(self, app: ASGIApp, *, grace_seconds: int, lifespan: bool) -> None:
        """Take the app.

        Args:
            app: what answers.
            grace_seconds: how long requests that are under way may take when the server ends.
            lifespan: the app is told when the server begins and ends.
        """
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="auto" if lifespan else "off",
                access_log=False,  # paths may hold secrets
                log_config=None,
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=grace_seconds,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def serve_until(
        self, stop: asyncio.Event, listener: socket.socket, on_ready: Callable[[str], object]
    ) -> None:
        """Serve on a socket that listens until told to stop; `on_ready` is called with its URL."""
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        try:
            on_ready(url_of(listener))
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self.should_exit = True
            await serving


@contextmanager
def set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """For one block, what tells the program to stop sets this event."""
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at once: who connects before a server runs waits in the backlog. Raises OSError.

    The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it; without, an answer in two
    writes waits 40 ms for the client's acknowledgement.
    """
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


def url_of(listener: socket.socket) -> str:
    """Where a socket listens, as in `http://127.0.0.1:8788`."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
