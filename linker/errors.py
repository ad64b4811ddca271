"""What can go wrong, sorted by what happens next.

LinkerError
├── BadInput            the caller gave something unusable: names the field, the cause and the next step
│   └── BadSettings     the same, for settings and keys
├── NotFound            no such connection or announcement
├── Refused             what was asked for is not possible now: the law says no
├── TryAgain            nothing is wrong with the request: the same call may work later
│   ├── Busy            somebody else is at this connection
│   └── StoreUnavailable  the database cannot be reached, is full, or cannot be written
└── OurFault            a fault of the program or of its database: tell the operator
    ├── SealBroken      a sealed token does not open
    │   └── KeyMissing  the same, because this process was not given its key
    ├── RowUnreadable   a row was written by other means, and cannot be read
    └── SchemaMismatch  the database is not of this version

Each carries `code`, a stable lower-case name, and `exit_code`, what the `linker` command ends with.
"""

from __future__ import annotations

from typing import ClassVar


class LinkerError(Exception):
    """The root of all errors of this library. The text is fit for people and holds no secret."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class BadInput(LinkerError):
    """Something given cannot be used. Nothing was changed."""

    code = "bad_input"
    exit_code = 2

    def __init__(self, field: str, cause: str, next_step: str) -> None:
        """Name the `field`, the `cause`, and the `next_step` that helps."""
        super().__init__(f"{field}: {cause} {next_step}")
        self.field = field
        self.cause = cause
        self.next_step = next_step


class BadSettings(BadInput):
    """A setting or a key is missing or unusable."""

    code = "bad_settings"


class NotFound(LinkerError):
    """There is nothing with this id: no connection, no announcement."""

    code = "not_found"
    exit_code = 3

    def __init__(self, wanted: str, *, what: str = "connection", shown_by: str = "list") -> None:
        """Name the id that was asked for, what it should be of, and the command that shows those that exist."""
        super().__init__(f"There is no {what} {wanted!r}. `linker {shown_by}` shows those that exist.")
        self.wanted = wanted


class Refused(LinkerError):
    """What was asked for is not possible as things stand. Nothing was changed."""

    code = "refused"
    exit_code = 4


class TryAgain(LinkerError):
    """Nothing is wrong with the request; the same call may work later."""

    code = "try_again"
    exit_code = 5


class Busy(TryAgain):
    """Somebody else is attending this connection and did not finish in time."""

    code = "busy"


class StoreUnavailable(TryAgain):
    """The database cannot be reached, is full, or cannot be written. Nothing was half-done."""

    code = "store_unavailable"


class OurFault(LinkerError):
    """A fault on our side."""

    code = "our_fault"


class SealBroken(OurFault):
    """A sealed token does not open: its key is missing, or it was not sealed for this row."""

    code = "seal_broken"


class KeyMissing(SealBroken):
    """A token is sealed with a key that this process was not given; another process may have it."""

    code = "key_missing"


class RowUnreadable(OurFault):
    """A row holds what no connection can hold: somebody wrote it by other means."""

    code = "row_unreadable"


class SchemaMismatch(OurFault):
    """The database is not of the version that this program knows."""

    code = "schema_mismatch"
