"""Where something went wrong, without the values: frames hold tokens, and messages quote them."""

from __future__ import annotations

import traceback


def trace(error: BaseException) -> str:
    """The frames of an error and of those that caused it: files, lines and names of types; no value, no message."""
    told = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__module__}.{type(error).__qualname__}"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{trace(before)}\n\nled to\n\n{told}" if before is not None else told
