"""`python -m linker` is `linker`."""

from __future__ import annotations

import gc
import sys

from linker.errors import ExtraMissing
from linker.version import from_extra

#: What a command imports stays. To look through it for what can go, every 700 objects, is a fifth of a short one.
GARBAGE_OBJECTS = 50_000


def main() -> int:
    """Run the command line of this process; gives its exit code."""
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        command = from_extra("cli", "linker.cli.main")
    except ExtraMissing as missing:
        sys.stderr.write(f"error {missing}\n")
        return missing.exit_code
    code: int = command.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
