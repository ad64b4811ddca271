"""Which version this is, and what is installed with it."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

from linker.errors import ExtraMissing


def version() -> str:
    """The version that is installed; `unknown` when it runs from a folder that was never installed."""
    try:
        return metadata.version("workable-linker")
    except metadata.PackageNotFoundError:
        return "unknown"


def from_extra(extra: str, module: str) -> Any:
    """Import a module that needs the packages of an extra.

    Raises:
        ExtraMissing: they are not installed.
    """
    missing = None
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"linker", "states"}:
            raise
        missing = error.name.partition(".")[0]
    raise ExtraMissing(extra, package=missing)
