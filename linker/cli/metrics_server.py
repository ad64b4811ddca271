"""The numbers of a worker on a socket, for Prometheus to fetch. Imported only when they are asked for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, make_wsgi_app

from linker.errors import BadInput
from linker.telemetry.metrics import Metrics


class _Threads(ThreadingMixIn, WSGIServer):
    """A slow reader keeps nobody waiting."""

    daemon_threads = True


class _Threads6(_Threads):
    """The same for an address of IPv6."""

    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Threads]:
    return _Threads6 if ":" in host else _Threads


class _Quiet(WSGIRequestHandler):
    """A request is no news."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Served:
    """Numbers that can be fetched: who counts them, and where they are."""

    observer: Metrics
    url: str


@contextmanager
def served(host: str, port: int, is_ready: Callable[[], bool]) -> Iterator[Served]:
    """Serve the numbers for one block, from a thread of its own, with those of the process itself (`process_…`).

    Beside them `/healthz` says that the process is live, and whether it is ready: 200, or 503 while it is not.

    Raises:
        BadInput: the address cannot be listened on.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # no `…_created` beside each number: the process is ours
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = Metrics(registry)
    numbers = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/healthz":
            told: Iterable[bytes] = numbers(environ, start_response)
            return told
        ready = is_ready()
        status = "200 OK" if ready else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [json.dumps({"live": True, "ready": ready}).encode()]

    try:
        server = make_server(host, port, answer, _server_class(host), _Quiet)
    except OSError as error:
        cause = error.strerror or str(error)
        raise BadInput("metrics-port", "cannot_listen", address=f"{host}:{port}", cause=cause) from None
    thread = threading.Thread(target=server.serve_forever, name="linker-metrics", daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield Served(metrics, f"http://{shown}:{server.server_port}/metrics")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
