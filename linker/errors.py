"""What can go wrong, sorted by what happens next.

LinkerError
├── BadInput            the caller gave something unusable: names the field and what is wrong with it
│   └── BadSettings     the same, for settings and keys
├── ExtraMissing        a part was asked for whose packages are not installed (an ImportError too)
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

Each carries `code`, a stable lower-case name of its kind; `reason`, one of what happened; `params`, what the words for
it need; and `exit_code`, what the `linker` command ends with. The words come from `linker.wording`, by key: none of
them names a command, a variable or a path, so whoever shows an error adds what its readers can do.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, ClassVar

from linker import wording

if TYPE_CHECKING:
    from pydantic import SecretStr


class LinkerError(Exception):
    """The root of all errors of this library. Its text is English and holds no secret; `describe` has other languages.

    `params` are texts, numbers and lists of texts. What the words do not use, such as what a driver said, stands in
    brackets behind them in `str(error)`, for whoever reads a traceback.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, reason: str, /, **params: Any) -> None:
        """Say what happened, and with what."""
        super().__init__(reason, params)
        self.reason = reason
        self.params = params

    @property
    def wording_key(self) -> str:
        """Where its words stand."""
        return f"error.{self.code}.{self.reason}"

    def __str__(self) -> str:
        """What is the matter and what helps, in English. `repr` shows the reason and all parameters, for logs."""
        return str(wording.describe(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors pass between processes, as those of a queue's workers do."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class BadInput(LinkerError):
    """Something given cannot be used. Nothing was changed."""

    code = "bad_input"
    exit_code = 2

    def __init__(self, field: str, reason: str, /, **params: Any) -> None:
        """Name the `field` that it was given in, and what is wrong with it."""
        super().__init__(reason, **params)
        self.field = field

    def __str__(self) -> str:
        """The field, what is the matter with it, and what helps, in English."""
        return f"{self.field}: {super().__str__()}"


class BadSettings(BadInput):
    """A setting or a key is missing or unusable; `field` is the name of the setting, as in `Settings`."""

    code = "bad_settings"


class ExtraMissing(LinkerError, ImportError):
    """A part of this library was asked for whose packages are not installed; `reason` is the extra that brings them."""

    code = "extra_missing"
    exit_code = 2


class NotFound(LinkerError):
    """There is nothing with this id: no connection, no announcement."""

    code = "not_found"
    exit_code = 3

    def __init__(self, wanted: str, *, what: str = "connection") -> None:
        """Name the id that was asked for, and what it should be of."""
        super().__init__(what, id=wanted)
        self.wanted = wanted


class Refused(LinkerError):
    """What was asked for is not possible as things stand. Nothing was changed."""

    code = "refused"
    exit_code = 4
    #: A link with which the customer can mend it, where `Linker.client` knows one. Whoever has it acts for them, and
    #: so it is in no text, `repr` or parameter: `reconnect_link.get_secret_value()`. It passes to no other process.
    reconnect_link: SecretStr | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the link: what queues keep of an error is often in the clear."""
        made, given, facts = super().__reduce__()
        return made, given, {name: fact for name, fact in facts.items() if name != "reconnect_link"}


class TryAgain(LinkerError):
    """Nothing is wrong with the request; the same call may work later."""

    code = "try_again"
    exit_code = 5
    #: In how many seconds, if that is known.
    retry_after: float | None = None


class Busy(TryAgain):
    """Somebody else is attending this connection and did not finish in time."""

    code = "busy"
    retry_after = 1.0


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
