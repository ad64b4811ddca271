"""What an address is, whatever it is written like, and how far it is away."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

#: How names of machines end that only a private network knows.
PRIVATE_NAMES = (".internal", ".local", ".localhost")


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, as the system's resolver reads it; None for a name.

    That takes an IPv4 address as one number, with parts left out, in octal and in hexadecimal; an address of IPv6 that
    stands for one of IPv4 is that one.
    """
    written = host.removesuffix(".")
    with suppress(ValueError):
        found = ip_address(written)
        if isinstance(found, IPv6Address):
            return found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else found)
        return found
    with suppress(OSError):
        if re.fullmatch(r"[0-9a-fx.]+", written, re.ASCII | re.IGNORECASE):
            return ip_address(socket.inet_aton(written))
    return None


def is_on_this_machine(host: str) -> bool:
    """True for loopback addresses, `localhost` and the names under it: what is sent there leaves no machine."""
    address, name = address_of(host), host.removesuffix(".").lower()
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def is_private(host: str) -> bool:
    """True for where no stranger listens: addresses of private networks, and names that only those know.

    A name without a dot is one of them, but for two letters: those are countries, of which a few have an address.
    """
    address, name = address_of(host), host.removesuffix(".").lower()
    is_alone = "." not in name and not (len(name) == 2 and name.isalpha())
    return address.is_private if address else is_alone or name.endswith(PRIVATE_NAMES)
