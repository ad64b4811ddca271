"""The law: what a connection is, what can happen to it, and what it becomes. Pure: no network, database or clock."""

#: By this `linker` knows its own `states` from a package of a host's that has the same name.
DISTRIBUTION = "workable-linker"
