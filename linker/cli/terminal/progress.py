"""A progress bar on a terminal, for what takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from linker.cli.terminal.output import Output

#: Shows how many are done, and how many there are if that is known.
Show = Callable[[int, int | None], None]


@contextmanager
def progress_bar(output: Output, text: str) -> Iterator[Show]:
    """Show how far something is, where stderr is a terminal; it is told how many are done and how many there are."""
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=output.err, transient=True, disable=not output.err.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield show
