"""What there was before our tables had names of ours: how such a database is known, and how it is brought over.

It is known by the columns of its tables, never by `alembic_version` alone: a host has a table of that name too, perhaps
with our numbers in it. It is brought over in one transaction, into new tables, because SQLite cannot take a CHECK away.
Programs of before cannot work beside those of after: so nothing is begun while a lease is alive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, inspect

from linker.errors import Refused, TryAgain
from linker.persistence.references import refuse_references
from linker.persistence.tables import Table

#: Our tables of before, those that others refer to last, and the columns that no other table of these names has.
SIGNS = {
    "step": {"connection_id", "seq", "event", "source", "target", "actor", "evidence"},
    "outbox": {"message_id", "connection_id", "seq", "type", "payload", "delivered_to"},
    "link": {"id", "connection_id", "token_hash", "scope", "created_at", "expires_at", "revoked_at", "attempts"},
    "ration": {"name", "spread_until"},
    "connection": {"id", "owner", "state", "state_since", "token_sealed", "lease_holder", "last_seq", "law"},
}
NEEDED = {"connection", "step", "outbox"}
#: A host may have tables of these names: ours have these columns and no other, and nothing was ever in a link.
EXACT = {"link", "ration"}
#: Columns of before that have no place in the new tables: they are read into others.
READ = {"problem_detail", "replacement_problem_detail"}
#: No program of before held a lease for longer; one that ends later was written by a clock that was wrong.
LONGEST_LEASE = timedelta(hours=1)
#: The revisions that there were.
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
#: What the version table of before says afterwards: its programs refuse a revision that they do not know.
MOVED = "moved"
VERSION_TABLE = "alembic_version"

NEW_NAMES = {"connection": "linker_connection", "step": "linker_step", "outbox": "linker_outbox"}
#: How many problems are put into their new form at a time.
BATCH_ROWS = 1_000


def tables_of_before(connection: Connection) -> dict[str, list[str]]:
    """Our tables of before that a database holds, each with its columns; empty if it is no database of before."""
    there = inspect(connection)
    names = set(there.get_table_names())
    columns = {name: [each["name"] for each in there.get_columns(name)] for name in SIGNS if name in names}
    ours = {
        name: found
        for name, found in columns.items()
        if set(found) == SIGNS[name] or (name not in EXACT and set(found) > SIGNS[name])
    }
    if "link" in ours and connection.execute(sa.text("SELECT 1 FROM link LIMIT 1")).first():
        del ours["link"]
    return ours if ours.keys() >= NEEDED else {}


def told_revision(connection: Connection) -> str | None:
    """What the version table of before says, if it holds what only we write into it."""
    if VERSION_TABLE not in inspect(connection).get_table_names():
        return None
    told = list(connection.execute(sa.select(_VERSION.c.version_num)).scalars())
    return told[0] if len(told) == 1 and told[0] in {*REVISIONS, MOVED} else None


_VERSION = sa.table(VERSION_TABLE, sa.column("version_num"))


def refuse_alive_leases(connection: Connection) -> None:
    """Let nobody write any more, and raise TryAgain while a program of before is at work on something."""
    now = datetime.now(UTC)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE connection, step, outbox IN ACCESS EXCLUSIVE MODE"))
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    lasting = {"connection": ["lease_until"], "outbox": ["lease_until", "hook_lease_until"]}
    for name, columns in tables_of_before(connection).items():
        for until in set(lasting.get(name, [])) & set(columns):
            ends: sa.ColumnClause[Any] = sa.column(until)
            told = connection.execute(sa.select(ends).select_from(sa.table(name)).where(ends.is_not(None))).scalars()
            alive = [end for end in map(_moment, told) if end is not None and now < end <= now + LONGEST_LEASE]
            if alive:
                refused = TryAgain("leases_alive", until=max(alive).isoformat())
                refused.retry_after = (max(alive) - now).total_seconds()
                raise refused


def _moment(told: Any) -> datetime | None:
    """A time of before, however it was written; None if it is none."""
    try:
        found = told if isinstance(told, datetime) else datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def refuse_loss(connection: Connection) -> None:
    """Make sure that all there is can be brought over, and that nothing of a host's goes with the tables of before.

    Raises:
        Refused: a table has columns that are not ours, or something of a host's refers to one.
    """
    tables = tables_of_before(connection)
    for name, new_name in NEW_NAMES.items():
        strange = set(tables[name]) - set(Table.metadata.tables[new_name].columns.keys()) - READ
        if strange:
            raise Refused("unknown_columns", table=name, columns=sorted(strange))
    refuse_references(connection, tables.keys(), None)


def copy_rows(connection: Connection) -> None:
    """Copy the rows of before into the new tables, which have no indexes yet."""
    tables = tables_of_before(connection)
    for name in ("connection", "step", "outbox"):
        new = sa.Table(NEW_NAMES[name], sa.MetaData(), autoload_with=connection, schema=_schema_of_ours(connection))
        common = [column for column in tables[name] if column in new.c]
        old = sa.table(name, *map(sa.column, common))
        connection.execute(new.insert().from_select(common, sa.select(*old.c)))
    _set_sequence(connection)
    _say_problems_in_codes(connection)
    _say_errors_in_codes(connection)


def drop_tables(connection: Connection) -> list[str]:
    """Take the tables of before away, and say in their version table that they moved; gives the names of what went."""
    tables = tables_of_before(connection)
    gone = [name for name in SIGNS if name in tables]
    if gone and told_revision(connection):
        connection.execute(_VERSION.update().values(version_num=MOVED))
    for name in gone:
        connection.execute(sa.text(f"DROP TABLE {name}"))
    return gone


def drop_for_good(connection: Connection, *, with_tables: bool) -> list[str]:
    """Take away what is left of before, where nobody needs it any more; gives the names of what went.

    The version table goes if it says that its tables moved. `with_tables`: the tables of before go too.
    """
    gone: list[str] = []
    if with_tables:
        refuse_references(connection, tables_of_before(connection).keys(), None)
        gone = drop_tables(connection)
    if told_revision(connection) == MOVED:
        connection.execute(sa.text(f"DROP TABLE {VERSION_TABLE}"))
        gone.append(VERSION_TABLE)
    return gone


def _schema_of_ours(connection: Connection) -> str | None:
    found: str | None = connection.get_execution_options().get("schema_translate_map", {}).get(None)
    return found


def _set_sequence(connection: Connection) -> None:
    """Let PostgreSQL go on counting where it was."""
    if connection.dialect.name == "postgresql":
        schema = _schema_of_ours(connection)
        table = f'"{schema}".linker_outbox' if schema else "linker_outbox"
        connection.execute(
            sa.text(
                "SELECT setval(pg_get_serial_sequence(:table, 'id'), max(id)) FROM outbox HAVING max(id) IS NOT NULL"
            ),
            {"table": table},
        )


# ── problems: what was said in sentences is kept in parameters ────────────────────────────────────────────────────────


def _say_problems_in_codes(connection: Connection) -> None:
    """Read the sentences of before, and keep what they told; one that nobody knows is kept as it is."""
    old = sa.table(
        "connection",
        *map(
            sa.column,
            ("id", "recruiter_name", "recruiter_email", "problem_detail", "replacement_problem_detail"),
        ),
    )
    new = sa.Table(
        "linker_connection",
        sa.MetaData(),
        sa.Column("id", sa.Text()),
        sa.Column("problem_params", sa.JSON(none_as_null=True)),
        sa.Column("replacement_problem_params", sa.JSON(none_as_null=True)),
    )
    told = sa.or_(old.c.problem_detail.is_not(None), old.c.replacement_problem_detail.is_not(None))
    put = (
        new.update()
        .where(new.c.id == sa.bindparam("this"))
        .values(
            problem_params=sa.bindparam("problem", type_=sa.JSON(none_as_null=True)),
            replacement_problem_params=sa.bindparam("replacement", type_=sa.JSON(none_as_null=True)),
        )
    )
    for rows in _in_batches(connection, sa.select(old).where(told).order_by(old.c.id), old.c.id):
        values = [
            {
                "this": row["id"],
                "problem": params_of(row["problem_detail"], row),
                "replacement": params_of(row["replacement_problem_detail"], row),
            }
            for row in rows
        ]
        connection.execute(put, values)


def _in_batches(
    connection: Connection, query: sa.Select[Any], key: sa.ColumnElement[Any]
) -> Iterator[Sequence[Mapping[Any, Any]]]:
    last = None
    while True:
        further = query if last is None else query.where(key > last)
        rows = list(connection.execute(further.limit(BATCH_ROWS)).mappings())
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


#: Why an answer was not understood, by how that began.
ANSWERS = {"it is not JSON": "not_json", "it is larger t": "too_large", "it is not a wh": "not_an_object"}

Made = Callable[[re.Match[str]], dict[str, Any]]

#: The sentences of before, and what each told.
SENTENCES: tuple[tuple[str, Made], ...] = (
    (
        r"An external recruiter was added with almost this e-mail: it differs after “(?P<alike>.*?)”\. .*",
        lambda said: {"near_miss": "slip", "alike": said["alike"]},
    ),
    (
        r"An external recruiter was added with almost this e-mail: it differs at the very beginning\. .*",
        lambda _: {"near_miss": "slip_at_start"},
    ),
    (r"An external recruiter named “.*” was added with another e-mail\. .*", lambda _: {"near_miss": "same_name"}),
    (r".* was added as an account member, not as an external recruiter\. .*", lambda _: {"near_miss": "member"}),
    (r"The list of external recruiters in Workable is empty\.", lambda _: {"near_miss": "none"}),
    (
        r"Workable lists (?P<others>\d+) other external recruiters?; .*",
        lambda said: {"near_miss": "others", "others": int(said["others"])},
    ),
    (
        r"(This token belongs to: (?P<belongs_to>[^ ].*?)\.)? ?(This connection stays with (?P<stays_with>[^ ]+)\.)?",
        lambda said: {
            **({"belongs_to": said["belongs_to"].split(", ")} if said["belongs_to"] else {}),
            **({"stays_with": said["stays_with"]} if said["stays_with"] else {}),
        },
    ),
    (r"Missing permission: (?P<missing>\w+)\.", lambda said: {"missing": [said["missing"]]}),
    (r"Connected already as (?P<connection>\S+)\.", lambda said: {"connection": said["connection"]}),
    (
        r"An answer with status (?P<status>\d+) was not understood: (?P<why>[^.]*)\.",
        lambda said: {"answer": ANSWERS.get(said["why"][:14], "no_rule"), "status": int(said["status"])},
    ),
    (
        r"The answer to (?P<call>.*) does not have the shape that it should have\.",
        lambda said: {"answer": "other_shape", "call": said["call"]},
    ),
    (r"Workable says twice that there is no list of recruiters \(404\)\.", lambda _: {"answer": "no_list"}),
    (r"Our recruiter is in the list without an id\.", lambda _: {"answer": "recruiter_without_id"}),
    (
        r"The token of (?P<connection>\S+) was sealed with the key (?P<key>[^ ,]+), which is not in .*",
        lambda said: {"fault": "key_missing.not_set", "connection": said["connection"], "key": said["key"]},
    ),
    (
        r"The sealed token of (?P<connection>\S+) was changed, or was sealed for another connection\. .*",
        lambda said: {"fault": "seal_broken.changed", "connection": said["connection"]},
    ),
    (r"The database did not take what was decided; .*", lambda _: {"fault": "our_fault.not_written"}),
    (r"(?P<fault>\w+)", lambda said: {"fault": said["fault"]}),
)


def params_of(detail: Any, row: Mapping[Any, Any]) -> dict[str, Any] | None:
    """What a sentence of before told, in parameters; a sentence that is none of ours is kept whole, as `said`."""
    if not detail:
        return None
    if not isinstance(detail, str):
        detail = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
    for sentence, made in SENTENCES:
        found = re.fullmatch(sentence, detail, re.DOTALL)
        if found is None:
            continue
        params = made(found)
        if "near_miss" in params:
            params |= {"name": row["recruiter_name"], "email": row["recruiter_email"]}
        return params
    return {"said": detail}


def _say_errors_in_codes(connection: Connection) -> None:
    """What nobody took has a code now, on both channels."""
    for column in ("last_error", "hook_last_error"):
        outbox = sa.Table("linker_outbox", sa.MetaData(), sa.Column(column, sa.Text()))
        was = outbox.c[column] == "nobody was there to take it"
        connection.execute(outbox.update().where(was).values({column: "unclaimed"}))
