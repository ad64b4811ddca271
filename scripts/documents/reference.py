"""The reference, made from the program itself: the law, the problems, the settings, errors, log events, metrics."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from linker import errors
from linker.cli.main import VERBS
from linker.engine.ports import Settlement
from linker.outbox.administration import DeliveryState
from linker.serialization import law_json, payload
from linker.settings import PREFIX, Settings
from linker.telemetry.metrics import METRICS
from linker.wording import catalogue
from states.connection import Account, Connection, ConnectionState, Credential, Recruiter
from states.description import rules
from states.explanation import Hindrance, Verb, foresee
from states.history import ANNOUNCEMENTS, Step
from states.table import LAW
from states.timing import Timing

ROOT = Path(__file__).parents[2]

#: What the log events mean. A test finds each event of the program here, and none that it does not have.
LOG_EVENTS = {
    "step.written": "A step is in a connection's history: `connection_id`, `step`, `source`, `target`, `problem`.",
    "attention.failed": "Attending a connection went wrong on our side; it is tried again later.",
    "settlement.refused": "The database did not take what was decided about a connection; it is tried again later.",
    "wakeups.deaf": "The database does not tell of what others commit; the next heartbeat finds it, a little later.",
    "lease.not_renewed": "The database was away when leases were to be renewed: nothing more is claimed or begun.",
    "incident.began": "Workable refuses many accounts at once that were good before: no refusal is believed until two "
    "of them answer well again, or more others do, for a day at most. Seen over the whole database, and told once.",
    "incident.ended": "Refusals count again.",
    "times.brought_back": "So many (`count`) were due later than is possible: a clock was wrong. They are due now.",
    "permissions.unknown": "`LINKER_PERMISSIONS` has names (`names`) that Workable does not have, as far as we know.",
    "keys.missing": "Tokens are sealed with keys that are not set: they are not attended, and all others are.",
    "row.unreadable": "A row cannot be read: lists leave it out, and a sweep puts it in quarantine for an hour.",
    "row.not_put_aside": "The quarantine of a row that cannot be read failed: it is met again when its lease ends.",
    "account.called": "A call of the host's to a linked account: `method`, `path` (a template), `status`, `ms`, "
    "`waited` (seconds for its turn), `attempt`.",
    "budget.not_told": "What Workable said of its limit, or which calls were made, could not be told to others.",
    "account.not_reported": "What a host's call met could not be told to the engine; the next one tells it.",
    "announcement.failed": "A handler of the host raised, or the webhook failed; it is tried again later.",
    "announcement.dead": "An announcement is a dead letter now: see `linker outbox list --dead`.",
    "announcements.lapsed": "`count` announcements stayed unclaimed for a week and expired: nobody is told any more.",
    "webhook.resting": "The receiver of webhooks asked to be left alone; this process posts nothing before `until`.",
    "heartbeat.failed": "A beat could not do its work, as when the database is away; the next beat tries again.",
    "heartbeat.stopped": "The heartbeat ended; `drained` says whether everything in flight came to its end.",
    "prune.finished": "What is older than the settings keep was taken away; with the numbers of each kind.",
    "dialog.request": "A page was answered, other than for a poll; a path that holds a secret is shown as `/c/…`.",
    "dialog.unavailable": "A page of the dialog could not be shown, as when the database is away; nothing was done.",
    "dialog.failed": "A page of the dialog went wrong on our side: `error` is the kind, and nothing else is told.",
    "dialog.not_attended": "What connections with open pages wait for could not be attended; a worker may do it.",
    "worker.not_seen": "A worker could not say that it is alive: the database was away. It says so again in seconds.",
    "operation.ended": "An operation on many connections ended or was interrupted; `done` is how many were told of.",
    "operation.not_foreseen": "A row holds what cannot be, so no plan says what becomes of it: it counts as damaged.",
    "operation.not_renewed": "The database was away when an operation was to be renewed; it is tried again.",
    "operation.item_failed": "Something went wrong on our side with one connection of an operation; the others go on.",
    "worker.started": "`linker worker` began; `metrics` is where its metrics are, if they are served.",
    "sweep.finished": "A pass of `linker worker` claimed something; with the numbers that `linker sweep` prints.",
    "worker.stopping": "`linker worker` was asked to end and finishes what is in flight.",
    "worker.stopped": "`linker worker` ended.",
    "worker.waiting": "`linker worker` waits until the database has a version that it knows; `said` is what helps.",
    "worker.killed": "`linker worker` was asked a second time and ended at once; the next one takes over.",
}

EXAMPLE_TIME = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)

#: When the host is told what.
ANNOUNCED = {
    "connection.opened": "A connection was opened.",
    "token.accepted": "Workable accepted a token, the first one or a replacement.",
    "connection.awaiting_recruiter": "The recruiter's name and e-mail were issued; the customer has to add it.",
    "connection.linked": "The account is linked, for the first time.",
    "connection.failed": "It ended. A person has to act; what refusals ended is looked at again, seldom, for 90 days.",
    "connection.recovered": "What was in trouble or had failed works again, after a real look. `data.state` says where "
    "it stands: it may still wait for its recruiter.",
    "connection.troubled": "There has been no answer to go by for so long that an operator has to act. Once, until "
    "`connection.recovered`, a verdict on its token, or another announcement says where it went on to.",
    "account.renamed": "The account has another subdomain in Workable. It is followed, with the same token.",
    "token.expiring": "The token in use has only some days left, by the date that the person gave; once for a date.",
    "recruiter.removed": "Our recruiter was removed from a linked account.",
    "permission.lost": "The token lost a permission that your product needs and linking does not: the link goes on.",
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
            *_section("What may happen next", _foresight()),
            *_section("Problems", _problems()),
            *_section("Commands", _commands()),
            *_section("Settings", _settings()),
            *_section("Announcements", _announcements()),
            *_section("Errors and exit codes", _errors()),
            *_section("Log events", _log_events()),
            *_section("Metrics", _metrics()),
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
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"


def _law() -> Iterator[str]:
    yield "The law is the table of transitions of a connection: what is not in it cannot happen. Its hash is"
    yield f"`{LAW}`; each row of the database says by which law it was decided. A connection that is closed"
    yield "takes no event at all. When a recruiter's name and e-mail are first issued, no call is made: nobody can have"
    yield "added them yet."
    yield ""
    yield from table(
        ("event", "from", "to", "answer to", "if"),
        (
            (
                f"`{rule.event}`",
                rule.breadth or ", ".join(source.value for source in rule.sources),
                rule.target.value if rule.target else "stays",
                rule.call or "",
                rule.condition,
            )
            for rule in rules()
        ),
    )


def _foresight() -> Iterator[str]:
    yield "What each answer of Workable's would make of a connection for which a look is owed, by the same law: an"
    yield "example in each state, first looked at without any doubt. `linker explain` says it of yours, and a plan of"
    yield "each that it means. *Doubted*: one refusal of what was good before is not believed yet."
    yield ""
    yield from table(
        ("state", "owed", "answer", "event", "then", "problem"),
        (
            (
                c.state.value,
                f"`{foreseen.duty.value}`",
                each.answer.replace("_", " ") if each.answer else "certain, no call",
                f"`{each.event}`",
                f"{each.to.value if each.to is not c.state else 'stays'}{', doubted' if each.doubted else ''}",
                f"`{each.problem.value}`" if each.problem else "",
            )
            for c in _examples()
            for foreseen in (foresee(Verb.ADVANCE, c, EXAMPLE_TIME, Timing()),)
            for each in foreseen.answers
        ),
    )
    yield ""
    yield "What an operator may do, and why a verb would do nothing:"
    yield ""
    yield from table(("verb", "does"), ((f"`{name.lower()}`", said) for name, said in comments(Verb).items()))
    yield ""
    yield from table(
        ("does nothing", "because"),
        ((f"`{each.value}`", catalogue().text(f"explain.hindrance.{each.value}", {}) or "") for each in Hindrance),
    )
    yield ""
    yield "Where `force` may put a connection that holds all it can hold, and what leads back:"
    yield ""
    changes = [foresee(Verb.FORCE, c, EXAMPLE_TIME, Timing(), to).change for c in _examples() for to in ConnectionState]
    yield from table(
        ("from", "to", "kept", "wiped", "the host is told", "leads back"),
        (
            (
                change.source.value,
                change.target.value,
                ", ".join(change.kept),
                ", ".join(change.wiped),
                f"`{change.announced}`" if change.announced else "nothing",
                f"`{change.back.value}`{f' to {change.back_to.value}' if change.back_to else ''}"
                if change.back
                else "nothing",
            )
            for change in changes
            if change is not None
        ),
    )


def _examples() -> Iterator[Connection]:
    """A connection in each state, with a look owed now."""
    linked = replace(example_connection(), due_at=EXAMPLE_TIME)
    assert linked.token is not None
    begun = replace(linked, recruiter=None, linked_at=None, last_ok_at=None)
    unverified = replace(begun, state=ConnectionState.AWAITING_TOKEN, account=None, token=None)
    yield replace(unverified, candidate=linked.token)
    yield replace(begun, state=ConnectionState.TOKEN_VALID)
    yield replace(linked, state=ConnectionState.AWAITING_RECRUITER, linked_at=None)
    yield linked
    yield replace(linked, state=ConnectionState.FAILED, due_at=None)


def _problems() -> Iterator[str]:
    yield from table(
        ("code", "who must act", "what is the matter", "what to do", "when we look again"),
        (
            (f"`{each['code']}`", each["owner"], each["message"], each["action"], each["next_look"])
            for each in law_json()["problems"]
        ),
    )


def _commands() -> Iterator[str]:
    yield "`linker COMMAND --help` says what each takes. Those that print data take `--json`: one JSON value on stdout,"
    yield "and logs on stderr. Exit codes: 0 done or still waiting · 1 our fault · 2 bad input · 3 not found · 4"
    yield "refused, by Workable's verdict or by the law · 5 try again later."
    yield ""
    yield "The history names who acted: `operator:` and the login name, or what `--actor` or `LINKER_ACTOR` says."
    yield "Three more endings: 130 after Ctrl-C, 141 when the reader of a pipe has gone, 143 when SIGTERM cuts it"
    yield "short."
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
    if isinstance(value, timedelta):
        hours, rest = divmod(value, timedelta(hours=1))
        if rest:
            return f"{value.total_seconds():.10g}"
        return f"PT{hours}H" if hours % 24 else f"P{hours // 24}D"
    return str(value)


def comments(of: type) -> dict[str, str]:
    """The `#:` comment of each field of a class; a field without one shares the comment of the field above."""
    found: dict[str, str] = {}
    said: list[str] = []
    fresh = True
    for line in inspect.getsource(of).splitlines():
        if comment := re.match(r"\s*#: (.*)", line):
            said = [comment[1]] if fresh else [*said, comment[1]]
            fresh = False
        elif field := re.match(r"    (\w+)(?:: | = \")", line):
            found[field[1]] = " ".join(said)
            fresh = True
    return found


def _announcements() -> Iterator[str]:
    yield "Told to handlers (`@linker.on(…)`) and posted to `LINKER_WEBHOOK_URL`, at least once, in order for each"
    yield "connection. See [receive webhooks](howto/receive-webhooks.md)."
    yield ""
    yield from table(("name", "when"), ((f"`{name}`", ANNOUNCED[name]) for name in ANNOUNCEMENTS))
    yield ""
    yield "The payload of each says `type`, `timestamp` (when it happened) and `data`: the connection as it was right"
    yield "after, with the fields of `linker show --json`. It holds no secret. Of two payloads for one connection, the"
    yield "one with the larger `data.version` is newer."
    yield ""
    yield "```json"
    yield json.dumps(example(), indent=2)
    yield "```"
    yield ""
    yield "On each channel, `handlers` and `webhook`, an announcement is in one of these states, as"
    yield "`linker outbox list` shows them:"
    yield ""
    yield from table(
        ("state", "meaning"), ((f"`{name.lower()}`", said) for name, said in comments(DeliveryState).items())
    )


def example() -> dict[str, Any]:
    """The payload of an announcement that is made up."""
    linked = example_connection()
    step = Step(event="recruiter_found", source=linked.state, target=linked.state, at=EXAMPLE_TIME, actor="heartbeat")
    return payload(Settlement(before=linked, after=linked, step=step, announcement="connection.linked"))


def example_connection() -> Connection:
    """A connection that is made up: linked, all told."""
    at = EXAMPLE_TIME
    return Connection(
        id="con_7c1f0a2b9d3e4f5a6b7c",
        owner="customer-42",
        created_at=at - timedelta(minutes=9),
        state=ConnectionState.LINKED,
        state_since=at,
        metadata={"plan": "pro"},
        subdomain="acme",
        account=Account(id="c71fa", name="Acme Robotics", subdomain="acme"),
        recruiter=Recruiter(name="Integration", email="ats+k7m2xw9q4r@inbound.example.com", id="2b81c0"),
        token=Credential(subdomain="acme", sealed="", fingerprint="5f2e9c1a", expires_on=date(2027, 1, 31)),
        checks=12,
        due_at=at + timedelta(days=1),
        linked_at=at,
        last_ok_at=at,
        version=9,
    )


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
    yield "They go to `structlog` where the host has configured it, as `linker worker` does, and otherwise to"
    yield "`logging`, under the name `linker`. The library configures neither, and prints nothing on stdout."
    yield ""
    yield from table(("event", "meaning"), ((f"`{event}`", meaning) for event, meaning in LOG_EVENTS.items()))


def _metrics() -> Iterator[str]:
    yield "What `linker worker --metrics-port` serves, and what `linker.telemetry.metrics.Metrics` adds to a"
    yield "host's registry; see [how to watch it](howto/metrics.md). Over workers, what a process did is put together"
    yield "with `sum`, and what each reads from the same database with `max`. The label `way` is the channel."
    yield ""
    yield from table(
        ("name", "type", "labels", "over workers", "meaning"),
        (
            (f"`{n.name}`", n.kind, ", ".join(f"`{label}`" for label in n.labels), f"`{n.across}`", n.meaning)
            for n in METRICS
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
