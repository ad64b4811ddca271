"""The numbers of a worker on a socket, for Prometheus to fetch. Imported only when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, start_http_server

from linker.errors import BadInput
from linker.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Served:
    """Numbers that can be fetched: who counts them, and where they are."""

    observer: Metrics
    url: str


@contextmanager
def served(host: str, port: int) -> Iterator[Served]:
    """Serve the numbers for one block, from a thread of its own, with those of the process itself (`process_…`).

    Raises:
        BadInput: the address cannot be listened on.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # no `…_created` beside each number: the process is ours
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = Metrics(registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        cause = error.strerror or str(error)
        raise BadInput("metrics-port", "cannot_listen", address=f"{host}:{port}", cause=cause) from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield Served(metrics, f"http://{shown}:{server.server_port}/metrics")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
