"""Where tests reach behind the front, for what no front shows: one place, so that a change inside is a change here."""

from linker import Linker
from linker.composition import Parts


def parts(linker: Linker) -> Parts:
    """What a linker was built of: its store, its database, its clock."""
    return linker._parts
