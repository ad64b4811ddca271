"""Our log events: to `structlog` where the host has set that up, and otherwise to `logging`, under the name `linker`.

Nothing is set up here. structlog that nobody set up prints to stdout, which is the host's; so it is asked each time.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

__all__ = ["log"]


class EventLog:
    """Takes events, dotted and in the past tense, with their values: `log.info("step.written", actor="host")`."""

    def __init__(self, name: str) -> None:
        """Take the name that the events are found under."""
        self._structured = structlog.get_logger(name)
        self._plain = logging.getLogger(name)

    def info(self, event: str, **values: Any) -> None:
        """Something happened."""
        self._tell(logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Something did not go as it should, and we go on."""
        self._tell(logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        """Somebody has to do something."""
        self._tell(logging.ERROR, event, values)

    def _tell(self, level: int, event: str, values: dict[str, Any]) -> None:
        """In `logging` the values stand in the message, and as `record.linker` for who writes JSON."""
        if structlog.is_configured():
            getattr(self._structured, logging.getLevelName(level).lower())(event, **values)
        elif self._plain.isEnabledFor(level):
            told = " ".join(f"{name}={value!r}" for name, value in values.items())
            extra = {"linker": {"event": event, **values}}
            self._plain.log(level, f"{event} %s", told, extra=extra, stacklevel=3)


log = EventLog("linker")
