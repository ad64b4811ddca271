"""The command itself: which verbs there are, and what every one of them shares.

A verb's file is imported when the verb is used, so that `linker --help` does not wait for a database library. The
lines of help below are those of the verbs; a test holds them together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from textwrap import fill, shorten
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from linker.cli.exit_codes import DONE, INTERRUPTED, PIPE_CLOSED, TERMINATED, USAGE, Terminated, with_error
from linker.cli.terminal.output import (
    OutputLost,
    PipeClosed,
    let_go_of_stdout,
    stdout_with_named_troubles,
    tolerate_any_character,
    with_all_streams,
)
from linker.version import version


class Verb(NamedTuple):
    """A verb: the module that has it, and its line of help."""

    module: str
    help: str
    panel: str


FLOW = "The flow"
LOOKING = "Looking"
OPERATING = "By hand"
RUNNING = "Running"
UPKEEP = "Upkeep"

VERBS: dict[str, Verb] = {
    "open": Verb("linking", "Create a connection for one of your customers.", FLOW),
    "submit": Verb("linking", "Give a token, from stdin or at a hidden prompt, and verify it now.", FLOW),
    "confirm": Verb("linking", 'Look for the recruiter now, as "Set up integration" does.', FLOW),
    "link": Verb("links", "Make a link to the connection dialog, for one of your customers.", FLOW),
    "links": Verb("links", "List the links of a connection, and take one back.", FLOW),
    "show": Verb("looking", "Show a connection: where it stands, who must act, what to do.", LOOKING),
    "list": Verb("looking", "List open connections, oldest first; with selectors, as CSV.", LOOKING),
    "explain": Verb(
        "operations",
        "Say why a connection is where it is, and what may be done.",
        LOOKING,
    ),
    "history": Verb("looking", "Show what happened to a connection, step by step.", LOOKING),
    "wait": Verb(
        "looking",
        "Wait until a connection is in a state.",
        LOOKING,
    ),
    "watch": Verb(
        "looking",
        "Watch counts, what moved, what is due, who works.",
        LOOKING,
    ),
    "audit": Verb(
        "looking",
        "Show every change by hand: who, what, why.",
        LOOKING,
    ),
    "advance": Verb("operations", "Do now what is owed; the law decides what that is.", OPERATING),
    "check": Verb(
        "operations",
        "Look now, in any state that holds a token.",
        OPERATING,
    ),
    "force": Verb(
        "operations",
        "Put a connection into another state by hand.",
        OPERATING,
    ),
    "pause": Verb("operations", "Stop attending a connection until it is resumed.", OPERATING),
    "resume": Verb("operations", "Let a paused connection go on.", OPERATING),
    "restart": Verb("operations", "Let a failed connection go on.", OPERATING),
    "unlink": Verb("operations", "Give a connection up for good, and wipe its secrets.", OPERATING),
    "metadata": Verb("operations", "Set or take away texts of the metadata.", OPERATING),
    "apply": Verb("operations", "Carry out a plan that --dry-run --out made.", OPERATING),
    "operations": Verb("operations", "What was done to many: list, show, stop, resume.", OPERATING),
    "outbox": Verb("outbox", "What the host was told and is still to be told.", OPERATING),
    "sweep": Verb("worker", "Attend everything that is due, once.", RUNNING),
    "worker": Verb(
        "worker", "Keep the heartbeat going until SIGTERM or SIGINT; what is in flight is finished first.", RUNNING
    ),
    "dialog": Verb("links", "Serve the connection dialog, until a signal.", RUNNING),
    "demo": Verb("demo", "Show the whole flow as it happens, against a sandbox, with nothing set up.", RUNNING),
    "sandbox": Verb("sandbox", "Serve a Workable to try things on, until a signal; for development only.", RUNNING),
    "doctor": Verb("doctor", "Check everything that a stuck operator would check.", UPKEEP),
    "health": Verb(
        "looking",
        "Say whether all is attended, for probes.",
        UPKEEP,
    ),
    "states": Verb(
        "states", "Print the law: every event, from where to where, and every problem with its owner.", UPKEEP
    ),
    "db": Verb("database", "The database: its schema's revision, and what is too old.", UPKEEP),
    "keys": Verb("keys", "The keys that seal tokens.", UPKEEP),
}


#: How wide a screen of help is, without its margin, and the names in it.
LINE_COLUMNS = 78
NAME_COLUMNS = 12


class _Verbs(TyperGroup):
    """Verbs that are imported when they are used; for a list of them their lines of help are enough."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        return verb_named(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            near = get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"There is no command {args[0]!r}.{f' Did you mean {near[0]!r}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write one screen of 50 lines: each command with its line, under its heading."""
        typer.echo(f"Usage: {ctx.command_path} {' '.join(self.collect_usage_pieces(ctx))}\n")
        typer.echo("\n\n".join(fill(part, LINE_COLUMNS) for part in (self.help or "").split("\n\n")))
        typer.echo("--version shows the version; `linker COMMAND --help` says what a command takes.")
        panel = None
        for name, verb in VERBS.items():
            if verb.panel != panel:
                panel = verb.panel
                typer.echo(typer.style(panel, bold=True))
            typer.echo(f"  {name:<{NAME_COLUMNS}}{shorten(verb.help, LINE_COLUMNS - NAME_COLUMNS, placeholder=' …')}")


def verb_named(name: str) -> Any:
    """Import a verb: a command, or a group of them."""
    module = import_module(f"linker.cli.commands.{VERBS[name].module}")
    return typer.main.get_group(module.app).commands[name]


app = typer.Typer(cls=_Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linker {version()}")
        raise typer.Exit


@app.callback()
def linker(
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Link your customers' Workable accounts.

    Settings are LINKER_… variables, or a file named by LINKER_CONFIG. Try `linker demo` first.

    Exit codes: 0 done or still waiting · 1 our fault · 2 bad input · 3 not found · 4 refused · 5 try again later.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code; errors are told on stderr, never as a traceback.

    Args:
        arguments: by default those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with_all_streams()
    tolerate_any_character()
    try:
        with stdout_with_named_troubles():
            code = _run(given)
            sys.stdout.flush()
            return code
    except (PipeClosed, BrokenPipeError):
        let_go_of_stdout()
        return PIPE_CLOSED
    except OutputLost as lost:
        let_go_of_stdout()
        return with_error(lost, as_json="--json" in given)


def _run(arguments: list[str]) -> int:
    try:
        ended = typer.main.get_command(app).main(arguments, prog_name="linker", standalone_mode=False)
    except (PipeClosed, OutputLost):
        raise
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody gets a traceback
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed already
            return USAGE
        return with_error(error, as_json="--json" in arguments)
    return ended if isinstance(ended, int) else DONE
