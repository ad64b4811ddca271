"""The front door: exactly these names, and nothing happens when it is opened."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import linker

ROOT = Path(__file__).parents[2]

#: Looks for traces of an import, in a fresh interpreter.
LOOK_FOR_TRACES = """
import asyncio, logging, os, signal, socket, sys, threading, warnings

def forbidden(*_, **__):
    raise AssertionError("a network is asked for at import")

import structlog
socket.socket.connect = socket.create_connection = socket.getaddrinfo = forbidden
handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
environment, filters, files = dict(os.environ), list(warnings.filters), os.listdir()
policy = asyncio.get_event_loop_policy()

import linker
from linker import *  # the door is lazy: only now everything behind it is loaded

assert "linker.linker" in sys.modules, "the linker itself"
assert logging.getLogger().handlers == [], "root handlers"
assert logging.getLogger().level == logging.WARNING, "root level"
named = {name: logging.getLogger(name).handlers for name in logging.root.manager.loggerDict if "linker" in name}
assert not any(named.values()), named
assert not structlog.is_configured(), "structlog"
assert asyncio.get_event_loop_policy() is policy, "event loop policy"
assert getattr(getattr(policy, "_local", None), "_loop", None) is None, "an event loop"
assert {number: signal.getsignal(number) for number in handlers} == handlers, "signals"
assert (sys.excepthook, threading.excepthook, sys.unraisablehook) == hooks, "hooks"
assert threading.active_count() == 1, threading.enumerate()
assert dict(os.environ) == environment, "environment"
assert os.listdir() == files == [], os.listdir()
assert not {"linker.cli", "linker.sandbox", "typer", "uvicorn", "psycopg", "jinja2"} & set(sys.modules), "heavy parts"
print("no traces")
"""


def test_all_is_sorted_and_complete() -> None:
    """`__all__` is in order, and names what type checkers and people see of us, but for what needs an extra."""
    tree = ast.parse(Path(linker.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("linker.", "states."))
        for alias in node.names
    }
    assert linker.__all__ == sorted(imported - NEEDS_AN_EXTRA)
    assert imported >= NEEDS_AN_EXTRA
    assert set(linker.__all__) <= set(dir(linker))


#: What is behind the door only where an extra is installed: `from linker import *` must not fail without it.
NEEDS_AN_EXTRA = {"Metrics"}


def test_what_needs_an_extra_says_which() -> None:
    """It is there where the extra is installed, and elsewhere an error of ours that is an ImportError too."""
    assert linker.Metrics.__name__ == "Metrics"
    asked = (
        "import sys; sys.modules['prometheus_client'] = None; import linker\n"
        "try:\n    linker.Metrics\nexcept ImportError as missing:\n"
        "    print(type(missing).__name__, missing.code, missing.reason, missing.params, missing)"
    )
    found = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    said = "prometheus_client is not installed. Install workable-linker with the extra metrics."
    told = f"ExtraMissing extra_missing metrics {{'package': 'prometheus_client'}} {said}\n"
    assert (found.stdout, found.stderr) == (told, "")


def test_no_other_name_is_behind_the_door() -> None:
    """What is not promised is an error of the usual kind."""
    with pytest.raises(AttributeError, match="has no attribute 'ConnectionStore'"):
        linker.ConnectionStore  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("first", ["linker.linker", "linker.blocking_linker"])
def test_the_order_of_imports_does_not_matter(first: str) -> None:
    """Whichever module was imported first, the front door gives the function `blocking`."""
    asked = f"import {first}, inspect; from linker import *; import linker; print(inspect.isfunction(linker.blocking))"
    found = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.stdout, found.stderr) == ("True\n", "")


@pytest.mark.parametrize("name", linker.__all__)
def test_every_name_is_documented(name: str) -> None:
    """Whatever a host can import says what it is."""
    assert (getattr(linker, name).__doc__ or "").strip()


def test_importing_leaves_no_traces(tmp_path: Path) -> None:
    """No handler, no configuration, no event loop, no file, no network, no thread, no signal, no heavy part."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK_FOR_TRACES],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LINKER_DATABASE_URL": "nonsense"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.stdout, found.stderr, found.returncode) == ("no traces\n", "", 0)
