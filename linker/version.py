"""Which version this is."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version that is installed; `unknown` when it runs from a folder that was never installed."""
    try:
        return metadata.version("workable-linker")
    except metadata.PackageNotFoundError:
        return "unknown"
