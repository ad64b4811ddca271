"""The law: what a connection is, what can happen to it, and what it becomes. Pure: no network, database or clock."""
