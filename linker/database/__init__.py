"""The database: a unit of work is one thread and one transaction. Knows no table."""
