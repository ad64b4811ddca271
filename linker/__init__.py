"""Link your customers' Workable accounts, from the first click to years later: the front door.

What is behind the door is imported when it is first asked for: a command that prints its help, or a process that only
reads, does not wait for what it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linker.blocking_linker import blocking
    from linker.encryption import new_key
    from linker.engine.sweep import Sweep
    from linker.errors import (
        BadInput,
        BadSettings,
        Busy,
        KeyMissing,
        LinkerError,
        NotFound,
        OurFault,
        Refused,
        RowUnreadable,
        SchemaMismatch,
        SealBroken,
        StoreUnavailable,
        TryAgain,
    )
    from linker.linker import Linker
    from linker.operations.retention import Pruned
    from linker.outbox.announcements import Announcement
    from linker.settings import Settings, load_settings
    from states.connection import Connection, ConnectionState

__all__ = [
    "Announcement",
    "BadInput",
    "BadSettings",
    "Busy",
    "Connection",
    "ConnectionState",
    "KeyMissing",
    "Linker",
    "LinkerError",
    "NotFound",
    "OurFault",
    "Pruned",
    "Refused",
    "RowUnreadable",
    "SchemaMismatch",
    "SealBroken",
    "Settings",
    "StoreUnavailable",
    "Sweep",
    "TryAgain",
    "blocking",
    "load_settings",
    "new_key",
]

_HOMES = {
    "Announcement": "linker.outbox.announcements",
    "Connection": "states.connection",
    "ConnectionState": "states.connection",
    "Linker": "linker.linker",
    "Pruned": "linker.operations.retention",
    "Settings": "linker.settings",
    "Sweep": "linker.engine.sweep",
    "blocking": "linker.blocking_linker",
    "load_settings": "linker.settings",
    "new_key": "linker.encryption",
}


if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """Import what is asked for; everything without a home of its own is an error."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES.get(name, "linker.errors")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """What can be asked for."""
    return sorted({*globals(), *__all__})
