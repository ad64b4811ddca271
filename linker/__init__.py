"""Link your customers' Workable accounts, from the first click to years later: the front door."""

from linker.blocking import blocking
from linker.errors import (
    BadInput,
    BadSettings,
    Busy,
    LinkerError,
    NotFound,
    OurFault,
    Refused,
    SchemaMismatch,
    SealBroken,
    StoreUnavailable,
    TryAgain,
)
from linker.host import Linker
from linker.ports import Announcement
from linker.sealing import new_key
from linker.settings import Settings, load_settings
from linker.sweep import Sweep
from states.connection import Connection, ConnectionState

__all__ = [
    "Announcement",
    "BadInput",
    "BadSettings",
    "Busy",
    "Connection",
    "ConnectionState",
    "Linker",
    "LinkerError",
    "NotFound",
    "OurFault",
    "Refused",
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
