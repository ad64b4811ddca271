"""Spans for OpenTelemetry. Imported only where its API is installed; the SDK and the exporter are the host's choice.

    linker.sweep                   linker.submit_token
    ├── linker.claim               ├── linker.settle
    ├── linker.call …              ├── linker.claim
    ├── linker.settle              ├── linker.call
    └── linker.claim               └── linker.settle

Attributes are `linker.…` and those of OpenTelemetry's semantic conventions that fit; an exception is named by its code
and never quoted, because it may say too much.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider, SpanKind, Status, StatusCode, TracerProvider

from linker.engine.observer import UNWATCHED, Fact, Note, Statistics, Work
from linker.errors import LinkerError

#: What goes out of the process; everything else is INTERNAL.
KINDS = {
    Work.CLAIM: SpanKind.CLIENT,
    Work.SETTLE: SpanKind.CLIENT,
    Work.CALL: SpanKind.CLIENT,
    Work.USE: SpanKind.CLIENT,
    Work.DELIVERY: SpanKind.PRODUCER,
}


class Tracing:
    """An observer that makes spans. Where the process has no tracer provider it does next to nothing."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        """Take the provider; by default that of the process, whenever it is set."""
        self._given = provider is not None
        self._tracer = trace.get_tracer("linker", tracer_provider=provider)
        self._listening = self._given

    def watch(self, work: Work, **facts: Fact) -> AbstractContextManager[Note]:
        """Make a span, if anybody takes spans.

        Whether somebody does is asked before each claim and each press, not before each call: there are too many.
        """
        if work is not Work.CALL:
            self._listening = self._given or not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)
        return self._span(work, facts) if self._listening else UNWATCHED

    @contextmanager
    def _span(self, work: Work, facts: dict[str, Fact]) -> Iterator[Note]:
        with self._tracer.start_as_current_span(
            f"linker.{work.value}",
            kind=KINDS.get(work, SpanKind.INTERNAL),
            attributes=_attributes(facts),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield lambda **more: span.set_attributes(_attributes(more))
            except Exception as error:
                name = error.code if isinstance(error, LinkerError) else type(error).__qualname__
                span.set_attribute("error.type", name)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def leases_lost(self, count: int) -> None:
        """Say so in the span that is open."""
        if count and self._listening:
            trace.get_current_span().add_event("linker.leases_lost", {"linker.count": count})

    def statistics_read(self, statistics: Statistics) -> None:
        """What is in the database is nothing for a trace."""


def _attributes(facts: dict[str, Fact]) -> dict[str, Fact]:
    return {f"linker.{name}": fact for name, fact in facts.items()}
