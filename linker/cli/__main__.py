"""`python -m linker.cli` is the same as `linker`."""

import sys

from linker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
