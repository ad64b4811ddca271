"""The reference, made from the program itself: the law, the problems, the settings, errors, log events, numbers."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from linker import errors
from linker.cli.app import VERBS
from linker.metrics import NUMBERS
from linker.settings import PREFIX, Settings
from states.history import ANNOUNCEMENTS
from states.problems import PROBLEMS
from states.table import LAW, TRANSITIONS

ROOT = Path(__file__).parents[2]

#: What the log events mean. A test finds each event of the program here, and none that it does not have.
LOG_EVENTS = {
    "step.written": "A step is in a connection's history: `connection_id`, `step`, `source`, `target`, `problem`.",
    "attention.failed": "Attending a connection went wrong on our side; it is tried again later.",
    "settlement.refused": "The database did not take what was decided about a connection; it is tried again later.",
    "row.unreadable": "A row cannot be read: lists leave it out, and a sweep puts it aside for an hour.",
    "announcement.failed": "A handler of the host raised; it is called again later.",
    "heartbeat.failed": "A beat could not do its work, as when the database is away; the next beat tries again.",
    "heartbeat.stopped": "The heartbeat ended; `drained` says whether everything under way came to its end.",
    "worker.started": "`linker worker` began; `metrics` is where its numbers are, if they are served.",
    "sweep.finished": "A pass of `linker worker` claimed something; with the numbers that `linker sweep` prints.",
    "worker.stopping": "`linker worker` was asked to end and finishes what is under way.",
    "worker.stopped": "`linker worker` ended.",
    "worker.killed": "`linker worker` was asked a second time and ended at once; the next one takes over.",
}

#: When the host is told what.
ANNOUNCED = {
    "connection.opened": "A connection was opened.",
    "token.accepted": "Workable accepted a token, the first one or a replacement.",
    "connection.awaiting_recruiter": "The recruiter's name and e-mail were issued; the customer has to add it.",
    "connection.linked": "The account is linked, for the first time.",
    "connection.failed": "Nothing happens any more until a person acts.",
    "connection.recovered": "A link that was in trouble works again, after a real look.",
    "recruiter.removed": "Our recruiter was removed from a linked account.",
    "connection.unlinked": "The connection was given up for good.",
}


def reference() -> str:
    """The whole of docs/reference.md."""
    return "\n".join(
        (
            "# Reference",
            "",
            "Made from the program by `./scripts/document`; a test keeps it in step.",
            "",
            *_section("The law", _law()),
            *_section("Problems", _problems()),
            *_section("Commands", _commands()),
            *_section("Settings", _settings()),
            *_section(
                "Announcements", table(("name", "when"), ((f"`{name}`", ANNOUNCED[name]) for name in ANNOUNCEMENTS))
            ),
            *_section("Errors and exit codes", _errors()),
            *_section("Log events", _log_events()),
            *_section("Numbers", _numbers()),
        )
    )


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from lines
    yield ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def _law() -> Iterator[str]:
    yield f"What is not in this table cannot happen. Its hash is `{LAW}`; each row of the database says by which law it"
    yield "was decided. A connection that is closed takes no event at all."
    yield ""
    yield from table(
        ("event", "from", "to", "answer to", "if"),
        (
            (
                f"`{row.event.name}`",
                row.source.value,
                row.target.value,
                row.call or "",
                (row.guard.__name__ if row.guard else "").replace("_", " "),
            )
            for row in TRANSITIONS
        ),
    )


def _problems() -> Iterator[str]:
    yield from table(
        ("code", "who must act", "what is the matter", "what to do", "when we look again"),
        (
            (f"`{code.value}`", advice.owner.value, advice.message, advice.action, advice.next_look)
            for code, advice in PROBLEMS.items()
        ),
    )


def _commands() -> Iterator[str]:
    yield "`linker COMMAND --help` says what each takes. Those that print data take `--json`: one JSON value on stdout,"
    yield "and logs on stderr. Exit codes: 0 done or still waiting · 1 our fault · 2 bad input · 3 not found · 4"
    yield "refused, by Workable's verdict or by the law · 5 try again later."
    yield ""
    yield "The history names who acted: `operator:` and the login name, or what `--actor` or `LINKER_ACTOR` says."
    yield "Two more endings: 130 after Ctrl-C, 141 when the reader of a pipe has gone."
    yield ""
    yield from table(("command", "does"), ((f"`linker {name}`", verb.help) for name, verb in VERBS.items()))


def _settings() -> Iterator[str]:
    yield "Variables, or names without the prefix and in lower case in a TOML file that `LINKER_CONFIG` names;"
    yield "a variable wins over the file. Times are in seconds, or as ISO 8601 (`P14D`). See `config/linker.toml`."
    yield ""
    meanings = comments(Settings)
    yield from table(
        ("variable", "default", "meaning"),
        (
            (f"`{PREFIX}{name.upper()}`", f"`{_default(field.default)}`", meanings[name])
            for name, field in Settings.model_fields.items()
        ),
    )


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    seconds = getattr(value, "total_seconds", None)
    return f"{seconds():g}" if seconds else str(value)


def comments(of: type) -> dict[str, str]:
    """The `#:` comment of each field of a class; a field without one shares the comment of the field above."""
    found: dict[str, str] = {}
    said: list[str] = []
    fresh = True
    for line in inspect.getsource(of).splitlines():
        if comment := re.match(r"\s*#: (.*)", line):
            said = [comment[1]] if fresh else [*said, comment[1]]
            fresh = False
        elif field := re.match(r"    (\w+): ", line):
            found[field[1]] = " ".join(said)
            fresh = True
    return found


def _errors() -> Iterator[str]:
    everything = vars(errors).values()
    kinds = [kind for kind in everything if isinstance(kind, type) and issubclass(kind, errors.LinkerError)]
    yield from table(
        ("error", "code", "exit code", "meaning"),
        (
            (f"`{kind.__name__}`", f"`{kind.code}`", str(kind.exit_code), (inspect.getdoc(kind) or "").splitlines()[0])
            for kind in kinds
        ),
    )


def _log_events() -> Iterator[str]:
    yield "The library logs through `structlog` and configures nothing: a host sets it up, as `linker worker` does for"
    yield "itself. Where nobody does, structlog prints to stdout."
    yield ""
    yield from table(("event", "meaning"), ((f"`{event}`", meaning) for event, meaning in LOG_EVENTS.items()))


def _numbers() -> Iterator[str]:
    yield "What `linker worker --metrics-port` serves, and what `linker.metrics.Metrics` adds to a host's registry; see"
    yield "[how to watch it](howto/metrics.md). Over workers, what a process did is put together with `sum`, and what"
    yield "each reads from the same database with `max`."
    yield ""
    yield from table(
        ("name", "type", "labels", "over workers", "meaning"),
        (
            (f"`{n.name}`", n.kind, ", ".join(f"`{label}`" for label in n.labels), f"`{n.across}`", n.meaning)
            for n in NUMBERS
        ),
    )


def logged() -> set[str]:
    """The names of all log events in the program's source."""
    found = set()
    for path in (ROOT / "linker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first, speaker = node.args[0], node.func.value
                is_log = isinstance(speaker, ast.Name) and speaker.id == "log"
                if is_log and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
    return found
