"""The connection dialog: an ASGI app over a linker that it is given, by which a customer links an account alone.

It holds no memory and no rules: it loads, asks the linker, and shows. Needs the extra `dialog`.
"""

from typing import TYPE_CHECKING

from linker.version import from_extra

if TYPE_CHECKING:
    from linker.dialog.app import dialog_app

__all__ = ["dialog_app"]

if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """Import what serves pages when it is asked for. Raises ExtraMissing."""
        if name != "dialog_app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return from_extra("dialog", "linker.dialog.app").dialog_app
