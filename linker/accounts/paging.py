"""Lists that come in pages: what a page holds, and where the next one is. Pure, for both kinds of client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx

from linker.errors import TryAgain
from linker.workable.urls import LONGEST_CHARACTERS


class PageTurner:
    """Reads one list page by page, from wherever it begins.

    `since_id` of a next page is inclusive, so a page may begin with what the one before ended with: that is dropped.
    """

    def __init__(self, owns: Callable[[httpx.URL], bool], url: httpx.URL, name: str | None = None) -> None:
        """Take what tells the account's own URLs, the first page, and the name of the list, if it has to be told."""
        self._owns = owns
        self._name = name
        self._seen_urls: set[httpx.URL] = set()
        self._last_ids: set[Any] = set()
        #: The URL of the page that comes next; None after the last one.
        self.url: httpx.URL | None = url

    def begin(self) -> httpx.URL:
        """The URL of the page that is asked for now.

        Raises:
            TryAgain: Workable leads to a page that was read already.
        """
        assert self.url is not None, "the last page was read"
        if self.url in self._seen_urls:
            raise TryAgain("page_repeated")
        self._seen_urls.add(self.url)
        return self.url

    def turn(self, response: httpx.Response) -> list[Any]:
        """The entries of a page that were not on the page before; from now on `url` is that of the next one.

        Raises:
            httpx.HTTPStatusError: it was not answered well.
            TryAgain: it is no page of a list, or leads away from the account.
        """
        response.raise_for_status()
        try:
            body = response.json()
        except ValueError:
            body = None
        listed = self._listed(body)
        if listed is None:
            raise TryAgain("not_a_list")
        paging = body.get("paging")
        following = paging.get("next") if isinstance(paging, Mapping) else None
        self.url = None if following is None else self._following(following)
        new = [entry for entry in listed if _id(entry) is None or _id(entry) not in self._last_ids]
        if listed and not new and self.url is not None:
            raise TryAgain("page_repeated")
        self._last_ids = {_id(entry) for entry in listed} - {None}
        return new

    def _following(self, given: object) -> httpx.URL:
        with suppress(httpx.InvalidURL, ValueError, TypeError):
            url = httpx.URL(given) if isinstance(given, str) and len(given) <= LONGEST_CHARACTERS else None
            if url is not None and self._owns(url):
                return url
        raise TryAgain("page_elsewhere")

    def _listed(self, body: Any) -> list[Any] | None:
        """The list that a page is about: the one of this name, or the only one there is."""
        if not isinstance(body, Mapping):
            return None
        lists = {name: value for name, value in body.items() if isinstance(value, list)}
        if self._name is not None:
            return lists.get(self._name)
        return next(iter(lists.values())) if len(lists) == 1 else None


def _id(entry: Any) -> Any:
    """What tells an entry from others; None if nothing does."""
    found = entry.get("id") if isinstance(entry, Mapping) else None
    return found if isinstance(found, str | int) else None
