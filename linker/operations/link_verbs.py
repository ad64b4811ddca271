"""Links to the connection dialog: given to customers, taken back, and what their secrets open."""

from __future__ import annotations

from datetime import timedelta

from pydantic import SecretStr

from linker.engine.service import HOST, Engine, Service
from linker.errors import BadSettings, LinkerError, NotFound
from linker.links import IssuedLink, Link, Purpose, hash_of, issue, url_of
from linker.persistence.link_store import LinkStore
from linker.settings import Settings, dialog_url, is_at_example, is_here
from linker.validation import text
from states.connection import Connection

#: How long a link lasts that a client's refusal gives, and how many are remembered.
RECONNECT_SPAN = timedelta(days=1)
RECONNECT_LINKS_KEPT = 1000


class LinkVerbs(Service):
    """What is done with links to the dialog, for hosts, operators and the dialog itself."""

    settings: Settings

    def __init__(self, engine: Engine) -> None:
        """Take the parts; no link to reconnect was given yet."""
        super().__init__(engine)
        self._reconnect_links: dict[str, IssuedLink] = {}

    @property
    def _link_store(self) -> LinkStore:
        raise NotImplementedError

    async def create_link(
        self,
        connection_id: str,
        *,
        for_: str = Purpose.SETUP,
        expires: timedelta | None = None,
        embed_origin: str | None = None,
        language: str | None = None,
        contact: str | None = None,
        plain: bool = False,
        actor: str = HOST,
    ) -> IssuedLink:
        """Make a link to the connection dialog, to be given to a customer. Only now its URL is known.

        Args:
            connection_id: the connection.
            for_: `setup` for the whole way, `token` or `recruiter` for a part of it, `reconnect` for another token,
                `status` to look only.
            expires: how long it lasts, at most 90 days; by default 7.
            embed_origin: the one origin that may show the dialog in a frame, as in `https://app.example.com`.
            language: of the pages, as in `en` or `pt-BR`; by default English.
            contact: for whom it is; the history says that this person acted.
            plain: for browsers without JavaScript. The secret is then in the path, where proxies and logs may see it.
            actor: who does this, for what is kept of the link.

        Raises:
            BadInput: something given cannot be used.
            BadSettings: it is not said where the dialog is reached, or the recruiter's e-mail leads nowhere.
            NotFound: no such connection.
            Refused: the connection is closed.
        """
        base = dialog_url(self.settings)
        if is_at_example(self.settings.recruiter_email) and not is_here(self.settings.workable_url):
            raise BadSettings("recruiter_email", "leads_nowhere")
        link, secret = issue(
            text.known_id(connection_id),
            now=self._engine.clock.now(),
            purpose=for_,
            expires=expires,
            embed_origin=embed_origin,
            language=language,
            contact=contact,
            actor=actor,
        )
        await self._link_store.add(link, hash_of(secret))
        return IssuedLink(id=link.id, url=url_of(base, link.id, secret, plain=plain), expires_at=link.expires_at)

    async def revoke_link(self, link_id: str) -> Link:
        """Let a link open nothing any more. A second time does nothing. Raises BadInput, NotFound."""
        return await self._link_store.revoke(text.known_id(link_id, what="link"), self._engine.clock.now())

    async def links(self, connection_id: str) -> list[Link]:
        """Read the links of a connection, newest first, without their secrets. Raises BadInput, NotFound."""
        return await self._link_store.of_connection(text.known_id(connection_id))

    async def find_link(self, link_id: str, secret: str) -> tuple[Link, Connection]:
        """Read the link that this is the secret of, whatever became of it (see its `status`), and its connection.

        Raises:
            NotFound: there is no such link, or this is not its secret; it is not told which, nor by the time it takes.
        """
        found = await self._link_store.proven(link_id, secret)
        if found is None:
            raise NotFound(link_id, what="link")
        return found

    async def is_renewed(self, link: Link) -> bool:
        """True if a token was accepted for its connection since this link was made."""
        return await self._link_store.is_renewed(link)

    async def embed_origin_of(self, link_id: str) -> str | None:
        """The one origin that may show the pages of a link in a frame; None: nobody may, or there is no such link."""
        stored = await self._link_store.find(link_id)
        return stored.link.embed_origin if stored else None

    async def count_entry(self, link: Link) -> bool:
        """Count an entry that is sent by a link, before anything is done with it.

        False: nothing is to be done, for it or the links of its connection sent too many within some minutes.
        """
        return await self._link_store.count_entry(link, self._engine.clock.now())

    async def _reconnect_link(self, connection: Connection) -> SecretStr | None:
        """The URL of a link with which a customer can mend a connection that is not linked; None if there is no dialog.

        The same for some hours: a host that tries again and again makes no link each time.
        """
        if connection.closed_at is not None or connection.paused_at is not None:
            return None
        known, now = self._reconnect_links.get(connection.id), self._engine.clock.now()
        if known is not None and now < known.expires_at - RECONNECT_SPAN / 2:
            return SecretStr(known.url)
        purpose = Purpose.RECONNECT if connection.linked_at is not None else Purpose.SETUP
        try:
            issued = await self.create_link(connection.id, for_=purpose, expires=RECONNECT_SPAN)
        except LinkerError:
            return None
        self._reconnect_links[connection.id] = issued
        while len(self._reconnect_links) > RECONNECT_LINKS_KEPT:
            del self._reconnect_links[next(iter(self._reconnect_links))]
        return SecretStr(issued.url)
