"""Tokens at rest: AES-256-GCM, bound to their row.

A sealed token is `v1.<key id>.<base64url of nonce and ciphertext>`. The connection's id is authenticated with it, so
that a sealed token that was copied into another row does not open. Several keys, newest first: the newest seals, all
open. A key is 32 random bytes in base64url (`linker keys new` makes one).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Collection, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from linker.errors import BadSettings, KeyMissing, SealBroken

VERSION = "v1"
KEY_BYTES = 32
#: The length that NIST SP 800-38D recommends for GCM.
NONCE_BYTES = 12


def new_key() -> SecretStr:
    """A fresh key, as text for `LINKER_SECRET_KEYS`."""
    return SecretStr(base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode())


def fingerprint(token: SecretStr) -> str:
    """Eight hexadecimal digits that name a token to people: enough to tell two apart, useless for guessing one."""
    return hashlib.sha256(token.get_secret_value().encode()).hexdigest()[:8]


class TokenCipher:
    """Seals and opens tokens with the keys that it was given."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        """Take the keys, newest first.

        Raises:
            BadSettings: there is none, or one is not 32 bytes in base64url.
        """
        if not keys:
            raise BadSettings("secret_keys", "keys_not_set")
        self._boxes = dict(_box(key) for key in keys)
        self.newest = next(iter(self._boxes))

    def __repr__(self) -> str:
        """Key ids only."""
        return f"TokenCipher(key_ids={list(self._boxes)})"

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys that can be opened with."""
        return frozenset(self._boxes)

    def missing(self, stored: Collection[str]) -> list[str]:
        """Those of the ids of keys that are not among ours."""
        return sorted(set(stored) - self.key_ids)

    def seal(self, token: SecretStr, *, bound_to: str) -> str:
        """Seal a token for the row with this id, with the newest key."""
        nonce = os.urandom(NONCE_BYTES)
        ciphertext = self._boxes[self.newest].encrypt(nonce, token.get_secret_value().encode(), _bond(bound_to))
        return f"{VERSION}.{self.newest}.{base64.urlsafe_b64encode(nonce + ciphertext).decode()}"

    def open(self, sealed: str, *, bound_to: str) -> SecretStr:
        """Open a token that was sealed for the row with this id.

        Raises:
            KeyMissing: its key is not among ours.
            SealBroken: it was changed, or it was sealed for another row.
        """
        version, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        if version != VERSION or key_id not in self._boxes:
            raise KeyMissing("not_set", connection=bound_to, key=key_id or "?")
        try:
            raw = _exactly(body)
            opened = self._boxes[key_id].decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bond(bound_to))
        except (InvalidTag, binascii.Error, ValueError):
            opened = None
        if opened is None:
            raise SealBroken("changed", connection=bound_to)
        return SecretStr(opened.decode())


def key_id_of(sealed: str) -> str:
    """The id of the key that a token was sealed with."""
    return sealed.split(".", 2)[1]


def _exactly(body: str) -> bytes:
    """The bytes of base64url, of which there is only one spelling: Python's decoder skips what it does not know."""
    raw = base64.urlsafe_b64decode(body)
    if base64.urlsafe_b64encode(raw).decode() != body:
        raise ValueError("not the way in which we write base64url")
    return raw


def _bond(connection_id: str) -> bytes:
    return f"workable-linker {VERSION} {connection_id}".encode()


def _box(key: SecretStr) -> tuple[str, AESGCM]:
    try:
        raw = base64.b64decode(key.get_secret_value().encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise BadSettings("secret_keys", "not_a_key")
    return hashlib.sha256(raw).hexdigest()[:8], AESGCM(raw)
