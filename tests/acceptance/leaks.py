"""Looking for a secret everywhere: what counts as a find, and how each kind of place is turned into bytes."""

from __future__ import annotations

import base64
import gc
import io
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.traceback import Traceback

TESTS = str(Path(__file__).parents[1])
#: A piece of a secret of this length is no chance, and one begins at every so many characters: so 16 in a row give the
#: secret away, and a line that was cut or wrapped does not hide it.
PIECE, STRIDE = 10, 7
#: More than anything that is shown.
MUCH = 1_000_000

#: The loggers of everything that we stand on; DEBUG is heard from each.
LOGGERS = (
    "aiohttp.client",
    "aiohttp.internal",
    "alembic",
    "apscheduler",
    "asyncio",
    "concurrent.futures",
    "httpcore",
    "httpx",
    "httpx_aiohttp",
    "linker",
    "sqlalchemy.engine",
    "sqlalchemy.pool",
    "transitions",
    "uvicorn",
)


class Secret:
    """A text that must be nowhere, in none of the ways in which it could be written."""

    def __init__(self, text: str) -> None:
        self._lowered = _pieces(text.lower()) | _pieces(text.encode().hex(), 2)
        self._exact = _pieces(quote(text, safe="")) | _pieces(text.encode("utf-16-le").decode("ascii"), 2)
        for shift in range(3):
            packed = base64.b64encode(b"?" * shift + text.encode()).decode()[4:-4]
            self._exact |= _pieces(packed) | _pieces(packed.replace("+", "-").replace("/", "_"))

    def is_in(self, place: bytes) -> bool:
        """True if enough of it to tell is there, in whichever shape."""
        lowered = place.lower()
        return any(piece in lowered for piece in self._lowered) or any(piece in place for piece in self._exact)


def _pieces(text: str, width: int = 1) -> set[bytes]:
    """Pieces of a text in which each character of the secret takes `width` characters."""
    ends = range(0, len(text) - PIECE * width + 1, STRIDE * width)
    return {text[at : at + PIECE * width].encode("ascii") for at in ends}


@dataclass
class Places:
    """What was collected so far: a name for each place, and what is there."""

    #: Not shown: errors show the locals of their frames, and this is one of them.
    found: list[tuple[str, bytes]] = field(default_factory=list, repr=False)

    def add(self, name: str, content: object) -> None:
        """Add a place: bytes as they are, anything else as text."""
        as_bytes = content if isinstance(content, bytes) else str(content).encode("utf-8", "backslashreplace")
        self.found.append((name, as_bytes))

    def add_files(self, folder: Path) -> None:
        """Add every file of a folder, a database with its write-ahead log among them."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.add(f"file {path.name}", path.read_bytes())

    def add_error(self, error: BaseException) -> None:
        """Add an error as a logger, a crash reporter and a terminal would show it."""
        for each in chain(error):
            self.add(f"error {type(each).__name__}", "\n".join(told_by(each)))

    def add_records(self, records: Iterable[logging.LogRecord]) -> None:
        """Add what was logged: the line, what it was made of, and the error that came along."""
        for record in records:
            self.add(f"log of {record.name}", f"{record.getMessage()} {vars(record)!r}")
            if record.exc_info and record.exc_info[1]:
                self.add_error(record.exc_info[1])

    def add_objects(self) -> None:
        """Add the `repr` of every object of ours that is alive."""
        for each in gc.get_objects():
            module = str(type(each).__module__)
            if module.startswith(("linker", "states")) and not module.startswith("linker.sandbox"):
                self.add(f"repr of {type(each).__name__}", repr(each))

    def with_(self, secret: Secret) -> list[str]:
        """The names of the places where the secret is."""
        if not secret.is_in(b"\n".join(content for _, content in self.found)):
            return []
        return sorted({name for name, content in self.found if secret.is_in(content)})

    def kinds(self) -> set[str]:
        """The first words of the names."""
        return {name.split(" ", maxsplit=1)[0] for name, _ in self.found}


def chain(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[BaseException]:
    """An error, its causes and contexts, suppressed ones too, and those that it is a group of."""
    if error is None or id(error) in seen:
        return
    seen |= {id(error)}
    yield error
    more = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for each in (error.__cause__, error.__context__, *more):
        yield from chain(each, seen)


def told_by(error: BaseException) -> Iterator[str]:
    """All that an error tells, with the locals of all frames but those of the tests."""
    yield str(error)
    yield repr(error)
    yield repr(error.args)
    yield repr(vars(error))
    yield from _plain_trace(error)
    yield _rich_trace(error)


def _plain_trace(error: BaseException) -> Iterator[str]:
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in trace.stack:
        if not frame.filename.startswith(TESTS):
            yield f"{frame.filename}:{frame.lineno} {frame.line} {frame.locals}"


def _rich_trace(error: BaseException) -> str:
    extracted = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=MUCH, locals_max_string=MUCH
    )
    for stack in extracted.stacks:
        stack.frames = [frame for frame in stack.frames if not frame.filename.startswith(TESTS)]
    shown = io.StringIO()
    Console(file=shown, width=10_000).print(Traceback(extracted, show_locals=True, width=10_000))
    return shown.getvalue()


class Listener(logging.Handler):
    """Hears every logger at DEBUG, as long as it is `listening`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []
        self._before: Mapping[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)

    def __enter__(self) -> Listener:
        """Turn everything up."""
        self._before = {name: logging.getLogger(name).level for name in ("", *LOGGERS)}
        for name in self._before:
            logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: Any) -> None:
        """Turn everything back to where it was."""
        logging.getLogger().removeHandler(self)
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)
