"""Logging is set up here and nowhere else: events to stderr, coloured on a terminal, one JSON object a line otherwise.

Other libraries are heard from WARNING on, whatever the level, because they would tell too much at DEBUG. Tracebacks
hold no values.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from linker.validation.text import visible

if TYPE_CHECKING:
    from linker.settings import Settings


def follow(settings: Settings) -> None:
    """Log as the settings say; a command that ends soon says only what went wrong, unless a level was asked for."""
    configure(settings.log_level if "log_level" in settings.model_fields_set else "warning")


def configure(level: str) -> None:
    """Set up logging for the process; `level` is the least serious of our own events that is shown."""
    stamps: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *stamps,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=False,
    )
    renderers: list[Processor] = [structlog.processors.JSONRenderer(default=str)]
    if sys.stderr.isatty():
        colours, plain = not os.environ.get("NO_COLOR"), structlog.dev.plain_traceback
        renderers = [_visible, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_values,
                *renderers,
            ],
        )
    )
    # What was cut off because the process ends is no error, though APScheduler calls it one.
    handler.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)))
    logging.raiseExceptions = False
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, logging.getLevelName(level.upper())), force=True)
    logging.getLogger("linker").setLevel(level.upper())
    # It warns whenever a beat is left out because the one before is still under way, and that is as it should be.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def _without_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn an exception into where it happened."""
    given: Any = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if given is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = trace(error)
    return event


def _visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Let no text of an event move a terminal's cursor."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}


def trace(error: BaseException) -> str:
    """The frames of an error and of those that caused it: files, lines and names of types; no value, no message."""
    told = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__module__}.{type(error).__qualname__}"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{trace(before)}\n\nled to\n\n{told}" if before is not None else told
