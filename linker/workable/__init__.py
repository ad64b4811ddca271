"""Workable: what is asked of it, how its answers are read, and how it is reached."""

from linker.workable.client import Timeouts, WorkableClient

__all__ = ["Timeouts", "WorkableClient"]
