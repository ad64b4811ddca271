"""Serves the sandbox over real sockets: until told to stop, or beside a test in a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from starlette.types import ASGIApp

from linker.network.serving import Server, listen, set_by_signals, url_of
from linker.sandbox.app import Sandbox
from linker.sandbox.world import World

#: Where the sandbox listens unless told: this machine only.
HOST = "127.0.0.1"
#: The port of the examples.
PORT = 8787

#: Seconds that requests in flight get when the server stops.
_GRACE_SECONDS = 1
_STOP_SECONDS = 10.0
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
    listener = listen(host, port)
    stop = stop or asyncio.Event()

    def ready(url: str) -> None:
        if on_ready is not None:
            on_ready(template_of(url))

    with _quiet_uvicorn(), set_by_signals(stop) if handle_signals else nullcontext():
        await _server(world).serve_until(stop, listener, ready)


@contextmanager
def running(world: World | ASGIApp, port: int = 0, *, host: str = HOST) -> Iterator[str]:
    """Serves a world (or an app over one) from a thread for as long as the block lasts.

    Gives the URL template, `http://127.0.0.1:PORT/{subdomain}`; port 0 picks a free one. The world may be
    changed meanwhile. Raises `OSError` when the port is taken.
    """
    listener = listen(host, port)
    with _quiet_uvicorn():
        server = _server(world)
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            yield template_of(url_of(listener))
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)


def template_of(url: str) -> str:
    """The template for the accounts' URLs beneath one."""
    return f"{url}/{{subdomain}}"


def _server(world: World | ASGIApp) -> Server:
    app: ASGIApp = Sandbox(world) if isinstance(world, World) else world
    return Server(app, grace_seconds=_GRACE_SECONDS, lifespan=False)


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
