"""Serves the sandbox over real sockets: until told to stop, or beside a test in a thread."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager

import uvicorn
from starlette.types import ASGIApp

from linker.sandbox.app import Sandbox
from linker.sandbox.world import World

#: Where the sandbox listens unless told: this machine only.
HOST = "127.0.0.1"
#: The port of the examples.
PORT = 8787

#: Seconds that requests in flight get when the server stops.
_GRACE_SECONDS = 1
_STOP_SECONDS = 10.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_UVICORN_LOGGERS = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi")


async def serve(
    world: World | ASGIApp,
    host: str = HOST,
    port: int = PORT,
    *,
    stop: asyncio.Event | None = None,
    handle_signals: bool = False,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serves a world (or an app over one) until `stop` is set or the task is cancelled.

    Requests in flight get a second to end.

    With `handle_signals` SIGINT and SIGTERM stop it too; without, signals are left alone. `on_ready` is
    called once connections are accepted, with the URL template that goes into `LINKER_WORKABLE_URL`; port 0
    picks a free one. Raises `OSError` when the port is taken.
    """
    listener = _listen(host, port)
    stop = stop or asyncio.Event()
    with _quiet_uvicorn(), ExitStack() as signals:
        if handle_signals:
            loop = asyncio.get_running_loop()
            for each in _STOP_SIGNALS:
                loop.add_signal_handler(each, stop.set)
                signals.callback(loop.remove_signal_handler, each)
        server = _server(world)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        try:
            if on_ready is not None:
                on_ready(url_template(listener))
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            await serving


@contextmanager
def running(world: World | ASGIApp, port: int = 0, *, host: str = HOST) -> Iterator[str]:
    """Serves a world (or an app over one) from a thread for as long as the block lasts.

    Gives the URL template, `http://127.0.0.1:PORT/{subdomain}`; port 0 picks a free one. The world may be
    changed meanwhile. Raises `OSError` when the port is taken.
    """
    listener = _listen(host, port)
    with _quiet_uvicorn():
        server = _server(world)
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            yield url_template(listener)
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)


def url_template(listener: socket.socket) -> str:
    """Returns the address of a listening socket as a template with `{subdomain}` in it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{{subdomain}}"


def _listen(host: str, port: int) -> socket.socket:
    """Listens at once: who connects before the server runs waits in the backlog instead of being refused.

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


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures none."""
        yield


def _server(world: World | ASGIApp) -> _Server:
    app: ASGIApp = Sandbox(world) if isinstance(world, World) else world
    return _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


@contextmanager
def _quiet_uvicorn() -> Iterator[None]:
    """Silences uvicorn while the sandbox runs: a connection dropped on purpose is no error to report."""
    loggers = [logging.getLogger(name) for name in _UVICORN_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
