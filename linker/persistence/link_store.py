"""The links to the dialog in SQL. Of a link's secret only the hash is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, select, update

from linker.database.database import Database
from linker.errors import NotFound, Refused
from linker.links import ENTRY_EVERY, MOST_ENTRIES, MOST_ENTRIES_OF_A_CONNECTION, Link, Purpose, has_room, proves
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.tables import CONNECTION, LINK, STEP
from states import events as happened
from states.connection import Connection

#: The steps by which a token comes into use.
ACCEPTED = (happened.TokenAccepted.name, happened.ReplacementAccepted.name)
#: Every request of a page reads its link.
_BY_ID = select(LINK).where(LINK.c.public_id == bindparam("this"))


class StoredLink(NamedTuple):
    """A link, and the hash of its secret."""

    link: Link
    secret_hash: str


class LinkStore:
    """The links of one database."""

    def __init__(self, database: Database, connections: ConnectionStore) -> None:
        """Take the database, and what reads its connections; nothing is opened yet."""
        self._database = database
        self._connections = connections

    async def add(self, link: Link, secret_hash: str) -> None:
        """Keep a new link. Raises NotFound: its connection is not there, Refused: it is closed."""
        row = {
            "public_id": link.id,
            "connection_id": link.connection_id,
            "secret_hash": secret_hash,
            "purpose": link.purpose.value,
            "embed_origin": link.embed_origin,
            "language": link.language,
            "contact": link.contact,
            "created_at": link.created_at,
            "created_by": link.created_by,
            "expires_at": link.expires_at,
            "attempts": 0,
        }
        is_closed = select(CONNECTION.c.closed_at.is_not(None)).where(CONNECTION.c.id == link.connection_id)

        def work(transaction: Transaction) -> bool | None:
            closed: bool | None = transaction.execute(is_closed).scalar()
            if closed is False:
                transaction.execute(insert(LINK).values(row))
            return closed

        closed = await self._database.write(work)
        if closed is None:
            raise NotFound(link.connection_id)
        if closed:
            raise Refused("closed", connection=link.connection_id)

    async def find(self, link_id: str) -> StoredLink | None:
        """One link, whatever became of it."""
        given = {"this": link_id}
        row = await self._database.read(lambda transaction: transaction.execute(_BY_ID, given).mappings().first())
        return None if row is None else StoredLink(_link(row), row["secret_hash"])

    async def proven(self, link_id: str, secret: str) -> tuple[Link, Connection] | None:
        """The link that this is the secret of, whatever became of it, and its connection; None: it is none's.

        The connection is read only for who knows the secret: a guess takes as long as an id that there is not.
        """
        given = {"this": link_id}

        def work(transaction: Transaction) -> tuple[Link, Connection] | None:
            row = transaction.execute(_BY_ID, given).mappings().first()
            if not proves(secret, row["secret_hash"] if row else None) or row is None:
                return None
            connection = self._connections.one_in(transaction, row["connection_id"])
            return None if connection is None else (_link(row), connection)

        return await self._database.read(work)

    async def is_renewed(self, link: Link) -> bool:
        """True if a token was accepted for its connection since this link was made."""
        since = (STEP.c.connection_id == link.connection_id, STEP.c.at >= link.created_at, STEP.c.event.in_(ACCEPTED))
        query = select(STEP.c.seq).where(*since).limit(1)
        return await self._database.read(lambda transaction: transaction.execute(query).first() is not None)

    async def of_connection(self, connection_id: str) -> list[Link]:
        """All links of a connection, newest first."""
        query = select(LINK).where(LINK.c.connection_id == connection_id).order_by(LINK.c.id.desc())
        rows = await self._database.read(lambda transaction: transaction.execute(query).mappings().all())
        return [_link(row) for row in rows]

    async def revoke(self, link_id: str, now: datetime) -> Link:
        """Let a link open nothing any more; a second time does nothing. Raises NotFound."""
        once = update(LINK).where(LINK.c.public_id == link_id, LINK.c.revoked_at.is_(None)).values(revoked_at=now)
        await self._database.write(lambda transaction: transaction.execute(once).rowcount)
        found = await self.find(link_id)
        if found is None:
            raise NotFound(link_id, what="link")
        return found.link

    async def count_entry(self, link: Link, now: datetime) -> bool:
        """Count an entry that is sent by a link. False: it, or all links of its connection, sent too many of late.

        A link that is turned down for the others' sake has no room for some seconds either.
        """
        of_all = select(LINK.c.public_id, LINK.c.entries_until).where(LINK.c.connection_id == link.connection_id)

        def work(transaction: Transaction) -> bool:
            rows = transaction.execute(of_all.with_for_update()).all()
            counting = {each: max((until or now) - now, timedelta(0)) for each, until in rows}
            mine, together = counting[link.id], sum(counting.values(), timedelta(0))
            counts = has_room(now + mine, now) and together <= ENTRY_EVERY * (MOST_ENTRIES_OF_A_CONNECTION - 1)
            more = {"attempts": LINK.c.attempts + 1, "entries_until": now + mine + ENTRY_EVERY}
            full = {"entries_until": now + ENTRY_EVERY * MOST_ENTRIES}
            transaction.execute(update(LINK).where(LINK.c.public_id == link.id).values(more if counts else full))
            return counts

        return await self._database.write(work)


def _link(row: Mapping[Any, Any]) -> Link:
    return Link(
        id=row["public_id"],
        connection_id=row["connection_id"],
        purpose=Purpose(row["purpose"]),
        embed_origin=row["embed_origin"],
        language=row["language"],
        contact=row["contact"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        attempts=row["attempts"],
        entries_until=row["entries_until"],
    )
