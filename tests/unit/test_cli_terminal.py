"""Nothing that was stored or given moves a terminal's cursor, sets its title, or turns what stands there around."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from linker.cli.exit_codes import with_error
from linker.cli.terminal.output import Output
from linker.errors import LinkerError, NotFound, StoreUnavailable
from linker.validation.text import is_control, visible

NASTY = ["\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe", "\u2066x\u2069", "\x7f", "\x08", "a\u2028b", "\r"]
NAMES = ["Zoë", "株式会社\u3000東京", "می\u200cخواهم", "👨\u200d👩\u200d👧", "10\u202f000"]


class Screen(io.StringIO):
    """A terminal that remembers what it was sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is one."""
        return True


@contextmanager
def screen() -> Iterator[Screen]:
    """Let stdout and stderr be a terminal without colours."""
    shown = Screen()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NO_COLOR", "1")
        patched.setenv("TERM", "dumb")
        patched.setattr(sys, "stdout", shown)
        patched.setattr(sys, "stderr", shown)
        yield shown


def moves_nothing(shown: str) -> bool:
    """True if there is nothing but letters and line ends."""
    return not any(is_control(each) for each in shown if each != "\n")


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_a_table_a_panel_and_a_note_show_it_written_out(nasty: str) -> None:
    """Wherever it stands; people see that it is there."""
    with screen() as shown:
        output = Output()
        table = Table("one", nasty)
        table.add_row(f"before {nasty} after", Text(nasty, style="bold"))
        output.result(None, table, Panel(nasty), Text(nasty), nasty)
        output.note(f"note {nasty}")
    assert moves_nothing(shown.getvalue())
    assert "before" in shown.getvalue()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_the_world_are_shown_as_they_are(name: str) -> None:
    """Joiners and blanks belong to them."""
    with screen() as shown:
        Output().result(None, Text(name))
    assert name in shown.getvalue()
    assert visible(name) == name


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=4))
def test_json_means_the_same_and_moves_nothing(value: dict[str, object]) -> None:
    """Machines read the same value; a person who looks at it reads letters."""
    with screen() as shown:
        Output(as_json=True).result(value)
        with Output(as_json=True).array() as add:
            add([value, value])
            add([value])
    assert moves_nothing(shown.getvalue())
    decoder = json.JSONDecoder()
    one, end = decoder.raw_decode(shown.getvalue())
    several, _ = decoder.raw_decode(shown.getvalue()[end:].lstrip())
    assert (one, several) == (value, [value] * 3)


def test_an_array_of_nothing_is_one() -> None:
    """And people get none."""
    with screen() as shown:
        with Output(as_json=True).array():
            pass
        with Output().array() as add:
            add(["x"])
    assert json.loads(shown.getvalue()) == []


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_errors_show_it_written_out(nasty: str, as_json: bool) -> None:
    """Our own errors and those of others."""
    errors: list[Exception] = [NotFound(nasty), StoreUnavailable("unreachable", driver=nasty), ValueError(nasty)]
    with screen() as shown:
        for error in errors:
            if isinstance(error, LinkerError):
                error.add_note(nasty)
            with_error(error, as_json=as_json)
    assert moves_nothing(shown.getvalue())


LOGS = """
import sys, structlog
from linker.cli.logging_setup import configure
configure("info")
structlog.get_logger("linker").error("something.happened", actor=sys.argv[1])
"""


def test_the_log_shows_it_written_out() -> None:
    """In lines for people, on a terminal of their own."""
    ours, theirs = pty.openpty()
    try:
        nasty = "".join(each for each in NASTY if "\x00" not in each)
        command = [sys.executable, "-c", LOGS, nasty]
        subprocess.run(command, check=True, stderr=theirs, env={**os.environ, "NO_COLOR": "1"})
        shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(theirs)
    assert "something.happened" in shown
    assert "owned" in shown
    assert moves_nothing(shown)
