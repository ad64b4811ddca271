"""How a command ends: its exit code, and what it says on stderr when it could not do what it was asked for.

0 done, or still waiting as told · 1 our fault · 2 usage or bad input · 3 not found · 4 refused, by Workable's verdict
or by the law · 5 try again later · 130 interrupted · 141 whoever read the output has gone · 143 terminated.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, NamedTuple

from rich.text import Text

from linker.cli.terminal.output import Output
from linker.errors import BadInput, BadSettings, LinkerError, OurFault, StoreUnavailable
from linker.wording import catalogue, describe
from states.connection import Connection, ConnectionState
from states.problems import REFUSALS, ProblemCode

DONE = 0
OUR_FAULT = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
TRY_AGAIN = 5
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143


class Terminated(Exception):
    """SIGTERM came, and what was under way has been given back."""


_BY_TROUBLE = {
    ProblemCode.WORKABLE_UNAVAILABLE: TRY_AGAIN,
    ProblemCode.THROTTLED: TRY_AGAIN,
    ProblemCode.ANSWER_NOT_UNDERSTOOD: TRY_AGAIN,
    ProblemCode.POISONED: OUR_FAULT,
}


def after_asking(connection: Connection, *, submitted: bool = False) -> int:
    """What a command ends with that asked Workable just now.

    `submitted`: a token was given, so a replacement that was turned down is this command's own.
    """
    problem, verifies = connection.present_problem, connection.candidate is not None
    if not verifies and (connection.state is ConnectionState.FAILED or (submitted and connection.replacement_problem)):
        return REFUSED
    if problem is None:
        return TRY_AGAIN if submitted and connection.candidate else DONE
    if problem.code in REFUSALS and connection.state is ConnectionState.AWAITING_TOKEN:
        return REFUSED
    return _BY_TROUBLE.get(problem.code, DONE)


#: A word that was given and that is too long for a name of ours: it could be a token in the wrong place.
_LONG_WORD = re.compile(r"'[^'\s/]{17,}'")


class CommandLineWords(NamedTuple):
    """An error in words, with variables' names in the place of settings'."""

    about: str | None
    message: str
    action: str

    def __str__(self) -> str:
        """All of it."""
        about = f"{self.about}: " if self.about else ""
        return f"{about}{self.message} {self.action}".strip()


def in_command_line_words(error: LinkerError) -> tuple[CommandLineWords, str | None]:
    """An error in words for a terminal, and a hint: the command that helps."""
    about = getattr(error, "field", None)
    if isinstance(error, BadSettings):
        from linker.settings import variable_of  # noqa: PLC0415 - they were read by now; `linker --help` reads none

        about = variable_of(error.field)
        named = {name: variable_of(value) for name, value in error.params.items() if name in {"meant", "other"}}
        error = BadSettings(error.field, error.reason, **{**error.params, **named})
    words = describe(error)
    hint = catalogue().text(f"hint.{error.code}.{error.reason}", error.params)
    if isinstance(error, BadSettings) and not (words.action or hint):
        hint = catalogue().text("hint.setting")
    unused = [f"{name}: {value}" for name, value in error.params.items() if name not in words.used]
    message = (
        f"{words.message} [{', '.join(unused)}]"
        if isinstance(error, StoreUnavailable | OurFault) and unused
        else words.message
    )
    return CommandLineWords(about, message, words.action), hint


def _error_json(error: LinkerError) -> dict[str, Any]:
    """An error as machines read it."""
    words, hint = in_command_line_words(error)
    message = " ".join([str(words), *filter(None, [hint]), *getattr(error, "__notes__", ())])
    told = {
        "code": error.code,
        "reason": error.reason,
        "message": message,
        "field": words.about,
        "params": error.params,
        "retry_after": getattr(error, "retry_after", None),
    }
    if isinstance(error, BadInput):
        told |= {"cause": words.message, "next_step": " ".join(filter(None, [words.action, hint]))}
    return told


def with_error(error: Exception, *, as_json: bool) -> int:
    """Say on stderr what went wrong, in one line, and give the exit code."""
    if isinstance(error, LinkerError):
        code, told = error.exit_code, _error_json(error)
    elif hasattr(error, "format_message"):  # Click's own errors, whose home depends on Typer's version
        message = _LONG_WORD.sub("'…'", " ".join(str(error.format_message()).split()))
        if "unexpected extra argument" in message:  # it is not repeated: it could be a token
            message = "There are more arguments than this command takes. A token is never an argument: "
            message += "pipe it in, or wait for the prompt."
        message = message if message.endswith("?") else message.removesuffix(".") + "."
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "linker"
        code, told = USAGE, {"code": "usage", "message": f"{message} See `{command} --help`."}
        if parameter := getattr(getattr(error, "param", None), "name", None):
            told |= {"field": parameter}
    else:
        where = "Run it again with LINKER_LOG_LEVEL=debug to see where, and report that."
        if os.environ.get("LINKER_LOG_LEVEL", "").lower() == "debug":
            from linker.cli.logging_setup import trace  # noqa: PLC0415 - with all that logs: few commands ever need it

            sys.stderr.write(trace(error) + "\n")
            where = "Please report it with the lines above."
        message = f"Our fault: {type(error).__name__}, which should not happen. {where}"
        code, told = OUR_FAULT, {"code": "our_fault", "message": message}
    if as_json:
        told = {"field": None, "params": {}, "retry_after": None, **told}
        sys.stderr.write(json.dumps({"error": told}, default=str).replace("\x7f", "\\u007f") + "\n")
    else:
        Output().err.print(Text.assemble(("error ", "bad"), told["message"]), soft_wrap=True)
    return code
