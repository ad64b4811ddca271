"""Link your customers' Workable accounts, from the first click to years later: the front door.

What is behind the door is imported when it is first asked for: a command that prints its help, or a process that only
reads, does not wait for what it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import states

if TYPE_CHECKING:
    #: The version that is installed, as `linker --version` prints it.
    __version__: str

    from linker.accounts.client import AccountClient, BlockingAccountClient
    from linker.blocking_linker import BlockingLinker, blocking
    from linker.encryption import new_key
    from linker.engine.observer import Observer, Unobserved, Work
    from linker.engine.ports import Randomness, Selection
    from linker.engine.sweep import Sweep
    from linker.errors import (
        BadInput,
        BadSettings,
        Busy,
        ExtraMissing,
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
    from linker.links import IssuedLink, Link, LinkStatus, Purpose
    from linker.operations.audit import AuditEntry, audit_json
    from linker.operations.explain import Explanation, explanation_json
    from linker.operations.operation_run import Outcome, outcome_json
    from linker.operations.plan import Plan, PlannedChange, plan_from_json, plan_json
    from linker.operations.retention import Pruned
    from linker.operations.selectors import Selectors, selection
    from linker.outbox.administration import QueuedDelivery
    from linker.outbox.announcements import Announcement
    from linker.outbox.webhooks import new_webhook_secret
    from linker.persistence.operation_store import Operation
    from linker.serialization import Status, connection_json, step_json
    from linker.settings import Settings, load_settings
    from linker.telemetry.metrics import Metrics as Metrics
    from linker.validation.text import spreadsheet_cell, visible
    from linker.wording import Words, describe
    from states.connection import Account, Connection, ConnectionState, Problem, Recruiter
    from states.explanation import Change, Foresight, Verb
    from states.history import Step
    from states.problems import ProblemCode, ProblemOwner

__all__ = [
    "Account",
    "AccountClient",
    "Announcement",
    "AuditEntry",
    "BadInput",
    "BadSettings",
    "BlockingAccountClient",
    "BlockingLinker",
    "Busy",
    "Change",
    "Connection",
    "ConnectionState",
    "Explanation",
    "ExtraMissing",
    "Foresight",
    "IssuedLink",
    "KeyMissing",
    "Link",
    "LinkStatus",
    "Linker",
    "LinkerError",
    "NotFound",
    "Observer",
    "Operation",
    "OurFault",
    "Outcome",
    "Plan",
    "PlannedChange",
    "Problem",
    "ProblemCode",
    "ProblemOwner",
    "Pruned",
    "Purpose",
    "QueuedDelivery",
    "Randomness",
    "Recruiter",
    "Refused",
    "RowUnreadable",
    "SchemaMismatch",
    "SealBroken",
    "Selection",
    "Selectors",
    "Settings",
    "Status",
    "Step",
    "StoreUnavailable",
    "Sweep",
    "TryAgain",
    "Unobserved",
    "Verb",
    "Words",
    "Work",
    "audit_json",
    "blocking",
    "connection_json",
    "describe",
    "explanation_json",
    "load_settings",
    "new_key",
    "new_webhook_secret",
    "outcome_json",
    "plan_from_json",
    "plan_json",
    "selection",
    "spreadsheet_cell",
    "step_json",
    "visible",
]

#: Where each name has its home; errors have theirs together.
_HOMES = {
    "Account": "states.connection",
    "AccountClient": "linker.accounts.client",
    "Announcement": "linker.outbox.announcements",
    "AuditEntry": "linker.operations.audit",
    "BlockingAccountClient": "linker.accounts.client",
    "BlockingLinker": "linker.blocking_linker",
    "Connection": "states.connection",
    "ConnectionState": "states.connection",
    "Explanation": "linker.operations.explain",
    "Change": "states.explanation",
    "Foresight": "states.explanation",
    "IssuedLink": "linker.links",
    "Link": "linker.links",
    "LinkStatus": "linker.links",
    "Linker": "linker.linker",
    "Observer": "linker.engine.observer",
    "Operation": "linker.persistence.operation_store",
    "Outcome": "linker.operations.operation_run",
    "Plan": "linker.operations.plan",
    "PlannedChange": "linker.operations.plan",
    "Problem": "states.connection",
    "ProblemCode": "states.problems",
    "ProblemOwner": "states.problems",
    "Pruned": "linker.operations.retention",
    "Purpose": "linker.links",
    "QueuedDelivery": "linker.outbox.administration",
    "Randomness": "linker.engine.ports",
    "Recruiter": "states.connection",
    "Selection": "linker.engine.ports",
    "Selectors": "linker.operations.selectors",
    "Settings": "linker.settings",
    "Status": "linker.serialization",
    "Step": "states.history",
    "Sweep": "linker.engine.sweep",
    "Unobserved": "linker.engine.observer",
    "Verb": "states.explanation",
    "Words": "linker.wording",
    "Work": "linker.engine.observer",
    "audit_json": "linker.operations.audit",
    "blocking": "linker.blocking_linker",
    "connection_json": "linker.serialization",
    "describe": "linker.wording",
    "explanation_json": "linker.operations.explain",
    "load_settings": "linker.settings",
    "new_key": "linker.encryption",
    "new_webhook_secret": "linker.outbox.webhooks",
    "outcome_json": "linker.operations.operation_run",
    "plan_from_json": "linker.operations.plan",
    "plan_json": "linker.operations.plan",
    "selection": "linker.operations.selectors",
    "spreadsheet_cell": "linker.validation.text",
    "step_json": "linker.serialization",
    "visible": "linker.validation.text",
}


if getattr(states, "DISTRIBUTION", None) != "workable-linker":
    raise ImportError(
        f"linker: {states.__file__ or 'a package'} hides the package `states` that comes with linker. Rename it."
    )

if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """Import what is asked for."""
        if name == "__version__":
            return import_module("linker.version").version()
        if name == "Metrics":  # not promised by `import *`: it needs an extra
            return import_module("linker.version").from_extra("metrics", "linker.telemetry.metrics").Metrics
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES.get(name, "linker.errors")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """What can be asked for."""
    return sorted({*globals(), *__all__})
