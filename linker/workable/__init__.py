"""Workable: what is asked of it, how its answers are read, and how it is reached."""

from linker.workable.client import Timeouts, WorkableClient
from linker.workable.transport import build_http

__all__ = ["Timeouts", "WorkableClient", "build_http"]
