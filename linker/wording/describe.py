"""What a problem of a connection, or an error of this library, says to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from linker.wording.catalogue import ENGLISH, catalogue, parameters


class Describable(Protocol):
    """What has words: a `Problem`, or a `LinkerError`."""

    @property
    def wording_key(self) -> str:
        """Where its words stand in the catalogue."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """What they are filled with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Words:
    """What is the matter, and what the one who has to act does next. Plain text, for one language."""

    #: What is the matter, with what was seen.
    message: str
    #: What helps; empty if nothing does.
    action: str
    #: Of the message, what was seen this time; empty if the message says all.
    detail: str = ""
    #: Beside the message, what went wrong on our side: for operators, never for customers.
    internal: str = ""
    #: The parameters that the texts name.
    used: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """All of it."""
        return f"{self.message} {self.action}".strip()


def describe(what: Describable, language: str = ENGLISH) -> Words:
    """What a problem or an error says to people. But for `internal`, a problem's words may be shown to a customer.

    A problem's parameters `near_miss` and `answer` are codes that have texts of their own, `fault` is the key of an
    error, and `said` is a sentence that an older program kept.

    Args:
        what: a connection's `problem` or `replacement_problem`, or an error that was raised by this library.
        language: as in `de` or `pt-BR`. What there are no words for in it is said in English.
    """
    said = catalogue(language)
    key, params = what.wording_key, what.params
    field = getattr(what, "field", None)
    used: set[str] = set()

    def text(key: str) -> str | None:
        template = said.template(key, params)
        used.update(parameters(template or ""))
        return None if template is None else said.text(key, params)

    kind = key.rpartition(".")[0]
    message = text(f"{key}.message") or text(f"{kind}.message") or key.rpartition(".")[2].replace("_", " ")
    action = text(f"{key}.action") or (text(f"field.{field}.action") if field else None) or text(f"{kind}.action") or ""
    seen = [text(f"{key}.with_{name}") for name, value in params.items() if value not in (None, [], ())]
    seen += [text(f"{name}.{params[name]}") for name in ("near_miss", "answer") if name in params]
    seen.append(params.get("said"))
    detail = " ".join(filter(None, seen))
    internal = None
    if "fault" in params:
        fault = f"error.{params['fault']}"
        internal = text(f"{fault}.message") or text(f"{fault.rpartition('.')[0]}.message") or text("fault")
    return Words(
        message=f"{message} {detail}".strip(),
        action=action,
        detail=detail,
        internal=internal or "",
        used=frozenset(used),
    )
