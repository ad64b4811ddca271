"""Where output goes: results to stdout, everything else to stderr.

People get colour and spinners on a terminal, plain text when the output is piped or NO_COLOR is set. A pipe whose
reader has gone ends the command quietly; a full disk is told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn, TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment
from rich.theme import Theme

from linker.errors import LinkerError
from linker.validation.text import is_control, visible

#: The width of output that no terminal shows: wide enough that no line of a table is broken.
PIPED_COLUMNS = 500

THEME = Theme(
    {
        "state.awaiting_token": "yellow",
        "state.token_valid": "cyan",
        "state.awaiting_recruiter": "yellow",
        "state.linked": "bold green",
        "state.failed": "bold red",
        "owner.customer": "yellow",
        "owner.workable": "magenta",
        "owner.operator": "red",
        "owner.us": "red",
        "good": "green",
        "bad": "bold red",
        "care": "yellow",
        "quiet": "dim",
        "label": "dim",
        "copy": "bold cyan",
        "title": "bold",
    }
)


class PipeClosed(Exception):
    """Whoever read our output has gone."""


class OutputLost(LinkerError):
    """The output cannot be written, because the disk is full for example."""

    code = "output_lost"
    exit_code = 2


class _Stdout:
    """Standard output with names for its troubles. Raises PipeClosed, OutputLost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with _named():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what was kept back."""
        with _named():
            self._stream.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise PipeClosed from None
    except OSError as error:
        raise OutputLost("stdout", cause=str(error.strerror)) from None


def stdout_with_named_troubles() -> redirect_stdout[Any]:
    """Let whatever is printed in this block raise PipeClosed or OutputLost, whoever prints it."""
    return redirect_stdout(_Stdout(sys.stdout))


class _Console(Console):
    """A console that says when its reader has gone, instead of ending the process itself."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise PipeClosed."""
        raise PipeClosed


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream is not None and stream.isatty()
    columns = os.environ.get("COLUMNS", "")
    width = None if terminal else int(columns) if columns.isdigit() and int(columns) > 0 else PIPED_COLUMNS
    console = _Console(theme=THEME, highlight=False, emoji=False, markup=False, stderr=stderr, width=width)
    console.push_render_hook(_VisibleTexts())
    return console


class Output:
    """What a command prints to."""

    def __init__(self, as_json: bool = False) -> None:
        """With `as_json` the result is one JSON value, and all that stdout gets."""
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    @property
    def width(self) -> int:
        """How many columns there are for people."""
        return self.out.width

    def result(self, value: Any, *renderables: RenderableType) -> None:
        """Print the result: the value for machines, or what can be read for people."""
        if self.as_json:
            _write(json_text(value) + "\n")
        else:
            self.show(*renderables)

    @contextmanager
    def array(self) -> Iterator[Callable[[Iterable[Any]], None]]:
        """Print one JSON array for machines, as its items come: none of them is kept. People get nothing."""
        is_empty = True

        def add(items: Iterable[Any]) -> None:
            nonlocal is_empty
            for item in items if self.as_json else ():
                _write(("[\n" if is_empty else ",\n") + json_text(item))
                is_empty = False

        yield add
        if self.as_json:
            _write("[]\n" if is_empty else "\n]\n")

    def show(self, *renderables: RenderableType) -> None:
        """Print something for people; without the blanks at line ends when no terminal shows it."""
        if self.out.is_terminal:
            self.out.print(*renderables, sep="\n")
            return
        with self.out.capture() as captured:
            self.out.print(*renderables, sep="\n")
        _write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def note(self, text: RenderableType) -> None:
        """Say something that is not the result; machines do not get it."""
        if not self.as_json:
            self.err.print(text, soft_wrap=True)  # what is to be copied stays on its line

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something is under way, on a terminal."""
        console = self.out if self.out.is_terminal and not self.as_json else self.err
        if not console.is_terminal:
            yield
            return
        with console.status(text, spinner="dots"):
            yield


def write_line(text: str) -> None:
    """Print a line of what is for machines."""
    sys.stdout.write(f"{text}\n")


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """A value as JSON, with letters as they are where the terminal has them, and nothing that moves its cursor."""
    unicode = "utf" in (sys.stdout.encoding or "").lower()
    lines = json.dumps(value, indent=indent, ensure_ascii=not unicode).split("\n")
    return "\n".join(line if line.isprintable() else _escaped(line) for line in lines)


def _escaped(line: str) -> str:
    return "".join(f"\\u{ord(each):04x}" if is_control(each) else each for each in line)


class _Visible:
    """Something to print, whatever texts are in it: names and reasons come from outside."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _VisibleTexts(RenderHook):
    """Lets nothing reach the terminal that moves its cursor, but what we mean to."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Called by the console for whatever is printed."""
        return [_Visible(each) for each in renderables]


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def with_all_streams() -> None:
    """Give a command that was started with a closed stdout or stderr somewhere to write to: it still does its work."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process


def tolerate_any_character() -> None:
    """Let no character of a name stop a command: what the terminal cannot show becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def let_go_of_stdout() -> None:
    """Stop Python from writing once more, when it ends, what cannot be written."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
