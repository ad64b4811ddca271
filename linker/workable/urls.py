"""The only places that a token may be sent to: URLs under the account's own host and path, and nothing else."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

import httpx

from linker.errors import BadSettings, OurFault
from linker.network.addresses import is_on_this_machine
from linker.validation.subdomain import is_label

PLACE = "{subdomain}"
#: How many URLs are kept made, each with its look at where it leads.
KEPT_URLS = 8192
#: No URL of a further page is longer.
LONGEST_CHARACTERS = 2000
#: Takes the subdomain's place while the template is taken apart.
STAND_IN = "stand-in"
DEFAULT_PORTS = {"http": 80, "https": 443}


class AccountUrls:
    """Makes the URLs of one Workable from a template like `https://{subdomain}.workable.com`.

    The template may carry the subdomain in its path instead, for test servers: `http://127.0.0.1:8787/{subdomain}`.
    Tokens go over https, and over http only to this machine.

    Raises:
        BadSettings: the template is not such a URL.
    """

    def __init__(self, template: str) -> None:
        self._template = template.rstrip("/")
        # a subdomain cannot change how the parts lie, because it is a label: so they are taken apart only once
        parts = None
        try:
            stood_in = self._template.replace(PLACE, STAND_IN)
            parts = urlsplit(stood_in)
            is_sound = parts.scheme in DEFAULT_PORTS and parts.hostname and not (parts.query or parts.fragment)
            is_sound = is_sound and "@" not in parts.netloc and parts.port != 0
            is_sound = is_sound and httpx.URL(stood_in).raw_host.decode("ascii") == parts.hostname
        except (ValueError, httpx.InvalidURL):  # a port out of range, brackets that do not close, a tab in the name
            is_sound = False
        if parts is None or not is_sound or PLACE not in self._template or STAND_IN in self._template:
            raise BadSettings("workable_url", "not_a_template")
        if parts.scheme == "http" and not is_on_this_machine(str(parts.hostname)):
            raise BadSettings("workable_url", "token_in_clear")
        self._scheme = parts.scheme
        self._port = parts.port or DEFAULT_PORTS[parts.scheme]
        self._host = str(parts.hostname).replace(STAND_IN, PLACE)
        self._path = parts.path.replace(STAND_IN, PLACE) + "/spi/v3/"
        self._made = lru_cache(maxsize=KEPT_URLS)(self._make)

    def of(self, subdomain: str, path: str) -> httpx.URL:
        """The URL of a path in an account.

        Raises:
            OurFault: the subdomain is no strict label, or the URL would lead elsewhere. Nothing was sent.
        """
        return self._made(subdomain, path)

    def _make(self, subdomain: str, path: str) -> httpx.URL:
        if not is_label(subdomain):
            raise OurFault("subdomain_not_parsed")
        url = httpx.URL((self._template + path).replace(PLACE, subdomain))
        if not self.belongs(url, subdomain):
            raise OurFault("leads_away")
        return url

    def next_page(self, subdomain: str, given: object) -> httpx.URL | None:
        """The URL of a further page, if it is one of this account's; None for anything else."""
        if not isinstance(given, str) or len(given) > LONGEST_CHARACTERS:
            return None
        try:
            url = httpx.URL(given)
        except (httpx.InvalidURL, ValueError):  # half a character, for one
            return None
        return url if self.belongs(url, subdomain) else None

    def belongs(self, url: httpx.URL, subdomain: str) -> bool:
        """True if scheme, host, port and the beginning of the path are those of the account."""
        return (
            url.scheme == self._scheme
            and url.raw_host.decode("ascii") == self._host.replace(PLACE, subdomain)
            and (url.port or DEFAULT_PORTS[self._scheme]) == self._port
            and not url.userinfo
            and url.raw_path.decode("ascii").startswith(self._path.replace(PLACE, subdomain))
            and ".." not in url.path
        )
