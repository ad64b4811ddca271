"""What an installation without some extras, or beside a host's own packages, says and can still do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import linker
from linker.version import version

ROOT = Path(linker.__file__).parent.parent


#: Typers of before 0.24 use what the Clicks of today call deprecated.
OF_OLD_TYPERS = "ignore:'click.utils:DeprecationWarning"


def run(program: str, folder: Path, *missing: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter that lacks some packages."""
    lacks = f"import sys; sys.modules.update(dict.fromkeys({list(missing)!r}));"
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", OF_OLD_TYPERS, "-c", lacks + program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_linker_needs_no_extra(tmp_path: Path) -> None:
    """It links an account, on SQLite, where nothing but what it needs itself is installed."""
    program = """
import asyncio
from linker import Linker, Settings, new_key
from linker.testing import ScriptedWorkable, World
async def main():
    workable = ScriptedWorkable()
    async with Linker(Settings(database_url="sqlite:///linker.db", secret_keys=(new_key(),)), workable=workable) as one:
        made = await one.create(owner="a")
        waiting = await one.submit_token(made.id, subdomain="acme", token="a-token-of-acme")
        workable.add_recruiter(waiting.recruiter.email)
        print((await one.confirm_recruiter(made.id)).state.value)
World().add_account("acme", name="Acme")
asyncio.run(main())
"""
    missing = ("typer", "click", "rich", "starlette", "uvicorn", "prometheus_client", "psycopg", "fastapi")
    ran = run(program, tmp_path, *missing)
    assert (ran.stdout.splitlines()[-1:], ran.stderr) == (["linked"], "")


@pytest.mark.parametrize(
    ("program", "missing", "said"),
    [
        ("from linker import Metrics", "prometheus_client", "Install workable-linker with the extra metrics."),
        ("from linker.sandbox import running", "uvicorn", "Install workable-linker with the extra sandbox."),
        ("from linker.testing import running", "starlette", "Install workable-linker with the extra sandbox."),
    ],
)
def test_a_missing_extra_is_named(program: str, missing: str, said: str, tmp_path: Path) -> None:
    """What is asked for cannot be imported, and the error says what to install."""
    ran = run(program, tmp_path, missing)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"linker.errors.ExtraMissing: {missing} is not installed. {said}"


def test_it_is_an_import_error_too(tmp_path: Path) -> None:
    """A host that tries whether a part is there catches what it always does."""
    program = "try:\n    from linker import Metrics\nexcept ImportError:\n    print('not there')"
    assert run("\n" + program, tmp_path, "prometheus_client").stdout == "not there\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_is_missing(missing: str, tmp_path: Path) -> None:
    """One line, and the exit code of a usage error."""
    ran = run("from linker.__main__ import main; sys.exit(main())", tmp_path, missing)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"error {missing} is not installed. Install workable-linker with the extra cli.\n"


def test_a_part_of_ours_that_is_broken_is_not_taken_for_an_extra(tmp_path: Path) -> None:
    """What is missing of our own is our fault, and told as it is."""
    ran = run("from linker import Metrics", tmp_path, "linker.telemetry.metrics")
    assert "ExtraMissing" not in ran.stderr
    assert "ModuleNotFoundError" in ran.stderr


def test_the_linker_loads_nothing_of_parts_that_are_not_used(tmp_path: Path) -> None:
    """Neither what upgrades a database nor what serves pages nor the command line."""
    heavy = "{'alembic', 'starlette', 'uvicorn', 'typer', 'prometheus_client', 'babel', 'jinja2'}"
    program = f"from linker import Linker; print(sorted({heavy} & set(sys.modules)))"
    assert run(program, tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_package_of_a_hosts_that_hides_our_states_is_named(kind: str, tmp_path: Path) -> None:
    """In one line, which says where it is and what to do."""
    if kind == "package":
        (tmp_path / "states").mkdir()
        hiding = tmp_path / "states" / "__init__.py"
    else:
        hiding = tmp_path / "states.py"
    hiding.write_text("OPEN = 1\n")
    ran = run("import linker", tmp_path)
    assert ran.stderr.splitlines()[-1] == (
        f"ImportError: linker: {hiding} hides the package `states` that comes with linker. Rename it."
    )


def test_the_version_is_the_one_that_is_installed() -> None:
    """In Python and on the command line."""
    assert linker.__version__ == version()
    said = subprocess.run([sys.executable, "-m", "linker", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"linker {version()}\n"


def test_looking_imports_no_linker(tmp_path: Path) -> None:
    """`linker list` is short, and used often: what calls Workable is not imported for it."""
    program = f"""
import os, sys
os.environ["LINKER_DATABASE_URL"] = "sqlite:///{tmp_path / "linker.db"}"
from linker.cli.main import main
for arguments in (["list"], ["audit"], ["watch", "--times", "1"], ["health"]):
    assert main(arguments) == 0
print(sorted({{"linker.linker", "aiohttp", "httpx"}} & set(sys.modules)))
"""
    ran = run(program, tmp_path)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
