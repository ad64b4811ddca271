"""Workable: what is asked of it, how its answers are read, and how it is reached."""
