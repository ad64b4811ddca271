"""The schema's revisions, shipped with the library. `HEAD` is the newest one; each is a module `revision_NNNN`.

A revision says its number and the oldest program that may go on writing the database after it, and adds to what there
is: nothing is taken away or renamed, so that programs of two versions work side by side while one replaces the other.
Revisions use Alembic's operations, and nothing of it that belongs to a whole process: several databases can be upgraded
at once in one process, and a host's own Alembic never meets ours.
"""

HEAD = "0006"
