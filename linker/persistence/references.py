"""What of a host's stands upon our tables: foreign keys and views, which would be emptied or broken without them."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import Connection, inspect

from linker.errors import Refused

_ON_POSTGRESQL = sa.text("""
    WITH ours AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = COALESCE(:schema, current_schema()) AND c.relname = ANY(:names)
    )
    SELECT CAST(conrelid AS regclass)::text FROM pg_constraint
    WHERE contype = 'f' AND confrelid IN (SELECT oid FROM ours) AND conrelid NOT IN (SELECT oid FROM ours)
    UNION
    SELECT CAST(r.ev_class AS regclass)::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid IN (SELECT oid FROM ours)
    ORDER BY 1
""")


def refuse_references(connection: Connection, names: Collection[str], schema: str | None) -> None:
    """Make sure that nothing of a host's refers to these tables, before they are taken away.

    Raises:
        Refused: something does; `by` names it. Nothing was changed.
    """
    if connection.dialect.name == "postgresql":
        found = list(connection.execute(_ON_POSTGRESQL, {"names": list(names), "schema": schema}).scalars())
    else:
        there = inspect(connection)
        found = [
            other
            for other in there.get_table_names()
            if other not in names and any(key["referred_table"] in names for key in there.get_foreign_keys(other))
        ]
    if found:
        raise Refused("referenced", by=found)
