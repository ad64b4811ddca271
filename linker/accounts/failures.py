"""Errors of the network as a host may see them: of `httpx`'s kinds, made afresh, with nothing of what was sent.

What a transport raises holds the request in its frames and in its causes, and may quote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from traceback import extract_tb

import aiohttp
import httpx
from pydantic import SecretStr

from linker.errors import OurFault
from linker.http_client import trouble_name
from linker.network.connector import NoneFree

#: What `httpx-aiohttp` 0.2 calls a `ConnectTimeout`, or lets through as it is, by what it was. The first that fits.
_KINDS: tuple[tuple[type[BaseException], type[httpx.TransportError]], ...] = (
    (NoneFree, httpx.PoolTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ClientPayloadError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (OSError, httpx.ConnectError),
    (ValueError, httpx.LocalProtocolError),
)


def seen_from_outside(error: Exception, secrets: Sequence[SecretStr] | None = None) -> Exception:
    """The error to raise in place of one that a transport raised.

    Its message stays if it holds none of these secrets; where they are not known it is its name alone.
    """
    if isinstance(error, (httpx.TransportError, aiohttp.ClientError, OSError, ValueError)):
        cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
        kind = next((ours for theirs, ours in _KINDS if isinstance(cause, theirs)), None)
        if kind is None:
            kind = type(error) if isinstance(error, httpx.TransportError) else httpx.NetworkError
        said = str(error)
        if not said or secrets is None or any(secret.get_secret_value() in said for secret in secrets):
            said = trouble_name(error)
        return kind(said)
    place = extract_tb(error.__traceback__)[-1]
    where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
    return OurFault("asking_failed", error=type(error).__name__, place=where)
